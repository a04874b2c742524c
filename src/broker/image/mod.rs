//! The cluster as this broker knows it: immutable, swapped whole, ordered everywhere.
//!
//! Built by [`feed`] from znodes that [`znode`] reads; a malformed znode that a stranger wrote is
//! skipped there, so every value in here is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use uuid::Uuid;

use crate::common::ids::{BrokerId, ControllerEpoch, LeaderEpoch, TopicPartition, Zxid};
use crate::common::net::HostPort;

pub mod feed;
pub mod znode;

/// One version of the cluster's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Live brokers, from `/brokers/ids`.
    pub brokers: BTreeMap<BrokerId, BrokerImage>,
    /// Topics by name, from `/brokers/topics`.
    pub topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    /// Names of the topics that have an id already.
    pub topic_names: BTreeMap<Uuid, Arc<str>>,
    /// The owner of `/controller`; -1 where the znode is there and cannot be read.
    pub controller: Option<BrokerId>,
    /// The content of `/controller_epoch`.
    pub controller_epoch: ControllerEpoch,
    /// Overrides of `/config/brokers/N`; `<default>` is under `None`.
    pub broker_configs: BTreeMap<Option<BrokerId>, BTreeMap<String, String>>,
    /// Topics that wait for deletion (`/admin/delete_topics`).
    pub deleting: std::collections::BTreeSet<Arc<str>>,
    /// Partitions that a tool wants led by their preferred replica
    /// (`/admin/preferred_replica_election`); none where the znode is absent.
    pub preferred_election: Option<Vec<TopicPartition>>,
    /// Replicas that a tool wants moved (`/admin/reassign_partitions`); none where the znode is absent.
    pub reassignment: Option<Reassignment>,
    /// Topics whose znodes are there and cannot be read: nothing is known of them, least of all that
    /// they are gone.
    pub unreadable: std::collections::BTreeSet<Arc<str>>,
}

/// What `/admin/reassign_partitions` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassignment {
    /// The replicas that each partition shall have, in the order of the wish.
    pub partitions: Vec<(TopicPartition, Vec<BrokerId>)>,
    /// Version of the znode, for guarded writes.
    pub version: i32,
}

/// A live broker, as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// The broker's id.
    pub id: BrokerId,
    /// czxid of its znode: rises with every registration.
    pub epoch: Zxid,
    /// Advertised address per listener name.
    pub endpoints: BTreeMap<String, HostPort>,
    /// Security protocol per listener name (`PLAINTEXT`, …).
    pub security: BTreeMap<String, String>,
    /// `broker.rack`, if it has one.
    pub rack: Option<String>,
    /// Its log directories were empty at this moment: of what is older it has nothing.
    pub blank_since: Option<Zxid>,
    /// Its machine went down beneath it before this moment: of what is older its logs may lack the ends.
    pub cut_since: Option<Zxid>,
    /// Its replicas whose logs cannot be used: partitions by topic.
    pub offline: BTreeMap<String, BTreeSet<i32>>,
}

/// A topic with its partitions and its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// The checked name.
    pub name: Arc<str>,
    /// The id; nil until the controller has given one.
    pub id: Uuid,
    /// Partitions by index; indexes are dense from 0 unless a stranger wrote otherwise.
    pub partitions: BTreeMap<i32, PartitionImage>,
    /// Overrides of `/config/topics/T`.
    pub config: BTreeMap<String, String>,
    /// Version of the topic's znode, for guarded writes.
    pub version: i32,
}

/// A partition: who shall hold it, who leads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// Assigned replicas (AR), preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Replicas that a reassignment removes.
    pub removing: Vec<BrokerId>,
    /// The state znode; none until the controller has written it.
    pub state: Option<PartitionState>,
    /// Replicas that live brokers say they cannot use ([`BrokerImage::offline`]).
    pub offline: Vec<BrokerId>,
}

/// `/brokers/topics/T/partitions/P/state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The leader; none while the partition is offline (-1 in the znode).
    pub leader: Option<BrokerId>,
    /// Rises with every change of leader or ISR by the controller.
    pub leader_epoch: LeaderEpoch,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// The controller that wrote it.
    pub controller_epoch: ControllerEpoch,
    /// Version of the state's znode: the token that guards changes of the ISR.
    pub version: i32,
    /// When it was written (mzxid of the state's znode, or of an older one that it only repeats): a broker
    /// that registered later restarted since.
    pub written: Zxid,
}

impl Image {
    /// Notes at the partitions what the brokers say of their offline replicas.
    fn settle_offline(&mut self) {
        let brokers = &self.brokers;
        for topic in self.topics.values_mut() {
            let told: Vec<(BrokerId, &BTreeSet<i32>)> = brokers
                .values()
                .filter_map(|broker| Some((broker.id, broker.offline.get(&*topic.name)?)))
                .collect();
            let of = |index: &i32, placed: &PartitionImage| -> Vec<BrokerId> {
                let told = told.iter().filter(|(_, all)| all.contains(index));
                let ids = told.map(|(id, _)| *id);
                ids.filter(|id| placed.replicas.contains(id)).collect()
            };
            let mut partitions = topic.partitions.iter();
            if partitions.all(|(index, placed)| placed.offline == of(index, placed)) {
                continue;
            }
            for (index, placed) in &mut Arc::make_mut(topic).partitions {
                placed.offline = of(index, placed);
            }
        }
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with that id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topic_names
            .get(&id)
            .and_then(|name| self.topics.get(name))
    }

    /// One partition of one topic.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionImage> {
        self.topics
            .get(topic)
            .and_then(|topic| topic.partitions.get(&partition))
    }
}

/// Where a partition's leader is, for a client that came to the wrong broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint<'a> {
    /// The leader.
    pub id: BrokerId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// Its address on the client's listener, and its rack, while it lives.
    pub node: Option<(&'a HostPort, Option<&'a str>)>,
}

impl Image {
    /// The leader of a partition, as clients of `listener` reach it; none where nobody leads.
    pub fn leader_hint(
        &self,
        topic: &str,
        partition: i32,
        listener: &str,
    ) -> Option<LeaderHint<'_>> {
        let state = self.partition(topic, partition)?.state.as_ref()?;
        let id = state.leader?;
        let broker = self.brokers.get(&id);
        let node = broker.and_then(|broker| {
            let address = broker.endpoints.get(listener)?;
            Some((address, broker.rack.as_deref()))
        });
        Some(LeaderHint {
            id,
            epoch: state.leader_epoch,
            node,
        })
    }
}

impl PartitionImage {
    /// Is there a live broker with this replica, and can it use it?
    pub fn is_live(&self, image: &Image, id: BrokerId) -> bool {
        image.brokers.contains_key(&id) && !self.offline.contains(&id)
    }

    /// The leader, where there is one.
    pub fn leader(&self) -> Option<BrokerId> {
        self.state.as_ref().and_then(|state| state.leader)
    }
}

/// Holds the current image. Readers take a snapshot; waiters are woken by each swap.
#[derive(Debug)]
pub struct ImageCell {
    current: RwLock<Arc<Image>>,
    changes: watch::Sender<u64>,
    seen: watch::Sender<u64>,
    applied: watch::Sender<u64>,
}

impl Default for ImageCell {
    fn default() -> Self {
        ImageCell {
            current: RwLock::default(),
            changes: watch::Sender::new(0),
            seen: watch::Sender::new(0),
            applied: watch::Sender::new(0),
        }
    }
}

impl ImageCell {
    /// The image now. Cheap; hold it for the length of one request.
    pub fn load(&self) -> Arc<Image> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts a new image in place and wakes who waits.
    pub fn swap(&self, image: Arc<Image>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = image;
        self.changes.send_modify(|count| *count += 1);
    }

    /// Everything up to this mark in the stream of events is in the image (see [`feed`]).
    pub fn see(&self, mark: u64) {
        self.seen.send_if_modified(|seen| {
            let newer = mark > *seen;
            *seen = (*seen).max(mark);
            newer
        });
    }

    /// Waits until everything up to that mark is in the image; the caller bounds the wait.
    pub async fn seen(&self, mark: u64) {
        let mut seen = self.seen.subscribe();
        if seen.wait_for(|seen| *seen >= mark).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// This broker's partitions are what the image of that count of swaps says.
    pub fn apply(&self, count: u64) {
        self.applied.send_replace(count);
    }

    /// Waits until this broker's partitions are what the image says now; the caller bounds the wait.
    pub async fn applied(&self) {
        let count = *self.changes.borrow();
        let mut applied = self.applied.subscribe();
        if applied.wait_for(|applied| *applied >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How many swaps there were.
    pub fn count(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Counts the swaps; a receiver sees each of them, or the last of several.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until an image satisfies `wanted`; the caller bounds the wait.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Image) -> bool) -> Arc<Image> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let image = self.load();
            if wanted(&image) {
                return image;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing;

    #[test]
    fn what_brokers_cannot_use_is_noted_at_the_partitions() {
        let mut image = testing::image(vec![testing::topic("t", 2, 1), testing::topic("u", 1, 1)]);
        let before = image.clone();
        image.settle_offline();
        assert_eq!(image, before);
        let own = image.brokers.get_mut(&BrokerId(1)).unwrap();
        own.offline = BTreeMap::from([("t".to_owned(), BTreeSet::from([1, 9]))]);
        image.settle_offline();
        let found =
            |image: &Image, topic, index| image.partition(topic, index).unwrap().offline.clone();
        assert_eq!(found(&image, "t", 1), [BrokerId(1)]);
        assert!(
            !image
                .partition("t", 1)
                .unwrap()
                .is_live(&image, BrokerId(1))
        );
        assert_eq!(found(&image, "t", 0), []);
        assert!(
            Arc::ptr_eq(&image.topics["u"], &before.topics["u"]),
            "shared"
        );
        image.brokers = before.brokers.clone();
        image.settle_offline();
        assert_eq!(image, before);
    }
}
