//! Altering settings of topics and brokers: checked, merged with what is there, written with Kafka's
//! notification beside it. The image brings them back to every broker.

use std::collections::BTreeMap;
use std::fmt;

use kafka_protocol::error::ResponseError;

use super::{ATTEMPTS_MAX, Cluster, Refusal, warn_of_compaction};
use crate::broker::image::znode;
use crate::client::zookeeper::{Error, Mode, Op};
use crate::common::ids::{BrokerId, valid_topic_name};
use crate::config::keys::{self, Dynamic, Key};
use crate::config::topic::Fault;
use crate::config::value::Kind;
use crate::config::{TopicConfig, raw, topic};
use crate::zookeeper::error::ErrorCode;

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// A topic's own.
    Topic(String),
    /// One broker's, or with none those of all brokers.
    Broker(Option<BrokerId>),
}

/// What shall become of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// It gets this value.
    Set(String),
    /// It is said no more.
    Delete,
    /// A list gets these items, too.
    Append(String),
    /// A list loses these items.
    Subtract(String),
}

/// Resource types of the Kafka protocol.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// The code's own sentence, which Kafka spells out here.
const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.";
const NO_LOGGERS: &str = "Log levels of a running broker are not offered; say them at the start.";

impl Entity {
    /// Reads a resource that the broker `own` shall describe. Brokers answer for themselves alone; the
    /// empty name is all of them.
    pub fn described(kind: i8, name: &str, own: BrokerId) -> Result<Entity, Refusal> {
        match kind {
            TOPIC => match valid_topic_name(name) {
                Ok(()) => Ok(Entity::Topic(name.to_owned())),
                Err(reason) => {
                    let error = ResponseError::InvalidTopicException;
                    Err(Refusal::because(error, reason))
                }
            },
            BROKER if name.is_empty() => Ok(Entity::Broker(None)),
            BROKER => own_id(name, own, " or empty string,").map(|id| Entity::Broker(Some(id))),
            BROKER_LOGGER if name.is_empty() => Err(refuse("Broker id must not be empty")),
            BROKER_LOGGER => own_id(name, own, "").and(Err(refuse(NO_LOGGERS))),
            _ => Err(refuse(MALFORMED)),
        }
    }

    /// Reads a resource that the broker `own` shall alter. Any name may be a topic's: what does not exist
    /// is not altered.
    pub fn altered(kind: i8, name: &str, own: BrokerId) -> Result<Entity, Refusal> {
        match kind {
            TOPIC => Ok(Entity::Topic(name.to_owned())),
            BROKER if name.is_empty() => Ok(Entity::Broker(None)),
            BROKER => own_id(name, own, ",").map(|id| Entity::Broker(Some(id))),
            BROKER_LOGGER => own_id(name, own, ",").and(Err(refuse(NO_LOGGERS))),
            _ => Err(refuse("Unexpected resource type UNKNOWN")),
        }
    }

    fn path(&self) -> String {
        match self {
            Entity::Topic(name) => znode::topic_config_path(name),
            Entity::Broker(id) => znode::broker_config_path(*id),
        }
    }

    /// As in notifications of changes.
    fn entity_path(&self) -> String {
        match self {
            Entity::Topic(name) => format!("topics/{name}"),
            Entity::Broker(Some(id)) => format!("brokers/{id}"),
            Entity::Broker(None) => format!("brokers/{}", znode::DEFAULT_ENTITY),
        }
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        match self {
            Entity::Topic(_) => topic::key(name),
            Entity::Broker(_) => keys::broker().find(|key| key.name == name),
        }
    }
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::because(ResponseError::InvalidRequest, message)
}

/// A broker's name, if it is this one's. What goes on behind the expected id is not the same everywhere.
fn own_id(name: &str, own: BrokerId, or: &str) -> Result<BrokerId, Refusal> {
    match name.parse::<i32>() {
        Ok(id) if id == own.0 => Ok(own),
        Ok(_) => Err(refuse(format!(
            "Unexpected broker id, expected {own}{or} but received {name}"
        ))),
        Err(_) => Err(refuse(format!(
            "Broker id must be an integer, but it is: {name}"
        ))),
    }
}

impl Cluster {
    /// Changes settings one by one (`replace` false), or replaces all of them by those that are set.
    pub async fn alter_config(
        &self,
        entity: &Entity,
        alterations: &BTreeMap<String, Alteration>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        if let Entity::Topic(name) = entity
            && !self.image.load().topics.contains_key(name.as_str())
        {
            let message = format!("The topic '{name}' does not exist.");
            return Err(Refusal::because(
                ResponseError::UnknownTopicOrPartition,
                message,
            ));
        }
        for _ in 0..ATTEMPTS_MAX {
            let (before, version) = self.config_now(entity).await?;
            let base = if replace {
                BTreeMap::new()
            } else {
                before.clone()
            };
            let after = merge(entity, base, alterations, |key| {
                self.list_default(entity, key)
            })?;
            check(entity, &before, &after)?;
            if validate_only {
                return Ok(());
            }
            match self.write_config(entity, &after, version).await {
                Ok(()) => {
                    if let Entity::Topic(name) = entity
                        && alterations.contains_key("cleanup.policy")
                    {
                        warn_of_compaction(name, &after);
                    }
                    self.settle().await;
                    return Ok(());
                }
                Err(Error::Code(ErrorCode::BadVersion | ErrorCode::NodeExists)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ResponseError::RequestTimedOut.into())
    }

    /// What is written now; no version where nothing was ever written. Nonsense counts as nothing.
    async fn config_now(
        &self,
        entity: &Entity,
    ) -> Result<(BTreeMap<String, String>, Option<i32>), Refusal> {
        match self.zookeeper.get(&entity.path()).await {
            Ok((data, stat)) => {
                let config = znode::decode_config(&data).unwrap_or_default();
                Ok((config, Some(stat.version)))
            }
            Err(error) if error.is(ErrorCode::NoNode) => Ok((BTreeMap::new(), None)),
            Err(error) => Err(error.into()),
        }
    }

    async fn write_config(
        &self,
        entity: &Entity,
        config: &BTreeMap<String, String>,
        version: Option<i32>,
    ) -> Result<(), Error> {
        let path = entity.path();
        let data = znode::encode_config(config);
        let write = match version {
            Some(version) => Op::Set {
                path,
                data,
                version,
            },
            None => Op::Create {
                path,
                data: Some(data),
                mode: Mode::Persistent,
            },
        };
        let notify = Op::Create {
            path: znode::CONFIG_CHANGE.to_owned(),
            data: Some(znode::encode_config_change(&entity.entity_path())),
            mode: Mode::Sequential,
        };
        let written = self.zookeeper.multi(vec![write, notify]).await;
        written.map(|_| ()).map_err(|refused| refused.error)
    }

    /// The list that an append starts from, where nothing was said yet.
    fn list_default(&self, entity: &Entity, key: &Key) -> String {
        let text = match entity {
            Entity::Topic(_) => topic::broker_default(&self.config.broker, key),
            Entity::Broker(_) => self.config.broker.text(key.name),
        };
        text.or_else(|| key.default.map(str::to_owned))
            .unwrap_or_default()
    }
}

/// A value that cannot be: Kafka says whose it would have been.
fn bad_value(entity: &Entity, message: impl fmt::Display) -> Refusal {
    let (kind, name) = match entity {
        Entity::Topic(name) => ("TOPIC", name.clone()),
        Entity::Broker(id) => ("BROKER", id.map(|id| id.to_string()).unwrap_or_default()),
    };
    refuse(format!(
        "Invalid config value for resource ConfigResource(type={kind}, name='{name}'): {message}"
    ))
}

fn merge(
    entity: &Entity,
    mut config: BTreeMap<String, String>,
    alterations: &BTreeMap<String, Alteration>,
    default: impl Fn(&Key) -> String,
) -> Result<BTreeMap<String, String>, Refusal> {
    for (name, alteration) in alterations {
        let list = |verb: &str| {
            let key = entity.key(name).filter(|key| key.kind == Kind::List);
            key.ok_or_else(|| {
                let message = format!("Config value {verb} is not allowed for config key: {name}");
                Refusal::because(ResponseError::InvalidRequest, message)
            })
        };
        let items = |key: &Key, config: &BTreeMap<String, String>| -> Vec<String> {
            let text = config.get(name).cloned().unwrap_or_else(|| default(key));
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        match alteration {
            Alteration::Set(value) => {
                config.insert(name.clone(), value.clone());
            }
            Alteration::Delete => {
                config.remove(name);
            }
            Alteration::Append(value) => {
                let mut list = items(list("append")?, &config);
                let added = value.split(',').map(str::trim);
                let added: Vec<_> = added
                    .filter(|item| !item.is_empty() && !list.iter().any(|have| have == item))
                    .map(str::to_owned)
                    .collect();
                list.extend(added);
                config.insert(name.clone(), list.join(","));
            }
            Alteration::Subtract(value) => {
                let mut list = items(list("subtract")?, &config);
                list.retain(|have| !value.split(',').any(|item| item.trim() == have));
                config.insert(name.clone(), list.join(","));
            }
        }
    }
    Ok(config)
}

/// Everything that will be said has to be right; what a stranger wrote before is only carried along.
fn check(
    entity: &Entity,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let Entity::Broker(id) = entity else {
        return TopicConfig::validate(after).map_err(|fault| match fault {
            Fault::Settings(message) => Refusal::because(ResponseError::InvalidConfig, message),
            Fault::Value(message) => bad_value(entity, message),
        });
    };
    let touched: Vec<&str> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(name, _)| name.as_str())
        .chain(
            before
                .keys()
                .filter(|name| !after.contains_key(*name))
                .map(String::as_str),
        )
        .collect();
    let of = |wanted: &dyn Fn(&Key) -> bool| -> String {
        let matching = touched
            .iter()
            .filter(|name| entity.key(name).is_some_and(wanted));
        matching.copied().collect::<Vec<_>>().join(", ")
    };
    let fixed = of(&|key| key.dynamic == Dynamic::ReadOnly);
    if !fixed.is_empty() {
        let message = format!("Cannot update these configs dynamically: Set({fixed})");
        return Err(bad_value(entity, message));
    }
    let per_listener =
        |key: &Key| key.dynamic == Dynamic::PerBroker && key.name.starts_with("ssl.");
    let secure = of(&per_listener);
    if !secure.is_empty() {
        let message = format!(
            "These security configs can be dynamically updated only per-listener using the listener prefix: Set({secure})"
        );
        return Err(bad_value(entity, message));
    }
    for name in &touched {
        let Some(value) = after.get(*name) else {
            continue;
        };
        let Some(key) = entity.key(name) else {
            let message = format!("Unknown broker config name: {name}");
            return Err(Refusal::because(ResponseError::InvalidConfig, message));
        };
        raw::check(key, value).map_err(|message| bad_value(entity, message))?;
    }
    let single = of(&|key| key.dynamic == Dynamic::PerBroker);
    if id.is_none() && !single.is_empty() {
        let message = format!(
            "Cannot update these configs at default cluster level, broker id must be specified: Set({single})"
        );
        return Err(bad_value(entity, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn lists_grow_and_shrink_and_nothing_else_does() {
        let topic = Entity::Topic("t".to_owned());
        let merged = |name: &str, alteration| {
            let before = settings(&[("retention.ms", "1")]);
            let alterations = [(name.to_owned(), alteration)].into();
            merge(&topic, before, &alterations, |_| "delete".to_owned())
        };
        let appended = merged(
            "cleanup.policy",
            Alteration::Append("compact,delete".into()),
        );
        assert_eq!(
            appended,
            Ok(settings(&[
                ("cleanup.policy", "delete,compact"),
                ("retention.ms", "1")
            ]))
        );
        let subtracted = merged("cleanup.policy", Alteration::Subtract("delete".into()));
        assert_eq!(
            subtracted,
            Ok(settings(&[("cleanup.policy", ""), ("retention.ms", "1")]))
        );
        assert_eq!(
            merged("retention.ms", Alteration::Delete),
            Ok(settings(&[]))
        );
        let refusal = merged("retention.ms", Alteration::Append("2".into())).unwrap_err();
        assert_eq!(
            refusal.message.as_deref(),
            Some("Config value append is not allowed for config key: retention.ms")
        );
    }

    #[test]
    fn brokers_take_only_what_may_change_while_they_run() {
        let one = Entity::Broker(Some(BrokerId(1)));
        let all = Entity::Broker(None);
        let none = settings(&[]);
        let refused = |entity: &Entity, name: &str, value: &str| {
            let refusal = check(entity, &none, &settings(&[(name, value)])).err();
            refusal.and_then(|refusal| refusal.message)
        };
        assert_eq!(refused(&all, "log.cleaner.threads", "2"), None);
        assert_eq!(refused(&one, "message.max.bytes", "1048600"), None);
        assert_eq!(
            refused(&one, "num.partitions", "2").as_deref(),
            Some(
                "Invalid config value for resource ConfigResource(type=BROKER, name='1'): \
                 Cannot update these configs dynamically: Set(num.partitions)"
            )
        );
        let rate = "leader.replication.throttled.rate";
        assert_eq!(refused(&one, rate, "5"), None);
        assert!(
            refused(&all, rate, "5").is_some_and(|text| text.contains("default cluster level"))
        );
        assert_eq!(
            refused(&one, "log.cleaner.threads", "x").as_deref(),
            Some(
                "Invalid config value for resource ConfigResource(type=BROKER, name='1'): \
                 Invalid value x for configuration log.cleaner.threads: Not a number of type INT"
            )
        );
        // What was there before is not judged again.
        let before = settings(&[("broker.id", "7")]);
        assert_eq!(check(&one, &before, &before), Ok(()));
    }
}
