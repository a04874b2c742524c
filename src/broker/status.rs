//! Plain values about a running broker, for health checks, metrics and tools.
//!
//! A snapshot: whoever reads it holds no lock and keeps nothing alive. Cluster-wide values are as this
//! broker's image has them; offsets and sizes are of the replicas that live here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::ends;
use crate::broker::image::{Image, PartitionImage};
pub use crate::broker::metrics::{BrokerMetrics, Traffic};
use crate::broker::partition::Partition;
use crate::common::ids::{BrokerId, TopicPartition};
use crate::common::metrics::Histogram;
use crate::config::TopicConfig;

/// A broker at one moment.
#[derive(Clone, Debug, Default)]
pub struct BrokerStatus {
    /// This broker's id.
    pub id: BrokerId,
    /// Does its ZooKeeper session stand?
    pub connected: bool,
    /// Of a broker that starts: how many logs are loaded, and how many there are.
    pub loading: Option<(usize, usize)>,
    /// Is its `/brokers/ids/<id>` there?
    pub registered: bool,
    /// The controller, if one is known.
    pub controller: Option<BrokerId>,
    /// The live brokers: id and advertised address.
    pub brokers: Vec<(BrokerId, String)>,
    /// Partitions of this broker that it neither leads nor follows yet.
    pub pending: Vec<TopicPartition>,
    /// Partitions of this broker whose logs cannot be used, and why.
    pub offline: Vec<(TopicPartition, String)>,
    /// Partitions of which records were found to be gone at the start, and what of them.
    pub lost: Vec<(TopicPartition, String)>,
    /// Partitions whose log start offset in the checkpoint was beyond their logs, and not followed.
    pub ignored_starts: Vec<(TopicPartition, i64)>,
    /// The log directories; with a reason where one is offline.
    pub log_dirs: Vec<(String, Option<String>)>,
    /// Every partition of the cluster.
    pub partitions: Vec<PartitionStatus>,
    /// The groups that this broker coordinates.
    pub groups: Vec<GroupLag>,
    /// Connections by listener.
    pub connections: Vec<(String, i64)>,
    /// Totals since the start.
    pub metrics: Arc<BrokerMetrics>,
    /// What clients write and read, of every topic with a replica here.
    pub topics: BTreeMap<Arc<str>, Arc<Traffic>>,
    /// Syncs of files in the log directories.
    pub log_syncs: SyncFigures,
}

impl BrokerStatus {
    /// The partitions that this broker leads.
    pub fn led(&self) -> impl Iterator<Item = &PartitionStatus> {
        let partitions = self.partitions.iter();
        partitions.filter(|partition| partition.leader == Some(self.id))
    }

    /// Is this broker the controller?
    pub fn is_controller(&self) -> bool {
        self.controller == Some(self.id)
    }
}

/// How long syncs to disk take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// How many there were.
    pub count: u64,
    /// All together.
    pub sum_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: TopicPartition,
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The replicas, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The replicas that are in sync.
    pub isr: Vec<BrokerId>,
    /// `min.insync.replicas` of its topic.
    pub min_isr: i32,
    /// The replica here, if there is one.
    pub local: Option<LocalReplica>,
}

impl PartitionStatus {
    /// Is a replica out of sync?
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replicas.len()
    }

    /// Are fewer replicas in sync than `acks=all` needs?
    pub fn is_under_min_isr(&self) -> bool {
        i64::try_from(self.isr.len()).unwrap_or(i64::MAX) < i64::from(self.min_isr)
    }
}

/// A replica that lives on this broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalReplica {
    /// The first offset.
    pub log_start_offset: i64,
    /// The next offset.
    pub log_end_offset: i64,
    /// What consumers may read up to.
    pub high_watermark: i64,
    /// Bytes of its segments.
    pub size_bytes: u64,
}

/// One group and how far it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLag {
    /// The group's id.
    pub group_id: String,
    /// How many members it has.
    pub members: usize,
    /// Per partition: the committed offset, and the end of the log where it is known.
    pub offsets: Vec<(TopicPartition, i64, Option<i64>)>,
}

/// Learns from other brokers what a snapshot needs for the lag of this broker's groups. Bounded; what
/// is not learnt is left out.
pub async fn prepare(broker: &Broker) {
    ends::refresh(broker).await;
}

/// Takes a snapshot of a running broker.
pub fn of(broker: &Broker) -> BrokerStatus {
    let image = broker.image.load();
    let listener = &broker.config.listeners.inter_broker;
    let brokers = image.brokers.values().map(|live| {
        let address = live
            .endpoints
            .get(listener)
            .or(live.endpoints.values().next());
        (live.id, address.map_or(String::new(), ToString::to_string))
    });
    let partitions = partitions(broker, &image);
    let offline = broker.replicas.offline();
    let pending = partitions
        .iter()
        .filter(|status| !offline.contains_key(&status.partition))
        .filter(|status| status.replicas.contains(&broker.id) && status.local.is_none())
        .map(|status| status.partition.clone())
        .collect();
    BrokerStatus {
        id: broker.id,
        loading: None,
        connected: broker.cluster.zookeeper().session().is_some(),
        registered: image.brokers.contains_key(&broker.id),
        controller: image.controller.filter(|id| image.brokers.contains_key(id)),
        brokers: brokers.collect(),
        pending,
        offline: offline.into_iter().collect(),
        lost: lost(broker),
        ignored_starts: ignored_starts(broker),
        log_dirs: log_dirs(broker),
        groups: groups(broker, &partitions),
        partitions,
        connections: broker.metrics.connections.by_listener(),
        topics: topics(broker),
        log_syncs: sync_figures(&broker.metrics.log_syncs),
        metrics: broker.metrics.clone(),
    }
}

fn lost(broker: &Broker) -> Vec<(TopicPartition, String)> {
    let all = broker.replicas.all();
    let lost = all.iter().filter_map(|replica| {
        let lost = replica.log().lost()?;
        Some((replica.id().clone(), lost.to_string()))
    });
    let missing = broker.replicas.dirs().missing();
    let missing = missing.into_iter().map(|(id, lost)| (id, lost.to_string()));
    lost.chain(missing).collect()
}

fn ignored_starts(broker: &Broker) -> Vec<(TopicPartition, i64)> {
    let all = broker.replicas.all();
    let ignored = all.iter().filter_map(|replica| {
        let start = replica.log().ignored_start()?;
        Some((replica.id().clone(), start.0))
    });
    ignored.collect()
}

fn log_dirs(broker: &Broker) -> Vec<(String, Option<String>)> {
    let mut dirs: BTreeMap<String, Option<String>> = BTreeMap::new();
    for path in broker.replicas.dirs().paths() {
        dirs.insert(path.display().to_string(), None);
    }
    for (path, reason) in broker.replicas.dirs().failed() {
        dirs.insert(path.display().to_string(), Some(reason));
    }
    dirs.into_iter().collect()
}

fn topics(broker: &Broker) -> BTreeMap<Arc<str>, Arc<Traffic>> {
    let all = broker.replicas.all();
    let traffic = all
        .iter()
        .map(|replica| (replica.id().topic.clone(), replica.traffic().clone()));
    traffic.collect()
}

fn sync_figures(syncs: &Histogram) -> SyncFigures {
    SyncFigures {
        count: syncs.count(),
        sum_us: syncs.sum_us(),
        max_us: syncs.max_us(),
    }
}

fn partitions(broker: &Broker, image: &Image) -> Vec<PartitionStatus> {
    let mut partitions = Vec::new();
    for topic in image.topics.values() {
        let config = TopicConfig::resolve(&broker.config.broker, &topic.config);
        for (index, partition) in &topic.partitions {
            let local = broker.replicas.get(&topic.name, *index);
            partitions.push(PartitionStatus {
                partition: TopicPartition::new(topic.name.clone(), *index),
                leader: partition.leader(),
                replicas: partition.replicas.clone(),
                isr: isr(partition),
                min_isr: config.min_insync_replicas,
                local: local.map(|replica| local_replica(&replica)),
            });
        }
    }
    partitions
}

fn isr(partition: &PartitionImage) -> Vec<BrokerId> {
    let state = partition.state.as_ref();
    state.map_or(Vec::new(), |state| state.isr.clone())
}

fn local_replica(replica: &Partition) -> LocalReplica {
    LocalReplica {
        log_start_offset: replica.log_start_offset().0,
        log_end_offset: replica.log_end_offset().0,
        high_watermark: replica.high_watermark().0,
        size_bytes: replica.log().status().size_bytes,
    }
}

fn groups(broker: &Broker, partitions: &[PartitionStatus]) -> Vec<GroupLag> {
    // Sorted by topic and index, as the image is.
    let end_of = |wanted: &TopicPartition| {
        let at = partitions
            .binary_search_by(|status| status.partition.cmp(wanted))
            .ok()?;
        let led = partitions[at].leader == Some(broker.id);
        if !led {
            return broker.ends.of(wanted);
        }
        partitions[at].local.map(|local| local.high_watermark)
    };
    let groups = broker.groups.status().into_iter().map(|group| GroupLag {
        offsets: group
            .offsets
            .into_iter()
            .map(|(partition, committed)| {
                let end = end_of(&partition);
                (partition, committed, end)
            })
            .collect(),
        group_id: group.group_id,
        members: group.members,
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::{apply, broker, image, topic};
    use crate::common::ids::Offset;

    #[tokio::test]
    async fn only_what_shall_run_here_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![topic("here", 1, 0)]);
        let named = |broker: &Broker| {
            let pending = of(broker).pending;
            pending.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(named(&broker), [""; 0]);

        // An image that was not applied yet: a topic that is new here, one of another broker, and one
        // with a replica here and one there.
        let placed = |name: &str, replicas: &[i32]| {
            let mut topic = topic(name, 1, 0);
            for partition in topic.partitions.values_mut() {
                partition.replicas = replicas.iter().copied().map(BrokerId).collect();
            }
            topic
        };
        let topics = || {
            vec![
                topic("here", 1, 0),
                placed("new", &[1]),
                placed("elsewhere", &[2]),
                placed("shared", &[2, 1]),
            ]
        };
        broker.image.swap(Arc::new(image(topics())));
        assert_eq!(named(&broker), ["new-0", "shared-0"]);
        apply(&broker, topics());
        assert_eq!(named(&broker), [""; 0]);
    }

    #[tokio::test]
    async fn a_snapshot_has_what_is_here() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
        let partition = broker.replicas.leader("t", 0).expect("leads");
        let origin = crate::broker::partition::Origin::Client;
        let batch = crate::broker::testing::batch(&[b"x", b"y"]);
        partition.append(batch, origin, None).expect("appends");
        let status = of(&broker);
        assert!(status.registered && status.is_controller() && !status.connected);
        let local = status.partitions[0].local.expect("here");
        assert_eq!(Offset(local.high_watermark), Offset(2));
        assert!(local.size_bytes > 0);
        let dirs = [(dir.path().display().to_string(), None)];
        assert_eq!(status.log_dirs, dirs);
        assert_eq!(status.offline, []);
    }
}
