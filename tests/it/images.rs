//! What brokers make of znodes: their own, a tool's, a stranger's.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use tripod::broker::StartError;
use tripod::broker::cluster::NewTopic;
use tripod::broker::image::znode;
use tripod::broker::registration::RegistrationError;
use tripod::client::zookeeper::Mode;
use tripod::common::clock::Clock;
use tripod::common::disk::sim::{Faults, SimDisk};
use tripod::common::ids::BrokerId;
use tripod::common::rng::Rng;

use crate::cluster::wait_until;
use brokers::{Cluster, LIMIT, see};

mod brokers;

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        ..NewTopic::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_tool_writes_comes_to_life() {
    let cluster = Cluster::start().await;
    let brokers = [cluster.broker(0).await, cluster.broker(1).await];
    let tool = cluster.zookeeper().await;
    // kafka-topics.sh --zookeeper --create of 2.8: settings, then the topic without an id.
    let config = br#"{"version":1,"config":{"retention.ms":"5"}}"#;
    let path = znode::topic_config_path("t");
    tool.create(&path, Some(config.to_vec()), Mode::Persistent)
        .await
        .unwrap();
    let assignment = br#"{"version":2,"partitions":{"0":[1],"1":[0]}}"#;
    let path = znode::topic_path("t");
    tool.create(&path, Some(assignment.to_vec()), Mode::Persistent)
        .await
        .unwrap();
    for broker in &brokers {
        let image = see(broker, "leaders and an id", |image| {
            let topic = image.topic("t");
            topic.is_some_and(|t| {
                !t.id.is_nil() && t.partitions.values().all(|p| p.leader().is_some())
            })
        })
        .await;
        let topic = image.topic("t").unwrap();
        assert_eq!(topic.config["retention.ms"], "5");
        assert_eq!(topic.partitions[&0].leader(), Some(BrokerId(1)));
        assert!(image.topic_by_id(topic.id).is_some());
    }
    // --delete
    let mark = znode::delete_topic_path("t");
    tool.create(&mark, None, Mode::Persistent).await.unwrap();
    see(&brokers[0], "no topic", |image| {
        image.topics.is_empty() && image.deleting.is_empty()
    })
    .await;
    assert_eq!(tool.exists(&znode::topic_config_path("t")).await, Ok(None));

    // A broker that leaves takes its leaderships along, and finds them again.
    let made = brokers[0]
        .broker
        .cluster
        .create_topics(vec![topic("u", 2)], false, LIMIT)
        .await;
    assert!(made[0].is_ok(), "{made:?}");
    let [first, second] = brokers;
    second.shutdown().await;
    drop(second); // and with it the lock of its directory
    see(&first, "offline", |image| {
        let leaders = image.topics["u"]
            .partitions
            .values()
            .filter_map(|p| p.leader());
        leaders.collect::<Vec<_>>() == [BrokerId(0)]
    })
    .await;
    let second = cluster.broker(1).await;
    see(&first, "back", |image| {
        image.topics["u"]
            .partitions
            .values()
            .all(|p| p.leader().is_some())
    })
    .await;
    // The controller leaves; the other one takes over.
    first.shutdown().await;
    see(&second, "a new controller", |image| {
        image.controller == Some(BrokerId(1))
    })
    .await;
    second.shutdown().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_id_is_taken_over_from_its_own_past_and_from_nobody_else() {
    let cluster = Cluster::start().await;
    let first = cluster.broker(0).await;
    let port = first.addresses["PLAINTEXT"].port();
    let listed = cluster
        .zookeeper()
        .await
        .get(&znode::broker_path(BrokerId(0)))
        .await
        .unwrap()
        .0;
    // Another broker with this id, elsewhere, while the first lives.
    let dir = cluster.log_dir(9);
    let refused = cluster
        .try_broker(cluster.config(0, 0, &dir))
        .await
        .unwrap_err();
    match refused {
        StartError::Registration(problem @ RegistrationError::Duplicate { .. }) => {
            let text = problem.to_string();
            assert!(
                text.contains(&format!("127.0.0.1:{port}")) && text.contains("broker.id"),
                "{text}"
            );
        }
        other => panic!("{other}"),
    }
    first.shutdown().await;
    drop(first); // and with it the lock of its directory
    // What a killed broker leaves behind: its entry and its office, owned by a session that lives on.
    let ghost = cluster.zookeeper().await;
    let path = znode::broker_path(BrokerId(0));
    ghost
        .create(&path, Some(listed.to_vec()), Mode::Ephemeral)
        .await
        .unwrap();
    let office = znode::encode_controller(BrokerId(0), 1);
    ghost
        .create(znode::CONTROLLER, Some(office), Mode::Ephemeral)
        .await
        .unwrap();
    let again = cluster.config(0, port, &cluster.log_dir(0));
    let again = cluster
        .try_broker(again)
        .await
        .expect("it takes its own place again");
    see(&again, "in office", |image| {
        image.controller == Some(BrokerId(0)) && image.brokers.len() == 1
    })
    .await;
    again.shutdown().await;
    cluster.stop().await;
}

/// Arbitrary bytes in any znode, over and over: the broker goes on and serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_znodes_never_stop_a_broker() {
    let cluster = Cluster::start().await;
    let broker = cluster.broker(0).await;
    let admin = broker.broker.cluster.clone();
    assert!(
        admin
            .create_topics(vec![topic("good", 1)], false, LIMIT)
            .await[0]
            .is_ok()
    );
    let stranger = cluster.zookeeper().await;
    let rng = Rng::from_seed(41);
    let fresh = [
        "/brokers/ids/77",
        "/brokers/ids/no number",
        "/brokers/topics/bad",
        "/brokers/topics/a b",
        "/brokers/topics/bad/partitions",
        "/brokers/topics/bad/partitions/x",
        "/config/topics/bad",
        "/config/brokers/0",
        "/config/brokers/<default>",
        "/admin/preferred_replica_election",
        "/admin/reassign_partitions",
        "/admin/delete_topics/a b",
        "/admin/delete_topics/nothing",
    ];
    let kept = [
        "/brokers/topics/good",
        "/brokers/topics/good/partitions/0/state",
        "/config/topics/good",
        "/controller_epoch",
    ];
    for round in 0..300u64 {
        let all = fresh.len() + kept.len();
        let path = fresh
            .iter()
            .chain(&kept)
            .nth(usize::try_from(rng.below(all as u64)).unwrap())
            .unwrap();
        let mut data = vec![0; usize::try_from(rng.below(80)).unwrap()];
        rng.fill(&mut data);
        if round % 3 == 0 {
            data = br#"{"version":1,"partitions":{"0":[0,-5],"-1":[]},"leader":"x","config":[]}"#
                .to_vec();
        }
        // Some exist, some lack a parent, some were removed by the controller: all the same.
        let _ = stranger
            .create(path, Some(data.clone()), Mode::Persistent)
            .await;
        let _ = stranger.set(path, data, -1).await;
    }
    // The good topic keeps what was last good; others come and go as before.
    admin.settle().await;
    assert!(broker.broker.image.load().topics.contains_key("good"));
    let made = admin
        .create_topics(vec![topic("after", 2)], false, LIMIT)
        .await;
    assert!(made[0].is_ok(), "{made:?}");
    assert_eq!(
        admin.delete_topics(&["after".to_owned()], LIMIT).await,
        [Ok(())]
    );
    broker.shutdown().await;
    cluster.stop().await;
}

/// No new image comes: it is the time that passes that makes the broker look again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_could_not_be_made_are_made_when_the_trouble_is_over() {
    let cluster = Cluster::start().await;
    let disk = SimDisk::new(Rng::from_seed(4), Clock::real());
    let config = cluster.config(0, 0, &cluster.log_dir(0));
    let started = cluster.try_broker_on(Arc::new(disk.clone()), config).await;
    let running = started.expect("the broker starts");
    let broker = &running.broker;
    let troubles = [
        Faults {
            no_descriptors: true,
            ..Faults::default()
        },
        Faults {
            capacity: Some(0),
            ..Faults::default()
        },
    ];
    for (number, faults) in troubles.into_iter().enumerate() {
        let name = format!("t{number}");
        disk.set_faults(faults.clone());
        // The controller needs no disk, so there are leaders in the image.
        let created = broker
            .cluster
            .create_topics(vec![topic(&name, 2)], false, LIMIT);
        assert!(created.await[0].is_ok());
        wait_until("its logs cannot be made", || async {
            (broker.replicas.offline().len() == 2).then_some(())
        })
        .await;
        let refused = broker.replicas.leader(&name, 0).map(|_| ());
        assert_eq!(refused, Err(ResponseError::KafkaStorageError), "{faults:?}");
        let image = broker.image.count();
        disk.set_faults(Faults::default());
        wait_until("it leads", || async {
            let leads = |index| broker.replicas.leader(&name, index).is_ok();
            (broker.replicas.offline().is_empty() && leads(0) && leads(1)).then_some(())
        })
        .await;
        assert_eq!(broker.image.count(), image, "of the same image");
        assert!(!broker.replicas.is_unfinished());
    }
    running.shutdown().await;
    cluster.stop().await;
}
