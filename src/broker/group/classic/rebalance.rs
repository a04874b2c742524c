//! How a classic group gets from one generation to the next. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::broker::group::classic::member::Member;
use crate::broker::group::classic::{
    AfterWrite, Answer, Effect, Group, JoinWait, Now, State, Synced, Write,
};
use crate::broker::group::record::{GroupMetadata, MemberMetadata};

impl Group {
    pub(super) fn rebalance_if_settled(&mut self, now: Now) {
        match self.state {
            State::Empty | State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(now);
            }
            State::PreparingRebalance | State::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now) {
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
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0).max(0))
    }

    pub(super) fn try_complete_join(&mut self, now: Now) {
        if self.state == State::PreparingRebalance
            && matches!(self.join_wait, Some(JoinWait::Rejoin { .. }))
            && self.pending.is_empty()
            && self.members.values().all(|member| member.join.is_some())
        {
            self.complete_join(now);
        }
    }

    /// Everybody has joined, or had the time to.
    pub(super) fn complete_join(&mut self, now: Now) {
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
    pub(super) fn elect_joined_leader(&mut self) -> bool {
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
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
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

    pub(super) fn write(
        &mut self,
        after: AfterWrite,
        assignments: Option<&BTreeMap<Arc<str>, Bytes>>,
    ) {
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

    pub(super) fn written(&mut self, now: Now, write: Write, result: Result<(), ResponseError>) {
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

    pub(super) fn static_rejoined(&mut self, id: &Arc<str>, previous_leader: Arc<str>, skip: bool) {
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

    pub(super) fn revert_static(
        &mut self,
        now: Now,
        id: &Arc<str>,
        previous: Member,
        error: ResponseError,
    ) {
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
    pub(super) fn settle_sync(
        &mut self,
        now: Now,
        result: Result<BTreeMap<Arc<str>, Bytes>, ResponseError>,
    ) {
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
}
