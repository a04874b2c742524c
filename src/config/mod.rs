//! Every setting, from every source, ends in one resolved [`Config`].
//!
//! Sources, strongest first: flags, `TRIPOD_*` variables, `KAFKA_*` variables, our YAML file,
//! `server.properties` with `zoo.cfg` and `myid`, defaults. Everything that is wrong is told in one
//! report. Only `cli` and `broker` read this module; the log engine and the coordinator take their own
//! small options. May read files; never writes.

mod checks;
pub mod describe;
pub mod effects;
pub mod env;
mod foreign;
pub mod jaas;
mod jvm_flags;
pub mod keys;
pub mod listeners;
pub mod load;
mod logins;
mod places;
pub mod properties;
pub mod raw;
pub mod resolve;
pub mod topic;
pub mod value;
pub mod yaml;
pub mod zoo_cfg;
mod zoo_env;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::ids::{BrokerId, MemberId};
use crate::common::net::HostPort;

pub use checks::FOUR_LETTER_WORDS;
pub use describe::{
    ConfigEntry, ConfigSource, DynamicConfig, Synonym, describe_broker, describe_topic,
};
pub use keys::{BrokerConfig, CoordinatorConfig, HttpConfig, LoggingConfig, NodeConfig};
pub use listeners::{Endpoint, Listeners, SecurityProtocol};
pub use load::{Examined, Flag, Loaded, Sources, examine, load};
pub use logins::Logins;
use raw::Values;
pub use topic::TopicConfig;

/// Which halves a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// A ZooKeeper.
    pub coordinator: bool,
    /// A Kafka broker.
    pub broker: bool,
}

/// One `server.N` line of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `N`.
    pub id: MemberId,
    /// The host, for peers and (unless said otherwise) for clients.
    pub host: String,
    /// The first port: Raft between members.
    pub quorum_port: u16,
    /// The second port: ZooKeeper's elections; shown, not bound.
    pub election_port: u16,
    /// The part after `;`, where clients connect.
    pub client: Option<HostPort>,
}

/// `zookeeper.connect`: servers and an optional chroot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZookeeperConnect {
    /// Where to connect, in turn.
    pub servers: Vec<HostPort>,
    /// The path that everything lies below; empty, or `/path`.
    pub chroot: String,
}

/// A node's configuration, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The halves to run.
    pub roles: Roles,
    /// The process.
    pub node: NodeConfig,
    /// Kafka's settings as typed fields. `broker_id`, `listeners` and other texts that need more than
    /// a type are resolved below; read them there.
    pub broker: BrokerConfig,
    /// ZooKeeper's settings.
    pub coordinator: CoordinatorConfig,
    /// The HTTP half.
    pub http: HttpConfig,
    /// Was its port asked for, or is it the default?
    pub http_port_said: bool,
    /// Logging.
    pub log: LoggingConfig,
    /// This broker's id; -1 where ZooKeeper gives it one at the first start.
    pub broker_id: BrokerId,
    /// This coordinator's id.
    pub myid: MemberId,
    /// What the broker binds and advertises.
    pub listeners: Listeners,
    /// `log.dirs`, else `log.dir`, as paths; at least one.
    pub log_dirs: Vec<PathBuf>,
    /// `dataDir` as a path.
    pub coordinator_dir: PathBuf,
    /// The ensemble; empty means that this member stands alone.
    pub members: Vec<Member>,
    /// Where the broker finds its ZooKeeper.
    pub zookeeper: ZookeeperConnect,
    /// From the JAAS file.
    pub logins: Logins,
    /// What the configuration says about broker settings, by Kafka's name, as text.
    pub statics: BTreeMap<String, String>,
}

impl Config {
    /// What a node runs with when nobody says anything: both roles, alone, data under `/tmp`.
    pub fn defaults() -> Config {
        let mut values = Values::default();
        let broker = BrokerConfig::take(&mut values);
        let coordinator = CoordinatorConfig::take(&mut values);
        let client_port = u16::try_from(coordinator.client_port).unwrap_or(2181);
        Config {
            roles: Roles {
                coordinator: true,
                broker: true,
            },
            node: NodeConfig::take(&mut values),
            http: HttpConfig::take(&mut values),
            http_port_said: false,
            log: LoggingConfig::take(&mut values),
            broker_id: BrokerId(1),
            myid: MemberId(1),
            listeners: Listeners::resolve(&broker, "localhost").expect("defaults are legal"),
            log_dirs: vec![PathBuf::from(&broker.log_dir)],
            coordinator_dir: PathBuf::from("/tmp/zookeeper"),
            members: Vec::new(),
            logins: Logins::default(),
            zookeeper: ZookeeperConnect {
                servers: vec![HostPort::new("localhost", client_port)],
                chroot: String::new(),
            },
            statics: BTreeMap::new(),
            broker,
            coordinator,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::defaults()
    }
}

impl Config {
    /// The same configuration of a broker that was given its id.
    pub fn with_broker_id(&self, id: BrokerId) -> Config {
        let mut config = self.clone();
        config.broker_id = id;
        config.broker.broker_id = id.0;
        config
    }
}

impl BrokerConfig {
    /// The same settings with some replaced, as dynamic configuration does. Names and values that are
    /// unknown or bad are passed over.
    pub fn with(&self, replaced: &BTreeMap<String, String>) -> BrokerConfig {
        let mut values = Values::default();
        for key in keys::BROKER {
            let text = replaced
                .get(key.name)
                .and_then(|text| raw::check(key, text).ok())
                .or_else(|| self.text(key.name));
            if let Some(value) = text {
                values.say(raw::Said {
                    path: key.path(),
                    value,
                    origin: raw::Origin::named(raw::SourceKind::Implied, "dynamic configuration"),
                });
            }
        }
        BrokerConfig::take(&mut values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_the_table_is_legal() {
        for key in keys::all().chain(keys::TOPIC) {
            if let Some(default) = key.default {
                assert_eq!(
                    raw::check(key, default).as_deref(),
                    Ok(default),
                    "{}",
                    key.name
                );
            }
        }
    }
}
