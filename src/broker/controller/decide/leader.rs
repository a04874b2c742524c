//! Who leads a partition: Kafka's elections, made from the image alone. Pure.
//!
//! A broker that registered after a state was written has restarted since then (or was cut off for a
//! whole session): it is *unproven*, and counts as out of sync until it has followed the leader again.
//! One whose directories were empty at such a moment is *blank*: it has nothing, and leads nothing that
//! is older, not even where nobody else is left.
//!
//! A registration outlives its broker by a whole session. So nobody leaves the in-sync set in favour of a
//! leader of whom nothing but the registration is known: such a decision waits until more is.

use std::collections::BTreeSet;

use crate::broker::image::{Image, PartitionImage, PartitionState};
use crate::common::ids::{BrokerId, ControllerEpoch, LeaderEpoch, Zxid};

/// What a broker is for a partition whose state was written at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not registered, or its log of this partition cannot be used.
    Dead,
    /// Its directories have been empty since.
    Blank,
    /// It has registered anew since.
    Unproven,
    /// It has been there all the time.
    Proven,
}

/// What the broker is for a partition whose state was written at `written`.
pub fn standing(
    image: &Image,
    partition: &PartitionImage,
    id: BrokerId,
    written: Zxid,
) -> Standing {
    match image.brokers.get(&id) {
        None => Standing::Dead,
        Some(_) if partition.offline.contains(&id) => Standing::Dead,
        Some(broker) if broker.blank_since.is_some_and(|since| since > written) => Standing::Blank,
        Some(broker) if broker.epoch > written => Standing::Unproven,
        Some(_) => Standing::Proven,
    }
}

/// A state that follows another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The state.
    pub state: PartitionState,
    /// Its leader may lack acknowledged records.
    pub unclean: bool,
}

/// The state of a partition that had none; none while, as in Kafka, no replica lives.
pub fn first_state(
    image: &Image,
    epoch: ControllerEpoch,
    partition: &PartitionImage,
) -> Option<PartitionState> {
    let alive = |id: &&BrokerId| partition.is_live(image, **id);
    let leader = *partition.replicas.iter().find(alive)?;
    Some(PartitionState {
        leader: Some(leader),
        leader_epoch: LeaderEpoch(0),
        isr: partition.replicas.iter().filter(alive).copied().collect(),
        controller_epoch: epoch,
        version: 0,
        written: Zxid(0),
    })
}

/// What follows a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Following {
    /// The state stays.
    Same,
    /// It may have to change; but the only brokers that could lead are registered, and nothing else says
    /// that they live.
    Waits,
    /// Another one.
    Next(Next),
}

/// What has to follow a state, now that the brokers are these, of whom `known` are alive for more reasons
/// than their registration.
pub fn next_state(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    epoch: ControllerEpoch,
    unclean: bool,
    partition: &PartitionImage,
    state: &PartitionState,
) -> Following {
    let isr = in_sync(image, partition, state);
    let clean = |state| {
        Following::Next(Next {
            state,
            unclean: false,
        })
    };
    if let Some(leader) = state.leader.filter(|leader| isr.contains(leader)) {
        if isr == state.isr {
            return Following::Same;
        }
        if !known.contains(&leader) {
            return Following::Waits;
        }
        return clean(succeed(state, Some(leader), isr, epoch));
    }
    let first = |wanted: &dyn Fn(&BrokerId) -> bool| {
        let mut replicas = partition.replicas.iter().copied();
        replicas.find(|id| wanted(id))
    };
    if let Some(leader) = first(&|id| isr.contains(id) && known.contains(id)) {
        return clean(succeed(state, Some(leader), isr, epoch));
    }
    if !isr.is_empty() {
        return Following::Waits;
    }
    let stands = |id: BrokerId| standing(image, partition, id, state.written);
    // Nobody has been there all the time: whoever was in sync and still has its disk, has everything
    // that was acknowledged.
    let survivor = |id: &BrokerId| state.isr.contains(id) && stands(*id) == Standing::Unproven;
    if let Some(leader) = first(&|id| survivor(id) && known.contains(id)) {
        return clean(succeed(state, Some(leader), vec![leader], epoch));
    }
    if first(&survivor).is_some() {
        return Following::Waits;
    }
    if unclean {
        let disk = |id: &BrokerId| matches!(stands(*id), Standing::Unproven | Standing::Proven);
        let alive = |id: &BrokerId| stands(*id) != Standing::Dead;
        if let Some(leader) = first(&disk).or_else(|| first(&alive)) {
            return Following::Next(Next {
                state: succeed(state, Some(leader), vec![leader], epoch),
                unclean: true,
            });
        }
    }
    // The in-sync set is kept: whoever is in it has everything, and may lead when it is back.
    match state.leader {
        Some(_) => clean(succeed(state, None, state.isr.clone(), epoch)),
        None => Following::Same,
    }
}

/// The members of the in-sync set that are there and have been all the time.
pub fn in_sync(image: &Image, partition: &PartitionImage, state: &PartitionState) -> Vec<BrokerId> {
    let proven = |id: &&BrokerId| {
        let stands = standing(image, partition, **id, state.written);
        partition.replicas.contains(id) && stands == Standing::Proven
    };
    state.isr.iter().filter(proven).copied().collect()
}

/// The next state, under a new leader epoch.
pub fn succeed(
    state: &PartitionState,
    leader: Option<BrokerId>,
    isr: Vec<BrokerId>,
    epoch: ControllerEpoch,
) -> PartitionState {
    PartitionState {
        leader,
        leader_epoch: LeaderEpoch(state.leader_epoch.0.saturating_add(1)),
        isr,
        controller_epoch: epoch,
        version: state.version,
        written: state.written,
    }
}

/// The state that lets `departing` go without harm: another member leads, and it is out of the in-sync
/// set. None where it is not needed, and where nobody else has the data.
pub fn departed(
    image: &Image,
    partition: &PartitionImage,
    departing: BrokerId,
) -> Option<PartitionState> {
    let state = partition.state.as_ref()?;
    if state.leader != Some(departing) && !state.isr.contains(&departing) {
        return None;
    }
    let mut isr = in_sync(image, partition, state);
    isr.retain(|id| *id != departing);
    let kept = state.leader.filter(|leader| isr.contains(leader));
    let first = || partition.replicas.iter().find(|id| isr.contains(id));
    let leader = kept.or_else(|| first().copied())?;
    Some(succeed(state, Some(leader), isr, image.controller_epoch))
}

/// Why a partition gets no other leader.
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
pub fn preferred(image: &Image, partition: &PartitionImage) -> Result<PartitionState, NotElected> {
    let (Some(state), Some(first)) = (&partition.state, partition.replicas.first()) else {
        return Err(NotElected::PreferredNotAvailable);
    };
    if state.leader == Some(*first) {
        return Err(NotElected::NotNeeded);
    }
    let isr = in_sync(image, partition, state);
    if !isr.contains(first) {
        return Err(NotElected::PreferredNotAvailable);
    }
    Ok(succeed(state, Some(*first), isr, image.controller_epoch))
}

/// The state after an unclean election that somebody asked for.
pub fn unclean(image: &Image, partition: &PartitionImage) -> Result<PartitionState, NotElected> {
    let state = partition.state.as_ref().ok_or(NotElected::NoEligible)?;
    let led = |leader| partition.is_live(image, leader);
    if state.leader.is_some_and(led) {
        return Err(NotElected::NotNeeded);
    }
    // Whoever asks for this has decided who is dead.
    let known = image.brokers.keys().copied().collect();
    match next_state(
        image,
        &known,
        image.controller_epoch,
        true,
        partition,
        state,
    ) {
        Following::Next(next) if next.state.leader.is_some() => Ok(next.state),
        _ => Err(NotElected::NoEligible),
    }
}

#[cfg(test)]
mod tests;
