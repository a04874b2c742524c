//! Plain values about a running broker, for health checks, metrics and tools.
//!
//! A snapshot: whoever reads it holds no lock and keeps nothing alive. Cluster-wide values are as this
//! broker's image has them; offsets and sizes are of the replicas that live here.

use std::sync::Arc;

use crate::broker::metrics::BrokerMetrics;
use crate::common::ids::{BrokerId, TopicPartition};

/// A broker at one moment.
#[derive(Clone, Debug, Default)]
pub struct BrokerStatus {
    /// This broker's id.
    pub id: BrokerId,
    /// Does its ZooKeeper session stand?
    pub connected: bool,
    /// Is its `/brokers/ids/<id>` there?
    pub registered: bool,
    /// The controller, if one is known.
    pub controller: Option<BrokerId>,
    /// The live brokers: id and advertised address.
    pub brokers: Vec<(BrokerId, String)>,
    /// Replicas assigned to this broker that it neither leads nor follows yet.
    pub pending: Vec<TopicPartition>,
    /// Every partition of the cluster.
    pub partitions: Vec<PartitionStatus>,
    /// The groups that this broker coordinates.
    pub groups: Vec<GroupLag>,
    /// Connections by listener.
    pub connections: Vec<(String, i64)>,
    /// Totals since the start.
    pub metrics: Arc<BrokerMetrics>,
    /// ISR shrinks and expansions that this broker wrote.
    pub isr_shrinks: u64,
    /// See above.
    pub isr_expands: u64,
    /// Unclean elections that this broker made as the controller.
    pub unclean_elections: u64,
    /// Syncs of log files: how many, all together and the longest, in microseconds.
    pub log_syncs: SyncFigures,
}

impl BrokerStatus {
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
