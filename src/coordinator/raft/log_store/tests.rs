//! openraft's own suite over sled; kills and damage, and what is found afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use openraft::storage::RaftLogStorageExt;
use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::common::disk::Disk;
use crate::common::disk::real::RealDisk;
use crate::common::ids::MemberId;
use crate::common::rng::Rng;
use crate::coordinator::identity::Opened;
use crate::coordinator::raft::batch::Proposals;
use crate::coordinator::raft::state_machine::StateMachine;
use crate::coordinator::raft::types::{Batch, LeaderKey, Part};
use crate::coordinator::replica::Replica;
use crate::coordinator::snapshot_file::SnapshotDir;
use crate::coordinator::store::plain::PlainStore;
use crate::coordinator::store::sled::SledStore;

const ME: MemberId = MemberId(1);

fn identity(dir: &Path) -> Arc<IdentityFile> {
    let disk = Arc::new(RealDisk);
    let opened = IdentityFile::open(disk, dir, "test", ME, &[ME], &Rng::from_seed(7));
    Arc::new(match opened.expect("readable") {
        Opened::Existing(identity) => identity,
        Opened::Fresh(fresh) => fresh.create().expect("writable"),
    })
}

fn open(dir: &Path) -> Result<LogStore, LogError> {
    let store = SledStore::open(&RealDisk, &dir.join("raft"))?;
    LogStore::open(Arc::new(store), identity(dir), Clock::real())
}

/// Builds a log over one of the two stores.
struct Builder(fn(&Path) -> Arc<dyn Store>);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = self.0(&dir.path().join("raft"));
        let log = LogStore::open(store, identity(dir.path()), Clock::real()).expect("a new log");
        let proposals = Arc::new(Proposals::new(ME, 1));
        let files = dir.path().join("snapshots");
        let files = SnapshotDir::open(Arc::new(RealDisk), &files).expect("opens");
        let machine = StateMachine::open(Arc::new(Replica::new()), proposals, files);
        Ok((dir, log, machine.expect("nothing to restore")))
    }
}

#[test]
fn openrafts_suite_holds_over_sled() {
    let sled = |dir: &Path| -> Arc<dyn Store> {
        Arc::new(SledStore::open(&RealDisk, dir).expect("a new store"))
    };
    Suite::test_all(Builder(sled)).expect("every case");
}

#[test]
fn openrafts_suite_holds_over_the_plain_store() {
    let plain = |dir: &Path| -> Arc<dyn Store> {
        Arc::new(PlainStore::open(Arc::new(RealDisk), dir).expect("a new store"))
    };
    Suite::test_all(Builder(plain)).expect("every case");
}

/// An entry whose content follows from its index.
fn entry(index: u64) -> Entry {
    let bytes = 1 + usize::try_from(index * 7919 % 90_000).expect("small");
    let leader = LeaderKey::new(1, ME.0);
    let batch = Batch {
        leader,
        parts: vec![Part {
            member: ME,
            life: index,
            first: index,
            from_start: false,
            requests: vec![Bytes::from(vec![index.to_le_bytes()[0]; bytes])],
        }],
    };
    Entry {
        log_id: LogId::new(leader, index),
        payload: openraft::EntryPayload::Normal(batch),
    }
}

fn same(found: &Entry, index: u64) -> bool {
    let expected = entry(index);
    match (&found.payload, &expected.payload) {
        (openraft::EntryPayload::Normal(found), openraft::EntryPayload::Normal(expected)) => {
            found == expected
        }
        _ => false,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

const CHILD_DIR: &str = "TRIPOD_TEST_LOG_STORE_CHILD";
const KILLS: u64 = 20;

/// Not a test by itself: appends, votes, truncates and purges in `dir` until it is killed, and says
/// after each durable step how far it is.
fn child(dir: &Path) {
    let mut log = open(dir).expect("the parent has checked it");
    let mut out = std::io::stdout();
    runtime().block_on(async {
        let mut next = log.ends().0.map_or(0, |last| last.index + 1);
        for step in 0u64.. {
            if step % 9 == 4 && next > 3 {
                let cut = LogId::new(LeaderKey::new(1, ME.0), next - 2);
                let _ = writeln!(out, "cut {}", cut.index);
                let _ = out.flush();
                log.truncate(cut).await.expect("truncates");
                next = cut.index;
            }
            let count = 1 + step % 4;
            log.blocking_append((next..next + count).map(entry))
                .await
                .expect("appends");
            next += count;
            let _ = writeln!(out, "last {}", next - 1);
            if step % 5 == 0 {
                let term = log
                    .read_vote()
                    .await
                    .expect("read")
                    .map_or(0, |vote| vote.leader_id.term);
                log.save_vote(&Vote::new(term + 1, ME.0))
                    .await
                    .expect("saved");
                let _ = writeln!(out, "vote {}", term + 1);
            }
            if step % 37 == 36 && next > 60 {
                let upto = LogId::new(LeaderKey::new(1, ME.0), next - 50);
                log.purge(upto).await.expect("purges");
            }
            if step % 11 == 0 {
                log.note_durable().expect("noted");
            }
            let _ = out.flush();
        }
    });
}

#[test]
fn nothing_reported_durable_is_lost_by_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        child(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let rng = Rng::from_os();
    let (mut last, mut vote) = (None, 0);
    for round in 0..KILLS {
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "coordinator::raft::log_store::tests::nothing_reported_durable_is_lost_by_kill_9",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("piped"));
        let mut left = 3 + rng.below(60);
        for line in lines.lines().map_while(Result::ok) {
            // What libtest prints before the first line shares it.
            let words: Vec<&str> = line.split_whitespace().rev().collect();
            let number = words.first().and_then(|word| word.parse::<u64>().ok());
            match (words.get(1), number) {
                (Some(&"last"), Some(index)) => last = Some(index),
                (Some(&"cut"), Some(index)) => last = index.checked_sub(1),
                (Some(&"vote"), Some(term)) => vote = term,
                _ => continue,
            }
            // What was already in the pipe is read on; it was reported, too.
            left = left.saturating_sub(1);
            if left == 0 {
                process.kill().expect("it ran");
            }
        }
        process.wait().expect("it ended");
        let mut log = open(dir.path()).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let (end, purged) = log.ends();
        let end = end.map(|id| id.index);
        assert!(
            end >= last,
            "round {round}: ends at {end:?}, reported {last:?}"
        );
        let from = purged.map_or(0, |id| id.index + 1);
        let to = end.map_or(0, |end| end + 1);
        let entries = runtime()
            .block_on(log.try_get_log_entries(from..to))
            .expect("readable");
        assert_eq!(entries.len() as u64, to.saturating_sub(from), "contiguous");
        assert!(
            entries
                .iter()
                .zip(from..)
                .all(|(entry, index)| same(entry, index))
        );
        let found = runtime().block_on(log.read_vote()).expect("read");
        assert!(
            found.map_or(0, |vote| vote.leader_id.term) >= vote,
            "the vote went back"
        );
    }
    assert!(last > Some(50), "the child did nothing: {last:?}");
}

#[test]
fn damage_is_refused_or_harmless_and_never_a_shorter_log() {
    let good = tempfile::tempdir().expect("a directory");
    let count = 400;
    {
        let mut log = open(good.path()).expect("a new store");
        runtime().block_on(async {
            for index in 0..count {
                log.blocking_append([entry(index)]).await.expect("appends");
            }
            log.save_vote(&Vote::new(5, ME.0)).await.expect("saved");
        });
        log.note_durable().expect("noted");
    }
    let rng = Rng::from_os();
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..24 {
        let bad = tempfile::tempdir().expect("a directory");
        copy(good.path(), bad.path());
        let db = bad.path().join("raft/db");
        let mut bytes = RealDisk.read(&db, u64::MAX).expect("there");
        match round % 3 {
            0 => {
                let at = usize::try_from(rng.below(bytes.len() as u64)).expect("fits");
                bytes[at] ^= 1 << rng.below(8);
            }
            1 => {
                let block = usize::try_from(rng.below(bytes.len() as u64 / 4096)).expect("fits");
                bytes[block * 4096..][..4096].fill(0);
            }
            _ => bytes.truncate(usize::try_from(rng.below(bytes.len() as u64)).expect("fits")),
        }
        RealDisk.replace(&db, &bytes).expect("spoiled");
        match open(bad.path()) {
            Err(_) => refused += 1,
            Ok(mut log) => {
                // Damage may also show only when a page is read again.
                let Ok(entries) = runtime().block_on(log.try_get_log_entries(0..count)) else {
                    refused += 1;
                    continue;
                };
                harmless += 1;
                assert_eq!(entries.len() as u64, count, "round {round}: a shorter log");
                assert!(
                    entries
                        .iter()
                        .zip(0..)
                        .all(|(entry, index)| same(entry, index))
                );
                let vote = runtime()
                    .block_on(log.read_vote())
                    .expect("read")
                    .expect("voted");
                assert_eq!(vote, Vote::new(5, ME.0));
            }
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 0, "cutting the file is always noticed");
}

#[test]
fn a_damaged_sled_snapshot_file_is_done_without() {
    let dir = tempfile::tempdir().expect("a directory");
    {
        let mut log = open(dir.path()).expect("a new store");
        runtime()
            .block_on(log.blocking_append((0..50).map(entry)))
            .expect("appends");
    }
    drop(open(dir.path()).expect("sled writes its snapshot when it opens"));
    let mut spoiled = 0;
    for file in RealDisk.list(&dir.path().join("raft")).expect("listed") {
        if file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        {
            RealDisk.replace(&file, b"nonsense").expect("spoiled");
            spoiled += 1;
        }
    }
    assert!(spoiled > 0);
    let log = open(dir.path()).expect("without it");
    assert_eq!(log.ends().0.map(|id| id.index), Some(49));
}

fn copy(from: &Path, to: &Path) {
    RealDisk.create_dir_all(to).expect("made");
    for path in RealDisk.list(from).expect("listed") {
        let target = to.join(path.file_name().expect("a name"));
        if RealDisk.is_dir(&path) {
            copy(&path, &target);
        } else {
            let bytes = RealDisk.read(&path, u64::MAX).expect("there");
            RealDisk.replace(&target, &bytes).expect("copied");
        }
    }
}
