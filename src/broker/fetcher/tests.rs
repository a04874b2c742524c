//! Three brokers with real sockets that replicate among each other; images and in-sync sets by hand.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;

use super::*;
use crate::broker::Broker;
use crate::broker::image::{BrokerImage, Image, TopicImage};
use crate::broker::isr::Outcome;
use crate::broker::partition::Origin;
use crate::broker::testing::{Client, batch, broker_without_image, ids, listen, live_at, topic};
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::disk::real::RealDisk;
use crate::common::ids::{LeaderEpoch, Offset, Zxid};
use crate::common::net::HostPort;

mod consumers;

const DEADLINE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, all).await.is_ok(),
        "waited in vain: {what}"
    );
}

/// The state of every partition of topic "t", as a znode would have it.
#[derive(Clone, Debug)]
struct State {
    leader: i32,
    epoch: i32,
    isr: Vec<i32>,
    version: i32,
}

struct Three {
    brokers: Vec<Arc<Broker>>,
    addresses: Vec<HostPort>,
    clock: Clock,
    partitions: i32,
    state: State,
    _dirs: Vec<TempDir>,
}

impl Three {
    /// Brokers 1, 2 and 3; 1 leads all partitions, all are in sync.
    async fn start(partitions: i32) -> Three {
        let clock = Clock::manual(1_700_000_000_000);
        let dirs: Vec<TempDir> = (0..3)
            .map(|_| tempfile::tempdir().expect("a directory"))
            .collect();
        let mut brokers = Vec::new();
        let mut addresses = Vec::new();
        for (index, dir) in dirs.iter().enumerate() {
            let broker = broker_without_image(index as i32 + 1, dir.path(), clock.clone());
            let address = listen(&broker).await;
            addresses.push(HostPort::new(address.ip().to_string(), address.port()));
            brokers.push(broker);
        }
        let three = Three {
            brokers,
            addresses,
            clock,
            partitions,
            state: State {
                leader: 1,
                epoch: 1,
                isr: vec![1, 2, 3],
                version: 0,
            },
            _dirs: dirs,
        };
        three.tell(&[1, 2, 3]);
        three
    }

    fn image(&self) -> Image {
        let mut image = Image::default();
        for (index, address) in self.addresses.iter().enumerate() {
            let id = BrokerId(index as i32 + 1);
            let live = BrokerImage {
                rack: Some(format!("rack-{}", id.0)),
                ..live_at(id, address.clone())
            };
            image.brokers.insert(id, live);
        }
        let topic = self.topic();
        image.topic_names.insert(topic.id, topic.name.clone());
        image.topics.insert(topic.name.clone(), Arc::new(topic));
        image
    }

    fn topic(&self) -> TopicImage {
        let mut topic = topic("t", self.partitions, self.state.epoch);
        topic.config = [("min.insync.replicas".to_owned(), "2".to_owned())].into();
        for placed in topic.partitions.values_mut() {
            placed.replicas = ids(&[1, 2, 3]);
            let state = placed.state.as_mut().expect("it has one");
            state.leader = Some(BrokerId(self.state.leader)).filter(|id| id.0 >= 0);
            state.isr = ids(&self.state.isr);
            state.version = self.state.version;
        }
        topic
    }

    /// These brokers learn of the state.
    fn tell(&self, who: &[i32]) {
        let image = Arc::new(self.image());
        for id in who {
            let broker = &self.brokers[*id as usize - 1];
            broker.image.swap(image.clone());
            broker.replicas.apply(&image);
            broker.fetchers.follow(&broker.replicas);
        }
    }

    fn change(&mut self, leader: i32, epoch: i32, isr: &[i32]) {
        self.state = State {
            leader,
            epoch,
            isr: isr.to_vec(),
            version: self.state.version + 1,
        };
    }

    fn at(&self, id: i32, partition: i32) -> Arc<Partition> {
        let broker = &self.brokers[id as usize - 1];
        broker.replicas.get("t", partition).expect("a replica")
    }

    async fn client(&self, id: i32) -> Client {
        let address = self.addresses[id as usize - 1].to_string();
        Client::connect(address.parse().expect("an address")).await
    }

    fn append(&self, id: i32, partition: i32, values: &[&[u8]]) -> Offset {
        let appended = self
            .at(id, partition)
            .append(batch(values), Origin::Client, None);
        appended.expect("appends").last_offset
    }

    fn ends(&self, partition: i32) -> Vec<(i64, i64)> {
        let of = |id| {
            let at = self.at(id, partition);
            (at.log_end_offset().0, at.high_watermark().0)
        };
        (1..=3).map(of).collect()
    }

    /// The leader changes its in-sync set, and everybody learns of it. Says what it is then.
    fn change_isr(&mut self) -> Option<Vec<i32>> {
        let leader = self.at(self.state.leader, 0);
        let proposal = leader.propose_isr(|_| true)?;
        assert_eq!(proposal.version, self.state.version);
        self.state.version += 1;
        self.state.isr = proposal.isr.iter().map(|id| id.0).collect();
        assert!(leader.settle_isr(&proposal, Outcome::Written(self.state.version, Zxid(1))));
        self.tell(&[1, 2, 3]);
        Some(self.state.isr.clone())
    }

    async fn stop(self) {
        for broker in &self.brokers {
            assert!(broker.tasks.stop(DEADLINE).await, "tasks end");
        }
    }
}

/// The files of a partition's log, all segments one after the other.
fn bytes(broker: &Broker, partition: i32) -> Vec<u8> {
    let log = broker.replicas.get("t", partition).expect("here");
    let mut files: Vec<_> = std::fs::read_dir(log.log().dir())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path: &std::path::PathBuf| path.extension() == Some("log".as_ref()))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| std::fs::read(Path::new(path)).expect("readable");
    files.iter().flat_map(read).collect()
}

fn records(partition: &Partition) -> Bytes {
    let end = partition.log_end_offset();
    let read = partition.log().read(Offset(0), 1 << 20, end, true);
    let region = read.expect("reads").expect("there is something");
    region.read().expect("reads")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_logs_become_the_same_bytes() {
    let three = Three::start(5).await;
    for partition in 0..5 {
        for round in 0..20u8 {
            three.append(1, partition, &[&[round; 100], b"y"]);
        }
    }
    for partition in 0..5 {
        until("everything is everywhere", || {
            three.ends(partition) == [(40, 40); 3]
        })
        .await;
        let first = bytes(&three.brokers[0], partition);
        assert!(first.len() > 2_000);
        assert_eq!(bytes(&three.brokers[1], partition), first);
        assert_eq!(bytes(&three.brokers[2], partition), first);
    }
    let leader = three.at(1, 0);
    assert_eq!(leader.replicated(Offset(39), DEADLINE).await, Ok(()));
    assert!(three.brokers[1].metrics.replication_bytes_in.get() > 10_000);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_high_watermark_waits_for_the_in_sync_set_and_a_lagging_follower_leaves_it() {
    let mut three = Three::start(1).await;
    three.append(1, 0, &[b"a"]);
    until("all have it", || three.ends(0) == [(1, 1); 3]).await;

    three.brokers[2].fetchers.stop();
    // What it asked for before may still be answered.
    let last = three.append(1, 0, &[b"b"]);
    let leader = three.at(1, 0);
    until("2 has it", || three.at(2, 0).log_end_offset() == Offset(2)).await;
    let last = if three.at(3, 0).log_end_offset() == Offset(2) {
        three.append(1, 0, &[b"c"])
    } else {
        last
    };
    let end = last + 1;
    until("2 has it", || three.at(2, 0).log_end_offset() == end).await;
    let waited = leader.replicated(last, Duration::from_millis(100)).await;
    assert_eq!(waited, Err(ResponseError::RequestTimedOut));
    assert!(leader.high_watermark() <= last, "3 lacks the last record");
    assert_eq!(three.change_isr(), None, "3 has time yet");

    three.clock.advance_ms(30_001);
    // 2 asks again meanwhile, as it does all the time.
    three.append(1, 0, &[b"d"]);
    until("2 has it", || three.at(2, 0).log_end_offset() == end + 1).await;
    until("3 lags and 2 does not", || {
        leader
            .propose_isr(|_| true)
            .inspect(|proposal| {
                let isr = proposal.isr.clone();
                assert!(!leader.settle_isr(proposal, Outcome::Unknown), "{isr:?}");
            })
            .is_some_and(|proposal| proposal.isr == [BrokerId(1), BrokerId(2)])
    })
    .await;
    assert!(leader.high_watermark() <= last, "not yet written");
    assert_eq!(three.change_isr(), Some(vec![1, 2]));
    assert_eq!(leader.replicated(last, DEADLINE).await, Ok(()));
    until("2 learns of it", || {
        three.at(2, 0).high_watermark() == end + 1
    })
    .await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diverged_tail_is_cut_off() {
    let mut three = Three::start(1).await;
    three.append(1, 0, &[b"a", b"b"]);
    until("all have it", || three.ends(0) == [(2, 2); 3]).await;

    // 2 leads under epoch 2; 1 does not know and appends alone.
    three.change(2, 2, &[2, 3]);
    three.tell(&[2, 3]);
    three.append(1, 0, &[b"lost"]);
    three.append(1, 0, &[b"lost too"]);
    assert_eq!(three.at(1, 0).high_watermark(), Offset(2));
    three.append(2, 0, &[b"c"]);
    until("3 follows 2", || {
        three.at(3, 0).high_watermark() == Offset(3)
    })
    .await;
    assert_eq!(three.at(1, 0).log_end_offset(), Offset(4));
    // The checkpoint of its directory knows the tail.
    let dirs = three.brokers[0].replicas.dirs().clone();
    three.at(1, 0).log().flush(Offset(4)).expect("synced");
    dirs.checkpoint(&|_| None).expect("written");
    let file = dirs.paths()[0].join("recovery-point-offset-checkpoint");
    let checkpoint = || {
        RealDisk
            .read(&file, 999)
            .map(|bytes| bytes.ends_with(b"t 0 2\n"))
    };
    assert!(!checkpoint().expect("reads"));
    three.tell(&[1]);
    until("1 has what 2 has", || three.ends(0) == [(3, 3); 3]).await;
    assert!(checkpoint().expect("reads"), "it was cut at 2");
    let truth = records(&three.at(2, 0));
    assert_eq!(records(&three.at(1, 0)), truth);
    assert_eq!(records(&three.at(3, 0)), truth);
    until("1 may join", || three.change_isr() == Some(vec![2, 3, 1])).await;
    let last = three.append(2, 0, &[b"d"]);
    assert_eq!(three.at(2, 0).replicated(last, DEADLINE).await, Ok(()));
    assert_eq!(three.at(1, 0).log_end_offset(), Offset(4));

    // Epochs in which nothing was written, there and back.
    three.change(3, 3, &[1, 2, 3]);
    three.tell(&[1, 2, 3]);
    three.change(1, 4, &[1, 2, 3]);
    three.tell(&[1, 2, 3]);
    let last = three.append(1, 0, &[b"e"]);
    assert_eq!(three.at(1, 0).replicated(last, DEADLINE).await, Ok(()));
    assert_eq!(bytes(&three.brokers[0], 0), bytes(&three.brokers[2], 0));
    assert_eq!(three.at(1, 0).log().latest_epoch(), Some(LeaderEpoch(4)));
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_tells_no_latest_offset_that_goes_back() {
    let mut three = Three::start(1).await;
    three.append(1, 0, &[b"a", b"b"]);
    until("all have it", || three.ends(0) == [(2, 2); 3]).await;
    // 3 stops, so that what comes now stays above the high watermark.
    three.brokers[2].fetchers.stop();
    three.append(1, 0, &[b"c"]);
    let last = three.append(1, 0, &[b"d"]);
    until("2 has it", || three.at(2, 0).log_end_offset() == last + 1).await;
    three.change(2, 2, &[1, 2, 3]);
    three.tell(&[2]);
    assert!(three.at(2, 0).high_watermark() < last + 1);

    let mut client = three.client(2).await;
    let mut latest = async |version: i16, replica: i32| {
        let asked = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![asked.with_current_leader_epoch(-1)]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(replica.into())
            .with_topics(vec![topic]);
        let response = client.call(version, &request).await;
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.offset)
    };
    let unavailable = ResponseError::OffsetNotAvailable.code();
    assert_eq!(latest(5, -1).await, (unavailable, -1));
    let unavailable = ResponseError::LeaderNotAvailable.code();
    assert_eq!(latest(4, -1).await, (unavailable, -1));
    assert_eq!(latest(5, 3).await, (0, last.0 + 1), "a follower");

    three.change(2, 3, &[1, 2]);
    three.tell(&[1, 2, 3]);
    three.clock.advance_ms(30_001);
    until("2 knows what all have", || {
        three.at(2, 0).high_watermark() == last + 1
    })
    .await;
    assert_eq!(latest(5, -1).await, (0, last.0 + 1));

    // Two have to be in sync for acks=all: before, and after.
    let leader = three.at(2, 0);
    assert!(leader.enough_in_sync());
    three.change(2, 4, &[2]);
    three.tell(&[1, 2, 3]);
    assert!(!leader.enough_in_sync());
    let last = three.append(2, 0, &[b"e"]);
    assert_eq!(
        leader.replicated(last, DEADLINE).await,
        Err(ResponseError::NotEnoughReplicasAfterAppend)
    );
    three.stop().await;
}

/// A machine that lost power or its network refuses nothing and closes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_falls_silent_holds_nobody_up_once_another_leads() {
    let mut three = Three::start(1).await;
    three.append(1, 0, &[b"a"]);
    until("all have it", || three.ends(0) == [(1, 1); 3]).await;
    three.change(-1, 2, &[1, 2, 3]);
    three.tell(&[1, 2, 3]);
    // Connections to it are accepted by the system, and nothing is ever answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    silent.set_nonblocking(true).expect("settable");
    three.addresses[0] = HostPort::new("127.0.0.1", silent.local_addr().expect("bound").port());
    three.change(1, 3, &[1, 2, 3]);
    three.tell(&[2, 3]);
    let mut asked = Vec::new();
    until("both ask it", || {
        asked.extend(silent.accept());
        asked.len() >= 2
    })
    .await;

    // Its session has ended.
    three.change(3, 4, &[1, 2, 3]);
    three.tell(&[2, 3]);
    let last = three.append(3, 0, &[b"b"]);
    until("2 has it", || three.at(2, 0).log_end_offset() == last + 1).await;
    let leader = three.at(3, 0);
    assert!(leader.high_watermark() <= last, "the silent one is in sync");
    three.clock.advance_ms(30_001);
    let last = three.append(3, 0, &[b"c"]);
    until("2 has it", || three.at(2, 0).log_end_offset() == last + 1).await;
    until("the silent one lags", || {
        // Before it has heard that 2 is up to date, it would take 2 out as well.
        let proposal = leader.propose_isr(|_| true);
        proposal.is_some_and(|proposal| {
            let heard = proposal.isr == [BrokerId(2), BrokerId(3)];
            let written = Outcome::Written(9, Zxid(1));
            leader.settle_isr(&proposal, if heard { written } else { Outcome::Unknown });
            heard
        })
    })
    .await;
    assert_eq!(leader.replicated(last, DEADLINE).await, Ok(()));
    three.stop().await;
}
