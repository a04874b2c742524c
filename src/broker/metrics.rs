//! What the broker counts, under the nouns of Kafka's own metrics.

use crate::common::metrics::{Counter, Gauge, Histogram};

/// Totals of one broker (`kafka.server:type=BrokerTopicMetrics` without a topic) and its sockets.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    /// Records appended by clients.
    pub messages_in: Counter,
    /// Bytes of record batches appended by clients.
    pub bytes_in: Counter,
    /// Bytes of record batches fetched by clients.
    pub bytes_out: Counter,
    /// Produce requests, counted per partition as Kafka does.
    pub total_produce_requests: Counter,
    /// Fetch requests, counted per partition as Kafka does.
    pub total_fetch_requests: Counter,
    /// Partitions of produce requests that were answered with an error.
    pub failed_produce_requests: Counter,
    /// Partitions of fetch requests that were answered with an error.
    pub failed_fetch_requests: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// Time from a whole produce request to its response, in microseconds.
    pub produce_us: Histogram,
    /// Time from a whole fetch request to its response, in microseconds.
    pub fetch_us: Histogram,
    /// Time of every other request, in microseconds.
    pub other_us: Histogram,
}
