//! What DescribeConfigs tells about a broker and a topic: value, source, and the chain of synonyms.
//!
//! Pure. Order as in `kafka.server.AdminManager`: topic, this broker's dynamic value, the cluster's
//! dynamic value, the configuration at start, the default.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::config::keys::{self, Dynamic, Key, TopicConfig};
use crate::config::raw;
use crate::config::value::Kind;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Said for this topic.
    DynamicTopic = 1,
    /// Said for this broker while the cluster runs.
    DynamicBroker = 2,
    /// Said for all brokers while the cluster runs.
    DynamicDefaultBroker = 3,
    /// Said in this broker's configuration.
    StaticBroker = 4,
    /// Said by nobody.
    Default = 5,
}

/// One step of the chain that leads to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The setting's name at this step.
    pub name: String,
    /// Its value there; `None` where it is sensitive.
    pub value: Option<String>,
    /// Who says it.
    pub source: ConfigSource,
}

/// One setting as DescribeConfigs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: &'static str,
    /// The value in force; `None` is null, or sensitive.
    pub value: Option<String>,
    /// Who says it.
    pub source: ConfigSource,
    /// Can it not be altered?
    pub read_only: bool,
    /// Is it never shown?
    pub sensitive: bool,
    /// Its type.
    pub kind: Kind,
    /// One sentence.
    pub documentation: &'static str,
    /// The chain, strongest first.
    pub synonyms: Vec<Synonym>,
}

/// Dynamic broker settings, as the znodes under `/config/brokers` hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicConfig {
    /// `/config/brokers/<id>`.
    pub broker: BTreeMap<String, String>,
    /// `/config/brokers/<default>`.
    pub cluster: BTreeMap<String, String>,
}

/// Settings that Kafka 2.8.0 does not have, or has but does not describe. Its clients see them once they
/// are said.
const UNSEEN: &[&str] = &[
    "allow.everyone.if.no.acl.found",
    "controller.quorum.bootstrap.servers",
    "follower.replication.throttled.rate",
    "group.consumer.assignors",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.session.timeout.ms",
    "group.coordinator.rebalance.protocols",
    "leader.replication.throttled.rate",
    "log.dir.failure.timeout.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "max.request.partition.size.limit",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "producer.id.expiration.check.interval.ms",
    "producer.id.expiration.ms",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "super.users",
    "transaction.partition.verification.enable",
];

/// All settings of a broker that 2.8.0 has or that somebody said, by name.
pub fn describe_broker(config: &Config, dynamic: &DynamicConfig) -> Vec<ConfigEntry> {
    let said = |name: &str| {
        config.statics.contains_key(name)
            || dynamic.broker.contains_key(name)
            || dynamic.cluster.contains_key(name)
    };
    let mut entries: Vec<ConfigEntry> = keys::broker()
        .filter(|key| !UNSEEN.contains(&key.name) || said(key.name))
        .map(|key| {
            let synonyms = chain(config, dynamic, key.name);
            entry(key, synonyms, broker_value(config, dynamic, key))
        })
        .collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// All settings of a topic that says `overrides`, by name: those of 2.8.0, and what it says itself.
pub fn describe_topic(
    config: &Config,
    dynamic: &DynamicConfig,
    overrides: &BTreeMap<String, String>,
) -> Vec<ConfigEntry> {
    let broker = config.broker.with(&dynamic.cluster).with(&dynamic.broker);
    let topic = TopicConfig::resolve(&broker, overrides);
    let mut entries: Vec<ConfigEntry> = keys::TOPIC
        .iter()
        .filter(|key| !UNSEEN.contains(&key.name) || overrides.contains_key(key.name))
        .map(|key| {
            let own = overrides.get(key.name).map(|text| Synonym {
                name: key.name.to_owned(),
                value: Some(text.clone()),
                source: ConfigSource::DynamicTopic,
            });
            let mut synonyms: Vec<Synonym> = own.into_iter().collect();
            if !key.synonym.is_empty() {
                synonyms.extend(chain(config, dynamic, key.synonym));
            }
            entry(key, synonyms, topic.text(key.name))
        })
        .collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

fn entry(key: &'static Key, synonyms: Vec<Synonym>, value: Option<String>) -> ConfigEntry {
    let sensitive = key.kind == Kind::Password;
    ConfigEntry {
        name: key.name,
        value: value.filter(|_| !sensitive),
        source: synonyms
            .first()
            .map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only: key.dynamic == Dynamic::ReadOnly,
        sensitive,
        kind: key.kind,
        documentation: key.doc,
        synonyms,
    }
}

/// The value in force. Rows without a field are looked up where they were said.
fn broker_value(config: &Config, dynamic: &DynamicConfig, key: &Key) -> Option<String> {
    [&dynamic.broker, &dynamic.cluster]
        .into_iter()
        .filter(|_| key.dynamic != Dynamic::ReadOnly)
        .find_map(|said| said.get(key.name))
        .and_then(|text| raw::check(key, text).ok())
        .or_else(|| config.broker.text(key.name))
        .or_else(|| config.statics.get(key.name).cloned())
        .or_else(|| key.default.map(str::to_owned))
}

/// The names that stand for one another, finest unit first.
fn alternatives(name: &'static str) -> Vec<&'static str> {
    const FAMILIES: &[&[&str]] = &[
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        &[
            "log.retention.ms",
            "log.retention.minutes",
            "log.retention.hours",
        ],
    ];
    match FAMILIES.iter().find(|family| family.contains(&name)) {
        // The scheduler's interval is a stand-in for the flush interval, not the other way round.
        Some(_) if name == "log.flush.scheduler.interval.ms" => vec![name],
        Some(family) => family.to_vec(),
        None => vec![name],
    }
}

fn chain(config: &Config, dynamic: &DynamicConfig, name: &'static str) -> Vec<Synonym> {
    let names = alternatives(name);
    let rows: Vec<&'static Key> = names
        .iter()
        .filter_map(|name| keys::broker().find(|key| key.name == *name))
        .collect();
    let mut synonyms = Vec::new();
    let mut add = |source, value: &dyn Fn(&Key) -> Option<String>| {
        for row in &rows {
            if let Some(text) = value(row) {
                synonyms.push(Synonym {
                    name: row.name.to_owned(),
                    value: Some(text).filter(|_| row.kind != Kind::Password),
                    source,
                });
            }
        }
    };
    add(ConfigSource::DynamicBroker, &|row| {
        dynamic.broker.get(row.name).cloned()
    });
    add(ConfigSource::DynamicDefaultBroker, &|row| {
        dynamic.cluster.get(row.name).cloned()
    });
    add(ConfigSource::StaticBroker, &|row| {
        config.statics.get(row.name).cloned()
    });
    add(ConfigSource::Default, &|row| row.default.map(str::to_owned));
    // Kafka drops what comes before the setting's own name, so a coarser unit alone shows no chain.
    synonyms
        .into_iter()
        .skip_while(|synonym| synonym.name != name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::defaults();
        config.broker.log_retention_hours = 1;
        config.broker.message_max_bytes = 9;
        config
            .statics
            .insert("log.retention.hours".into(), "1".into());
        config
            .statics
            .insert("message.max.bytes".into(), "9".into());
        config
    }

    fn show(entries: &[ConfigEntry], name: &str) -> String {
        let entry = entries
            .iter()
            .find(|entry| entry.name == name)
            .expect("described");
        let chain: Vec<_> = entry
            .synonyms
            .iter()
            .map(|s| {
                format!(
                    "{:?}:{}={}",
                    s.source,
                    s.name,
                    s.value.as_deref().unwrap_or("null")
                )
            })
            .collect();
        format!(
            "{} {:?} [{}]",
            entry.value.as_deref().unwrap_or("null"),
            entry.source,
            chain.join(", ")
        )
    }

    #[test]
    fn a_topics_chain_goes_from_the_topic_to_the_default() {
        let overrides = BTreeMap::from([("max.message.bytes".to_owned(), "7".to_owned())]);
        let dynamic = DynamicConfig {
            broker: BTreeMap::from([("message.max.bytes".to_owned(), "8".to_owned())]),
            cluster: BTreeMap::new(),
        };
        let entries = describe_topic(&config(), &dynamic, &overrides);
        assert_eq!(entries.len(), 26);
        assert_eq!(
            show(&entries, "max.message.bytes"),
            "7 DynamicTopic [DynamicTopic:max.message.bytes=7, DynamicBroker:message.max.bytes=8, \
             StaticBroker:message.max.bytes=9, Default:message.max.bytes=1048588]"
        );
        // As the genuine tool prints for a broker that says log.retention.hours only: synonyms={}.
        assert_eq!(show(&entries, "retention.ms"), "3600000 Default []");
        assert_eq!(
            show(&entries, "cleanup.policy"),
            "delete Default [Default:log.cleanup.policy=delete]"
        );
    }

    #[test]
    fn what_kafka_does_not_have_is_shown_once_it_is_said() {
        let mut config = config();
        let names = |entries: Vec<ConfigEntry>| -> Vec<&str> {
            entries.iter().map(|entry| entry.name).collect()
        };
        let nothing = DynamicConfig::default();
        let rate = "leader.replication.throttled.rate";
        let broker = names(describe_broker(&config, &nothing));
        // As many as a 2.8.0 broker describes.
        assert_eq!(broker.len(), 232);
        assert!(!broker.contains(&rate) && !broker.contains(&"group.consumer.max.size"));
        config
            .statics
            .insert("group.consumer.max.size".into(), "5".into());
        let dynamic = DynamicConfig {
            broker: BTreeMap::from([(rate.to_owned(), "8".to_owned())]),
            cluster: BTreeMap::new(),
        };
        let broker = names(describe_broker(&config, &dynamic));
        assert_eq!(broker.len(), 234);
        let before = "message.timestamp.before.max.ms";
        let overrides = BTreeMap::from([(before.to_owned(), "7".to_owned())]);
        let topic = names(describe_topic(&config, &nothing, &overrides));
        assert!(topic.contains(&before) && !topic.contains(&"message.timestamp.after.max.ms"));
    }

    #[test]
    fn a_broker_shows_all_but_its_secrets() {
        let mut config = config();
        config
            .statics
            .insert("ssl.key.password".into(), "s3cret".into());
        let entries = describe_broker(&config, &DynamicConfig::default());
        assert_eq!(
            show(&entries, "message.max.bytes"),
            "9 StaticBroker [StaticBroker:message.max.bytes=9, Default:message.max.bytes=1048588]"
        );
        assert_eq!(
            show(&entries, "ssl.key.password"),
            "null StaticBroker [StaticBroker:ssl.key.password=null]"
        );
        assert_eq!(
            show(&entries, "inter.broker.protocol.version"),
            "2.8-IV1 Default [Default:inter.broker.protocol.version=2.8-IV1]"
        );
        assert!(
            entries
                .iter()
                .any(|entry| entry.name == "num.partitions" && entry.read_only)
        );
        assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
