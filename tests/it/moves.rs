//! Replicas that move: between brokers under a bound, and between the directories of one broker.

use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, DescribeLogDirsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tripod::client::admin::{NewTopic, Resource};
use tripod::client::consumer::Start;

use crate::cluster::{Client, Cluster, Plan, http_get, numbered, wait_until};

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
    // Which made the topic: another broker may not have heard of it yet.
    let connection = client.cluster.controller().await.expect("connected");
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

/// Asks for a replica to be in `dir`; the error.
async fn move_to(client: &Client, topic: &str, partition: i32, dir: &str) -> i16 {
    let topic = AlterReplicaLogDirTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let dir = AlterReplicaLogDir::default()
        .with_path(StrBytes::from_string(dir.to_owned()))
        .with_topics(vec![topic]);
    let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
    let connection = client.cluster.any().await.expect("connected");
    let answer = connection.send(&request).await.expect("an answer");
    answer.results[0].partitions[0].error_code
}

/// Where t-0 is: the directory, whether it is a future replica, its lag.
async fn places(client: &Client) -> Vec<(String, bool, i64)> {
    let connection = client.cluster.any().await.expect("connected");
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let answer = connection.send(&request).await.expect("an answer");
    let mut places = Vec::new();
    for dir in answer.results {
        for topic in dir.topics.iter().filter(|topic| &*topic.name.0 == "t") {
            for found in &topic.partitions {
                places.push((
                    dir.log_dir.to_string(),
                    found.is_future_key,
                    found.offset_lag,
                ));
            }
        }
    }
    places
}

async fn two_dirs(dir: &std::path::Path) -> (Cluster, [String; 2]) {
    let dirs = ["a", "b"].map(|name| dir.join(name).display().to_string());
    let plan = Plan::nodes(1).set("broker.log.dirs", &dirs.join(","));
    (plan.start().await, dirs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_moves_to_another_directory_while_it_is_written_and_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut cluster, dirs) = two_dirs(dir.path()).await;
    let client = cluster.client();
    client.create("t", 1).await;
    client.put("t", 0, &numbered("before", 20_000)).await;
    let from = places(&client).await[0].0.clone();
    let to = dirs.iter().find(|dir| **dir != from).expect("the other");
    let table = [
        ("t", 0, "/nowhere", 57),
        ("t", 7, to.as_str(), 3),
        ("none", 0, to.as_str(), 3),
        ("t", 0, from.as_str(), 0),
    ];
    for (topic, partition, to, error) in table {
        let found = move_to(&client, topic, partition, to).await;
        assert_eq!(found, error, "{topic}-{partition} to {to}");
    }
    assert_eq!(places(&client).await, [(from.clone(), false, 0)]);
    let (writing, reading) = (client.clone(), client.clone());
    let writer = async move {
        for round in 0..20 {
            writing
                .put("t", 0, &numbered(&format!("during {round}"), 500))
                .await;
        }
    };
    let reader = async move { reading.read(("t", 0), Start::Earliest, 30_000).await };
    let mover = async {
        assert_eq!(move_to(&client, "t", 0, to).await, 0);
        wait_until("the replica is there", || async {
            (places(&client).await == [(to.clone(), false, 0)]).then_some(())
        })
        .await;
    };
    let ((), found, ()) = tokio::join!(writer, reader, mover);
    assert_eq!(found.len(), 30_000);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(at, (offset, _))| at as i64 == *offset)
    );
    cluster.restart().await;
    let client = cluster.client();
    assert_eq!(places(&client).await, [(to.clone(), false, 0)]);
    let again = client.read(("t", 0), Start::Earliest, 30_000).await;
    assert_eq!(again, found, "the same records in the other directory");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_between_directories_goes_on_after_a_restart_and_may_be_called_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut cluster, dirs) = two_dirs(dir.path()).await;
    let client = cluster.client();
    client.create("t", 1).await;
    let values = vec!["x".repeat(MEGABYTE / 16); 16 * 4];
    client.put("t", 0, &values).await;
    let from = places(&client).await[0].0.clone();
    let to = dirs.iter().find(|dir| **dir != from).expect("the other");
    let own = Resource::Broker(Some(1));
    let rate = "replica.alter.log.dirs.io.max.bytes.per.second";
    set(&client, &own, rate, Some("100000")).await;
    wait_until("the bound counts", || async {
        assert_eq!(move_to(&client, "t", 0, to).await, 0);
        (places(&client).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(move_to(&client, "t", 0, &from).await, 0);
    assert_eq!(
        places(&client).await,
        [(from.clone(), false, 0)],
        "called off"
    );
    assert_eq!(move_to(&client, "t", 0, to).await, 0);
    cluster.restart().await;
    let client = cluster.client();
    let mut found = places(&client).await;
    found.sort_by_key(|(_, is_future, _)| *is_future);
    assert_eq!(
        (found.len(), found[0].0 == from, found[1].1),
        (2, true, true),
        "{found:?}"
    );
    assert!(found[1].2 > 0, "it lacks records: {found:?}");
    set(&client, &own, rate, None).await;
    wait_until("the replica is there", || async {
        (places(&client).await == [(to.clone(), false, 0)]).then_some(())
    })
    .await;
    assert_eq!(client.read(("t", 0), Start::Earliest, 64).await.len(), 64);
    cluster.stop().await;
}

/// A partition of `t` as Metadata has it: leader, in-sync set, offline replicas.
type Described = (i32, Vec<i32>, Vec<i32>);

async fn described(client: &Client) -> Vec<Described> {
    let request = MetadataRequest::default().with_topics(None);
    let connection = client.cluster.any().await.expect("connected");
    let answer = connection.send(&request).await.expect("an answer");
    let named = |topic: &&kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        topic.name.as_ref().is_some_and(|name| &*name.0 == "t")
    };
    let topic = answer.topics.iter().find(named).expect("the topic");
    let mut partitions = topic.partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    let ids = |ids: &[kafka_protocol::messages::BrokerId]| {
        let mut ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    };
    let all = partitions.iter().map(|one| {
        (
            one.leader_id.0,
            ids(&one.isr_nodes),
            ids(&one.offline_replicas),
        )
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_log_directory_takes_its_replicas_offline_and_no_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    let dirs = format!("{},{}", a.display(), b.display());
    let mut cluster = Plan::nodes(3)
        .set(
            "broker.replica.high.watermark.checkpoint.interval.ms",
            "300",
        )
        .set_at(1, "broker.log.dirs", &dirs)
        .start()
        .await;
    let client = cluster.client();
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(6),
        replication_factor: Some(3),
        ..NewTopic::default()
    };
    client.admin.create_topic(&topic).await.expect("created");
    client.leaders("t", 6).await;
    for partition in 0..6 {
        client.put("t", partition, &numbered("before", 100)).await;
    }
    let lost: Vec<bool> = (0..6)
        .map(|index| b.join(format!("t-{index}")).exists())
        .collect();
    assert!(lost.contains(&true) && lost.contains(&false), "{lost:?}");
    let whole = |all: &[Described]| {
        all.iter()
            .all(|(_, isr, off)| isr == &[0, 1, 2] && off.is_empty())
    };
    wait_until("all are in sync", || async {
        whole(&described(&client).await).then_some(())
    })
    .await;

    let away = dir.path().join("away");
    std::fs::rename(&b, &away).expect("renamed");
    let all = wait_until("what is lost is known", || async {
        let all = described(&client).await;
        let mut each = all.iter().zip(&lost);
        each.all(|((leader, isr, off), lost)| match lost {
            true => *leader != 1 && isr == &[0, 2] && off == &[1],
            false => isr == &[0, 1, 2] && off.is_empty(),
        })
        .then_some(all)
    })
    .await;
    assert!(
        all.iter().any(|(leader, ..)| *leader == 1),
        "it leads what is left: {all:?}"
    );
    for partition in 0..6 {
        client
            .put("t", partition, &numbered("meanwhile", 100))
            .await;
    }
    let at_node = Client::new(cluster.world(), vec![cluster.nodes[1].kafka.clone()]);
    let connection = at_node
        .cluster
        .connect(&cluster.nodes[1].kafka)
        .await
        .expect("connected");
    let answer = connection
        .send(&DescribeLogDirsRequest::default().with_topics(None))
        .await;
    let answer = answer.expect("an answer");
    let codes: Vec<(&str, i16)> = answer
        .results
        .iter()
        .map(|one| (&*one.log_dir, one.error_code))
        .collect();
    assert_eq!(
        codes,
        [(&*a.to_string_lossy(), 0), (&*b.to_string_lossy(), 56)]
    );
    let (status, body) = http_get(&cluster.nodes[1].http, "/readyz")
        .await
        .expect("an answer");
    assert_eq!(status, 503);
    assert!(
        body.contains(&format!("the log directory {} is offline", b.display())),
        "{body}"
    );
    let (zookeeper, _events) = cluster.zookeeper().await;
    wait_until("the controller has taken the note", || async {
        let notes = zookeeper
            .children("/log_dir_event_notification")
            .await
            .ok()?;
        notes.is_empty().then_some(())
    })
    .await;

    cluster.nodes[1].stop().await;
    std::fs::rename(&away, &b).expect("renamed back");
    cluster.nodes[1].start().await.expect("it starts");
    wait_until("all are in sync again", || async {
        whole(&described(&client).await).then_some(())
    })
    .await;
    for dir in [&a, &b] {
        std::fs::rename(dir, dir.with_extension("away")).expect("renamed");
    }
    let failed = wait_until("the node gives up", || async {
        cluster.nodes[1].failed_task().await
    })
    .await;
    assert_eq!(failed, "log directories");
    cluster.stop().await;
}
