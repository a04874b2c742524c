//! What a client counts of itself, by the names that Kafka's clients give to the same things.
//!
//! Counting is done where things happen; this folder has the counters and turns them into rows. Every
//! row of Kafka 2.8's clients is there. What has nothing to measure here says so: nobody authenticates
//! with these clients, no batch is ever split, no partition is read from a follower. Rates are over the
//! client's whole life, where Kafka's are over the last half minute.

mod consumed;
mod grouped;
mod produced;
mod wire;

pub use consumed::{Consumed, Fetched};
pub use grouped::Grouped;
pub use produced::{Buffer, Produced, Sent};
pub use wire::{Meter, Timed, Traffic};

use crate::common::ids::TopicPartition;

/// The length of a sample of Kafka's metrics (`metrics.sample.window.ms`); rates cover two.
const SAMPLE_SECONDS: f64 = 30.0;

/// One row: Kafka's group and name, tags, and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// As `producer-metrics`.
    pub group: &'static str,
    /// As `record-send-total`.
    pub name: &'static str,
    /// As `client-id`, in Kafka's order.
    pub tags: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A measurement; `NaN` where there was nothing to measure.
    Number(f64),
    /// Something else.
    Text(String),
}

/// What a row is about, beside the client itself.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// Nothing else.
    Client,
    /// One broker; the bootstrap list counts down from -1.
    Node(i32),
    /// One topic.
    Topic(&'a str),
    /// One partition.
    Partition(&'a TopicPartition),
}

impl Of<'_> {
    fn tags(self) -> Vec<(&'static str, String)> {
        match self {
            Of::Client => Vec::new(),
            Of::Node(id) => vec![("node-id", format!("node-{id}"))],
            Of::Topic(topic) => vec![("topic", topic.to_owned())],
            Of::Partition(of) => vec![
                ("topic", of.topic.replace('.', "_")),
                ("partition", of.partition.to_string()),
            ],
        }
    }
}

/// A number of measurements: how many, their sum, their extremes, the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Measured {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        let first = self.count == 0;
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
        self.last = value;
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

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.if_any(self.min)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.if_any(self.max)
    }

    /// The latest.
    pub fn last(&self) -> f64 {
        self.if_any(self.last)
    }

    fn if_any(&self, value: f64) -> f64 {
        if self.count == 0 { f64::NAN } else { value }
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

    /// What rates divide by. Kafka's cover two samples of 30 s, of which one counts as whole from the start.
    fn window(&self) -> f64 {
        match self.seconds < SAMPLE_SECONDS {
            true => self.seconds + SAMPLE_SECONDS,
            false => self.seconds,
        }
    }

    fn row(&mut self, group: &'static str, name: &'static str, of: Of<'_>, value: Value) {
        let mut tags = vec![("client-id", self.client_id.clone())];
        tags.extend(of.tags());
        self.rows.push(Metric {
            group,
            name,
            tags,
            value,
        });
    }

    /// Adds a row with a number.
    pub fn value(&mut self, group: &'static str, name: &'static str, of: Of<'_>, value: f64) {
        self.row(group, name, of, Value::Number(value));
    }

    /// Adds a row with something else.
    pub fn text(&mut self, group: &'static str, name: &'static str, of: Of<'_>, value: String) {
        self.row(group, name, of, Value::Text(value));
    }

    /// Adds a total and its rate.
    pub fn total(
        &mut self,
        group: &'static str,
        [rate, total]: [&'static str; 2],
        of: Of<'_>,
        value: f64,
    ) {
        self.value(group, rate, of, value / self.window());
        self.value(group, total, of, value);
    }

    /// Adds a total and its rate per hour.
    pub fn total_per_hour(
        &mut self,
        group: &'static str,
        [rate, total]: [&'static str; 2],
        value: f64,
    ) {
        self.value(group, rate, Of::Client, value / self.window() * 3_600.0);
        self.value(group, total, Of::Client, value);
    }

    /// Adds an average and a maximum.
    pub fn measured(
        &mut self,
        group: &'static str,
        [average, max]: [&'static str; 2],
        of: Of<'_>,
        measured: &Measured,
    ) {
        self.value(group, average, of, measured.average());
        self.value(group, max, of, measured.max());
    }

    /// Adds what the client is, and since when it lives.
    pub fn app_info(&mut self, started_wall_ms: i64) {
        // What Kafka's clients say, too, that do not know the commit they were built of.
        let parts = [
            ("commit-id", "unknown".to_owned()),
            ("start-time-ms", started_wall_ms.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        for (name, value) in parts {
            self.text("app-info", name, Of::Client, value);
        }
    }

    /// All rows, and how many there are.
    pub fn finish(mut self) -> Vec<Metric> {
        let count = self.rows.len() + 1;
        self.value("kafka-metrics-count", "count", Of::Client, count as f64);
        self.rows
    }
}

#[cfg(test)]
mod tests;
