//! The harness: nodes with real sockets on ports of their own and directories that go away, and clients.
//!
//! A node that is stopped and started again keeps its ports and its directory. Nothing here knows what a
//! test is about.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use tripod::cli::halves::{Halves, World};
use tripod::client;
use tripod::client::admin::{Admin, ListedOffset, NewTopic, OffsetSpec};
use tripod::client::cluster::{Metadata, Wanted};
use tripod::client::connection::Settings;
use tripod::client::consumer::{self, Consumer, Start};
use tripod::client::producer::{self, Producer, Record};
use tripod::client::zookeeper::{Events, Options, ZooKeeper};
use tripod::client::{ClientError, group};
use tripod::common::clock::Clock;
use tripod::common::ids::TopicPartition;
use tripod::common::net::{self, HostPort};
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;
use tripod::config::{Config, Sources, load};
use tripod::http::server;

pub use crate::http_get::http_get;

/// How long anything may take before a test gives up. Far more than it should, for slow machines.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value; panics with `what` after [`DEADLINE`].
pub async fn wait_until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain: {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// A port that nobody listens on, below those that the system gives to outgoing connections. No two
/// calls of this process give the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    loop {
        let port = 21_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a cluster is made of.
pub struct Plan {
    nodes: u16,
    roles: &'static str,
    overrides: Vec<(String, String)>,
    /// The same for one node.
    own: Vec<(usize, String, String)>,
}

impl Plan {
    /// Nodes with both halves; one node's coordinator stands alone.
    pub fn nodes(nodes: u16) -> Plan {
        Plan {
            nodes,
            roles: "coordinator,broker",
            overrides: Vec::new(),
            own: Vec::new(),
        }
    }

    /// ZooKeepers without Kafka.
    pub fn coordinators(nodes: u16) -> Plan {
        Plan {
            roles: "coordinator",
            ..Plan::nodes(nodes)
        }
    }

    /// Another value for a setting, by its path.
    pub fn set(mut self, path: &str, value: &str) -> Plan {
        self.overrides.push((path.to_owned(), value.to_owned()));
        self
    }

    /// Another value at one node.
    pub fn set_at(mut self, node: usize, path: &str, value: &str) -> Plan {
        self.own.push((node, path.to_owned(), value.to_owned()));
        self
    }

    /// Starts it; every half serves when this returns.
    pub async fn start(self) -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let ports: Vec<Ports> = (0..self.nodes).map(|_| Ports::free()).collect();
        let nodes = (0..self.nodes).map(|node| {
            let config = self.configure(usize::from(node), &ports, dir.path());
            Node::new(config, &ports[usize::from(node)])
        });
        let mut cluster = Cluster {
            nodes: nodes.collect(),
            client_tasks: Tasks::new(Shutdown::new()),
            _dir: dir,
        };
        cluster.start().await;
        cluster
    }

    fn configure(&self, node: usize, ports: &[Ports], dir: &Path) -> Config {
        let own = &ports[node];
        let id = if ports.len() > 1 { node } else { 1 };
        let mut settings: BTreeMap<String, String> = [
            ("node.roles", self.roles.to_owned()),
            (
                "node.data.dir",
                dir.join(format!("node{}", node + 1)).display().to_string(),
            ),
            ("coordinator.myid", (node + 1).to_string()),
            ("coordinator.clientPort", own.zookeeper.to_string()),
            ("coordinator.clientPortAddress", "127.0.0.1".to_owned()),
            ("coordinator.maxClientCnxns", "0".to_owned()),
            ("broker.broker.id", id.to_string()),
            (
                "broker.listeners",
                format!("PLAINTEXT://127.0.0.1:{}", own.kafka),
            ),
            ("broker.group.initial.rebalance.delay.ms", "0".to_owned()),
            ("broker.offsets.topic.replication.factor", "1".to_owned()),
            ("broker.offsets.topic.num.partitions", "3".to_owned()),
            ("http.port", own.http.to_string()),
        ]
        .into_iter()
        .map(|(path, value)| (path.to_owned(), value))
        .collect();
        if ports.len() > 1 {
            for (index, member) in ports.iter().enumerate() {
                settings.insert(
                    format!("coordinator.server.{}", index + 1),
                    format!(
                        "127.0.0.1:{}:{};{}",
                        member.quorum, member.election, member.zookeeper
                    ),
                );
            }
        }
        settings.extend(self.overrides.iter().cloned());
        let own = self.own.iter().filter(|(at, ..)| *at == node);
        settings.extend(own.map(|(_, path, value)| (path.clone(), value.clone())));
        let sources = Sources {
            implied: settings.into_iter().collect(),
            hostname: "127.0.0.1".to_owned(),
            ..Sources::default()
        };
        match load(&sources) {
            Ok(loaded) => loaded.config,
            Err(report) => panic!("{report}"),
        }
    }
}

/// The ports of one node.
struct Ports {
    kafka: u16,
    zookeeper: u16,
    quorum: u16,
    election: u16,
    http: u16,
}

impl Ports {
    fn free() -> Ports {
        Ports {
            kafka: free_port(),
            zookeeper: free_port(),
            quorum: free_port(),
            election: free_port(),
            http: free_port(),
        }
    }
}

/// One node: its settings, and what runs of it.
pub struct Node {
    /// Its configuration.
    pub config: Arc<Config>,
    /// The Kafka listener.
    pub kafka: HostPort,
    /// The ZooKeeper listener.
    pub zookeeper: HostPort,
    /// The HTTP listener.
    pub http: HostPort,
    running: Option<Life>,
}

struct Life {
    halves: Halves,
    world: World,
}

impl Node {
    fn new(config: Config, ports: &Ports) -> Node {
        let at = |port| HostPort::new("127.0.0.1", port);
        Node {
            config: Arc::new(config),
            kafka: at(ports.kafka),
            zookeeper: at(ports.zookeeper),
            http: at(ports.http),
            running: None,
        }
    }

    async fn start_coordinator(&mut self) -> Result<(), String> {
        let tasks = Tasks::new(Shutdown::new());
        let life = Life {
            halves: Halves::new(self.config.clone()),
            world: World::real(tasks.clone()),
        };
        let listener = net::bind(&self.http)
            .await
            .map_err(|error| error.to_string())?;
        let options = server::Options {
            connections_max: 100,
            commands: true,
        };
        server::serve(listener, life.halves.sources(), options, &tasks)
            .map_err(|error| error.to_string())?;
        life.halves.start_coordinator(&life.world).await?;
        self.running = Some(life);
        Ok(())
    }

    async fn start_broker(&self) -> Result<bool, String> {
        let life = self.running.as_ref().expect("its coordinator was started");
        life.halves.start_broker(&life.world).await
    }

    /// Stops the broker and leaves the coordinator.
    pub async fn stop_broker(&self) {
        if let Some(life) = &self.running {
            life.halves.stop_broker().await;
        }
    }

    /// Stops the coordinator and leaves the broker.
    pub async fn stop_coordinator(&self) {
        if let Some(life) = &self.running {
            life.halves.stop_coordinator().await;
        }
    }

    /// Stops what is left of it; no task may be left.
    pub async fn stop(&mut self) {
        let Some(life) = self.running.take() else {
            return;
        };
        life.halves.stop_broker().await;
        life.halves.stop_coordinator().await;
        let ended = life.world.tasks.stop(DEADLINE).await;
        assert!(
            ended,
            "{} tasks of the node are left",
            life.world.tasks.running()
        );
        assert_eq!(life.world.tasks.running(), 0);
    }

    /// Starts it again, on the same directory and ports.
    pub async fn start(&mut self) -> Result<(), String> {
        self.start_coordinator().await?;
        self.start_broker().await.map(|_| ())
    }

    /// The name of an essential task that died, if one did.
    pub async fn failed_task(&self) -> Option<&'static str> {
        let tasks = &self.running.as_ref()?.world.tasks;
        tokio::select! {
            biased;
            failed = tasks.failed() => Some(failed.task),
            () = std::future::ready(()) => None,
        }
    }
}

/// Nodes that know each other.
pub struct Cluster {
    /// The nodes; the first one has the lowest ids.
    pub nodes: Vec<Node>,
    client_tasks: Tasks,
    _dir: TempDir,
}

impl Cluster {
    /// Starts every node that does not run.
    pub async fn start(&mut self) {
        for node in &mut self.nodes {
            if node.running.is_none() {
                node.start_coordinator().await.expect("it starts");
            }
        }
        // Brokers need a leader among the coordinators, so all of those come first.
        for node in &self.nodes {
            node.start_broker().await.expect("it starts");
        }
        if self.nodes.iter().all(|node| node.config.roles.broker) {
            self.everybody_knows_everybody().await;
        }
    }

    /// Waits until every broker knows all brokers.
    pub async fn everybody_knows_everybody(&self) {
        for node in &self.nodes {
            let client = Client::new(self.world(), vec![node.kafka.clone()]);
            wait_until("a broker knows all brokers", || async {
                let metadata = client.cluster.metadata(Wanted::Named(&[], false)).await;
                (metadata.ok()?.brokers.len() == self.nodes.len()).then_some(())
            })
            .await;
        }
    }

    /// Stops clients, brokers, coordinators, in this order.
    pub async fn stop(&mut self) {
        assert!(
            self.client_tasks.stop(DEADLINE).await,
            "{} tasks of clients are left",
            self.client_tasks.running()
        );
        self.client_tasks = Tasks::new(Shutdown::new());
        for node in &self.nodes {
            node.stop_broker().await;
        }
        for node in &mut self.nodes {
            node.stop().await;
        }
    }

    /// Stops and starts everything.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// The world of clients.
    pub fn world(&self) -> client::World {
        client::World {
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks: self.client_tasks.clone(),
        }
    }

    /// A client that knows every broker.
    pub fn client(&self) -> Client {
        let addresses = self.nodes.iter().map(|node| node.kafka.clone()).collect();
        Client::new(self.world(), addresses)
    }

    /// A session with any coordinator.
    pub async fn zookeeper(&self) -> (Arc<ZooKeeper>, Events) {
        let servers = self.nodes.iter().map(|node| node.zookeeper.clone());
        self.session(servers.collect(), Duration::from_secs(10))
            .await
    }

    /// A session with one of `servers`.
    pub async fn session(
        &self,
        servers: Vec<HostPort>,
        timeout: Duration,
    ) -> (Arc<ZooKeeper>, Events) {
        let options = Options {
            servers,
            chroot: String::new(),
            session_timeout: timeout,
            connection_timeout: Some(DEADLINE),
        };
        ZooKeeper::connect(options, &self.world())
            .await
            .expect("a session")
    }
}

/// A Kafka client and what tests do with it again and again.
#[derive(Clone)]
pub struct Client {
    /// Connections and metadata.
    pub cluster: client::cluster::Cluster,
    /// Topics, groups and settings.
    pub admin: Admin,
}

impl Client {
    /// A client that begins with `bootstrap`.
    pub fn new(world: client::World, bootstrap: Vec<HostPort>) -> Client {
        let cluster = client::cluster::Cluster::new(world, bootstrap, Settings::new("it"));
        Client {
            admin: Admin::new(cluster.clone()).with_timeout(DEADLINE),
            cluster,
        }
    }

    /// Creates a topic of one replica and waits until every partition has a leader.
    pub async fn create(&self, name: &str, partitions: i32) {
        self.create_with(name, partitions, &[]).await;
    }

    /// The same with settings.
    pub async fn create_with(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(1),
            configs: configs.collect(),
            ..NewTopic::default()
        };
        self.admin.create_topic(&topic).await.expect("created");
        self.leaders(name, partitions).await;
    }

    /// Waits until the topic has so many partitions, each with a leader; answers the leaders.
    pub async fn leaders(&self, name: &str, partitions: i32) -> Vec<i32> {
        wait_until(&format!("{name} has {partitions} leaders"), || async {
            let metadata = self.metadata(name).await.ok()?;
            let leaders: Option<Vec<i32>> = (0..partitions)
                .map(|partition| Some(metadata.leader(name, partition)?.0.id))
                .collect();
            leaders.filter(|_| metadata.topics[name].partitions.len() == partitions as usize)
        })
        .await
    }

    /// What a broker says about one topic now.
    pub async fn metadata(&self, name: &str) -> Result<Arc<Metadata>, ClientError> {
        let names = [name.to_owned()];
        self.cluster.stale();
        self.cluster.metadata(Wanted::Named(&names, false)).await
    }

    /// Produces values to one partition, and waits for all; the offset of each batch's first record.
    pub async fn produce(
        &self,
        settings: producer::Settings,
        (topic, partition): (&str, i32),
        values: &[String],
    ) -> Result<Vec<i64>, String> {
        let outcomes: Arc<Mutex<Vec<Result<i64, String>>>> = Arc::default();
        let report = outcomes.clone();
        let producer = Producer::new(
            self.cluster.clone(),
            settings,
            Box::new(move |delivery| {
                let result = delivery.result.map_err(ToString::to_string);
                report.lock().expect("no panic").push(result);
            }),
        );
        let now_ms = Clock::real().wall_ms();
        let mut refused = None;
        for value in values {
            let record = Record {
                topic,
                partition: Some(partition),
                timestamp: now_ms,
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
            };
            if let Err(error) = producer.send(&record).await {
                refused = Some(error.to_string());
                break;
            }
        }
        producer.close().await;
        let outcomes = std::mem::take(&mut *outcomes.lock().expect("no panic"));
        match refused {
            Some(error) => Err(error),
            None => outcomes.into_iter().collect(),
        }
    }

    /// Produces with the defaults and must succeed.
    pub async fn put(&self, topic: &str, partition: i32, values: &[String]) -> Vec<i64> {
        let settings = producer::Settings {
            acks: -1,
            ..producer::Settings::default()
        };
        self.produce(settings, (topic, partition), values)
            .await
            .expect("acknowledged")
    }

    /// Reads `count` records of one partition: offsets and values.
    pub async fn read(
        &self,
        (topic, partition): (&str, i32),
        start: Start,
        count: usize,
    ) -> Vec<(i64, String)> {
        let mut consumer = self.consumer(None);
        consumer.assign(vec![(TopicPartition::new(topic, partition), start)]);
        let deadline = Instant::now() + DEADLINE;
        let mut found = Vec::new();
        while found.len() < count {
            assert!(
                Instant::now() < deadline,
                "{topic}-{partition} gave {} of {count}",
                found.len()
            );
            // Unsettled moments (a leader that is on its way) come and go.
            if let Ok(Some(chunk)) = consumer.poll(Duration::from_millis(500)).await {
                for record in chunk.records(true) {
                    let (record, _) = record.expect("well formed");
                    let value = record.value.expect("a value").to_vec();
                    found.push((record.offset.0, String::from_utf8(value).expect("text")));
                }
            }
        }
        consumer.close().await.expect("closes");
        found
    }

    /// A consumer from the first record on; a member of `group` if there is one.
    pub fn consumer(&self, group: Option<group::Settings>) -> Consumer {
        let settings = consumer::Settings {
            reset: consumer::Reset::Earliest,
            auto_commit: false,
            ..consumer::Settings::default()
        };
        Consumer::new(self.cluster.clone(), settings, group)
    }

    /// One offset of one partition.
    pub async fn offset(
        &self,
        topic: &str,
        partition: i32,
        which: OffsetSpec,
    ) -> Result<ListedOffset, ClientError> {
        let id = TopicPartition::new(topic, partition);
        let wanted = BTreeMap::from([(id.clone(), which)]);
        let mut answer = self.admin.list_offsets(&wanted, false).await?;
        answer.remove(&id).expect("it was asked for")
    }
}

/// `prefix 0`, `prefix 1`, …
pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|index| format!("{prefix} {index}"))
        .collect()
}
