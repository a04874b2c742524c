use super::*;
use crate::broker::image::PartitionImage;
use crate::broker::testing::live;

fn image(brokers: &[i32]) -> Image {
    let mut image = Image::default();
    for id in brokers.iter().copied().map(BrokerId) {
        image.brokers.insert(id, live(id));
    }
    let partition = PartitionImage {
        replicas: vec![BrokerId(1)],
        ..PartitionImage::default()
    };
    let topic = TopicImage {
        name: "old.one".into(),
        id: Uuid::from_u128(3),
        partitions: [(0, partition.clone()), (1, partition)].into(),
        config: BTreeMap::new(),
        version: 7,
    };
    image.topics.insert("old.one".into(), Arc::new(topic));
    image
}

fn cluster() -> Cluster {
    Cluster::detached(Arc::default(), Arc::new(Config::defaults()))
}

fn wanted(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor,
        ..NewTopic::default()
    }
}

fn assigned(list: &[(i32, &[i32])]) -> NewTopic {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    NewTopic {
        assignments: list
            .iter()
            .map(|(index, list)| (*index, ids(list)))
            .collect(),
        ..wanted("t", -1, -1)
    }
}

fn with_config(name: &str, value: Option<&str>) -> NewTopic {
    let value = value.map(str::to_owned);
    NewTopic {
        config: [(name.to_owned(), value)].into(),
        ..wanted("t", 1, 1)
    }
}

#[test]
fn bad_topics_are_refused_in_kafkas_words() {
    use ResponseError as E;
    let image = image(&[0, 1, 2]);
    for (topic, error, sentence) in [
        (
            wanted("", 1, 1),
            E::InvalidTopicException,
            "Topic name is illegal, it can't be empty",
        ),
        (
            wanted("old.one", 1, 1),
            E::TopicAlreadyExists,
            "Topic 'old.one' already exists.",
        ),
        (
            wanted("old_one", 1, 1),
            E::InvalidTopicException,
            "Topic 'old_one' collides with existing topics: old.one",
        ),
        (
            wanted("t", 0, 1),
            E::InvalidPartitions,
            "Number of partitions must be larger than 0.",
        ),
        (
            wanted("t", i32::MAX, 1),
            E::InvalidPartitions,
            "Number of partitions must not be larger than 10000.",
        ),
        (
            wanted("t", 1, 0),
            E::InvalidReplicationFactor,
            "Replication factor must be larger than 0.",
        ),
        (
            wanted("t", 1, 4),
            E::InvalidReplicationFactor,
            "Replication factor: 4 larger than available brokers: 3.",
        ),
        (
            assigned(&[(1, &[0])]),
            E::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            assigned(&[(0, &[0, 0])]),
            E::InvalidReplicaAssignment,
            "Duplicate replica assignment found.",
        ),
        (
            assigned(&[(0, &[0, 1]), (1, &[0])]),
            E::InvalidReplicaAssignment,
            "All partitions should have the same number of replicas",
        ),
        (
            NewTopic {
                partitions: 2,
                ..assigned(&[(0, &[0])])
            },
            E::InvalidRequest,
            "Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same time.",
        ),
        (
            with_config("nope", Some("1")),
            E::InvalidConfig,
            "Unknown topic config name: nope",
        ),
        (
            with_config("retention.ms", None),
            E::InvalidRequest,
            "Null value not supported for topic configs : retention.ms",
        ),
    ] {
        let name = topic.name.clone();
        let refusal = cluster().plan(&image, topic).map(|_| ()).unwrap_err();
        assert_eq!(refusal, Refusal::because(error, sentence), "{name}");
    }
}

#[test]
fn good_topics_are_spread_over_the_living() {
    let image = image(&[0, 1, 2]);
    let (created, planned) = cluster().plan(&image, wanted("t", 6, -1)).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (6, 1));
    let mut held = BTreeMap::new();
    for replicas in planned.znode.partitions.values() {
        assert_eq!(replicas.len(), 1);
        *held.entry(replicas[0]).or_insert(0) += 1;
    }
    assert_eq!(held.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    let (created, _) = cluster().plan(&image, wanted("t", -1, -1)).unwrap();
    assert_eq!(created.partitions, 1);
}

#[test]
fn topics_grow_where_they_stopped() {
    let image = image(&[0, 1, 2]);
    let topic = &image.topics["old.one"];
    for (count, sentence) in [
        (
            1,
            "Topic currently has 2 partitions, which is higher than the requested 1.",
        ),
        (2, "Topic already has 2 partitions."),
    ] {
        let refusal = grown(&image, topic, count, None).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::because(ResponseError::InvalidPartitions, sentence)
        );
    }
    let znode = grown(&image, topic, 4, None).unwrap();
    assert_eq!(znode.id, Some(Uuid::from_u128(3)));
    let leaders: Vec<i32> = znode
        .partitions
        .values()
        .map(|replicas| replicas[0].0)
        .collect();
    assert_eq!(leaders, [1, 1, 0, 1]);
    let given = vec![vec![BrokerId(2)]];
    let znode = grown(&image, topic, 3, Some(&given)).unwrap();
    assert_eq!(znode.partitions[&2], [BrokerId(2)]);
    let refusal = grown(&image, topic, 4, Some(&given)).unwrap_err();
    assert_eq!(
        refusal.message.as_deref(),
        Some("Increasing the number of partitions by 2 but 1 assignments provided.")
    );
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_waits_for_nothing() {
    let cell = Arc::new(ImageCell::default());
    cell.swap(Arc::new(image(&[0])));
    let cluster = Cluster::detached(cell, Arc::new(Config::defaults()));
    let limit = Duration::from_secs(60);
    let made = cluster
        .create_topics(vec![wanted("t", 1, 1)], false, limit)
        .await;
    assert_eq!(
        made[0].as_ref().unwrap_err().error,
        ResponseError::UnknownServerError
    );
    let checked = cluster
        .create_topics(vec![wanted("t", 1, 1)], true, limit)
        .await;
    assert_eq!(
        checked[0].as_ref().map(|created| created.id),
        Ok(Uuid::nil())
    );
    let gone = cluster.delete_topics(&["none".to_owned()], limit).await;
    assert_eq!(gone, [Err(ResponseError::UnknownTopicOrPartition.into())]);
    assert!(cluster.allocate_producer_id().await.is_err());
}
