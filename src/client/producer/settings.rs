//! What a producer can be told, under Kafka's names.

use std::time::Duration;

use crate::kafka::batch::Compression;

/// How a producer behaves; the defaults are Kafka 2.8's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `acks`: 0, 1 or -1.
    pub acks: i16,
    /// `linger.ms`.
    pub linger: Duration,
    /// `batch.size`.
    pub batch_bytes: usize,
    /// `max.request.size`.
    pub request_bytes_max: usize,
    /// `buffer.memory`.
    pub buffer_bytes: usize,
    /// `max.in.flight.requests.per.connection`.
    pub in_flight_max: usize,
    /// `compression.type`.
    pub compression: Compression,
    /// `enable.idempotence`.
    pub idempotent: bool,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// `max.block.ms`.
    pub max_block: Duration,
    /// `retries`.
    pub retries: u32,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            acks: 1,
            linger: Duration::ZERO,
            batch_bytes: 16_384,
            request_bytes_max: 1_048_576,
            buffer_bytes: 33_554_432,
            in_flight_max: 5,
            compression: Compression::None,
            idempotent: false,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            max_block: Duration::from_secs(60),
            retries: u32::MAX,
            retry_backoff: Duration::from_millis(100),
        }
    }
}
