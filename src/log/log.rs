//! A partition's log: append, read, truncate, roll, retain. One writer at a time, readers never wait.
//!
//! The signatures come first, so that the broker can be written against them; until the engine behind
//! them is delivered, `open` refuses.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{AppendError, LogError, Options, ProducerStatus, ReadError, Region, TimestampOffset};
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::ids::{LeaderEpoch, Offset, TopicPartition};

/// What the checkpoints say about a log before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Everything below was synced.
    pub recovery_point: Offset,
    /// Records below were deleted (DeleteRecords, retention).
    pub log_start_offset: Offset,
    /// The last stop was clean: nothing needs to be read again.
    pub clean: bool,
}

/// Who wrote a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is checked.
    Client,
    /// This broker, for its internal topics.
    Internal,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The time put on the records, or -1 where the producer's stayed.
    pub log_append_time_ms: i64,
    /// The log's first offset.
    pub log_start_offset: Offset,
    /// The batch was in the log already: nothing was written, the offsets are the old ones.
    pub duplicate: bool,
}

/// A log's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Bytes in all segments.
    pub size_bytes: u64,
    /// How many segments.
    pub segments: usize,
    /// The first offset.
    pub log_start_offset: Offset,
    /// The offset that the next record gets.
    pub log_end_offset: Offset,
    /// Everything below was synced.
    pub recovery_point: Offset,
}

/// One partition's log. Shared as `Arc`; all methods take `&self` and block on the disk.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
}

impl Log {
    /// Opens the log in `dir`, created when missing, and recovers what needs it.
    pub fn open(
        _disk: Arc<dyn Disk>,
        dir: PathBuf,
        _id: TopicPartition,
        _options: Options,
        _start: Start,
        _clock: Clock,
    ) -> Result<Log, LogError> {
        Err(Log { dir }.closed())
    }

    fn closed(&self) -> LogError {
        LogError::Closed {
            path: self.dir.clone(),
            reason: "the engine is not there yet",
        }
    }

    /// Appends exactly one batch as it came from the wire; offsets and `leader_epoch` are put on it.
    /// It is in the page cache when this returns.
    pub fn append_as_leader(
        &self,
        _batch: Bytes,
        _leader_epoch: LeaderEpoch,
        _origin: Origin,
    ) -> Result<Appended, AppendError> {
        Err(self.closed().into())
    }

    /// Appends batches that have their offsets and epochs already.
    pub fn append_as_follower(&self, _batches: Bytes) -> Result<Appended, AppendError> {
        Err(self.closed().into())
    }

    /// The region of whole batches from the one that contains `offset`, at most `max_bytes` long and
    /// below `upper`. With `min_one` the first batch is in it whatever its size. `None` when there is
    /// nothing (yet), or the first batch does not fit.
    pub fn read(
        &self,
        _offset: Offset,
        _max_bytes: usize,
        _upper: Offset,
        _min_one: bool,
    ) -> Result<Option<Region>, ReadError> {
        Err(self.closed().into())
    }

    /// The log's name.
    pub fn id(&self) -> &TopicPartition {
        unreachable!("open refuses")
    }
    /// The first offset.
    pub fn log_start_offset(&self) -> Offset {
        Offset(0)
    }
    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(0)
    }
    /// Everything below was synced; goes to the recovery point checkpoint.
    pub fn recovery_point(&self) -> Offset {
        Offset(0)
    }
    /// Figures.
    pub fn status(&self) -> Status {
        unreachable!("open refuses")
    }
    /// Idempotent producers that are remembered.
    pub fn active_producers(&self) -> Vec<ProducerStatus> {
        Vec::new()
    }

    /// The first record whose timestamp is `timestamp` or later.
    pub fn offset_for_timestamp(
        &self,
        _timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        Err(self.closed().into())
    }
    /// The first record with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        Err(self.closed().into())
    }
    /// The epoch that an offset was written in, if known.
    pub fn epoch_for_offset(&self, _offset: Offset) -> Option<LeaderEpoch> {
        None
    }
    /// The newest epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        None
    }
    /// The largest epoch that is not above `epoch`, and the offset where it ends; (-1, -1) if unknown.
    pub fn end_offset_for_epoch(&self, _epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        (LeaderEpoch::NONE, Offset(-1))
    }
    /// A new leader's epoch begins at the log's end. Called on becoming leader.
    pub fn begin_epoch(&self, _epoch: LeaderEpoch) -> Result<(), LogError> {
        Err(self.closed())
    }

    /// Changes the settings.
    pub fn set_options(&self, _options: Options) {}
    /// The settings in force.
    pub fn options(&self) -> Arc<Options> {
        Arc::default()
    }
    /// Cuts the log so that `offset` is its end.
    pub fn truncate_to(&self, _offset: Offset) -> Result<(), LogError> {
        Err(self.closed())
    }
    /// Drops everything; the next record gets `offset`.
    pub fn truncate_fully_and_start_at(&self, _offset: Offset) -> Result<(), LogError> {
        Err(self.closed())
    }
    /// Begins a new segment.
    pub fn roll(&self) -> Result<(), LogError> {
        Err(self.closed())
    }
    /// Syncs what lies below `up_to`. Takes long: call it on a blocking thread.
    pub fn flush(&self, _up_to: Offset) -> Result<(), LogError> {
        Err(self.closed())
    }
    /// Makes `offset` the first offset (DeleteRecords); may not be above the high watermark.
    pub fn delete_records_before(
        &self,
        _offset: Offset,
        _high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        Err(self.closed())
    }
    /// Gives up segments that time, size or the log start offset allow, none above the high
    /// watermark. Returns how many.
    pub fn apply_retention(
        &self,
        _now_ms: i64,
        _high_watermark: Offset,
    ) -> Result<usize, LogError> {
        Err(self.closed())
    }
    /// Syncs, trims the indexes, writes the producers' snapshot. No append afterwards.
    pub fn close(&self) -> Result<(), LogError> {
        Err(self.closed())
    }
}
