//! One replica of one partition: its role, its high watermark, appending and reading.
//!
//! The one invariant: what a client is shown lies below the high watermark, and the high watermark
//! never falls while this broker leads. With one replica the high watermark is the log's end; with
//! more it follows the in-sync set ([`leading`]); a follower learns it from the leader ([`following`]). A
//! replica may move to another directory meanwhile ([`moving`]).
//! Knows nothing of requests and sockets.
//!
//! Locks, from the outside in: `appending` for one append, one truncation or one change of role; the
//! leader's state; the role's lock and the log's own; last, the watch lists. Readers take none but the
//! role's, for one copy of a pointer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kafka_protocol::error::ResponseError;
use tracing::error;

use crate::broker::fetch_session::Key;
use crate::broker::isr::LeaderState;
use crate::broker::isr_changes::IsrChanges;
use crate::broker::metrics::Traffic;
use crate::broker::wait::{Changed, Subscribers, Waiter, Watchers, Watching};
use crate::common::ids::{
    BrokerId, ControllerEpoch, LeaderEpoch, Offset, ProducerId, TopicPartition, Zxid,
};
use crate::log::error::WITHOUT_KEY;
use crate::log::{AppendError, Log, ReadError};

pub use crate::log::{Region, TimestampOffset};

mod following;
mod leading;
mod moving;

pub use self::following::{FollowError, Sent, Truncation};
pub use self::moving::MoveError;

/// The topics that brokers write for themselves.
pub fn is_internal_topic(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state")
}

/// Who wrote a batch; decides how far it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's Produce request: everything is checked.
    Client,
    /// This broker's own group coordinator: its batches go to internal topics.
    Coordinator,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Offset of the batch's last record; pass it to [`Partition::replicated`].
    pub last_offset: Offset,
    /// The time that was put on the records, where the topic asks for append time.
    pub log_append_time_ms: Option<i64>,
    /// The first offset that the log still has.
    pub log_start_offset: Offset,
    /// An idempotent producer's repeated batch: it was there already, at these offsets.
    pub duplicate: bool,
}

/// Why an append was refused. Nothing is in the log then (Q6), except after `KAFKA_STORAGE_ERROR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error:?}: {message}")]
pub struct Refused {
    /// The code for the client.
    pub error: ResponseError,
    /// The reason in words; goes to clients that read it (Produce v8 and later).
    pub message: String,
    /// Index of the record that was refused, where one record is to blame.
    pub record: Option<i32>,
}

impl Refused {
    /// A refusal without more words than the code's own.
    pub fn plain(error: ResponseError) -> Refused {
        Refused {
            error,
            message: error.to_string(),
            record: None,
        }
    }
}

impl From<Refused> for ResponseError {
    fn from(refused: Refused) -> ResponseError {
        refused.error
    }
}

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A replica, or this broker itself: everything that is in the log.
    LogEnd,
    /// A consumer with `read_uncommitted`: below the high watermark.
    HighWatermark,
    /// A consumer with `read_committed`: below the last stable offset.
    LastStable,
}

/// A transaction that was aborted and overlaps what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first record's offset.
    pub first_offset: Offset,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct PartitionRead {
    /// The batches; none where there is nothing (yet) at the offset. The first batch may begin below
    /// the offset that was asked for, as in Kafka.
    pub region: Option<Region>,
    /// One past the last record that is on all in-sync replicas.
    pub high_watermark: Offset,
    /// One past the last record that no open transaction can take back.
    pub last_stable_offset: Offset,
    /// The first offset that the log still has.
    pub log_start_offset: Offset,
    /// The offset that the next record gets, as it was before the read.
    pub log_end_offset: Offset,
    /// For [`Isolation::LastStable`]; there it may be empty.
    pub aborted: Option<Vec<Aborted>>,
}

/// What the image says about this partition, as far as its replica cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Does this broker lead?
    pub leading: bool,
    /// Who leads, if anybody; this broker only if it is `leading`.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// All assigned replicas, this one included.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are registered, and since when.
    pub live: Vec<(BrokerId, Zxid)>,
    /// The committed in-sync replicas, as of `state_version`: what the state znode said, and, at the
    /// leader, what it has written there since. A leader is always among them.
    pub isr: Vec<BrokerId>,
    /// Version of the state znode that this role was read from.
    pub state_version: i32,
    /// When that state was written.
    pub state_written: Zxid,
    /// The controller that gave the role; the leader's changes of the ISR keep it in the state.
    pub controller_epoch: ControllerEpoch,
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: usize,
    /// What followers fetch here is bounded while they are not in sync.
    pub throttled_as_leader: bool,
    /// What this replica fetches is bounded while it is not in sync.
    pub throttled_as_follower: bool,
}

/// How often those who wait at a partition were interrupted, when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchEpoch {
    visible: u64,
    end: u64,
}

/// One replica on this broker. Shared as `Arc`; every method takes `&self` and is safe to call from
/// any task.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    topic_id: uuid::Uuid,
    log: RwLock<Arc<Log>>,
    role: RwLock<Arc<Role>>,
    appending: Mutex<()>,
    /// There while this broker leads.
    leader_state: Mutex<Option<LeaderState>>,
    /// Counts the times that this broker began to lead.
    reign: AtomicU64,
    isr_changes: Arc<IsrChanges>,
    high_watermark: AtomicI64,
    /// Who waits for the high watermark.
    watchers: Arc<Watchers>,
    /// Who waits for the log's end: followers.
    end_watchers: Arc<Watchers>,
    /// Followers' sessions that look here only when something changes.
    subscribers: Subscribers,
    traffic: Arc<Traffic>,
    /// When a disk's failure may be told again (the log's clock).
    quiet_until_ms: AtomicI64,
}

/// A full disk fails every request: one line in this time says it.
const FAILURE_PERIOD_MS: i64 = 5_000;

impl Partition {
    /// A replica without a role. `high_watermark` is what was checkpointed before the start.
    /// `traffic` is its topic's, shared by all the topic's replicas here.
    pub fn new(
        log: Arc<Log>,
        topic_id: uuid::Uuid,
        high_watermark: Option<Offset>,
        traffic: Arc<Traffic>,
        isr_changes: Arc<IsrChanges>,
    ) -> Partition {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let high_watermark = high_watermark.unwrap_or(start).clamp(start, end.max(start));
        Partition {
            id: log.id().clone(),
            topic_id,
            log: RwLock::new(log),
            role: RwLock::default(),
            appending: Mutex::default(),
            leader_state: Mutex::default(),
            reign: AtomicU64::new(0),
            isr_changes,
            high_watermark: AtomicI64::new(high_watermark.0),
            watchers: Arc::default(),
            end_watchers: Arc::default(),
            subscribers: Subscribers::default(),
            traffic,
            quiet_until_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Its name.
    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// Its topic's id; nil where the topic had none when the replica was made.
    pub fn topic_id(&self) -> uuid::Uuid {
        self.topic_id
    }

    /// Its log. It is another one once the replica has moved to another directory.
    pub fn log(&self) -> Arc<Log> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// What its topic's clients write to this broker and read from it.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Its role now.
    pub fn role(&self) -> Arc<Role> {
        self.role
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Finds the batches at `offset`. At most `bytes_max` bytes of whole batches are returned, except
    /// that with `min_one` the first batch always is. Replicas read from the leader only; consumers from a
    /// follower, too, as far as it knows the high watermark (KIP-392).
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: u64,
        isolation: Isolation,
        min_one: bool,
    ) -> Result<PartitionRead, ResponseError> {
        let role = self.role();
        let follows = role.leader.is_some() && isolation != Isolation::LogEnd;
        if !role.leading && !follows {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let high_watermark = self.high_watermark();
        let log_start_offset = self.log().log_start_offset();
        let log_end_offset = self.log().log_end_offset();
        if offset < log_start_offset || offset > log_end_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let upper = match isolation {
            Isolation::LogEnd => log_end_offset,
            Isolation::HighWatermark => high_watermark,
            Isolation::LastStable => self.last_stable_offset(),
        };
        let region = if offset < upper && (bytes_max > 0 || min_one) {
            let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
            self.log()
                .read(offset, bytes_max, upper, min_one)
                .map_err(|error| self.read_failure(&error))?
        } else {
            None
        };
        Ok(PartitionRead {
            region,
            high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_start_offset,
            log_end_offset,
            aborted: (isolation == Isolation::LastStable).then(Vec::new),
        })
    }

    /// Counts changes of role; see [`Partition::watch`].
    pub fn watch_epoch(&self) -> WatchEpoch {
        WatchEpoch {
            visible: self.watchers.epoch(),
            end: self.end_watchers.epoch(),
        }
    }

    /// Everybody who waits here looks again: the role has changed, or the log has been cut.
    fn interrupt(&self) {
        self.watchers.interrupt(self.high_watermark());
        self.end_watchers.interrupt(self.log_end_offset());
        self.subscribers.mark();
    }

    /// A follower's session hears of every change from now on: of the log's end, the high watermark and
    /// the role.
    pub fn subscribe(&self, changed: &Arc<Changed>, key: &Key) {
        self.subscribers.add(changed, key);
    }

    /// Lets `waiter` hear of progress beyond `seen`, the high watermark of an earlier look, and of any
    /// change of role since `epoch`.
    pub fn watch(&self, waiter: &Arc<Waiter>, seen: Offset, epoch: WatchEpoch) -> Watching {
        self.watchers.watch(waiter, seen, epoch.visible)
    }

    /// Lets a follower's `waiter` hear of records behind `read`, of a higher high watermark than the one
    /// in `read`, and of any change of role since `epoch`.
    pub fn watch_end(
        &self,
        waiter: &Arc<Waiter>,
        read: &PartitionRead,
        epoch: WatchEpoch,
    ) -> [Watching; 2] {
        [
            self.end_watchers
                .watch(waiter, read.log_end_offset, epoch.end),
            self.watchers
                .watch(waiter, read.high_watermark, epoch.visible),
        ]
    }

    /// How many requests wait for progress here.
    pub fn waiting(&self) -> usize {
        self.watchers.waiting()
    }

    /// One past the last record that consumers may see.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The first offset that the log still has.
    pub fn log_start_offset(&self) -> Offset {
        self.log().log_start_offset()
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.log().log_end_offset()
    }

    /// One past the last record that no open transaction can take back.
    pub fn last_stable_offset(&self) -> Offset {
        // Without transactions every record below the high watermark is stable.
        self.high_watermark()
    }

    /// The current leader's epoch, as the image has it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.role().leader_epoch
    }

    /// Does this broker lead it?
    pub fn is_leader(&self) -> bool {
        self.role().leading
    }

    /// Who leads it, as the image has it.
    pub fn leader(&self) -> Option<BrokerId> {
        self.role().leader
    }

    /// Compares the leader epoch that a client knows with ours (KIP-320); -1 is not compared.
    pub fn check_epoch(&self, known: i32) -> Result<(), ResponseError> {
        let current = self.leader_epoch().0;
        match known {
            -1 => Ok(()),
            known if known < current => Err(ResponseError::FencedLeaderEpoch),
            known if known > current => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The first record whose timestamp is `timestamp_ms` or later, below the high watermark.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ResponseError> {
        let found = self.log().offset_for_timestamp(timestamp_ms);
        self.visible(found)
    }

    /// The first record with the largest timestamp.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ResponseError> {
        let found = self.log().max_timestamp();
        self.visible(found)
    }

    fn visible(
        &self,
        found: Result<Option<TimestampOffset>, ReadError>,
    ) -> Result<Option<TimestampOffset>, ResponseError> {
        let high_watermark = self.high_watermark();
        found
            .map(|found| found.filter(|found| found.offset < high_watermark))
            .map_err(|error| self.read_failure(&error))
    }

    /// The largest epoch that is not above `epoch`, and where it ends; (-1, -1) where none is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.log().end_offset_for_epoch(epoch)
    }

    /// Tells a disk's failure, but not every time.
    pub fn tell_failure(&self, error: &(dyn std::error::Error + 'static), what: &'static str) {
        let now = self.log().monotonic_ms();
        let tell = |until: i64| (until <= now).then(|| now.saturating_add(FAILURE_PERIOD_MS));
        let order = Ordering::Relaxed;
        if self.quiet_until_ms.fetch_update(order, order, tell).is_ok() {
            error!(partition = %self.id, error, "{what}");
        }
    }

    /// Kafka's code for a failed append. A disk's failure is told here, once.
    fn refusal(&self, error: AppendError) -> Refused {
        let (code, record) = match &error {
            AppendError::Corrupt(_) => (ResponseError::CorruptMessage, None),
            AppendError::InvalidRecord { record, .. } => (ResponseError::InvalidRecord, *record),
            AppendError::Records(_) => (ResponseError::InvalidRecord, None),
            AppendError::UnsupportedCompression(_) => {
                (ResponseError::UnsupportedCompressionType, None)
            }
            AppendError::Transactional => (ResponseError::InvalidTxnState, None),
            AppendError::TooLarge { .. } => (ResponseError::MessageTooLarge, None),
            AppendError::TooLargeForSegment { .. } => (ResponseError::RecordListTooLarge, None),
            AppendError::InvalidTimestamp { record, .. } => {
                (ResponseError::InvalidTimestamp, *record)
            }
            AppendError::OutOfOrderSequence { .. } => {
                (ResponseError::OutOfOrderSequenceNumber, None)
            }
            AppendError::InvalidProducerEpoch { .. } => (ResponseError::InvalidProducerEpoch, None),
            AppendError::NotNext { .. } | AppendError::OldEpoch { .. } => {
                error!(partition = %self.id, %error, "an append does not fit the log");
                (ResponseError::UnknownServerError, None)
            }
            AppendError::Storage(_) => {
                self.tell_failure(&error, "append failed");
                (ResponseError::KafkaStorageError, None)
            }
        };
        let message = match &error {
            AppendError::InvalidRecord { reason, .. } if reason == WITHOUT_KEY => {
                format!("{reason} in topic partition {}.", self.id)
            }
            _ => error.to_string(),
        };
        Refused {
            error: code,
            message,
            record,
        }
    }

    fn read_failure(&self, error: &ReadError) -> ResponseError {
        match error {
            ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            ReadError::Storage(_) => {
                self.log().note_failed_read(error);
                self.tell_failure(error, "read failed");
                ResponseError::KafkaStorageError
            }
            ReadError::Records(_) => {
                self.tell_failure(error, "damaged records");
                ResponseError::CorruptMessage
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::batch;
    use crate::common::clock::Clock;
    use crate::common::disk::Disk;
    use crate::common::disk::sim::{Faults, SimDisk};
    use crate::common::rng::Rng;
    use crate::common::testing::logged;
    use crate::log;

    fn full() -> Faults {
        Faults {
            capacity: Some(0),
            ..Faults::default()
        }
    }

    fn leading(disk: &SimDisk, clock: &Clock, index: i32) -> Partition {
        let id = TopicPartition::new("t", index);
        let dir = std::path::Path::new("/d").join(id.to_string());
        let start = log::Start {
            recovery_point: Offset(0),
            log_start_offset: Offset(0),
            clean: true,
        };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let log = Log::open(disk, dir, id, log::Options::default(), start, clock.clone());
        let log = Arc::new(log.expect("opens"));
        let partition = Partition::new(
            log,
            uuid::Uuid::nil(),
            None,
            Arc::default(),
            Arc::new(IsrChanges::new(30_000)),
        );
        let role = Role {
            leading: true,
            leader_epoch: LeaderEpoch(1),
            ..Role::default()
        };
        partition.become_role(role).expect("leads");
        partition
    }

    #[test]
    fn a_full_disk_fails_every_append_and_is_told_now_and_then() {
        let clock = Clock::manual(1_700_000_000_000);
        let disk = SimDisk::new(Rng::from_seed(1), clock.clone());
        disk.create_dir_all(std::path::Path::new("/d"))
            .expect("made");
        let partitions = [0, 1].map(|index| leading(&disk, &clock, index));
        disk.set_faults(full());
        let append = |partition: &Partition| {
            // More than fits into the page that is there.
            let value = [7; 10_000];
            let appended = partition.append(batch(&[&value]), Origin::Client, None);
            appended.map_err(ResponseError::from)
        };
        let errors = |times: usize| {
            let logged = logged(|| {
                for _ in 0..times {
                    for partition in &partitions {
                        assert_eq!(append(partition), Err(ResponseError::KafkaStorageError));
                    }
                }
            });
            let errors = logged.lines().filter(|line| line.contains("ERROR"));
            errors.map(str::to_owned).collect::<Vec<_>>()
        };
        let first = errors(20);
        assert_eq!(first.len(), 2, "one for each partition: {first:?}");
        for (line, name) in first.iter().zip(["t-0", "t-1"]) {
            assert!(
                line.contains(name) && line.contains("append failed"),
                "{line}"
            );
        }
        clock.advance_ms(FAILURE_PERIOD_MS - 1);
        assert_eq!(errors(1).len(), 0);
        clock.advance_ms(1);
        assert_eq!(errors(20).len(), 2, "it still fails");
        disk.set_faults(Faults::default());
        let appended = append(&partitions[0]).expect("there is room again");
        assert_eq!(
            appended.base_offset,
            Offset(0),
            "nothing of the failed ones is left"
        );
    }
}
