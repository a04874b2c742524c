//! Which groups are this broker's, their timers, and the effects of their decisions.

use std::sync::Arc;

use crate::broker::image::ImageCell;
use crate::broker::replicas::Replicas;
use crate::common::clock::Clock;
use crate::common::ids::{LeaderEpoch, TopicPartition};
use crate::common::rng::Rng;
use crate::common::tasks::Tasks;

/// Settings of groups and offsets, under Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `group.min.session.timeout.ms`
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max_ms: i32,
    /// `group.max.size`
    pub size_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`
    pub offsets_commit_timeout_ms: i32,
    /// `offsets.load.buffer.size`
    pub offsets_load_buffer_bytes: i32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            size_max: i32::MAX,
            initial_rebalance_delay_ms: 3_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            offsets_load_buffer_bytes: 5 * 1024 * 1024,
        }
    }
}

/// A group as metrics show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group's id.
    pub group_id: String,
    /// Its state, in Kafka's spelling.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
    /// Committed offsets, ordered by partition.
    pub offsets: Vec<(TopicPartition, i64)>,
}

/// The groups that this broker coordinates.
#[derive(Debug)]
pub struct Groups {
    _options: Options,
}

impl Groups {
    /// Coordinates nothing until partitions are [`Groups::elected`].
    pub fn new(
        options: Options,
        _clock: Clock,
        _rng: Rng,
        _tasks: Tasks,
        _image: Arc<ImageCell>,
        _replicas: Arc<Replicas>,
    ) -> Groups {
        Groups { _options: options }
    }

    /// Starts the one task that serves every timer. Call it once.
    pub fn start(&self) {}

    /// This broker leads that partition of `__consumer_offsets` from now on: its groups are loaded in
    /// the background. Returns at once.
    pub fn elected(&self, _partition: i32, _leader_epoch: LeaderEpoch) {}

    /// This broker leads that partition no more: its groups are forgotten, and who waits for them is
    /// told to look for their new coordinator.
    pub fn resigned(&self, _partition: i32) {}

    /// Every group here, for metrics.
    pub fn status(&self) -> Vec<GroupStatus> {
        Vec::new()
    }
}
