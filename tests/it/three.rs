//! Three nodes: partitions spread, clients follow, and one of three may be away.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tripod::client::admin::NewTopic;
use tripod::client::consumer::Start;

use crate::cluster::{Client, Plan, http_get, numbered, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_spread_over_three_brokers_and_clients_follow() {
    let mut cluster = Plan::nodes(3).start().await;
    // Knows one broker, and finds the others.
    let one = vec![cluster.nodes[2].kafka.clone()];
    let client = Client::new(cluster.world(), one);
    client.create("t", 6).await;
    let mut leaders = client.leaders("t", 6).await;
    for partition in 0..6 {
        client
            .put("t", partition, &numbered(&format!("p{partition}"), 50))
            .await;
    }
    for partition in 0..6 {
        let found = client.read(("t", partition), Start::Earliest, 50).await;
        assert_eq!(found[49], (49, format!("p{partition} 49")));
    }
    leaders.sort_unstable();
    assert_eq!(leaders, [0, 0, 1, 1, 2, 2]);

    // Every broker tells the same.
    let mut told = BTreeSet::new();
    for node in &cluster.nodes {
        let client = Client::new(cluster.world(), vec![node.kafka.clone()]);
        client.leaders("t", 6).await;
        let metadata = client.metadata("t").await.expect("described");
        assert_eq!(metadata.brokers.len(), 3);
        told.insert((metadata.cluster_id.clone(), metadata.controller));
    }
    assert_eq!(told.len(), 1, "{told:?}");

    // More replicas than brokers are not to be had.
    let replicated = NewTopic {
        name: "replicated".to_owned(),
        partitions: Some(1),
        replication_factor: Some(4),
        ..NewTopic::default()
    };
    let refused = client.admin.create_topic(&replicated).await;
    assert_eq!(
        refused.expect_err("refused").code(),
        Some(ResponseError::InvalidReplicationFactor)
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_takes_its_partitions_along_and_brings_them_back() {
    let mut cluster = Plan::nodes(3).start().await;
    let client = cluster.client();
    client.create("t", 3).await;
    let leaders = client.leaders("t", 3).await;
    for partition in 0..3 {
        client.put("t", partition, &numbered("before", 5)).await;
    }
    let away = leaders
        .iter()
        .position(|id| *id == 2)
        .expect("it leads one") as i32;
    cluster.nodes[2].stop_broker().await;
    wait_until("its partition has no leader", || async {
        let metadata = client.metadata("t").await.ok()?;
        let gone = metadata.leader("t", away).is_none() && !metadata.brokers.contains_key(&2);
        gone.then_some(())
    })
    .await;
    for partition in (0..3).filter(|partition| *partition != away) {
        client.put("t", partition, &numbered("meanwhile", 5)).await;
    }
    client.create("meanwhile", 4).await;
    let leaders = client.leaders("meanwhile", 4).await;
    assert!(!leaders.contains(&2), "{leaders:?}");

    cluster.nodes[2].stop().await;
    cluster.nodes[2].start().await.expect("it starts again");
    client.leaders("t", 3).await;
    let found = client.read(("t", away), Start::Earliest, 5).await;
    assert_eq!(found[4], (4, "before 4".to_owned()));
    client.put("t", away, &numbered("after", 1)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_still_changes_with_two_coordinators_of_three() {
    let mut cluster = Plan::nodes(3).start().await;
    let client = cluster.client();
    client.create("before", 3).await;
    // The worst one to lose is the leader.
    let leader = wait_until("the coordinators have a leader", || async {
        for (index, node) in cluster.nodes.iter().enumerate() {
            let (_, body) = http_get(&node.http, "/commands/stat").await.ok()?;
            if body.contains("\"leader\"") {
                return Some(index);
            }
        }
        None
    })
    .await;
    cluster.nodes[leader].stop_coordinator().await;
    client.create("after", 3).await;
    let leaders: BTreeSet<i32> = client.leaders("after", 3).await.into_iter().collect();
    assert_eq!(leaders.len(), 3, "every broker still takes part");
    for partition in 0..3 {
        client.put("after", partition, &numbered("x", 5)).await;
        client.read(("after", partition), Start::Earliest, 5).await;
    }
    let others = cluster.nodes.iter().enumerate();
    let others = others.filter(|(index, _)| *index != leader);
    let servers = others.map(|(_, node)| node.zookeeper.clone()).collect();
    let (zookeeper, _events) = cluster.session(servers, Duration::from_secs(10)).await;
    let mut ids = zookeeper.children("/brokers/ids").await.expect("listed");
    ids.sort();
    assert_eq!(ids, ["0", "1", "2"], "no session was lost");
    cluster.stop().await;
}
