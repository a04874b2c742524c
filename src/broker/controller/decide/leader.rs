//! Who leads a partition: Kafka's elections, made from the image alone. Pure.
//!
//! A broker that registered after a state was written has restarted since then (or was cut off for a
//! whole session): it is *unproven*, and counts as out of sync until it has followed the leader again.
//! One whose directories were empty at such a moment is *blank*: it has nothing, and leads nothing that
//! is older, not even where nobody else is left. One whose machine went down beneath it is *cut*: of what
//! is older it has what had reached the disk, so it leads only when no other in-sync replica may have more.
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
    /// Its machine has gone down beneath it since: the end of its log may be missing.
    Cut,
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
        Some(broker) if broker.cut_since.is_some_and(|since| since > written) => Standing::Cut,
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

/// The state of a partition that had none; none while, as in Kafka, no replica lives. One of whom nothing but
/// the registration is known leads only where nobody else can.
pub fn first_state(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    epoch: ControllerEpoch,
    partition: &PartitionImage,
) -> Option<PartitionState> {
    let alive = |id: &&BrokerId| partition.is_live(image, **id);
    let mut replicas = partition.replicas.iter().filter(alive);
    let reached = replicas.clone().find(|id| known.contains(id));
    let leader = *reached.or_else(|| replicas.next())?;
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
    // Nobody has been there all the time: whoever was in sync, still has its disk and only restarted, has
    // everything that was acknowledged. Who lost the end of its log may have it, too, and there is nobody
    // better once all the others are known to have lost as much.
    let member = |id: &BrokerId, standing| state.isr.contains(id) && stands(*id) == standing;
    let restarted = |id: &BrokerId| member(id, Standing::Unproven);
    let cut = |id: &BrokerId| member(id, Standing::Cut);
    let away = first(&|id| member(id, Standing::Dead)).is_some();
    let survivors: [&dyn Fn(&BrokerId) -> bool; 2] = [&restarted, &|id| !away && cut(id)];
    for survivor in survivors {
        if let Some(leader) = first(&|id| survivor(id) && known.contains(id)) {
            return clean(succeed(state, Some(leader), vec![leader], epoch));
        }
        if first(survivor).is_some() {
            return Following::Waits;
        }
    }
    if unclean {
        let disk = |id: &BrokerId| !matches!(stands(*id), Standing::Dead | Standing::Blank);
        let alive = |id: &BrokerId| stands(*id) != Standing::Dead;
        let best = first(&cut).or_else(|| first(&disk));
        if let Some(leader) = best.or_else(|| first(&alive)) {
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

/// The state that lets `departing` go without harm: another member leads, of whom not only the registration
/// is left, and it is out of the in-sync set. None where it is not needed, and where nobody else has the
/// data.
pub fn departed(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    partition: &PartitionImage,
    departing: BrokerId,
) -> Option<PartitionState> {
    let state = partition.state.as_ref()?;
    if state.leader != Some(departing) && !state.isr.contains(&departing) {
        return None;
    }
    let mut isr = in_sync(image, partition, state);
    isr.retain(|id| *id != departing);
    // Where it leads on, the others see to it that the departing one is missed.
    let may_lead = |id: &&BrokerId| isr.contains(*id) && known.contains(*id);
    let kept = state.leader.as_ref().filter(|id| isr.contains(id));
    let leader = match kept {
        Some(leader) => Some(leader).filter(may_lead),
        None => partition.replicas.iter().find(may_lead),
    };
    let leader = *leader?;
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
pub fn preferred(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    partition: &PartitionImage,
) -> Result<PartitionState, NotElected> {
    let (Some(state), Some(first)) = (&partition.state, partition.replicas.first()) else {
        return Err(NotElected::PreferredNotAvailable);
    };
    if state.leader == Some(*first) {
        return Err(NotElected::NotNeeded);
    }
    let isr = in_sync(image, partition, state);
    if !isr.contains(first) || !known.contains(first) {
        return Err(NotElected::PreferredNotAvailable);
    }
    Ok(succeed(state, Some(*first), isr, image.controller_epoch))
}

/// The state after an unclean election that somebody asked for.
pub fn unclean(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    partition: &PartitionImage,
) -> Result<PartitionState, NotElected> {
    let state = partition.state.as_ref().ok_or(NotElected::NoEligible)?;
    let led = |leader| partition.is_live(image, leader);
    if state.leader.is_some_and(led) {
        return Err(NotElected::NotNeeded);
    }
    let next = |known| {
        let epoch = image.controller_epoch;
        next_state(image, known, epoch, true, partition, state)
    };
    let next = match next(known) {
        // Whoever asks for this has decided who is dead.
        Following::Waits => next(&image.brokers.keys().copied().collect()),
        next => next,
    };
    match next {
        Following::Next(next) if next.state.leader.is_some() => Ok(next.state),
        _ => Err(NotElected::NoEligible),
    }
}

#[cfg(test)]
mod tests;
