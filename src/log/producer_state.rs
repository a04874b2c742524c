//! What a log remembers of idempotent producers.

use crate::common::ids::{Offset, ProducerEpoch, ProducerId};

/// One producer, for DescribeProducers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStatus {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence number, or -1.
    pub last_sequence: i32,
    /// The last record's offset.
    pub last_offset: Offset,
    /// The last batch's timestamp.
    pub last_timestamp: i64,
}
