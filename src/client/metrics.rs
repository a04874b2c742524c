//! What a client counts of itself, by the names that Kafka's clients give to the same things.
//!
//! Counting is done where things happen; this file has the counters and turns them into rows. Rates are
//! over the client's whole life, where Kafka's are over the last half minute.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// One row: Kafka's group and name, tags, and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// As `producer-metrics`.
    pub group: &'static str,
    /// As `record-send-total`.
    pub name: &'static str,
    /// As `client-id`, in Kafka's order.
    pub tags: Vec<(&'static str, String)>,
    /// The value; `NaN` where there was nothing to measure.
    pub value: f64,
}

/// A number of measurements: how many, their sum, the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    count: u64,
    sum: f64,
    max: f64,
}

impl Measured {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.max = if self.count == 0 {
            value
        } else {
            self.max.max(value)
        };
        self.count += 1;
        self.sum += value;
    }

    /// How many there were.
    pub fn count(&self) -> f64 {
        self.count as f64
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Their average.
    pub fn average(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.max }
    }
}

/// What goes over a client's connections.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    request_bytes_max: AtomicU64,
    bytes_out: AtomicU64,
    responses: AtomicU64,
    bytes_in: AtomicU64,
}

impl Traffic {
    /// A connection came about.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was written.
    pub fn sent(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.request_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    /// An answer was read.
    pub fn received(&self, bytes: usize) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Rows of one client.
pub struct Rows {
    client_id: String,
    seconds: f64,
    rows: Vec<Metric>,
}

impl Rows {
    /// Rows of a client that has lived for so long.
    pub fn new(client_id: &str, age_ms: i64) -> Rows {
        Rows {
            client_id: client_id.to_owned(),
            seconds: age_ms.max(1) as f64 / 1_000.0,
            rows: Vec::new(),
        }
    }

    /// Adds a row, for a topic if one is named.
    pub fn value(
        &mut self,
        group: &'static str,
        name: &'static str,
        topic: Option<&str>,
        value: f64,
    ) {
        let mut tags = vec![("client-id", self.client_id.clone())];
        tags.extend(topic.map(|topic| ("topic", topic.to_owned())));
        self.rows.push(Metric {
            group,
            name,
            tags,
            value,
        });
    }

    /// Adds a total and its rate.
    pub fn total(
        &mut self,
        group: &'static str,
        [rate, total]: [&'static str; 2],
        topic: Option<&str>,
        value: f64,
    ) {
        self.value(group, rate, topic, value / self.seconds);
        self.value(group, total, topic, value);
    }

    /// Adds an average and a maximum.
    pub fn measured(
        &mut self,
        group: &'static str,
        [average, max]: [&'static str; 2],
        topic: Option<&str>,
        measured: &Measured,
    ) {
        self.value(group, average, topic, measured.average());
        self.value(group, max, topic, measured.max());
    }

    /// Adds what went over the connections.
    pub fn traffic(&mut self, group: &'static str, traffic: &Traffic) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let (opened, closed) = (read(&traffic.opened), read(&traffic.closed));
        let (requests, out) = (read(&traffic.requests), read(&traffic.bytes_out));
        let rows: [([&'static str; 2], f64); 6] = [
            (
                ["connection-creation-rate", "connection-creation-total"],
                opened,
            ),
            (["connection-close-rate", "connection-close-total"], closed),
            (["request-rate", "request-total"], requests),
            (["outgoing-byte-rate", "outgoing-byte-total"], out),
            (
                ["response-rate", "response-total"],
                read(&traffic.responses),
            ),
            (
                ["incoming-byte-rate", "incoming-byte-total"],
                read(&traffic.bytes_in),
            ),
        ];
        for (names, value) in rows {
            self.total(group, names, None, value);
        }
        self.value(group, "connection-count", None, opened - closed);
        self.value(group, "request-size-avg", None, out / requests);
        let max = read(&traffic.request_bytes_max);
        self.value(group, "request-size-max", None, max);
    }

    /// All rows, and how many there are.
    pub fn finish(mut self) -> Vec<Metric> {
        let count = self.rows.len() + 1;
        self.value("kafka-metrics-count", "count", None, count as f64);
        self.rows
    }
}

/// What a producer counts of one topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicSent {
    records: u64,
    bytes: u64,
    failed: u64,
    repeated: u64,
}

/// Names of a rate and a total, and what they count.
type Part = ([&'static str; 2], fn(&TopicSent) -> u64);

/// What a producer counts.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    topics: BTreeMap<String, TopicSent>,
    batches: Measured,
    per_request: Measured,
    latency_ms: Measured,
}

impl Produced {
    /// A batch is sent for the first time.
    pub fn batch(&mut self, topic: &str, records: usize, bytes: usize) {
        self.batches.add(bytes as f64);
        let topic = self.topics.entry(topic.to_owned()).or_default();
        topic.records += records as u64;
        topic.bytes += bytes as u64;
    }

    /// A batch will be sent once more.
    pub fn repeated(&mut self, topic: &str, records: usize) {
        self.topics.entry(topic.to_owned()).or_default().repeated += records as u64;
    }

    /// Records were given up.
    pub fn failed(&mut self, topic: &str, records: usize) {
        self.topics.entry(topic.to_owned()).or_default().failed += records as u64;
    }

    /// A request with so many records was answered.
    pub fn answered(&mut self, records: usize, ms: f64) {
        self.per_request.add(records as f64);
        self.latency_ms.add(ms);
    }

    /// As rows.
    pub fn rows(&self, rows: &mut Rows) {
        const GROUP: &str = "producer-metrics";
        let sum = |part: fn(&TopicSent) -> u64| self.topics.values().map(part).sum::<u64>() as f64;
        let batches = ["batch-size-avg", "batch-size-max"];
        rows.measured(GROUP, batches, None, &self.batches);
        let latency = ["request-latency-avg", "request-latency-max"];
        rows.measured(GROUP, latency, None, &self.latency_ms);
        let per_request = self.per_request.average();
        rows.value(GROUP, "records-per-request-avg", None, per_request);
        let parts: [Part; 3] = [
            (["record-send-rate", "record-send-total"], |t| t.records),
            (["record-error-rate", "record-error-total"], |t| t.failed),
            (["record-retry-rate", "record-retry-total"], |t| t.repeated),
        ];
        for (names, part) in parts {
            rows.total(GROUP, names, None, sum(part));
        }
        const TOPIC: &str = "producer-topic-metrics";
        for (topic, sent) in &self.topics {
            for (names, part) in parts {
                rows.total(TOPIC, names, Some(topic), part(sent) as f64);
            }
            let bytes = ["byte-rate", "byte-total"];
            rows.total(TOPIC, bytes, Some(topic), sent.bytes as f64);
        }
    }
}

/// What a consumer counts.
#[derive(Clone, Debug, Default)]
pub struct Consumed {
    topics: BTreeMap<String, (u64, u64)>,
    sizes: Measured,
    records: Measured,
    latency_ms: Measured,
}

impl Consumed {
    /// A fetch was answered with so many bytes of records.
    pub fn fetched(&mut self, bytes: usize, records: usize, ms: f64) {
        self.sizes.add(bytes as f64);
        self.records.add(records as f64);
        self.latency_ms.add(ms);
    }

    /// Records of a topic were handed out.
    pub fn handed_out(&mut self, topic: &str, bytes: usize, records: usize) {
        let counts = match self.topics.get_mut(topic) {
            Some(counts) => counts,
            None => self.topics.entry(topic.to_owned()).or_default(),
        };
        counts.0 += bytes as u64;
        counts.1 += records as u64;
    }

    /// As rows.
    pub fn rows(&self, rows: &mut Rows) {
        const GROUP: &str = "consumer-fetch-manager-metrics";
        let latency = ["fetch-latency-avg", "fetch-latency-max"];
        rows.measured(GROUP, latency, None, &self.latency_ms);
        let sizes = ["fetch-size-avg", "fetch-size-max"];
        rows.measured(GROUP, sizes, None, &self.sizes);
        rows.total(
            GROUP,
            ["fetch-rate", "fetch-total"],
            None,
            self.sizes.count(),
        );
        rows.value(
            GROUP,
            "records-per-request-avg",
            None,
            self.records.average(),
        );
        let bytes = ["bytes-consumed-rate", "bytes-consumed-total"];
        let records = ["records-consumed-rate", "records-consumed-total"];
        let sum = |part: fn(&(u64, u64)) -> u64| self.topics.values().map(part).sum::<u64>() as f64;
        rows.total(GROUP, bytes, None, sum(|counts| counts.0));
        rows.total(GROUP, records, None, sum(|counts| counts.1));
        for (topic, counts) in &self.topics {
            rows.total(GROUP, bytes, Some(topic), counts.0 as f64);
            rows.total(GROUP, records, Some(topic), counts.1 as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_rows_under_kafkas_names() {
        let mut produced = Produced::default();
        produced.batch("t", 3, 300);
        produced.batch("t", 1, 100);
        produced.failed("t", 1);
        produced.answered(4, 5.0);
        let mut rows = Rows::new("c", 2_000);
        produced.rows(&mut rows);
        rows.traffic("producer-metrics", &Traffic::default());
        let rows = rows.finish();
        let value = |group: &str, name: &str| {
            let found = rows
                .iter()
                .find(|row| row.group == group && row.name == name);
            found.map(|row| row.value)
        };
        let expected = [
            ("producer-metrics", "record-send-total", 4.0),
            ("producer-metrics", "record-send-rate", 2.0),
            ("producer-metrics", "record-error-total", 1.0),
            ("producer-metrics", "batch-size-avg", 200.0),
            ("producer-metrics", "batch-size-max", 300.0),
            ("producer-topic-metrics", "byte-total", 400.0),
            ("producer-metrics", "connection-count", 0.0),
            ("kafka-metrics-count", "count", rows.len() as f64),
        ];
        for (group, name, expected) in expected {
            assert_eq!(value(group, name), Some(expected), "{group}:{name}");
        }
        assert!(Measured::default().max().is_nan());
    }
}
