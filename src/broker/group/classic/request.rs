//! How a classic group takes the requests of its members. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;

use crate::broker::group::classic::member::{Join, Member, Protocols};
use crate::broker::group::classic::{
    AfterWrite, Answer, Group, Identity, Joined, NEW_MEMBER_JOIN_TIMEOUT_MS, Now, State, Sync,
    Synced, Waiter,
};

impl Group {
    pub(super) fn join(&mut self, now: Now, waiter: Waiter, join: Join) {
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
    pub(super) fn has_room_for(&self, member_id: &str) -> bool {
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
    pub(super) fn supports(&self, protocol_type: &Arc<str>, protocols: &Protocols) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common = self.common_protocols();
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| common.contains(&**name))
    }

    /// The protocols that every member speaks.
    pub(super) fn common_protocols(&self) -> BTreeSet<&str> {
        let mut members = self.members.values();
        let mut common: BTreeSet<&str> =
            members.next().into_iter().flat_map(Member::names).collect();
        for member in members {
            common.retain(|name| member.speaks(name));
        }
        common
    }

    /// A client without a member id.
    pub(super) fn join_unknown(&mut self, now: Now, waiter: Waiter, join: Join) {
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

    pub(super) fn join_known(&mut self, now: Now, waiter: Waiter, join: Join) {
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

    pub(super) fn add_member(&mut self, now: Now, waiter: Waiter, id: Arc<str>, join: Join) {
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

    pub(super) fn update_member(&mut self, waiter: Waiter, id: &Arc<str>, join: Join) {
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
    pub(super) fn rejoin_static(
        &mut self,
        now: Now,
        waiter: Waiter,
        join: Join,
        previous_id: &Arc<str>,
    ) {
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

    pub(super) fn rename(
        &mut self,
        from: &Arc<str>,
        to: &Arc<str>,
        instance_id: Option<&Arc<str>>,
    ) {
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

    pub(super) fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Joined {
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

    pub(super) fn sync(&mut self, now: Now, waiter: Waiter, sync: Sync) {
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

    pub(super) fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
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

    pub(super) fn heartbeat(&mut self, now: Now, identity: &Identity) -> Result<(), ResponseError> {
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

    pub(super) fn leave(
        &mut self,
        now: Now,
        waiter: Waiter,
        leavers: &[(Arc<str>, Option<Arc<str>>)],
    ) {
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

    pub(super) fn leave_one(
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
}
