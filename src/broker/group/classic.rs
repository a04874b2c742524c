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

use crate::broker::group::record::{GroupMetadata, MemberMetadata};
use crate::kafka::subscription;

pub use crate::broker::group::classic::member::{Join, Member, Protocols};

mod member;
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

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; maybe offsets.
    Empty,
    /// Waits for its members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Every member may have its assignment.
    Stable,
    /// Unloaded or deleted; this value is of no more use.
    Dead,
}

impl State {
    /// The state in Kafka's spelling.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// Names an open request; the driver knows who waits behind it.
pub type Waiter = u64;

/// Names a write of the group's metadata.
pub type Write = u64;

/// Who a request says it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The member's id; empty if it has none.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation that the member believes in; -1 for none.
    pub generation: i32,
}

/// A SyncGroup request.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    /// Who asks.
    pub identity: Identity,
    /// Must be the group's, where it is given (v5).
    pub protocol_type: Option<Arc<str>>,
    /// Must be the group's, where it is given (v5).
    pub protocol_name: Option<Arc<str>>,
    /// The leader's assignment by member id.
    pub assignments: BTreeMap<Arc<str>, Bytes>,
}

/// What happens to a group.
#[derive(Clone, Debug)]
pub enum Event {
    /// A member joins, or joins again.
    Join(Waiter, Join),
    /// A member asks for its assignment; the leader brings everybody's.
    Sync(Waiter, Sync),
    /// A member is alive.
    Heartbeat(Waiter, Identity),
    /// Members leave: (member id, instance id) each.
    Leave(Waiter, Vec<(Arc<str>, Option<Arc<str>>)>),
    /// Time passed; [`Group::deadline`] says when this is due.
    Tick,
    /// The write that [`Effect::Write`] asked for is durable, or failed.
    Written(Write, Result<(), ResponseError>),
    /// This broker coordinates the group no more.
    Unload,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer(Waiter, Answer),
    /// Write the group's metadata, then report [`Event::Written`].
    Write(Write, GroupMetadata),
}

/// An answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To JoinGroup.
    Joined(Joined),
    /// To JoinGroup that failed: the code and the member id to go on with.
    JoinRefused(ResponseError, Arc<str>),
    /// To SyncGroup.
    Synced(Result<Synced, ResponseError>),
    /// To Heartbeat.
    Heartbeat(Result<(), ResponseError>),
    /// To LeaveGroup, member by member; or one code for all.
    Left(Result<Vec<Option<ResponseError>>, ResponseError>),
}

/// A member's place in a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// For example `consumer`.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was voted for.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    /// The leader shall not assign: the group is stable (v9).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// Everybody, for the leader: member id, instance id, metadata.
    pub members: Vec<(Arc<str>, Option<Arc<str>>, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The group's protocol.
    pub protocol_name: Option<Arc<str>>,
    /// Opaque to the broker.
    pub assignment: Bytes,
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

    fn join(&mut self, now: Now, waiter: Waiter, join: Join) {
        let supported = self.supports(&join.protocol_type, &join.protocols);
        if self.state == State::Dead {
            self.refuse_join(
                waiter,
                ResponseError::CoordinatorNotAvailable,
                join.member_id,
            );
        } else if !self.has_room_for(&join.member_id) {
            self.remove(&join.member_id.clone());
            self.pending.remove(&join.member_id);
            self.refuse_join(waiter, ResponseError::GroupMaxSizeReached, Arc::default());
        } else if !supported {
            let error = ResponseError::InconsistentGroupProtocol;
            self.refuse_join(waiter, error, join.member_id);
        } else if join.member_id.is_empty() {
            self.join_unknown(now, waiter, join);
        } else {
            self.join_known(now, waiter, join);
        }
        self.try_complete_join(now);
    }

    /// Is there a place for one more, or has the member one already?
    fn has_room_for(&self, member_id: &str) -> bool {
        let known = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                let waiting = self.members.values().filter(|m| m.join.is_some()).count();
                known.is_some_and(|member| member.join.is_some())
                    || waiting < self.limits.members_max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < self.limits.members_max
            }
        }
    }

    /// Can the group go on with a member that speaks only these protocols?
    fn supports(&self, protocol_type: &Arc<str>, protocols: &Protocols) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common = self.common_protocols();
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| common.contains(&**name))
    }

    /// The protocols that every member speaks.
    fn common_protocols(&self) -> BTreeSet<&str> {
        let mut members = self.members.values();
        let mut common: BTreeSet<&str> =
            members.next().into_iter().flat_map(Member::names).collect();
        for member in members {
            common.retain(|name| member.speaks(name));
        }
        common
    }

    /// A client without a member id.
    fn join_unknown(&mut self, now: Now, waiter: Waiter, join: Join) {
        let instance = join.instance_id.clone();
        match instance.and_then(|id| self.statics.get(&id).cloned()) {
            Some(previous) => self.rejoin_static(now, waiter, join, &previous),
            None if join.instance_id.is_none() && join.require_known_member_id => {
                if self.pending.len() >= self.limits.members_max {
                    let error = ResponseError::GroupMaxSizeReached;
                    return self.refuse_join(waiter, error, Arc::default());
                }
                let lapses = now
                    .monotonic_ms
                    .saturating_add(i64::from(join.session_timeout_ms));
                self.pending.insert(join.new_member_id.clone(), lapses);
                let error = ResponseError::MemberIdRequired;
                self.refuse_join(waiter, error, join.new_member_id);
            }
            None => {
                let id = join.new_member_id.clone();
                self.add_member(now, waiter, id, join);
            }
        }
    }

    fn join_known(&mut self, now: Now, waiter: Waiter, join: Join) {
        let id = join.member_id.clone();
        if join.instance_id.is_none() && self.pending.contains_key(&id) {
            return self.add_member(now, waiter, id, join);
        }
        if let Err(error) = self.check_member(&id, join.instance_id.as_ref()) {
            return self.refuse_join(waiter, error, id);
        }
        let same = self
            .members
            .get(&id)
            .is_some_and(|member| member.protocols == join.protocols);
        let leads = self.leader.as_ref() == Some(&id);
        match self.state {
            // The same metadata again: the answer was probably lost on its way.
            State::CompletingRebalance if same => {
                let joined = self.joined(&id, false);
                self.answer(waiter, Answer::Joined(joined));
            }
            State::Stable if same && !leads => {
                let joined = self.joined(&id, false);
                self.answer(waiter, Answer::Joined(joined));
            }
            // The leader may see a changed topic, so its join always rebalances.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(waiter, &id, join);
                self.rebalance_if_settled(now);
            }
            State::Empty | State::Dead => {
                self.refuse_join(waiter, ResponseError::UnknownMemberId, id);
            }
        }
    }

    fn add_member(&mut self, now: Now, waiter: Waiter, id: Arc<str>, join: Join) {
        self.pending.remove(&id);
        if self.state == State::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        if let Some(instance_id) = &join.instance_id {
            self.statics.insert(instance_id.clone(), id.clone());
        }
        let mut member = Member::new(id.clone(), join);
        member.join = Some(waiter);
        member.deadline = Some(now.monotonic_ms.saturating_add(NEW_MEMBER_JOIN_TIMEOUT_MS));
        self.members.insert(id, member);
        self.rebalance_if_settled(now);
    }

    fn update_member(&mut self, waiter: Waiter, id: &Arc<str>, join: Join) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let replaced = member.join.replace(waiter);
        member.update(join);
        if let Some(replaced) = replaced {
            // The client gave that request up; nobody reads this answer, but it must have one.
            self.refuse_join(replaced, ResponseError::RebalanceInProgress, id.clone());
        }
    }

    /// A static member that lost its member id takes the place of its former self (KIP-345).
    fn rejoin_static(&mut self, now: Now, waiter: Waiter, join: Join, previous_id: &Arc<str>) {
        let Some(mut member) = self.members.remove(previous_id) else {
            return self.refuse_join(waiter, ResponseError::UnknownMemberId, join.member_id);
        };
        let fenced = ResponseError::FencedInstanceId;
        if let Some(old) = member.join.take() {
            self.refuse_join(old, fenced, previous_id.clone());
        }
        if let Some(old) = member.sync.take() {
            self.answer(old, Answer::Synced(Err(fenced)));
        }
        let previous = Box::new(member.clone());
        let previous_leader = self.leader.clone().unwrap_or_default();
        let id = join.new_member_id.clone();
        let skip_assignment = join.support_skipping_assignment;
        member.id = id.clone();
        member.join = Some(waiter);
        member.update(join);
        member.renew(now.monotonic_ms);
        self.rename(previous_id, &id, member.instance_id.as_ref());
        self.members.insert(id.clone(), member);
        match self.state {
            State::Stable if self.protocol_name == self.select_protocol() => {
                let after = AfterWrite::StaticRejoin {
                    member_id: id,
                    previous,
                    previous_leader,
                    skip_assignment,
                };
                self.write(after, None);
            }
            // The leader may be assigning to the old member id already.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now),
            State::PreparingRebalance | State::Empty | State::Dead => {}
        }
    }

    fn rename(&mut self, from: &Arc<str>, to: &Arc<str>, instance_id: Option<&Arc<str>>) {
        if self.leader.as_ref() == Some(from) {
            self.leader = Some(to.clone());
        }
        if self.unsynced.remove(from) {
            self.unsynced.insert(to.clone());
        }
        if let Some(instance_id) = instance_id {
            self.statics.insert(instance_id.clone(), to.clone());
        }
    }

    fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Joined {
        let leads = self.leader.as_ref() == Some(id);
        let name = self.protocol_name.clone().unwrap_or_default();
        let everybody = || {
            let of = |m: &Member| (m.id.clone(), m.instance_id.clone(), m.metadata(&name));
            self.members.values().map(of).collect()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip_assignment && leads,
            member_id: id.clone(),
            members: if leads { everybody() } else { Vec::new() },
        }
    }

    fn sync(&mut self, now: Now, waiter: Waiter, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return self.answer(waiter, Answer::Synced(Err(error)));
        }
        let id = &sync.identity.member_id;
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_deadline = None;
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if self.state == State::Stable {
            member.renew(now.monotonic_ms);
            let synced = Synced {
                protocol_type: self.protocol_type.clone(),
                protocol_name: self.protocol_name.clone(),
                assignment: member.assignment.clone(),
            };
            return self.answer(waiter, Answer::Synced(Ok(synced)));
        }
        if let Some(replaced) = member.sync.replace(waiter) {
            let error = ResponseError::RebalanceInProgress;
            self.answer(replaced, Answer::Synced(Err(error)));
        }
        if self.leader.as_ref() == Some(id) {
            let mut given = sync.assignments;
            let of = |id: &Arc<str>| (id.clone(), given.remove(id).unwrap_or_default());
            let assignments: BTreeMap<_, _> = self.members.keys().map(of).collect();
            let after = AfterWrite::Assign {
                generation: self.generation,
                assignments: assignments.clone(),
            };
            self.write(after, Some(&assignments));
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.check_generation(&sync.identity)?;
        let differs =
            |mine: &Option<Arc<str>>, asked: &Option<Arc<str>>| asked.is_some() && mine != asked;
        if differs(&self.protocol_type, &sync.protocol_type)
            || differs(&self.protocol_name, &sync.protocol_name)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty | State::Dead => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn heartbeat(&mut self, now: Now, identity: &Identity) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.check_generation(identity)?;
        self.renew(now, &identity.member_id);
        match self.state {
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, now: Now, waiter: Waiter, leavers: &[(Arc<str>, Option<Arc<str>>)]) {
        if self.state == State::Dead {
            let error = ResponseError::CoordinatorNotAvailable;
            return self.answer(waiter, Answer::Left(Err(error)));
        }
        let one = |leaver: &(Arc<str>, Option<Arc<str>>)| {
            self.leave_one(now, &leaver.0, leaver.1.as_ref()).err()
        };
        let errors = leavers.iter().map(one).collect();
        self.answer(waiter, Answer::Left(Ok(errors)));
    }

    fn leave_one(
        &mut self,
        now: Now,
        member_id: &Arc<str>,
        instance_id: Option<&Arc<str>>,
    ) -> Result<(), ResponseError> {
        if !member_id.is_empty() && self.pending.remove(member_id).is_some() {
            self.try_complete_join(now);
            return Ok(());
        }
        // An administrator names a static member by its instance id alone.
        let current = instance_id.and_then(|id| self.statics.get(id).cloned());
        let id = match current {
            Some(current) if member_id.is_empty() => current,
            _ => {
                self.check_member(member_id, instance_id)?;
                member_id.clone()
            }
        };
        self.remove_and_rebalance(now, &id);
        Ok(())
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

    fn rebalance_if_settled(&mut self, now: Now) {
        match self.state {
            State::Empty | State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(now);
            }
            State::PreparingRebalance | State::Dead => {}
        }
    }

    fn prepare_rebalance(&mut self, now: Now) {
        if self.state == State::CompletingRebalance {
            self.settle_sync(now, Err(ResponseError::RebalanceInProgress));
        }
        self.unsynced.clear();
        self.sync_deadline = None;
        let after = |ms: i64| now.monotonic_ms.saturating_add(ms);
        let timeout_ms = self.rebalance_timeout_ms();
        self.join_wait = Some(if self.state == State::Empty {
            let delay_ms = self.limits.initial_rebalance_delay_ms;
            JoinWait::Initial {
                deadline: after(delay_ms),
                remaining_ms: (timeout_ms - delay_ms).max(0),
            }
        } else {
            JoinWait::Rejoin {
                deadline: after(timeout_ms),
            }
        });
        self.go(now, State::PreparingRebalance);
        self.try_complete_join(now);
    }

    /// The longest that any member asks for.
    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0).max(0))
    }

    fn try_complete_join(&mut self, now: Now) {
        if self.state == State::PreparingRebalance
            && matches!(self.join_wait, Some(JoinWait::Rejoin { .. }))
            && self.pending.is_empty()
            && self.members.values().all(|member| member.join.is_some())
        {
            self.complete_join(now);
        }
    }

    /// Everybody has joined, or had the time to.
    fn complete_join(&mut self, now: Now) {
        let late = |member: &&Member| member.join.is_none() && member.instance_id.is_none();
        let late: Vec<_> = self
            .members
            .values()
            .filter(late)
            .map(|m| m.id.clone())
            .collect();
        for id in late {
            self.remove(&id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members that are away: wait on, their sessions will end it.
            let deadline = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms());
            self.join_wait = Some(JoinWait::Rejoin { deadline });
            return;
        }
        self.join_wait = None;
        // As Kafka's Int: the successor of the last generation is negative, and nobody lives to see it.
        self.generation = self.generation.wrapping_add(1);
        self.protocol_name = self.select_protocol();
        if self.members.is_empty() {
            self.go(now, State::Empty);
            return self.write(AfterWrite::Emptied, None);
        }
        self.go(now, State::CompletingRebalance);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            let joined = self.joined(id, false);
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            member.is_new = false;
            let waiter = member.join.take();
            member.renew(now.monotonic_ms);
            if let Some(waiter) = waiter {
                self.answer(waiter, Answer::Joined(joined));
            }
        }
        self.unsynced = ids.into_iter().collect();
        self.sync_deadline = Some(now.monotonic_ms.saturating_add(self.rebalance_timeout_ms()));
    }

    /// Keeps the leader if it has joined again, else takes one that has.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        match leader {
            None => false,
            Some(leader) if leader.join.is_some() => true,
            Some(_) => {
                let joined = self.members.values().find(|m| m.join.is_some());
                match joined.map(|member| member.id.clone()) {
                    Some(id) => {
                        self.leader = Some(id);
                        true
                    }
                    None => false,
                }
            }
        }
    }

    /// Each member votes for the first of its protocols that all others speak, too.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let common = self.common_protocols();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|(name, _)| name);
            if let Some(name) = names.find(|name| common.contains(&***name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let winner = votes.into_iter().find(|(_, count)| *count == most);
        winner.map(|(name, _)| name.clone())
    }

    fn write(&mut self, after: AfterWrite, assignments: Option<&BTreeMap<Arc<str>, Bytes>>) {
        let name = self.protocol_name.clone().unwrap_or_default();
        let members = self.members.values().map(|member| {
            let assignment = match assignments {
                Some(given) => given.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            member.stored(&name, assignment)
        });
        let metadata = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            current_state_timestamp_ms: self.state_since_wall_ms,
            members: members.collect::<Vec<MemberMetadata>>(),
        };
        let write = self.next_write;
        self.next_write += 1;
        self.writes.insert(write, after);
        self.effects.push(Effect::Write(write, metadata));
    }

    fn written(&mut self, now: Now, write: Write, result: Result<(), ResponseError>) {
        match self.writes.remove(&write) {
            Some(AfterWrite::Assign {
                generation,
                assignments,
            }) => {
                // A new rebalance may have begun meanwhile; then nobody waits for this any more.
                if self.state == State::CompletingRebalance && self.generation == generation {
                    let failed = result.is_err();
                    self.settle_sync(now, result.map(|()| assignments));
                    if failed {
                        self.prepare_rebalance(now);
                    } else {
                        self.go(now, State::Stable);
                    }
                }
            }
            Some(AfterWrite::StaticRejoin {
                member_id,
                previous,
                previous_leader,
                skip_assignment,
            }) => match result {
                Ok(()) => self.static_rejoined(&member_id, previous_leader, skip_assignment),
                Err(error) => self.revert_static(now, &member_id, *previous, error),
            },
            // A lost note that the group is empty does no harm: the members of the generation before
            // would time out after a reload.
            Some(AfterWrite::Emptied) | None => {}
        }
    }

    fn static_rejoined(&mut self, id: &Arc<str>, previous_leader: Arc<str>, skip: bool) {
        let mut joined = self.joined(id, skip);
        if !skip {
            // Before v9 a leader that is named as such would assign, and be ignored by a stable group.
            // So it is shown its former id as the leader.
            joined.members = Vec::new();
            joined.leader = previous_leader;
        }
        if let Some(waiter) = self.members.get_mut(id).and_then(|m| m.join.take()) {
            self.answer(waiter, Answer::Joined(joined));
        }
    }

    fn revert_static(&mut self, now: Now, id: &Arc<str>, previous: Member, error: ResponseError) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        if let Some(waiter) = member.join.take() {
            self.refuse_join(waiter, error, Arc::default());
        }
        let previous_id = previous.id.clone();
        self.rename(id, &previous_id, previous.instance_id.as_ref());
        self.members.insert(previous_id.clone(), previous);
        self.renew(now, &previous_id);
    }

    /// Sets or drops the assignments and answers every member that waits for one.
    fn settle_sync(&mut self, now: Now, result: Result<BTreeMap<Arc<str>, Bytes>, ResponseError>) {
        let mut answers = Vec::new();
        for member in self.members.values_mut() {
            member.assignment = match &result {
                Ok(given) => given.get(&member.id).cloned().unwrap_or_default(),
                Err(_) => Bytes::new(),
            };
            let Some(waiter) = member.sync.take() else {
                continue;
            };
            member.renew(now.monotonic_ms);
            let answer = match &result {
                Ok(_) => Ok(Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol_name: self.protocol_name.clone(),
                    assignment: member.assignment.clone(),
                }),
                Err(error) => Err(*error),
            };
            answers.push(Effect::Answer(waiter, Answer::Synced(answer)));
        }
        self.effects.extend(answers);
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
