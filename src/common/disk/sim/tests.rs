use super::*;

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(Rng::from_seed(seed), Clock::manual(0));
    disk.create_dir_all(Path::new("/d")).expect("made");
    disk.sync_dir(Path::new("/d")).expect("synced");
    disk
}

fn write(disk: &SimDisk, bytes: &[u8], position: u64) -> Arc<dyn DiskFile> {
    let file = disk.open(Path::new("/d/f"), Open::Create).expect("opens");
    file.write_at(&[IoSlice::new(bytes)], position)
        .expect("writes");
    file
}

fn content(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.read(Path::new("/d/f"), 1 << 20).ok()
}

#[test]
fn it_reads_what_was_written_also_sparsely() {
    let disk = disk(1);
    let file = write(&disk, b"hello", 10_000);
    assert_eq!(file.len().expect("len"), 10_005);
    let mut bytes = [9; 8];
    assert_eq!(file.read_at(&mut bytes, 9_997).expect("reads"), 8);
    assert_eq!(&bytes, b"\0\0\0hello");
    file.truncate(10_002).expect("cuts");
    file.truncate(10_010).expect("extends");
    assert_eq!(file.read_at(&mut bytes, 10_000).expect("reads"), 8);
    assert_eq!(&bytes, b"he\0\0\0\0\0\0");
    let moved = Path::new("/e");
    disk.rename(Path::new("/d"), moved).expect("renames");
    assert_eq!(disk.list(moved).expect("lists"), [Path::new("/e/f")]);
    assert!(!disk.exists(Path::new("/d/f")));
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let run = || {
            let disk = disk(seed);
            let file = write(&disk, &[1; 1_000], 0);
            file.sync().expect("synced");
            disk.sync_dir(Path::new("/d")).expect("synced");
            file.write_at(&[IoSlice::new(&[2; 2_000])], 1_000)
                .expect("writes");
            disk.crash();
            assert!(file.len().is_err(), "handles of the old life are void");
            content(&disk).expect("its name was synced")
        };
        let bytes = run();
        assert_eq!(bytes, run(), "seed {seed} replays");
        assert!(bytes[..1_000].iter().all(|byte| *byte == 1));
        assert!(bytes[1_000..].iter().all(|byte| *byte == 2 || *byte == 0));
        outcomes.insert(bytes);
    }
    assert!(outcomes.len() > 10, "lost, whole and torn in many ways");
}

#[test]
fn names_need_the_directory_synced() {
    let mut seen = [false; 2];
    for seed in 0..50 {
        let disk = disk(seed);
        write(&disk, b"x", 0).sync().expect("synced");
        disk.crash();
        seen[usize::from(content(&disk).is_some())] = true;
        let disk = self::disk(seed);
        disk.replace(Path::new("/d/f"), b"old").expect("replaced");
        disk.replace(Path::new("/d/f"), b"new").expect("replaced");
        disk.crash();
        assert_eq!(content(&disk).as_deref(), Some(&b"new"[..]));
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn faults_come_when_asked_for() {
    let disk = disk(3);
    let file = write(&disk, &[1; 5_000], 0);
    disk.set_faults(Faults {
        capacity: Some(8_192),
        ..Faults::default()
    });
    assert_eq!(disk.free_bytes(Path::new("/d")).expect("known"), 0);
    let full = file.write_at(&[IoSlice::new(&[2; 9_000])], 5_000);
    assert_eq!(full.expect_err("full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().expect("len"), 8_192, "a part was written");
    for (operation, run) in [
        (
            Operation::Read,
            (|f| f.read_at(&mut [0], 0).map(drop)) as fn(&dyn DiskFile) -> _,
        ),
        (Operation::Write, |f| {
            f.write_at(&[IoSlice::new(&[1; 100])], 0)
        }),
        (Operation::Sync, |f| f.sync()),
    ] {
        disk.set_faults(Faults {
            fail_after: Some((2, operation)),
            ..Faults::default()
        });
        let results: Vec<bool> = (0..5).map(|_| run(&*file).is_ok()).collect();
        assert_eq!(results, [true, true, false, true, true], "{operation:?}");
    }
    let clock = disk.world().clock.clone();
    disk.set_faults(Faults {
        sync_ms: 100,
        ..Faults::default()
    });
    file.sync().expect("slow");
    assert_eq!(clock.monotonic_ms(), 100);
}

#[test]
fn a_lock_is_exclusive_until_it_is_dropped_or_its_process_dies() {
    let disk = disk(4);
    let path = Path::new("/d/.lock");
    let held = disk.lock(path).expect("free");
    let taken = disk.lock(path).expect_err("held");
    assert_eq!(taken.kind(), io::ErrorKind::WouldBlock);
    drop(held);
    let _held = disk.lock(path).expect("free again");
    disk.kill();
    disk.lock(path).expect("its holder died");
}
