//! openraft's log and vote over [`Store`].
//!
//! The invariant: an append, a vote, a truncation or a purge is reported done only when it is on stable
//! storage. The end of the log is cached, because replication and apply read what was just written.
//! Opening verifies all of it: checksums, contiguity, and that the log has not fallen behind what the
//! identity file remembers. Every failure is final; openraft stops the node on the first one.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogId, RaftLogReader, StorageIOError};
use tokio::sync::Notify;
use tracing::error;

use super::types::{Entry, LogId, StorageError, TypeConfig, Vote, decode, encode};
use crate::common::clock::Clock;
use crate::common::disk::told;
use crate::common::metrics::Histogram;
use crate::common::tasks;
use crate::coordinator::identity::{IdentityError, IdentityFile, StoredReach, StoredVote};
use crate::coordinator::store::{Change, Store, StoreError, Table};

const KEY_PURGED: u64 = 2;
const KEY_COMMITTED: u64 = 3;

/// Cached entries at the end of the log, in encoded bytes.
const CACHE_BYTES_MAX: usize = 2 << 20;
/// What one read returns at most, after its first entry.
const READ_BYTES_MAX: usize = 1 << 20;
/// How far the commit index moves before it is stored again.
const COMMITTED_STEP: u64 = 128;
/// Growth is told each time so many bytes were appended.
const GROWN_BYTES: u64 = 1 << 20;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store failed.
    #[error("raft log")]
    Store(#[from] StoreError),
    /// The identity file failed.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// A hole or an entry under a wrong index.
    #[error("the raft log is damaged: entry {index} is missing or not what was written")]
    Hole {
        /// Where.
        index: u64,
    },
    /// Flushed entries are gone.
    #[error(
        "the raft log has lost entries: it ends at {}, but entries up to {durable} were on disk; this \
         member must not vote with it. Restore the data directory, or empty it and let the member join anew",
        found.map_or("nothing".to_owned(), |index| index.to_string())
    )]
    Behind {
        /// Where the log ends.
        found: Option<u64>,
        /// Where it has to end at least.
        durable: u64,
    },
}

/// The log. Clones share it.
#[derive(Clone, Debug)]
pub struct LogStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    identity: Arc<IdentityFile>,
    clock: Clock,
    sync_us: Histogram,
    /// How long a write takes these days, until it is durable; slow ones are forgotten slowly.
    slow_us: AtomicU64,
    /// Is something on its way to the disk?
    writing: AtomicBool,
    grown: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    committed: Option<LogId>,
    committed_stored: Option<LogId>,
    cache: BTreeMap<u64, (Entry, usize)>,
    cache_bytes: usize,
    appended_bytes: u64,
    failure: Option<String>,
}

impl LogStore {
    /// Reads and verifies the log. Blocks.
    pub fn open(
        store: Arc<dyn Store>,
        identity: Arc<IdentityFile>,
        clock: Clock,
    ) -> Result<LogStore, LogError> {
        let state = load(&*store, &identity)?;
        Ok(LogStore(Arc::new(Shared {
            store,
            identity,
            clock,
            sync_us: Histogram::default(),
            slow_us: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            grown: Notify::new(),
            state: Mutex::new(state),
        })))
    }

    /// How long the syncs took.
    pub fn sync_us(&self) -> &Histogram {
        &self.0.sync_us
    }

    /// How long a write has to be expected to take, until it is durable.
    pub fn slow_write(&self) -> Duration {
        Duration::from_micros(self.0.slow_us.load(Ordering::Relaxed))
    }

    /// Does the core wait for the disk? It has one thing written at a time.
    pub fn is_writing(&self) -> bool {
        self.0.writing.load(Ordering::SeqCst)
    }

    /// The last entry, and the last that was purged.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.lock();
        (state.last, state.purged)
    }

    /// Has this member ever voted or held an entry?
    pub fn is_fresh(&self) -> bool {
        let state = self.lock();
        state.last.is_none() && state.vote.is_none_or(|vote| vote == Vote::default())
    }

    /// Bytes on disk. May be slow.
    pub fn size_bytes(&self) -> u64 {
        self.0.store.size_bytes()
    }

    /// Bytes appended since the process started, and those found in the log then.
    pub fn appended_bytes(&self) -> u64 {
        self.lock().appended_bytes
    }

    /// Resolves when the log has grown by a good deal.
    pub async fn grown(&self) {
        self.0.grown.notified().await;
    }

    /// The first failure's text, once there was one.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Tells the identity file how far the log is durable. Blocks.
    pub fn note_durable(&self) -> Result<(), IdentityError> {
        let last = self.lock().last;
        // Everything in `last` was synced before it was put there.
        self.0.identity.set_durable_index(last.map(|id| id.index))
    }

    /// As [`LogStore::note_durable`], and how far others were seen to reach. Blocks.
    pub fn note(&self, reaches: BTreeMap<u64, StoredReach>) -> Result<(), IdentityError> {
        let last = self.lock().last;
        self.0.identity.note(last.map(|id| id.index), reaches)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs blocking work; a failure is noted, logged once and passed on.
    async fn durably(
        &self,
        work: impl FnOnce(&Shared) -> Result<(), LogError> + Send + 'static,
    ) -> Result<(), io::Error> {
        let shared = self.0.clone();
        self.0.writing.store(true, Ordering::SeqCst);
        let before = self.0.clock.monotonic_us();
        let result = tasks::blocking(move || work(&shared)).await;
        let took = self.0.clock.monotonic_us().saturating_sub(before);
        let slow = self.0.slow_us.load(Ordering::Relaxed);
        let slow = (slow - slow / 8).max(u64::try_from(took).unwrap_or(0));
        self.0.slow_us.store(slow, Ordering::Relaxed);
        self.0.writing.store(false, Ordering::SeqCst);
        result.map_err(|failure| {
            let text = told(&failure);
            let mut state = self.lock();
            if state.failure.is_none() {
                error!(error = %text, "the raft log failed; this member stops");
                state.failure = Some(text.clone());
            }
            io::Error::other(text)
        })
    }

    #[allow(clippy::result_large_err, reason = "the size of openraft's own error")]
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.cached(from, to, bytes_max) {
            return Ok(entries);
        }
        let log = self.clone();
        tasks::blocking(move || log.read_store(from, to, bytes_max)).await
    }

    /// Blocks.
    #[allow(clippy::result_large_err, reason = "the size of openraft's own error")]
    fn read_store(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let damaged = |index: u64, cause: &(dyn std::error::Error + 'static)| -> StorageError {
            StorageIOError::read_log_at_index(index, AnyError::error(told(cause))).into()
        };
        let found = self
            .0
            .store
            .scan(Table::Log, from..to, bytes_max)
            .map_err(|error| damaged(from, &error))?;
        // A damaged store may lose pages after it was opened: a gap or an early end is damage too.
        let (first, end) = {
            let state = self.lock();
            let after = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
            (from.max(after(state.purged)), to.min(after(state.last)))
        };
        let mut entries = Vec::with_capacity(found.len());
        let mut bytes = 0;
        let first = found.first().map_or(first, |(index, _)| *index);
        for (next, (index, value)) in (first..).zip(found) {
            bytes += value.len();
            match decode::<Entry>(&value).filter(|entry| entry.log_id.index == next) {
                Some(entry) if index == next => entries.push(entry),
                _ => return Err(damaged(next, &LogError::Hole { index: next })),
            }
        }
        let next = first + entries.len() as u64;
        if next < end && bytes < bytes_max {
            return Err(damaged(next, &LogError::Hole { index: next }));
        }
        Ok(entries)
    }

    /// The range from memory, if all of it (or its first `bytes_max` bytes) is there.
    fn cached(&self, from: u64, to: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let state = self.lock();
        let end = to.min(state.last.map_or(0, |last| last.index + 1));
        if from >= end {
            return Some(Vec::new());
        }
        state.cache.get(&from)?;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (_, (entry, size)) in state.cache.range(from..end) {
            entries.push(entry.clone());
            bytes += size;
            if bytes >= bytes_max {
                break;
            }
        }
        Some(entries)
    }
}

impl State {
    fn cache(&mut self, entry: Entry, bytes: usize) {
        self.cache_bytes += bytes;
        self.appended_bytes += bytes as u64;
        self.last = Some(entry.log_id);
        if let Some((_, old)) = self.cache.insert(entry.log_id.index, (entry, bytes)) {
            self.cache_bytes -= old;
        }
        while self.cache_bytes > CACHE_BYTES_MAX && self.cache.len() > 1 {
            if let Some((_, (_, bytes))) = self.cache.pop_first() {
                self.cache_bytes -= bytes;
            }
        }
    }

    fn uncache(&mut self, gone: impl Fn(u64) -> bool) {
        self.cache.retain(|index, _| !gone(*index));
        self.cache_bytes = self.cache.values().map(|(_, bytes)| bytes).sum();
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let (from, to) = plain_range(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(from, to, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last.or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let stored = StoredVote {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            committed: vote.committed,
        };
        let saved = self.durably(move |shared| {
            // There alone: a damaged store must not forget it, and every sync delays an election.
            Ok(shared.identity.set_vote(stored)?)
        });
        saved
            .await
            .map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        self.lock().vote = Some(vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        // Written with a later append: it only saves time at the next start.
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut changes = Vec::with_capacity(entries.len() + 1);
        let mut sizes = Vec::with_capacity(entries.len());
        for entry in &entries {
            let value = Bytes::from(encode(entry));
            sizes.push(value.len());
            changes.push(Change::Put {
                table: Table::Log,
                key: entry.log_id.index,
                value,
            });
        }
        let committed = {
            let state = self.lock();
            let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
            let moved = index(state.committed).saturating_sub(index(state.committed_stored));
            // A second table in a write doubles what the store writes for it.
            Some(state.committed).filter(|_| moved >= COMMITTED_STEP)
        };
        if let Some(committed) = committed {
            changes.push(put_meta(KEY_COMMITTED, &committed));
        }
        let written = self
            .durably(move |shared| shared.write_synced(&changes))
            .await;
        if let Err(error) = written {
            callback.log_io_completed(Err(io::Error::other(error.to_string())));
            return Err(StorageIOError::write_logs(AnyError::new(&error)).into());
        }
        {
            let mut state = self.lock();
            if let Some(committed) = committed {
                state.committed_stored = committed;
            }
            let before = state.appended_bytes / GROWN_BYTES;
            for (entry, bytes) in entries.into_iter().zip(sizes) {
                state.cache(entry, bytes);
            }
            if state.appended_bytes / GROWN_BYTES > before {
                self.0.grown.notify_one();
            }
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let (last, purged) = self.ends();
        let end = last.map_or(since.index, |last| last.index + 1);
        let keep = since.index.checked_sub(1);
        let cut = self.durably(move |shared| {
            shared.identity.lower_durable_index(keep)?;
            shared.write_synced(&[Change::RemoveDown(Table::Log, since.index..end)])
        });
        cut.await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        let before = match keep {
            Some(keep) => self.read(keep, keep + 1, usize::MAX).await?.pop(),
            None => None,
        };
        let mut state = self.lock();
        state.uncache(|index| index >= since.index);
        state.last = before.map(|entry| *entry.get_log_id()).or(purged);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let purge = self.durably(move |shared| {
            // The mark is durable before anything is removed; what a crash leaves below it is dropped
            // at the next start.
            shared.write_synced(&[put_meta(KEY_PURGED, &upto)])?;
            shared.write_synced(&[Change::RemoveUp(Table::Log, 0..upto.index + 1)])
        });
        purge
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        let mut state = self.lock();
        state.uncache(|index| index <= upto.index);
        state.purged = Some(upto);
        state.last = state.last.max(Some(upto));
        Ok(())
    }
}

impl Shared {
    fn write_synced(&self, changes: &[Change]) -> Result<(), LogError> {
        self.store.write(changes)?;
        let before = self.clock.monotonic_us();
        self.store.sync()?;
        let took = self.clock.monotonic_us().saturating_sub(before);
        self.sync_us.observe_us(u64::try_from(took).unwrap_or(0));
        Ok(())
    }
}

fn put_meta<T: serde::Serialize>(key: u64, value: &T) -> Change {
    Change::Put {
        table: Table::Meta,
        key,
        value: encode(value).into(),
    }
}

/// Reads everything once.
fn load(store: &dyn Store, identity: &IdentityFile) -> Result<State, LogError> {
    let noted = identity.get();
    let mut state = State {
        purged: meta(store, KEY_PURGED)?,
        committed: meta::<Option<LogId>>(store, KEY_COMMITTED)?.flatten(),
        ..State::default()
    };
    state.committed_stored = state.committed;
    if noted.vote != StoredVote::default() {
        let mut vote = Vote::new(noted.vote.term, noted.vote.node);
        vote.committed = noted.vote.committed;
        state.vote = Some(vote);
    }
    // A leader that restarts would go on in its old term, without memory of which forwarded requests it
    // had taken. It stands for election again instead.
    if let Some(vote) = state
        .vote
        .as_mut()
        .filter(|vote| vote.leader_id.node_id == noted.node())
    {
        vote.committed = false;
    }
    let mut next = state.purged.map_or(0, |purged| purged.index + 1);
    if next > 0 {
        store.write(&[Change::RemoveUp(Table::Log, 0..next)])?;
    }
    loop {
        let found = store.scan(Table::Log, next..u64::MAX, READ_BYTES_MAX)?;
        if found.is_empty() {
            break;
        }
        for (index, value) in found {
            let entry = decode::<Entry>(&value)
                .filter(|entry| index == next && entry.log_id.index == index)
                .filter(|entry| state.last.is_none_or(|last| last < entry.log_id))
                .ok_or(LogError::Hole { index: next })?;
            state.cache(entry, value.len());
            next = index + 1;
        }
    }
    state.last = state.last.or(state.purged);
    let found = state.last.map(|last| last.index);
    match noted.durable_index {
        Some(durable) if found < Some(durable) => Err(LogError::Behind { found, durable }),
        _ => {
            state.committed = state.committed.min(state.last);
            Ok(state)
        }
    }
}

fn meta<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    key: u64,
) -> Result<Option<T>, LogError> {
    match store.get(Table::Meta, key)? {
        None => Ok(None),
        Some(value) => decode(&value)
            .map(Some)
            .ok_or(LogError::Hole { index: key }),
    }
}

fn plain_range(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(from) => from.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(to) => to.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

#[cfg(test)]
mod tests;
