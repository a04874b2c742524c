//! A member without a leader that serves who only reads (`readonlymode.enabled`): what it takes, and when.
//!
//! Such sessions are known to this member alone. When there is a leader again all of them are ended:
//! their clients come back, and are clients like others then (`ReadOnlyZooKeeperServer`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use crate::common::ids::SessionId;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::server::Server;
use crate::coordinator::tree::op::ConnectionId;
use crate::coordinator::{Options, session};
use crate::zookeeper::acl::Id;
use crate::zookeeper::message::{ConnectRequest, PASSWORD_BYTES, Request};

/// An election is waited for at least so long.
const GRACE_MS_MIN: i64 = 2_000;

/// How long a member is without a leader before it serves who only reads.
pub fn grace_ms(options: &Options) -> i64 {
    i64::from(options.tick_time_ms).max(GRACE_MS_MIN)
}

/// Begins to serve who only reads, if it is allowed. Everybody else is gone already.
pub fn start(server: &Server) {
    if server.options.read_only_mode && !server.read_only.swap(true, Ordering::AcqRel) {
        info!("no leader: clients that only read are served");
    }
}

/// There is a leader again.
pub fn end(server: &Server) {
    if server.read_only.swap(false, Ordering::AcqRel) {
        info!("a leader is known: clients that only read have to come back");
        server.replica.close_connections();
    }
}

/// Is this a client for a member that is read-only now?
pub fn serves(server: &Server, asked: &ConnectRequest) -> bool {
    server.is_read_only() && asked.read_only == Some(true)
}

/// Begins a session of this member's own, or goes on with one of the ensemble's: its id, timeout and
/// password; timeout 0 if there is no such session. `None`: close without an answer.
pub fn begin(
    server: &Server,
    asked: &ConnectRequest,
    id: ConnectionId,
    outbox: &Arc<Outbox>,
    auth: &Arc<[Id]>,
) -> Option<(SessionId, i32, [u8; PASSWORD_BYTES])> {
    // It must not see us go back in time.
    if asked.last_zxid_seen > server.replica.last_zxid().0 {
        return None;
    }
    let (min_ms, max_ms) = (
        server.options.min_session_timeout_ms,
        server.options.max_session_timeout_ms,
    );
    let timeout_ms = session::negotiate(asked.timeout_ms, min_ms, max_ms);
    let mut password = [0; PASSWORD_BYTES];
    let session = if asked.session_id == 0 {
        server.rng.fill(&mut password);
        SessionId(server.next_session.fetch_add(1, Ordering::Relaxed))
    } else {
        let session = SessionId(asked.session_id);
        let known = server.replica.session(session);
        let given = asked.password.as_deref().unwrap_or_default();
        match known.filter(|known| known.password[..] == *given) {
            Some(known) => password = known.password,
            None => return Some((SessionId(0), 0, password)),
        }
        session
    };
    server
        .replica
        .connect(id, session, auth.clone(), outbox.clone());
    // Whoever ended all of them did not see this one.
    server
        .is_read_only()
        .then_some((session, timeout_ms, password))
}

/// Is it a request that such a session may not make (`ReadOnlyRequestProcessor`)?
pub fn refuses(request: &Request) -> bool {
    matches!(
        request,
        Request::Sync(_)
            | Request::Create(..)
            | Request::CreateTtl(_)
            | Request::Delete(_)
            | Request::SetData(_)
            | Request::SetAcl(_)
            | Request::Reconfig(_)
            | Request::Multi(_)
            | Request::Check(_)
    )
}
