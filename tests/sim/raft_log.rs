//! The raft log over the plain store, under appends, votes, truncations, purges and faults.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, RaftLogReader};
use tripod::common::clock::Clock;
use tripod::common::disk::Disk;
use tripod::common::disk::sim::{Faults, Operation, SimDisk};
use tripod::common::ids::MemberId;
use tripod::common::rng::Rng;
use tripod::coordinator::identity::{IdentityFile, Opened};
use tripod::coordinator::raft::log_store::LogStore;
use tripod::coordinator::raft::types::{Batch, Entry, LeaderKey, LogId, Part, Vote};
use tripod::coordinator::store::plain::PlainStore;

use crate::invariants::{acknowledged_entries_stay, vote_never_goes_back};
use crate::seeds::Trace;

const NOW: i64 = 1_700_000_000_000;
const ME: MemberId = MemberId(1);
const LIVES: u64 = 6;
const STEPS_MAX: u64 = 30;

struct World<'a> {
    rng: Rng,
    clock: Clock,
    disk: SimDisk,
    trace: &'a mut Trace,
    /// Entries that were reported durable: index and content.
    certain: BTreeMap<u64, u64>,
    /// Entries whose fate nobody was told: of a failed append, or of a failed truncation.
    possible: Vec<(u64, u64)>,
    /// The last purge that was reported done, and one that may have been.
    purged: Option<u64>,
    purging: Option<u64>,
    vote_saved: u64,
    vote_tried: u64,
    /// The term of the next entries.
    term: u64,
    serial: u64,
    /// A sync may have failed in this life; see the partition log for what that means.
    sync_fails: bool,
}

/// One history.
pub fn run(seed: u64, trace: &mut Trace) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let rng = Rng::from_seed(seed);
    let clock = Clock::manual(NOW);
    let mut world = World {
        disk: SimDisk::new(rng.fork("disk"), clock.clone()),
        rng,
        clock,
        trace,
        certain: BTreeMap::new(),
        possible: Vec::new(),
        purged: None,
        purging: None,
        vote_saved: 0,
        vote_tried: 0,
        term: 1,
        serial: 0,
        sync_fails: false,
    };
    runtime.block_on(async {
        for life in 0..LIVES {
            let mut log = world.begin().await;
            for _ in 0..world.rng.below(STEPS_MAX) {
                if !world.step(&mut log).await {
                    break;
                }
            }
            drop(log);
            let power = world.rng.below(3) > 0 || world.sync_fails;
            world
                .trace
                .note(format_args!("life {life} ends, power cut: {power}"));
            if power {
                world.disk.crash();
            } else {
                world.disk.kill();
            }
        }
        world.begin().await;
    });
}

impl World<'_> {
    fn identity(&self, dir: &Path) -> IdentityFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        disk.create_dir_all(dir).expect("made");
        let rng = Rng::from_seed(7);
        match IdentityFile::open(disk, dir, "sim", ME, &[ME], &rng).expect("readable") {
            Opened::Existing(identity) => identity,
            Opened::Fresh(fresh) => {
                assert!(
                    !self.disk.exists(&dir.join("raft/plain")),
                    "a store without its identity"
                );
                fresh.create().expect("written")
            }
        }
    }

    /// Opens the log as a node does and judges what is in it.
    async fn begin(&mut self) -> LogStore {
        self.disk.set_faults(Faults::default());
        self.sync_fails = false;
        let dir = Path::new("/n");
        let identity = Arc::new(self.identity(dir));
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let store = PlainStore::open(disk.clone(), &dir.join("raft")).expect("opens");
        disk.sync_dir(dir).expect("synced");
        let opened = LogStore::open(Arc::new(store), identity, self.clock.clone());
        let mut log = opened.expect("whatever a crash leaves is a log");
        let state = log.get_log_state().await.expect("known");
        let purged = state.last_purged_log_id.map(|id| id.index);
        assert!(
            purged == self.purged || purged == self.purging,
            "{purged:?}"
        );
        let entries = log.try_get_log_entries(..).await.expect("readable");
        let found: BTreeMap<u64, u64> = entries
            .iter()
            .map(|entry| (entry.log_id.index, content(entry)))
            .collect();
        self.trace
            .note(format_args!("found {found:?} behind {purged:?}"));
        acknowledged_entries_stay::check(&found, &self.certain, &self.possible, purged);
        let vote = log.read_vote().await.expect("readable");
        let term = vote.map_or(0, |vote| vote.leader_id.term);
        vote_never_goes_back::check(term, self.vote_saved, self.vote_tried);
        // From here on what was found is what there is.
        self.certain = found;
        self.possible.clear();
        (self.purged, self.purging) = (purged, purged);
        (self.vote_saved, self.vote_tried) = (term, term);
        let last = entries
            .last()
            .map_or(0, |entry| entry.log_id.leader_id.term);
        self.term = self.term.max(last);
        log
    }

    /// Does one thing; `false` when the store has failed, which is final.
    async fn step(&mut self, log: &mut LogStore) -> bool {
        match self.rng.below(16) {
            0 | 1 => self.vote(log).await,
            2 => self.truncate(log).await,
            3 => self.purge(log).await,
            4 => {
                let noted = log.note_durable().is_ok();
                self.trace.note(format_args!("note: {noted}"));
                true
            }
            5 => {
                self.fault();
                true
            }
            _ => self.append(log).await,
        }
    }

    fn fault(&mut self) {
        let left = self.rng.below(4);
        let faults = match self.rng.below(3) {
            0 => Faults {
                capacity: Some(self.rng.below(60_000)),
                ..Faults::default()
            },
            1 => {
                self.sync_fails = true;
                Faults {
                    fail_after: Some((left, Operation::Sync)),
                    ..Faults::default()
                }
            }
            _ => Faults {
                fail_after: Some((left, Operation::Write)),
                ..Faults::default()
            },
        };
        self.trace.note(format_args!("{faults:?}"));
        self.disk.set_faults(faults);
    }

    fn next_index(&self) -> u64 {
        let after = |index: &u64| index + 1;
        let last = self.certain.last_key_value().map(|(index, _)| index);
        last.or(self.purged.as_ref()).map_or(0, after)
    }

    async fn append(&mut self, log: &mut LogStore) -> bool {
        let first = self.next_index();
        let entries: Vec<Entry> = (0..=self.rng.below(4))
            .map(|at| {
                self.serial += 1;
                let bytes = self.rng.below(2_000) as usize;
                entry(self.term, first + at, self.serial, bytes)
            })
            .collect();
        let pairs = entries
            .iter()
            .map(|entry| (entry.log_id.index, content(entry)));
        let pairs: Vec<(u64, u64)> = pairs.collect();
        let done = log.blocking_append(entries).await.is_ok();
        self.trace.note(format_args!("append {pairs:?}: {done}"));
        if done {
            self.certain.extend(pairs);
        } else {
            self.possible.extend(pairs);
        }
        done
    }

    async fn vote(&mut self, log: &mut LogStore) -> bool {
        self.vote_tried = self.vote_saved + 1 + self.rng.below(3);
        let done = log
            .save_vote(&Vote::new(self.vote_tried, ME.0))
            .await
            .is_ok();
        self.trace
            .note(format_args!("vote {}: {done}", self.vote_tried));
        if done {
            self.vote_saved = self.vote_tried;
        }
        done
    }

    /// Another leader's log goes on from some point of ours.
    async fn truncate(&mut self, log: &mut LogStore) -> bool {
        let count = self.certain.len() as u64;
        let Some(index) = self
            .certain
            .keys()
            .copied()
            .nth(self.rng.below(count) as usize)
        else {
            return true;
        };
        let done = log.truncate(log_id(self.term, index)).await.is_ok();
        self.trace.note(format_args!("truncate {index}: {done}"));
        let gone = self.certain.split_off(&index);
        if !done {
            self.possible.extend(gone);
        }
        self.term += 1;
        done
    }

    async fn purge(&mut self, log: &mut LogStore) -> bool {
        let count = self.certain.len() as u64;
        let index = self.rng.below(count) as usize;
        let Some(index) = self.certain.keys().copied().nth(index) else {
            return true;
        };
        let entry = log.try_get_log_entries(index..=index).await.expect("there");
        let upto = entry[0].log_id;
        self.purging = Some(index);
        let done = log.purge(upto).await.is_ok();
        self.trace.note(format_args!("purge {index}: {done}"));
        if done {
            self.purged = Some(index);
            self.certain.retain(|at, _| *at > index);
        }
        done
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderKey::new(term, ME.0), index)
}

fn entry(term: u64, index: u64, serial: u64, bytes: usize) -> Entry {
    let batch = Batch {
        leader: LeaderKey::new(term, ME.0),
        parts: vec![Part {
            member: ME,
            life: serial,
            first: index,
            from_start: false,
            requests: vec![Bytes::from(vec![serial.to_le_bytes()[0]; bytes])],
        }],
    };
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(batch),
    }
}

/// What tells one entry from another.
fn content(entry: &Entry) -> u64 {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.parts[0].life,
        _ => 0,
    }
}
