//! What the controller has to write, as a pure function of the image.
//!
//! The answer is a list of [`Unit`]s: writes that only make sense together. Every write is guarded by
//! the version that the decision was made from, and the driver puts a check of `/controller_epoch` in
//! front of each multi; so a decision that comes too late is refused by ZooKeeper, and the image
//! that follows is decided anew. Nothing is remembered between two calls: what must be done follows
//! from what is there.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::broker::image::{
    Image, PartitionImage, PartitionState, TopicImage,
    znode::{
        PREFERRED_ELECTION, TopicZnode, delete_topic_path, encode_state, partition_path,
        partitions_path, state_path, topic_config_path, topic_path,
    },
};
use crate::common::ids::{BrokerId, ControllerEpoch, LeaderEpoch, Zxid};

/// One guarded write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A persistent node.
    Create {
        /// Where.
        path: String,
        /// What; none is ZooKeeper's null.
        data: Option<Vec<u8>>,
    },
    /// New data.
    Set {
        /// Where.
        path: String,
        /// What.
        data: Vec<u8>,
        /// The version it replaces; -1 for any.
        version: i32,
    },
    /// No node any more.
    Delete {
        /// Where.
        path: String,
        /// The version it removes; -1 for any.
        version: i32,
    },
}

impl Write {
    /// The node that is written.
    pub fn path(&self) -> &str {
        match self {
            Write::Create { path, .. } | Write::Set { path, .. } | Write::Delete { path, .. } => {
                path
            }
        }
    }

    /// Roughly what it takes on the wire.
    pub fn size(&self) -> usize {
        let data = match self {
            Write::Create { data, .. } => data.as_ref().map_or(0, Vec::len),
            Write::Set { data, .. } => data.len(),
            Write::Delete { .. } => 0,
        };
        self.path().len() + data + 64
    }
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit(pub Vec<Write>);

/// Who decides, and with which knowledge beyond the image.
#[derive(Clone, Debug)]
pub struct Mandate {
    /// The epoch of this controller; goes into every state it writes.
    pub epoch: ControllerEpoch,
    /// Brokers that registered anew without having been seen dead. They may have lost what was not
    /// on their disks yet, so whatever they lead gets a new leader epoch.
    pub restarted: BTreeSet<BrokerId>,
    /// `delete.topic.enable`
    pub deletion_enabled: bool,
}

/// What one topic needs, in the order in which it has to be written. `fresh` becomes the id of a topic
/// that has none.
pub fn topic(image: &Image, mandate: &Mandate, topic: &TopicImage, fresh: Uuid) -> Vec<Unit> {
    if mandate.deletion_enabled && image.deleting.contains(&topic.name) {
        return deletion(topic);
    }
    let mut units = Vec::new();
    if topic.id.is_nil() {
        units.push(Unit(vec![Write::Set {
            path: topic_path(&topic.name),
            data: topic_znode(topic, fresh).encode(),
            version: topic.version,
        }]));
    }
    // Kafka creates the container with the first partition; so do we, in one unit with it.
    let mut container = topic
        .partitions
        .values()
        .all(|partition| partition.state.is_none());
    for (index, partition) in &topic.partitions {
        match &partition.state {
            None => {
                let Some(state) = first_state(image, mandate, partition) else {
                    continue;
                };
                let mut writes = Vec::new();
                if std::mem::take(&mut container) {
                    writes.push(create(partitions_path(&topic.name), None));
                }
                writes.push(create(partition_path(&topic.name, *index), None));
                let path = state_path(&topic.name, *index);
                writes.push(create(path, Some(encode_state(&state))));
                units.push(Unit(writes));
            }
            Some(state) => {
                if let Some(next) = next_state(image, mandate, partition, state) {
                    units.push(Unit(vec![set_state(&topic.name, *index, state, &next)]));
                }
            }
        }
    }
    units
}

/// The write that replaces one state by the next.
pub fn set_state(
    topic: &str,
    partition: i32,
    before: &PartitionState,
    next: &PartitionState,
) -> Write {
    Write::Set {
        path: state_path(topic, partition),
        data: encode_state(next),
        version: before.version,
    }
}

/// Can this release lead the partition at all? Several replicas come with replication.
pub fn supported(partition: &PartitionImage) -> bool {
    partition.replicas.len() == 1
}

/// Why a partition is not handed to its preferred leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotElected {
    /// Its preferred replica leads it already, or for an unclean election: it has a leader.
    NotNeeded,
    /// The preferred replica is dead or not in sync.
    PreferredNotAvailable,
    /// No replica lives.
    NoEligible,
}

/// The state after a preferred election.
pub fn preferred(
    image: &Image,
    partition: &PartitionImage,
) -> Result<(PartitionState, PartitionState), NotElected> {
    let (Some(state), Some(first)) = (&partition.state, partition.replicas.first()) else {
        return Err(NotElected::PreferredNotAvailable);
    };
    if state.leader == Some(*first) {
        return Err(NotElected::NotNeeded);
    }
    if !image.brokers.contains_key(first) || !state.isr.contains(first) || !supported(partition) {
        return Err(NotElected::PreferredNotAvailable);
    }
    Ok((
        state.clone(),
        led_by(state, Some(*first), image.controller_epoch),
    ))
}

/// What a tool asked for through `/admin/preferred_replica_election`, and the end of its wish.
pub fn preferred_elections(image: &Image) -> Vec<Unit> {
    let Some(wanted) = &image.preferred_election else {
        return Vec::new();
    };
    let elected = wanted.iter().filter_map(|id| {
        let partition = image.partition(&id.topic, id.partition)?;
        let (before, next) = preferred(image, partition).ok()?;
        let write = set_state(&id.topic, id.partition, &before, &next);
        Some(Unit(vec![write]))
    });
    let done = Unit(vec![Write::Delete {
        path: PREFERRED_ELECTION.to_owned(),
        version: -1,
    }]);
    elected.chain([done]).collect()
}

/// What an unclean election would find. With one replica the only candidate is always in sync, and
/// has been elected by the time that anybody can ask.
pub fn unclean(partition: &PartitionImage) -> NotElected {
    match partition.leader() {
        Some(_) => NotElected::NotNeeded,
        None => NotElected::NoEligible,
    }
}

fn create(path: String, data: Option<Vec<u8>>) -> Write {
    Write::Create { path, data }
}

/// The znode that a topic's image came from, with an id.
pub fn topic_znode(topic: &TopicImage, id: Uuid) -> TopicZnode {
    let side = |of: fn(&PartitionImage) -> &Vec<BrokerId>| {
        let partitions = topic.partitions.iter();
        let listed = partitions.filter(|(_, partition)| !of(partition).is_empty());
        listed
            .map(|(index, partition)| (*index, of(partition).clone()))
            .collect()
    };
    TopicZnode {
        id: Some(id),
        partitions: topic
            .partitions
            .iter()
            .map(|(index, partition)| (*index, partition.replicas.clone()))
            .collect(),
        adding: side(|partition| &partition.adding),
        removing: side(|partition| &partition.removing),
    }
}

fn first_state(
    image: &Image,
    mandate: &Mandate,
    partition: &PartitionImage,
) -> Option<PartitionState> {
    if !supported(partition) {
        return None;
    }
    let alive = |id: &&BrokerId| image.brokers.contains_key(id);
    // As in Kafka, a partition none of whose replicas lives stays without a state.
    let leader = *partition.replicas.iter().find(alive)?;
    Some(PartitionState {
        leader: Some(leader),
        leader_epoch: LeaderEpoch(0),
        isr: partition.replicas.iter().filter(alive).copied().collect(),
        controller_epoch: mandate.epoch,
        version: 0,
        written: Zxid(0),
    })
}

fn next_state(
    image: &Image,
    mandate: &Mandate,
    partition: &PartitionImage,
    state: &PartitionState,
) -> Option<PartitionState> {
    let alive = |id: &BrokerId| image.brokers.contains_key(id);
    let candidate = || {
        let eligible = |id: &&BrokerId| alive(id) && state.isr.contains(id);
        let first = partition.replicas.iter().find(eligible).copied();
        first.filter(|_| supported(partition))
    };
    match state.leader {
        Some(leader) if alive(&leader) => {
            if !supported(partition) {
                return Some(led_by(state, None, mandate.epoch));
            }
            let restarted = mandate.restarted.contains(&leader);
            restarted.then(|| led_by(state, Some(leader), mandate.epoch))
        }
        // The in-sync set is kept: whoever is in it has everything, and may lead when it is back.
        Some(_) => Some(led_by(state, candidate(), mandate.epoch)),
        None => candidate().map(|leader| led_by(state, Some(leader), mandate.epoch)),
    }
}

fn led_by(
    state: &PartitionState,
    leader: Option<BrokerId>,
    epoch: ControllerEpoch,
) -> PartitionState {
    PartitionState {
        leader,
        leader_epoch: LeaderEpoch(state.leader_epoch.0.saturating_add(1)),
        isr: state.isr.clone(),
        controller_epoch: epoch,
        version: state.version,
        written: state.written,
    }
}

/// Bottom up, a partition at a time; the topic's own nodes go together at the end, so that a topic
/// whose deletion was begun stays marked until nothing of it is left. Kafka writes leader -1 into
/// each state before it deletes it, to tell leaders to stop; our brokers stop at the mark itself.
fn deletion(topic: &TopicImage) -> Vec<Unit> {
    let delete = |path| Write::Delete { path, version: -1 };
    let stated = topic
        .partitions
        .iter()
        .filter(|(_, partition)| partition.state.is_some());
    let mut units: Vec<Unit> = stated
        .map(|(index, _)| {
            Unit(vec![
                delete(state_path(&topic.name, *index)),
                delete(partition_path(&topic.name, *index)),
            ])
        })
        .collect();
    let mut rest = Vec::new();
    if !units.is_empty() {
        rest.push(delete(partitions_path(&topic.name)));
    }
    rest.push(delete(topic_path(&topic.name)));
    rest.push(delete(topic_config_path(&topic.name)));
    rest.push(delete(delete_topic_path(&topic.name)));
    units.push(Unit(rest));
    units
}

/// Marks of deletion that mean nothing: the topic is not there, or deletion is switched off.
pub fn void_deletions(image: &Image, mandate: &Mandate) -> Vec<Unit> {
    let void = image
        .deleting
        .iter()
        .filter(|name| !mandate.deletion_enabled || !image.topics.contains_key(*name));
    void.map(|name| {
        Unit(vec![Write::Delete {
            path: delete_topic_path(name),
            version: -1,
        }])
    })
    .collect()
}

#[cfg(test)]
mod tests;
