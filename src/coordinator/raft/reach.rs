//! How far a member's vote and log reach, and how far each was seen to: a member that comes back with an
//! older copy of its directory has lost what the others count on, and is not let in.
//!
//! Pure, and in memory only. Everything noted was durable at the other side before it was said, so it stays
//! true however late it arrives. What is safe to compare: a vote never falls; and below the vote for a
//! leader nothing is cut that this leader, or to this leader, was acknowledged. A higher vote may cut, and
//! is durable before it does; so nothing of a lower vote is compared with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::types::{LogId, Vote};
use crate::common::ids::MemberId;

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

    /// Has nothing been voted or written?
    pub fn is_nothing(&self) -> bool {
        *self == Reach::default()
    }
}

/// The furthest that each other member was seen to reach.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<MemberId, Reach>>);

impl Seen {
    /// Notes what `member` has said to have on disk.
    pub fn note(&self, member: MemberId, reach: Reach) {
        let mut seen = self.lock();
        let furthest = seen.entry(member).or_default();
        *furthest = reach.max(*furthest);
    }

    /// The furthest of `member` so far. What it says it has may be compared with this only if it looked
    /// later: in between it may acknowledge more on another connection.
    pub fn of(&self, member: MemberId) -> Reach {
        self.lock().get(&member).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberId, Reach>> {
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
        let (seen, member) = (Seen::default(), MemberId(2));
        assert!(seen.of(member).is_nothing());
        seen.note(member, Reach::new(3, 1, Some(90)));
        seen.note(member, Reach::new(3, 1, Some(50)));
        seen.note(member, Reach::new(3, 1, None));
        seen.note(member, Reach::new(2, 1, Some(900)));
        assert_eq!(seen.of(member), Reach::new(3, 1, Some(90)));
        seen.note(member, Reach::new(4, 1, None));
        assert_eq!(seen.of(member), Reach::new(4, 1, None));
        assert!(seen.of(MemberId(3)).is_nothing());
    }
}
