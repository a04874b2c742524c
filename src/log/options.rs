//! What a log needs to be told; swapped whole when a topic's configuration changes.

use crate::kafka::batch::Compression;

/// Who chooses the timestamps (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The leader, when it appends.
    LogAppendTime,
}

/// A log's settings. Fields carry the names of the topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `segment.bytes`: a segment is rolled before it exceeds this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its records span more than this.
    pub segment_ms: i64,
    /// `segment.index.bytes`: size of an active segment's indexes.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes between two index entries.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest batch, header and all.
    pub max_message_bytes: u32,
    /// `retention.ms`; negative keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative keeps all.
    pub retention_bytes: i64,
    /// `flush.messages`: sync after so many records.
    pub flush_messages: i64,
    /// `flush.ms`: sync after so long.
    pub flush_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.difference.max.ms`: how far a producer's clock may be off.
    pub timestamp_difference_max_ms: i64,
    /// `file.delete.delay.ms`: how long files that were given up stay.
    pub file_delete_delay_ms: i64,
    /// `transactional.id.expiration.ms`'s sibling: how long an idle idempotent producer is remembered.
    pub producer_id_expiration_ms: i64,
    /// `compression.type`; none stands for `producer`: batches are kept as they come.
    pub compression: Option<Compression>,
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`: records need keys.
    pub compact: bool,
}

/// Kafka's defaults.
impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4_096,
            max_message_bytes: 1_048_588,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            timestamp_type: TimestampType::CreateTime,
            timestamp_difference_max_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 7 * 24 * 3_600_000,
            compression: None,
            delete: true,
            compact: false,
        }
    }
}
