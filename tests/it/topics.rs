//! Topics through Kafka's API, and through znodes as the genuine kafka-topics --zookeeper writes them.

use kafka_protocol::ResponseError;
use tripod::client::ClientError;
use tripod::client::admin::NewTopic;
use tripod::client::consumer::Start;
use tripod::client::zookeeper::Mode;

use crate::cluster::{Client, Plan, numbered, wait_until};

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(replication_factor),
        ..NewTopic::default()
    }
}

async fn is_gone(client: &Client, name: &str) {
    wait_until(&format!("{name} is gone"), || async {
        let names = client.admin.topic_names(true).await.ok()?;
        (!names.iter().any(|other| other == name)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_listed_described_extended_and_deleted() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 3).await;
    assert_eq!(client.admin.topic_names(false).await.unwrap(), ["t"]);

    let metadata = client.metadata("t").await.expect("described");
    let described = &metadata.topics["t"];
    assert!(!described.id.is_nil() && !described.internal);
    assert_eq!(metadata.controller, Some(1));
    for (index, partition) in described.partitions.iter().enumerate() {
        assert_eq!(partition.index, index as i32);
        assert_eq!(
            (partition.leader, &partition.replicas, &partition.isr),
            (Some(1), &vec![1], &vec![1])
        );
    }

    client
        .admin
        .create_partitions(&[("t".to_owned(), 5, Vec::new())])
        .await
        .expect("extended");
    client.leaders("t", 5).await;
    client.put("t", 4, &numbered("new", 3)).await;

    client
        .admin
        .delete_topics(&["t".to_owned()])
        .await
        .expect("deleted");
    is_gone(&client, "t").await;
    let logs = &cluster.nodes[0].config.log_dirs[0];
    wait_until("its directories are given up", || async {
        (!logs.join("t-0").exists() && !logs.join("t-4").exists()).then_some(())
    })
    .await;

    // The same name again is another topic.
    client.create("t", 1).await;
    let again = client.metadata("t").await.expect("described");
    assert_ne!(again.topics["t"].id, described.id);
    client.put("t", 0, &numbered("fresh", 1)).await;
    let found = client.read(("t", 0), Start::Earliest, 1).await;
    assert_eq!(found, [(0, "fresh 0".to_owned())]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_kafkas_codes() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 2).await;
    let longest = "x".repeat(249);
    let too_long = "x".repeat(250);
    let refused = [
        (topic("t", 1, 1), ResponseError::TopicAlreadyExists),
        (topic("a b", 1, 1), ResponseError::InvalidTopicException),
        (topic("", 1, 1), ResponseError::InvalidTopicException),
        (topic("..", 1, 1), ResponseError::InvalidTopicException),
        (topic(&too_long, 1, 1), ResponseError::InvalidTopicException),
        (topic("u", 1, 2), ResponseError::InvalidReplicationFactor),
        (topic("u", 1, 0), ResponseError::InvalidReplicationFactor),
        (topic("u", 0, 1), ResponseError::InvalidPartitions),
        (
            NewTopic {
                configs: vec![("no.such.setting".to_owned(), "1".to_owned())],
                ..topic("u", 1, 1)
            },
            ResponseError::InvalidConfig,
        ),
        (
            NewTopic {
                configs: vec![("retention.ms".to_owned(), "soon".to_owned())],
                ..topic("u", 1, 1)
            },
            ResponseError::InvalidConfig,
        ),
    ];
    for (topic, expected) in refused {
        let error = client
            .admin
            .create_topic(&topic)
            .await
            .expect_err("refused");
        assert_eq!(error.code(), Some(expected), "{topic:?}: {error}");
    }
    client
        .admin
        .create_topic(&topic(&longest, 1, 1))
        .await
        .expect("249 characters are fine");

    let code = |result: Result<(), ClientError>| result.expect_err("refused").code();
    for count in [0, 1, 2] {
        let fewer = [("t".to_owned(), count, Vec::new())];
        assert_eq!(
            code(client.admin.create_partitions(&fewer).await),
            Some(ResponseError::InvalidPartitions),
            "{count}"
        );
    }
    let unknown = [("nobody".to_owned(), 9, Vec::new())];
    assert_eq!(
        code(client.admin.create_partitions(&unknown).await),
        Some(ResponseError::UnknownTopicOrPartition)
    );
    assert_eq!(
        code(client.admin.delete_topics(&["nobody".to_owned()]).await),
        Some(ResponseError::UnknownTopicOrPartition)
    );
    let mut names = client.admin.topic_names(false).await.unwrap();
    names.sort();
    assert_eq!(names, ["t".to_owned(), longest]);
    cluster.stop().await;
}

/// What AdminZkClient of Kafka 2.8 writes for --create, --alter --partitions and --delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_lives_and_dies_by_its_znodes() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    let (zookeeper, _events) = cluster.zookeeper().await;
    let config = br#"{"version":1,"config":{"retention.ms":"1234567"}}"#;
    zookeeper
        .create(
            "/config/topics/benchmark",
            Some(config.to_vec()),
            Mode::Persistent,
        )
        .await
        .expect("created");
    let one = r#"{"version":3,"partitions":{"0":[1]},"adding_replicas":{},"removing_replicas":{}}"#;
    zookeeper
        .create(
            "/brokers/topics/benchmark",
            Some(one.into()),
            Mode::Persistent,
        )
        .await
        .expect("created");
    client.leaders("benchmark", 1).await;
    client.put("benchmark", 0, &numbered("a", 10)).await;
    let metadata = client.metadata("benchmark").await.expect("described");
    assert!(
        !metadata.topics["benchmark"].id.is_nil(),
        "the controller gives it an id"
    );

    let (data, stat) = zookeeper
        .get("/brokers/topics/benchmark")
        .await
        .expect("there");
    let mut json: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    json["partitions"]["1"] = serde_json::json!([1]);
    zookeeper
        .set(
            "/brokers/topics/benchmark",
            json.to_string().into_bytes(),
            stat.version,
        )
        .await
        .expect("extended");
    client.leaders("benchmark", 2).await;
    client.put("benchmark", 1, &numbered("b", 1)).await;

    zookeeper
        .create("/admin/delete_topics/benchmark", None, Mode::Persistent)
        .await
        .expect("marked");
    is_gone(&client, "benchmark").await;
    wait_until("its znodes are gone", || async {
        for path in [
            "/brokers/topics/benchmark",
            "/config/topics/benchmark",
            "/admin/delete_topics/benchmark",
        ] {
            if zookeeper.exists(path).await.ok()?.is_some() {
                return None;
            }
        }
        Some(())
    })
    .await;
    cluster.stop().await;
}
