//! Too many connections and bad ones to a node with few descriptors: the load goes on, and it recovers.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tripod::common::net::HostPort;

use crate::nodes::{Place, wait_until};
use crate::run::{ONE_AT_A_TIME, Run};
use crate::workload::{PARTITIONS, TOPIC};

/// Between two bytes of a slow client.
const SLOWLY: Duration = Duration::from_secs(1);
const FLOOD: Duration = Duration::from_secs(5);
/// What a node may grow by: idle connections, and a request or a response for each slow one.
const GROWTH_KIB: u64 = 64 << 10;

async fn dial(address: &HostPort) -> Option<TcpStream> {
    let to = (address.host.as_str(), address.port);
    TcpStream::connect(to).await.ok()
}

/// A frame that asks for everything that a partition has.
fn fetch(partition: i32) -> BytesMut {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(0)
        .with_partition_max_bytes(i32::MAX);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic]);
    let header = RequestHeader::default()
        .with_request_api_key(1)
        .with_request_api_version(4);
    let mut body = BytesMut::new();
    header.encode(&mut body, 1).expect("encodes");
    request.encode(&mut body, 4).expect("encodes");
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(body.len()).expect("short"));
    frame.extend_from_slice(&body);
    frame
}

/// Asks for all there is, again and again, and takes a byte now and then.
async fn read_slowly(address: HostPort, partition: i32) {
    let Some(mut stream) = dial(&address).await else {
        return;
    };
    let _ = stream.write_all(&fetch(partition).repeat(50)).await;
    while let Ok(1) = stream.read(&mut [0; 1]).await {
        tokio::time::sleep(SLOWLY).await;
    }
}

/// Announces ten megabytes and sends them one by one.
async fn write_slowly(address: HostPort) {
    let Some(mut stream) = dial(&address).await else {
        return;
    };
    let _ = stream.write_u32(10_000_000).await;
    while stream.write_u8(0).await.is_ok() {
        tokio::time::sleep(SLOWLY).await;
    }
}

/// Holds connections; dials again where one is closed.
async fn idle(address: HostPort) {
    loop {
        if let Some(mut stream) = dial(&address).await {
            let _ = stream.read(&mut [0; 1]).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A thousand a second, closed at once.
async fn come_and_go(address: HostPort) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    loop {
        tick.tick().await;
        drop(dial(&address).await);
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.expect("there").trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    entries.expect("it runs").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_few_descriptors_leaves_the_load_alone() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut places = [(); 3].map(|()| Place::local());
    places[1].descriptors = Some(256);
    let mut run = Run::start("a flood", places, &[]).await;
    let (address, pid) = (run.nodes.kafka(1), run.nodes.pid(1));
    let partition = run.workload.partition_of(1).await;
    let before = (descriptors(pid), resident_kib(pid));
    run.workload.fault("a flood on node 1");
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        flood.spawn(read_slowly(address.clone(), partition));
        flood.spawn(write_slowly(address.clone()));
    }
    for _ in 0..400 {
        flood.spawn(idle(address.clone()));
    }
    flood.spawn(come_and_go(address.clone()));
    tokio::time::sleep(FLOOD).await;
    for partition in 0..PARTITIONS {
        run.workload.partition_goes_on(partition).await;
    }
    let during = (descriptors(pid), resident_kib(pid));
    flood.shutdown().await;
    run.workload.fault("it is over");
    run.nodes.ready(1).await;
    wait_until("the descriptors are free again", async || {
        descriptors(pid) < before.0 + 20
    })
    .await;
    let after = (descriptors(pid), resident_kib(pid));
    println!("descriptors and KiB: {before:?} before, {during:?} during, {after:?} after");
    assert!(during.0 > before.0 + 30, "no flood");
    assert!(during.1 < before.1 + GROWTH_KIB, "memory grew");
    for partition in 0..PARTITIONS {
        run.workload.partition_goes_on(partition).await;
    }
    run.workload.healed().await;
    run.judge().await;
}
