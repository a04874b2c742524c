//! Which groups are this broker's, their timers, and the effects of their decisions.
//!
//! A group belongs to whoever leads its partition of `__consumer_offsets`. Each has one lock, held while it
//! decides *and* while its records are appended, so that the log has them in the order of the decisions; it
//! is never held across an await. Lock order: `shards`, then one group, then `timers`. One task serves every
//! timer. Requests come in through `coordinator/request.rs`, old records through `coordinator/load.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};
use uuid::Uuid;

use crate::broker::group::classic::{self, Answer, Effect, Event, Group, Limits, Now, Waiter};
use crate::broker::group::offsets::Offsets;
use crate::broker::group::record::{Key, TooLong};
use crate::broker::image::{Image, ImageCell};
use crate::broker::partition::{Appended, Origin, Partition};
use crate::broker::replicas::Replicas;
use crate::common::clock::Clock;
use crate::common::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::common::rng::Rng;
use crate::common::tasks::{Kind, Tasks};
use crate::config::BrokerConfig;
use crate::kafka::batch::Compression;
use crate::kafka::record::BatchBuilder;

mod load;
mod request;
#[cfg(test)]
mod tests;

pub use request::{Described, DescribedMember, Listed};

/// Where groups write themselves down.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The most groups that one broker coordinates.
pub const GROUPS_MAX: usize = 100_000;
/// The most members of one group, whatever `group.max.size` says; also of ids that were given out and not used.
pub const MEMBERS_MAX: usize = 10_000;
/// The most bytes of metadata and assignments in one group. A group has to fit into one record in any case.
pub const METADATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tombstones of one batch, in bytes.
const TOMBSTONES_BYTES: usize = 256 * 1024;

/// Settings of groups and offsets, under Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `group.min.session.timeout.ms`
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max_ms: i32,
    /// `group.max.size`
    pub size_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`
    pub offsets_commit_timeout_ms: i32,
    /// `offsets.topic.compression.codec`
    pub compression: Compression,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            size_max: i32::MAX,
            initial_rebalance_delay_ms: 3_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            compression: Compression::None,
        }
    }
}

impl From<&BrokerConfig> for Options {
    fn from(config: &BrokerConfig) -> Options {
        let codec = i16::try_from(config.offsets_topic_compression_codec).unwrap_or(0);
        Options {
            session_timeout_min_ms: config.group_min_session_timeout_ms,
            session_timeout_max_ms: config.group_max_session_timeout_ms,
            size_max: config.group_max_size,
            initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
            offset_metadata_bytes_max: config.offset_metadata_max_bytes,
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
            offsets_commit_timeout_ms: config.offsets_commit_timeout_ms,
            compression: Compression::from_id(codec).unwrap_or(Compression::None),
        }
    }
}

/// A group as metrics show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group's id.
    pub group_id: String,
    /// Its state, in Kafka's spelling.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
    /// Committed offsets, ordered by partition.
    pub offsets: Vec<(TopicPartition, i64)>,
}

/// The groups that this broker coordinates.
#[derive(Clone, Debug)]
pub struct Groups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Options,
    limits: Limits,
    clock: Clock,
    rng: Rng,
    tasks: Tasks,
    image: Arc<ImageCell>,
    replicas: Arc<Replicas>,
    shards: RwLock<BTreeMap<i32, Shard>>,
    timers: Mutex<BTreeSet<(i64, i32, Arc<str>)>>,
    /// The first timer is earlier than it was.
    earlier: Notify,
    waiters: AtomicU64,
}

/// One partition of `__consumer_offsets` that this broker leads.
#[derive(Debug)]
struct Shard {
    epoch: LeaderEpoch,
    /// None while its log is being read.
    groups: Option<BTreeMap<Arc<str>, Arc<Cell>>>,
}

/// One group with its lock.
#[derive(Debug)]
struct Cell {
    id: Arc<str>,
    partition: i32,
    epoch: LeaderEpoch,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    group: Group,
    offsets: Offsets,
    waiters: BTreeMap<Waiter, oneshot::Sender<Answer>>,
    /// The entry in `timers`; never later than the group's deadline.
    armed: Option<i64>,
}

impl Cell {
    fn new(
        id: Arc<str>,
        partition: i32,
        epoch: LeaderEpoch,
        group: Group,
        offsets: Offsets,
    ) -> Cell {
        Cell {
            id,
            partition,
            epoch,
            inner: Mutex::new(Inner {
                group,
                offsets,
                waiters: BTreeMap::new(),
                armed: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Java's `String.hashCode`: over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    text.encode_utf16().fold(0, step)
}

/// The partition of `__consumer_offsets` that a group belongs to, of so many. Kafka takes the absolute
/// value of the hash (and 0 for the one number that has none), not the hash without its sign bit.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    java_hash(group_id).checked_abs().unwrap_or(0) % partitions.max(1)
}

impl Groups {
    /// Coordinates nothing until partitions are [`Groups::elected`].
    pub fn new(
        options: Options,
        clock: Clock,
        rng: Rng,
        tasks: Tasks,
        image: Arc<ImageCell>,
        replicas: Arc<Replicas>,
    ) -> Groups {
        let size_max = usize::try_from(options.size_max).unwrap_or(1);
        Groups(Arc::new(Shared {
            limits: Limits {
                members_max: size_max.clamp(1, MEMBERS_MAX),
                initial_rebalance_delay_ms: i64::from(options.initial_rebalance_delay_ms.max(0)),
            },
            options,
            clock,
            rng,
            tasks,
            image,
            replicas,
            shards: RwLock::default(),
            timers: Mutex::default(),
            earlier: Notify::new(),
            waiters: AtomicU64::new(0),
        }))
    }

    /// Starts the one task that serves every timer. Call it once.
    pub fn start(&self) {
        let shared = self.0.clone();
        let tasks = self.0.tasks.clone();
        tasks.spawn("group timers", Kind::Essential, async move {
            shared.serve_timers().await;
        });
    }

    /// This broker leads that partition of `__consumer_offsets` from now on: its groups are loaded in
    /// the background. Returns at once. A new epoch means loading again, because another broker may have
    /// led in between; members of a stable group do not notice.
    pub fn elected(&self, partition: i32, leader_epoch: LeaderEpoch) {
        let known = self.0.shards().get(&partition).map(|shard| shard.epoch);
        if known == Some(leader_epoch) {
            return;
        }
        self.resigned(partition);
        let shard = Shard {
            epoch: leader_epoch,
            groups: None,
        };
        self.0.shards_mut().insert(partition, shard);
        let shared = self.0.clone();
        self.0
            .tasks
            .spawn("group load", Kind::Connection, async move {
                load::run(&shared, partition, leader_epoch).await;
            });
    }

    /// This broker leads that partition no more: its groups are forgotten, and who waits for them is
    /// told to look for their new coordinator.
    pub fn resigned(&self, partition: i32) {
        let Some(shard) = self.0.shards_mut().remove(&partition) else {
            return;
        };
        let groups = shard.groups.unwrap_or_default();
        if !groups.is_empty() {
            let groups = groups.len();
            info!(partition, groups, "resigned as group coordinator");
        }
        for cell in groups.values() {
            self.0.step(cell, &mut cell.lock(), Event::Unload);
        }
    }

    /// Every group here, for metrics.
    pub fn status(&self) -> Vec<GroupStatus> {
        let one = |cell: &Arc<Cell>| {
            let inner = cell.lock();
            let offsets = inner.offsets.iter();
            GroupStatus {
                group_id: cell.id.to_string(),
                state: inner.group.state().name(),
                members: inner.group.members().len(),
                offsets: offsets
                    .map(|(id, value)| (id.clone(), value.offset))
                    .collect(),
            }
        };
        self.0.cells().iter().map(one).collect()
    }

    /// How many partitions of `__consumer_offsets` are being loaded.
    pub fn loading(&self) -> usize {
        self.0
            .shards()
            .values()
            .filter(|shard| shard.groups.is_none())
            .count()
    }
}

/// A record and what it says: none deletes.
type Change = (Key, Option<Bytes>);

impl Shared {
    fn shards(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<i32, Shard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shards_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<i32, Shard>> {
        self.shards.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn timers(&self) -> MutexGuard<'_, BTreeSet<(i64, i32, Arc<str>)>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        let shards = self.shards();
        let groups = shards.values().filter_map(|shard| shard.groups.as_ref());
        groups.flat_map(|groups| groups.values().cloned()).collect()
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.clock.monotonic_ms(),
            wall_ms: self.clock.wall_ms(),
        }
    }

    /// Lets a group take one step and does what it says.
    fn step(self: &Arc<Self>, cell: &Arc<Cell>, inner: &mut Inner, event: Event) {
        // A heartbeat only moves a deadline away, and its timer finds that out when it fires.
        let rearm = !matches!(event, Event::Heartbeat(..));
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in inner.group.on(self.now(), event) {
                match effect {
                    Effect::Answer(waiter, answer) => {
                        if let Some(waiting) = inner.waiters.remove(&waiter) {
                            // The client may be gone; nobody minds.
                            let _ = waiting.send(answer);
                        }
                    }
                    Effect::Write(write, metadata) => {
                        let key = Key::Group(cell.id.clone());
                        let change = metadata.encode().map(|value| (key, Some(value)));
                        let done = self.write_group(cell, write, change);
                        events.extend(done.map(|result| Event::Written(write, result)));
                    }
                }
            }
        }
        if rearm {
            self.arm(cell, inner);
        }
    }

    /// Appends a group's record. Returns the outcome if it is known now; otherwise it comes as an event.
    fn write_group(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        write: classic::Write,
        change: Result<Change, TooLong>,
    ) -> Option<Result<(), ResponseError>> {
        let appended = change
            .map_err(|TooLong| ResponseError::UnknownServerError)
            .and_then(|change| self.append(cell, &[change]).map_err(group_error));
        let (partition, appended) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                warn!(group = ?cell.id, ?error, "the group's metadata cannot be written");
                return Some(Err(error));
            }
        };
        if partition.high_watermark() > appended.last_offset {
            return Some(Ok(()));
        }
        let (shared, cell, limit) = (self.clone(), cell.clone(), self.commit_timeout());
        self.tasks
            .spawn("group write", Kind::Connection, async move {
                let replicated = partition.replicated(appended.last_offset, limit).await;
                let event = Event::Written(write, replicated.map_err(group_error));
                shared.step(&cell, &mut cell.lock(), event);
            });
        None
    }

    fn commit_timeout(&self) -> Duration {
        let ms = u64::try_from(self.options.offsets_commit_timeout_ms).unwrap_or(0);
        Duration::from_millis(ms)
    }

    /// Appends records as one batch, under the epoch that the group was loaded in. Blocks for a write to
    /// the page cache; the caller holds the group's lock.
    fn append(
        &self,
        cell: &Cell,
        changes: &[Change],
    ) -> Result<(Arc<Partition>, Appended), ResponseError> {
        let partition = self.replicas.leader(OFFSETS_TOPIC, cell.partition)?;
        if !partition.enough_in_sync() {
            return Err(ResponseError::NotEnoughReplicas);
        }
        let now_ms = self.clock.wall_ms();
        let mut batch = BatchBuilder::new(self.options.compression);
        for (key, value) in changes {
            let key = key
                .encode()
                .map_err(|TooLong| ResponseError::InvalidRequest)?;
            batch.append(now_ms, Some(&key), value.as_deref(), &[]);
        }
        let batch = batch.build().map_err(|error| {
            warn!(group = ?cell.id, %error, "a batch cannot be built");
            ResponseError::UnknownServerError
        })?;
        let bytes = batch.bytes().clone();
        let appended = partition.append(bytes, Origin::Coordinator, Some(cell.epoch))?;
        Ok((partition, appended))
    }

    /// Runs `done` under the group's lock when the record at `offset` is on all in-sync replicas, or cannot
    /// be. It runs even if the request that waits for it is dropped.
    async fn replicated<T: Send + 'static>(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        partition: Arc<Partition>,
        offset: Offset,
        done: impl FnOnce(&mut Inner, Result<(), ResponseError>) -> T + Send + 'static,
    ) -> Result<T, ResponseError> {
        if partition.high_watermark() > offset {
            return Ok(done(&mut cell.lock(), Ok(())));
        }
        let (sender, receiver) = oneshot::channel();
        let (cell, limit) = (cell.clone(), self.commit_timeout());
        self.tasks
            .spawn("group commit", Kind::Connection, async move {
                let result = partition.replicated(offset, limit).await;
                let value = done(&mut cell.lock(), result);
                let _ = sender.send(value);
            });
        receiver
            .await
            .map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Removes committed offsets: tombstones first, then memory.
    async fn remove_offsets(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        gone: Vec<TopicPartition>,
    ) -> Result<(), ResponseError> {
        let per_batch = TOMBSTONES_BYTES / 256;
        for chunk in gone.chunks(per_batch) {
            let key = |id: &TopicPartition| (Key::Offset(cell.id.clone(), id.clone()), None);
            let tombstones: Vec<Change> = chunk.iter().map(key).collect();
            let (partition, appended) = {
                let mut inner = cell.lock();
                let appended = self.append(cell, &tombstones).map_err(commit_error)?;
                for id in chunk {
                    inner.offsets.remove(id);
                }
                appended
            };
            let last = appended.last_offset;
            self.replicated(cell, partition, last, |_, result| result)
                .await?
                .map_err(commit_error)?;
        }
        Ok(())
    }

    /// Sees to it that a timer fires no later than the group's deadline.
    fn arm(&self, cell: &Arc<Cell>, inner: &mut Inner) {
        let Some(deadline) = inner.group.deadline() else {
            return;
        };
        if inner.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        let mut timers = self.timers();
        if let Some(armed) = inner.armed.replace(deadline) {
            timers.remove(&(armed, cell.partition, cell.id.clone()));
        }
        timers.insert((deadline, cell.partition, cell.id.clone()));
        let first = timers.first().is_some_and(|first| first.0 == deadline);
        drop(timers);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Fires what is due; returns when the next timer is.
    fn fire(self: &Arc<Self>) -> Option<i64> {
        loop {
            let (at, partition, id) = {
                let mut timers = self.timers();
                let next = timers.first().map(|first| first.0)?;
                if next > self.clock.monotonic_ms() {
                    return Some(next);
                }
                timers.pop_first()?
            };
            let cell = {
                let shards = self.shards();
                let groups = shards
                    .get(&partition)
                    .and_then(|shard| shard.groups.as_ref());
                groups.and_then(|groups| groups.get(&id).cloned())
            };
            let Some(cell) = cell else {
                continue;
            };
            let mut inner = cell.lock();
            if inner.armed == Some(at) {
                inner.armed = None;
                self.step(&cell, &mut inner, Event::Tick);
            }
            drop(inner);
            self.drop_if_blank(&cell);
        }
    }

    async fn serve_timers(self: &Arc<Self>) {
        let stopped = self.tasks.shutdown().clone();
        let check_ms = self.options.offsets_retention_check_interval_ms.max(1);
        let mut next_check = self.clock.monotonic_ms().saturating_add(check_ms);
        let mut images = self.image.changes();
        let mut doomed = Doomed::default();
        while !stopped.is_stopping() {
            let next = self.fire();
            let now = self.clock.monotonic_ms();
            if now >= next_check {
                next_check = now.saturating_add(check_ms);
                self.expire().await;
                continue;
            }
            let until = next.unwrap_or(next_check).min(next_check) - now;
            let pause = Duration::from_millis(u64::try_from(until).unwrap_or(0));
            tokio::select! {
                () = stopped.stopped() => {}
                () = self.earlier.notified() => {}
                changed = images.changed() => {
                    if changed.is_ok() {
                        for topic in doomed.gone(&self.image.load()) {
                            self.forget_topic(&topic).await;
                        }
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Drops offsets that have lapsed, and groups that have nothing left.
    async fn expire(self: &Arc<Self>) {
        let (now, retention_ms) = (self.clock.wall_ms(), self.options.offsets_retention_ms);
        for cell in self.cells() {
            let gone = {
                let inner = cell.lock();
                inner.offsets.expired(&inner.group, now, retention_ms)
            };
            let count = gone.len();
            let removed = self.remove_offsets(&cell, gone).await;
            let removed = match removed {
                Ok(()) => self.drop_if_idle(&cell).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) if count > 0 => info!(group = ?cell.id, count, "committed offsets lapsed"),
                Ok(()) => {}
                Err(error) => warn!(group = ?cell.id, ?error, "expiry cannot be written down"),
            }
        }
    }

    /// A topic was deleted: what was committed for it goes, too.
    async fn forget_topic(self: &Arc<Self>, topic: &str) {
        for cell in self.cells() {
            let gone = cell.lock().offsets.of_topics(|name| name == topic);
            if gone.is_empty() {
                continue;
            }
            let removed = match self.remove_offsets(&cell, gone).await {
                Ok(()) => self.drop_if_idle(&cell).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                warn!(group = ?cell.id, ?error, "offsets of a deleted topic stay in the log");
            }
        }
    }

    /// Takes a group out of memory that was never written down, for example after a join that failed.
    fn drop_if_blank(&self, cell: &Arc<Cell>) {
        let blank = {
            let mut inner = cell.lock();
            inner.group.is_blank() && inner.offsets.is_empty() && inner.group.delete()
        };
        if blank {
            self.forget(cell);
        }
    }

    /// Deletes a group without members and offsets.
    async fn drop_if_idle(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<(), ResponseError> {
        let appended = {
            let mut inner = cell.lock();
            if !inner.group.is_vacant() || !inner.offsets.is_empty() {
                return Ok(());
            }
            if inner.group.generation() == 0 {
                inner.group.delete();
                None
            } else {
                let tombstone = (Key::Group(cell.id.clone()), None);
                let appended = self.append(cell, &[tombstone]).map_err(commit_error)?;
                inner.group.delete();
                Some(appended)
            }
        };
        self.forget(cell);
        if let Some((partition, appended)) = appended {
            let last = appended.last_offset;
            self.replicated(cell, partition, last, |_, result| result)
                .await?
                .map_err(commit_error)?;
        }
        Ok(())
    }

    fn forget(&self, cell: &Arc<Cell>) {
        let mut shards = self.shards_mut();
        let shard = shards.get_mut(&cell.partition);
        if let Some(groups) = shard.and_then(|shard| shard.groups.as_mut())
            && groups
                .get(&cell.id)
                .is_some_and(|found| Arc::ptr_eq(found, cell))
        {
            groups.remove(&cell.id);
        }
    }

    fn next_waiter(&self) -> Waiter {
        self.waiters.fetch_add(1, Ordering::Relaxed)
    }
}

/// Topics that wait for their deletion, by the id that they had. Only a topic that was marked for deletion
/// counts as deleted when it is missed: an image may lack one for other reasons.
#[derive(Debug, Default)]
struct Doomed(BTreeMap<Arc<str>, Uuid>);

impl Doomed {
    /// Names of the topics that are gone now.
    fn gone(&mut self, image: &Image) -> Vec<Arc<str>> {
        let id = |name: &Arc<str>| image.topic(name).map(|topic| topic.id);
        let mut gone = Vec::new();
        self.0.retain(|name, doomed| {
            let stays = id(name) == Some(*doomed);
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        for name in &image.deleting {
            if let Some(id) = id(name) {
                self.0.insert(name.clone(), id);
            }
        }
        gone
    }
}

/// What a failed write of a group means to its members.
fn group_error(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::RequestTimedOut => ResponseError::RebalanceInProgress,
        ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge => {
            ResponseError::UnknownServerError
        }
        error => moved_error(error),
    }
}

/// What a failed write of offsets means to who committed them.
fn commit_error(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge => {
            ResponseError::InvalidCommitOffsetSize
        }
        error => moved_error(error),
    }
}

fn moved_error(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::UnknownTopicOrPartition
        | ResponseError::NotEnoughReplicas
        | ResponseError::NotEnoughReplicasAfterAppend => ResponseError::CoordinatorNotAvailable,
        ResponseError::NotLeaderOrFollower
        | ResponseError::FencedLeaderEpoch
        | ResponseError::KafkaStorageError => ResponseError::NotCoordinator,
        error => error,
    }
}
