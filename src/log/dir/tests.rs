use super::*;
use crate::common::disk::sim::SimDisk;
use crate::common::ids::LeaderEpoch;
use crate::kafka::batch::Compression;
use crate::kafka::record::BatchBuilder;
use crate::log::Origin;

const NOW: i64 = 1_700_000_000_000;

pub(super) struct World {
    pub(super) disk: SimDisk,
    clock: Clock,
}

fn identity(broker_id: i32) -> Identity {
    Identity {
        broker_id: BrokerId(broker_id),
        cluster_id: "oLG0M4tcQ0u5Wn6KEHbvZg".into(),
    }
}

impl World {
    pub(super) fn new() -> World {
        let clock = Clock::manual(NOW);
        let disk = SimDisk::new(Rng::from_seed(1), clock.clone());
        disk.create_dir_all(Path::new("/")).expect("made");
        World { disk, clock }
    }

    /// A new one, and these directories open in it.
    pub(super) fn opened(dirs: &[&str]) -> (World, Dirs) {
        let world = World::new();
        let dirs = world.open(dirs);
        (world, dirs)
    }

    fn open_as(&self, dirs: &[&str], identity: Identity) -> Result<Dirs, DirError> {
        let dirs: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
        let options = |_: &str| options();
        let disk = Arc::new(self.disk.clone());
        let clock = self.clock.clone();
        Dirs::open(disk, &dirs, identity, &options, clock, &Loading::default())
    }

    pub(super) fn open(&self, dirs: &[&str]) -> Dirs {
        self.open_as(dirs, identity(2)).expect("opens")
    }

    fn text(&self, path: &str) -> String {
        let bytes = self.disk.read(Path::new(path), 1 << 20).expect("reads");
        String::from_utf8(bytes).expect("text")
    }
}

pub(super) fn options() -> Options {
    Options {
        segment_index_bytes: 4_096,
        ..Options::default()
    }
}

pub(super) fn put(log: &Log) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NOW, None, Some(b"value"), &[]);
    let bytes = builder.build().expect("small").bytes().clone();
    log.append_as_leader(bytes, LeaderEpoch(0), Origin::Client)
        .expect("appends");
}

pub(super) fn id(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

#[test]
fn logs_survive_clean_and_unclean_stops() {
    let (world, dirs) = World::opened(&["/a", "/b"]);
    let topic_id = uuid::Uuid::from_u128(7);
    for partition in 0..4 {
        let log = dirs
            .create(&id("t", partition), Some(topic_id), options())
            .expect("made");
        put(&log);
    }
    assert!(matches!(
        dirs.create(&id("t", 0), None, options()),
        Err(DirError::Exists(_))
    ));
    assert!(matches!(
        dirs.create(&id("../t", 0), None, options()),
        Err(DirError::TopicName(_))
    ));
    assert!(world.disk.is_dir(Path::new("/a/t-0")) && world.disk.is_dir(Path::new("/b/t-1")));
    dirs.close(&|_| Some(Offset(1))).expect("closes");
    drop(dirs);
    assert!(world.disk.exists(Path::new("/a/.kafka_cleanshutdown")));
    assert_eq!(
        world.text("/a/recovery-point-offset-checkpoint"),
        "0\n2\nt 0 1\nt 2 1\n"
    );
    assert_eq!(
        world.text("/b/log-start-offset-checkpoint"),
        "0\n2\nt 1 0\nt 3 0\n"
    );
    assert_eq!(world.text("/a/cleaner-offset-checkpoint"), "");
    assert_eq!(
        world.text("/a/t-0/partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABw"
    );
    for _ in 0..2 {
        let dirs = world.open(&["/a", "/b"]);
        assert!(!world.disk.exists(Path::new("/a/.kafka_cleanshutdown")));
        assert_eq!(dirs.logs().len(), 4);
        assert_eq!(dirs.high_watermark(&id("t", 3)), Some(Offset(1)));
        assert_eq!(dirs.topic_id(&id("t", 3)), Some(topic_id));
        let log = dirs.get(&id("t", 3)).expect("there");
        assert_eq!(log.log_end_offset(), Offset(1));
        drop(dirs);
        world.disk.kill();
    }
}

#[test]
fn anothers_directory_is_refused_and_nothing_is_written() {
    let world = World::new();
    world.open(&["/a"]).close(&|_| None).expect("closes");
    let listing = |dir: &str| world.disk.list(Path::new(dir)).unwrap_or_default();
    let before = listing("/a");
    let error = world
        .open_as(&["/new", "/a"], identity(1))
        .expect_err("foreign");
    let text = error.to_string();
    assert!(
        text.contains("broker 2") && text.contains("broker 1"),
        "{text}"
    );
    assert_eq!(listing("/a"), before);
    assert!(!world.disk.exists(Path::new("/new")));
    assert_eq!(
        Dirs::identity(
            &world.disk,
            &["/new".into(), "/a".into()],
            BrokerId(2),
            None
        )
        .expect("reads"),
        Some(identity(2))
    );
    let error =
        Dirs::identity(&world.disk, &["/a".into()], BrokerId(1), None).expect_err("another's");
    let cluster = identity(2).cluster_id;
    assert_eq!(
        error.to_string(),
        format!(
            "/a belongs to broker 2 of cluster {cluster:?}; this is broker 1: correct broker.id, \
             or use this broker's own directories; nothing was changed"
        )
    );
    let dirs = world.open(&["/a"]);
    let error = world.open_as(&["/a"], identity(2)).expect_err("locked");
    assert!(matches!(error, DirError::Locked { .. }), "{error}");
    drop(dirs);
}

#[test]
fn a_deleted_log_is_renamed_now_and_removed_later() {
    let (world, dirs) = World::opened(&["/a"]);
    let log = dirs.create(&id("t", 0), None, options()).expect("made");
    put(&log);
    let region = log
        .read(Offset(0), 100, Offset(1), true)
        .expect("reads")
        .expect("some");
    dirs.delete(&id("t", 0)).expect("deletes");
    assert!(dirs.get(&id("t", 0)).is_none());
    assert!(region.read().is_ok(), "a fetch under way ends well");
    let waiting: Vec<String> = {
        let names = world.disk.list(Path::new("/a")).expect("lists");
        names
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| name.ends_with("-delete"))
            .collect()
    };
    assert_eq!(waiting.len(), 1);
    assert!(waiting[0].starts_with("t-0.") && waiting[0].len() == "t-0.".len() + 32 + 7);
    let again = dirs
        .create(&id("t", 0), None, options())
        .expect("made again");
    assert_eq!(again.log_end_offset(), Offset(0));
    world.clock.advance_ms(60_000);
    dirs.maintain();
    assert!(!world.disk.exists(&Path::new("/a").join(&waiting[0])));
}

#[test]
fn many_logs_made_at_once_survive_a_power_cut() {
    let (world, dirs) = World::opened(&["/a", "/b"]);
    dirs.create(&id("t", 3), None, options()).expect("made");
    let topic_id = Some(uuid::Uuid::from_u128(7));
    let wanted = |partition| NewLog {
        id: id("t", partition),
        topic_id,
        options: options(),
    };
    let mut wanted: Vec<NewLog> = (0..20).map(wanted).collect();
    wanted.push(wanted[0].clone());
    let made = dirs.create_all(wanted);
    for (index, made) in made.iter().enumerate() {
        match (index, made) {
            (3 | 20, Err(DirError::Exists(_))) => {}
            (_, Ok(log)) => assert_eq!(log.id(), &id("t", index as i32)),
            (index, other) => panic!("{index}: {other:?}"),
        }
    }
    let logs = dirs.logs();
    let in_a = logs.iter().filter(|log| log.dir().starts_with("/a"));
    assert_eq!((in_a.count(), logs.len()), (10, 20), "evenly spread");
    drop((made, logs, dirs));
    world.disk.crash();
    let dirs = world.open(&["/a", "/b"]);
    for partition in (0..20).filter(|partition| *partition != 3) {
        let id = id("t", partition);
        assert!(
            dirs.get(&id).is_some() && dirs.topic_id(&id) == topic_id,
            "{id}"
        );
    }
}

#[test]
fn a_bad_directory_fails_alone_and_garbage_checkpoints_are_done_without() {
    let (world, dirs) = World::opened(&["/a", "/b"]);
    for partition in 0..2 {
        put(&dirs
            .create(&id("t", partition), None, options())
            .expect("made"));
    }
    dirs.close(&|_| Some(Offset(1))).expect("closes");
    drop(dirs);
    let file = Path::new("/a/t-0/00000000000000000000.log");
    world.disk.remove_file(file).expect("removed");
    world.disk.create_dir_all(file).expect("made");
    world
        .disk
        .open(&file.join("x"), Open::Create)
        .expect("a name below, so that it does not open as a file");
    for name in [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
    ] {
        let path = Path::new("/b").join(name);
        world.disk.replace(&path, &[0xff, 0, 7]).expect("put");
    }
    let dirs = world.open(&["/a", "/b"]);
    assert_eq!(dirs.failed().len(), 1);
    assert_eq!(dirs.unopened(), Some(PathBuf::from("/a")));
    assert!(dirs.get(&id("t", 0)).is_none());
    assert_eq!(
        dirs.get(&id("t", 1)).expect("there").log_end_offset(),
        Offset(1)
    );
    assert_eq!(dirs.high_watermark(&id("t", 1)), None);
    drop(dirs);
    world
        .disk
        .replace(Path::new("/b/meta.properties"), b"version=7\n")
        .expect("put");
    let error = world
        .open_as(&["/a", "/b"], identity(2))
        .expect_err("malformed");
    assert!(error.to_string().contains("meta.properties"), "{error}");
}

#[test]
fn only_partition_names_are_taken_for_partitions() {
    for (name, parsed) in [
        ("t-0", Some(id("t", 0))),
        ("a-b-12", Some(id("a-b", 12))),
        ("t-00", None),
        ("t-+1", None),
        ("t--1", Some(id("t-", 1))),
        ("t", None),
        ("-0", None),
        ("..-0", None),
        ("lost+found", None),
        ("t-0.0123-future", None),
    ] {
        assert_eq!(partition_of(name), parsed, "{name}");
    }
}

/// A log of several closed segments, of which the first is damaged and has lost its indexes.
fn damage(world: &World, path: &str) -> Vec<u8> {
    let file = Path::new(path).join("00000000000000000000.log");
    let whole = world.disk.read(&file, 1 << 20).expect("reads");
    let mut bad = whole.clone();
    bad[16] ^= 0xff;
    world.disk.replace(&file, &bad).expect("put");
    for suffix in ["index", "timeindex"] {
        let index = file.with_extension(suffix);
        world.disk.remove_file(&index).expect("removed");
    }
    whole
}

fn put_in_segments(log: &Log) {
    for _ in 0..3 {
        put(log);
        log.roll().expect("rolls");
    }
    put(log);
}

#[test]
fn a_damaged_closed_segment_takes_its_partition_alone() {
    for clean in [true, false] {
        let (world, dirs) = World::opened(&["/a"]);
        let topic_id = Some(uuid::Uuid::from_u128(7));
        for partition in 0..3 {
            let id = id("t", partition);
            let log = dirs.create(&id, topic_id, options()).expect("made");
            put_in_segments(&log);
            log.delete_records_before(Offset(1), Offset(4))
                .expect("deletes");
        }
        if clean {
            dirs.close(&|_| Some(Offset(4))).expect("closes");
        } else {
            dirs.maintain();
            dirs.checkpoint(&|_| Some(Offset(4))).expect("written");
        }
        drop(dirs);
        world.disk.kill();
        let checkpoint = |name| world.text(&format!("/a/{name}-offset-checkpoint"));
        let names = ["recovery-point", "log-start", "replication"];
        let before = names.map(checkpoint);
        let whole = damage(&world, "/a/t-1");
        let logged = crate::common::testing::logged(|| {
            let dirs = world.open(&["/a"]);
            assert_eq!(dirs.failed(), [], "the directory is fine");
            let error = dirs.find(&id("t", 1)).expect_err("set aside");
            let text = error.to_string();
            let file = "/a/t-1/00000000000000000000.log is damaged at position 0";
            assert!(text.contains(file), "{text}");
            let again = dirs.create(&id("t", 1), topic_id, options());
            assert!(matches!(again, Err(DirError::Offline { .. })), "{again:?}");
            for other in [0, 2] {
                let log = dirs.get(&id("t", other)).expect("there");
                assert_eq!(log.log_end_offset(), Offset(4));
            }
            assert_eq!(dirs.topic_id(&id("t", 1)), topic_id);
            dirs.checkpoint(&|_| Some(Offset(4))).expect("written");
            assert_eq!(names.map(checkpoint), before, "they stay as they were");
            dirs.close(&|_| Some(Offset(4))).expect("closes");
        });
        let errors: Vec<&str> = logged.lines().filter(|l| l.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{logged}");
        assert!(
            errors[0].contains("t-1") && errors[0].contains("position 0"),
            "{logged}"
        );
        let marker = Path::new("/a/.kafka_cleanshutdown");
        assert_eq!(
            world.disk.exists(marker),
            clean,
            "what was not recovered may not pass for clean"
        );
        let mended = Path::new("/a/t-1/00000000000000000000.log");
        world.disk.replace(mended, &whole).expect("put back");
        let dirs = world.open(&["/a"]);
        let log = dirs.get(&id("t", 1)).expect("opens again");
        assert_eq!(log.log_start_offset(), Offset(1));
        assert_eq!(log.log_end_offset(), Offset(4));
        assert_eq!(dirs.high_watermark(&id("t", 1)), Some(Offset(4)));
    }
}

#[test]
fn a_damaged_log_can_be_deleted() {
    let (world, dirs) = World::opened(&["/a"]);
    put_in_segments(&dirs.create(&id("t", 0), None, options()).expect("made"));
    dirs.close(&|_| None).expect("closes");
    drop(dirs);
    damage(&world, "/a/t-0");
    let dirs = world.open(&["/a"]);
    dirs.delete(&id("t", 0)).expect("deletes");
    let log = dirs.create(&id("t", 0), None, options()).expect("anew");
    assert_eq!(log.log_end_offset(), Offset(0));
    dirs.maintain();
    let left = world.disk.list(Path::new("/a")).expect("lists");
    let waiting = |path: &&PathBuf| path.to_string_lossy().ends_with(DELETE_SUFFIX);
    assert_eq!(left.iter().find(waiting), None);
}

/// A log is written until the disk is full; the directory says so, and recovers when there is room.
#[test]
fn a_full_directory_is_offline_until_it_has_room() {
    use crate::common::disk::sim::Faults;
    let (world, dirs) = World::opened(&["/a", "/b"]);
    let full = dirs.create(&id("t", 0), None, options()).expect("made");
    put(&full);
    let capacity = |capacity| {
        world.disk.set_faults(Faults {
            capacity,
            ..Faults::default()
        });
    };
    let append = || {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(NOW, None, Some(&[7; 10_000]), &[]);
        let bytes = builder.build().expect("small").bytes().clone();
        full.append_as_leader(bytes, LeaderEpoch(0), Origin::Client)
    };
    capacity(Some(0));
    let logged = crate::common::testing::logged(|| {
        for _ in 0..3 {
            assert!(append().is_err());
            dirs.maintain();
        }
        let failed = dirs.failed();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].0, PathBuf::from("/a"));
        let reason = &failed[0].1;
        assert!(reason.contains(".log: appending: "), "{reason}");
        assert_eq!(dirs.halted(), [id("t", 0)].into(), "others shall lead it");
        let other = dirs.create(&id("t", 1), None, options());
        assert!(
            other.is_err()
                || dirs
                    .get(&id("t", 1))
                    .is_some_and(|log| log.dir().starts_with("/b"))
        );
        capacity(None);
        dirs.maintain();
        assert_eq!(dirs.failed().len(), 1, "not so soon");
        world.clock.advance_ms(5_000);
        assert!(dirs.halted().is_empty(), "nothing is refused any more");
        dirs.maintain();
        assert_eq!(dirs.failed(), []);
        assert!(append().is_ok());
    });
    let errors = logged.lines().filter(|line| line.contains("ERROR"));
    assert_eq!(errors.count(), 1, "{logged}");

    world.disk.set_faults(Faults {
        fail_after: Some((0, crate::common::disk::sim::Operation::Sync)),
        ..Faults::default()
    });
    assert!(full.flush(full.log_end_offset()).is_err());
    dirs.maintain();
    dirs.maintain();
    assert_eq!(dirs.failed().len(), 1, "a failed sync stays");
    assert!(matches!(
        append(),
        Err(crate::log::AppendError::Storage(LogError::Closed { .. }))
    ));
}

#[test]
fn a_lack_of_descriptors_passes() {
    use crate::common::disk::sim::Faults;
    let (world, dirs) = World::opened(&["/a"]);
    let log = dirs.create(&id("t", 0), None, options()).expect("made");
    put(&log);
    let lack = |no_descriptors| {
        world.disk.set_faults(Faults {
            no_descriptors,
            ..Faults::default()
        });
    };
    lack(true);
    assert!(log.roll().is_err());
    let error = log.flush(Offset(1)).expect_err("no directory opens");
    assert!(error.is_out_of_descriptors(), "{error}");
    let error = dirs
        .create(&id("t", 1), None, options())
        .expect_err("nothing opens");
    assert!(error.may_pass() && dirs.may_take_logs(), "{error}");
    assert!(dirs.checkpoint(&|_| None).is_err());
    assert_eq!(dirs.failed().len(), 1);
    world.clock.advance_ms(5_000);
    dirs.maintain();
    assert_eq!(dirs.failed().len(), 1, "it has not passed");
    lack(false);
    world.clock.advance_ms(5_000);
    dirs.maintain();
    assert_eq!(dirs.failed(), []);
    put(&log);
    log.flush(Offset(2)).expect("syncs");
    assert_eq!(log.recovery_point(), Offset(2));
    dirs.create(&id("t", 1), None, options()).expect("made now");
}

#[test]
fn files_that_cannot_be_opened_take_their_partition_alone() {
    use crate::common::disk::real::RealDisk;
    let place = tempfile::tempdir().expect("a directory");
    let paths = [place.path().to_owned()];
    let open = || {
        let options = |_: &str| options();
        let clock = Clock::manual(NOW);
        let loading = Loading::default();
        Dirs::open(
            Arc::new(RealDisk),
            &paths,
            identity(2),
            &options,
            clock,
            &loading,
        )
    };
    let suffixes = ["log", "index", "timeindex"];
    let dirs = open().expect("opens");
    for partition in 0..4 {
        let id = id("t", partition);
        put(&dirs.create(&id, None, options()).expect("made"));
    }
    dirs.close(&|_| None).expect("closes");
    drop(dirs);
    for (partition, suffix) in suffixes.iter().enumerate() {
        let file = format!("t-{partition}/00000000000000000000.{suffix}");
        let file = place.path().join(file);
        std::fs::remove_file(&file).expect("there");
        std::fs::create_dir(&file).expect("made");
    }
    let dirs = open().expect("opens");
    assert_eq!(dirs.failed(), []);
    for partition in 0..3 {
        let error = dirs.find(&id("t", partition)).expect_err("offline");
        assert!(error.to_string().contains("0000."), "{error}");
    }
    let whole = dirs.get(&id("t", 3)).expect("there");
    assert_eq!(whole.log_end_offset(), Offset(1));

    // Nothing is written to find out that a directory is in use, or that a file is in its way.
    let error = Dirs::usable(&RealDisk, &paths).expect_err("in use");
    assert!(matches!(error, DirError::Locked { .. }), "{error}");
    let blocked = [place.path().join("meta.properties/logs")];
    let error = Dirs::usable(&RealDisk, &blocked).expect_err("a file");
    assert!(
        error.to_string().contains("meta.properties/logs: "),
        "{error}"
    );
    let missing = [blocked[0].clone(), place.path().join("new/logs")];
    Dirs::usable(&RealDisk, &missing).expect("one is enough");
    assert!(!missing[1].exists());
    let denied = LogError::Io {
        path: PathBuf::from("/a/t-0/x"),
        action: "opening",
        source: io::ErrorKind::PermissionDenied.into(),
    };
    assert!(denied.is_of_one_path());
}

/// The end of a process: a clean stop, or a checkpoint and a kill.
fn end(world: &World, dirs: Dirs, clean: bool) {
    if clean {
        dirs.close(&|_| None).expect("closes");
    } else {
        dirs.checkpoint(&|_| None).expect("written");
    }
    drop(dirs);
    world.disk.kill();
}

/// What is told of `t-0` after `harm`, of four segments with a record in each.
fn told_after(
    clean: bool,
    harm: impl Fn(&SimDisk),
) -> (Option<crate::log::Lost>, Arc<Log>, String) {
    let (world, dirs) = World::opened(&["/a"]);
    put_in_segments(&dirs.create(&id("t", 0), None, options()).expect("made"));
    end(&world, dirs, clean);
    harm(&world.disk);
    let mut log = None;
    let logged = crate::common::testing::logged(|| log = world.open(&["/a"]).get(&id("t", 0)));
    let log = log.expect("it serves what is left");
    (log.lost(), log, logged)
}

#[test]
fn records_that_are_gone_are_told_as_an_error() {
    let file = |base: i64, suffix: &str| PathBuf::from(format!("/a/t-0/{base:020}.{suffix}"));
    let remove = |disk: &SimDisk, base, suffixes: &[&str]| {
        for suffix in suffixes {
            disk.remove_file(&file(base, suffix)).expect("removed");
        }
    };
    let (lost, log, logged) = told_after(false, |_| {});
    assert_eq!((lost, log.log_end_offset()), (None, Offset(4)));
    assert!(!logged.contains("ERROR"), "{logged}");

    // One bit of an unsynced segment, and two whole ones behind it.
    let (lost, log, logged) = told_after(false, |disk| {
        let mut bytes = disk.read(&file(1, "log"), 1 << 20).expect("reads");
        *bytes.last_mut().expect("some") ^= 1;
        disk.replace(&file(1, "log"), &bytes).expect("put");
    });
    let lost = lost.expect("told");
    assert_eq!((lost.offsets, log.log_end_offset()), (3, Offset(1)));
    assert!(lost.bytes.is_some_and(|bytes| bytes > 150), "{lost}");
    let errors: Vec<&str> = logged.lines().filter(|l| l.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{logged}");
    assert!(
        errors[0].contains("t-0") && errors[0].contains("3 offsets"),
        "{logged}"
    );

    let all = ["log", "index", "timeindex"];
    for (clean, suffixes) in [(true, &all[..1]), (false, &all[..1]), (true, &all)] {
        let (lost, log, logged) = told_after(clean, |disk| remove(disk, 0, suffixes));
        assert_eq!(
            lost.map(|lost| lost.offsets),
            Some(1),
            "{clean} {suffixes:?}"
        );
        assert_eq!(log.log_start_offset(), Offset(1));
        assert!(logged.contains("ERROR"), "{logged}");
    }
    for (clean, gone) in [(true, 1), (false, 3)] {
        let (lost, _, logged) = told_after(clean, |disk| {
            disk.replace(&file(1, "log"), &[]).expect("emptied");
        });
        assert_eq!(lost.map(|lost| lost.offsets), Some(gone), "{clean}");
        assert!(logged.contains("ERROR"), "{logged}");
    }
    let (lost, ..) = told_after(false, |disk| {
        // Given up by retention, and the process died between the renames.
        let to = file(0, "log.deleted");
        disk.rename(&file(0, "log"), &to).expect("renamed");
    });
    assert_eq!(lost, None);
}

#[test]
fn a_directory_that_was_removed_is_told() {
    for (clean, gone) in [(true, Some(4)), (false, None)] {
        let (world, dirs) = World::opened(&["/a"]);
        put_in_segments(&dirs.create(&id("t", 0), None, options()).expect("made"));
        dirs.create(&id("empty", 0), None, options()).expect("made");
        end(&world, dirs, clean);
        for name in ["/a/t-0", "/a/empty-0"] {
            world.disk.remove_dir_all(Path::new(name)).expect("removed");
        }
        let mut dirs = None;
        let logged = crate::common::testing::logged(|| dirs = Some(world.open(&["/a"])));
        let missing = dirs.expect("opens").missing();
        let told: Vec<i64> = missing.values().map(|lost| lost.offsets).collect();
        assert_eq!(told, Vec::from_iter(gone), "{missing:?}");
        assert_eq!(logged.contains("ERROR"), clean, "{logged}");
    }
}

#[test]
fn a_start_beyond_the_log_and_its_recovery_point_removes_nothing() {
    let start = |disk: &SimDisk, recovery: &str, start: &str| {
        for (name, line) in [("recovery-point", recovery), ("log-start", start)] {
            let path = format!("/a/{name}-offset-checkpoint");
            let text = format!("0\n1\nt 0 {line}\n");
            disk.replace(Path::new(&path), text.as_bytes())
                .expect("put");
        }
    };
    for clean in [true, false] {
        let (lost, log, logged) = told_after(clean, |disk| start(disk, "4", "999999999"));
        assert_eq!(
            (lost, log.ignored_start()),
            (None, Some(Offset(999_999_999)))
        );
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (Offset(0), Offset(4))
        );
        assert!(
            log.read(Offset(0), 99, Offset(4), true)
                .expect("reads")
                .is_some()
        );
        assert!(logged.contains("ERROR"), "{logged}");
    }
    // All was deleted, and a power cut took the tail: nothing deleted comes back.
    let (lost, log, _) = told_after(false, |disk| start(disk, "9", "9"));
    assert_eq!((lost, log.ignored_start()), (None, None));
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(9), Offset(9))
    );
}

#[test]
fn a_cut_is_in_the_checkpoints_before_anything_is_appended() {
    let file = "/a/recovery-point-offset-checkpoint";
    let (world, dirs) = World::opened(&["/a"]);
    let log = dirs.create(&id("t", 0), None, options()).expect("made");
    for _ in 0..5 {
        put(&log);
    }
    log.flush(Offset(5)).expect("synced");
    dirs.checkpoint(&|_| None).expect("written");
    assert_eq!(world.text(file), "0\n1\nt 0 5\n");
    // Told before, and no sync raises it again.
    log.announce_cut(Offset(3)).expect("open");
    dirs.keep_cuts(std::slice::from_ref(&log)).expect("kept");
    assert_eq!(world.text(file), "0\n1\nt 0 3\n");
    log.truncate_to(Offset(3)).expect("cut");
    log.truncate_to(Offset(2)).expect("cut");
    dirs.keep_cuts(std::slice::from_ref(&log)).expect("kept");
    assert_eq!(world.text(file), "0\n1\nt 0 2\n");
    // It is on the disk, and nothing is missed.
    world.disk.crash();
    let mut lost = None;
    drop(dirs);
    let logged = crate::common::testing::logged(|| {
        lost = Some(world.open(&["/a"]).get(&id("t", 0)).expect("there").lost());
    });
    assert_eq!(lost, Some(None));
    assert!(!logged.contains("ERROR"), "{logged}");

    // A log of the same name as one that was deleted.
    let dirs = world.open(&["/a"]);
    let log = dirs.get(&id("t", 0)).expect("there");
    log.delete_records_before(Offset(2), Offset(2))
        .expect("deleted");
    dirs.checkpoint(&|_| None).expect("written");
    dirs.delete(&id("t", 0)).expect("deleted");
    put(&dirs.create(&id("t", 0), None, options()).expect("made"));
    drop((log, dirs));
    world.disk.kill();
    let log = world.open(&["/a"]).get(&id("t", 0)).expect("there");
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(0), Offset(1))
    );
    assert_eq!(log.lost(), None);
}

#[test]
fn a_directory_that_failed_for_good_takes_its_logs_offline_and_no_other() {
    let (world, dirs) = World::opened(&["/a", "/b"]);
    for partition in 0..4 {
        let log = dirs.create(&id("t", partition), None, options());
        put(&log.expect("made"));
    }
    let future = dirs.make_future(&id("t", 0), Path::new("/b"), options());
    future.expect("made");
    assert_eq!(
        (dirs.has_lost_logs(), dirs.set_aside_failed()),
        (false, vec![])
    );
    let error = std::io::Error::other("broken");
    dirs.fail(Path::new("/b"), super::Failure::of(&error));
    assert!(dirs.has_lost_logs());
    assert_eq!(dirs.set_aside_failed(), [id("t", 1), id("t", 3)]);
    assert!(!dirs.has_lost_logs());
    let refused = dirs.find(&id("t", 1)).map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused, "t-1 is offline: broken");
    put(&dirs.get(&id("t", 0)).expect("in /a"));
    assert!(dirs.future(&id("t", 0)).is_none(), "it was to go to /b");
    assert!(dirs.may_take_logs());
    dirs.fail(Path::new("/a"), super::Failure::of(&error));
    assert!(!dirs.may_take_logs());
    drop(dirs);
    world.disk.kill();
    assert_eq!(
        world.open(&["/a", "/b"]).logs().len(),
        4,
        "the next start tries again"
    );
}
