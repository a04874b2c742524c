//! Topic-level settings: a topic's own values over the broker's, and Kafka's words about bad ones.
//!
//! Pure. What a topic says lives in its znode as text; this turns it into a typed [`TopicConfig`].

use std::collections::BTreeMap;

pub use crate::config::keys::TopicConfig;
use crate::config::keys::{BrokerConfig, Key, TOPIC};
use crate::config::raw;

/// Why a topic may not say something. Both have Kafka's sentence; Kafka answers them differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A name that no setting has, or two settings that contradict one another
    /// (`InvalidConfigurationException`).
    #[error("{0}")]
    Settings(String),
    /// A value that its setting cannot have (`ConfigException`).
    #[error("{0}")]
    Value(String),
}

impl TopicConfig {
    /// The settings in force for a topic. Overrides that are unknown or bad (a stranger wrote them)
    /// are passed over, so this never fails; [`TopicConfig::validate`] is for requests.
    pub fn resolve(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> TopicConfig {
        TopicConfig::take(|key| {
            overrides
                .get(key.name)
                .and_then(|text| raw::check(key, text).ok())
                .or_else(|| broker_default(broker, key))
        })
    }

    /// Checks what somebody wants a topic to say: all names, all values, then what they are together.
    pub fn validate(overrides: &BTreeMap<String, String>) -> Result<(), Fault> {
        let unknown = |name: &String| Fault::Settings(format!("Unknown topic config name: {name}"));
        let keys: Vec<_> = overrides
            .iter()
            .map(|(name, text)| Ok((key(name).ok_or_else(|| unknown(name))?, text)))
            .collect::<Result<_, _>>()?;
        for (key, text) in keys {
            raw::check(key, text).map_err(Fault::Value)?;
        }
        let lag = |name: &str| {
            overrides
                .get(name)
                .and_then(|text| text.trim().parse().ok())
        };
        let min: i64 = lag("min.compaction.lag.ms").unwrap_or(0);
        let max: i64 = lag("max.compaction.lag.ms").unwrap_or(i64::MAX);
        if min > max {
            return Err(Fault::Settings(format!(
                "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            )));
        }
        Ok(())
    }

    /// Is the topic compacted?
    pub fn compacts(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "compact")
    }

    /// Are old segments deleted?
    pub fn deletes(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "delete")
    }
}

/// The row of a topic setting.
pub fn key(name: &str) -> Option<&'static Key> {
    TOPIC.iter().find(|key| key.name == name)
}

/// What the broker says for topics that say nothing, as text.
pub fn broker_default(broker: &BrokerConfig, key: &Key) -> Option<String> {
    match key.name {
        "retention.ms" => Some(broker.log_retention_time_millis().to_string()),
        "segment.ms" => Some(broker.log_roll_time_millis().to_string()),
        "segment.jitter.ms" => Some(broker.log_roll_jitter_millis().to_string()),
        "flush.ms" => Some(broker.log_flush_millis().to_string()),
        _ => broker
            .text(key.synonym)
            .or_else(|| key.default.map(str::to_owned)),
    }
}

/// Settings that Kafka says in several units: the finest one that is said wins.
impl BrokerConfig {
    /// `log.retention.ms`, `.minutes` or `.hours`; -1 keeps everything.
    pub fn log_retention_time_millis(&self) -> i64 {
        let millis = self
            .log_retention_ms
            .or(self.log_retention_minutes.map(|n| i64::from(n) * 60_000))
            .unwrap_or(i64::from(self.log_retention_hours) * 3_600_000);
        millis.max(-1)
    }

    /// `log.roll.ms` or `.hours`.
    pub fn log_roll_time_millis(&self) -> i64 {
        self.log_roll_ms
            .unwrap_or(i64::from(self.log_roll_hours) * 3_600_000)
    }

    /// `log.roll.jitter.ms` or `.hours`.
    pub fn log_roll_jitter_millis(&self) -> i64 {
        self.log_roll_jitter_ms
            .unwrap_or(i64::from(self.log_roll_jitter_hours) * 3_600_000)
    }

    /// `log.flush.interval.ms` or `log.flush.scheduler.interval.ms`.
    pub fn log_flush_millis(&self) -> i64 {
        self.log_flush_interval_ms
            .unwrap_or(self.log_flush_scheduler_interval_ms)
    }

    /// A topic that says `compression.type=producer` keeps what producers send; the same for all brokers.
    pub fn topic_defaults(&self) -> TopicConfig {
        TopicConfig::resolve(self, &BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Values;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_topic_says_more_than_its_broker_and_a_stranger_nothing() {
        let mut broker = BrokerConfig::take(&mut Values::default());
        broker.log_retention_hours = 1;
        broker.log_retention_minutes = Some(2);
        broker.message_max_bytes = 77;
        broker.log_roll_hours = 3;
        let topic = TopicConfig::resolve(
            &broker,
            &overrides(&[
                ("segment.bytes", " 2000 "),
                ("cleanup.policy", "compact,delete"),
                ("min.insync.replicas", "zero"),
                ("no.such.thing", "1"),
            ]),
        );
        assert_eq!(topic.retention_ms, 120_000);
        assert_eq!(topic.segment_ms, 3 * 3_600_000);
        assert_eq!(topic.flush_ms, i64::MAX);
        assert_eq!(topic.max_message_bytes, 77);
        assert_eq!(topic.segment_bytes, 2000);
        assert_eq!(topic.min_insync_replicas, 1);
        assert!(topic.compacts() && topic.deletes());
    }

    #[test]
    fn bad_overrides_get_kafkas_sentences() {
        let check = |name: &str, value: &str, expected: &str| {
            let fault = TopicConfig::validate(&overrides(&[(name, value)])).unwrap_err();
            assert_eq!(fault.to_string(), expected);
            assert_eq!(matches!(fault, Fault::Settings(_)), name == "foo", "{name}");
        };
        check("foo", "1", "Unknown topic config name: foo");
        check(
            "retention.ms",
            "x",
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        );
        check(
            "segment.bytes",
            "3",
            "Invalid value 3 for configuration segment.bytes: Value must be at least 14",
        );
        check(
            "cleanup.policy",
            "delete,foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        );
        check(
            "compression.type",
            "rar",
            "Invalid value rar for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        );
        check(
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        );
        check(
            "leader.replication.throttled.replicas",
            "x",
            "Invalid value [x] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the \
             following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        );
        check(
            "message.format.version",
            "9.9",
            "Invalid value 9.9 for configuration message.format.version: Version `9.9` is not a valid version",
        );
        check(
            "preallocate",
            "maybe",
            "Invalid value maybe for configuration preallocate: Expected value to be either true or false",
        );
        assert!(
            TopicConfig::validate(&overrides(&[
                ("min.compaction.lag.ms", "5"),
                ("max.compaction.lag.ms", "4")
            ]))
            .is_err()
        );
        assert_eq!(
            TopicConfig::validate(&overrides(&[("retention.ms", "-1")])),
            Ok(())
        );
        assert_eq!(
            TopicConfig::validate(&overrides(&[(
                "leader.replication.throttled.replicas",
                "0:1,1:2"
            )])),
            Ok(())
        );
    }

    #[test]
    fn the_table_and_the_brokers_defaults_agree() {
        let broker = BrokerConfig::take(&mut Values::default());
        let topic = broker.topic_defaults();
        for key in TOPIC {
            assert_eq!(
                topic.text(key.name).as_deref(),
                key.default,
                "{} and its broker setting differ",
                key.name
            );
        }
    }
}
