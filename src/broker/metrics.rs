//! What the broker counts, under the nouns of Kafka's own metrics.
//!
//! Counting costs an atomic operation or two; looking a value up by name happens once per connection,
//! request kind or replica, never per record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::common::metrics::{Counter, Gauge, Histogram};

/// What clients write and read (`kafka.server:type=BrokerTopicMetrics`), of a topic or of all.
#[derive(Debug, Default)]
pub struct Traffic {
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
}

/// Totals of one broker, and its sockets.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    /// All topics together; each replica has its topic's own.
    pub traffic: Traffic,
    /// Bytes of record batches fetched from leaders.
    pub replication_bytes_in: Counter,
    /// Bytes of record batches that followers fetched.
    pub replication_bytes_out: Counter,
    /// In-sync sets that this broker made smaller.
    pub isr_shrinks: Counter,
    /// In-sync sets that this broker made larger.
    pub isr_expands: Counter,
    /// Leaders that this broker, as the controller, chose outside the in-sync set.
    pub unclean_elections: Counter,
    /// Open client connections.
    pub connections: Connections,
    /// Time from a whole request to its response, by kind of request.
    pub requests: Requests,
    /// Syncs of files in the log directories.
    pub log_syncs: Arc<Histogram>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Open connections by listener.
#[derive(Debug, Default)]
pub struct Connections(Mutex<BTreeMap<Arc<str>, Arc<Gauge>>>);

impl Connections {
    /// A listener's gauge.
    pub fn of(&self, listener: &Arc<str>) -> Arc<Gauge> {
        locked(&self.0).entry(listener.clone()).or_default().clone()
    }

    /// All listeners together.
    pub fn get(&self) -> i64 {
        locked(&self.0).values().map(|gauge| gauge.get()).sum()
    }

    /// Every listener and its connections.
    pub fn by_listener(&self) -> Vec<(String, i64)> {
        let gauges = locked(&self.0);
        let gauges = gauges.iter();
        gauges
            .map(|(name, gauge)| (name.to_string(), gauge.get()))
            .collect()
    }
}

/// API keys below this have a slot; Kafka's are far below.
const KEYS: usize = 128;

/// Times of requests, by kind.
#[derive(Debug)]
pub struct Requests([OnceLock<Box<(&'static str, Histogram)>>; KEYS]);

impl Default for Requests {
    fn default() -> Requests {
        Requests(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl Requests {
    /// Notes one request of the API `key`, which is called `name`.
    pub fn observe_us(&self, key: i16, name: &'static str, us: u64) {
        let slot = usize::try_from(key).ok().and_then(|key| self.0.get(key));
        if let Some(slot) = slot {
            let kind = slot.get_or_init(|| Box::new((name, Histogram::default())));
            kind.1.observe_us(us);
        }
    }

    /// Every kind that was seen, in the order of the keys.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let seen = self.0.iter().filter_map(OnceLock::get);
        seen.map(|kind| (kind.0, &kind.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_requests_are_kept_apart_by_name() {
        let metrics = BrokerMetrics::default();
        let (inside, outside) = (Arc::from("INSIDE"), Arc::from("OUTSIDE"));
        metrics.connections.of(&inside).add(2);
        metrics.connections.of(&outside).add(1);
        metrics.connections.of(&inside).add(-1);
        assert_eq!(metrics.connections.get(), 2);
        let listed = metrics.connections.by_listener();
        assert_eq!(
            listed,
            [("INSIDE".to_owned(), 1), ("OUTSIDE".to_owned(), 1)]
        );

        metrics.requests.observe_us(3, "Metadata", 5);
        metrics.requests.observe_us(0, "Produce", 7);
        metrics.requests.observe_us(3, "Metadata", 5);
        metrics.requests.observe_us(-1, "None", 1);
        metrics.requests.observe_us(i16::MAX, "None", 1);
        let kinds = metrics.requests.kinds();
        let counts: Vec<_> = kinds.map(|(name, times)| (name, times.count())).collect();
        assert_eq!(counts, [("Produce", 1), ("Metadata", 2)]);
    }
}
