//! A broker in a temporary directory for tests of handlers: no ZooKeeper, an image by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::broker::Broker;
use crate::broker::cluster::Cluster;
use crate::broker::ends::Ends;
use crate::broker::fetcher::Fetchers;
use crate::broker::group::{Groups, Options};
use crate::broker::image::{
    BrokerImage, Image, ImageCell, PartitionImage, PartitionState, TopicImage,
};
use crate::broker::listener;
use crate::broker::replicas::Replicas;
use crate::common::clock::Clock;
use crate::common::disk::real::RealDisk;
use crate::common::frame;
use crate::common::ids::{BrokerId, ControllerEpoch, LeaderEpoch, Zxid};
use crate::common::net::{self, HostPort, TcpStream};
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Tasks;
use crate::config::Config;
use crate::kafka::batch::Compression;
use crate::kafka::bounds;
use crate::kafka::header::{self, RequestHeader};
use crate::kafka::record::BatchBuilder;
use crate::log::dir::Loading;

/// A topic of one replica on broker 1, led by it under `epoch`.
pub fn topic(name: &str, partitions: i32, epoch: i32) -> TopicImage {
    let placed = PartitionImage {
        replicas: vec![BrokerId(1)],
        state: Some(PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(epoch),
            isr: vec![BrokerId(1)],
            controller_epoch: ControllerEpoch(1),
            version: 0,
            written: Zxid(1),
        }),
        ..PartitionImage::default()
    };
    let salt = name
        .bytes()
        .fold(7u128, |sum, byte| sum * 31 + u128::from(byte));
    TopicImage {
        name: name.into(),
        id: Uuid::from_u128(salt << 64 | 9),
        partitions: (0..partitions)
            .map(|index| (index, placed.clone()))
            .collect(),
        config: BTreeMap::new(),
        version: 0,
    }
}

/// A partition under its leader's epoch 7; the leader -1 is nobody.
pub fn led(replicas: &[i32], leader: i32, isr: &[i32], written: Zxid) -> PartitionImage {
    PartitionImage {
        replicas: ids(replicas),
        state: Some(PartitionState {
            leader: (leader >= 0).then_some(BrokerId(leader)),
            leader_epoch: LeaderEpoch(7),
            isr: ids(isr),
            controller_epoch: ControllerEpoch(2),
            version: 4,
            written,
        }),
        ..PartitionImage::default()
    }
}

/// Brokers by their numbers.
pub fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

/// A broker that is registered and listens nowhere.
pub fn live(id: BrokerId) -> BrokerImage {
    BrokerImage {
        id,
        epoch: Zxid(1),
        endpoints: BTreeMap::new(),
        security: BTreeMap::new(),
        rack: None,
        blank_since: None,
        cut_since: None,
        offline: BTreeMap::new(),
    }
}

/// A broker that listens at `endpoint`.
pub fn live_at(id: BrokerId, endpoint: HostPort) -> BrokerImage {
    BrokerImage {
        endpoints: [("PLAINTEXT".to_owned(), endpoint)].into(),
        security: [("PLAINTEXT".to_owned(), "PLAINTEXT".to_owned())].into(),
        ..live(id)
    }
}

/// An image of broker 1 and these topics.
pub fn image(topics: Vec<TopicImage>) -> Image {
    let mut image = Image::default();
    let broker = live_at(BrokerId(1), HostPort::new("node1", 9092));
    image.brokers.insert(BrokerId(1), broker);
    image.controller = Some(BrokerId(1));
    for topic in topics {
        image.topic_names.insert(topic.id, topic.name.clone());
        image.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    image
}

/// Broker 1 with its logs below `dir`, after it has applied an image of `topics`.
pub fn broker(dir: &Path, topics: Vec<TopicImage>) -> Arc<Broker> {
    broker_on(vec![dir.to_owned()], topics)
}

/// Broker 1 with its logs below `dirs`, after it has applied an image of `topics`.
pub fn broker_on(dirs: Vec<PathBuf>, topics: Vec<TopicImage>) -> Arc<Broker> {
    let broker = bare(1, dirs, Clock::real());
    apply(&broker, topics);
    broker
}

/// A broker with its logs below `dir` that knows of nothing yet.
pub fn broker_without_image(id: i32, dir: &Path, clock: Clock) -> Arc<Broker> {
    bare(id, vec![dir.to_owned()], clock)
}

fn bare(id: i32, dirs: Vec<PathBuf>, clock: Clock) -> Arc<Broker> {
    let mut config = Config::defaults();
    config.log_dirs = dirs;
    // Only consumers that name their rack notice.
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    config.broker.replica_selector_class = Some(selector.to_owned());
    config.broker_id = BrokerId(id);
    config.listeners.inter_broker = "PLAINTEXT".to_owned();
    let config = Arc::new(config);
    let cell = Arc::new(ImageCell::default());
    let replicas = Replicas::open(
        config.clone(),
        "test-cluster",
        cell.clone(),
        Arc::new(RealDisk),
        clock.clone(),
        &Loading::default(),
    )
    .expect("an empty directory opens");
    let (replicas, rng) = (Arc::new(replicas), Rng::from_seed(1));
    let tasks = Tasks::new(Shutdown::new());
    let groups = Groups::new(
        Options::default(),
        clock.clone(),
        rng.clone(),
        tasks.clone(),
        cell.clone(),
        replicas.clone(),
    );
    let cluster = Arc::new(Cluster::detached(cell.clone(), config.clone()));
    let metrics = Arc::<crate::broker::metrics::BrokerMetrics>::default();
    let world = crate::client::World {
        clock: clock.clone(),
        rng: rng.clone(),
        tasks: tasks.clone(),
    };
    let fetchers = Fetchers::new(&config, &cell, &metrics, &replicas, world);
    Arc::new(Broker {
        id: BrokerId(id),
        cluster_id: "test-cluster".to_owned(),
        config,
        clock,
        rng,
        tasks,
        image: cell,
        replicas,
        groups: Arc::new(groups),
        cluster,
        metrics,
        fetchers: Arc::new(fetchers),
        ends: Ends::default(),
        offline: tokio::sync::watch::Sender::default(),
        reached: tokio::sync::watch::Sender::default(),
    })
}

/// Gives the broker a new image.
pub fn apply(broker: &Broker, topics: Vec<TopicImage>) -> crate::broker::replicas::Changes {
    let image = Arc::new(image(topics));
    broker.image.swap(image.clone());
    broker.replicas.apply(&image)
}

/// Opens the broker's port.
pub async fn listen(broker: &Arc<Broker>) -> SocketAddr {
    let listeners = [("PLAINTEXT".to_owned(), HostPort::new("127.0.0.1", 0))];
    let bound = listener::bind(&listeners).await.expect("a free port");
    let address = bound.addresses()["PLAINTEXT"];
    let options = listener::Options {
        connections_max: 100,
        connections_per_ip_max: 50,
        connections_per_ip_overrides: BTreeMap::new(),
        idle: Duration::from_secs(60),
        frame_bytes_max: 4 << 20,
    };
    bound.serve(broker, &options);
    address
}

/// A client that speaks one request at a time.
pub struct Client {
    /// The socket, for what no client would send.
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Client {
        let address = HostPort::new(address.ip().to_string(), address.port());
        let stream = net::connect(&address, Duration::from_secs(60)).await;
        Client {
            stream: stream.expect("connects"),
            next: 1,
        }
    }

    /// Sends a request and does not wait. Says its correlation id.
    pub async fn send<Req: Request + Encodable>(&mut self, version: i16, request: &Req) -> i32 {
        let correlation_id = self.next;
        self.next += 1;
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        let header = RequestHeader {
            key: Req::KEY,
            version,
            correlation_id,
            client_id: Some("test".to_owned()),
        };
        header::put_request(&header, &mut bytes);
        request.encode(&mut bytes, version).expect("encodes");
        let length = i32::try_from(bytes.len() - 4).expect("small");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&bytes).await.expect("sends");
        correlation_id
    }

    /// The next frame; none when the broker has closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let read = frame::read_frame(&mut self.stream, 64 << 20);
        let frame = tokio::time::timeout(Duration::from_secs(60), read).await;
        frame.expect("in time").ok().flatten()
    }

    /// Reads the response to `Req`.
    pub async fn receive<Req>(&mut self, version: i16) -> (i32, Req::Response)
    where
        Req: Request,
        Req::Response: Decodable + HeaderVersion,
    {
        let mut frame = self.frame().await.expect("a response");
        let correlation_id =
            header::take_response(Req::KEY, version, &mut frame).expect("a header");
        bounds::check_response(Req::KEY, version, &frame).expect("within its frame");
        let response = Req::Response::decode(&mut frame, version).expect("decodes");
        assert!(frame.is_empty(), "nothing is left over");
        (correlation_id, response)
    }

    /// Sends a request and reads its response.
    pub async fn call<Req>(&mut self, version: i16, request: &Req) -> Req::Response
    where
        Req: Request + Encodable,
        Req::Response: Decodable + HeaderVersion,
    {
        let sent = self.send(version, request).await;
        let (received, response) = self.receive::<Req>(version).await;
        assert_eq!(sent, received);
        response
    }
}

/// A batch of these values.
pub fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (index, value) in values.iter().enumerate() {
        builder.append(1_700_000_000_000 + index as i64, None, Some(value), &[]);
    }
    builder.build().expect("builds").bytes().clone()
}
