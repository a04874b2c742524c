//! What of the log directories cannot be used, and why: a whole directory, or one log of it.
//!
//! A directory fails with the disk below it; a log that is damaged is set aside alone. A directory that
//! was full, or that nothing could be opened in, is taken back when that has passed; everything else waits
//! for a restart, because after a failed write or sync nobody knows what the disk holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirError, Dirs, Entry, locked};
use crate::common::disk::Open;
use crate::common::ids::{Offset, TopicPartition};
use crate::log::checkpoint::META_PROPERTIES;
use crate::log::error::Failure;

/// A full directory is used again when this much is free,
const ROOM_BYTES: u64 = 16 << 20;
/// and nothing failed in it for so long: a quota is not seen in what is free.
const QUIET_MS: i64 = 5_000;

/// A directory that failed.
#[derive(Debug)]
pub(super) struct Failed {
    failure: Failure,
    /// When it failed last (monotonic).
    at_ms: i64,
}

/// A log that did not open: its bytes are wrong, not its disk.
#[derive(Clone, Debug)]
pub(super) struct Damaged {
    /// The partition's directory.
    pub path: PathBuf,
    /// The log directory that it lies in.
    pub dir: Arc<Path>,
    pub topic_id: Option<uuid::Uuid>,
    /// What the checkpoints said of it.
    pub recovery_point: Option<Offset>,
    pub log_start_offset: Option<Offset>,
    /// The stop before was clean, so that nothing behind the damage needs recovery.
    pub was_clean: bool,
    pub reason: String,
}

impl Damaged {
    pub(super) fn refusal(&self, id: &TopicPartition) -> DirError {
        DirError::Offline {
            id: id.clone(),
            reason: self.reason.clone(),
        }
    }
}

impl Dirs {
    /// Directories that are offline, and why.
    pub fn failed(&self) -> Vec<(PathBuf, String)> {
        let failed = locked(&self.failed);
        failed
            .iter()
            .map(|(path, failed)| (path.clone(), failed.failure.reason.clone()))
            .collect()
    }

    /// A directory that could not be opened. What lies in it is not known.
    pub fn unopened(&self) -> Option<PathBuf> {
        let opened = |path: &PathBuf| self.dirs.iter().any(|dir| *dir.path == **path);
        let failed = locked(&self.failed);
        failed.keys().find(|path| !opened(path)).cloned()
    }

    /// Notes that a directory failed. Told once, until it is used again.
    pub(super) fn fail(&self, path: &Path, failure: Failure) {
        let at_ms = self.clock.monotonic_ms();
        let mut failed = locked(&self.failed);
        match failed.get_mut(path) {
            None => {
                tracing::error!(dir = ?path, error = failure.reason, "the log directory is offline");
                failed.insert(path.to_owned(), Failed { failure, at_ms });
            }
            // What comes back mends what passes, and nothing else.
            Some(known) if known.failure.is_passing && !failure.is_passing => {
                tracing::error!(dir = ?path, error = failure.reason, "the log directory failed again");
                *known = Failed { failure, at_ms };
            }
            Some(known) => known.at_ms = at_ms,
        }
    }

    /// Logs that could not be written a moment ago, for lack of room or descriptors: others had better lead
    /// them.
    pub fn halted(&self) -> BTreeSet<TopicPartition> {
        let state = locked(&self.state);
        let halted = state.logs.iter().filter(|(_, entry)| entry.log.is_halted());
        halted.map(|(id, _)| id.clone()).collect()
    }

    /// Every directory has failed, and why.
    pub fn none_left(&self) -> DirError {
        let failed = self.failed();
        DirError::NoneLeft {
            reasons: failed.into_iter().map(|(_, reason)| reason).collect(),
        }
    }

    /// May a log be made somewhere, now or when what fails has passed?
    pub fn may_take_logs(&self) -> bool {
        let failed = locked(&self.failed);
        let mut dirs = self.dirs.iter();
        dirs.any(|dir| {
            let failed = failed.get(&*dir.path);
            failed.is_none_or(|failed| failed.failure.is_passing)
        })
    }

    /// Takes directories back that were full, or out of descriptors, and are not any more.
    pub(super) fn regain(&self) {
        let full: Vec<PathBuf> = {
            let until = self.clock.monotonic_ms().saturating_sub(QUIET_MS);
            let failed = locked(&self.failed);
            let full = failed
                .iter()
                .filter(|(_, failed)| failed.failure.is_passing && failed.at_ms <= until);
            full.map(|(path, _)| path.clone()).collect()
        };
        for path in full {
            let logs: Vec<Entry> = {
                let state = locked(&self.state);
                let here = state.logs.values().filter(|entry| *entry.dir == *path);
                here.cloned().collect()
            };
            let opened = self.dirs.iter().any(|dir| *dir.path == *path);
            let room = self.disk.free_bytes(&path).unwrap_or(0);
            let writable = opened && logs.iter().all(|entry| entry.log.takes_writes());
            let opens = self.disk.open(&path.join(META_PROPERTIES), Open::Read);
            if writable && room >= ROOM_BYTES && opens.is_ok() {
                tracing::info!(dir = ?path, free_bytes = room, "the log directory can be used again");
                locked(&self.failed).remove(&path);
            }
        }
    }

    /// Puts aside what lies in directories that failed for good; it is offline until the next start. Says
    /// which partitions those are.
    pub fn set_aside_failed(&self) -> Vec<TopicPartition> {
        let reasons = self.lost();
        if reasons.is_empty() {
            return Vec::new();
        }
        let mut state = locked(&self.state);
        let futures = &mut state.futures;
        futures.retain(|_, entry| !reasons.contains_key(&*entry.dir));
        let lost: Vec<(TopicPartition, Entry)> = state
            .logs
            .iter()
            .filter(|(_, entry)| reasons.contains_key(&*entry.dir))
            .map(|(id, entry)| (id.clone(), entry.clone()))
            .collect();
        for (id, entry) in &lost {
            entry.log.abandon();
            state.logs.remove(id);
            let damaged = Damaged {
                path: entry.log.dir().to_path_buf(),
                dir: entry.dir.clone(),
                topic_id: entry.topic_id,
                recovery_point: Some(entry.log.recovery_point()),
                log_start_offset: Some(entry.log.log_start_offset()),
                was_clean: false,
                reason: reasons[&*entry.dir].clone(),
            };
            state.damaged.insert(id.clone(), damaged);
        }
        if !lost.is_empty() {
            tracing::error!(
                partitions = lost.len(),
                "the partitions of a failed log directory are offline; the others are not"
            );
        }
        lost.into_iter().map(|(id, _)| id).collect()
    }

    /// Are there logs in use in directories that failed for good?
    pub fn has_lost_logs(&self) -> bool {
        let lost = self.lost();
        let state = locked(&self.state);
        let mut all = state.logs.values().chain(state.futures.values());
        !lost.is_empty() && all.any(|entry| lost.contains_key(&*entry.dir))
    }

    /// Directories that failed for good, and why.
    fn lost(&self) -> BTreeMap<PathBuf, String> {
        let failed = locked(&self.failed);
        let lost = failed.iter().filter(|(_, one)| !one.failure.is_passing);
        lost.map(|(path, one)| (path.clone(), one.failure.reason.clone()))
            .collect()
    }

    /// Puts a log aside that did not open.
    pub(super) fn set_aside(&self, id: TopicPartition, damaged: Damaged) {
        tracing::error!(
            partition = %id, error = damaged.reason,
            "the partition is offline, the others are not: make the file readable and writable, or put \
             its bytes back from a copy, or remove it and what follows it (their records are lost), \
             then restart"
        );
        locked(&self.state).damaged.insert(id, damaged);
    }

    /// May the next start trust every log below `dir`, those set aside included?
    pub(super) fn may_be_clean(&self, dir: &Path) -> bool {
        let state = locked(&self.state);
        let mut aside = state.damaged.values();
        aside.all(|damaged| *damaged.dir != *dir || damaged.was_clean)
    }
}
