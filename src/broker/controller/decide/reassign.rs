//! Moving replicas (KIP-455), a step at a time, made from the image alone. Pure.
//!
//! A topic's znode says which replicas are being added and removed; the *target* is the replicas without
//! the removed ones. When all of the target is in sync, one multi gives the leadership to one of
//! them, takes the others out of the in-sync set and ends the reassignment; whoever is left out
//! sees itself assigned no more, and deletes its log.

use crate::broker::controller::decide::leader;
use crate::broker::image::{Image, PartitionImage, PartitionState};
use crate::common::ids::{BrokerId, TopicPartition};

/// An assignment that changes, and the state that changes with it.
pub type Step = (PartitionImage, Option<PartitionState>);

fn without(list: &[BrokerId], gone: &[BrokerId]) -> Vec<BrokerId> {
    let kept = list.iter().filter(|id| !gone.contains(id));
    kept.copied().collect()
}

/// The replicas that a partition shall have in the end.
pub fn target(partition: &PartitionImage) -> Vec<BrokerId> {
    without(&partition.replicas, &partition.removing)
}

/// Are replicas of it being moved?
pub fn is_moving(partition: &PartitionImage) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

/// Why replicas cannot be moved like that, in Kafka's words.
pub fn refusal(image: &Image, partition: &PartitionImage, wanted: &[BrokerId]) -> Option<String> {
    let list = |ids: &[BrokerId]| {
        let ids: Vec<String> = ids.iter().map(BrokerId::to_string).collect();
        ids.join(", ")
    };
    if wanted.is_empty() {
        return Some("Empty replica list specified in partition reassignment.".to_owned());
    }
    let repeated = (1..wanted.len()).any(|at| wanted[..at].contains(&wanted[at]));
    if repeated {
        return Some(format!(
            "Duplicate replica ids in partition reassignment replica list: List({})",
            list(wanted)
        ));
    }
    if wanted.iter().any(|id| id.0 < 0) {
        return Some(format!(
            "Invalid broker id in replica list: List({})",
            list(wanted)
        ));
    }
    let origin = without(&partition.replicas, &partition.adding);
    let added = without(wanted, &origin);
    if added.iter().all(|id| image.brokers.contains_key(id)) {
        return None;
    }
    let alive: Vec<BrokerId> = image.brokers.keys().copied().collect();
    Some(format!(
        "Replica assignment has brokers that are not alive. Replica list: List({}), live broker list: Set({})",
        list(&added),
        list(&alive)
    ))
}

/// Begins to move a partition to these replicas, also in the middle of another move.
pub fn begin(image: &Image, partition: &PartitionImage, wanted: &[BrokerId]) -> Step {
    let origin = without(&partition.replicas, &partition.adding);
    let mut replicas = wanted.to_vec();
    replicas.extend(without(&origin, wanted));
    let adding = without(&replicas, &origin);
    if let Some(state) = &partition.state {
        let mut holders = leader::in_sync(image, partition, state);
        if holders.is_empty() {
            holders.extend(
                state
                    .isr
                    .iter()
                    .filter(|id| partition.replicas.contains(id)),
            );
        }
        // Where only replicas that an earlier move added have the data, they stay until others have it.
        if !holders.iter().any(|id| replicas.contains(id)) {
            replicas.extend(holders);
        }
    }
    let next = PartitionImage {
        removing: without(&replicas, wanted),
        adding,
        replicas,
        state: partition.state.clone(),
        offline: partition.offline.clone(),
    };
    let moved = handed_over(image, &next);
    (next, moved)
}

/// Ends a move before it is done; none where nothing is being moved.
pub fn cancel(image: &Image, partition: &PartitionImage) -> Option<Step> {
    let origin = without(&partition.replicas, &partition.adding);
    is_moving(partition).then(|| begin(image, partition, &origin))
}

/// The state of a partition that lost replicas which were in sync; none where it lost none.
fn handed_over(image: &Image, next: &PartitionImage) -> Option<PartitionState> {
    let state = next.state.as_ref()?;
    let (mut isr, before) = (state.isr.clone(), state.isr.len());
    isr.retain(|id| next.replicas.contains(id));
    if isr.len() == before {
        return None;
    }
    let proven = leader::in_sync(image, next, state);
    let kept = state.leader.filter(|leader| proven.contains(leader));
    let first = || next.replicas.iter().find(|id| proven.contains(id)).copied();
    let (leader, isr) = match kept.or_else(first) {
        Some(leader) => (Some(leader), proven),
        None => (None, isr),
    };
    Some(leader::succeed(state, leader, isr, image.controller_epoch))
}

/// What a partition needs now: a wish of `/admin/reassign_partitions` is begun, a move whose target is in
/// sync is ended.
pub fn step(image: &Image, topic: &str, index: i32, partition: &PartitionImage) -> Option<Step> {
    let wish = wish(image, topic, index);
    if let Some(wanted) = wish
        && refusal(image, partition, wanted).is_none()
        && target(partition) != *wanted
    {
        return Some(begin(image, partition, wanted));
    }
    if !is_moving(partition) {
        return None;
    }
    let state = partition.state.as_ref()?;
    let (target, leader) = (target(partition), state.leader?);
    let proven = leader::in_sync(image, partition, state);
    if target.is_empty() || !target.iter().all(|id| proven.contains(id)) {
        return None;
    }
    let isr: Vec<BrokerId> = proven
        .into_iter()
        .filter(|id| target.contains(id))
        .collect();
    let leader = Some(leader).filter(|leader| isr.contains(leader));
    let leader = leader.or(target.first().copied());
    let state = leader::succeed(state, leader, isr, image.controller_epoch);
    let next = PartitionImage {
        replicas: target,
        adding: Vec::new(),
        removing: Vec::new(),
        state: partition.state.clone(),
        offline: partition.offline.clone(),
    };
    Some((next, Some(state)))
}

fn wish<'a>(image: &'a Image, topic: &str, index: i32) -> Option<&'a Vec<BrokerId>> {
    let wishes = image.reassignment.as_ref()?;
    let mut wishes = wishes.partitions.iter();
    wishes.find_map(|(id, wanted)| (&*id.topic == topic && id.partition == index).then_some(wanted))
}

/// What of `/admin/reassign_partitions` is still to be done, and what cannot be. None where the znode may
/// stay as it is.
pub fn remaining(image: &Image) -> Option<Remaining> {
    let wishes = image.reassignment.as_ref()?;
    let mut left = Remaining {
        version: wishes.version,
        ..Remaining::default()
    };
    for (id, wanted) in &wishes.partitions {
        let found = image.partition(&id.topic, id.partition);
        let Some(partition) = found.filter(|_| !image.deleting.contains(&id.topic)) else {
            let unknown = "The partition does not exist.".to_owned();
            left.refused.push((id.clone(), unknown));
            continue;
        };
        let done = !is_moving(partition) && partition.replicas == *wanted;
        // A wish that has been begun is not judged again.
        let begun = target(partition) == *wanted;
        match refusal(image, partition, wanted).filter(|_| !begun) {
            Some(reason) => left.refused.push((id.clone(), reason)),
            None if done => {}
            None => left.partitions.push((id.clone(), wanted.clone())),
        }
    }
    let stays = !left.partitions.is_empty() && left.partitions.len() == wishes.partitions.len();
    (!stays).then_some(left)
}

/// The rest of `/admin/reassign_partitions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// What is still to be done.
    pub partitions: Vec<(TopicPartition, Vec<BrokerId>)>,
    /// What is not going to be done, and why.
    pub refused: Vec<(TopicPartition, String)>,
    /// The znode's version.
    pub version: i32,
}

#[cfg(test)]
mod tests;
