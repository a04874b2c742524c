//! Which sessions have not been heard from for too long: expiry buckets on the leader. Pure.
//!
//! Deadlines are rounded up to the next tick, so that sessions expire in groups and never early
//! (`ExpiryQueue`). Only a leader has one of these, made afresh when it begins to lead: every session
//! then gets its full timeout again.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::ids::SessionId;

/// Deadlines by session, and sessions by deadline.
#[derive(Debug)]
pub struct Expiry {
    tick_ms: i64,
    sessions: BTreeMap<SessionId, Deadline>,
    buckets: BTreeMap<i64, BTreeSet<SessionId>>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    timeout_ms: i32,
    at_ms: i64,
}

impl Expiry {
    /// No sessions yet.
    pub fn new(tick_ms: i64) -> Expiry {
        Expiry {
            tick_ms: tick_ms.max(1),
            sessions: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    /// Takes over which sessions there are. One not known yet gets its full timeout from now.
    pub fn sync(&mut self, now_ms: i64, sessions: &BTreeMap<SessionId, i32>) {
        let gone: Vec<_> = self
            .sessions
            .keys()
            .filter(|session| !sessions.contains_key(session))
            .copied()
            .collect();
        for session in gone {
            self.forget(session);
        }
        for (session, timeout_ms) in sessions {
            match self.sessions.get(session) {
                Some(known) if known.timeout_ms == *timeout_ms => {}
                _ => self.set(now_ms, *session, *timeout_ms),
            }
        }
    }

    /// This session was heard from.
    pub fn touch(&mut self, now_ms: i64, session: SessionId) {
        if let Some(known) = self.sessions.get(&session) {
            self.set(now_ms, session, known.timeout_ms);
        }
    }

    /// The sessions whose time is up. Each is named again on later calls until it is gone.
    pub fn due(&self, now_ms: i64) -> Vec<SessionId> {
        self.buckets
            .range(..=now_ms)
            .flat_map(|(_, sessions)| sessions)
            .copied()
            .collect()
    }

    fn set(&mut self, now_ms: i64, session: SessionId, timeout_ms: i32) {
        let wanted = now_ms.saturating_add(i64::from(timeout_ms.max(0)));
        let at_ms = (wanted / self.tick_ms + 1).saturating_mul(self.tick_ms);
        if let Some(known) = self.sessions.get(&session)
            && known.at_ms >= at_ms
            && known.timeout_ms == timeout_ms
        {
            return;
        }
        self.forget(session);
        self.sessions
            .insert(session, Deadline { timeout_ms, at_ms });
        self.buckets.entry(at_ms).or_default().insert(session);
    }

    fn forget(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.remove(&session)
            && let Some(bucket) = self.buckets.get_mut(&known.at_ms)
        {
            bucket.remove(&session);
            if bucket.is_empty() {
                self.buckets.remove(&known.at_ms);
            }
        }
    }
}

/// The timeout that a client gets for what it asked.
pub fn negotiate(asked_ms: i32, min_ms: i32, max_ms: i32) -> i32 {
    asked_ms.min(max_ms).max(min_ms)
}

/// The first session id of a server that starts now: its id in the top byte, then the time
/// (`SessionTrackerImpl.initializeNextSession`). The following ones count up.
pub fn first_session_id(member: u64, now_ms: i64) -> i64 {
    let time = (now_ms.cast_unsigned() << 24) >> 8;
    let top = (member & 0xff) << 56;
    ((time & 0x00ff_ffff_ffff_ffff) | top).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    #[test]
    fn sessions_expire_at_the_tick_after_their_deadline() {
        let mut expiry = Expiry::new(2000);
        let sessions = BTreeMap::from([(A, 4000), (B, 6000)]);
        expiry.sync(100, &sessions);
        assert!(expiry.due(5999).is_empty());
        assert_eq!(expiry.due(6000), [A]);
        assert_eq!(expiry.due(8000), [A, B]);
        expiry.touch(5000, A);
        assert_eq!(expiry.due(8000), [B]);
        assert_eq!(expiry.due(10_000), [B, A]);
    }

    #[test]
    fn sessions_come_and_go_with_the_tree() {
        let mut expiry = Expiry::new(2000);
        expiry.sync(0, &BTreeMap::from([(A, 4000), (B, 4000)]));
        expiry.sync(3000, &BTreeMap::from([(B, 4000)]));
        assert_eq!(expiry.due(100_000), [B]);
        expiry.touch(0, A);
        assert_eq!(
            expiry.due(100_000),
            [B],
            "a session that is gone is not brought back"
        );
        expiry.sync(5000, &BTreeMap::from([(B, 10_000)]));
        assert!(
            expiry.due(15_000).is_empty(),
            "a new timeout counts from now"
        );
    }

    #[test]
    fn timeouts_are_negotiated() {
        for (asked, expected) in [
            (1, 4000),
            (0, 4000),
            (-1, 4000),
            (6000, 6000),
            (40_001, 40_000),
        ] {
            assert_eq!(negotiate(asked, 4000, 40_000), expected);
        }
    }

    #[test]
    fn session_ids_begin_with_the_server() {
        let id = first_session_id(3, 1_600_000_000_000);
        assert_eq!(id >> 56, 3);
        assert!(first_session_id(3, 1_600_000_000_001) > id + 10_000);
    }
}
