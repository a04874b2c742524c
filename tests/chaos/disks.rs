//! The faults of brokers' disks: full ones, torn tails, flipped bits, and files beside the records that are gone
//! or garbage. Judged as the others are (reliability: A1, D2).

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tripod::client::admin::OffsetSpec;
use tripod::client::zookeeper::Mode;
use tripod::common::rng::Rng;

use crate::namespace;
use crate::nodes::{Place, wait_until};
use crate::run::{ONE_AT_A_TIME, Run, Settings, from_a_seed};
use crate::workload::{PARTITIONS, TOPIC};

/// Many closed segments soon; nothing is known to be synced.
const SMALL_SEGMENTS: Settings = &[
    ("log.segment.bytes", "65536"),
    ("replica.high.watermark.checkpoint.interval.ms", "600000"),
];
/// The same, and what is synced is known to be.
const SYNCED_SEGMENTS: Settings = &[
    ("log.segment.bytes", "65536"),
    ("replica.high.watermark.checkpoint.interval.ms", "300"),
];

/// Whether this is the run in which disks can be mounted.
async fn inside(test: &'static str) -> bool {
    let trial = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"];
    namespace::inside(test, "--mount", &trial).await
}

/// Three nodes; that with index 1 has a disk of its own, of 64 MiB, for a directory below its data.
async fn with_a_small_disk(name: &'static str, below: &'static str) -> (Run, Ballast) {
    let mut places = [(); 3].map(|()| Place::local());
    places[1].disk = Some((below, 64));
    let run = Run::start(name, places, &[]).await;
    let ballast = Ballast(run.nodes.data(1).join(below).join("ballast"));
    (run, ballast)
}

/// What fills a disk.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(&self.0).expect("created");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn remove(&self) {
        fs::remove_file(&self.0).expect("removed");
    }
}

fn partition_dir(run: &Run, node: usize, partition: i32) -> PathBuf {
    let broker = run.nodes.data(node).join("broker");
    broker.join(format!("{TOPIC}-{partition}"))
}

/// The files of a directory whose names end so, in order.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    paths.sort();
    paths
}

/// Where the batches of a segment begin, and their sizes; one that is not whole is left out.
fn batches(segment: &Path) -> Vec<(usize, usize)> {
    let (bytes, mut at) = (fs::read(segment).expect("there"), 0);
    let mut found = Vec::new();
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let length = u32::from_be_bytes(length.try_into().expect("four"));
        let size = 12 + usize::try_from(length).expect("small");
        if length == 0 || bytes.len() < at + size {
            break;
        }
        found.push((at, size));
        at += size;
    }
    found
}

fn cut(file: &Path, len: usize) {
    let file = OpenOptions::new().write(true).open(file).expect("opened");
    file.set_len(len as u64).expect("cut");
}

fn below(rng: &Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("small")
}

/// Flips a bit somewhere in a batch of the segment that its checksum covers.
fn flip(rng: &Rng, segment: &Path) {
    let batches = batches(segment);
    let (begin, size) = batches[below(rng, batches.len())];
    // The base offset, the length and the leader epoch lie outside, as does the checksum itself.
    let at = begin + 21 + below(rng, size - 21);
    let mut bytes = fs::read(segment).expect("there");
    bytes[at] ^= 1 << rng.below(8);
    fs::write(segment, bytes).expect("written");
}

fn garbage(rng: &Rng, file: &Path) {
    let len = fs::metadata(file).expect("there").len().clamp(30, 4096);
    let mut bytes = vec![0; usize::try_from(len).expect("small")];
    rng.fill(&mut bytes);
    fs::write(file, bytes).expect("written");
}

/// A bit more of everything.
async fn some_more(run: &Run) {
    for partition in 0..PARTITIONS {
        run.workload.partition_goes_on(partition).await;
    }
}

/// A killed node starts, has a part in the load again, and is in sync everywhere.
async fn returns_and_catches_up(run: &mut Run, node: usize) {
    run.nodes.spawn(node);
    run.nodes.ready(node).await;
    some_more(run).await;
    run.workload.healed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_directory_refuses_and_the_others_go_on() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if !inside("disks::a_full_log_directory_refuses_and_the_others_go_on").await {
        return;
    }
    let (mut run, ballast) = with_a_small_disk("a full log directory", "broker").await;
    for line in [
        "the log directory is offline",
        "append failed",
        "its log takes nothing for now",
    ] {
        run.expect(line);
    }
    run.workload.fault("node 1's log directory is full");
    ballast.fill();
    run.nodes.unready(1).await;
    some_more(&run).await;
    run.workload.fault("there is room again");
    ballast.remove();
    run.nodes.ready(1).await;
    run.workload.healed().await;
    // Killed while it is full.
    run.workload.fault("full again, and kill -9");
    ballast.fill();
    run.nodes.unready(1).await;
    run.nodes.kill(1);
    run.nodes.spawn(1);
    // Whether it can open what it has depends on where the last page ends; no other directory is left to it.
    let ended = run.nodes.unready_or_ended(1).await;
    some_more(&run).await;
    run.workload.fault("there is room again");
    ballast.remove();
    if ended {
        run.nodes.spawn(1);
    }
    run.nodes.ready(1).await;
    run.workload.healed().await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_whose_disk_is_full_ends_and_comes_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if !inside("disks::a_coordinator_whose_disk_is_full_ends_and_comes_back").await {
        return;
    }
    let (mut run, ballast) = with_a_small_disk("a full coordinator", "coordinator").await;
    run.expect("the raft log failed; this member stops");
    run.workload.fault("node 1's coordinator has no room");
    ballast.fill();
    // It takes what still fits; so many writes until something does not.
    let others = [run.nodes.zookeeper(0), run.nodes.zookeeper(2)];
    let zookeeper = run.workload.zookeeper(others.to_vec());
    let made = zookeeper.create("/large", None, Mode::Persistent).await;
    made.expect("made");
    wait_until("node 1 has no room", async || {
        let set = zookeeper.set("/large", vec![7; 500_000], -1).await;
        set.expect("the others have room");
        run.nodes.has_ended(1)
    })
    .await;
    run.nodes.ends(1).await;
    some_more(&run).await;
    run.workload.fault("a start without room");
    run.nodes.spawn(1);
    run.nodes.ends(1).await;
    run.workload.fault("there is room again");
    ballast.remove();
    run.returns(1).await;
    run.judge().await;
}

/// kill -9, cut, and at once back: also what was acknowledged is cut from this one's log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_and_what_is_missing_fetched_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, _) = from_a_seed();
    let mut run = Run::local("torn tails").await;
    for round in 0..6 {
        let node = round % 3;
        run.workload.fault(&format!("node {node}: a torn tail"));
        run.nodes.kill(node);
        for partition in 0..PARTITIONS {
            let segments = files(&partition_dir(&run, node, partition), ".log");
            let last = segments.last().expect("one");
            let (begin, size) = *batches(last).last().expect("one");
            // All of the batch, or all but a byte, or between.
            let left = [0, size - 1, below(&rng, size)][below(&rng, 3)];
            cut(last, begin + left);
        }
        returns_and_catches_up(&mut run, node).await;
    }
    run.judge().await;
}

/// In segments that are not known to be synced: recovery reads them, cuts there, and the rest is fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_cut_and_what_is_missing_fetched_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, _) = from_a_seed();
    let places = [(); 3].map(|()| Place::local());
    let mut run = Run::start("flipped bits", places, SMALL_SEGMENTS).await;
    run.expect("records that were in the log are gone");
    wait_until("there are closed segments", async || {
        let mut partitions = 0..PARTITIONS;
        partitions.all(|partition| files(&partition_dir(&run, 0, partition), ".log").len() > 2)
    })
    .await;
    for node in 0..3 {
        run.workload.fault(&format!("node {node}: a flipped bit"));
        run.nodes.kill(node);
        for partition in 0..PARTITIONS {
            let segments = files(&partition_dir(&run, node, partition), ".log");
            let full = segments.iter().filter(|path| !batches(path).is_empty());
            let full: Vec<&PathBuf> = full.collect();
            let which = [0, full.len() - 1, below(&rng, full.len())][partition as usize];
            flip(&rng, full[which]);
        }
        returns_and_catches_up(&mut run, node).await;
    }
    run.judge().await;
}

/// In a segment that was synced nobody looks before it is read: then it is an error, never other bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_synced_segment_is_an_error_to_readers() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, _) = from_a_seed();
    let places = [(); 3].map(|()| Place::local());
    let mut run = Run::start("a flipped bit, synced", places, SYNCED_SEGMENTS).await;
    let node = 0;
    let partition = run.workload.partition_of(node).await;
    let dir = partition_dir(&run, node, partition);
    let checkpoint = run
        .nodes
        .data(node)
        .join("broker/recovery-point-offset-checkpoint");
    wait_until("a segment is synced", async || {
        let text = fs::read_to_string(&checkpoint).unwrap_or_default();
        let of = format!("{TOPIC} {partition} ");
        let point = text.lines().find_map(|line| line.strip_prefix(&of));
        point.is_some_and(|point| point != "0")
    })
    .await;
    run.workload.fault(&format!("node {node}: a flipped bit"));
    run.nodes.kill(node);
    flip(&rng, &files(&dir, ".log")[0]);
    run.returns(node).await;
    run.workload.prefer(partition).await;
    let end = run.workload.offset(partition, OffsetSpec::Latest).await;
    let read = run.workload.read_up_to(partition, end).await;
    println!("a reader is told: {}", read.expect_err("it is damaged"));
    // As the text to an operator says: the files go, the other replicas have the records.
    run.workload
        .fault(&format!("node {node}: the replica is removed"));
    run.nodes.kill(node);
    fs::remove_dir_all(&dir).expect("removed");
    run.returns(node).await;
    run.workload.prefer(partition).await;
    run.judge().await;
}

/// What of a node's files a round damages.
struct Files {
    what: &'static str,
    below_broker: &'static [&'static str],
    below_partition: &'static [&'static str],
}

const FILES: [Files; 2] = [
    Files {
        what: "files beside the records",
        below_broker: &[],
        below_partition: &[
            ".index",
            ".timeindex",
            ".snapshot",
            "leader-epoch-checkpoint",
            "partition.metadata",
        ],
    },
    Files {
        what: "checkpoints",
        below_broker: &[
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint",
            "log-start-offset-checkpoint",
            "cleaner-offset-checkpoint",
        ],
        below_partition: &[],
    },
];

impl Files {
    fn of(&self, run: &Run, node: usize) -> Vec<PathBuf> {
        let broker = run.nodes.data(node).join("broker");
        let mut found: Vec<PathBuf> = Vec::new();
        for end in self.below_broker {
            found.extend(files(&broker, end));
        }
        for partition in 0..PARTITIONS {
            for end in self.below_partition {
                found.extend(files(&partition_dir(run, node, partition), end));
            }
        }
        assert!(!found.is_empty(), "{}", self.what);
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_beside_the_records_may_be_missing_or_garbage() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, _) = from_a_seed();
    let places = [(); 3].map(|()| Place::local());
    let mut run = Run::start("files that are gone", places, SYNCED_SEGMENTS).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rounds = FILES
        .iter()
        .flat_map(|files| [(files, true), (files, false)]);
    for (round, (damaged, missing)) in rounds.enumerate() {
        let node = round % 3;
        let partition = run.workload.partition_of(node).await;
        run.workload.prefer(partition).await;
        let answers = answers(&run, partition).await;
        let how = if missing { "missing" } else { "garbage" };
        let what = damaged.what;
        run.workload.fault(&format!("node {node}: {what} {how}"));
        run.nodes.kill(node);
        for file in damaged.of(&run, node) {
            match missing {
                true => fs::remove_file(&file).expect("removed"),
                false => garbage(&rng, &file),
            }
        }
        if round == 0 {
            let whose = run.nodes.data(node).join("broker/meta.properties");
            fs::remove_file(whose).expect("removed");
            // Without it a broker cannot tell that the entry in ZooKeeper is its own, and waits for the end of
            // that session; the others see that its process is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        run.returns(node).await;
        run.workload.prefer(partition).await;
        assert_eq!(
            answers_again(&run, partition, &answers).await,
            answers,
            "{what} {how}"
        );
    }
    run.judge().await;
}

/// The first offset of each of some times, of which the last has passed.
async fn answers(run: &Run, partition: i32) -> Vec<(i64, i64)> {
    let now = tripod::common::clock::Clock::real().wall_ms();
    let times = (1..20).map(|nth| (now - nth * 150, 0)).collect::<Vec<_>>();
    run.workload.goes_on().await;
    answers_again(run, partition, &times).await
}

async fn answers_again(run: &Run, partition: i32, times: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut answers = vec![(
        0,
        run.workload.offset(partition, OffsetSpec::Earliest).await,
    )];
    for (time, _) in times.iter().filter(|(time, _)| *time > 0) {
        let spec = OffsetSpec::Timestamp(*time);
        answers.push((*time, run.workload.offset(partition, spec).await));
    }
    answers
}
