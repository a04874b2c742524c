//! What may be wished of topics, in Kafka's order and words. Pure: image and wish in, refusal or plan out.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;

use super::{PARTITIONS_MAX, Refusal};
use crate::broker::controller::assign;
use crate::broker::controller::decide::{self, NotElected};
use crate::broker::image::znode::TopicZnode;
use crate::broker::image::{Image, PartitionImage, PartitionState, TopicImage};
use crate::common::ids::{BrokerId, TopicPartition};

/// Topics that differ from this one in dots and underscores only share its metrics in Kafka.
pub(super) fn colliding(image: &Image, name: &str) -> Option<String> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let plain = |name: &str| name.replace('.', "_");
    let wanted = plain(name);
    let others: Vec<&str> = image
        .topics
        .keys()
        .map(|other| &**other)
        .filter(|other| other.len() == name.len() && plain(other) == wanted)
        .collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Replicas that a request names itself, for partitions from `first` on.
pub(super) fn check_assignment(
    image: &Image,
    assignment: &BTreeMap<i32, Vec<BrokerId>>,
    first: i32,
) -> Result<(), Refusal> {
    let refuse = |message: String| {
        Err(Refusal::because(
            ResponseError::InvalidReplicaAssignment,
            message,
        ))
    };
    if !(first..)
        .zip(assignment.keys())
        .all(|(expected, found)| expected == *found)
    {
        return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    let mut unknown = BTreeSet::new();
    for replicas in assignment.values() {
        let distinct: BTreeSet<&BrokerId> = replicas.iter().collect();
        if replicas.is_empty() {
            return refuse("A partition is assigned to no broker.".to_owned());
        }
        if distinct.len() != replicas.len() {
            return refuse("Duplicate replica assignment found.".to_owned());
        }
        // As in Kafka: a new topic may be given to brokers that are not there, new partitions may not.
        let is_unknown = |id: &&BrokerId| first > 0 && !image.brokers.contains_key(id);
        unknown.extend(replicas.iter().filter(is_unknown));
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.iter().map(BrokerId::to_string).collect();
        let unknown = unknown.join(", ");
        return refuse(format!(
            "Unknown broker(s) in replica assignment: {unknown}."
        ));
    }
    let factors: BTreeSet<usize> = assignment.values().map(Vec::len).collect();
    if factors.len() > 1 {
        return refuse("All partitions should have the same number of replicas".to_owned());
    }
    Ok(())
}

fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

/// New partitions have as many replicas as the first one.
fn same_factor(given: &BTreeMap<i32, Vec<BrokerId>>, expected: usize) -> Result<(), Refusal> {
    let others: BTreeMap<i32, usize> = given
        .iter()
        .map(|(index, replicas)| (*index, replicas.len()))
        .filter(|(_, factor)| *factor != expected)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Inconsistent replication factor between partitions, partition 0 has {expected} while \
         partitions [{}] have replication factors [{}], respectively.",
        joined(others.keys()),
        joined(others.values()),
    );
    let error = ResponseError::InvalidReplicaAssignment;
    Err(Refusal::because(error, message))
}

/// A topic's znode with more partitions (`AdminManager.createPartitions`).
pub(super) fn grown(
    image: &Image,
    topic: &TopicImage,
    count: i32,
    assignments: Option<&[Vec<BrokerId>]>,
) -> Result<TopicZnode, Refusal> {
    use ResponseError as E;
    let before = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let moves = |p: &PartitionImage| !p.adding.is_empty() || !p.removing.is_empty();
    if topic.partitions.values().any(moves) {
        let message = format!(
            "A partition reassignment is in progress for the topic '{}'.",
            topic.name
        );
        return Err(Refusal::because(E::ReassignmentInProgress, message));
    }
    if count < before {
        let message = format!(
            "Topic currently has {before} partitions, which is higher than the requested {count}."
        );
        return Err(Refusal::because(E::InvalidPartitions, message));
    }
    if count == before {
        let message = format!("Topic already has {before} partitions.");
        return Err(Refusal::because(E::InvalidPartitions, message));
    }
    if count - before > PARTITIONS_MAX {
        let message =
            format!("A topic cannot grow by more than {PARTITIONS_MAX} partitions at once.");
        return Err(Refusal::because(E::InvalidPartitions, message));
    }
    let partition_0 = topic.partitions.get(&0);
    let partition_0 = partition_0.map_or(&[][..], |partition| &partition.replicas[..]);
    let fresh = match assignments {
        Some(given) => {
            let growth = count - before;
            if usize::try_from(growth) != Ok(given.len()) {
                let message = format!(
                    "Increasing the number of partitions by {growth} but {} assignments provided.",
                    given.len()
                );
                return Err(Refusal::because(E::InvalidReplicaAssignment, message));
            }
            let given: BTreeMap<i32, Vec<BrokerId>> =
                (before..).zip(given.iter().cloned()).collect();
            check_assignment(image, &given, before)?;
            same_factor(&given, partition_0.len())?;
            given
        }
        None => {
            let brokers = assign::Brokers::alive(image);
            let factor = partition_0.len().max(1);
            if factor > brokers.len() {
                let message = format!(
                    "Replication factor: {factor} larger than available brokers: {}.",
                    brokers.len()
                );
                return Err(Refusal::because(E::InvalidReplicationFactor, message));
            }
            let start = brokers.growth_start(partition_0);
            brokers.assign(before..count, factor, start, start)
        }
    };
    let mut znode = decide::topic_znode(topic, topic.id);
    znode.id = znode.id.filter(|id| !id.is_nil());
    znode.partitions.extend(fresh);
    Ok(znode)
}

/// The state after an election that somebody asks for, and the version of the one before it.
pub(super) fn election(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    id: &TopicPartition,
    unclean: bool,
) -> Result<(PartitionState, i32), Refusal> {
    let Some(partition) = image.partition(&id.topic, id.partition) else {
        let error = ResponseError::UnknownTopicOrPartition;
        return Err(Refusal::because(error, "The partition does not exist."));
    };
    if image.deleting.contains(&id.topic) {
        let error = ResponseError::InvalidTopicException;
        return Err(Refusal::because(error, "The topic is being deleted"));
    }
    let decided = if unclean {
        decide::unclean(image, known, partition)
    } else {
        decide::preferred(image, known, partition)
    };
    let version = partition.state.as_ref().map_or(-1, |state| state.version);
    decided
        .map(|next| (next, version))
        .map_err(|reason| not_elected(id, reason))
}

pub(super) fn not_elected(id: &TopicPartition, reason: NotElected) -> Refusal {
    let failed = |strategy: &str| {
        format!("Failed to elect leader for partition {id} under strategy {strategy}")
    };
    match reason {
        NotElected::NotNeeded => Refusal::because(
            ResponseError::ElectionNotNeeded,
            "Leader election not needed for topic partition.",
        ),
        NotElected::PreferredNotAvailable => Refusal::because(
            ResponseError::PreferredLeaderNotAvailable,
            failed("PreferredReplicaPartitionLeaderElectionStrategy"),
        ),
        NotElected::NoEligible => Refusal::because(
            ResponseError::EligibleLeadersNotAvailable,
            failed("OfflinePartitionLeaderElectionStrategy(true)"),
        ),
    }
}
