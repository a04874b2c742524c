//! Z2: a session never sees the past, whichever member it asks.

use std::collections::{BTreeMap, BTreeSet};

use tripod::common::ids::SessionId;

/// What the sessions of one handle saw.
#[derive(Debug, Default)]
pub struct Seen {
    nodes: BTreeMap<(SessionId, String), i64>,
    /// Sessions of which the handle was told that they are over.
    pub sessions_over: BTreeSet<SessionId>,
}

impl Seen {
    /// A session saw a node as of `mzxid`. Without a session it is not known which one did.
    pub fn saw(&mut self, session: Option<SessionId>, path: &str, mzxid: i64) {
        let Some(session) = session else { return };
        let last = self.nodes.entry((session, path.to_owned())).or_insert(0);
        assert!(
            *last <= mzxid,
            "session {session} saw {path} at {last:#x} and then at {mzxid:#x}"
        );
        *last = mzxid;
    }

    /// A session was told to be over.
    pub fn over(&mut self, session: SessionId) {
        self.sessions_over.insert(session);
    }
}

#[test]
#[should_panic(expected = "and then at")]
fn the_past_is_noticed() {
    let mut seen = Seen::default();
    seen.saw(Some(SessionId(1)), "/n", 8);
    // Another session, and another node.
    seen.saw(Some(SessionId(2)), "/n", 7);
    seen.saw(Some(SessionId(1)), "/m", 7);
    seen.saw(Some(SessionId(1)), "/n", 7);
}
