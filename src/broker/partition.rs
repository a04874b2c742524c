//! One replica of one partition: its role, its high watermark, appending and reading.
//!
//! The one invariant: what a client is shown lies below the high watermark, and the high watermark
//! never falls while this broker leads. With one replica the high watermark is the log's end; with
//! more it will follow the in-sync set, behind the same methods. Knows nothing of requests and sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::common::disk::DiskFile;
use crate::common::ids::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicPartition};

/// Who wrote a batch; decides how far it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's Produce request: everything is checked, internal topics are closed to it.
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
}

/// Why an append was refused. Nothing is in the log then (Q6).
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

impl From<Refused> for ResponseError {
    fn from(refused: Refused) -> ResponseError {
        refused.error
    }
}

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A replica: everything that is in the log.
    LogEnd,
    /// A consumer with `read_uncommitted`: below the high watermark.
    HighWatermark,
    /// A consumer with `read_committed`: below the last stable offset.
    LastStable,
}

/// A run of whole batches in a segment file.
#[derive(Clone, Debug)]
pub struct Region {
    /// The open segment.
    pub file: Arc<dyn DiskFile>,
    /// Where the first batch begins.
    pub position: u64,
    /// Bytes up to the end of the last batch.
    pub len: u64,
}

impl Region {
    /// Copies the region into memory. Blocks.
    pub fn read(&self) -> io::Result<Bytes> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(Bytes::from(bytes))
    }
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
    /// Filled for [`Isolation::LastStable`].
    pub aborted: Vec<Aborted>,
}

/// An answer to a lookup by time: an offset with its record's timestamp and leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp; -1 where the lookup was not by time.
    pub timestamp_ms: i64,
    /// The epoch that wrote it; none where it is not known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One replica on this broker. Shared as `Arc`; every method takes `&self` and is safe to call from
/// any task.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
}

impl Partition {
    /// Its name.
    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// Appends one batch as the leader, assigns its offsets and wakes who waits for it. The record is
    /// in the page cache when this returns; `expected` is the epoch that the caller was elected with.
    ///
    /// Blocks for the length of one page-cache write.
    pub fn append(
        &self,
        _batch: Bytes,
        _origin: Origin,
        _expected: Option<LeaderEpoch>,
    ) -> Result<Appended, Refused> {
        Err(Refused {
            error: ResponseError::KafkaStorageError,
            message: "the log is not there yet".to_owned(),
            record: None,
        })
    }

    /// Finds the batches at `offset`. At most `bytes_max` bytes of whole batches are returned, except
    /// that with `min_one` the first batch always is.
    pub fn read(
        &self,
        _offset: Offset,
        _bytes_max: u64,
        _isolation: Isolation,
        _min_one: bool,
    ) -> Result<PartitionRead, ResponseError> {
        Err(ResponseError::KafkaStorageError)
    }

    /// Waits until the record at `offset` is on all in-sync replicas (acks=all).
    pub async fn replicated(&self, _offset: Offset, _limit: Duration) -> Result<(), ResponseError> {
        Err(ResponseError::RequestTimedOut)
    }

    /// One past the last record that consumers may see.
    pub fn high_watermark(&self) -> Offset {
        Offset(0)
    }

    /// The first offset that the log still has.
    pub fn log_start_offset(&self) -> Offset {
        Offset(0)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(0)
    }

    /// One past the last record that no open transaction can take back.
    pub fn last_stable_offset(&self) -> Offset {
        Offset(0)
    }

    /// The current leader's epoch, as the image has it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::NONE
    }

    /// Does this broker lead it?
    pub fn is_leader(&self) -> bool {
        false
    }

    /// Who leads it, as the image has it.
    pub fn leader(&self) -> Option<BrokerId> {
        None
    }
}
