//! The applied state of this member: the tree, the watches, and the connections that wait.
//!
//! Raft's state machine calls `apply`; connections read. One lock guards all of it, so that a read, the
//! watch it leaves and the place of its reply among the events are one step. Lock order: replica, then
//! an outbox. Nothing here waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tracing::warn;

use crate::common::flood::Flood;
use crate::common::ids::{SessionId, Zxid};
use crate::coordinator::outbox::Outbox;
use crate::coordinator::request;
use crate::coordinator::status::{Latency, LatencyMeter};
use crate::coordinator::tree::op::{ConnectionId, Op, Outcome, Request};
use crate::coordinator::tree::{Event, Excess, Session, SnapshotError, Tree, check};
use crate::coordinator::watch::Watches;
use crate::zookeeper::acl::{self, Id};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{self, EventType};

/// `DataTree.DIGEST_LOG_INTERVAL`.
const DIGEST_INTERVAL: i64 = 128;
/// `DataTree.DIGEST_LOG_LIMIT`.
const DIGESTS_MAX: usize = 1024;

/// The applied state of this member.
#[derive(Debug, Default)]
pub struct Replica {
    state: Mutex<State>,
    /// How many watchers were told: created, deleted, changed, children.
    fired: [LatencyMeter; 4],
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    watches: Watches,
    connections: BTreeMap<ConnectionId, Waiting>,
    quotas: Flood,
    digests: VecDeque<(Zxid, u64)>,
}

/// A connection that has a session.
#[derive(Debug)]
struct Waiting {
    session: SessionId,
    auth: Arc<[Id]>,
    outbox: Arc<Outbox>,
}

/// Sizes that status pages show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As ZooKeeper counts them.
    pub nodes: usize,
    /// Ephemeral nodes.
    pub ephemerals: usize,
    /// Sessions of the whole ensemble.
    pub sessions: usize,
    /// Watches of this member's connections, of all kinds.
    pub watches: usize,
    /// Bytes of paths and data.
    pub data_bytes: u64,
}

impl Replica {
    /// The state of a member that has applied nothing.
    pub fn new() -> Replica {
        Replica::default()
    }

    /// Applies one committed entry's requests in order. When it returns, every watch event lies in its
    /// connection's outbox, so an event always precedes the reply that shows the change. Never fails;
    /// one outcome per request.
    pub fn apply(&self, term: u64, requests: &[Request]) -> Vec<Outcome> {
        let mut state = self.lock();
        let state = &mut *state;
        let first_of_term = i64::try_from(term).unwrap_or(i64::MAX).wrapping_shl(32) + 1;
        requests
            .iter()
            .map(|request| {
                let zxid = Zxid((state.tree.last_zxid().0 + 1).max(first_of_term));
                let (outcome, events) = state.tree.apply(zxid, request);
                state.note_digest(zxid);
                for event in events {
                    state.tell(&event, request, &self.fired);
                }
                outcome
            })
            .collect()
    }

    /// The whole tree as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        self.lock().tree.to_bytes()
    }

    /// Replaces the tree. Events between the old one and the new one are not known, so every connection
    /// is ended; clients come back and set their watches from the last zxid that they saw.
    pub fn install(&self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let tree = Tree::from_bytes(bytes)?;
        let mut state = self.lock();
        if tree.last_zxid() != state.tree.last_zxid() {
            for waiting in state.connections.values() {
                waiting.outbox.close();
            }
        }
        state.tree = tree;
        Ok(())
    }

    /// The last transaction applied here.
    pub fn last_zxid(&self) -> Zxid {
        self.lock().tree.last_zxid()
    }

    /// Equal on members whose trees are equal.
    pub fn digest(&self) -> u64 {
        self.lock().tree.digest()
    }

    /// How many watchers were told of each change that any was told of: nodes created, deleted, changed,
    /// and their children.
    pub fn fired(&self) -> [Latency; 4] {
        self.fired.each_ref().map(LatencyMeter::read)
    }

    /// Forgets how many were told.
    pub fn reset_fired(&self) {
        self.fired.iter().for_each(LatencyMeter::reset);
    }

    /// The tree's digest as ZooKeeper calculates it, at every 128th transaction since the start.
    pub fn digests(&self) -> Vec<(Zxid, u64)> {
        self.lock().digests.iter().copied().collect()
    }

    /// Every session of the ensemble with its timeout in ms.
    pub fn session_timeouts(&self) -> BTreeMap<SessionId, i32> {
        let state = self.lock();
        let sessions = state.tree.sessions().iter();
        sessions
            .map(|(id, session)| (*id, session.timeout_ms))
            .collect()
    }

    /// One session.
    pub fn session(&self, session: SessionId) -> Option<Session> {
        self.lock().tree.sessions().get(&session).cloned()
    }

    /// One node's data; `None` without node or data.
    pub fn data(&self, path: &str) -> Option<Bytes> {
        self.lock()
            .tree
            .get(path)
            .and_then(|node| node.data.clone())
    }

    /// Containers that had children and have none now, and those that nobody used for `never_used_ms`.
    pub fn empty_containers(&self, now_ms: i64, never_used_ms: i64) -> Vec<String> {
        self.lock().tree.empty_containers(now_ms, never_used_ms)
    }

    /// TTL nodes whose time is up.
    pub fn overdue(&self, now_ms: i64) -> Vec<String> {
        self.lock().tree.overdue(now_ms)
    }

    /// Sizes for status pages.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            nodes: state.tree.node_count(),
            ephemerals: state.tree.ephemeral_count(),
            sessions: state.tree.sessions().len(),
            watches: state.watches.count(),
            data_bytes: state.tree.data_bytes(),
        }
    }

    /// Data watches as `wchs` counts them: connections, paths, watches.
    pub fn watch_summary(&self) -> (usize, usize, usize) {
        self.lock().watches.summary()
    }

    /// The paths whose data each session watches here.
    pub fn data_watches(&self) -> BTreeMap<SessionId, Vec<String>> {
        let state = self.lock();
        let found = state.watches.of_data().into_iter();
        found
            .filter_map(|(connection, paths)| {
                let session = state.connections.get(&connection)?.session;
                Some((session, paths.into_iter().map(str::to_owned).collect()))
            })
            .collect()
    }

    /// The ephemeral nodes of every session that has any.
    pub fn ephemerals(&self) -> BTreeMap<SessionId, Vec<String>> {
        let state = self.lock();
        let sessions = state.tree.sessions().keys();
        sessions
            .map(|id| (*id, state.tree.ephemerals_of(*id).cloned().collect()))
            .filter(|(_, paths): &(_, Vec<String>)| !paths.is_empty())
            .collect()
    }

    /// Makes a connection known, before its session is asked for.
    pub fn connect(
        &self,
        connection: ConnectionId,
        session: SessionId,
        auth: Arc<[Id]>,
        outbox: Arc<Outbox>,
    ) {
        let waiting = Waiting {
            session,
            auth,
            outbox,
        };
        self.lock().connections.insert(connection, waiting);
    }

    /// Replaces the identities that a connection has proved.
    pub fn authenticate(&self, connection: ConnectionId, auth: Arc<[Id]>) {
        if let Some(waiting) = self.lock().connections.get_mut(&connection) {
            waiting.auth = auth;
        }
    }

    /// Forgets a connection and its watches.
    pub fn disconnect(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.connections.remove(&connection);
        state.watches.drop_connection(connection);
    }

    /// Ends all connections: this member can no longer vouch for what they see.
    pub fn close_connections(&self) {
        for waiting in self.lock().connections.values() {
            waiting.outbox.close();
        }
    }

    /// About how many bytes [`Replica::read`] would answer.
    pub fn reply_bytes(&self, request: &message::Request) -> usize {
        request::reply_bytes(&self.lock().tree, request)
    }

    /// Answers a request that changes nothing but watches, and puts the reply into the connection's
    /// outbox behind every event that it may show. Returns the reply's zxid and its bytes.
    pub fn read(
        &self,
        connection: ConnectionId,
        xid: i32,
        request: &message::Request,
    ) -> (i64, usize) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(waiting) = state.connections.get(&connection) else {
            return (-1, 0);
        };
        let reader = request::Reader {
            connection,
            session: waiting.session,
            auth: &waiting.auth,
        };
        let mut events = Vec::new();
        let result = request::read(
            &state.tree,
            &mut state.watches,
            &reader,
            request,
            &mut events,
        );
        for (kind, path) in events {
            // Part of the answer, and bounded by the request.
            waiting
                .outbox
                .put(|out| message::put_event(out, kind, &path));
        }
        let zxid = match result {
            // An operation that the server does not know has no place in its history.
            Err(ErrorCode::Unimplemented) => -1,
            _ => state.tree.last_zxid().0,
        };
        let mut bytes = 0;
        waiting.outbox.put(|out| {
            let before = out.len();
            message::put_reply(out, xid, zxid, &result);
            bytes = out.len() - before;
        });
        (zxid, bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the order of [`Replica::fired`].
fn place(kind: EventType) -> usize {
    match kind {
        EventType::NodeCreated => 0,
        EventType::NodeDeleted => 1,
        EventType::NodeDataChanged => 2,
        EventType::NodeChildrenChanged => 3,
    }
}

impl State {
    fn note_digest(&mut self, zxid: Zxid) {
        if zxid.0 % DIGEST_INTERVAL == 0 {
            if self.digests.len() >= DIGESTS_MAX {
                self.digests.pop_front();
            }
            self.digests.push_back((zxid, self.tree.ad_hash()));
        }
    }

    fn tell(&mut self, event: &Event, request: &Request, fired: &[LatencyMeter; 4]) {
        match event {
            Event::Node {
                kind, path, acl, ..
            } => {
                let told = self.watches.fire(*kind, path);
                if !told.is_empty() {
                    fired[place(*kind)].note(i64::try_from(told.len()).unwrap_or(i64::MAX));
                }
                for connection in told {
                    if let Some(waiting) = self.connections.get(&connection)
                        && check::permitted(acl, acl::READ, &waiting.auth).is_ok()
                    {
                        waiting.outbox.event(*kind, path);
                    }
                }
            }
            // A client that closes its session still gets the reply; everybody else is cut off.
            Event::SessionClosed(session) => {
                let spared = matches!(request.op, Op::CloseSession).then_some(request.connection);
                self.cut_off(*session, spared);
            }
            // Elsewhere the old connection may go on reading; its next write is refused.
            Event::SessionMoved(session, to) => {
                if self.connections.contains_key(to) {
                    self.cut_off(*session, Some(*to));
                }
            }
            Event::QuotaExceeded(excess) => {
                if let Some(untold) = self.quotas.tell(request.now_ms) {
                    let Excess {
                        path,
                        what,
                        found,
                        limit,
                    } = excess;
                    warn!("Quota exceeded: {path:?} {what}={found} limit={limit} untold={untold}");
                }
            }
        }
    }

    fn cut_off(&mut self, session: SessionId, spared: Option<ConnectionId>) {
        for (connection, waiting) in &self.connections {
            if waiting.session == session && Some(*connection) != spared {
                waiting.outbox.close();
            }
        }
    }
}
