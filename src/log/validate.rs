//! What a leader demands of a batch before it takes it: `LogValidator` of Kafka, over a view.
//!
//! The payload is decoded only where the topic's settings ask something about records: keys in a
//! compacted topic, a limit on timestamps, another codec.

use bytes::Bytes;

use super::error::AppendError;
use super::log::Origin;
use super::options::{Options, TimestampType};
use crate::common::ids::Offset;
use crate::kafka::batch::{Batch, BatchHeader, NO_TIMESTAMP};
use crate::kafka::record::{recompress, records};

/// How far a payload may inflate where it must be looked into: well above what 1 MiB of text gives.
pub(super) const INFLATED_BYTES_MAX: usize = 64 << 20;

/// A batch that may be appended; offsets and epoch are still to be put on it.
#[derive(Debug)]
pub(super) struct Validated {
    pub header: BatchHeader,
    pub payload: Bytes,
    /// -1 where the producer's timestamps stay.
    pub log_append_time_ms: i64,
}

fn invalid(reason: impl Into<String>) -> AppendError {
    AppendError::InvalidRecord {
        reason: reason.into(),
        record: None,
    }
}

/// Checks one batch; `bytes` are exactly that batch.
pub(super) fn validate(
    bytes: &Bytes,
    options: &Options,
    origin: Origin,
    now_ms: i64,
) -> Result<Validated, AppendError> {
    let mut batch = Batch::parse(bytes)?;
    if batch.bytes().len() != bytes.len() {
        return Err(invalid(
            "Produce requests with version 3 are required to contain exactly one record batch per partition",
        ));
    }
    let size = bytes.len();
    if size > options.max_message_bytes as usize {
        return Err(AppendError::TooLarge {
            size,
            limit: options.max_message_bytes,
        });
    }
    if size > options.segment_bytes as usize {
        return Err(AppendError::TooLargeForSegment {
            size,
            limit: options.segment_bytes,
        });
    }
    batch.check()?;
    check_header(batch.header(), origin)?;
    let codec = batch
        .header()
        .compression()
        .ok_or(AppendError::UnsupportedCompression(
            batch.header().attributes & 7,
        ))?;
    check_records(&batch, options, now_ms)?;
    if let Some(wanted) = options.compression
        && wanted != codec
    {
        batch = recompress(&batch, wanted, INFLATED_BYTES_MAX)?;
        let size = batch.bytes().len();
        if size > options.max_message_bytes as usize || size > options.segment_bytes as usize {
            return Err(AppendError::TooLarge {
                size,
                limit: options.max_message_bytes.min(options.segment_bytes),
            });
        }
    }
    let mut header = *batch.header();
    let payload = batch.payload();
    let mut log_append_time_ms = NO_TIMESTAMP;
    if options.timestamp_type == TimestampType::LogAppendTime {
        log_append_time_ms = now_ms;
        header.set_log_append_time(now_ms);
        header.crc = header.checksum(&payload);
    }
    Ok(Validated {
        header,
        payload,
        log_append_time_ms,
    })
}

fn check_header(header: &BatchHeader, origin: Origin) -> Result<(), AppendError> {
    if origin == Origin::Client && header.base_offset != Offset(0) {
        return Err(invalid(format!(
            "The baseOffset of the record batch in the append should be 0, but it is {}",
            header.base_offset
        )));
    }
    if header.record_count <= 0 {
        return Err(invalid(format!(
            "Invalid reported count for record batch: {}",
            header.record_count
        )));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return Err(invalid(format!(
            "Inconsistent batch offset range [{}, {}] and count of records {}",
            header.base_offset,
            header.last_offset(),
            header.record_count
        )));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    if header.is_transactional() {
        return Err(AppendError::Transactional);
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch.0 < 0) {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.is_log_append_time() {
        return Err(AppendError::InvalidTimestamp {
            reason: "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."
                .to_owned(),
            record: None,
        });
    }
    Ok(())
}

/// What the settings ask about single records.
fn check_records(batch: &Batch, options: &Options, now_ms: i64) -> Result<(), AppendError> {
    let create_time = options.timestamp_type == TimestampType::CreateTime;
    let times = create_time && options.timestamp_difference_max_ms < i64::MAX;
    if !options.compact && !times {
        return Ok(());
    }
    for (index, record) in records(batch, INFLATED_BYTES_MAX)?.enumerate() {
        let record = record?;
        let index = i32::try_from(index).ok();
        if options.compact && record.key.is_none() {
            return Err(AppendError::InvalidRecord {
                reason: "Compacted topic cannot accept message without key".to_owned(),
                record: index,
            });
        }
        let off = record.timestamp.saturating_sub(now_ms).saturating_abs();
        if times && record.timestamp != NO_TIMESTAMP && off > options.timestamp_difference_max_ms {
            return Err(AppendError::InvalidTimestamp {
                reason: format!(
                    "Timestamp {} of message with offset {} is out of range. The timestamp should be within [{}, {}]",
                    record.timestamp,
                    record.offset,
                    now_ms.saturating_sub(options.timestamp_difference_max_ms),
                    now_ms.saturating_add(options.timestamp_difference_max_ms)
                ),
                record: index,
            });
        }
    }
    Ok(())
}
