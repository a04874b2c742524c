//! How a member stands, as numbers for status pages and as words for who waits for it. Looks only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::network::Up;
use super::node::{RaftNode, Role};
use super::waits::{Other, View, Waits};
use crate::common::ids::MemberId;
use crate::coordinator::identity::member_of;

/// Numbers for status pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// What this member is.
    pub role: Role,
    /// The present leader.
    pub leader: Option<MemberId>,
    /// The present term.
    pub term: u64,
    /// The last entry in the log.
    pub last_log_index: Option<u64>,
    /// The last entry applied.
    pub applied_index: Option<u64>,
    /// The last entry covered by a snapshot.
    pub snapshot_index: Option<u64>,
    /// The last entry purged from the log.
    pub purged_index: Option<u64>,
    /// On the leader: how many entries each member lacks.
    pub lag: BTreeMap<MemberId, u64>,
    /// The members that have come back without their data and do not count yet: on themselves, and on the
    /// leader.
    pub joining: BTreeSet<MemberId>,
    /// All members, and whether we are connected to them.
    pub members: BTreeMap<MemberId, bool>,
    /// Requests of this member's clients that wait.
    pub waiting: usize,
    /// Syncs so far.
    pub sync_count: u64,
    /// Half of them took at most so many µs.
    pub sync_p50_us: u64,
    /// Almost all of them took at most so many µs.
    pub sync_p99_us: u64,
    /// The longest.
    pub sync_max_us: u64,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
}

impl RaftNode {
    /// What this member waits for, by the names of those that are missing; `None` while it serves.
    pub fn waits_for(&self) -> Option<Waits> {
        if self.serving() {
            return None;
        }
        let voters = self.voters();
        let others = self.links.all().map(|(member, link)| {
            let link = *link.status().borrow();
            Other {
                member: *member,
                address: self.options.members[member].clone(),
                counts: link.peer.is_some_and(|peer| voters.include(peer.node)),
                link,
            }
        });
        let last = self.log.ends().0.map_or(0, |id| id.index);
        Some(Waits::of(&View {
            fresh: self.log.is_fresh(),
            counts: voters.include(self.identity.node()),
            leader: self.leader(),
            has: last,
            offered: self.offered.load(Ordering::Relaxed).max(last),
            others: others.collect(),
        }))
    }

    /// Who has come back without its data, and does not count yet, as far as this member has to do with it.
    fn joining(&self) -> BTreeSet<MemberId> {
        let voters = self.voters();
        let (me, began) = (self.identity.node(), !self.log.is_fresh());
        let own = (began && !voters.include(me)).then_some(self.options.member);
        let leads = self.role() == Role::Leader;
        let others = self.links.all().filter(|(_, link)| {
            let new = |up: Up| !voters.include(up.node);
            leads && link.up().is_some_and(new)
        });
        others.map(|(member, _)| *member).chain(own).collect()
    }

    /// Numbers for status pages.
    pub fn status(&self) -> RaftStatus {
        let (last, purged) = self.log.ends();
        let applied = *self.machine.applied().borrow();
        let data = self.raft.data_metrics().borrow().clone();
        let (role, term) = *self.role.borrow();
        let last_index = last.map_or(0, |id| id.index);
        let replication = data.replication.unwrap_or_default().into_iter();
        // Of a member with two stores the lost one is of no interest.
        let present = replication.filter(|(node, _)| {
            let up = self.links.get(member_of(*node)).and_then(|link| link.up());
            up.is_none_or(|up| up.node == *node)
        });
        let lag = present.map(|(node, matched)| {
            let matched = matched.map_or(0, |id| id.index);
            (member_of(node), last_index.saturating_sub(matched))
        });
        let connected = self.options.members.keys().map(|id| {
            let up = self
                .links
                .get(*id)
                .map(|link| link.status().borrow().peer.is_some());
            (*id, up.unwrap_or(true))
        });
        let sync_us = self.log.sync_us();
        RaftStatus {
            role,
            leader: self.leader(),
            term,
            last_log_index: last.map(|id| id.index),
            applied_index: applied.map(|id| id.index),
            snapshot_index: self.machine.snapshot_index(),
            purged_index: purged.map(|id| id.index),
            lag: lag.collect(),
            joining: self.joining(),
            members: connected.collect(),
            waiting: self.proposals.waiting(),
            sync_count: sync_us.count(),
            sync_p50_us: sync_us.quantile_us(0.5),
            sync_p99_us: sync_us.quantile_us(0.99),
            sync_max_us: sync_us.max_us(),
            store_bytes: self.log.size_bytes(),
        }
    }
}
