//! Replicas that move: between brokers under a bound, and between the directories of one broker.

use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tripod::client::admin::{NewTopic, Resource};

use crate::cluster::{Client, Plan, wait_until};

const MEGABYTE: usize = 1 << 20;

/// Topic `t` with one partition on broker 0, which has so many megabytes.
async fn filled(client: &Client, megabytes: usize) {
    let topic = NewTopic {
        name: "t".to_owned(),
        assignment: vec![vec![0]],
        ..NewTopic::default()
    };
    client.admin.create_topic(&topic).await.expect("created");
    client.leaders("t", 1).await;
    let values = vec!["x".repeat(MEGABYTE / 16); 16 * megabytes];
    client.put("t", 0, &values).await;
}

/// Asks for the replicas to be here, and waits until they are, all in sync. Says how long it took.
async fn moved(client: &Client, replicas: &[i32]) -> Duration {
    let began = Instant::now();
    let wanted = replicas.iter().map(|id| (*id).into()).collect();
    let partition = ReassignablePartition::default()
        .with_partition_index(0)
        .with_replicas(Some(wanted));
    let topic = ReassignableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![topic]);
    let connection = client.cluster.any().await.expect("connected");
    let answer = connection.send(&request).await.expect("an answer");
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    wait_until("the replicas are moved", || async {
        let metadata = client.metadata("t").await.ok()?;
        let found = metadata.topics["t"].partitions.first()?;
        let mut isr = found.isr.clone();
        isr.sort_unstable();
        (found.replicas == replicas && isr == replicas).then_some(())
    })
    .await;
    began.elapsed()
}

async fn set(client: &Client, of: &Resource, name: &str, value: Option<&str>) {
    let changes = [(name.to_owned(), value.map(str::to_owned))];
    let altered = client.admin.alter_configs(of, &changes).await;
    altered.expect("altered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_between_brokers_takes_the_time_that_its_bound_asks_for() {
    let mut cluster = Plan::nodes(3).start().await;
    let client = cluster.client();
    filled(&client, 6).await;
    let free = moved(&client, &[0, 1]).await;
    for (side, broker) in [("leader", 0), ("follower", 1)] {
        moved(&client, &[0]).await;
        let rate = format!("{side}.replication.throttled.rate");
        let replicas = format!("{side}.replication.throttled.replicas");
        let of = Resource::Broker(Some(broker));
        let topic = Resource::Topic("t".to_owned());
        set(&client, &of, &rate, Some("1500000")).await;
        set(&client, &topic, &replicas, Some(&format!("0:{broker}"))).await;
        let bounded = moved(&client, &[0, 1]).await;
        // All but the last answer, of a megabyte, came under the bound.
        assert!(
            bounded > Duration::from_millis(3_400),
            "5 MB in {bounded:?} with {rate}"
        );
        assert!(
            free < bounded / 2,
            "{free:?} without a bound, {bounded:?} with {rate}"
        );
        set(&client, &of, &rate, None).await;
        set(&client, &topic, &replicas, None).await;
    }
    cluster.stop().await;
}
