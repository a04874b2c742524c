//! What a consumer counts of its fetches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Measured, Of, Rows};
use crate::common::ids::TopicPartition;

const GROUP: &str = "consumer-fetch-manager-metrics";

/// What a consumer counts of one topic.
#[derive(Clone, Copy, Debug, Default)]
struct TopicRead {
    bytes: u64,
    records: u64,
    sizes: Measured,
    per_fetch: Measured,
}

/// How far reading one partition is from its ends.
#[derive(Clone, Copy, Debug, Default)]
struct Distance {
    lag: Measured,
    lead: Measured,
}

/// What one fetch brought: bytes and records of every topic that was answered for.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// By topic.
    pub topics: BTreeMap<Arc<str>, (usize, usize)>,
    /// How long the answer took.
    pub ms: f64,
    /// For how long the broker asks to be left alone.
    pub throttled_ms: i32,
}

/// What a consumer counts of its fetches.
#[derive(Clone, Debug, Default)]
pub struct Consumed {
    topics: BTreeMap<Arc<str>, TopicRead>,
    partitions: BTreeMap<TopicPartition, Distance>,
    sizes: Measured,
    records: Measured,
    latency_ms: Measured,
    throttled_ms: Measured,
    lag_max: Measured,
    lead_min: Measured,
}

impl Consumed {
    /// A partition is read from now on.
    pub fn begun(&mut self, partition: &TopicPartition) {
        self.partitions.entry(partition.clone()).or_default();
    }

    /// A partition is read no more.
    pub fn forgotten(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }

    /// A fetch was answered.
    pub fn fetched(&mut self, fetched: &Fetched) {
        let mut sum = (0, 0);
        for (name, (bytes, records)) in &fetched.topics {
            let topic = self.topics.entry(name.clone()).or_default();
            topic.sizes.add(*bytes as f64);
            topic.per_fetch.add(*records as f64);
            sum = (sum.0 + bytes, sum.1 + records);
        }
        self.sizes.add(sum.0 as f64);
        self.records.add(sum.1 as f64);
        self.latency_ms.add(fetched.ms);
        self.throttled_ms.add(f64::from(fetched.throttled_ms));
    }

    /// Records of a partition were handed out.
    pub fn handed_out(&mut self, partition: &TopicPartition, (bytes, records): (usize, usize)) {
        let topic = match self.topics.get_mut(&partition.topic) {
            Some(topic) => topic,
            None => self.topics.entry(partition.topic.clone()).or_default(),
        };
        topic.bytes += bytes as u64;
        topic.records += records as u64;
    }

    /// Reading a partition has come so near to its end and so far from its beginning, if these are known.
    pub fn stands(&mut self, partition: &TopicPartition, (lag, lead): (Option<i64>, Option<i64>)) {
        let Some(distance) = self.partitions.get_mut(partition) else {
            return;
        };
        if let Some(lag) = lag {
            distance.lag.add(lag as f64);
            self.lag_max.add(lag as f64);
        }
        if let Some(lead) = lead {
            distance.lead.add(lead as f64);
            self.lead_min.add(lead as f64);
        }
    }

    /// As rows.
    pub fn rows(&self, rows: &mut Rows) {
        let of = Of::Client;
        let latency = ["fetch-latency-avg", "fetch-latency-max"];
        rows.measured(GROUP, latency, of, &self.latency_ms);
        let throttled = ["fetch-throttle-time-avg", "fetch-throttle-time-max"];
        rows.measured(GROUP, throttled, of, &self.throttled_ms);
        let fetches = self.sizes.count();
        rows.total(GROUP, ["fetch-rate", "fetch-total"], of, fetches);
        rows.value(GROUP, "records-lag-max", of, self.lag_max.max());
        rows.value(GROUP, "records-lead-min", of, self.lead_min.min());
        let mut all = TopicRead {
            sizes: self.sizes,
            per_fetch: self.records,
            ..TopicRead::default()
        };
        for (name, topic) in &self.topics {
            topic.rows(rows, Of::Topic(&name.replace('.', "_")));
            all.bytes += topic.bytes;
            all.records += topic.records;
        }
        all.rows(rows, of);
        for (partition, distance) in &self.partitions {
            distance.rows(rows, Of::Partition(partition));
        }
    }
}

impl TopicRead {
    fn rows(&self, rows: &mut Rows, of: Of<'_>) {
        let sizes = ["fetch-size-avg", "fetch-size-max"];
        rows.measured(GROUP, sizes, of, &self.sizes);
        let per_fetch = self.per_fetch.average();
        rows.value(GROUP, "records-per-request-avg", of, per_fetch);
        let bytes = ["bytes-consumed-rate", "bytes-consumed-total"];
        rows.total(GROUP, bytes, of, self.bytes as f64);
        let records = ["records-consumed-rate", "records-consumed-total"];
        rows.total(GROUP, records, of, self.records as f64);
    }
}

impl Distance {
    fn rows(&self, rows: &mut Rows, of: Of<'_>) {
        // Always the leader.
        rows.text(GROUP, "preferred-read-replica", of, "-1".to_owned());
        if self.lag.count() > 0.0 {
            rows.value(GROUP, "records-lag", of, self.lag.last());
            rows.measured(GROUP, ["records-lag-avg", "records-lag-max"], of, &self.lag);
        }
        if self.lead.count() > 0.0 {
            rows.value(GROUP, "records-lead", of, self.lead.last());
            rows.value(GROUP, "records-lead-avg", of, self.lead.average());
            rows.value(GROUP, "records-lead-min", of, self.lead.min());
        }
    }
}
