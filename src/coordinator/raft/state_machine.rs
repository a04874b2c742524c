//! openraft's state machine over the replica.
//!
//! The invariant: an entry is applied once, in order, and the requests that wait for it on this member are
//! resolved after the replica has it (and has queued the watch events), never before. Snapshots are the
//! persisted state; between them the log is. A failure stops the node.

use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageIOError,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};

use super::batch::Proposals;
use super::types::{
    Batch, Entry, LogId, StorageError, StoredMembership, TypeConfig, decode, encode,
};
use crate::common::disk::told;
use crate::common::ids::Zxid;
use crate::common::tasks;
use crate::coordinator::replica::Replica;
use crate::coordinator::snapshot_file::{SnapshotDir, SnapshotFileError, StoredSnapshot};
use crate::coordinator::status::LatencyMeter;
use crate::coordinator::tree::Tree;
use crate::coordinator::tree::op::Request;

type Meta = SnapshotMeta<u64, openraft::EmptyNode>;

/// Why the state could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot files could not be read.
    #[error("snapshots")]
    Files(#[from] SnapshotFileError),
    /// The newest whole snapshot is not one of ours.
    #[error("the snapshot up to entry {index} cannot be used: {reason}")]
    Unusable {
        /// Its last index.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The state machine. Clones share it.
#[derive(Clone, Debug)]
pub struct StateMachine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    replica: Arc<Replica>,
    proposals: Arc<Proposals>,
    snapshots: SnapshotDir,
    state: Mutex<State>,
    saving: LatencyMeter,
    applied: watch::Sender<Option<LogId>>,
}

#[derive(Debug, Default)]
struct State {
    membership: StoredMembership,
    /// The newest snapshot; its bytes are on disk only.
    snapshot: Option<Meta>,
    snapshot_bytes: u64,
    snapshot_zxid: Option<Zxid>,
    /// The last index of the snapshot before it.
    older: Option<u64>,
    failure: Option<String>,
}

impl StateMachine {
    /// Restores the newest whole snapshot into the replica. Blocks.
    pub fn open(
        replica: Arc<Replica>,
        proposals: Arc<Proposals>,
        snapshots: SnapshotDir,
    ) -> Result<StateMachine, RestoreError> {
        let mut state = State::default();
        let mut applied = None;
        if let Some(found) = snapshots.newest()? {
            let index = found.index;
            let unusable = |reason: String| RestoreError::Unusable { index, reason };
            let meta: Meta = decode(&found.meta)
                .ok_or_else(|| unusable("its description cannot be read".to_owned()))?;
            replica
                .install(&found.data)
                .map_err(|error| unusable(error.to_string()))?;
            applied = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            state.snapshot_bytes = found.data.len() as u64;
            state.snapshot_zxid = Tree::zxid_of(&found.data);
            state.snapshot = Some(meta);
            state.older = snapshots.older()?;
        }
        if let Some(applied) = applied {
            proposals.jumped(applied.leader_id);
        }
        Ok(StateMachine(Arc::new(Shared {
            replica,
            proposals,
            snapshots,
            state: Mutex::new(state),
            saving: LatencyMeter::default(),
            applied: watch::Sender::new(applied),
        })))
    }

    /// The last applied entry, as it moves.
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.0.applied.subscribe()
    }

    /// Who counts, by what is committed and applied.
    pub fn membership(&self) -> StoredMembership {
        self.lock().membership.clone()
    }

    /// The last entry that the newest snapshot covers.
    pub fn snapshot_index(&self) -> Option<u64> {
        let state = self.lock();
        let meta = state.snapshot.as_ref()?;
        meta.last_log_id.map(|id| id.index)
    }

    /// The last entry that the older of the two kept snapshots covers: the log up to it is not needed.
    pub fn older_snapshot_index(&self) -> Option<u64> {
        self.lock().older
    }

    /// The size of the newest snapshot.
    pub fn snapshot_bytes(&self) -> u64 {
        self.lock().snapshot_bytes
    }

    /// How long writing snapshots took.
    pub fn saving(&self) -> &LatencyMeter {
        &self.0.saving
    }

    /// The last transaction that the newest snapshot covers.
    pub fn snapshot_zxid(&self) -> Option<Zxid> {
        self.lock().snapshot_zxid
    }

    /// The first failure's text, once there was one.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, text: String) -> AnyError {
        error!(error = %text, "the state machine failed; this member stops");
        let mut state = self.lock();
        state.failure.get_or_insert_with(|| text.clone());
        AnyError::error(text)
    }

    #[allow(clippy::result_large_err, reason = "the size of openraft's own error")]
    fn apply_batch(&self, log_id: LogId, batch: &Batch) -> Result<(), StorageError> {
        let mut requests: Vec<Request> = Vec::new();
        for bytes in batch.parts.iter().flat_map(|part| &part.requests) {
            if bytes.is_empty() {
                continue;
            }
            let Some(request) = decode(bytes) else {
                let text = format!("entry {} holds a request that cannot be read", log_id.index);
                return Err(StorageIOError::apply(log_id, self.failed(text)).into());
            };
            requests.push(request);
        }
        let outcomes = if requests.is_empty() {
            Vec::new()
        } else {
            self.0.replica.apply(log_id.leader_id.term, &requests)
        };
        let mut outcomes = outcomes.into_iter();
        for part in &batch.parts {
            self.0.proposals.resolve(part, &mut outcomes);
        }
        Ok(())
    }

    /// Writes a snapshot file and remembers it.
    async fn keep(&self, meta: Meta, data: Bytes) -> Result<(), StorageError> {
        let (bytes, zxid) = (data.len() as u64, Tree::zxid_of(&data));
        let stored = StoredSnapshot {
            index: meta.last_log_id.map_or(0, |id| id.index),
            meta: encode(&meta).into(),
            data,
        };
        let snapshots = self.0.snapshots.clone();
        let begun = Instant::now();
        let saved = tasks::blocking(move || snapshots.save(&stored)).await;
        let took_ms = begun.elapsed().as_millis();
        (self.0.saving).note(i64::try_from(took_ms).unwrap_or(i64::MAX));
        let older = match saved {
            Ok(older) => older,
            Err(error) => {
                let source = self.failed(told(&error));
                return Err(StorageIOError::write_snapshot(Some(meta.signature()), source).into());
            }
        };
        let mut state = self.lock();
        state.snapshot_bytes = bytes;
        state.snapshot_zxid = zxid;
        state.snapshot = Some(meta);
        state.older = older;
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = *self.0.applied.borrow();
        Ok((applied, self.lock().membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            let gathered_for = match &entry.payload {
                EntryPayload::Normal(batch) => Some(batch.leader),
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            };
            let counts = self.0.proposals.entry(log_id.leader_id, gathered_for);
            match entry.payload {
                EntryPayload::Normal(batch) if counts => self.apply_batch(log_id, &batch)?,
                EntryPayload::Normal(_) | EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.lock().membership = StoredMembership::new(Some(log_id), membership);
                }
            }
            self.0.applied.send_replace(Some(log_id));
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // The state is captured here, in step with apply; only writing it happens beside it.
        let applied = *self.0.applied.borrow();
        let meta = Meta {
            last_log_id: applied,
            last_membership: self.lock().membership.clone(),
            snapshot_id: applied.map_or_else(|| "empty".to_owned(), |id| id.to_string()),
        };
        Builder {
            machine: self.clone(),
            meta,
            data: self.0.replica.snapshot().into(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = Bytes::from(snapshot.into_inner());
        if let Err(error) = self.0.replica.install(&data) {
            let source = self.failed(format!(
                "a snapshot from the leader cannot be used: {error}"
            ));
            return Err(StorageIOError::read_snapshot(Some(meta.signature()), source).into());
        }
        self.keep(meta.clone(), data).await?;
        self.lock().membership = meta.last_membership.clone();
        self.0.applied.send_replace(meta.last_log_id);
        if let Some(last) = meta.last_log_id {
            info!(index = last.index, "took over the leader's snapshot");
            self.0.proposals.jumped(last.leader_id);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        if self.lock().snapshot.is_none() {
            return Ok(None);
        }
        let snapshots = self.0.snapshots.clone();
        let read = tasks::blocking(move || snapshots.newest()).await;
        let read = read.map_err(|error| told(&error)).and_then(|found| {
            let found = found.ok_or("no snapshot is whole")?;
            let meta = decode(&found.meta).ok_or("its description cannot be read")?;
            Ok((meta, found.data))
        });
        match read {
            Ok((meta, data)) => Ok(Some(Snapshot {
                meta,
                snapshot: Box::new(Cursor::new(data.into())),
            })),
            Err(reason) => {
                let source = self.failed(format!("the newest snapshot cannot be used: {reason}"));
                Err(StorageIOError::read_snapshot(None, source).into())
            }
        }
    }
}

/// A captured state on its way to a file.
#[derive(Debug)]
pub struct Builder {
    machine: StateMachine,
    meta: Meta,
    data: Bytes,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let data = std::mem::take(&mut self.data);
        self.machine.keep(self.meta.clone(), data.clone()).await?;
        info!(snapshot = %self.meta.snapshot_id, bytes = data.len(), "snapshot written");
        Ok(Snapshot {
            meta: self.meta.clone(),
            // Written and let go of: not a copy.
            snapshot: Box::new(Cursor::new(data.into())),
        })
    }
}
