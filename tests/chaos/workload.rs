//! The load: idempotent producers with acks=all, a reader that follows, and full reads at the end. All of it is
//! written down as a history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tripod::client::admin::{Admin, ElectionType, NewTopic, OffsetSpec};
use tripod::client::cluster::{Cluster, Wanted};
use tripod::client::connection::Settings;
use tripod::client::consumer::{self, Consumer, Start};
use tripod::client::producer::{self, Producer, Record};
use tripod::client::zookeeper::{self, ZooKeeper};
use tripod::client::{self, ClientError};
use tripod::common::clock::Clock;
use tripod::common::ids::TopicPartition;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use crate::check::history::{Event, What};
use crate::nodes::{DEADLINE, wait_until};

pub const TOPIC: &str = "chaos";
pub const PARTITIONS: i32 = 3;

/// The history as it grows.
#[derive(Clone)]
pub struct Recorder {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    fn new() -> Recorder {
        Recorder {
            began: Instant::now(),
            events: Arc::default(),
        }
    }

    pub fn note(&self, who: &str, what: What) {
        let t = u64::try_from(self.began.elapsed().as_nanos()).expect("a short run");
        let p = who.to_owned();
        self.events
            .lock()
            .expect("no panic")
            .push(Event { t, p, what });
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic").clone()
    }

    /// How many were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let events = self.events.lock().expect("no panic");
        let acks = events
            .iter()
            .filter(|event| matches!(event.what, What::Ack { .. }));
        acks.count()
    }

    /// How many of those the reader has not got.
    fn reader_lacks(&self) -> usize {
        let events = self.events.lock().expect("no panic");
        let mut lacking = BTreeSet::new();
        for event in events.iter() {
            if let What::Ack { id, .. } = event.what {
                lacking.insert(id);
            }
        }
        for event in events.iter() {
            if let What::Recv { id, .. } = event.what {
                lacking.remove(&id);
            }
        }
        lacking.len()
    }

    /// The same, of one partition.
    fn acknowledged_in(&self, wanted: i32) -> usize {
        let events = self.events.lock().expect("no panic");
        let acks = events.iter().filter(
            |event| matches!(event.what, What::Ack { partition, .. } if partition == wanted),
        );
        acks.count()
    }
}

/// Clients at work.
pub struct Workload {
    pub recorder: Recorder,
    bootstrap: Vec<HostPort>,
    tasks: Tasks,
    stop: Shutdown,
    clients: JoinSet<()>,
    stop_reader: Shutdown,
    reader: JoinSet<()>,
}

impl Workload {
    /// Makes the topic, three replicas, two of them in sync at least, and begins.
    pub async fn start(bootstrap: Vec<HostPort>, producers: u64, per_second: u64) -> Workload {
        let mut workload = Workload {
            recorder: Recorder::new(),
            bootstrap,
            tasks: Tasks::new(Shutdown::new()),
            stop: Shutdown::new(),
            clients: JoinSet::new(),
            stop_reader: Shutdown::new(),
            reader: JoinSet::new(),
        };
        let admin = workload.admin();
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: Some(PARTITIONS),
            replication_factor: Some(3),
            configs: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
            ..NewTopic::default()
        };
        admin.create_topic(&topic).await.expect("created");
        for producer in 0..producers {
            let (cluster, recorder) = (workload.cluster(), workload.recorder.clone());
            let stop = workload.stop.clone();
            let pause = Duration::from_nanos(1_000_000_000 / per_second.max(1));
            let producing = produce(cluster, recorder, producer, pause, stop);
            workload.clients.spawn(producing);
        }
        let reading = follow(
            workload.cluster(),
            workload.recorder.clone(),
            workload.stop_reader.clone(),
        );
        workload.reader.spawn(reading);
        workload.goes_on().await;
        workload
    }

    fn world(&self) -> client::World {
        client::World {
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks: self.tasks.clone(),
        }
    }

    /// A session of ZooKeeper.
    pub fn zookeeper(&self, servers: Vec<HostPort>) -> Arc<ZooKeeper> {
        let options = zookeeper::Options {
            servers,
            chroot: String::new(),
            session_timeout: Duration::from_secs(18),
            connection_timeout: None,
        };
        ZooKeeper::start(options, &self.world()).0
    }

    fn cluster(&self) -> Cluster {
        let world = self.world();
        Cluster::new(world, self.bootstrap.clone(), Settings::new("chaos"))
    }

    /// For questions beside the load.
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster()).with_timeout(DEADLINE)
    }

    /// Says what is done to the cluster now.
    pub fn fault(&self, what: &str) {
        self.recorder.note(
            "fault",
            What::Fault {
                what: what.to_owned(),
            },
        );
    }

    /// Waits for acknowledgements that begin after this call: a hundred, so that all partitions have some.
    pub async fn goes_on(&self) {
        let before = self.recorder.acknowledged();
        wait_until("records are acknowledged", async || {
            self.recorder.acknowledged() > before + 100
        })
        .await;
    }

    /// Waits for acknowledgements of one partition that come after this call.
    pub async fn partition_goes_on(&self, partition: i32) {
        let before = self.recorder.acknowledged_in(partition);
        let what = format!("records of partition {partition} are acknowledged");
        wait_until(&what, async || {
            self.recorder.acknowledged_in(partition) > before + 30
        })
        .await;
    }

    /// Who leads a partition now.
    pub async fn leader(&self, partition: i32) -> usize {
        let admin = self.admin();
        let names = [TOPIC.to_owned()];
        let mut leader = None;
        wait_until(&format!("partition {partition} has a leader"), async || {
            admin.cluster().stale();
            if let Ok(metadata) = admin.metadata(Wanted::Named(&names, false)).await {
                leader = metadata.leader(TOPIC, partition).map(|(node, _)| node.id);
            }
            leader.is_some()
        })
        .await;
        usize::try_from(leader.expect("waited for")).expect("an id")
    }

    /// Waits until every partition has all its replicas in sync.
    pub async fn healed(&self) {
        let admin = self.admin();
        let names = [TOPIC.to_owned()];
        wait_until("all replicas are in sync", async || {
            admin.cluster().stale();
            let Ok(metadata) = admin.metadata(Wanted::Named(&names, false)).await else {
                return false;
            };
            let Some(topic) = metadata.topics.get(TOPIC) else {
                return false;
            };
            topic.partitions.len() == PARTITIONS as usize
                && topic
                    .partitions
                    .iter()
                    .all(|partition| partition.isr.len() == 3)
        })
        .await;
    }

    /// Makes the first of a partition's replicas its leader again.
    pub async fn prefer(&self, partition: i32) {
        let (admin, id) = (self.admin(), TopicPartition::new(TOPIC, partition));
        let first = self.replicas(partition).await[0];
        wait_until("the preferred leader leads", async || {
            let one = Some(std::slice::from_ref(&id));
            let _ = admin.elect_leaders(ElectionType::Preferred, one).await;
            self.leader(partition).await == first
        })
        .await;
    }

    /// Who has a partition, the preferred leader first.
    pub async fn replicas(&self, partition: i32) -> Vec<usize> {
        let names = [TOPIC.to_owned()];
        let metadata = self.admin().metadata(Wanted::Named(&names, false)).await;
        let topic = metadata.expect("answered").topics[TOPIC].clone();
        let of = |one: &client::cluster::Partition| one.index == partition;
        let one = topic.partitions.iter().find(|one| of(one));
        let replicas = &one.expect("there").replicas;
        let ids = replicas
            .iter()
            .map(|id| usize::try_from(*id).expect("an id"));
        ids.collect()
    }

    /// The partition that a node leads when all is well.
    pub async fn partition_of(&self, node: usize) -> i32 {
        for partition in 0..PARTITIONS {
            if self.replicas(partition).await[0] == node {
                return partition;
            }
        }
        panic!("node {node} leads none");
    }

    /// What the leader of a partition says of an offset.
    pub async fn offset(&self, partition: i32, spec: OffsetSpec) -> i64 {
        let (admin, id) = (self.admin(), TopicPartition::new(TOPIC, partition));
        let wanted = BTreeMap::from([(id.clone(), spec)]);
        let mut offset = None;
        wait_until("an offset is told", async || {
            let told = admin.list_offsets(&wanted, false).await;
            offset = told
                .ok()
                .and_then(|told| Some(told.get(&id)?.as_ref().ok()?.offset));
            offset.is_some()
        })
        .await;
        offset.expect("waited for")
    }

    /// Reads a partition from the beginning, up to an offset or the first error.
    pub async fn read_up_to(&self, partition: i32, end: i64) -> Result<(), ClientError> {
        let settings = consumer::Settings {
            auto_commit: false,
            ..consumer::Settings::default()
        };
        let mut consumer = Consumer::new(self.cluster(), settings, None);
        let id = TopicPartition::new(TOPIC, partition);
        consumer.assign(vec![(id, Start::Earliest)]);
        let (mut next, deadline) = (0, Instant::now() + Duration::from_secs(10));
        while next < end {
            assert!(
                Instant::now() < deadline,
                "{partition}: {next} of {end} read"
            );
            let Some(chunk) = consumer.poll(Duration::from_millis(500)).await? else {
                continue;
            };
            for record in chunk.records(true) {
                let (record, _) = record?;
                id_of(record.value.as_deref());
                assert_eq!(record.offset.0, next, "{partition}");
                next += 1;
            }
        }
        Ok(())
    }

    /// Ends the load; everything that was sent is acknowledged or given up when this returns, and the reader
    /// has all that was acknowledged.
    pub async fn finish(&mut self) {
        self.stop.stop();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no panic");
        }
        let recorder = self.recorder.clone();
        wait_until("the reader has it all", async || {
            recorder.reader_lacks() == 0 || self.reader.try_join_next().is_some()
        })
        .await;
        self.stop_reader.stop();
        while let Some(ended) = self.reader.join_next().await {
            ended.expect("no panic");
        }
        assert_eq!(recorder.reader_lacks(), 0, "the reader has it all");
    }

    /// Reads everything back.
    pub async fn read_back(&self, pass: u32) {
        let admin = self.admin();
        for partition in 0..PARTITIONS {
            let id = TopicPartition::new(TOPIC, partition);
            let wanted = BTreeMap::from([(id.clone(), OffsetSpec::Latest)]);
            let end = admin.list_offsets(&wanted, false).await.expect("answered");
            let end = end[&id].as_ref().expect("an end").offset;
            let settings = consumer::Settings {
                reset: consumer::Reset::Earliest,
                auto_commit: false,
                ..consumer::Settings::default()
            };
            let mut consumer = Consumer::new(self.cluster(), settings, None);
            consumer.assign(vec![(id, Start::Earliest)]);
            let (mut next, deadline) = (0, Instant::now() + DEADLINE);
            while next < end {
                assert!(
                    Instant::now() < deadline,
                    "{partition}: {next} of {end} read"
                );
                let Ok(Some(chunk)) = consumer.poll(Duration::from_millis(500)).await else {
                    continue;
                };
                for record in chunk.records(true) {
                    let (record, _) = record.expect("well formed");
                    let (id, offset) = (id_of(record.value.as_deref()), record.offset.0);
                    let what = What::Final {
                        id,
                        partition,
                        offset,
                        pass,
                    };
                    self.recorder.note("final", what);
                }
                next = next.max(chunk.next_offset);
            }
            consumer.close().await.expect("closes");
        }
    }
}

/// The id is the record's first word; the rest repeats it, so that damage shows.
fn value_of(id: u64) -> String {
    format!("{id} {}", format!("{id:020}").repeat(20))
}

fn id_of(value: Option<&[u8]>) -> u64 {
    let text = std::str::from_utf8(value.expect("a value")).expect("text");
    let (id, _) = text.split_once(' ').expect("two words");
    let id = id.parse().expect("a number");
    assert_eq!(text, value_of(id), "the record is damaged");
    id
}

/// Ids by partition and by the time just before they were handed over, on the producer's clock: outcomes of
/// several batches may come in any order, and name each record by the time at which it was taken.
type Sent = Arc<Mutex<BTreeMap<i32, BTreeMap<i64, u64>>>>;

async fn produce(
    cluster: Cluster,
    recorder: Recorder,
    producer: u64,
    pause: Duration,
    stop: Shutdown,
) {
    let who = format!("producer-{producer}");
    let sent: Sent = Arc::default();
    let settings = producer::Settings {
        acks: -1,
        idempotent: true,
        ..producer::Settings::default()
    };
    let report = {
        let (recorder, sent, who) = (recorder.clone(), sent.clone(), who.clone());
        Box::new(move |delivery: &producer::Delivery<'_>| {
            let partition = delivery.partition;
            for (nth, appended_us) in delivery.appended_us.iter().enumerate() {
                let mut sent = sent.lock().expect("no panic");
                let sent = sent.get_mut(&partition).expect("it was sent");
                let before = sent.range(..=appended_us).next_back();
                let before = *before.expect("it was sent").0;
                let id = sent.remove(&before).expect("it is there");
                let what = match &delivery.result {
                    Ok(base) => What::Ack {
                        id,
                        partition,
                        offset: base + i64::try_from(nth).expect("few"),
                    },
                    // The client retries until its time is over: nothing is known of what it gave up.
                    Err(error) => What::Err {
                        id,
                        partition,
                        definite: false,
                        why: error.to_string(),
                    },
                };
                recorder.note(&who, what);
            }
        })
    };
    let producer_client = Producer::new(cluster, settings, report);
    let clock = Clock::real();
    for n in 0_u64.. {
        if stop.is_stopping() {
            break;
        }
        let id = producer * 1_000_000_000 + n;
        let partition = i32::try_from(n % PARTITIONS as u64).expect("small");
        let value = value_of(id);
        let before = producer_client.now_us();
        let of_partition = |sent: &Sent, change: &dyn Fn(&mut BTreeMap<i64, u64>)| {
            change(sent.lock().expect("no panic").entry(partition).or_default());
        };
        of_partition(&sent, &|sent| {
            assert_eq!(sent.insert(before, id), None, "two records at one time");
        });
        recorder.note(&who, What::Send { id, partition });
        let record = Record {
            topic: TOPIC,
            partition: Some(partition),
            timestamp: clock.wall_ms(),
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        if let Err(error) = producer_client.send(&record).await {
            // It never left this process.
            of_partition(&sent, &|sent| {
                sent.remove(&before);
            });
            let why = error.to_string();
            recorder.note(
                &who,
                What::Err {
                    id,
                    partition,
                    definite: true,
                    why,
                },
            );
        }
        tokio::time::sleep(pause).await;
    }
    producer_client.close().await;
}

async fn follow(cluster: Cluster, recorder: Recorder, stop: Shutdown) {
    let settings = consumer::Settings {
        reset: consumer::Reset::None,
        auto_commit: false,
        ..consumer::Settings::default()
    };
    let mut consumer = Consumer::new(cluster, settings, None);
    let all = (0..PARTITIONS).map(|partition| {
        recorder.note(
            "reader",
            What::Follow {
                partition,
                offset: 0,
            },
        );
        (TopicPartition::new(TOPIC, partition), Start::Offset(0))
    });
    consumer.assign(all.collect());
    while !stop.is_stopping() {
        match consumer.poll(Duration::from_millis(200)).await {
            Ok(Some(chunk)) => {
                for record in chunk.records(true) {
                    let (record, _) = record.expect("well formed");
                    let what = What::Recv {
                        id: id_of(record.value.as_deref()),
                        partition: chunk.partition.partition,
                        offset: record.offset.0,
                    };
                    recorder.note("reader", what);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let what = format!("the reader was told: {error}");
                recorder.note("reader", What::Fault { what });
                assert_ne!(error.code(), Some(ResponseError::OffsetOutOfRange));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    consumer.close().await.expect("closes");
}
