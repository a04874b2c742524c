//! What may be wished of topics, in Kafka's order and words. Pure: image and wish in, refusal or plan out.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;

use super::{PARTITIONS_MAX, Refusal};
use crate::broker::controller::assign;
use crate::broker::controller::decide::{self, NotElected};
use crate::broker::image::znode::TopicZnode;
use crate::broker::image::{Image, TopicImage};
use crate::common::ids::{BrokerId, TopicPartition};

pub(super) fn replicated() -> Refusal {
    Refusal::because(
        ResponseError::InvalidReplicationFactor,
        "Replication is not supported yet: the replication factor must be 1.",
    )
}

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
        unknown.extend(replicas.iter().filter(|id| !image.brokers.contains_key(id)));
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.iter().map(BrokerId::to_string).collect();
        let unknown = unknown.join(", ");
        return refuse(format!(
            "Unknown broker(s) in replica assignment: {unknown}."
        ));
    }
    let factors: BTreeSet<usize> = assignment.values().map(Vec::len).collect();
    match factors.first() {
        Some(_) if factors.len() > 1 => {
            refuse("All partitions should have the same number of replicas".to_owned())
        }
        Some(factor) if *factor > 1 => Err(replicated()),
        _ => Ok(()),
    }
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
    if topic
        .partitions
        .values()
        .any(|p| !p.adding.is_empty() || !p.removing.is_empty())
    {
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
    let brokers: Vec<BrokerId> = image.brokers.keys().copied().collect();
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
            given
        }
        None => {
            let first = topic
                .partitions
                .get(&0)
                .map(|partition| &partition.replicas[..]);
            let start = assign::growth_start(&brokers, first.unwrap_or_default());
            assign::assign(&brokers, before..count, 1, start, start)
        }
    };
    let mut znode = decide::topic_znode(topic, topic.id);
    znode.id = znode.id.filter(|id| !id.is_nil());
    znode.partitions.extend(fresh);
    Ok(znode)
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
