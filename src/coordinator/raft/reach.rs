//! How far a member's vote and log reach, and how far each was seen to: a member that comes back with an
//! older copy of its directory has lost what the others count on, and is not let in.
//!
//! Pure. Everything noted was durable at the other side before it was said, so it stays
//! true however late it arrives. What is safe to compare: a vote never falls; and below the vote for a
//! leader nothing is cut that this leader, or to this leader, was acknowledged. A higher vote may cut, and
//! is durable before it does; so nothing of a lower vote is compared with it.
//! The identity file keeps it, so a restart of who has seen it forgets nothing that is older than a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::types::{LogId, Vote};
use crate::coordinator::identity::StoredReach;

/// A vote, and how far the log reaches under it. The order is the one in which a member may only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    term: u64,
    node: u64,
    index: Option<u64>,
}

impl Reach {
    /// Of a vote with the log up to `index`.
    pub fn new(term: u64, node: u64, index: Option<u64>) -> Reach {
        Reach { term, node, index }
    }

    /// Of the log up to `last` under `vote`. A granted vote and a won one reach as far.
    pub fn of(vote: &Vote, last: Option<LogId>) -> Reach {
        let leader = vote.leader_id;
        Reach::new(leader.term, leader.node_id, last.map(|id| id.index))
    }
}

/// The furthest that each other store was seen to reach, by raft's names for them.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<u64, Reach>>);

impl Seen {
    /// What was noted in an earlier life.
    pub fn of_file(reaches: &BTreeMap<u64, StoredReach>) -> Seen {
        let reaches = reaches
            .iter()
            .map(|(node, (term, leader, index))| (*node, Reach::new(*term, *leader, *index)));
        Seen(Mutex::new(reaches.collect()))
    }

    /// What a later life is to know, of the stores that are still of interest.
    pub fn to_file(&self, of_interest: impl Fn(u64) -> bool) -> BTreeMap<u64, StoredReach> {
        let mut seen = self.lock();
        seen.retain(|node, _| of_interest(*node));
        let reaches = seen.iter();
        reaches
            .map(|(node, reach)| (*node, (reach.term, reach.node, reach.index)))
            .collect()
    }

    /// Notes what `node` has said to have on disk.
    pub fn note(&self, node: u64, reach: Reach) {
        let mut seen = self.lock();
        let furthest = seen.entry(node).or_default();
        *furthest = reach.max(*furthest);
    }

    /// The furthest of `node` so far. What it says it has may be compared with this only if it looked
    /// later: in between it may acknowledge more on another connection.
    pub fn of(&self, node: u64) -> Reach {
        self.lock().get(&node).copied().unwrap_or_default()
    }

    /// As [`Seen::of`], of all.
    pub fn now(&self) -> BTreeMap<u64, Reach> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Reach>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_went_back_is_behind_and_one_that_a_later_leader_cut_is_not() {
        // Seen, come back with, behind?
        let cases = [
            ((0, 0, None), (0, 0, None), false),
            ((3, 1, Some(90)), (3, 1, Some(90)), false),
            // It wrote more, and died before it said so.
            ((3, 1, Some(90)), (3, 1, Some(95)), false),
            ((3, 1, Some(90)), (3, 1, Some(89)), true),
            ((3, 1, Some(90)), (3, 1, None), true),
            // The vote fell, whatever the log says.
            ((3, 1, None), (2, 2, Some(90)), true),
            ((3, 2, None), (3, 1, Some(90)), true),
            // Voted for another one, which may have cut what the first had not committed.
            ((3, 1, Some(90)), (4, 2, Some(80)), false),
            ((3, 1, Some(90)), (3, 2, Some(80)), false),
        ];
        for (seen, back, behind) in cases {
            let [seen, back] =
                [seen, back].map(|(term, node, index)| Reach::new(term, node, index));
            assert_eq!(back < seen, behind, "{seen:?} {back:?}");
        }
    }

    #[test]
    fn what_arrives_late_takes_nothing_back() {
        let (seen, member) = (Seen::default(), 0x702);
        assert_eq!(seen.of(member), Reach::default());
        seen.note(member, Reach::new(3, 1, Some(90)));
        seen.note(member, Reach::new(3, 1, Some(50)));
        seen.note(member, Reach::new(3, 1, None));
        seen.note(member, Reach::new(2, 1, Some(900)));
        assert_eq!(seen.of(member), Reach::new(3, 1, Some(90)));
        seen.note(member, Reach::new(4, 1, None));
        assert_eq!(seen.of(member), Reach::new(4, 1, None));
        assert_eq!(seen.of(0x703), Reach::default());
        seen.note(0x602, Reach::new(1, 1, None));
        let kept = Seen::of_file(&seen.to_file(|node| node == member));
        assert_eq!(kept.of(member), Reach::new(4, 1, None));
        assert_eq!(kept.of(0x602), Reach::default(), "of no interest");
    }
}
