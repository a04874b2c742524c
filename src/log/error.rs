//! What can go wrong in a log. Who maps these to Kafka's error codes finds the code named beside each.

use std::io;
use std::path::{Path, PathBuf};

use crate::common::disk;
use crate::common::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::kafka::batch::BatchError;
use crate::kafka::record::RecordError;

/// The disk failed, or what lies on it cannot be used. `KAFKA_STORAGE_ERROR`.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed.
    #[error("{}: {action}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// Bytes below the recovery point are not batches.
    #[error("{} is damaged at position {position}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first bad batch begins.
        position: u64,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
    /// The log was closed, or failed before and must be opened again.
    #[error("{} is closed: {reason}", path.display())]
    Closed {
        /// The partition's directory.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// An offset that the log cannot take or be cut to.
    #[error("offset {offset} is impossible for {}", path.display())]
    Offset {
        /// The partition's directory.
        path: PathBuf,
        /// The offset.
        offset: Offset,
    },
}

impl LogError {
    /// Is it about the bytes of this one log, and not about the disk?
    pub(super) fn is_of_one_log(&self) -> bool {
        !matches!(self, LogError::Io { .. })
    }

    /// Is it about that one path, whatever lies beside it? Of a file that was found below a log's
    /// directory this says nothing of the disk.
    pub(super) fn is_of_one_path(&self) -> bool {
        use io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied};
        let LogError::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            IsADirectory | NotADirectory | PermissionDenied
        )
    }

    /// Had the process too many files open? Then nothing was done that could have failed halfway.
    pub fn is_out_of_descriptors(&self) -> bool {
        disk::is_out_of_descriptors(self)
    }
}

/// Why a directory cannot be written, in words, for as long as somebody may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The error and its causes.
    pub reason: String,
    /// There was no room, or there were no descriptors; they may come back.
    pub is_passing: bool,
}

impl Failure {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut is_passing = disk::is_out_of_descriptors(error);
        let mut cause = Some(error);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            is_passing |= matches!(
                kind,
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            );
            cause = error.source();
        }
        Failure {
            reason: disk::told(error),
            is_passing,
        }
    }
}

/// Adds path and action to an I/O result.
pub(super) trait IoContext<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T, LogError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T, LogError> {
        self.map_err(|source| LogError::Io {
            path: path.to_owned(),
            action,
            source,
        })
    }
}

/// Kafka's words about a record that a compacted topic cannot take; the partition goes behind them.
pub const WITHOUT_KEY: &str = "Compacted topic cannot accept message without key";

/// Why a batch is not in the log. All but `Storage` are definite answers to the producer (Q6).
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Not a whole v2 batch, or its checksum is wrong. `CORRUPT_MESSAGE`.
    #[error("the batch is corrupt: {0}")]
    Corrupt(#[from] BatchError),
    /// `INVALID_RECORD`.
    #[error("{reason}")]
    InvalidRecord {
        /// In Kafka's words, where it has some.
        reason: String,
        /// The record to blame, by its place in the batch.
        record: Option<i32>,
    },
    /// The records do not decompress. `INVALID_RECORD`, as a batch that is well formed outside only.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("compression type {0} is not known")]
    UnsupportedCompression(i16),
    /// Transactions are not supported yet. `INVALID_TXN_STATE`.
    #[error("transactional batches are not supported")]
    Transactional,
    /// Above `max.message.bytes`. `MESSAGE_TOO_LARGE` (10).
    #[error(
        "The record batch size in the append is {size} bytes which exceeds the maximum configured value of {limit}."
    )]
    TooLarge {
        /// The batch's size.
        size: usize,
        /// The limit in force.
        limit: u32,
    },
    /// Above `segment.bytes`. `RECORD_LIST_TOO_LARGE` (18).
    #[error(
        "Message batch size is {size} bytes in append which exceeds the maximum configured segment size of {limit}."
    )]
    TooLargeForSegment {
        /// The batch's size.
        size: usize,
        /// The limit in force.
        limit: u32,
    },
    /// `INVALID_TIMESTAMP`.
    #[error("{reason}")]
    InvalidTimestamp {
        /// In Kafka's words.
        reason: String,
        /// The record to blame, by its place in the batch.
        record: Option<i32>,
    },
    /// A gap in an idempotent producer's sequence. `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error(
        "Out of order sequence number for producerId {producer_id}: {sequence} (incoming seq. number), {last} (current end sequence number)"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's first sequence number.
        sequence: i32,
        /// The last one in the log, or -1.
        last: i32,
    },
    /// A newer instance of the producer has written. `INVALID_PRODUCER_EPOCH`.
    #[error("producer {producer_id} wrote with epoch {epoch}, but {current} has been seen")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The epoch in the log.
        current: ProducerEpoch,
    },
    /// A follower's or an internal batch does not continue the log. `UNKNOWN_SERVER_ERROR`.
    #[error("batch at offset {offset} does not continue the log, which ends at {log_end_offset}")]
    NotNext {
        /// The batch's base offset.
        offset: Offset,
        /// The log's end.
        log_end_offset: Offset,
    },
    /// A batch of an older epoch than the log's last. `UNKNOWN_SERVER_ERROR`.
    #[error("leader epoch {epoch} is older than {current}, which the log has seen")]
    OldEpoch {
        /// The batch's epoch.
        epoch: LeaderEpoch,
        /// The log's last epoch.
        current: LeaderEpoch,
    },
    /// The disk failed. `KAFKA_STORAGE_ERROR`.
    #[error(transparent)]
    Storage(#[from] LogError),
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there.
        log_start_offset: Offset,
        /// The offset that the next record gets.
        log_end_offset: Offset,
    },
    /// The disk failed, or the bytes are damaged. `KAFKA_STORAGE_ERROR`.
    #[error(transparent)]
    Storage(#[from] LogError),
    /// A batch whose records do not read. `CORRUPT_MESSAGE`.
    #[error(transparent)]
    Records(#[from] RecordError),
}
