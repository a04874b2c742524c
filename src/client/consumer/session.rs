//! A fetch session (KIP-227) as its client sees it: only what changed is asked for again.
//!
//! Pure: what the next request has to say, and what an answer means for the one after it. The broker
//! remembers the partitions of a session; a broker that forgot it says so, and the next request names
//! everything again.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use crate::common::ids::TopicPartition;

/// The number of no session.
const NO_SESSION: i32 = 0;
/// The epoch of a request that names everything and would like a session.
const FIRST_EPOCH: i32 = 0;
/// The epoch of a request that ends its session.
const FINAL_EPOCH: i32 = -1;

/// Where a partition's fetch begins, and the leader's epoch as far as we know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub offset: i64,
    /// -1 if unknown.
    pub leader_epoch: i32,
}

/// One session with one broker.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    epoch: i32,
    /// What the broker remembers: where each partition's next fetch begins.
    known: BTreeMap<TopicPartition, Position>,
}

/// What one request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub id: i32,
    pub epoch: i32,
    /// Partitions to name, with their positions.
    pub named: Vec<(TopicPartition, Position)>,
    /// Partitions that the broker shall forget.
    pub forgotten: Vec<TopicPartition>,
}

impl FetchSession {
    /// The request that fetches exactly `wanted`.
    pub fn next(&mut self, wanted: &BTreeMap<TopicPartition, Position>) -> Plan {
        let full = self.epoch == FIRST_EPOCH;
        let changed = wanted
            .iter()
            .filter(|(partition, position)| full || self.known.get(*partition) != Some(*position));
        let gone = self.known.keys().filter(|old| !wanted.contains_key(*old));
        let plan = Plan {
            id: self.id,
            epoch: self.epoch,
            named: changed
                .map(|(p, position)| (p.clone(), *position))
                .collect(),
            forgotten: if full {
                Vec::new()
            } else {
                gone.cloned().collect()
            },
        };
        self.known = wanted.clone();
        plan
    }

    /// Takes note of an answer's error code and session number.
    pub fn answered(&mut self, error_code: i16, id: i32) {
        match ResponseError::try_from_code(error_code) {
            None if id == NO_SESSION => *self = FetchSession::default(),
            None => {
                self.id = id;
                self.epoch = self.epoch.checked_add(1).unwrap_or(FIRST_EPOCH + 1);
            }
            Some(ResponseError::FetchSessionIdNotFound) => *self = FetchSession::default(),
            Some(_) => self.failed(),
        }
    }

    /// Nobody knows what the broker remembers: the next request replaces the session.
    pub fn failed(&mut self) {
        self.epoch = FIRST_EPOCH;
        self.known.clear();
    }

    /// The request that ends the session, if there is one.
    pub fn end(&self) -> Option<Plan> {
        (self.id != NO_SESSION).then(|| Plan {
            id: self.id,
            epoch: FINAL_EPOCH,
            named: Vec::new(),
            forgotten: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Position {
        Position {
            offset,
            leader_epoch: 2,
        }
    }

    fn wanted(offsets: &[(i32, i64)]) -> BTreeMap<TopicPartition, Position> {
        offsets
            .iter()
            .map(|(partition, offset)| (TopicPartition::new("t", *partition), at(*offset)))
            .collect()
    }

    /// Session, epoch, named and forgotten partitions of a request.
    type Shown = (i32, i32, Vec<(i32, i64)>, Vec<i32>);
    /// What is wanted, what is sent, and the answer's code and session.
    type Row<'a> = (&'a [(i32, i64)], Shown, (i16, i32));

    fn shown(plan: &Plan) -> Shown {
        let named = plan.named.iter().map(|(p, at)| (p.partition, at.offset));
        let forgotten = plan.forgotten.iter().map(|p| p.partition);
        (plan.id, plan.epoch, named.collect(), forgotten.collect())
    }

    /// The rules of KIP-227, one row per request: what is wanted, what is sent, what comes back.
    #[test]
    fn only_what_changed_is_named() {
        let lost = ResponseError::FetchSessionIdNotFound.code();
        let epoch = ResponseError::InvalidFetchSessionEpoch.code();
        let mut session = FetchSession::default();
        let rows: &[Row] = &[
            // No session: the first request names everything.
            (
                &[(0, 5), (1, 7)],
                (0, 0, vec![(0, 5), (1, 7)], vec![]),
                (0, 9),
            ),
            (&[(0, 5), (1, 7)], (9, 1, vec![], vec![]), (0, 9)),
            (&[(0, 6), (1, 7)], (9, 2, vec![(0, 6)], vec![]), (0, 9)),
            (&[(0, 6)], (9, 3, vec![], vec![1]), (0, 9)),
            (&[(0, 6), (1, 8)], (9, 4, vec![(1, 8)], vec![]), (epoch, 9)),
            // A wrong epoch: the same session begins anew.
            (&[(0, 6)], (9, 0, vec![(0, 6)], vec![]), (0, 10)),
            (&[(0, 6)], (10, 1, vec![], vec![]), (lost, 0)),
            // The broker forgot it.
            (&[(0, 6)], (0, 0, vec![(0, 6)], vec![]), (0, 0)),
            // The broker has no room for a session.
            (&[(0, 6)], (0, 0, vec![(0, 6)], vec![]), (0, 0)),
        ];
        for (number, (offsets, request, (code, id))) in rows.iter().enumerate() {
            let plan = session.next(&wanted(offsets));
            assert_eq!(shown(&plan), *request, "request {number}");
            session.answered(*code, *id);
        }
        assert_eq!(session.end(), None);
    }

    /// The broker compares the epoch that it remembers with its own: a new one must be told.
    #[test]
    fn a_new_leader_epoch_is_named() {
        let mut session = FetchSession::default();
        session.next(&wanted(&[(0, 5), (1, 7)]));
        session.answered(0, 9);
        let mut moved = wanted(&[(0, 5), (1, 7)]);
        let fenced = moved.get_mut(&TopicPartition::new("t", 1)).expect("there");
        fenced.leader_epoch = 3;
        let named = session.next(&moved).named;
        let position = Position {
            offset: 7,
            leader_epoch: 3,
        };
        assert_eq!(named, vec![(TopicPartition::new("t", 1), position)]);
    }

    #[test]
    fn a_lost_answer_ends_what_was_known() {
        let mut session = FetchSession::default();
        session.next(&wanted(&[(0, 5)]));
        session.answered(0, 3);
        session.next(&wanted(&[(0, 6)]));
        session.failed();
        let plan = session.next(&wanted(&[(0, 6)]));
        assert_eq!(shown(&plan), (3, 0, vec![(0, 6)], vec![]));
        assert_eq!(
            session.end().map(|plan| (plan.id, plan.epoch)),
            Some((3, -1))
        );
    }
}
