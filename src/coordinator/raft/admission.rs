//! How a member that has lost its store comes back: as another store, which takes the place of the lost one.
//!
//! To raft a member that comes back empty is not the old one with amnesia but a new node: its name is that of
//! its store ([`crate::coordinator::identity`]). What the old store had promised, it has promised for good,
//! and nobody votes or acknowledges under its name again; so all that follows is a change of membership as
//! raft knows it. The leader lets the new store learn, waits until it has all that was in the log when it
//! began to, and then lets it count in the place of the old one, by the quorum of the configuration that
//! still has the old one. Without that quorum there is no leader, and nothing is changed.
//!
//! No step is remembered but in the log itself: whoever leads finds in the membership how far it has come, and
//! goes on from there. [`next_step`] decides, and is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::Instant;
use tracing::{info, warn};

use super::node::{RaftNode, Role};
use super::types::{LogId, Membership, StoredMembership};
use crate::common::ids::MemberId;
use crate::coordinator::identity::member_of;

/// A step that has no effect is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// It is told when a step still has no effect after so long.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// Who counts. Between two configurations a quorum is one of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters(Vec<BTreeSet<u64>>);

impl Voters {
    /// As this membership says.
    pub fn of(membership: &Membership) -> Voters {
        Voters(membership.get_joint_config().clone())
    }

    /// Does this store count?
    pub fn include(&self, node: u64) -> bool {
        self.0.iter().any(|config| config.contains(&node))
    }

    /// Are those that `may` enough?
    pub fn have_quorum(&self, may: impl Fn(u64) -> bool) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|config| {
                let able = config.iter().filter(|node| may(**node)).count();
                able > config.len() / 2
            })
    }

    /// The stores that count in the end, when the change that is under way is over.
    fn last(&self) -> Option<&BTreeSet<u64>> {
        self.0.last()
    }

    fn are_changing(&self) -> bool {
        self.0.len() > 1
    }
}

/// What the leader sees of a member that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its store.
    pub node: u64,
    /// By its own log its store counts.
    pub counts: bool,
}

/// The next change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A change that was begun is finished: these count.
    Finish(BTreeSet<u64>),
    /// These stores learn no more: their members have others by now.
    Forget(BTreeSet<u64>),
    /// This store learns.
    Learn(u64),
    /// These count: a store that has learned takes the place of its member's lost one.
    Admit(BTreeSet<u64>),
}

/// What is to be done about the membership, as it was last written into the log and is committed. `matched`
/// is how far the log of each store is known to reach.
pub fn next_step(
    membership: &StoredMembership,
    present: &BTreeMap<MemberId, Candidate>,
    matched: &BTreeMap<u64, Option<LogId>>,
) -> Option<Step> {
    let voters = Voters::of(membership.membership());
    let last = voters.last()?;
    if voters.are_changing() {
        return Some(Step::Finish(last.clone()));
    }
    let learners: BTreeSet<u64> = membership.membership().learner_ids().collect();
    let is_gone = |node: &&u64| {
        let now = present.get(&member_of(**node));
        now.is_some_and(|now| now.node != **node)
    };
    let gone: BTreeSet<u64> = learners.iter().filter(is_gone).copied().collect();
    if !gone.is_empty() {
        return Some(Step::Forget(gone));
    }
    // Has everything up to the entry that let it learn; more is on its way.
    let has_learned = |node: &&u64| {
        let has = matched.get(*node).copied().flatten();
        present.contains_key(&member_of(**node)) && has >= *membership.log_id()
    };
    if let Some(learned) = learners.iter().find(has_learned) {
        let member = member_of(*learned);
        let others = last.iter().filter(|node| member_of(**node) != member);
        return Some(Step::Admit(others.chain([learned]).copied().collect()));
    }
    // What counts by its own log, and no more by ours, has been replaced; it is refused elsewhere.
    let known = |node: u64| last.contains(&node) || learners.contains(&node);
    let new = present.values().find(|it| !it.counts && !known(it.node));
    new.map(|it| Step::Learn(it.node))
}

/// The step that was last taken.
#[derive(Debug, Default)]
pub struct Taken {
    step: Option<(Step, Option<LogId>)>,
    since: Option<Instant>,
    at: Option<Instant>,
    told: bool,
}

impl Taken {
    /// Is it time to take this step, from this membership?
    fn may_take(&mut self, step: &Step, from: Option<LogId>) -> bool {
        let now = Instant::now();
        let same = self
            .step
            .as_ref()
            .is_some_and(|(taken, then)| taken == step && *then == from);
        if !same {
            *self = Taken {
                step: Some((step.clone(), from)),
                since: Some(now),
                at: Some(now),
                told: false,
            };
            return true;
        }
        if !self.told
            && self
                .since
                .is_some_and(|since| since.elapsed() >= TELL_AFTER)
        {
            self.told = true;
            warn!(?step, "a member that came back empty is not admitted yet");
        }
        let again = self.at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER);
        if again {
            self.at = Some(now);
        }
        again
    }
}

/// Takes the next step, if this member leads and there is one.
pub async fn advance(node: &RaftNode, taken: &mut Taken) {
    if node.role() != Role::Leader {
        return;
    }
    let membership = node
        .raft
        .server_metrics()
        .borrow()
        .membership_config
        .clone();
    if node.machine.membership().log_id() != membership.log_id() {
        // The change before is not committed, and applied, yet.
        return;
    }
    let links = node.links.all();
    let present = links.filter_map(|(member, link)| {
        let peer = link.status().borrow().peer?;
        let (node, counts) = (peer.node, peer.counts);
        Some((*member, Candidate { node, counts }))
    });
    let matched = node.raft.data_metrics().borrow().replication.clone();
    let step = next_step(
        &membership,
        &present.collect(),
        &matched.unwrap_or_default(),
    );
    let Some(step) = step else {
        return;
    };
    if !taken.may_take(&step, *membership.log_id()) || !node.may_change_membership() {
        return;
    }
    let (change, retain) = match &step {
        Step::Finish(voters) => (ChangeMembers::ReplaceAllVoters(voters.clone()), false),
        Step::Forget(nodes) => (ChangeMembers::RemoveNodes(nodes.clone()), true),
        Step::Learn(node) => {
            let nodes = BTreeMap::from([(*node, openraft::EmptyNode::default())]);
            (ChangeMembers::AddNodes(nodes), true)
        }
        Step::Admit(voters) => (ChangeMembers::ReplaceAllVoters(voters.clone()), false),
    };
    tell(&step);
    // It is asked for, and no more: the next step, which openraft would take by itself, is found in the
    // membership when this one is committed, like that of a leader that did not live to take it.
    let asked = node.raft.change_membership(change, retain);
    let _ = tokio::time::timeout(Duration::ZERO, asked).await;
}

fn tell(step: &Step) {
    match step {
        Step::Learn(node) => {
            let member = member_of(*node);
            info!(%member, "a member has come back without its data: it joins as new");
        }
        Step::Admit(_) => {
            info!("a member that came back without its data has caught up: it counts again")
        }
        Step::Finish(_) | Step::Forget(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::LeaderKey;
    use super::*;

    const CHANGED_AT: u64 = 10;

    fn at(index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderKey::new(1, 1), index))
    }

    fn membership(configs: &[&[u64]], learners: &[u64]) -> StoredMembership {
        let configs = configs
            .iter()
            .map(|config| config.iter().copied().collect());
        let learners: BTreeSet<u64> = learners.iter().copied().collect();
        let membership = Membership::new(configs.collect(), learners);
        StoredMembership::new(at(CHANGED_AT), membership)
    }

    fn present(nodes: &[(u64, bool)]) -> BTreeMap<MemberId, Candidate> {
        let nodes = nodes.iter().map(|(node, counts)| {
            let (node, counts) = (*node, *counts);
            (member_of(node), Candidate { node, counts })
        });
        nodes.collect()
    }

    fn set(nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().collect()
    }

    #[test]
    fn a_lost_store_is_replaced_in_steps_that_each_leader_can_go_on_with() {
        let (old, new, newer) = (0x702, 0x802, 0x902);
        type Case<'a> = (
            &'a [&'a [u64]],
            &'a [u64],
            &'a [(u64, bool)],
            &'a [(u64, u64)],
            Option<Step>,
        );
        let cases: [Case; 14] = [
            // All well, or away.
            (&[&[1, old, 3]], &[], &[(old, true), (3, true)], &[], None),
            (&[&[1, old, 3]], &[], &[(3, true)], &[], None),
            // A store that knows that it counts, or that has yet to learn it, stays.
            (&[&[1, old, 3]], &[], &[(old, false)], &[], None),
            (
                &[&[1, old, 3]],
                &[],
                &[(new, false), (3, true)],
                &[],
                Some(Step::Learn(new)),
            ),
            // Counts by its own log: it has been replaced, or is of another ensemble.
            (&[&[1, new, 3]], &[], &[(old, true)], &[], None),
            // Learns, and has not everything yet.
            (&[&[1, old, 3]], &[new], &[(new, false)], &[], None),
            (&[&[1, old, 3]], &[new], &[(new, false)], &[(new, 9)], None),
            (
                &[&[1, old, 3]],
                &[new],
                &[(new, false)],
                &[(new, CHANGED_AT)],
                Some(Step::Admit(set(&[1, 3, new]))),
            ),
            // Has learned, and is away again.
            (&[&[1, old, 3]], &[new], &[], &[(new, CHANGED_AT)], None),
            // Emptied again meanwhile, or its old data brought back.
            (
                &[&[1, old, 3]],
                &[new],
                &[(newer, false)],
                &[(new, CHANGED_AT)],
                Some(Step::Forget(set(&[new]))),
            ),
            (
                &[&[1, old, 3]],
                &[new],
                &[(old, true)],
                &[],
                Some(Step::Forget(set(&[new]))),
            ),
            // A leader died between the two configurations.
            (
                &[&[1, old, 3], &[1, new, 3]],
                &[],
                &[(newer, false)],
                &[],
                Some(Step::Finish(set(&[1, 3, new]))),
            ),
            // Two of five.
            (
                &[&[1, old, 3, 4, 5]],
                &[new],
                &[(new, false), (0x803, false)],
                &[],
                Some(Step::Learn(0x803)),
            ),
            (&[], &[], &[(new, false)], &[], None),
        ];
        for (configs, learners, here, matched, expected) in cases {
            let membership = membership(configs, learners);
            let matched = matched.iter().map(|(node, index)| (*node, at(*index)));
            let step = next_step(&membership, &present(here), &matched.collect());
            assert_eq!(step, expected, "{configs:?} {learners:?} {here:?}");
        }
    }

    #[test]
    fn a_quorum_is_one_of_each_configuration() {
        let voters = |configs| Voters::of(membership(configs, &[9]).membership());
        let have = |configs, able: &[u64]| voters(configs).have_quorum(|node| able.contains(&node));
        assert!(have(&[&[1, 2, 3]], &[1, 2]));
        assert!(!have(&[&[1, 2, 3]], &[1, 9]));
        let both: &[&[u64]] = &[&[1, 2, 3], &[1, 4, 3]];
        assert!(have(both, &[1, 3]));
        assert!(!have(both, &[1, 4]), "not of the old one");
        assert!(have(both, &[1, 2, 4]));
        assert!(!have(&[&[1, 2, 3, 4, 5]], &[1, 2, 6]));
        assert!(!have(&[], &[1]));
        assert!(voters(both).include(4) && !voters(both).include(9));
    }
}
