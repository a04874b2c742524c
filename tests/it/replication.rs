//! Three nodes, three replicas: logs alike, followers that go and come back, leaders that change.

use std::path::PathBuf;

use tripod::client::admin::NewTopic;
use tripod::client::consumer::Start;
use tripod::client::zookeeper::ZooKeeper;

use crate::cluster::{Client, Cluster, Node, Plan, numbered, wait_until};

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

    cluster.nodes[away].stop().await;
    cluster.nodes[away].start().await.expect("it starts");
    all_in_sync(&zookeeper).await;
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
