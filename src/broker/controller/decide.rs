//! What the controller has to write, as a pure function of the image.
//!
//! The answer is a list of [`Unit`]s: writes that only make sense together. Every write is guarded by
//! the version that the decision was made from, and the driver puts a check of `/controller_epoch` in
//! front of each multi; so a decision that comes too late is refused by ZooKeeper, and the image
//! that follows is decided anew. Nothing is remembered between two calls: what must be done follows
//! from what is there.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::broker::image::{
    Image, PartitionImage, PartitionState, TopicImage,
    znode::{
        PREFERRED_ELECTION, REASSIGNMENT, TopicZnode, delete_topic_path, encode_reassignment,
        encode_state, partition_path, partitions_path, state_path, topic_config_path, topic_path,
    },
};
use crate::common::ids::{BrokerId, ControllerEpoch, TopicPartition};

pub mod balance;
pub mod leader;
pub mod reassign;

use leader::{Following, Next};
pub use leader::{NotElected, preferred, unclean};

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
    /// `delete.topic.enable`
    pub deletion_enabled: bool,
    /// `unclean.leader.election.enable` of topics that say nothing.
    pub unclean: bool,
    /// The brokers that are alive for more reasons than their registration, which outlives them by a
    /// session.
    pub known: BTreeSet<BrokerId>,
    /// Those that registered a moment ago and may be known in another.
    pub fresh: BTreeSet<BrokerId>,
}

impl Mandate {
    /// Do all of these live that are registered?
    pub fn knows<'a>(&self, image: &Image, ids: impl IntoIterator<Item = &'a BrokerId>) -> bool {
        let mut ids = ids.into_iter();
        ids.all(|id| self.known.contains(id) || !image.brokers.contains_key(id))
    }

    /// Is the broker that shall lead this partition first about to be known?
    fn expects_first(&self, image: &Image, partition: &PartitionImage) -> bool {
        let mut live = partition.replicas.iter();
        let first = live.find(|id| partition.is_live(image, **id));
        first.is_some_and(|first| self.fresh.contains(first))
    }

    /// May a replica that lacks acknowledged records lead this topic, if nobody else can?
    fn unclean_for(&self, topic: &TopicImage) -> bool {
        let said = topic.config.get(UNCLEAN_LEADER_ELECTION);
        let said = said.and_then(|text| text.trim().to_ascii_lowercase().parse().ok());
        said.unwrap_or(self.unclean)
    }
}

/// The topic's setting that allows unclean elections.
const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

/// What has to be done, and what an operator has to hear of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The writes, in their order.
    pub units: Vec<Unit>,
    /// Partitions that get a leader that may lack acknowledged records.
    pub unclean: Vec<TopicPartition>,
    /// Something has to wait until more is known of a broker that is registered.
    pub waits: bool,
}

impl Plan {
    fn follow(&mut self, topic: &str, partition: i32, before: &PartitionState, next: &Next) {
        if next.unclean {
            self.unclean.push(TopicPartition::new(topic, partition));
        }
        let write = set_state(topic, partition, before, &next.state);
        self.units.push(Unit(vec![write]));
    }
}

/// What one topic needs, in the order in which it has to be written. `fresh` becomes the id of a topic
/// that has none.
pub fn topic(image: &Image, mandate: &Mandate, topic: &TopicImage, fresh: Uuid) -> Plan {
    let mut plan = Plan::default();
    if mandate.deletion_enabled && image.deleting.contains(&topic.name) {
        plan.units = deletion(topic);
        return plan;
    }
    let mut planned = topic.clone();
    if topic.id.is_nil() {
        planned.id = fresh;
    }
    // States that change together with the assignment.
    let mut moved = BTreeMap::new();
    for (index, partition) in &mut planned.partitions {
        if let Some((next, state)) = reassign::step(image, &topic.name, *index, partition) {
            // It may hand the leadership over.
            if mandate.knows(image, &partition.replicas) {
                *partition = next;
                moved.extend(state.map(|state| (*index, state)));
            } else {
                plan.waits = true;
            }
        }
    }
    if planned != *topic {
        let mut writes = vec![Write::Set {
            path: topic_path(&topic.name),
            data: topic_znode(&planned, planned.id).encode(),
            version: topic.version,
        }];
        for (index, next) in &moved {
            let before = topic.partitions.get(index).and_then(|p| p.state.as_ref());
            let before = before.expect("a state that moves was there");
            writes.push(set_state(&topic.name, *index, before, next));
        }
        plan.units.push(Unit(writes));
    }
    // Kafka creates the container with the first partition; so do we, in one unit with it.
    let mut partitions = topic.partitions.values();
    let mut container = partitions.all(|partition| partition.state.is_none());
    for (index, partition) in &topic.partitions {
        match &partition.state {
            None => {
                if mandate.expects_first(image, partition) {
                    plan.waits = true;
                    continue;
                }
                let (known, epoch) = (&mandate.known, mandate.epoch);
                let Some(state) = leader::first_state(image, known, epoch, partition) else {
                    continue;
                };
                let with_container = std::mem::take(&mut container);
                let unit = first_partition_state(&topic.name, *index, &state, with_container);
                plan.units.push(unit);
            }
            Some(_) if moved.contains_key(index) => {}
            Some(state) => {
                let (known, epoch) = (&mandate.known, mandate.epoch);
                let unclean = mandate.unclean_for(topic);
                let next = leader::next_state(image, known, epoch, unclean, partition, state);
                plan.waits |= next == Following::Waits;
                if let Following::Next(next) = next {
                    plan.follow(&topic.name, *index, state, &next);
                }
            }
        }
    }
    plan
}

/// The nodes of a partition that has none, with that of all partitions where it is the first.
fn first_partition_state(
    topic: &str,
    partition: i32,
    state: &PartitionState,
    with_container: bool,
) -> Unit {
    let container = with_container.then(|| create(partitions_path(topic), None));
    let own = [
        create(partition_path(topic, partition), None),
        create(state_path(topic, partition), Some(encode_state(state))),
    ];
    Unit(container.into_iter().chain(own).collect())
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

/// What a tool asked for through `/admin/preferred_replica_election`, and the end of its wish.
pub fn preferred_elections(image: &Image, known: &BTreeSet<BrokerId>) -> Vec<Unit> {
    let Some(wanted) = &image.preferred_election else {
        return Vec::new();
    };
    let elected = wanted.iter().filter_map(|id| {
        let partition = image.partition(&id.topic, id.partition)?;
        let before = partition.state.as_ref()?;
        let next = preferred(image, known, partition).ok()?;
        let write = set_state(&id.topic, id.partition, before, &next);
        Some(Unit(vec![write]))
    });
    let done = Unit(vec![Write::Delete {
        path: PREFERRED_ELECTION.to_owned(),
        version: -1,
    }]);
    elected.chain([done]).collect()
}

/// What is left of `/admin/reassign_partitions`, and which wishes are refused, why.
pub fn reassignment_left(image: &Image) -> (Option<Unit>, Vec<(TopicPartition, String)>) {
    let Some(left) = reassign::remaining(image) else {
        return (None, Vec::new());
    };
    (
        Some(Unit(vec![reassignment(&left.partitions, left.version)])),
        left.refused,
    )
}

/// The write that leaves these wishes in `/admin/reassign_partitions`.
pub fn reassignment(partitions: &[(TopicPartition, Vec<BrokerId>)], version: i32) -> Write {
    let path = REASSIGNMENT.to_owned();
    if partitions.is_empty() {
        return Write::Delete { path, version };
    }
    Write::Set {
        path,
        data: encode_reassignment(partitions),
        version,
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
