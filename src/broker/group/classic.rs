//! The life of one classic group, as Kafka's group coordinator leads it: [`Group::on`] takes an event and
//! the time and returns what has to be done.
//!
//! Pure: no clock, no randomness, no I/O; fresh member ids come in with the events. The invariant: in one
//! generation every member knows the same protocol and only the leader hands out assignments. What a
//! member was told about a generation in `Stable` was written to the log before. Committed offsets are next
//! door, in [`super::offsets`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::broker::group::record::GroupMetadata;
use crate::kafka::subscription;

pub use crate::broker::group::classic::event::{
    Answer, Effect, Event, Identity, Joined, State, Sync, Synced, Waiter, Write,
};
pub use crate::broker::group::classic::member::{Join, Member, Protocols};

mod event;
mod member;
mod rebalance;
mod request;
#[cfg(test)]
mod tests;

/// How long a member that is new may wait for its first generation. It cannot send heartbeats while its
/// join is open, so a client that has gone would stay for ever without this limit (Kafka has the same).
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// Both hands of the clock: the steady one for timeouts, the wall for what is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never jumps.
    pub monotonic_ms: i64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// Limits of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `group.max.size`
    pub members_max: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i64,
}

/// When the members that are awaited have had their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinWait {
    /// A group that was empty: more members are probably on their way, so it waits in any case, and
    /// again while new ones come, up to the rebalance timeout.
    Initial { deadline: i64, remaining_ms: i64 },
    /// Ends when everybody has joined, at the latest at the deadline.
    Rejoin { deadline: i64 },
}

/// What follows when a write is done.
#[derive(Clone, Debug)]
enum AfterWrite {
    Assign {
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    StaticRejoin {
        member_id: Arc<str>,
        previous: Box<Member>,
        previous_leader: Arc<str>,
        skip_assignment: bool,
    },
    Emptied,
}

/// One classic group.
#[derive(Clone, Debug)]
pub struct Group {
    limits: Limits,
    state: State,
    state_since_wall_ms: Option<i64>,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol_name: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Member ids by group instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given out with MEMBER_ID_REQUIRED, and when they lapse.
    pending: BTreeMap<Arc<str>, i64>,
    /// Members of this generation that have not asked for their assignment.
    unsynced: BTreeSet<Arc<str>>,
    join_wait: Option<JoinWait>,
    sync_deadline: Option<i64>,
    new_member_added: bool,
    writes: BTreeMap<Write, AfterWrite>,
    next_write: Write,
    effects: Vec<Effect>,
}

impl Group {
    /// A group without members.
    pub fn new(limits: Limits) -> Group {
        Group {
            limits,
            state: State::Empty,
            state_since_wall_ms: None,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            join_wait: None,
            sync_deadline: None,
            new_member_added: false,
            writes: BTreeMap::new(),
            next_write: 0,
            effects: Vec::new(),
        }
    }

    /// A group as it was written down. Its members have their full session timeout from now on.
    pub fn load(limits: Limits, now: Now, stored: GroupMetadata) -> Group {
        let mut group = Group::new(limits);
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol_name = stored.protocol;
        group.leader = stored.leader;
        group.state_since_wall_ms = stored.current_state_timestamp_ms;
        let name = group.protocol_name.clone().unwrap_or_default();
        for stored in stored.members {
            if let Some(instance_id) = &stored.instance_id {
                let id = (instance_id.clone(), stored.member_id.clone());
                group.statics.insert(id.0, id.1);
            }
            let member = Member::load(stored, name.clone(), now.monotonic_ms);
            group.members.insert(member.id.clone(), member);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            if group.members.len() > limits.members_max {
                group.prepare_rebalance(now);
            }
        }
        group
    }

    /// One step: everything that a group does happens in here.
    pub fn on(&mut self, now: Now, event: Event) -> Vec<Effect> {
        match event {
            Event::Join(waiter, join) => self.join(now, waiter, join),
            Event::Sync(waiter, sync) => self.sync(now, waiter, sync),
            Event::Heartbeat(waiter, identity) => {
                let answer = self.heartbeat(now, &identity);
                self.answer(waiter, Answer::Heartbeat(answer));
            }
            Event::Leave(waiter, leavers) => self.leave(now, waiter, &leavers),
            Event::Tick => self.tick(now),
            Event::Written(write, result) => self.written(now, write, result),
            Event::Unload => self.unload(),
        }
        std::mem::take(&mut self.effects)
    }

    /// When the next [`Event::Tick`] is due, on the monotonic clock.
    pub fn deadline(&self) -> Option<i64> {
        let join_wait = self.join_wait.map(|wait| match wait {
            JoinWait::Initial { deadline, .. } | JoinWait::Rejoin { deadline } => deadline,
        });
        let sessions = self.members.values().filter_map(|member| member.deadline);
        sessions
            .chain(self.pending.values().copied())
            .chain(join_wait)
            .chain(self.sync_deadline)
            .min()
    }

    /// May whoever this is commit offsets now? Renews the member's session.
    pub fn check_commit(&mut self, now: Now, identity: &Identity) -> Result<(), ResponseError> {
        let anonymous = identity.member_id.is_empty() && identity.instance_id.is_none();
        match self.state {
            State::Dead => return Err(ResponseError::CoordinatorNotAvailable),
            // A consumer that assigns partitions to itself, or an administrator.
            State::Empty if identity.generation < 0 => return Ok(()),
            _ if identity.generation < 0 && anonymous => {
                return Err(ResponseError::UnknownMemberId);
            }
            _ => {}
        }
        self.check_generation(identity)?;
        match self.state {
            State::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => {
                self.renew(now, &identity.member_id);
                Ok(())
            }
        }
    }

    /// Marks an empty group as deleted. False if it has members.
    pub fn delete(&mut self) -> bool {
        let empty = self.state == State::Empty;
        if empty {
            self.state = State::Dead;
            self.pending.clear();
        }
        empty
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.effects.push(Effect::Answer(waiter, answer));
    }

    fn refuse_join(&mut self, waiter: Waiter, error: ResponseError, member_id: Arc<str>) {
        self.answer(waiter, Answer::JoinRefused(error, member_id));
    }

    fn go(&mut self, now: Now, state: State) {
        self.state = state;
        self.state_since_wall_ms = Some(now.wall_ms);
    }

    /// Is this who it says it is? A static member whose instance id has a newer member is fenced.
    fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&Arc<str>>,
    ) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.statics.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if **current != *member_id => {
                    return Err(ResponseError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    fn check_generation(&self, identity: &Identity) -> Result<(), ResponseError> {
        self.check_member(&identity.member_id, identity.instance_id.as_ref())?;
        if identity.generation == self.generation {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    fn renew(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.renew(now.monotonic_ms);
        }
    }

    /// Takes a member out; answers what it waits for. Does not decide what the group does next.
    fn remove(&mut self, id: &Arc<str>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        let unknown = ResponseError::UnknownMemberId;
        if let Some(waiter) = member.join.take() {
            self.refuse_join(waiter, unknown, Arc::default());
        }
        if let Some(waiter) = member.sync.take() {
            self.answer(waiter, Answer::Synced(Err(unknown)));
        }
        if let Some(instance_id) = &member.instance_id {
            self.statics.remove(instance_id);
        }
        self.unsynced.remove(id);
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn remove_and_rebalance(&mut self, now: Now, id: &Arc<str>) {
        self.remove(id);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now),
            State::PreparingRebalance => self.try_complete_join(now),
            State::Empty | State::Dead => {}
        }
    }

    fn tick(&mut self, now: Now) {
        let due = |deadline: i64| deadline <= now.monotonic_ms;
        let lapsed = self.pending.len();
        self.pending.retain(|_, deadline| !due(*deadline));
        if self.pending.len() < lapsed {
            self.try_complete_join(now);
        }
        let silent = |m: &&Member| m.deadline.is_some_and(due);
        let silent: Vec<_> = self
            .members
            .values()
            .filter(silent)
            .map(|m| m.id.clone())
            .collect();
        for id in silent {
            // Removing one may have settled the others' fate.
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if member.waits() && !member.is_new {
                // It has an open request here, so it is alive; the answer starts its session anew.
                member.deadline = None;
            } else if member.deadline.is_some_and(due) {
                self.remove_and_rebalance(now, &id);
            }
        }
        self.tick_join(now);
        if self.sync_deadline.is_some_and(due) {
            self.sync_deadline = None;
            let missing = std::mem::take(&mut self.unsynced);
            for id in &missing {
                self.remove(id);
            }
            if !missing.is_empty() {
                self.prepare_rebalance(now);
            }
        }
    }

    fn tick_join(&mut self, now: Now) {
        match self.join_wait {
            Some(JoinWait::Rejoin { deadline }) if deadline <= now.monotonic_ms => {
                self.complete_join(now);
            }
            Some(JoinWait::Initial {
                deadline,
                remaining_ms,
            }) if deadline <= now.monotonic_ms => {
                if self.new_member_added && remaining_ms > 0 {
                    self.new_member_added = false;
                    let delay_ms = self.limits.initial_rebalance_delay_ms.min(remaining_ms);
                    self.join_wait = Some(JoinWait::Initial {
                        deadline: now.monotonic_ms.saturating_add(delay_ms),
                        remaining_ms: remaining_ms - delay_ms,
                    });
                } else {
                    self.complete_join(now);
                }
            }
            _ => {}
        }
    }

    fn unload(&mut self) {
        let moved = ResponseError::NotCoordinator;
        let mut answers = Vec::new();
        for member in self.members.values_mut() {
            if let Some(waiter) = member.join.take() {
                answers.push((waiter, Answer::JoinRefused(moved, member.id.clone())));
            }
            if let Some(waiter) = member.sync.take() {
                answers.push((waiter, Answer::Synced(Err(moved))));
            }
            member.deadline = None;
        }
        for (waiter, answer) in answers {
            self.answer(waiter, answer);
        }
        self.state = State::Dead;
        self.pending.clear();
        self.writes.clear();
        self.join_wait = None;
        self.sync_deadline = None;
    }
}

/// What others may know of a group.
impl Group {
    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The current generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// `consumer` for consumers; none for a group that only commits.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol of this generation.
    pub fn protocol_name(&self) -> Option<&Arc<str>> {
        self.protocol_name.as_ref()
    }

    /// Its members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// Bytes of metadata and assignments that its members hold.
    pub fn metadata_bytes(&self) -> usize {
        self.members.values().map(Member::metadata_bytes).sum()
    }

    /// When it became what it is, on the wall clock; none if it was never written down.
    pub fn state_since_wall_ms(&self) -> Option<i64> {
        self.state_since_wall_ms
    }

    /// Does it hold nothing that is worth keeping in memory, offsets aside?
    pub fn is_blank(&self) -> bool {
        self.state == State::Empty && self.generation == 0 && self.pending.is_empty()
    }

    /// Does it have members, or ids that may become members?
    pub fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// May a member read that topic? A subscription that cannot be read counts as "yes".
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let Some(name) = &self.protocol_name else {
            return !self.members.is_empty();
        };
        self.members.values().any(
            |member| match subscription::topics(&member.metadata(name)) {
                Some(topics) => topics.iter().any(|subscribed| &**subscribed == topic),
                None => true,
            },
        )
    }
}
