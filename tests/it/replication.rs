//! Three nodes, three replicas: logs alike, followers that go and come back, leaders that change.

use std::path::PathBuf;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tripod::client::admin::NewTopic;
use tripod::client::consumer::Start;
use tripod::client::zookeeper::ZooKeeper;

use crate::cluster::{Client, Cluster, Node, Plan, http_get, numbered, wait_until};

async fn create(client: &Client, partitions: i32) {
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(3),
        configs: [("min.insync.replicas".to_owned(), "2".to_owned())].into(),
        ..NewTopic::default()
    };
    client.admin.create_topic(&topic).await.expect("created");
    client.leaders("t", partitions).await;
}

/// Leader and in-sync set of partition 0, from its znode.
async fn state(zookeeper: &ZooKeeper) -> (i32, Vec<i32>) {
    let path = "/brokers/topics/t/partitions/0/state";
    let (data, _) = zookeeper.get(path).await.expect("a state");
    let state: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    let isr = state["isr"].as_array().expect("a list").iter();
    let mut isr: Vec<i32> = isr
        .map(|id| id.as_i64().expect("a number") as i32)
        .collect();
    isr.sort_unstable();
    (state["leader"].as_i64().expect("a number") as i32, isr)
}

/// The bytes of a partition's segments, one after the other.
fn bytes(node: &Node, partition: i32) -> Vec<u8> {
    let dir = node.config.log_dirs[0].join(format!("t-{partition}"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension() == Some("log".as_ref()))
        .collect();
    files.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("readable");
    files.iter().flat_map(read).collect()
}

async fn alike(cluster: &Cluster, partition: i32) {
    wait_until("three logs of the same bytes", || async {
        let first = bytes(&cluster.nodes[0], partition);
        let others = &cluster.nodes[1..];
        let same = others.iter().all(|node| bytes(node, partition) == first);
        (!first.is_empty() && same).then_some(())
    })
    .await;
}

async fn all_in_sync(zookeeper: &ZooKeeper) {
    wait_until("all are in sync", || async {
        (state(zookeeper).await.1 == [0, 1, 2]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_comes_back_into_the_in_sync_set() {
    let mut cluster = Plan::nodes(3).start().await;
    let client = cluster.client();
    create(&client, 3).await;
    for partition in 0..3 {
        client.put("t", partition, &numbered("before", 100)).await;
        alike(&cluster, partition).await;
    }
    let (zookeeper, _events) = cluster.zookeeper().await;
    all_in_sync(&zookeeper).await;
    let (leader, _) = state(&zookeeper).await;
    let away = (0..3).find(|id| *id != leader).expect("a follower") as usize;

    cluster.nodes[away].stop_broker().await;
    client.put("t", 0, &numbered("meanwhile", 100)).await;
    let (_, isr) = wait_until("it is in sync no more", || async {
        let found = state(&zookeeper).await;
        (!found.1.contains(&(away as i32))).then_some(found)
    })
    .await;
    assert_eq!(isr.len(), 2);
    let address = &cluster.nodes[leader as usize].http;
    let warned = async || {
        let (status, text) = http_get(address, "/readyz").await.expect("answered");
        assert_eq!(status, 200, "{text}");
        text.lines()
            .any(|line| line.contains("led here are under-replicated: t-"))
    };
    wait_until("it says so", || async { warned().await.then_some(()) }).await;

    cluster.nodes[away].stop().await;
    cluster.nodes[away].start().await.expect("it starts");
    all_in_sync(&zookeeper).await;
    let (leader, _) = state(&zookeeper).await;
    let address = &cluster.nodes[leader as usize].http;
    wait_until("it says so no more", || async {
        let (_, text) = http_get(address, "/readyz").await.ok()?;
        (text == "ready\n").then_some(())
    })
    .await;
    client.put("t", 0, &numbered("after", 10)).await;
    alike(&cluster, 0).await;
    let found = client.read(("t", 0), Start::Earliest, 210).await;
    assert_eq!(found[209], (209, "after 9".to_owned()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leader_has_everything_that_was_acknowledged() {
    let mut cluster = Plan::nodes(3).start().await;
    let client = cluster.client();
    create(&client, 1).await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    client.put("t", 0, &numbered("x", 50)).await;
    let mut count = 50;
    for _ in 0..2 {
        let (leader, _) = state(&zookeeper).await;
        let leader = usize::try_from(leader).expect("there is one");
        cluster.nodes[leader].stop_broker().await;
        let found = client.read(("t", 0), Start::Earliest, count).await;
        assert_eq!(found[count - 1].1, "x 49");
        client.put("t", 0, &numbered("x", 50)).await;
        count += 50;
        cluster.nodes[leader].stop().await;
        cluster.nodes[leader].start().await.expect("it starts");
        all_in_sync(&zookeeper).await;
    }
    client.put("t", 0, &numbered("x", 50)).await;
    alike(&cluster, 0).await;
    cluster.stop().await;
}

/// Asks one broker for what is at `offset` of t-0, as a consumer in `rack`: error, preferred replica, bytes.
async fn fetch(
    cluster: &Cluster,
    node: usize,
    version: i16,
    rack: &str,
    offset: i64,
) -> (i16, i32, usize) {
    let client = Client::new(cluster.world(), vec![cluster.nodes[node].kafka.clone()]);
    let address = &cluster.nodes[node].kafka;
    let connection = client.cluster.connect(address).await.expect("connected");
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
        .with_rack_id(StrBytes::from_string(rack.to_owned()));
    let answer = connection
        .send_as(&request, version)
        .await
        .expect("an answer");
    let found = &answer.responses[0].partitions[0];
    let bytes = found.records.as_ref().map_or(0, |records| records.len());
    (found.error_code, found.preferred_read_replica.0, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_reads_from_the_replica_in_its_rack() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let mut plan = Plan::nodes(3).set("broker.replica.selector.class", selector);
    for node in 0..3 {
        plan = plan.set_at(node, "broker.broker.rack", &format!("rack-{node}"));
    }
    let mut cluster = plan.start().await;
    let client = cluster.client();
    create(&client, 1).await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    client.put("t", 0, &numbered("x", 50)).await;
    all_in_sync(&zookeeper).await;
    let leader = usize::try_from(state(&zookeeper).await.0).expect("there is one");
    let other = (leader + 1) % 3;
    let near = format!("rack-{other}");
    let none = 0;

    let told = fetch(&cluster, leader, 12, &near, 0).await;
    assert_eq!(
        told,
        (none, other as i32, 0),
        "sent to the follower in its rack"
    );
    let (error, preferred, bytes) = fetch(&cluster, leader, 12, "elsewhere", 0).await;
    assert_eq!(
        (error, preferred, bytes > 0),
        (none, -1, true),
        "nobody is nearer"
    );
    let (error, preferred, bytes) = fetch(&cluster, leader, 12, &format!("rack-{leader}"), 0).await;
    assert_eq!(
        (error, preferred, bytes > 0),
        (none, -1, true),
        "the leader is nearest"
    );
    wait_until("the follower knows the high watermark", || async {
        let (error, preferred, bytes) = fetch(&cluster, other, 12, &near, 49).await;
        assert_eq!((error, preferred), (none, -1));
        (bytes > 0).then_some(())
    })
    .await;
    let (error, ..) = fetch(&cluster, other, 12, &near, 51).await;
    assert_eq!(error, ResponseError::OffsetOutOfRange.code());
    let (error, ..) = fetch(&cluster, other, 10, "", 0).await;
    let refused = ResponseError::NotLeaderOrFollower.code();
    assert_eq!(error, refused, "clients before v11 know of no followers");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_while_a_broker_is_down_vanishes_from_its_disk() {
    let delay = "broker.log.segment.delete.delay.ms";
    let mut cluster = Plan::nodes(3).set(delay, "100").start().await;
    let client = cluster.client();
    create(&client, 3).await;
    // A cluster without any topic is taken for one that lost its metadata: nothing is given up then.
    client.create("kept", 1).await;
    client.put("t", 0, &numbered("x", 50)).await;
    cluster.nodes[2].stop().await;
    let left = |node: &Node| {
        let all = std::fs::read_dir(&node.config.log_dirs[0]).expect("a directory");
        let names = all.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("t-"))
            .count()
    };
    let deleted = client.admin.delete_topics(&["t".to_owned()]).await;
    deleted.expect("deleted");
    wait_until("it is gone where brokers are up", || async {
        let up = &cluster.nodes[..2];
        up.iter().all(|node| left(node) == 0).then_some(())
    })
    .await;
    assert_eq!(left(&cluster.nodes[2]), 3, "it was not told");
    cluster.nodes[2].start().await.expect("it starts");
    wait_until("it is gone everywhere", || async {
        (left(&cluster.nodes[2]) == 0).then_some(())
    })
    .await;
    cluster.stop().await;
}
