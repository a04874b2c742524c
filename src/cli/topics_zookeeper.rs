//! `kafka-topics --zookeeper`: the same over znodes, as the tool of 2.8 wrote them itself.
//!
//! A topic's settings are written before the topic; the topic gets no id, which is the controller's to
//! give. Leaders are the controller's business altogether.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::java_args::Options;
use super::print::{err, out};
use super::topics::{
    Failure, Filters, PartitionLine, ensure_exists, filter, illegal, is_internal, new_topic,
    partition_line, topic_line, warn_of_collision,
};
use crate::broker::controller::assign;
use crate::broker::image::BrokerImage;
use crate::broker::image::znode::{self, TopicZnode};
use crate::client::World;
use crate::client::admin::NewTopic;
use crate::client::cluster::Partition;
use crate::client::zookeeper::{Error, Mode, Options as SessionOptions, ZooKeeper};
use crate::common::ids::{BrokerId, valid_topic_name};
use crate::common::net::HostPort;
use crate::config::topic;
use crate::zookeeper::error::ErrorCode;

/// The original's session and connection timeout.
const TIMEOUT: Duration = Duration::from_secs(30);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Own("org.apache.zookeeper.KeeperException", error.to_string())
    }
}

fn own(class: &'static str, message: impl Into<String>) -> Failure {
    Failure::Own(class, message.into())
}

const TOPIC_EXISTS: &str = "org.apache.kafka.common.errors.TopicExistsException";
const ADMIN_OPERATION: &str = "kafka.admin.AdminOperationException";
const INVALID_PARTITIONS: &str = "org.apache.kafka.common.errors.InvalidPartitionsException";
const INVALID_TOPIC: &str = "org.apache.kafka.common.errors.InvalidTopicException";
const INVALID_ASSIGNMENT: &str = "org.apache.kafka.common.errors.InvalidReplicaAssignmentException";

/// Runs the command against the ensemble at `servers`.
pub(super) async fn execute(
    world: &World,
    servers: &str,
    options: &Options,
) -> Result<(), Failure> {
    let (hosts, chroot) = match servers.split_once('/') {
        Some((hosts, path)) => (hosts, format!("/{}", path.trim_end_matches('/'))),
        None => (servers, String::new()),
    };
    let list = HostPort::parse_list(hosts, Some(2181)).map_err(illegal)?;
    if list.is_empty() {
        return Err(illegal(format!("no hosts in '{servers}'")));
    }
    let session = SessionOptions {
        servers: list,
        chroot: if chroot == "/" { String::new() } else { chroot },
        session_timeout: TIMEOUT,
        connection_timeout: Some(TIMEOUT),
    };
    let (zookeeper, _events) = ZooKeeper::connect(session, world).await.map_err(|error| {
        err!("{error}");
        own(
            "kafka.zookeeper.ZooKeeperClientTimeoutException",
            "Timed out waiting for connection while in state: CONNECTING",
        )
    })?;
    let topics = Topics {
        world,
        zookeeper: &zookeeper,
        options,
    };
    let result = topics.execute().await;
    zookeeper.close().await;
    result
}

struct Topics<'a> {
    world: &'a World,
    zookeeper: &'a ZooKeeper,
    options: &'a Options,
}

impl Topics<'_> {
    async fn execute(&self) -> Result<(), Failure> {
        if self.options.has("create") {
            warn_of_collision(self.options);
            let topic = new_topic(self.options)?;
            return match self.create(&topic).await {
                Err(Failure::Own(TOPIC_EXISTS, _)) if self.options.has("if-not-exists") => Ok(()),
                result => result,
            };
        }
        let mut names = self.zookeeper.children(znode::TOPICS).await?;
        names.sort();
        let names = filter(names, self.options)?;
        if self.options.has("list") {
            let deleted = self.deleted().await?;
            for name in names {
                let mark = if deleted.contains(&name) {
                    " - marked for deletion"
                } else {
                    ""
                };
                out!("{name}{mark}");
            }
            return Ok(());
        }
        ensure_exists(&names, self.options)?;
        for name in names {
            if self.options.has("alter") {
                self.alter(&name).await?;
            } else if self.options.has("delete") {
                self.delete(&name).await?;
            } else {
                self.describe(&name).await?;
            }
        }
        Ok(())
    }

    async fn deleted(&self) -> Result<BTreeSet<String>, Failure> {
        match self.zookeeper.children(znode::DELETE_TOPICS).await {
            Ok(names) => Ok(names.into_iter().collect()),
            Err(error) if error.is(ErrorCode::NoNode) => Ok(BTreeSet::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn brokers(&self) -> Result<Vec<BrokerImage>, Failure> {
        let ids: BTreeSet<BrokerId> = self
            .zookeeper
            .children(znode::BROKER_IDS)
            .await?
            .iter()
            .filter_map(|name| znode::broker_id(name))
            .collect();
        let paths: Vec<String> = ids.iter().map(|id| znode::broker_path(*id)).collect();
        let mut brokers = Vec::new();
        for (id, found) in ids.into_iter().zip(self.zookeeper.get_all(&paths).await) {
            // One that left between the two requests is no broker any more.
            if let Ok((data, stat)) = found
                && let Ok(broker) = znode::decode_broker(id, &data, stat.czxid)
            {
                brokers.push(broker);
            }
        }
        Ok(brokers)
    }

    /// Brokers to place replicas on.
    async fn targets(&self) -> Result<assign::Brokers, Failure> {
        let brokers = self.brokers().await?;
        let racks = brokers
            .iter()
            .filter(|broker| broker.rack.is_some())
            .count();
        let aware = !self.options.has("disable-rack-aware");
        if aware && racks > 0 && racks < brokers.len() {
            let sentence = "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment without rack information.";
            return Err(own(ADMIN_OPERATION, sentence));
        }
        let brokers = brokers.into_iter();
        let brokers = brokers.map(|broker| (broker.id, broker.rack.filter(|_| aware)));
        Ok(assign::Brokers::new(brokers))
    }

    fn random(&self, below: usize) -> usize {
        self.world.rng.below(below as u64) as usize
    }

    async fn create(&self, topic: &NewTopic) -> Result<(), Failure> {
        let partitions = self.place(topic).await?;
        valid_topic_name(&topic.name).map_err(|message| own(INVALID_TOPIC, message))?;
        let existing = self.zookeeper.children(znode::TOPICS).await?;
        let exists = || {
            own(
                TOPIC_EXISTS,
                format!("Topic '{}' already exists.", topic.name),
            )
        };
        if existing.contains(&topic.name) {
            return Err(exists());
        }
        let merged = |name: &str| name.replace('.', "_");
        let colliding: Vec<&str> = existing
            .iter()
            .filter(|other| merged(other) == merged(&topic.name))
            .map(String::as_str)
            .collect();
        if !colliding.is_empty() {
            let colliding = colliding.join(", ");
            return Err(own(
                INVALID_TOPIC,
                format!(
                    "Topic '{}' collides with existing topics: {colliding}",
                    topic.name
                ),
            ));
        }
        let config: BTreeMap<String, String> = topic.configs.iter().cloned().collect();
        topic::TopicConfig::validate(&config).map_err(|fault| {
            own(
                "org.apache.kafka.common.errors.InvalidConfigurationException",
                fault.to_string(),
            )
        })?;
        self.write_config(&topic.name, &config).await?;
        let node = TopicZnode {
            partitions,
            ..TopicZnode::default()
        };
        let path = znode::topic_path(&topic.name);
        match self
            .zookeeper
            .create(&path, Some(node.encode()), Mode::Persistent)
            .await
        {
            Ok(_) => {
                out!("Created topic {}.", topic.name);
                Ok(())
            }
            Err(error) if error.is(ErrorCode::NodeExists) => Err(exists()),
            Err(error) => Err(error.into()),
        }
    }

    /// The replicas of a new topic's partitions.
    async fn place(&self, topic: &NewTopic) -> Result<BTreeMap<i32, Vec<BrokerId>>, Failure> {
        if !topic.assignment.is_empty() {
            let chosen = topic.assignment.iter().map(|replicas| {
                let ids: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
                ids
            });
            return Ok((0i32..).zip(chosen).collect());
        }
        let brokers = self.targets().await?;
        let factor = usize::try_from(topic.replication_factor.unwrap_or(1)).unwrap_or(1);
        if factor > brokers.len() {
            return Err(own(
                "org.apache.kafka.common.errors.InvalidReplicationFactorException",
                format!(
                    "Replication factor: {factor} larger than available brokers: {}.",
                    brokers.len()
                ),
            ));
        }
        let (start, shift) = (self.random(brokers.len()), self.random(brokers.len()));
        let count = topic.partitions.unwrap_or(1);
        Ok(brokers.assign(0..count, factor, start, shift))
    }

    /// `setOrCreateEntityConfigs`.
    async fn write_config(
        &self,
        topic: &str,
        config: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let path = znode::topic_config_path(topic);
        let data = znode::encode_config(config);
        match self.zookeeper.set(&path, data.clone(), -1).await {
            Err(error) if error.is(ErrorCode::NoNode) => {
                let nodes = [
                    ("/config", None),
                    (znode::TOPIC_CONFIGS, None),
                    (path.as_str(), Some(data)),
                ];
                Ok(self.zookeeper.create_absent(nodes).await?)
            }
            result => Ok(result.map(|_| ())?),
        }
    }

    async fn config(&self, topic: &str) -> Result<BTreeMap<String, String>, Failure> {
        match self.zookeeper.get(&znode::topic_config_path(topic)).await {
            Ok((data, _)) => znode::decode_config(&data).map_err(|e| unreadable(topic, &e)),
            Err(error) if error.is(ErrorCode::NoNode) => Ok(BTreeMap::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn alter(&self, topic: &str) -> Result<(), Failure> {
        let wanted = new_topic(self.options)?;
        let removed = self.options.values("delete-config");
        if !wanted.configs.is_empty() || !removed.is_empty() {
            out!(
                "WARNING: Altering topic configuration from this script has been deprecated and may be removed in future releases."
            );
            out!("         Going forward, please use kafka-configs.sh for this functionality");
            let mut config = self.config(topic).await?;
            config.extend(wanted.configs.iter().cloned());
            for name in removed {
                config.remove(name.trim());
            }
            topic::TopicConfig::validate(&config).map_err(|fault| {
                own(
                    "org.apache.kafka.common.errors.InvalidConfigurationException",
                    fault.to_string(),
                )
            })?;
            self.write_config(topic, &config).await?;
            let change = znode::encode_config_change(&format!("topics/{topic}"));
            self.zookeeper
                .create(znode::CONFIG_CHANGE, Some(change), Mode::Sequential)
                .await?;
            out!("Updated config for topic {topic}.");
        }
        let Some(count) = wanted.partitions else {
            return Ok(());
        };
        if is_internal(topic) {
            return Err(illegal(format!(
                "The number of partitions for the internal topic {topic} cannot be changed."
            )));
        }
        out!(
            "WARNING: If partitions are increased for a topic that has a key, the partition logic or ordering of the messages will be affected"
        );
        self.grow(topic, count, &wanted.assignment).await?;
        out!("Adding partitions succeeded!");
        Ok(())
    }

    async fn grow(&self, topic: &str, count: i32, chosen: &[Vec<i32>]) -> Result<(), Failure> {
        let path = znode::topic_path(topic);
        let (data, stat) = self.zookeeper.get(&path).await?;
        let mut node = TopicZnode::decode(&data).map_err(|e| unreadable(topic, &e))?;
        let existing = i32::try_from(node.partitions.len()).unwrap_or(i32::MAX);
        if count <= existing {
            return Err(own(
                INVALID_PARTITIONS,
                format!(
                    "The number of partitions for a topic can only be increased. Topic {topic} currently has {existing} partitions, {count} would not be an increase."
                ),
            ));
        }
        let first = node.partitions.get(&0).cloned().ok_or_else(|| {
            own(
                ADMIN_OPERATION,
                format!(
                    "Unexpected existing replica assignment for topic '{topic}', partition id 0 is missing."
                ),
            )
        })?;
        let added: BTreeMap<i32, Vec<BrokerId>> = if chosen.is_empty() {
            let brokers = self.targets().await?;
            let start = brokers.growth_start(&first);
            brokers.assign(existing..count, first.len(), start, start)
        } else {
            let known: BTreeSet<BrokerId> = self
                .brokers()
                .await?
                .iter()
                .map(|broker| broker.id)
                .collect();
            let new = chosen.iter().skip(node.partitions.len()).map(|replicas| {
                let ids: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
                ids
            });
            let new: BTreeMap<i32, Vec<BrokerId>> = (existing..count).zip(new).collect();
            let sound = |ids: &Vec<BrokerId>| {
                ids.len() == first.len() && ids.iter().all(|id| known.contains(id))
            };
            if i32::try_from(new.len()) != Ok(count - existing) || !new.values().all(sound) {
                return Err(own(
                    INVALID_ASSIGNMENT,
                    format!(
                        "The manual assignment has to name, for each of the {} new partitions, {} known brokers.",
                        count - existing,
                        first.len()
                    ),
                ));
            }
            new
        };
        node.partitions.extend(added);
        // Guarded by the version: somebody else's change meanwhile is not lost.
        self.zookeeper
            .set(&path, node.encode(), stat.version)
            .await?;
        Ok(())
    }

    async fn delete(&self, topic: &str) -> Result<(), Failure> {
        if is_internal(topic) {
            return Err(own(
                ADMIN_OPERATION,
                format!(
                    "Topic {topic} is a kafka internal topic and is not allowed to be marked for deletion."
                ),
            ));
        }
        let path = znode::delete_topic_path(topic);
        match self.zookeeper.create(&path, None, Mode::Persistent).await {
            Ok(_) => {
                out!("Topic {topic} is marked for deletion.");
                out!("Note: This will have no impact if delete.topic.enable is not set to true.");
                Ok(())
            }
            Err(error) if error.is(ErrorCode::NodeExists) => {
                out!("Topic {topic} is already marked for deletion.");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn describe(&self, topic: &str) -> Result<(), Failure> {
        let node = match self.zookeeper.get(&znode::topic_path(topic)).await {
            Ok((data, _)) => TopicZnode::decode(&data).map_err(|e| unreadable(topic, &e))?,
            Err(error) if error.is(ErrorCode::NoNode) => {
                out!("Topic {topic} doesn't exist!");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let deleted = self.deleted().await?.contains(topic);
        let alive: BTreeSet<i32> = self.brokers().await?.iter().map(|b| b.id.0).collect();
        let filters = Filters::new(self.options);
        let config = self.config(topic).await?;
        if filters.topic(!config.is_empty()) {
            let overrides: Vec<String> = config
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let factor = node.partitions.values().next().map_or(0, Vec::len);
            let count = node.partitions.len();
            out!(
                "{}",
                topic_line(topic, node.id, count, factor, &overrides, deleted)
            );
        }
        for (index, replicas) in &node.partitions {
            let state = match self.zookeeper.get(&znode::state_path(topic, *index)).await {
                Ok((data, stat)) => znode::decode_state(&data, stat.version).ok(),
                Err(error) if error.is(ErrorCode::NoNode) => None,
                Err(error) => return Err(error.into()),
            };
            let partition = Partition {
                index: *index,
                error_code: 0,
                leader: state.as_ref().and_then(|state| state.leader).map(|id| id.0),
                leader_epoch: -1,
                replicas: replicas.iter().map(|id| id.0).collect(),
                isr: state
                    .map(|state| state.isr.iter().map(|id| id.0).collect())
                    .unwrap_or_default(),
            };
            let line = PartitionLine {
                partition: &partition,
                replication_factor: replicas.len(),
                min_isr: None,
                leader_alive: partition.leader.is_some_and(|id| alive.contains(&id)),
                reassignment: None,
                deleted,
            };
            if filters.partition(&line) {
                out!("{}", partition_line(topic, &line));
            }
        }
        Ok(())
    }
}

fn unreadable(topic: &str, error: &znode::Malformed) -> Failure {
    own(
        ADMIN_OPERATION,
        format!("what ZooKeeper holds for topic {topic} cannot be read: {error}"),
    )
}
