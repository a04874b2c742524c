//! Fetch sessions (KIP-227): a consumer names its partitions once and then only what changed.
//!
//! Pure: the time and the random ids come in as arguments. The invariant: a session's epoch rises by
//! one per request, so a request that was lost or repeated is noticed and the client starts again with
//! a full fetch. The cache is bounded in sessions and in partitions per session; a client that gets no
//! session is served all the same, it only sends longer requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::broker::wait::Changed;

/// A session that nobody used for so long may go for a new one (`FetchSessionCache` of Kafka).
const EVICTION_MS: i64 = 120_000;

/// A session of more partitions is not kept: its client sends full requests.
const PARTITIONS_MAX: usize = 20_000;

/// "No session" on the wire.
pub const NO_SESSION: i32 = 0;

/// How a request names a topic: by name up to Fetch v12, by id from v13 on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// By its name; an owned copy, so that a session does not keep a request's frame.
    Name(Arc<str>),
    /// By its id.
    Id(Uuid),
}

/// One partition of a fetch.
pub type Key = (TopicKey, i32);

/// What is wanted of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first offset that is wanted.
    pub offset: i64,
    /// The most bytes that are wanted.
    pub bytes_max: i32,
    /// The leader's epoch as the client knows it; -1 where it does not.
    pub leader_epoch: i32,
    /// The epoch of the last record that the client has; -1 where it does not say.
    pub last_fetched_epoch: i32,
    /// Where a follower's log begins; -1 from a consumer.
    pub log_start_offset: i64,
}

/// What an answer says of one partition, as far as the session compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The high watermark.
    pub high_watermark: i64,
    /// The log's first offset.
    pub log_start_offset: i64,
    /// There are records, or a diverging epoch: always worth an answer.
    pub news: bool,
    /// There is an error: always worth an answer.
    pub failed: bool,
}

/// How a request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is refused as a whole.
    Refused(ResponseError),
    /// All of its partitions are answered, and no session is made or kept.
    Sessionless(Vec<(Key, Wanted)>),
    /// All of its partitions are answered; a session is made if there is room.
    Full(Vec<(Key, Wanted)>),
    /// The session's partitions, in its order; those without news are left out of the answer. Of a
    /// follower's session only those that may have some.
    Incremental(Vec<(Key, Wanted)>),
}

/// Which of a session's partitions have to be looked at: a follower's session is large, and most of it is
/// idle.
#[derive(Debug)]
struct Pending {
    changed: Arc<Changed>,
    /// Those that were not clean when they were looked at, and those that were named since.
    keys: BTreeSet<Key>,
    /// When all were looked at, and how often that is done: what no partition tells (its first offset,
    /// a bound that is lifted) is seen then, and the leader hears that its followers are there.
    all_ms: i64,
    every_ms: i64,
}

/// A follower that begins a session.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What its partitions tell of.
    pub changed: Arc<Changed>,
    /// How often all of them are looked at.
    pub every_ms: i64,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
    turn: u64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    created_ms: i64,
    used_ms: i64,
    partitions: BTreeMap<Key, Cached>,
    /// Partitions in the order of their next answer; who got records goes to the end.
    turns: BTreeMap<u64, Key>,
    next_turn: u64,
    /// There where a follower reads.
    pending: Option<Pending>,
}

/// All sessions of this broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots_max: usize,
    sessions: BTreeMap<i32, Session>,
    by_use: BTreeSet<(i64, i32)>,
}

impl FetchSessions {
    /// An empty cache of `slots_max` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots_max: usize) -> FetchSessions {
        FetchSessions {
            slots_max,
            sessions: BTreeMap::new(),
            by_use: BTreeSet::new(),
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Is there no session?
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes a request in: what has to be read for it. `by_id` says how it names topics.
    pub fn begin(
        &mut self,
        now_ms: i64,
        (id, epoch): (i32, i32),
        by_id: bool,
        wanted: Vec<(Key, Wanted)>,
        forgotten: &[Key],
    ) -> Begun {
        if epoch <= 0 {
            self.remove(id);
            return match epoch {
                0 => Begun::Full(wanted),
                _ => Begun::Sessionless(wanted),
            };
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return Begun::Refused(ResponseError::FetchSessionIdNotFound);
        };
        if session.by_id != by_id {
            return Begun::Refused(ResponseError::FetchSessionTopicIdError);
        }
        if session.epoch != epoch {
            return Begun::Refused(ResponseError::InvalidFetchSessionEpoch);
        }
        for (key, wanted) in wanted {
            session.put(key, wanted);
        }
        for key in forgotten {
            session.forget(key);
        }
        if session.partitions.is_empty() {
            self.remove(id);
            return Begun::Sessionless(Vec::new());
        }
        if session.partitions.len() > PARTITIONS_MAX {
            self.remove(id);
            return Begun::Refused(ResponseError::FetchSessionIdNotFound);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        self.by_use.remove(&(session.used_ms, id));
        session.used_ms = now_ms;
        self.by_use.insert((now_ms, id));
        Begun::Incremental(session.due(now_ms))
    }

    /// What the partitions of a follower's session tell of, if it is one.
    pub fn changed(&self, id: i32) -> Option<Arc<Changed>> {
        let pending = self.sessions.get(&id)?.pending.as_ref()?;
        Some(pending.changed.clone())
    }

    /// What is to be looked at again within one request; none where the session is gone.
    pub fn due(&mut self, now_ms: i64, id: i32) -> Option<Vec<(Key, Wanted)>> {
        Some(self.sessions.get_mut(&id)?.due(now_ms))
    }

    /// The follower has everything of this partition, and was told so: it is looked at when it changes.
    pub fn is_clean(&mut self, id: i32, key: &Key) {
        let session = self.sessions.get_mut(&id);
        if let Some(pending) = session.and_then(|session| session.pending.as_mut()) {
            pending.keys.remove(key);
        }
    }

    /// Makes a session of a full fetch and what was answered. Says its id, or [`NO_SESSION`] where
    /// there is no room for it. `random` gives candidates for the id.
    pub fn create(
        &mut self,
        now_ms: i64,
        by_id: bool,
        follower: Option<Follower>,
        answered: impl ExactSizeIterator<Item = (Key, Wanted, Shown)>,
        mut random: impl FnMut() -> i32,
    ) -> i32 {
        let size = answered.len();
        if size == 0 || size > PARTITIONS_MAX || !self.make_room(now_ms, size) {
            return NO_SESSION;
        }
        let free = |id: &i32| *id > 0 && !self.sessions.contains_key(id);
        // Ids are 31 random bits beside a few thousand taken ones: a second try is rare.
        let Some(id) = (0..100).map(|_| random()).find(free) else {
            return NO_SESSION;
        };
        let mut session = Session {
            epoch: 1,
            by_id,
            created_ms: now_ms,
            used_ms: now_ms,
            partitions: BTreeMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            pending: follower.map(|follower| Pending {
                changed: follower.changed,
                keys: BTreeSet::new(),
                all_ms: now_ms,
                every_ms: follower.every_ms,
            }),
        };
        for (key, wanted, shown) in answered {
            session.put(key.clone(), wanted);
            session.show(&key, shown);
        }
        self.sessions.insert(id, session);
        self.by_use.insert((now_ms, id));
        id
    }

    /// Notes what an incremental answer found for one partition; says whether it goes into the answer.
    /// A session that is gone meanwhile has everything answered.
    pub fn show(&mut self, id: i32, key: &Key, shown: Shown) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => session.show(key, shown),
            None => true,
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&(session.used_ms, id));
        }
    }

    /// Frees a slot, as Kafka does: one that is stale, or else one that had its time and is smaller
    /// than the new one.
    fn make_room(&mut self, now_ms: i64, size: usize) -> bool {
        if self.sessions.len() < self.slots_max {
            return true;
        }
        let stale = self
            .by_use
            .first()
            .filter(|(used_ms, _)| now_ms - used_ms > EVICTION_MS)
            .map(|(_, id)| *id);
        let victim = stale.or_else(|| {
            self.sessions
                .iter()
                .filter(|(_, session)| now_ms - session.created_ms > EVICTION_MS)
                .map(|(id, session)| (session.partitions.len(), *id))
                .min()
                .filter(|(smallest, _)| *smallest <= size)
                .map(|(_, id)| id)
        });
        victim.inspect(|id| self.remove(*id)).is_some()
    }
}

impl Session {
    fn put(&mut self, key: Key, wanted: Wanted) {
        if let Some(pending) = &mut self.pending {
            pending.keys.insert(key.clone());
        }
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.wanted = wanted;
            return;
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, key.clone());
        self.partitions.insert(
            key,
            Cached {
                wanted,
                high_watermark: -1,
                log_start_offset: -1,
                turn,
            },
        );
    }

    fn forget(&mut self, key: &Key) {
        if let Some(cached) = self.partitions.remove(key) {
            self.turns.remove(&cached.turn);
        }
        if let Some(pending) = &mut self.pending {
            pending.keys.remove(key);
        }
    }

    /// What has to be looked at: everything, or of a follower's session what may have changed.
    fn due(&mut self, now_ms: i64) -> Vec<(Key, Wanted)> {
        let Some(pending) = &mut self.pending else {
            return self.in_order();
        };
        let partitions = &self.partitions;
        let known = |key: &Key| partitions.contains_key(key);
        pending
            .keys
            .extend(pending.changed.take().into_iter().filter(known));
        if now_ms.saturating_sub(pending.all_ms) >= pending.every_ms {
            pending.all_ms = now_ms;
            pending.keys = partitions.keys().cloned().collect();
        }
        let found = pending.keys.iter().filter_map(|key| {
            let cached = partitions.get(key)?;
            Some((cached.turn, key.clone(), cached.wanted))
        });
        let mut due: Vec<(u64, Key, Wanted)> = found.collect();
        due.sort_unstable_by_key(|(turn, ..)| *turn);
        due.into_iter()
            .map(|(_, key, wanted)| (key, wanted))
            .collect()
    }

    fn show(&mut self, key: &Key, shown: Shown) -> bool {
        let Some(cached) = self.partitions.get_mut(key) else {
            return true;
        };
        let include = shown.news
            || shown.failed
            || cached.high_watermark != shown.high_watermark
            || cached.log_start_offset != shown.log_start_offset;
        // After an error the next good answer has to show that it is over.
        cached.high_watermark = if shown.failed {
            -1
        } else {
            shown.high_watermark
        };
        cached.log_start_offset = shown.log_start_offset;
        if shown.news {
            let turn = self.next_turn;
            self.next_turn += 1;
            self.turns.remove(&cached.turn);
            cached.turn = turn;
            self.turns.insert(turn, key.clone());
        }
        include
    }

    fn in_order(&self) -> Vec<(Key, Wanted)> {
        self.turns
            .values()
            .filter_map(|key| Some((key.clone(), self.partitions.get(key)?.wanted)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wait::Subscribers;

    fn key(topic: &str, partition: i32) -> Key {
        (TopicKey::Name(topic.into()), partition)
    }

    fn at(offset: i64) -> Wanted {
        Wanted {
            offset,
            bytes_max: 1,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start_offset: -1,
        }
    }

    fn shown(high_watermark: i64, news: bool) -> Shown {
        Shown {
            high_watermark,
            log_start_offset: 0,
            news,
            failed: false,
        }
    }

    fn full(sessions: &mut FetchSessions, now_ms: i64, id: i32, keys: &[Key]) -> i32 {
        let wanted: Vec<_> = keys.iter().map(|key| (key.clone(), at(0))).collect();
        assert_eq!(
            sessions.begin(now_ms, (0, 0), false, wanted.clone(), &[]),
            Begun::Full(wanted)
        );
        let answered: Vec<_> = keys
            .iter()
            .map(|key| (key.clone(), at(0), shown(0, false)))
            .collect();
        sessions.create(now_ms, false, None, answered.into_iter(), || id)
    }

    #[test]
    fn an_incremental_fetch_names_only_changes_and_shows_only_news() {
        let mut sessions = FetchSessions::new(10);
        let (a, b, c) = (key("a", 0), key("b", 0), key("c", 0));
        assert_eq!(full(&mut sessions, 0, 7, &[a.clone(), b.clone()]), 7);
        let begun = sessions.begin(1, (7, 1), false, vec![(c.clone(), at(5))], &[]);
        assert_eq!(
            begun,
            Begun::Incremental(vec![
                (a.clone(), at(0)),
                (b.clone(), at(0)),
                (c.clone(), at(5))
            ])
        );
        assert!(sessions.show(7, &a, shown(3, true)), "records");
        assert!(!sessions.show(7, &b, shown(0, false)), "nothing new");
        assert!(sessions.show(7, &c, shown(0, false)), "new in the session");
        // Who got records goes to the end, so that nobody starves.
        let begun = sessions.begin(
            2,
            (7, 2),
            false,
            vec![(a.clone(), at(3))],
            std::slice::from_ref(&b),
        );
        assert_eq!(
            begun,
            Begun::Incremental(vec![(c.clone(), at(5)), (a.clone(), at(3))])
        );
        assert!(!sessions.show(7, &a, shown(3, false)));
        assert!(sessions.show(7, &a, shown(4, false)), "the watermark moved");
        let failed = Shown {
            failed: true,
            ..shown(4, false)
        };
        assert!(sessions.show(7, &a, failed));
        assert!(sessions.show(7, &a, shown(4, false)), "the error is over");
        assert!(!sessions.show(7, &a, shown(4, false)));
        assert_eq!(
            sessions.begin(3, (7, 3), false, vec![], &[a, c]),
            Begun::Sessionless(vec![]),
            "an empty session ends"
        );
        assert!(sessions.is_empty());
    }

    #[test]
    fn of_a_followers_session_only_what_may_have_changed_is_looked_at() {
        let mut sessions = FetchSessions::new(10);
        let keys = [key("a", 0), key("b", 0), key("c", 0)];
        let changed = Arc::new(Changed::default());
        let told: Vec<Subscribers> = keys.iter().map(|_| Subscribers::default()).collect();
        for (key, told) in keys.iter().zip(&told) {
            told.add(&changed, key);
            told.add(&changed, key);
        }
        let follower = Follower {
            changed: changed.clone(),
            every_ms: 5_000,
        };
        let answered = keys.iter().map(|key| (key.clone(), at(0), shown(0, false)));
        let answered: Vec<_> = answered.collect();
        let id = sessions.create(0, false, Some(follower), answered.into_iter(), || 7);
        let names = |due: Vec<(Key, Wanted)>| -> Vec<String> {
            let name = |((topic, _), _): (Key, Wanted)| match topic {
                TopicKey::Name(name) => name.to_string(),
                TopicKey::Id(id) => id.to_string(),
            };
            due.into_iter().map(name).collect()
        };
        let mut epoch = 0;
        let mut due = |sessions: &mut FetchSessions, now_ms, wanted| {
            epoch += 1;
            match sessions.begin(now_ms, (id, epoch), false, wanted, &[]) {
                Begun::Incremental(due) => names(due),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            due(&mut sessions, 1, vec![]),
            ["a", "b", "c"],
            "none is clean yet"
        );
        for key in &keys[..2] {
            sessions.is_clean(id, key);
        }
        assert_eq!(due(&mut sessions, 2, vec![]), ["c"]);
        sessions.is_clean(id, &keys[2]);
        assert_eq!(due(&mut sessions, 3, vec![]), Vec::<String>::new());
        told[1].mark();
        told[1].mark();
        assert_eq!(
            due(&mut sessions, 4, vec![(keys[0].clone(), at(5))]),
            ["a", "b"]
        );
        sessions.is_clean(id, &keys[0]);
        told[2].mark();
        let again = sessions.due(5, id).expect("it is there");
        assert_eq!(names(again), ["b", "c"], "within the request");
        for key in &keys {
            sessions.is_clean(id, key);
        }
        assert_eq!(due(&mut sessions, 4_999, vec![]), Vec::<String>::new());
        assert_eq!(
            due(&mut sessions, 5_000, vec![]),
            ["a", "b", "c"],
            "now and then all"
        );
        assert!(
            sessions
                .changed(id)
                .is_some_and(|known| Arc::ptr_eq(&known, &changed))
        );
    }

    #[test]
    fn lost_repeated_and_foreign_requests_are_refused() {
        let mut sessions = FetchSessions::new(10);
        let a = key("a", 0);
        full(&mut sessions, 0, 7, std::slice::from_ref(&a));
        let table = [
            ((8, 1), false, ResponseError::FetchSessionIdNotFound),
            ((0, 1), false, ResponseError::FetchSessionIdNotFound),
            ((7, 2), false, ResponseError::InvalidFetchSessionEpoch),
            ((7, 1), true, ResponseError::FetchSessionTopicIdError),
        ];
        for (session, by_id, error) in table {
            assert_eq!(
                sessions.begin(0, session, by_id, vec![], &[]),
                Begun::Refused(error)
            );
        }
        assert!(matches!(
            sessions.begin(0, (7, 1), false, vec![], &[]),
            Begun::Incremental(_)
        ));
        assert_eq!(
            sessions.begin(0, (7, -1), false, vec![], &[]),
            Begun::Sessionless(vec![]),
            "closed"
        );
        assert_eq!(
            sessions.begin(0, (7, 2), false, vec![], &[]),
            Begun::Refused(ResponseError::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn the_cache_is_bounded_and_evicts_as_kafka_does() {
        let mut sessions = FetchSessions::new(2);
        let (a, b) = (key("a", 0), key("b", 0));
        assert_eq!(full(&mut sessions, 0, 1, &[a.clone(), b.clone()]), 1);
        assert_eq!(full(&mut sessions, 0, 2, std::slice::from_ref(&a)), 2);
        assert_eq!(
            full(&mut sessions, 1, 3, std::slice::from_ref(&a)),
            NO_SESSION
        );
        // Both are in use and had their time: the smaller one goes.
        let later = EVICTION_MS + 1;
        sessions.begin(later, (1, 1), false, vec![], &[]);
        sessions.begin(later, (2, 1), false, vec![], &[]);
        assert_eq!(full(&mut sessions, later, 3, std::slice::from_ref(&a)), 3);
        assert!(!sessions.sessions.contains_key(&2));
        // A stale one goes first, however big it is.
        let latest = 2 * later + 1;
        sessions.begin(latest, (3, 1), false, vec![], &[]);
        assert_eq!(full(&mut sessions, latest, 4, std::slice::from_ref(&b)), 4);
        assert!(!sessions.sessions.contains_key(&1));
        assert_eq!(sessions.len(), 2);
        assert_eq!(sessions.by_use.len(), 2);
    }

    #[test]
    fn ids_are_never_shared_and_huge_sessions_are_not_kept() {
        let mut sessions = FetchSessions::new(10);
        let a = key("a", 0);
        full(&mut sessions, 0, 1, std::slice::from_ref(&a));
        let mut candidates = [0, -5, 1, 9].into_iter();
        let answered = vec![(a.clone(), at(0), shown(0, false))];
        assert_eq!(
            sessions.create(0, false, None, answered.into_iter(), || {
                candidates.next().unwrap_or(0)
            }),
            9
        );
        let many: Vec<_> = (0..=PARTITIONS_MAX as i32)
            .map(|partition| (key("a", partition), at(0), shown(0, false)))
            .collect();
        assert_eq!(
            sessions.create(0, false, None, many.into_iter(), || 11),
            NO_SESSION
        );
    }
}
