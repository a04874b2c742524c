//! What a producer counts.

use std::collections::BTreeMap;

use super::{Measured, Of, Rows};

const GROUP: &str = "producer-metrics";
const TOPIC: &str = "producer-topic-metrics";
const NODE: &str = "producer-node-metrics";

/// What a producer counts of one topic.
#[derive(Clone, Copy, Debug, Default)]
struct TopicSent {
    records: u64,
    bytes: u64,
    failed: u64,
    repeated: u64,
    ratios: Measured,
}

/// Names of a rate and a total, and what they count.
type Part = ([&'static str; 2], fn(&TopicSent) -> u64);

/// A batch that leaves for the first time.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// How many records it has.
    pub records: usize,
    /// How many bytes it has.
    pub bytes: usize,
    /// Its records' bytes, compressed by plain.
    pub ratio: f64,
    /// How long it has waited.
    pub queued_ms: f64,
}

/// A producer's memory for batches.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// All of it.
    pub total: usize,
    /// What is free.
    pub available: usize,
    /// Who waits for some now.
    pub waiting: usize,
}

/// What a producer counts.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    topics: BTreeMap<String, TopicSent>,
    /// Per broker, as records are answered by leaders only.
    latency_ms: BTreeMap<i32, Measured>,
    latency_ms_all: Measured,
    batches: Measured,
    ratios: Measured,
    queued_ms: Measured,
    record_bytes: Measured,
    per_request: Measured,
    throttled_ms: Measured,
    exhausted: u64,
    waited_us: i64,
}

impl Produced {
    /// A record was taken in, which is so large at most.
    pub fn appended(&mut self, bytes: usize) {
        self.record_bytes.add(bytes as f64);
    }

    /// Somebody has waited so long for memory.
    pub fn waited(&mut self, us: i64) {
        self.waited_us += us;
    }

    /// Somebody has waited for memory in vain.
    pub fn exhausted(&mut self) {
        self.exhausted += 1;
    }

    /// A batch is sent for the first time.
    pub fn sent(&mut self, batch: &Sent<'_>) {
        self.batches.add(batch.bytes as f64);
        self.ratios.add(batch.ratio);
        self.queued_ms.add(batch.queued_ms);
        let topic = self.topics.entry(batch.topic.to_owned()).or_default();
        topic.records += batch.records as u64;
        topic.bytes += batch.bytes as u64;
        topic.ratios.add(batch.ratio);
    }

    /// A request with so many records is sent.
    pub fn requested(&mut self, records: usize) {
        self.per_request.add(records as f64);
    }

    /// A batch will be sent once more.
    pub fn repeated(&mut self, topic: &str, records: usize) {
        self.topics.entry(topic.to_owned()).or_default().repeated += records as u64;
    }

    /// Records were given up.
    pub fn failed(&mut self, topic: &str, records: usize) {
        self.topics.entry(topic.to_owned()).or_default().failed += records as u64;
    }

    /// A broker has answered a request after so long, and asks to be left alone for so long.
    pub fn answered(&mut self, node: i32, ms: f64, throttled_ms: i32) {
        self.latency_ms_all.add(ms);
        self.latency_ms.entry(node).or_default().add(ms);
        self.throttled_ms.add(f64::from(throttled_ms));
    }

    /// As rows, for the brokers that there was any traffic with.
    pub fn rows(&self, rows: &mut Rows, buffer: &Buffer, nodes: &[i32]) {
        let of = Of::Client;
        let latency = ["request-latency-avg", "request-latency-max"];
        for node in nodes {
            let ms = self.latency_ms.get(node).copied().unwrap_or_default();
            rows.measured(NODE, latency, Of::Node(*node), &ms);
        }
        let measured = [
            (latency, &self.latency_ms_all),
            (["batch-size-avg", "batch-size-max"], &self.batches),
            (["record-size-avg", "record-size-max"], &self.record_bytes),
            (
                ["record-queue-time-avg", "record-queue-time-max"],
                &self.queued_ms,
            ),
            (
                ["produce-throttle-time-avg", "produce-throttle-time-max"],
                &self.throttled_ms,
            ),
        ];
        for (names, measured) in measured {
            rows.measured(GROUP, names, of, measured);
        }
        let averages = [
            ("records-per-request-avg", &self.per_request),
            ("compression-rate-avg", &self.ratios),
        ];
        for (name, measured) in averages {
            rows.value(GROUP, name, of, measured.average());
        }
        // Batches are never split here: one that is too large is given up.
        rows.total(GROUP, ["batch-split-rate", "batch-split-total"], of, 0.0);
        self.memory(rows, buffer);
        self.topics(rows);
    }

    fn memory(&self, rows: &mut Rows, buffer: &Buffer) {
        let of = Of::Client;
        let exhausted = ["buffer-exhausted-rate", "buffer-exhausted-total"];
        rows.total(GROUP, exhausted, of, self.exhausted as f64);
        let ns = self.waited_us as f64 * 1_000.0;
        rows.value(GROUP, "bufferpool-wait-time-total", of, ns);
        let ratio = ns / 1e9 / rows.seconds;
        rows.value(GROUP, "bufferpool-wait-ratio", of, ratio);
        let sizes = [
            ("buffer-total-bytes", buffer.total),
            ("buffer-available-bytes", buffer.available),
            ("waiting-threads", buffer.waiting),
        ];
        for (name, value) in sizes {
            rows.value(GROUP, name, of, value as f64);
        }
    }

    fn topics(&self, rows: &mut Rows) {
        let sum = |part: fn(&TopicSent) -> u64| self.topics.values().map(part).sum::<u64>() as f64;
        let parts: [Part; 3] = [
            (["record-send-rate", "record-send-total"], |t| t.records),
            (["record-error-rate", "record-error-total"], |t| t.failed),
            (["record-retry-rate", "record-retry-total"], |t| t.repeated),
        ];
        for (names, part) in parts {
            rows.total(GROUP, names, Of::Client, sum(part));
        }
        for (topic, sent) in &self.topics {
            let of = Of::Topic(topic);
            for (names, part) in parts {
                rows.total(TOPIC, names, of, part(sent) as f64);
            }
            rows.total(TOPIC, ["byte-rate", "byte-total"], of, sent.bytes as f64);
            rows.value(TOPIC, "compression-rate", of, sent.ratios.average());
        }
    }
}
