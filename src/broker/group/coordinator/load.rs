//! Rebuilds the groups of one partition of `__consumer_offsets` from its log.
//!
//! Reads a bounded piece at a time; what grows is the groups' own state. A record that makes no sense is
//! skipped and told once. Offsets of a transaction count when its commit marker is met.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use tracing::{debug, error, info, warn};

use crate::broker::group::classic::{Event, Group, Limits, Now};
use crate::broker::group::coordinator::{Cell, OFFSETS_TOPIC, Shared};
use crate::broker::group::offsets::Offsets;
use crate::broker::group::record::{CommittedOffset, GroupMetadata, Key, Malformed};
use crate::broker::partition::Isolation;
use crate::common::ids::{LeaderEpoch, Offset, ProducerId, TopicPartition};
use crate::common::tasks::blocking;
use crate::kafka::batch::{Batch, batches};
use crate::kafka::record::{Record, records};

/// How much of the log is in memory at a time.
const READ_BYTES: u64 = 1024 * 1024;
/// How large a compressed batch may become.
const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The pause before a log that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A group as its records tell.
#[derive(Debug, Default)]
struct Loaded {
    metadata: Option<GroupMetadata>,
    offsets: Offsets,
}

/// What the records so far add up to.
#[derive(Debug, Default)]
pub(super) struct Replay {
    groups: BTreeMap<Arc<str>, Loaded>,
    /// Offsets of transactions that have not ended.
    open: BTreeMap<ProducerId, Vec<OpenCommit>>,
    skipped: u64,
}

type OpenCommit = (Arc<str>, TopicPartition, Option<CommittedOffset>, Offset);

impl Replay {
    /// Takes in one batch.
    pub(super) fn batch(&mut self, batch: &Batch) {
        let header = batch.header();
        let read = batch
            .check()
            .map_err(|error| error.to_string())
            .and_then(|()| records(batch, INFLATED_BYTES_MAX).map_err(|error| error.to_string()));
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.skip(header.base_offset, &error),
        };
        for record in read {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.skip(header.base_offset, &error.to_string()),
            };
            if header.is_control() {
                self.marker(header.producer_id, &record);
            } else {
                let producer = Some(header.producer_id).filter(|_| header.is_transactional());
                if let Err(error) = self.record(producer, &record) {
                    self.skip(record.offset, &error.to_string());
                }
            }
        }
    }

    fn skip(&mut self, offset: Offset, error: &str) {
        self.skipped += 1;
        // One line tells that something is wrong; a million would hide it.
        if self.skipped <= 10 {
            warn!(%offset, error, "a record of {OFFSETS_TOPIC} is skipped");
        }
    }

    fn record(&mut self, producer: Option<ProducerId>, record: &Record) -> Result<(), Malformed> {
        let key = record.key.as_deref().ok_or(Malformed::Short(0))?;
        match Key::decode(key)? {
            Key::Offset(group, partition) => {
                let value = record
                    .value
                    .as_deref()
                    .map(CommittedOffset::decode)
                    .transpose()?;
                match producer {
                    Some(producer) => {
                        let open = self.open.entry(producer).or_default();
                        open.push((group, partition, value, record.offset));
                    }
                    None => self.offset(group, partition, value, record.offset),
                }
            }
            Key::Group(group) => {
                let value = record
                    .value
                    .as_deref()
                    .map(GroupMetadata::decode)
                    .transpose()?;
                self.groups.entry(group).or_default().metadata = value;
            }
            Key::Other(version) => return Err(Malformed::Version(version)),
        }
        Ok(())
    }

    fn offset(
        &mut self,
        group: Arc<str>,
        partition: TopicPartition,
        value: Option<CommittedOffset>,
        at: Offset,
    ) {
        let loaded = self.groups.entry(group).or_default();
        match value {
            Some(value) => loaded.offsets.put(partition, value, at),
            None => {
                loaded.offsets.remove(&partition);
            }
        }
    }

    /// The end of a transaction: key is version and kind, 0 for abort and 1 for commit.
    fn marker(&mut self, producer: ProducerId, record: &Record) {
        let open = self.open.remove(&producer).unwrap_or_default();
        if record
            .key
            .as_deref()
            .is_some_and(|key| key.get(2..4) == Some(&[0, 1]))
        {
            for (group, partition, value, at) in open {
                self.offset(group, partition, value, at);
            }
        }
    }

    /// The groups that are left.
    pub(super) fn finish(
        self,
        limits: Limits,
        now: Now,
        partition: i32,
        epoch: LeaderEpoch,
    ) -> BTreeMap<Arc<str>, Arc<Cell>> {
        let mut cells = BTreeMap::new();
        for (id, loaded) in self.groups {
            let group = match loaded.metadata {
                Some(metadata) => Group::load(limits, now, metadata),
                None if loaded.offsets.is_empty() => continue,
                None => Group::new(limits),
            };
            let cell = Cell::new(id.clone(), partition, epoch, group, loaded.offsets);
            cells.insert(id, Arc::new(cell));
        }
        cells
    }
}

/// Loads a partition, and tries again until it is loaded or this broker leads it no more.
pub(super) async fn run(shared: &Arc<Shared>, partition: i32, epoch: LeaderEpoch) {
    let stopped = shared.tasks.shutdown().clone();
    let started = shared.clock.monotonic_ms();
    while shared.awaits(partition, epoch) && !stopped.is_stopping() {
        let reader = shared.clone();
        match blocking(move || read(&reader, partition, epoch)).await {
            Ok(Some(replay)) => {
                let skipped = replay.skipped;
                let cells = replay.finish(shared.limits, shared.now(), partition, epoch);
                let (groups, ms) = (cells.len(), shared.clock.monotonic_ms() - started);
                if !shared.install(partition, epoch, cells) {
                    return;
                }
                // Fifty lines about nothing would hide the one that matters.
                if groups == 0 && skipped == 0 {
                    debug!(partition, %epoch, ms, "coordinates no groups yet");
                } else {
                    info!(partition, %epoch, groups, skipped, ms, "coordinates groups");
                }
                return;
            }
            Ok(None) => return,
            Err(failure) => {
                let reason = failure.reason;
                if failure.passes {
                    debug!(partition, %epoch, reason, "groups cannot be loaded yet, trying again");
                } else {
                    error!(partition, %epoch, reason, "groups cannot be loaded, trying again");
                }
                tokio::select! {
                    () = stopped.stopped() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }
}

/// Why a partition is not loaded.
struct Failure {
    reason: String,
    /// Does an election or a move that goes on end it? Then nobody has to do anything.
    passes: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure {
            reason,
            passes: false,
        }
    }
}

impl Failure {
    /// An error code, from the replica or its log.
    fn of(at: &str, error: ResponseError) -> Failure {
        use ResponseError as E;
        Failure {
            reason: format!("{at}{error:?}"),
            passes: matches!(
                error,
                E::NotLeaderOrFollower
                    | E::UnknownTopicOrPartition
                    | E::ReplicaNotAvailable
                    | E::LeaderNotAvailable
            ),
        }
    }
}

/// Reads the whole log. None if it is not wanted any more. Blocks.
fn read(shared: &Shared, partition: i32, epoch: LeaderEpoch) -> Result<Option<Replay>, Failure> {
    let log = shared
        .replicas
        .leader(OFFSETS_TOPIC, partition)
        .map_err(|error| Failure::of("", error))?;
    let mut replay = Replay::default();
    let mut offset = log.log_start_offset();
    let end = log.log_end_offset();
    while offset < end {
        if !shared.awaits(partition, epoch) {
            return Ok(None);
        }
        let found = log
            .read(offset, READ_BYTES, Isolation::LogEnd, true)
            .map_err(|error| Failure::of(&format!("at offset {offset}: "), error))?;
        let Some(region) = found.region else { break };
        let bytes = region
            .read()
            .map_err(|error| format!("at offset {offset}: {error}"))?;
        let before = offset;
        for batch in batches(bytes) {
            let batch = batch.map_err(|error| format!("behind offset {offset}: {error}"))?;
            offset = batch.header().next_offset().max(offset);
            replay.batch(&batch);
        }
        if offset == before {
            return Err(format!("at offset {offset}: no batch to read").into());
        }
    }
    Ok(Some(replay))
}

impl Shared {
    /// Is the partition still waiting to be loaded under this epoch?
    fn awaits(&self, partition: i32, epoch: LeaderEpoch) -> bool {
        let shards = self.shards();
        let shard = shards.get(&partition);
        shard.is_some_and(|shard| shard.epoch == epoch && shard.groups.is_none())
    }

    fn install(
        self: &Arc<Self>,
        partition: i32,
        epoch: LeaderEpoch,
        cells: BTreeMap<Arc<str>, Arc<Cell>>,
    ) -> bool {
        let loaded: Vec<_> = cells.values().cloned().collect();
        {
            let mut shards = self.shards_mut();
            match shards.get_mut(&partition) {
                Some(shard) if shard.epoch == epoch && shard.groups.is_none() => {
                    shard.groups = Some(cells);
                }
                _ => return false,
            }
        }
        for cell in loaded {
            // The first tick finds nothing due; it arms the timers.
            self.step(&cell, &mut cell.lock(), Event::Tick);
        }
        true
    }
}
