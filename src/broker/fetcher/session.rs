//! A follower's side of a fetch session (KIP-227): which partitions a request has to name. Pure.
//!
//! The invariant: `sent` is what the leader's session holds, if it has one; a request names what differs
//! from it. After anything unexpected the next request is a full one, and closes the session before.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::broker::fetch_session::NO_SESSION;
use crate::common::ids::{LeaderEpoch, Offset, TopicPartition};

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its topic's id; nil where it has none.
    pub topic_id: Uuid,
    /// The log's end.
    pub offset: Offset,
    /// Where the log begins.
    pub log_start: Offset,
    /// The epoch that this broker follows under.
    pub epoch: LeaderEpoch,
    /// The epoch of the last record; none where there is no record.
    pub last_epoch: Option<LeaderEpoch>,
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The session's id.
    pub id: i32,
    /// Its epoch: 0 for a full request that asks for a session.
    pub epoch: i32,
    /// The partitions to name.
    pub named: Vec<(TopicPartition, Asked)>,
    /// The partitions that leave the session, with their topics' ids.
    pub forgotten: Vec<(TopicPartition, Uuid)>,
}

/// The session with one leader.
#[derive(Debug, Default)]
pub struct Session {
    id: i32,
    epoch: i32,
    sent: BTreeMap<TopicPartition, Asked>,
}

impl Session {
    /// The next request, for exactly these partitions.
    pub fn next(&mut self, wanted: BTreeMap<TopicPartition, Asked>) -> Request {
        if self.epoch == 0 {
            let named = wanted.iter().map(|(id, asked)| (id.clone(), *asked));
            let request = Request {
                id: self.id,
                epoch: 0,
                named: named.collect(),
                forgotten: Vec::new(),
            };
            self.sent = wanted;
            return request;
        }
        let named = wanted
            .iter()
            .filter(|(id, asked)| self.sent.get(id) != Some(asked));
        // A topic that was made again has another id: the old one's partitions leave.
        let kept = |id: &TopicPartition, before: &Asked| {
            wanted
                .get(id)
                .is_some_and(|asked| asked.topic_id == before.topic_id)
        };
        let forgotten = self.sent.iter().filter(|(id, asked)| !kept(id, asked));
        let request = Request {
            id: self.id,
            epoch: self.epoch,
            named: named.map(|(id, asked)| (id.clone(), *asked)).collect(),
            forgotten: forgotten
                .map(|(id, asked)| (id.clone(), asked.topic_id))
                .collect(),
        };
        self.sent = wanted;
        request
    }

    /// The next request, where only these partitions may differ from the last one; none leaves.
    pub fn advance(&mut self, changes: BTreeMap<TopicPartition, Option<Asked>>) -> Request {
        let mut request = Request {
            id: self.id,
            epoch: self.epoch,
            ..Request::default()
        };
        for (id, wanted) in changes {
            let before = self.sent.get(&id).copied();
            if let Some(before) = before
                && wanted.is_none_or(|wanted| wanted.topic_id != before.topic_id)
            {
                request.forgotten.push((id.clone(), before.topic_id));
            }
            match wanted {
                Some(wanted) if before != Some(wanted) => {
                    request.named.push((id.clone(), wanted));
                    self.sent.insert(id, wanted);
                }
                Some(_) => {}
                None => {
                    self.sent.remove(&id);
                }
            }
        }
        request
    }

    /// How many partitions the session would have after these changes.
    pub fn size_after(&self, changes: &BTreeMap<TopicPartition, Option<Asked>>) -> usize {
        changes.iter().fold(self.sent.len(), |size, (id, wanted)| {
            match (self.sent.contains_key(id), wanted.is_some()) {
                (true, false) => size.saturating_sub(1),
                (false, true) => size + 1,
                _ => size,
            }
        })
    }

    /// Has the next request to name everything?
    pub fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// What the last request asked of a partition.
    pub fn asked(&self, id: &TopicPartition) -> Option<&Asked> {
        self.sent.get(id)
    }

    /// An answer came, under this session. Says whether its partitions count.
    pub fn answered(&mut self, error: Option<ResponseError>, id: i32) -> bool {
        match error {
            None if self.epoch == 0 && id != NO_SESSION => {
                self.id = id;
                self.epoch = 1;
            }
            // No room for a session: full requests, then.
            None if id == NO_SESSION => self.id = NO_SESSION,
            None if id == self.id => {
                self.epoch = self.epoch.checked_add(1).unwrap_or(1);
                return true;
            }
            None => self.reset(),
            Some(ResponseError::FetchSessionIdNotFound) => {
                self.id = NO_SESSION;
                self.epoch = 0;
                return false;
            }
            Some(_) => {
                self.reset();
                return false;
            }
        }
        if id == NO_SESSION {
            self.epoch = 0;
        }
        true
    }

    /// The answer is lost: the next request is a full one, and closes the session.
    pub fn reset(&mut self) {
        self.epoch = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(topic_id: u128, offset: i64) -> Asked {
        Asked {
            topic_id: Uuid::from_u128(topic_id),
            offset: Offset(offset),
            log_start: Offset(0),
            epoch: LeaderEpoch(1),
            last_epoch: None,
        }
    }

    fn id(topic: &str) -> TopicPartition {
        TopicPartition::new(topic, 0)
    }

    fn wanted(all: &[(&str, Asked)]) -> BTreeMap<TopicPartition, Asked> {
        all.iter()
            .map(|(topic, asked)| (id(topic), *asked))
            .collect()
    }

    fn names(request: &Request) -> (i32, i32, Vec<String>, Vec<String>) {
        let named = request.named.iter().map(|(id, _)| id.to_string());
        let forgotten = request.forgotten.iter().map(|(id, _)| id.to_string());
        (
            request.id,
            request.epoch,
            named.collect(),
            forgotten.collect(),
        )
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut session = Session::default();
        let (a, b) = (asked(1, 0), asked(2, 0));
        let first = session.next(wanted(&[("a", a), ("b", b)]));
        assert_eq!(names(&first), (0, 0, texts(&["a-0", "b-0"]), vec![]));
        assert!(session.answered(None, 77));
        let next = session.next(wanted(&[("a", asked(1, 5)), ("b", b)]));
        assert_eq!(names(&next), (77, 1, texts(&["a-0"]), vec![]));
        assert_eq!(
            session.asked(&id("a")).map(|asked| asked.offset),
            Some(Offset(5))
        );
        assert!(session.answered(None, 77));
        let next = session.next(wanted(&[("b", b), ("c", asked(3, 0))]));
        assert_eq!(names(&next), (77, 2, texts(&["c-0"]), texts(&["a-0"])));
        assert!(session.answered(None, 77));
        // The same name, another topic.
        let next = session.next(wanted(&[("b", asked(9, 0)), ("c", asked(3, 0))]));
        assert_eq!(names(&next), (77, 3, texts(&["b-0"]), texts(&["b-0"])));
        assert_eq!(next.forgotten[0].1, Uuid::from_u128(2));
    }

    #[test]
    fn changes_make_the_same_requests_as_the_whole() {
        // What is wanted of three partitions, time after time; 0 is nothing, else topic id and offset.
        let steps: [[(u128, i64); 3]; 6] = [
            [(1, 0), (2, 0), (0, 0)],
            [(1, 5), (2, 0), (0, 0)],
            [(1, 5), (0, 0), (3, 0)],
            [(1, 5), (2, 1), (3, 0)],
            [(9, 0), (2, 1), (3, 0)],
            [(0, 0), (0, 0), (3, 7)],
        ];
        let (mut whole, mut parts) = (Session::default(), Session::default());
        for (number, step) in steps.iter().enumerate() {
            let each = ["a", "b", "c"].iter().zip(step);
            let changes: BTreeMap<_, _> = each
                .map(|(name, (topic, offset))| {
                    (id(name), (*topic > 0).then(|| asked(*topic, *offset)))
                })
                .collect();
            let all: BTreeMap<_, _> = changes
                .iter()
                .filter_map(|(id, asked)| Some((id.clone(), (*asked)?)))
                .collect();
            let expected = whole.next(all.clone());
            assert_eq!(parts.is_new(), number == 0);
            let found = if parts.is_new() {
                parts.next(all.clone())
            } else {
                assert_eq!(parts.size_after(&changes), all.len(), "{number}");
                parts.advance(changes)
            };
            assert_eq!(found, expected, "{number}");
            assert!(whole.answered(None, 77) && parts.answered(None, 77));
        }
    }

    #[test]
    fn after_anything_unexpected_all_is_named_again() {
        // The answer to an incremental request, whether it counts, and the next session id and epoch.
        let table = [
            (None, 77, true, (77, 2)),
            (None, 0, true, (0, 0)),
            (None, 78, true, (77, 0)),
            (
                Some(ResponseError::FetchSessionIdNotFound),
                0,
                false,
                (0, 0),
            ),
            (
                Some(ResponseError::InvalidFetchSessionEpoch),
                0,
                false,
                (77, 0),
            ),
            (Some(ResponseError::UnknownServerError), 0, false, (77, 0)),
        ];
        for (error, told, counts, next) in table {
            let mut session = Session::default();
            session.next(wanted(&[("a", asked(1, 0))]));
            assert!(session.answered(None, 77));
            session.next(wanted(&[("a", asked(1, 1))]));
            assert_eq!(session.answered(error, told), counts, "{error:?}");
            let request = session.next(wanted(&[("a", asked(1, 1))]));
            assert_eq!((request.id, request.epoch), next, "{error:?} {told}");
            assert_eq!(request.named.len(), usize::from(request.epoch == 0));
        }
        let mut session = Session::default();
        session.next(wanted(&[("a", asked(1, 0))]));
        assert!(session.answered(None, 0), "no room for a session");
        let request = session.next(wanted(&[("a", asked(1, 0))]));
        assert_eq!((request.id, request.epoch), (0, 0));
        session.answered(None, 5);
        session.reset();
        let request = session.next(wanted(&[("a", asked(1, 0))]));
        assert_eq!((request.id, request.epoch), (5, 0), "closes what was");
    }
}
