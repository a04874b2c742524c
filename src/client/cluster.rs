//! The cluster as a client sees it: brokers, leaders, coordinators, and connections to them.
//!
//! Metadata is an immutable value that is swapped whole; connections are opened when first needed
//! and opened again after they broke. Nothing here decides whether a request may be repeated:
//! [`Retry`] only counts time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::connection::{Connection, Settings};
use super::{ClientError, World};
use crate::common::net::{self, HostPort};

/// The first pause between two attempts; it doubles up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Where the original's clients say what went wrong with connections and metadata.
const LOGGER: &str = "org.apache.kafka.clients.NetworkClient";

/// A broker's name for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Where it listens for us.
    pub address: HostPort,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// One partition, from a Metadata answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// 0, or why it cannot be used now.
    pub error_code: i16,
    /// The leader, if there is one.
    pub leader: Option<i32>,
    /// The leader's epoch, -1 if unknown.
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
}

/// One topic, from a Metadata answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// 0, or why the topic cannot be used now.
    pub error_code: i16,
    /// Nil where the topic or the protocol version has none.
    pub id: Uuid,
    /// Does Kafka keep it for itself?
    pub internal: bool,
    /// Ordered by index.
    pub partitions: Vec<Partition>,
}

/// What a Metadata answer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller, if one is known.
    pub controller: Option<i32>,
    /// Live brokers.
    pub brokers: BTreeMap<i32, Node>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
}

impl Metadata {
    /// The leader of a partition and its epoch, if there is a live one.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(&Node, i32)> {
        let partition = self
            .topics
            .get(topic)?
            .partitions
            .iter()
            .find(|p| p.index == partition)?;
        let node = self.brokers.get(&partition.leader?)?;
        Some((node, partition.leader_epoch))
    }

    /// Why an application cannot go on with these topics, if it cannot.
    pub fn refusal(&self, names: &[String]) -> Option<ClientError> {
        let coded = |wanted: ResponseError| {
            let with = names.iter().filter(|name| {
                self.topics
                    .get(*name)
                    .is_some_and(|topic| topic.error_code == wanted.code())
            });
            with.cloned().collect::<Vec<_>>()
        };
        let reasons = [
            (ResponseError::InvalidTopicException, "Invalid topics"),
            (
                ResponseError::TopicAuthorizationFailed,
                "Not authorized to access topics",
            ),
        ];
        reasons.into_iter().find_map(|(error, text)| {
            let names = coded(error);
            (!names.is_empty()).then(|| ClientError::Answer {
                error,
                message: Some(format!("{text}: [{}]", names.join(", "))),
            })
        })
    }
}

/// Which topics a Metadata request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Every topic.
    All,
    /// These. Unknown ones are created if the flag is set and the broker allows it.
    Named(&'a [String], bool),
}

/// What a connection is for. Brokers answer one request per connection at a time, so a long poll, a
/// rebalance that waits for others and everything else must not stand behind one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Short requests.
    General,
    /// Fetches of the owner with this number, which wait for records.
    Fetch(u64),
    /// A group's coordinator, asked about groups.
    Group,
    /// A group's coordinator, for the member with this number, whose rebalance waits for others.
    Member(u64),
}

/// A cluster to talk to. Cheap to clone; clones share connections and metadata.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: World,
    settings: Settings,
    bootstrap: Vec<HostPort>,
    state: Mutex<State>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

#[derive(Debug, Default)]
struct State {
    metadata: Arc<Metadata>,
    /// Monotonic time of the last answer for all known topics; `None` before the first.
    refreshed_ms: Option<i64>,
    /// Monotonic time of the last answer of any kind.
    answered_ms: Option<i64>,
    connections: BTreeMap<(Purpose, HostPort), Slot>,
    coordinators: BTreeMap<String, HostPort>,
    owners: u64,
    /// Addresses that did not answer: how often in a row, and the monotonic time before which they are
    /// left alone.
    failing: BTreeMap<HostPort, (u32, i64)>,
}

impl Cluster {
    /// A cluster known by some of its brokers. Nothing is dialled yet.
    pub fn new(world: World, bootstrap: Vec<HostPort>, settings: Settings) -> Cluster {
        settings
            .traffic
            .name(bootstrap.iter().zip((i32::MIN..0).rev()));
        Cluster {
            inner: Arc::new(Inner {
                world,
                settings,
                bootstrap,
                state: Mutex::new(State::default()),
            }),
        }
    }

    /// The world of this client.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// How this client introduces itself and waits.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What we last heard, perhaps nothing.
    pub fn known(&self) -> Arc<Metadata> {
        self.state().metadata.clone()
    }

    /// A connection for short requests to that address, opened if need be.
    pub async fn connect(&self, address: &HostPort) -> Result<Connection, ClientError> {
        self.connect_for(Purpose::General, address).await
    }

    /// A connection for that purpose to that address, opened if need be.
    pub async fn connect_for(
        &self,
        purpose: Purpose,
        address: &HostPort,
    ) -> Result<Connection, ClientError> {
        let slot = self
            .state()
            .connections
            .entry((purpose, address.clone()))
            .or_default()
            .clone();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        self.wait_for(address).await;
        let opened = Connection::open(&self.inner.world, address, &self.inner.settings).await;
        match opened {
            Ok(opened) => {
                self.state().failing.remove(address);
                *slot = Some(opened.clone());
                Ok(opened)
            }
            Err(error) => {
                // What the end of this client cuts short says nothing of the broker.
                if !self.inner.world.tasks.shutdown().is_stopping() {
                    self.tell_unreachable(address).await;
                }
                Err(error)
            }
        }
    }

    /// A number for an owner of connections of its own.
    pub fn new_owner(&self) -> u64 {
        let mut state = self.state();
        state.owners += 1;
        state.owners
    }

    /// Closes the connections that were opened for `purpose`.
    pub fn release(&self, purpose: Purpose) {
        self.state().connections.retain(|(of, _), _| *of != purpose);
    }

    /// Leaves an address alone that failed a moment ago.
    async fn wait_for(&self, address: &HostPort) {
        let until_ms = self.state().failing.get(address).map(|(_, until)| *until);
        let left_ms = until_ms.map_or(0, |until| until - self.inner.world.clock.monotonic_ms());
        if left_ms > 0 {
            tokio::time::sleep(Duration::from_millis(left_ms.unsigned_abs())).await;
        }
    }

    /// Says that nobody answers at `address`, and puts the next attempt off.
    async fn tell_unreachable(&self, address: &HostPort) {
        let settings = &self.inner.settings;
        let now_ms = self.inner.world.clock.monotonic_ms();
        let known = self.known();
        let node = known.brokers.values().find(|node| node.address == *address);
        {
            let mut state = self.state();
            let (count, until_ms) = state.failing.entry(address.clone()).or_default();
            let pause = settings
                .reconnect_backoff
                .saturating_mul(1 << (*count).min(16));
            let pause = pause.min(settings.reconnect_backoff_max);
            *count += 1;
            *until_ms = now_ms + i64::try_from(pause.as_millis()).unwrap_or(0);
        }
        let context = &settings.context;
        let first = self.inner.bootstrap.iter().position(|a| a == address);
        let place = first.map_or(-1, |place| -1 - i32::try_from(place).unwrap_or(0));
        let id = node.map_or(place, |node| node.id);
        match net::resolve(address).await {
            Ok(resolved) => tracing::warn!(
                target: LOGGER,
                "{context}Connection to node {id} ({}) could not be established. Broker may not be available.",
                java_address(address, resolved)
            ),
            Err(_) => tracing::warn!(
                target: LOGGER,
                "{context}Error connecting to node {address} (id: {id} rack: null)"
            ),
        }
        // The original's administrator does not say so.
        if node.is_none() && !settings.is_admin {
            tracing::warn!(
                target: LOGGER,
                "{context}Bootstrap broker {address} (id: {id} rack: null) disconnected"
            );
        }
    }

    /// A connection to broker `id`; asks for metadata if the broker is unknown.
    pub async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        let known = self.known().brokers.get(&id).cloned();
        let node = match known {
            Some(node) => node,
            None => {
                let metadata = self.metadata(Wanted::Named(&[], false)).await?;
                let node = metadata.brokers.get(&id).cloned();
                node.ok_or(ClientError::Answer {
                    error: ResponseError::BrokerNotAvailable,
                    message: Some(format!("broker {id} is not available")),
                })?
            }
        };
        self.connect(&node.address).await
    }

    /// A connection to any broker: known ones first, then the bootstrap list, each in random order.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let mut candidates: Vec<HostPort> = self
            .known()
            .brokers
            .values()
            .map(|node| node.address.clone())
            .collect();
        self.shuffle(&mut candidates);
        let mut bootstrap = self.inner.bootstrap.clone();
        self.shuffle(&mut bootstrap);
        candidates.extend(bootstrap);
        {
            // One that failed a moment ago would have to be waited for.
            let state = self.state();
            candidates.sort_by_key(|address| state.failing.get(address).map(|(_, until)| *until));
        }
        let mut tried = BTreeSet::new();
        let mut last = None;
        for address in &candidates {
            if !tried.insert(address) {
                continue;
            }
            match self.connect(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::NoBroker {
            call: "connect",
            at_ms: self.inner.world.clock.wall_ms(),
            source: None,
        }))
    }

    /// A connection to the controller, whom we ask for anew.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        let metadata = self.metadata(Wanted::Named(&[], false)).await?;
        match metadata.controller {
            Some(id) if metadata.brokers.contains_key(&id) => self.broker(id).await,
            _ => Err(ClientError::Answer {
                error: ResponseError::NotController,
                message: Some("the cluster has no controller at the moment".to_owned()),
            }),
        }
    }

    /// A connection to the coordinator of `group`, shared by everybody who asks about groups.
    pub async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        self.coordinator_for(Purpose::Group, group).await
    }

    /// A connection for that purpose to the coordinator of `group`.
    pub async fn coordinator_for(
        &self,
        purpose: Purpose,
        group: &str,
    ) -> Result<Connection, ClientError> {
        let known = self.state().coordinators.get(group).cloned();
        if let Some(address) = known {
            return self.connect_for(purpose, &address).await;
        }
        let connection = self.any().await?;
        let version = connection.version::<FindCoordinatorRequest>(5)?;
        let key = StrBytes::from_string(group.to_owned());
        let request = if version >= 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
        } else {
            FindCoordinatorRequest::default().with_key(key)
        };
        let answer = connection.send_as(&request, version).await?;
        let (code, message, host, port) = match answer.coordinators.into_iter().next() {
            Some(found) => (
                found.error_code,
                found.error_message,
                found.host,
                found.port,
            ),
            None => (
                answer.error_code,
                answer.error_message,
                answer.host,
                answer.port,
            ),
        };
        ClientError::check(code, message.as_deref())?;
        let address = host_port(&host, port);
        self.state()
            .coordinators
            .insert(group.to_owned(), address.clone());
        self.connect_for(purpose, &address).await
    }

    /// Forgets who coordinates `group`, after it said that it does not.
    pub fn forget_coordinator(&self, group: &str) {
        self.state().coordinators.remove(group);
    }

    /// Asks any broker now and keeps what it says.
    pub async fn metadata(&self, wanted: Wanted<'_>) -> Result<Arc<Metadata>, ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<MetadataRequest>(i16::MAX)?;
        let request = metadata_request(wanted, version);
        let limit = self.inner.settings.request_timeout;
        let sent = connection.start(&request, version).await?;
        let correlation_id = sent.correlation_id();
        let answer = match sent.answer(limit).await {
            Ok(answer) => answer,
            Err(error) => {
                connection.close();
                return Err(error);
            }
        };
        ClientError::check(answer.error_code, None)?;
        let fresh = read_metadata(answer);
        if let Wanted::Named(names, _) = wanted {
            self.tell_errors(correlation_id, names, &fresh);
        }
        let now_ms = self.inner.world.clock.monotonic_ms();
        let brokers = fresh.brokers.values();
        let named = brokers.map(|node| (&node.address, node.id));
        self.inner.settings.traffic.name(named);
        let mut state = self.state();
        state.answered_ms = Some(now_ms);
        let mut kept = fresh.clone();
        if let Wanted::Named(names, _) = wanted {
            for (name, topic) in &state.metadata.topics {
                if !names.contains(name) {
                    kept.topics
                        .entry(name.clone())
                        .or_insert_with(|| topic.clone());
                }
            }
            if !names.is_empty() {
                state.refreshed_ms = Some(now_ms);
            }
        } else {
            state.refreshed_ms = Some(now_ms);
        }
        state.metadata = Arc::new(kept);
        Ok(Arc::new(fresh))
    }

    /// Says which of the topics asked for cannot be used now.
    fn tell_errors(&self, correlation_id: i32, names: &[String], metadata: &Metadata) {
        let errors: Vec<String> = names
            .iter()
            .filter_map(|name| {
                let code = metadata.topics.get(name)?.error_code;
                let error = ResponseError::try_from_code(code)?;
                Some(format!("{name}={}", upper_snake(&error.to_string())))
            })
            .collect();
        if !errors.is_empty() && !self.inner.settings.is_admin {
            let context = &self.inner.settings.context;
            tracing::warn!(
                target: LOGGER,
                "{context}Error while fetching metadata with correlation id {correlation_id} : {{{}}}",
                errors.join(", ")
            );
            if let Some(refusal) = metadata.refusal(names) {
                // The original's sentence without "Invalid", which it says otherwise.
                let text = refusal.to_string();
                let (what, topics) = text.split_once(": ").unwrap_or((&text, ""));
                let what = match what {
                    "Invalid topics" => "Metadata response reported invalid topics",
                    _ => "Topic authorization failed for topics",
                };
                tracing::error!(target: "org.apache.kafka.clients.Metadata", "{context}{what} {topics}");
            }
        }
    }

    /// Metadata that is not older than `metadata.max.age.ms` and knows all of `topics` without an error.
    pub async fn fresh(
        &self,
        topics: &[String],
        auto_create: bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        let now_ms = self.inner.world.clock.monotonic_ms();
        {
            let state = self.state();
            let young = state
                .refreshed_ms
                .is_some_and(|at| now_ms - at < self.metadata_age_ms());
            let usable = |name: &String| {
                state.metadata.topics.get(name).is_some_and(|topic| {
                    topic.error_code == 0 && topic.partitions.iter().all(|p| p.leader.is_some())
                })
            };
            if young && topics.iter().all(usable) {
                return Ok(state.metadata.clone());
            }
        }
        self.metadata(Wanted::Named(topics, auto_create)).await?;
        Ok(self.known())
    }

    /// `metadata.max.age.ms`.
    pub fn metadata_age_ms(&self) -> i64 {
        i64::try_from(self.inner.settings.metadata_age_max.as_millis()).unwrap_or(i64::MAX)
    }

    /// How long ago a broker told what it knows; `None` if none did.
    pub fn answered_ms_ago(&self) -> Option<i64> {
        let answered_ms = self.state().answered_ms?;
        Some(self.inner.world.clock.monotonic_ms() - answered_ms)
    }

    /// Makes [`Cluster::fresh`] ask again, after a broker refused to be the leader.
    pub fn stale(&self) {
        self.state().refreshed_ms = None;
    }

    /// Is it time to ask again: after [`Cluster::stale`], or by age?
    pub fn is_stale(&self) -> bool {
        let now_ms = self.inner.world.clock.monotonic_ms();
        let refreshed_ms = self.state().refreshed_ms;
        refreshed_ms.is_none_or(|at| now_ms - at >= self.metadata_age_ms())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shuffle(&self, list: &mut [HostPort]) {
        for end in (1..list.len()).rev() {
            let other = self.inner.world.rng.below(end as u64 + 1) as usize;
            list.swap(end, other);
        }
    }
}

/// Pauses between attempts until a deadline.
#[derive(Debug)]
pub struct Retry {
    deadline: tokio::time::Instant,
    pause: Duration,
}

impl Retry {
    /// Attempts may go on for `limit` from now.
    pub fn within(limit: Duration) -> Retry {
        Retry {
            deadline: tokio::time::Instant::now() + limit,
            pause: BACKOFF,
        }
    }

    /// Sleeps before the next attempt. Says `false` when there is no time for another.
    pub async fn pause(&mut self) -> bool {
        let now = tokio::time::Instant::now();
        if now >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause.min(self.deadline - now)).await;
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
        true
    }

    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.deadline
            .saturating_duration_since(tokio::time::Instant::now())
    }
}

/// Java's `InetSocketAddress.toString`: `host/ip:port`, or `/ip:port` for an address.
fn java_address(address: &HostPort, resolved: std::net::IpAddr) -> String {
    let host = &address.host;
    let name = if host.parse::<std::net::IpAddr>().is_ok() {
        ""
    } else {
        host
    };
    format!(
        "{name}/{}",
        HostPort::new(resolved.to_string(), address.port)
    )
}

/// `LeaderNotAvailable` as `LEADER_NOT_AVAILABLE`.
fn upper_snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

fn host_port(host: &str, port: i32) -> HostPort {
    HostPort::new(host, u16::try_from(port).unwrap_or(0))
}

fn metadata_request(wanted: Wanted<'_>, version: i16) -> MetadataRequest {
    let (topics, create) = match wanted {
        Wanted::All => (None, false),
        Wanted::Named(names, create) => (Some(names), create),
    };
    let topics = topics.map(|names| {
        names
            .iter()
            .map(|name| {
                MetadataRequestTopic::default()
                    .with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
            })
            .collect::<Vec<_>>()
    });
    // Version 0 has no null: an empty list means all.
    let topics = if version == 0 {
        Some(topics.unwrap_or_default())
    } else {
        topics
    };
    let request = MetadataRequest::default().with_topics(topics);
    // Before version 4 a broker always creates, and the flag may not be set otherwise.
    request.with_allow_auto_topic_creation(create || version < 4)
}

fn read_metadata(answer: MetadataResponse) -> Metadata {
    let brokers = answer
        .brokers
        .into_iter()
        .map(|broker| {
            let node = Node {
                id: broker.node_id.0,
                address: host_port(&broker.host, broker.port),
                rack: broker.rack.map(|rack| rack.to_string()),
            };
            (node.id, node)
        })
        .collect();
    Metadata {
        cluster_id: answer.cluster_id.map(|id| id.to_string()),
        controller: Some(answer.controller_id.0).filter(|id| *id >= 0),
        brokers,
        topics: answer.topics.into_iter().filter_map(read_topic).collect(),
    }
}

fn read_topic(topic: MetadataResponseTopic) -> Option<(String, Topic)> {
    let name = topic.name?.0.to_string();
    let mut partitions: Vec<Partition> = topic
        .partitions
        .into_iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            error_code: partition.error_code,
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
            isr: partition.isr_nodes.iter().map(|id| id.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let topic = Topic {
        error_code: topic.error_code,
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    };
    Some((name, topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_are_asked_for_as_each_version_spells_it() {
        assert_eq!(
            metadata_request(Wanted::All, 0).topics.map(|t| t.len()),
            Some(0)
        );
        assert_eq!(metadata_request(Wanted::All, 1).topics, None);
        assert_eq!(
            metadata_request(Wanted::Named(&[], false), 9)
                .topics
                .map(|t| t.len()),
            Some(0)
        );
        assert!(!metadata_request(Wanted::All, 9).allow_auto_topic_creation);
        assert!(metadata_request(Wanted::All, 3).allow_auto_topic_creation);
    }

    #[test]
    fn names_are_spelt_as_java_spells_them() {
        // As a genuine 2.8.0 producer's log has them.
        let ip = "127.0.0.1".parse().expect("an address");
        for (host, text) in [
            ("127.0.0.1", "/127.0.0.1:9092"),
            ("localhost", "localhost/127.0.0.1:9092"),
        ] {
            assert_eq!(java_address(&HostPort::new(host, 9092), ip), text);
        }
        for (error, text) in [
            (ResponseError::LeaderNotAvailable, "LEADER_NOT_AVAILABLE"),
            (
                ResponseError::InvalidTopicException,
                "INVALID_TOPIC_EXCEPTION",
            ),
            (
                ResponseError::UnknownTopicOrPartition,
                "UNKNOWN_TOPIC_OR_PARTITION",
            ),
        ] {
            assert_eq!(upper_snake(&error.to_string()), text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_with_the_deadline() {
        let mut retry = Retry::within(Duration::from_millis(200));
        let mut attempts = 1;
        while retry.pause().await {
            attempts += 1;
        }
        assert_eq!(attempts, 4, "pauses of 50, 100 and 50 ms");
    }
}
