//! Changes to the cluster's metadata, written to ZooKeeper on behalf of a request.
//!
//! Any broker may be asked: it checks the wish against its image, writes the same znodes that Kafka's
//! tools would write, and waits for the image that shows the result. Leaders are the controller's to
//! choose. What is refused is refused in Kafka's own words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::broker::controller::assign;
use crate::broker::controller::decide::NotElected;
use crate::broker::image::znode::{self, TopicZnode};
use crate::broker::image::{Image, ImageCell, TopicImage};
use crate::broker::partition::is_internal_topic;
use crate::client::zookeeper::{Error, Mode, MultiError, Op, ZooKeeper};
use crate::common::ids::{BrokerId, ProducerId, TopicPartition, valid_topic_name};
use crate::common::rng::Rng;
use crate::config::effects::NOT_COMPACTED;
use crate::config::{Config, TopicConfig};
use crate::zookeeper::error::ErrorCode;

mod check;
mod configs;
mod reassign;

use check::{check_assignment, colliding, election, grown, not_elected};
pub use configs::{Alteration, Entity};

/// Bytes of writes in one multi; a frame of ZooKeeper ends at 1 MiB.
const MULTI_BYTES_MAX: usize = 256 << 10;
/// Partitions that one request may give to one topic. Kafka has no limit but memory.
const PARTITIONS_MAX: i32 = 10_000;
/// How many producer ids a broker takes at once, as in Kafka.
const PRODUCER_ID_BLOCK: i64 = 1_000;
/// How often a guarded write is tried against changes of others.
const ATTEMPTS_MAX: usize = 10;
/// How long a topic that a client needs at once is waited for.
const AUTO_CREATE_LIMIT: Duration = Duration::from_secs(5);
/// How long this broker's own partitions may take to follow the image, before the answer goes out.
const APPLY_PATIENCE: Duration = Duration::from_millis(200);
/// How long the image may take to show a write of ours.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A wish that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code for the client.
    pub error: ResponseError,
    /// The reason, where the code's own sentence does not do.
    pub message: Option<String>,
}

impl Refusal {
    /// The reason, for a response.
    pub fn text(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }

    /// A code with a reason.
    pub fn because(error: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal {
            error,
            message: Some(message.into()),
        }
    }
}

impl From<ResponseError> for Refusal {
    fn from(error: ResponseError) -> Refusal {
        Refusal {
            error,
            message: None,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        debug!(%error, "a change of metadata failed");
        let code = match error {
            Error::ConnectionLoss | Error::Unreachable { .. } => ResponseError::RequestTimedOut,
            _ => ResponseError::UnknownServerError,
        };
        Refusal::because(code, error.to_string())
    }
}

/// A topic that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, not checked.
    pub name: String,
    /// How many partitions; -1 for `num.partitions`.
    pub partitions: i32,
    /// How many replicas; -1 for `default.replication.factor`.
    pub replication_factor: i16,
    /// Replicas by partition, instead of the two numbers.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// Its own settings; null values are refused.
    pub config: BTreeMap<String, Option<String>>,
}

/// A topic that was created, or that would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id; nil when nothing was created.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// Its own settings.
    pub config: BTreeMap<String, String>,
}

/// A topic that passed all checks.
#[derive(Debug)]
struct Planned {
    name: String,
    znode: TopicZnode,
    config: BTreeMap<String, String>,
}

/// The way to the cluster's metadata.
#[derive(Debug)]
pub struct Cluster {
    zookeeper: Arc<ZooKeeper>,
    image: Arc<ImageCell>,
    config: Arc<Config>,
    rng: Rng,
    creating: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    producer_ids: tokio::sync::Mutex<(i64, i64)>,
}

/// Says what `cleanup.policy=compact` comes to here, to whoever reads the log; tools that ask for it go on.
fn warn_of_compaction(topic: &str, config: &BTreeMap<String, String>) {
    let policy = config.get("cleanup.policy");
    if policy.is_some_and(|policy| policy.contains("compact")) && !is_internal_topic(topic) {
        warn!(topic, "cleanup.policy=compact: {NOT_COMPACTED}");
    }
}

impl Cluster {
    /// Over a session that the broker owns.
    pub fn new(
        zookeeper: Arc<ZooKeeper>,
        image: Arc<ImageCell>,
        config: Arc<Config>,
        rng: Rng,
    ) -> Cluster {
        Cluster {
            zookeeper,
            image,
            config,
            rng,
            creating: Mutex::default(),
            // Empty: the first wish takes a block.
            producer_ids: tokio::sync::Mutex::new((0, 0)),
        }
    }

    /// Without ZooKeeper, for tests of what needs none: every change is refused.
    #[cfg(test)]
    pub fn detached(image: Arc<ImageCell>, config: Arc<Config>) -> Cluster {
        let zookeeper = ZooKeeper::closed(crate::common::clock::Clock::real());
        Cluster::new(zookeeper, image, config, Rng::from_seed(1))
    }

    /// The session.
    pub fn zookeeper(&self) -> &Arc<ZooKeeper> {
        &self.zookeeper
    }

    /// Creates topics and waits until each partition has a leader, at most `limit`.
    pub async fn create_topics(
        &self,
        wanted: Vec<NewTopic>,
        validate_only: bool,
        limit: Duration,
    ) -> Vec<Result<Created, Refusal>> {
        let deadline = tokio::time::Instant::now() + limit;
        let image = self.image.load();
        let mut planned = Vec::new();
        let mut results: Vec<Result<Created, Refusal>> = wanted
            .into_iter()
            .map(|topic| {
                let (created, plan) = self.plan(&image, topic)?;
                if validate_only {
                    return Ok(Created {
                        id: Uuid::nil(),
                        ..created
                    });
                }
                planned.push(plan);
                Ok(created)
            })
            .collect();
        if planned.is_empty() {
            return results;
        }
        let written = self.write_topics(&planned).await;
        for (topic, _) in planned.iter().zip(&written).filter(|made| made.1.is_ok()) {
            warn_of_compaction(&topic.name, &topic.config);
        }
        let mut written = written.into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            if let Some(Err(refusal)) = written.next() {
                *result = Err(refusal);
            }
        }
        let ids: Vec<Uuid> = results
            .iter()
            .filter_map(|result| result.as_ref().ok().map(|created| created.id))
            .collect();
        if ids.is_empty() {
            return results;
        }
        let ready = self.when_led(|image| {
            ids.iter().filter_map(|id| image.topic_by_id(*id)).count() == ids.len()
                && ids
                    .iter()
                    .filter_map(|id| image.topic_by_id(*id))
                    .all(|topic| is_led(topic))
        });
        if tokio::time::timeout_at(deadline, ready).await.is_err() {
            let image = self.image.load();
            for result in &mut results {
                let led = |created: &Created| {
                    let topic = image.topic_by_id(created.id);
                    topic.is_some_and(|topic| is_led(topic))
                };
                if result.as_ref().is_ok_and(|created| !led(created)) {
                    *result = Err(ResponseError::RequestTimedOut.into());
                }
            }
        }
        results
    }

    /// Checks a wish against the image, in Kafka's order and words (`AdminManager.createTopics`).
    fn plan(&self, image: &Image, topic: NewTopic) -> Result<(Created, Planned), Refusal> {
        use ResponseError as E;
        valid_topic_name(&topic.name)
            .map_err(|reason| Refusal::because(E::InvalidTopicException, reason))?;
        if image.topics.contains_key(topic.name.as_str()) {
            let message = format!("Topic '{}' already exists.", topic.name);
            return Err(Refusal::because(E::TopicAlreadyExists, message));
        }
        let nulls: Vec<&str> = topic
            .config
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        if !nulls.is_empty() {
            let message = format!(
                "Null value not supported for topic configs : {}",
                nulls.join(",")
            );
            return Err(Refusal::because(E::InvalidRequest, message));
        }
        let partitions = if topic.assignments.is_empty() {
            self.place(image, topic.partitions, topic.replication_factor)?
        } else {
            if topic.partitions != -1 || topic.replication_factor != -1 {
                return Err(Refusal::because(
                    E::InvalidRequest,
                    "Both numPartitions or replicationFactor and replicasAssignments were set. \
                     Both cannot be used at the same time.",
                ));
            }
            check_assignment(image, &topic.assignments, 0)?;
            topic.assignments
        };
        if let Some(others) = colliding(image, &topic.name) {
            let message = format!(
                "Topic '{}' collides with existing topics: {others}",
                topic.name
            );
            return Err(Refusal::because(E::InvalidTopicException, message));
        }
        let config = topic.config.into_iter();
        let config = config
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        TopicConfig::validate(&config)
            .map_err(|fault| Refusal::because(E::InvalidConfig, fault.to_string()))?;
        let id = self.rng.uuid();
        let created = Created {
            id,
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replication_factor: partitions
                .values()
                .next()
                .and_then(|replicas| i16::try_from(replicas.len()).ok())
                .unwrap_or(-1),
            config,
        };
        let planned = Planned {
            name: topic.name,
            znode: TopicZnode {
                id: Some(id),
                partitions,
                ..TopicZnode::default()
            },
            config: created.config.clone(),
        };
        Ok((created, planned))
    }

    fn place(
        &self,
        image: &Image,
        partitions: i32,
        factor: i16,
    ) -> Result<BTreeMap<i32, Vec<BrokerId>>, Refusal> {
        use ResponseError as E;
        let partitions = match partitions {
            -1 => self.config.broker.num_partitions,
            said => said,
        };
        let factor = match factor {
            -1 => i16::try_from(self.config.broker.default_replication_factor).unwrap_or(i16::MAX),
            said => said,
        };
        if partitions <= 0 {
            let message = "Number of partitions must be larger than 0.";
            return Err(Refusal::because(E::InvalidPartitions, message));
        }
        if partitions > PARTITIONS_MAX {
            let message = format!("Number of partitions must not be larger than {PARTITIONS_MAX}.");
            return Err(Refusal::because(E::InvalidPartitions, message));
        }
        if factor <= 0 {
            let message = "Replication factor must be larger than 0.";
            return Err(Refusal::because(E::InvalidReplicationFactor, message));
        }
        let brokers = assign::Brokers::alive(image);
        let replicas = usize::try_from(factor).unwrap_or(usize::MAX);
        if replicas > brokers.len() {
            let message = format!(
                "Replication factor: {factor} larger than available brokers: {}.",
                brokers.len()
            );
            return Err(Refusal::because(E::InvalidReplicationFactor, message));
        }
        let random = || usize::try_from(self.rng.below(brokers.len() as u64)).unwrap_or(0);
        let (start, shift) = (random(), random());
        Ok(brokers.assign(0..partitions, replicas, start, shift))
    }

    /// Writes settings and topic together, many topics in one multi.
    async fn write_topics(&self, planned: &[Planned]) -> Vec<Result<(), Refusal>> {
        let mut batches: Vec<Vec<&Planned>> = Vec::new();
        let mut size = MULTI_BYTES_MAX;
        for topic in planned {
            // An entry of an assignment takes some ten bytes in JSON.
            let bytes = 256 + 2 * topic.name.len() + 16 * topic.znode.partitions.len();
            if size + bytes > MULTI_BYTES_MAX {
                batches.push(Vec::new());
                size = 0;
            }
            size += bytes;
            if let Some(batch) = batches.last_mut() {
                batch.push(topic);
            }
        }
        let multis = batches.iter().map(|batch| {
            let steps = batch.iter().flat_map(|topic| creation(topic, false));
            steps.collect()
        });
        let answers = self.zookeeper.multi_all(multis.collect()).await;
        let mut results = Vec::with_capacity(planned.len());
        for (batch, answer) in batches.iter().zip(answers) {
            match answer {
                Ok(_) => results.extend(batch.iter().map(|_| Ok(()))),
                Err(_) => {
                    // One is in the way of all: each on its own.
                    for topic in batch {
                        results.push(self.write_topic(topic).await);
                    }
                }
            }
        }
        results
    }

    async fn write_topic(&self, topic: &Planned) -> Result<(), Refusal> {
        let mut settings_exist = false;
        loop {
            match self.zookeeper.multi(creation(topic, settings_exist)).await {
                Ok(_) => return Ok(()),
                Err(MultiError { step: 0, error })
                    if error.is(ErrorCode::NodeExists) && !settings_exist =>
                {
                    settings_exist = true;
                }
                Err(MultiError { error, .. }) if error.is(ErrorCode::NodeExists) => {
                    let message = format!("Topic '{}' already exists.", topic.name);
                    return Err(Refusal::because(ResponseError::TopicAlreadyExists, message));
                }
                Err(MultiError { error, .. }) => return Err(error.into()),
            }
        }
    }

    /// Creates a topic that a client asked for by using it, and waits until it can be used. Callers
    /// that want the same topic at the same time share one creation.
    pub async fn auto_create(&self, topic: &str) -> Result<(), Refusal> {
        let turn = {
            let mut creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
            creating.entry(topic.to_owned()).or_default().clone()
        };
        let _turn = turn.lock().await;
        let result = self.create_now(topic).await;
        let mut creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        creating.remove(topic);
        result
    }

    /// Makes sure that an internal topic of this name is there and can be used.
    pub async fn ensure_internal_topic(&self, name: &str) -> Result<(), Refusal> {
        self.auto_create(name).await
    }

    async fn create_now(&self, name: &str) -> Result<(), Refusal> {
        let image = self.image.load();
        if image.topics.contains_key(name) {
            return Ok(());
        }
        if image.brokers.is_empty() {
            // Kafka: as long as no broker is registered, nothing can be placed.
            return Err(ResponseError::LeaderNotAvailable.into());
        }
        let wanted = match name {
            "__consumer_offsets" => self.consumer_offsets(),
            _ => NewTopic {
                name: name.to_owned(),
                partitions: -1,
                replication_factor: -1,
                ..NewTopic::default()
            },
        };
        let results = self
            .create_topics(vec![wanted], false, AUTO_CREATE_LIMIT)
            .await;
        match results.into_iter().next() {
            Some(Err(refusal)) if refusal.error != ResponseError::TopicAlreadyExists => {
                Err(refusal)
            }
            _ => Ok(()),
        }
    }

    /// The topic of committed offsets, with the settings that Kafka gives it.
    fn consumer_offsets(&self) -> NewTopic {
        let config = [
            ("compression.type", "producer".to_owned()),
            ("cleanup.policy", "compact".to_owned()),
            (
                "segment.bytes",
                self.config.broker.offsets_topic_segment_bytes.to_string(),
            ),
        ];
        let config = config.map(|(name, value)| (name.to_owned(), Some(value)));
        NewTopic {
            name: "__consumer_offsets".to_owned(),
            partitions: self.config.broker.offsets_topic_num_partitions,
            replication_factor: self.config.broker.offsets_topic_replication_factor,
            assignments: BTreeMap::new(),
            config: config.into(),
        }
    }

    /// Marks topics for deletion and waits until they are gone, at most `limit`.
    pub async fn delete_topics(
        &self,
        names: &[String],
        limit: Duration,
    ) -> Vec<Result<(), Refusal>> {
        let deadline = tokio::time::Instant::now() + limit;
        let image = self.image.load();
        let known = |name: &String| image.topics.get(name.as_str());
        let marks = names
            .iter()
            .filter(|name| known(name).is_some())
            .map(|name| {
                vec![Op::Create {
                    path: znode::delete_topic_path(name),
                    data: None,
                    mode: Mode::Persistent,
                }]
            });
        let mut marked = self.zookeeper.multi_all(marks.collect()).await.into_iter();
        let mut results = Vec::with_capacity(names.len());
        let mut going = Vec::new();
        for name in names {
            let Some(topic) = known(name) else {
                results.push(Err(ResponseError::UnknownTopicOrPartition.into()));
                continue;
            };
            results.push(match marked.next() {
                Some(Err(MultiError { error, .. })) if !error.is(ErrorCode::NodeExists) => {
                    Err(error.into())
                }
                _ => {
                    going.push((topic.name.clone(), topic.id));
                    Ok(())
                }
            });
        }
        let is_there = |image: &Image, name: &Arc<str>, id: Uuid| {
            let topic = image.topics.get(name);
            topic.is_some_and(|topic| topic.id == id || topic.id.is_nil())
        };
        let gone = self
            .image
            .wait_for(|image| !going.iter().any(|(name, id)| is_there(image, name, *id)));
        if tokio::time::timeout_at(deadline, gone).await.is_err() {
            let image = self.image.load();
            for (name, result) in names.iter().zip(&mut results) {
                let stays =
                    |(gone, id): &(Arc<str>, Uuid)| **gone == **name && is_there(&image, gone, *id);
                if result.is_ok() && going.iter().any(stays) {
                    *result = Err(ResponseError::RequestTimedOut.into());
                }
            }
        }
        results
    }

    /// Grows a topic to `count` partitions and waits until all have leaders, at most `limit`.
    pub async fn create_partitions(
        &self,
        name: &str,
        count: i32,
        assignments: Option<Vec<Vec<BrokerId>>>,
        validate_only: bool,
        limit: Duration,
    ) -> Result<(), Refusal> {
        let deadline = tokio::time::Instant::now() + limit;
        for _ in 0..ATTEMPTS_MAX {
            let image = self.image.load();
            let topic = image.topics.get(name).ok_or_else(|| {
                let message = format!("The topic '{name}' does not exist.");
                Refusal::because(ResponseError::UnknownTopicOrPartition, message)
            })?;
            if image.deleting.contains(&topic.name) {
                let message = "The topic is queued for deletion.";
                return Err(Refusal::because(
                    ResponseError::InvalidTopicException,
                    message,
                ));
            }
            let znode = grown(&image, topic, count, assignments.as_deref())?;
            if validate_only {
                return Ok(());
            }
            let path = znode::topic_path(name);
            match self
                .zookeeper
                .set(&path, znode.encode(), topic.version)
                .await
            {
                Ok(_) => {
                    let wanted = usize::try_from(count).unwrap_or(0);
                    let led = self.when_led(|image| {
                        let topic = image.topics.get(name);
                        topic.is_none_or(|topic| topic.partitions.len() >= wanted && is_led(topic))
                    });
                    return tokio::time::timeout_at(deadline, led)
                        .await
                        .map_err(|_| ResponseError::RequestTimedOut.into());
                }
                // The controller may be giving it its id.
                Err(error) if error.is(ErrorCode::BadVersion) => self.settle().await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(ResponseError::RequestTimedOut.into())
    }

    /// Elects leaders, and waits until they are seen, at most `limit`. `unclean` as in Kafka: only
    /// for partitions that have no leader. `known` brokers are there for more reasons than their
    /// registration.
    pub async fn elect_leaders(
        &self,
        partitions: &[TopicPartition],
        known: &BTreeSet<BrokerId>,
        unclean: bool,
        limit: Duration,
    ) -> Vec<Result<(), Refusal>> {
        let deadline = tokio::time::Instant::now() + limit;
        let image = self.image.load();
        let mut results = Vec::with_capacity(partitions.len());
        let mut elected = Vec::new();
        let mut writes = Vec::new();
        for id in partitions {
            match election(&image, known, id, unclean) {
                Err(refusal) => results.push(Err(refusal)),
                Ok((next, version)) => {
                    elected.push((results.len(), id.clone(), next.leader));
                    results.push(Ok(()));
                    writes.push(vec![
                        // The image that this was decided from has to be the last word.
                        Op::Set {
                            path: znode::state_path(&id.topic, id.partition),
                            data: znode::encode_state(&next),
                            version,
                        },
                    ]);
                }
            }
        }
        let written = self.zookeeper.multi_all(writes).await;
        for ((at, id, _), answer) in elected.iter().zip(written) {
            if let Err(MultiError { error, .. }) = answer {
                debug!(partition = %id, %error, "an election came too late");
                results[*at] = Err(not_elected(id, NotElected::PreferredNotAvailable));
            }
        }
        elected.retain(|(at, ..)| results[*at].is_ok());
        let leads = |image: &Image, id: &TopicPartition, leader: Option<BrokerId>| {
            let partition = image.partition(&id.topic, id.partition);
            partition.is_none_or(|partition| partition.leader() == leader)
        };
        let seen = self.when_led(|image| {
            elected
                .iter()
                .all(|(_, id, leader)| leads(image, id, *leader))
        });
        if tokio::time::timeout_at(deadline, seen).await.is_err() {
            for (at, ..) in elected {
                results[at] = Err(ResponseError::RequestTimedOut.into());
            }
        }
        results
    }

    /// A producer id that no other producer of this cluster has.
    pub async fn allocate_producer_id(&self) -> Result<ProducerId, Refusal> {
        let mut block = self.producer_ids.lock().await;
        if block.0 >= block.1 {
            *block = self.producer_id_block().await?;
        }
        let id = block.0;
        block.0 += 1;
        Ok(ProducerId(id))
    }

    /// Takes the next block, by a write that is guarded by the version read before.
    async fn producer_id_block(&self) -> Result<(i64, i64), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (data, stat) = match self.zookeeper.get(znode::PRODUCER_IDS).await {
                Err(error) if error.is(ErrorCode::NoNode) => {
                    self.zookeeper
                        .create_absent([(znode::PRODUCER_IDS, None)])
                        .await?;
                    continue;
                }
                found => found?,
            };
            let last = znode::decode_producer_ids(&data).map_err(|reason| {
                warn!(%reason, "/latest_producer_id_block is malformed: no producer id is given out");
                Refusal::from(ResponseError::UnknownServerError)
            })?;
            let start = last.map_or(0, |end| end.saturating_add(1));
            let end = start.checked_add(PRODUCER_ID_BLOCK).ok_or_else(|| {
                let message = "all producer ids of this cluster are used up";
                Refusal::because(ResponseError::UnknownServerError, message)
            })?;
            let data = znode::encode_producer_ids(self.config.broker_id, start, end - 1);
            match self
                .zookeeper
                .set(znode::PRODUCER_IDS, data, stat.version)
                .await
            {
                Ok(_) => return Ok((start, end)),
                Err(error) if error.is(ErrorCode::BadVersion) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ResponseError::RequestTimedOut.into())
    }

    /// Waits until what this broker wrote before is in its image.
    pub async fn settle(&self) {
        let mark = self.zookeeper.mark();
        // Late is no failure: the caller looks at what is there.
        let _ = tokio::time::timeout(CATCH_UP, self.image.seen(mark)).await;
    }

    /// Waits for an image, and a moment for this broker's partitions to follow it: a client that comes
    /// back here then need not ask twice. Large changes are not waited for, as in Kafka.
    async fn when_led(&self, wanted: impl FnMut(&Image) -> bool) {
        self.image.wait_for(wanted).await;
        let _ = tokio::time::timeout(APPLY_PATIENCE, self.image.applied()).await;
    }
}

fn creation(topic: &Planned, settings_exist: bool) -> Vec<Op> {
    let path = znode::topic_config_path(&topic.name);
    let data = znode::encode_config(&topic.config);
    let settings = if settings_exist {
        Op::Set {
            path,
            data,
            version: -1,
        }
    } else {
        Op::Create {
            path,
            data: Some(data),
            mode: Mode::Persistent,
        }
    };
    let topic = Op::Create {
        path: znode::topic_path(&topic.name),
        data: Some(topic.znode.encode()),
        mode: Mode::Persistent,
    };
    vec![settings, topic]
}

fn is_led(topic: &TopicImage) -> bool {
    let mut partitions = topic.partitions.values();
    partitions.all(|partition| partition.leader().is_some())
}

#[cfg(test)]
mod tests;
