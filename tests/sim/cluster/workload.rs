//! The load on a whole cluster: idempotent producers with acks=all, a reader that follows, and full reads at the
//! end. All of it is written down as a history for [`crate::check::queue`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::task::JoinHandle;
use tripod::client::World;
use tripod::client::admin::{Admin, NewTopic, OffsetSpec};
use tripod::client::cluster::Cluster;
use tripod::client::connection::Settings;
use tripod::client::consumer::{self, Consumer, Start};
use tripod::client::producer::{self, Delivery, Producer, Record};
use tripod::common::clock::Clock;
use tripod::common::ids::TopicPartition;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use super::{KAFKA_PORT, NODES, PARTITIONS, PRODUCERS, Phase, Shared, TOPIC, lock, name};
use crate::check::history::What;
use crate::machines;

/// Between two records of a producer.
const PAUSE: Duration = Duration::from_millis(25);
/// How long one request may take: machines that lost power answer nothing.
const REQUEST: Duration = Duration::from_secs(3);
const DELIVERY: Duration = Duration::from_secs(60);

/// One machine with clients; the first one has the reader, too, and makes the topic.
pub async fn run(number: u64, rng: Rng, shared: Arc<Shared>) -> turmoil::Result {
    let clients = Clients {
        number,
        world: World {
            clock: machines::clock(),
            rng,
            tasks: Tasks::new(Shutdown::new()),
        },
        shared,
    };
    if number == 0 {
        clients.make_topic().await;
    }
    clients.phase(Phase::Working).await;
    let (stop, stop_reader) = (Shutdown::new(), Shutdown::new());
    let producing = tokio::task::spawn_local(produce(clients.clone(), stop.clone()));
    let reading = (number == 0)
        .then(|| tokio::task::spawn_local(follow(clients.clone(), stop_reader.clone())));
    clients.phase(Phase::ReadingBack(0)).await;
    stop.stop();
    joined(producing).await;
    if let Some(reading) = reading {
        clients.others_are_done().await;
        while clients.reader_lacks() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop_reader.stop();
        joined(reading).await;
        clients.read_back(0).await;
    }
    clients.shared.done();
    clients.phase(Phase::ReadingBack(1)).await;
    if number == 0 {
        clients.read_back(1).await;
    }
    clients.shared.done();
    clients.phase(Phase::Over).await;
    clients.shared.done();
    Ok(())
}

async fn joined(task: JoinHandle<()>) {
    if let Err(failed) = task.await {
        std::panic::resume_unwind(failed.into_panic());
    }
}

#[derive(Clone)]
struct Clients {
    number: u64,
    world: World,
    shared: Arc<Shared>,
}

impl Clients {
    /// Waits for a phase.
    async fn phase(&self, phase: Phase) {
        while self.shared.phase() < phase {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until all but this one have done their part of the phase.
    async fn others_are_done(&self) {
        while u64::from(self.shared.done.load(Ordering::Relaxed)) + 1 < PRODUCERS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn cluster(&self) -> Cluster {
        let bootstrap = (0..NODES).map(|node| HostPort::new(name(node), KAFKA_PORT));
        let settings = Settings {
            connect_timeout: REQUEST,
            request_timeout: REQUEST,
            ..Settings::new(format!("client{}", self.number))
        };
        Cluster::new(self.world.clone(), bootstrap.collect(), settings)
    }

    async fn make_topic(&self) {
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: Some(PARTITIONS),
            replication_factor: Some(3),
            configs: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
            ..NewTopic::default()
        };
        let admin = Admin::new(self.cluster()).with_timeout(Duration::from_secs(20));
        loop {
            match admin.create_topic(&topic).await {
                Ok(_) => return,
                Err(error) if error.code() == Some(ResponseError::TopicAlreadyExists) => return,
                // Not all brokers are there yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// How many acknowledged records the reader has not got.
    fn reader_lacks(&self) -> usize {
        let mut lacking = BTreeSet::new();
        let events = self.shared.events();
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

    /// Reads everything back.
    async fn read_back(&self, pass: u32) {
        let admin = Admin::new(self.cluster()).with_timeout(Duration::from_secs(60));
        for partition in 0..PARTITIONS {
            let id = TopicPartition::new(TOPIC, partition);
            let wanted = BTreeMap::from([(id.clone(), OffsetSpec::Latest)]);
            let end = loop {
                let told = admin.list_offsets(&wanted, false).await;
                match told
                    .ok()
                    .and_then(|told| Some(told.get(&id)?.as_ref().ok()?.offset))
                {
                    Some(end) => break end,
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            };
            let settings = consumer::Settings {
                reset: consumer::Reset::Earliest,
                auto_commit: false,
                request_timeout: REQUEST,
                ..consumer::Settings::default()
            };
            let mut consumer = Consumer::new(self.cluster(), settings, None);
            consumer.assign(vec![(id, Start::Earliest)]);
            let mut next = 0;
            while next < end {
                let Ok(Some(chunk)) = consumer.poll(Duration::from_millis(500)).await else {
                    continue;
                };
                for record in chunk.records(true) {
                    let (record, _) = record.expect("well formed");
                    let what = What::Final {
                        id: id_of(record.value.as_deref()),
                        partition,
                        offset: record.offset.0,
                        pass,
                    };
                    self.shared.note("final", what);
                }
                next = next.max(chunk.next_offset);
            }
            let _ = consumer.close().await;
        }
    }
}

/// The id is the record's first word; the rest repeats it, so that damage shows.
fn value_of(id: u64) -> String {
    format!("{id} {}", format!("{id:020}").repeat(4))
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

fn report(who: String, sent: Sent, shared: Arc<Shared>) -> producer::Report {
    Box::new(move |delivery: &Delivery<'_>| {
        let partition = delivery.partition;
        for (nth, appended_us) in delivery.appended_us.iter().enumerate() {
            let mut sent = lock(&sent);
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
                // The client repeats until its time is over: nothing is known of what it gave up.
                Err(error) => What::Err {
                    id,
                    partition,
                    definite: false,
                    why: error.to_string(),
                },
            };
            shared.note(&who, what);
        }
    })
}

async fn produce(clients: Clients, stop: Shutdown) {
    let (number, shared) = (clients.number, clients.shared.clone());
    let who = format!("producer-{number}");
    let sent: Sent = Arc::default();
    let settings = producer::Settings {
        acks: -1,
        idempotent: true,
        request_timeout: REQUEST,
        delivery_timeout: DELIVERY,
        ..producer::Settings::default()
    };
    let report = report(who.clone(), sent.clone(), shared.clone());
    let producer = Producer::new(clients.cluster(), settings, report);
    let clock: &Clock = &clients.world.clock;
    for n in 0_u64.. {
        if stop.is_stopping() {
            break;
        }
        let id = number * 1_000_000_000 + n;
        let partition = i32::try_from(n % PARTITIONS as u64).expect("small");
        let value = value_of(id);
        let before = producer.now_us();
        let known = lock(&sent).entry(partition).or_default().insert(before, id);
        assert_eq!(known, None, "two records at one time");
        shared.note(&who, What::Send { id, partition });
        let record = Record {
            topic: TOPIC,
            partition: Some(partition),
            timestamp: clock.wall_ms(),
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        if let Err(error) = producer.send(&record).await {
            // It never left this process.
            lock(&sent).entry(partition).or_default().remove(&before);
            let what = What::Err {
                id,
                partition,
                definite: true,
                why: error.to_string(),
            };
            shared.note(&who, what);
        }
        tokio::time::sleep(PAUSE).await;
    }
    producer.close().await;
}

async fn follow(clients: Clients, stop: Shutdown) {
    let settings = consumer::Settings {
        reset: consumer::Reset::None,
        auto_commit: false,
        request_timeout: REQUEST,
        ..consumer::Settings::default()
    };
    let mut consumer = Consumer::new(clients.cluster(), settings, None);
    let all = (0..PARTITIONS).map(|partition| {
        let what = What::Follow {
            partition,
            offset: 0,
        };
        clients.shared.note("reader", what);
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
                    clients.shared.note("reader", what);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let what = format!("the reader was told: {error}");
                clients.shared.note("reader", What::Fault { what });
                assert_ne!(error.code(), Some(ResponseError::OffsetOutOfRange));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _ = consumer.close().await;
}
