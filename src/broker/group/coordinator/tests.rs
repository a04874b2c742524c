//! The coordinator over a real log in a temporary directory.

use std::path::Path;

use super::*;
use crate::broker::group::classic::{Identity, Join, State, Sync as SyncRequest};
use crate::broker::group::coordinator::load::Replay;
use crate::broker::group::record::CommittedOffset;
use crate::broker::image::{Image, PartitionImage, PartitionState, TopicImage};
use crate::broker::testing::live;
use crate::common::disk::real::RealDisk;
use crate::common::ids::{BrokerId, ControllerEpoch, ProducerEpoch, ProducerId, Zxid};
use crate::common::shutdown::Shutdown;
use crate::config::Config;
use crate::kafka::batch::Batch;

const PARTITIONS: i32 = 2;
/// A consumer's assignment of both partitions of "t".
const ASSIGNMENT: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff";

struct Fixture {
    groups: Groups,
    replicas: Arc<Replicas>,
    clock: Clock,
    epoch: i32,
}

fn topic(name: &str, partitions: i32, epoch: i32) -> (Arc<str>, Arc<TopicImage>) {
    let me = BrokerId(0);
    let partition = PartitionImage {
        replicas: vec![me],
        state: Some(PartitionState {
            leader: Some(me),
            leader_epoch: LeaderEpoch(epoch),
            isr: vec![me],
            controller_epoch: ControllerEpoch(1),
            version: 0,
            written: Zxid(1),
        }),
        ..PartitionImage::default()
    };
    let topic = TopicImage {
        name: name.into(),
        id: uuid::Uuid::from_u128(u128::from(java_hash(name).unsigned_abs())),
        partitions: (0..partitions)
            .map(|index| (index, partition.clone()))
            .collect(),
        config: BTreeMap::new(),
        version: 0,
    };
    (name.into(), Arc::new(topic))
}

fn image(epoch: i32) -> Image {
    Image {
        brokers: BTreeMap::from([(BrokerId(0), live(BrokerId(0)))]),
        topics: BTreeMap::from([
            topic(OFFSETS_TOPIC, PARTITIONS, epoch),
            topic("t", 2, epoch),
        ]),
        ..Image::default()
    }
}

impl Fixture {
    /// A broker over `dir` that leads everything under `epoch` and has loaded nothing.
    fn open(dir: &Path, epoch: i32, clock: Clock) -> Fixture {
        let config = Config {
            broker_id: BrokerId(0),
            log_dirs: vec![dir.to_owned()],
            ..Config::default()
        };
        let cell = Arc::new(ImageCell::default());
        let disk = Arc::new(RealDisk);
        let opened = Replicas::open(
            Arc::new(config),
            "cluster",
            cell.clone(),
            disk,
            clock.clone(),
            &crate::log::dir::Loading::default(),
        );
        let replicas = Arc::new(opened.expect("the directory is good"));
        let image = image(epoch);
        assert_eq!(replicas.apply(&image).failed, vec![]);
        cell.swap(Arc::new(image));
        let tasks = Tasks::new(Shutdown::new());
        let rng = Rng::from_seed(1);
        let options = Options::default();
        let groups = Groups::new(options, clock.clone(), rng, tasks, cell, replicas.clone());
        Fixture {
            groups,
            replicas,
            clock,
            epoch,
        }
    }

    async fn elected(dir: &Path, epoch: i32, clock: Clock) -> Fixture {
        let fixture = Fixture::open(dir, epoch, clock);
        fixture.elect().await;
        fixture
    }

    async fn elect(&self) {
        for partition in 0..PARTITIONS {
            self.groups.elected(partition, LeaderEpoch(self.epoch));
        }
        let loaded = async {
            while self.groups.loading() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), loaded)
            .await
            .expect("it loads");
    }

    /// Stops as a broker does.
    fn close(self) -> Clock {
        for partition in 0..PARTITIONS {
            self.groups.resigned(partition);
        }
        self.replicas.close().expect("it closes");
        self.clock
    }

    fn pass(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.groups.0.fire();
    }

    /// A stable group of one member; its id.
    async fn stable(&self, group: &str) -> Arc<str> {
        let waiting = self.groups.join(group, join());
        let joined = async {
            tokio::task::yield_now().await;
            self.pass(3_000);
        };
        let joined = tokio::join!(waiting, joined).0.expect("it joins");
        assert_eq!(joined.generation, 1);
        let assignment = Bytes::from_static(ASSIGNMENT);
        let sync = SyncRequest {
            identity: who(&joined.member_id, 1),
            assignments: BTreeMap::from([(joined.member_id.clone(), assignment.clone())]),
            ..SyncRequest::default()
        };
        let synced = self.groups.sync(group, sync).await.expect("it syncs");
        assert_eq!(synced.assignment, assignment);
        joined.member_id
    }

    fn append(&self, partition: i32, batch: &Batch) {
        let log = self
            .replicas
            .leader(OFFSETS_TOPIC, partition)
            .expect("it leads");
        let bytes = batch.bytes().clone();
        log.append(bytes, Origin::Coordinator, None)
            .expect("it appends");
    }
}

fn join() -> Join {
    Join {
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![(
            "range".into(),
            Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        )],
        ..Join::default()
    }
}

fn who(id: &Arc<str>, generation: i32) -> Identity {
    Identity {
        member_id: id.clone(),
        instance_id: None,
        generation,
    }
}

fn nobody() -> Identity {
    who(&Arc::default(), -1)
}

fn at(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: LeaderEpoch(0),
        metadata: "m".into(),
        commit_timestamp_ms: 1_000,
        expire_timestamp_ms: None,
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// The first six were seen with Kafka 2.8.0: its own partitions for these names, of 50.
#[test]
fn groups_live_where_kafka_puts_them() {
    for (group, partition) in [("golden", 43), ("golden2", 31)] {
        assert_eq!(partition_for(group, 50), partition, "{group}");
    }
    assert_eq!(java_hash("polygenelubricants"), i32::MIN);
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    // Outside the basic plane Java counts two units.
    assert_eq!(java_hash("\u{1F600}"), 0xd83d * 31 + 0xde00);
    assert_eq!(partition_for("", 50), 0);
}

#[test]
fn a_topic_is_gone_when_it_was_to_be_deleted_and_is_missed() {
    let mut doomed = Doomed::default();
    let whole = image(0);
    assert_eq!(doomed.gone(&whole), vec![]);
    assert_eq!(
        doomed.gone(&Image::default()),
        vec![],
        "nobody asked for it"
    );
    let mut marked = whole.clone();
    marked.deleting.insert("t".into());
    assert_eq!(doomed.gone(&marked), vec![]);
    assert_eq!(doomed.gone(&marked), vec![]);
    let mut again = whole.clone();
    let mut other = TopicImage::clone(&whole.topics["t"]);
    other.id = Uuid::from_u128(1);
    again.topics.insert("t".into(), Arc::new(other));
    assert_eq!(
        doomed.gone(&again),
        vec![Arc::from("t")],
        "another one of that name"
    );
    assert_eq!(doomed.gone(&Image::default()), vec![]);
}

#[tokio::test]
async fn a_group_and_its_offsets_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(1_000_000)).await;
    let member = fixture.stable("g").await;
    let commits = vec![(tp(0), at(5)), (tp(1), at(6)), (tp(1), at(7))];
    assert_eq!(
        fixture.groups.commit("g", who(&member, 1), commits).await,
        Ok(())
    );
    let stale = fixture
        .groups
        .commit("g", who(&member, 0), vec![(tp(0), at(1))])
        .await;
    assert_eq!(stale, Err(ResponseError::IllegalGeneration));
    let simple = fixture
        .groups
        .commit("simple", nobody(), vec![(tp(0), at(9))])
        .await;
    assert_eq!(simple, Ok(()));
    let described = fixture
        .groups
        .describe("g")
        .expect("it is here")
        .expect("it exists");
    let offsets = fixture.groups.fetch_offsets("g", None);
    let clock = fixture.close();

    let fixture = Fixture::elected(dir.path(), 1, clock).await;
    assert_eq!(fixture.groups.describe("g"), Ok(Some(described.clone())));
    assert_eq!(described.state, State::Stable);
    assert_eq!(fixture.groups.fetch_offsets("g", None), offsets);
    let expected = BTreeMap::from([(tp(0), at(5)), (tp(1), at(7))]);
    assert_eq!(offsets, Ok(expected));
    let one = fixture
        .groups
        .fetch_offsets("simple", Some(&[tp(0), tp(1)]));
    assert_eq!(one, Ok(BTreeMap::from([(tp(0), at(9))])));
    assert_eq!(fixture.groups.heartbeat("g", who(&member, 1)).await, Ok(()));
    let status = fixture.groups.status();
    let expected = GroupStatus {
        group_id: "g".into(),
        state: "Stable",
        members: 1,
        offsets: vec![(tp(0), 5), (tp(1), 7)],
    };
    assert!(status.contains(&expected), "{status:?}");

    // Nobody comes back: the session ends, also after a restart. What is deleted stays deleted.
    assert_eq!(
        fixture.groups.delete("g").await,
        Err(ResponseError::NonEmptyGroup)
    );
    fixture.pass(10_000);
    let gone = fixture.groups.heartbeat("g", who(&member, 1)).await;
    assert_eq!(gone, Err(ResponseError::UnknownMemberId));
    assert_eq!(fixture.groups.delete("g").await, Ok(()));
    assert_eq!(
        fixture.groups.delete("g").await,
        Err(ResponseError::GroupIdNotFound)
    );
    let clock = fixture.close();
    let fixture = Fixture::elected(dir.path(), 2, clock).await;
    let (listed, complete) = fixture.groups.list();
    assert!(complete);
    let names: Vec<_> = listed.iter().map(|group| &*group.group_id).collect();
    assert_eq!(names, ["simple"]);
    assert_eq!(fixture.groups.fetch_offsets("g", None), Ok(BTreeMap::new()));
    fixture.close();
}

#[tokio::test]
async fn groups_of_other_brokers_and_groups_that_load_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::open(dir.path(), 0, Clock::manual(0));
    let groups = &fixture.groups;
    let member: Arc<str> = "m".into();
    let refused = |error| Err((error, Arc::<str>::default()));
    let (away, loading) = (
        ResponseError::NotCoordinator,
        ResponseError::CoordinatorLoadInProgress,
    );
    assert_eq!(groups.join("g", join()).await, refused(away));
    assert_eq!(groups.heartbeat("g", who(&member, 1)).await, Err(away));
    assert_eq!(groups.commit("g", nobody(), vec![]).await, Err(away));
    assert_eq!(groups.describe("g"), Err(away));
    for partition in 0..PARTITIONS {
        let shard = Shard {
            epoch: LeaderEpoch(0),
            groups: None,
        };
        groups.0.shards_mut().insert(partition, shard);
    }
    assert_eq!(groups.join("g", join()).await, refused(loading));
    assert_eq!(groups.heartbeat("g", who(&member, 1)).await, Ok(()));
    let sync = SyncRequest {
        identity: who(&member, 1),
        ..SyncRequest::default()
    };
    assert_eq!(
        groups.sync("g", sync).await,
        Err(ResponseError::RebalanceInProgress)
    );
    assert_eq!(
        groups.commit("g", nobody(), vec![(tp(0), at(1))]).await,
        Err(loading)
    );
    assert_eq!(groups.fetch_offsets("g", None), Err(loading));
    assert_eq!(groups.list(), (vec![], false));
    let invalid = ResponseError::InvalidGroupId;
    assert_eq!(groups.join("", join()).await, refused(invalid));
    assert_eq!(
        groups.fetch_offsets(&"x".repeat(40_000), None),
        Err(invalid)
    );
}

#[tokio::test]
async fn resigning_sends_everybody_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(0)).await;
    let resign = async {
        tokio::task::yield_now().await;
        for partition in 0..PARTITIONS {
            fixture.groups.resigned(partition);
        }
    };
    let (joined, ()) = tokio::join!(fixture.groups.join("g", join()), resign);
    assert_eq!(
        joined.map_err(|(error, _)| error),
        Err(ResponseError::NotCoordinator)
    );
    assert_eq!(fixture.groups.status(), vec![]);
    // A group that was handed out before cannot write under an epoch that has passed.
    fixture.elect().await;
    let cell = fixture
        .groups
        .0
        .find("g", true)
        .expect("it is here")
        .expect("it is made");
    assert_eq!(fixture.replicas.apply(&image(1)).failed, vec![]);
    let late = fixture
        .groups
        .commit("g", nobody(), vec![(tp(0), at(1))])
        .await;
    assert_eq!(late, Err(ResponseError::NotCoordinator));
    assert!(cell.lock().offsets.is_empty());
}

#[tokio::test]
async fn records_that_make_no_sense_are_skipped() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(0)).await;
    let commit = fixture
        .groups
        .commit("g", nobody(), vec![(tp(0), at(1))])
        .await;
    assert_eq!(commit, Ok(()));
    let partition = partition_for("g", PARTITIONS);
    let key = Key::Group("g".into()).encode().expect("short");
    let mut junk = BatchBuilder::new(Compression::None);
    junk.append(1, Some(b"\0\x02\0\x05g"), Some(b"x"), &[]);
    junk.append(1, Some(b"\0\x63"), Some(b"x"), &[]);
    junk.append(1, Some(&key), Some(b"\0\x03\0"), &[]);
    junk.append(1, Some(b""), None, &[]);
    fixture.append(partition, &junk.build().expect("it builds"));
    let commit = fixture
        .groups
        .commit("g", nobody(), vec![(tp(1), at(2))])
        .await;
    assert_eq!(commit, Ok(()));
    let clock = fixture.close();
    let fixture = Fixture::elected(dir.path(), 1, clock).await;
    let expected = BTreeMap::from([(tp(0), at(1)), (tp(1), at(2))]);
    assert_eq!(fixture.groups.fetch_offsets("g", None), Ok(expected));
    fixture.close();
}

#[tokio::test]
async fn offsets_lapse_with_a_tombstone_and_take_the_group_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(1_000)).await;
    let member = fixture.stable("g").await;
    let commit = fixture
        .groups
        .commit("g", who(&member, 1), vec![(tp(0), at(1))])
        .await;
    assert_eq!(commit, Ok(()));
    let week = Options::default().offsets_retention_ms;
    fixture.groups.0.expire().await;
    fixture.clock.advance_ms(week);
    fixture.groups.0.expire().await;
    assert_eq!(
        fixture.groups.status()[0].offsets.len(),
        1,
        "it has members"
    );
    fixture.groups.0.fire();
    assert_eq!(fixture.groups.status()[0].state, "Empty");
    fixture.clock.advance_ms(week - 1);
    fixture.groups.0.expire().await;
    assert_eq!(fixture.groups.status().len(), 1);
    fixture.clock.advance_ms(1);
    fixture.groups.0.expire().await;
    assert_eq!(fixture.groups.status(), vec![]);
    let clock = fixture.close();
    let fixture = Fixture::elected(dir.path(), 1, clock).await;
    assert_eq!(fixture.groups.status(), vec![]);
    fixture.close();
}

#[tokio::test]
async fn offsets_are_deleted_unless_members_read_the_topic() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(1_000)).await;
    let member = fixture.stable("g").await;
    let other = TopicPartition::new("other", 0);
    let commits = vec![(tp(0), at(1)), (other.clone(), at(2))];
    assert_eq!(
        fixture.groups.commit("g", who(&member, 1), commits).await,
        Ok(())
    );
    let errors = fixture
        .groups
        .delete_offsets("g", vec![tp(0), other.clone()])
        .await;
    assert_eq!(
        errors,
        Ok(vec![Some(ResponseError::GroupSubscribedToTopic), None])
    );
    let left = fixture.groups.fetch_offsets("g", None);
    assert_eq!(left, Ok(BTreeMap::from([(tp(0), at(1))])));
    let unknown = fixture.groups.delete_offsets("none", vec![tp(0)]).await;
    assert_eq!(unknown, Err(ResponseError::GroupIdNotFound));
    fixture.groups.0.forget_topic("t").await;
    assert_eq!(fixture.groups.fetch_offsets("g", None), Ok(BTreeMap::new()));
    fixture.close();
}

#[tokio::test]
async fn what_came_to_nothing_is_not_remembered() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::elected(dir.path(), 0, Clock::manual(1_000)).await;
    let bad = Join {
        protocols: vec![],
        ..join()
    };
    let refused = fixture.groups.join("g", bad).await;
    assert_eq!(
        refused.map_err(|(e, _)| e),
        Err(ResponseError::InconsistentGroupProtocol)
    );
    let short = Join {
        session_timeout_ms: 5_999,
        ..join()
    };
    let refused = fixture.groups.join("g", short).await;
    assert_eq!(
        refused.map_err(|(e, _)| e),
        Err(ResponseError::InvalidSessionTimeout)
    );
    assert_eq!(fixture.groups.status(), vec![]);
    let asked = Join {
        require_known_member_id: true,
        ..join()
    };
    let (error, id) = fixture
        .groups
        .join("g", asked)
        .await
        .expect_err("an id first");
    assert_eq!(error, ResponseError::MemberIdRequired);
    assert!(id.starts_with("client-"), "{id}");
    assert_eq!(fixture.groups.status().len(), 1);
    fixture.pass(10_000);
    assert_eq!(fixture.groups.status(), vec![]);
    fixture.close();
}

#[tokio::test]
async fn one_task_serves_the_timers() {
    let dir = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::open(dir.path(), 0, Clock::real());
    let options = Options {
        initial_rebalance_delay_ms: 20,
        session_timeout_min_ms: 1,
        ..Options::default()
    };
    let shared = &fixture.groups.0;
    let tasks = Tasks::new(Shutdown::new());
    let (image, replicas) = (shared.image.clone(), fixture.replicas.clone());
    let rng = Rng::from_seed(1);
    let groups = Groups::new(options, Clock::real(), rng, tasks.clone(), image, replicas);
    let fixture = Fixture { groups, ..fixture };
    fixture.groups.start();
    fixture.elect().await;
    let short = Join {
        session_timeout_ms: 20,
        ..join()
    };
    let limit = Duration::from_secs(60);
    let joined = tokio::time::timeout(limit, fixture.groups.join("g", short)).await;
    assert_eq!(joined.expect("in time").expect("it joins").generation, 1);
    let emptied = async {
        while fixture.groups.status()[0].state != "Empty" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(limit, emptied).await.expect("in time");
    assert!(tasks.stop(limit).await);
}

#[test]
fn offsets_of_a_transaction_count_when_it_is_committed() {
    let limits = Limits {
        members_max: 1,
        initial_rebalance_delay_ms: 0,
    };
    let batch = |producer: i64, attributes: i16, key: &[u8], value: &[u8]| {
        let mut builder = BatchBuilder::new(Compression::None).producer(
            ProducerId(producer),
            ProducerEpoch(0),
            0,
        );
        builder.append(1, Some(key), Some(value), &[]);
        let built = builder.build().expect("it builds");
        let mut header = *built.header();
        header.attributes |= attributes;
        Batch::assemble(header, &built.payload()).expect("it builds")
    };
    let key = |partition| {
        Key::Offset("g".into(), tp(partition))
            .encode()
            .expect("short")
    };
    let value = at(3).encode().expect("short");
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x30;
    let mut replay = Replay::default();
    replay.batch(&batch(1, TRANSACTIONAL, &key(0), &value));
    replay.batch(&batch(2, TRANSACTIONAL, &key(1), &value));
    replay.batch(&batch(3, TRANSACTIONAL, &key(2), &value));
    replay.batch(&batch(1, CONTROL, b"\0\0\0\x01", b"\0\0\0\0\0\0"));
    replay.batch(&batch(2, CONTROL, b"\0\0\0\0", b"\0\0\0\0\0\0"));
    let cells = replay.finish(limits, Now::default(), 0, LeaderEpoch(0));
    let inner = cells["g"].lock();
    assert_eq!(
        inner.offsets.iter().collect::<Vec<_>>(),
        vec![(&tp(0), &at(3))]
    );
}
