//! What only the leader does: ends the sessions that nobody hears from, removes empty containers and TTL
//! nodes whose time is up, and keeps /zookeeper/config in step with the members. And what a member does that has lost its leader: it
//! lets its clients go, so that they find another one.
//!
//! The leader's own monotonic clock decides; the decision takes effect through the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, info};

use crate::common::ids::SessionId;
use crate::common::tasks::{Kind, Tasks};
use crate::coordinator::raft::Role;
use crate::coordinator::server::Server;
use crate::coordinator::session::Expiry;
use crate::coordinator::tree::op::{ConnectionId, Data, Op, Request};
use crate::coordinator::{Options, read_only};

/// A decision that was lost with its leader is made again after this long.
const DECIDE_AGAIN_MS: i64 = 5_000;
/// A step this late means that the process stood still, and its clients could not be heard.
const STOOD_STILL_MS: i64 = 1_000;

/// Looks after sessions until the shutdown signal.
pub async fn run(server: Arc<Server>, tasks: Tasks) {
    let shutdown = tasks.shutdown().clone();
    let step_ms = (i64::from(server.options.tick_time_ms) / 4).clamp(20, 500);
    let mut reign: Option<Reign> = None;
    let mut roles = server.raft.role_changes();
    let silence_ms = silence_max_ms(&server.options);
    let mut served_ms = server.clock.monotonic_ms();
    let mut are_gone = true;
    // Since when it knows no leader.
    let mut looks = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(step_ms.cast_unsigned())) => {}
            Ok(()) = roles.changed() => {}
            () = shutdown.stopped() => return,
        }
        let now_ms = server.clock.monotonic_ms();
        if server.raft.serving() {
            (served_ms, are_gone) = (now_ms, false);
            read_only::end(&server);
        } else if !are_gone && now_ms - served_ms > silence_ms {
            info!(silence_ms, "no leader for too long: clients are let go");
            server.replica.close_connections();
            are_gone = true;
        } else if are_gone && now_ms - served_ms > read_only::grace_ms(&server.options) {
            read_only::start(&server);
        }
        let (role, term) = *roles.borrow_and_update();
        looks = match (role == Role::Looking, looks) {
            (true, None) => {
                server.stats.looking.add(1);
                Some(now_ms)
            }
            (false, Some(since_ms)) => {
                server.stats.elections.note(now_ms - since_ms);
                None
            }
            (_, looks) => looks,
        };
        let leads = matches!(role, Role::Leader | Role::Standalone);
        // A new term is a new reign, also if the same member won again: everybody gets a full timeout.
        reign = match reign.take().filter(|reign| leads && reign.term == term) {
            Some(reign) => Some(reign),
            None if leads => Some(Reign::begin(&server, now_ms, term)),
            None => None,
        };
        let since_ms = reign.as_ref().map_or(-1, |reign| reign.since_ms);
        server.leading_since_ms.store(since_ms, Ordering::Relaxed);
        if let Some(reign) = &mut reign {
            for op in reign.step(&server, now_ms, step_ms) {
                propose(&server, &tasks, op);
            }
        }
    }
}

/// How long clients are kept without a leader: an election passes, and they need not move. At most
/// `syncLimit`, as a follower of ZooKeeper, and less than any session lives, so that nobody is told
/// "connected" by a member that is cut off when its session has already ended elsewhere.
fn silence_max_ms(options: &Options) -> i64 {
    let sync_ms = i64::from(options.sync_limit) * i64::from(options.tick_time_ms);
    sync_ms.min(i64::from(options.min_session_timeout_ms) * 2 / 3)
}

/// One term as a leader.
struct Reign {
    term: u64,
    since_ms: i64,
    stepped_ms: i64,
    containers_ms: i64,
    expiry: Expiry,
    decided: BTreeMap<SessionId, i64>,
    config_is_set: bool,
}

impl Reign {
    fn begin(server: &Server, now_ms: i64, term: u64) -> Reign {
        Reign {
            term,
            since_ms: now_ms,
            stepped_ms: now_ms,
            containers_ms: now_ms,
            expiry: Expiry::new(i64::from(server.options.tick_time_ms)),
            decided: BTreeMap::new(),
            config_is_set: false,
        }
    }

    /// What is to be proposed now.
    fn step(&mut self, server: &Server, now_ms: i64, step_ms: i64) -> Vec<(SessionId, Op)> {
        let mut ops = Vec::new();
        if now_ms - self.stepped_ms > step_ms + STOOD_STILL_MS {
            info!(
                ms = now_ms - self.stepped_ms,
                "this process stood still: sessions start anew"
            );
            self.expiry = Expiry::new(i64::from(server.options.tick_time_ms));
        }
        self.stepped_ms = now_ms;
        self.expiry.sync(now_ms, &server.replica.session_timeouts());
        for session in server.raft.take_touches() {
            self.expiry.touch(now_ms, session);
        }
        self.decided
            .retain(|_, at_ms| now_ms - *at_ms < DECIDE_AGAIN_MS);
        for session in self.expiry.due(now_ms) {
            if self.decided.insert(session, now_ms).is_none() {
                info!(session = format!("{:#x}", session.0), "session expired");
                server.stats.expired.add(1);
                ops.push((session, Op::ExpireSession { term: self.term }));
            }
        }
        let interval_ms = i64::from(server.options.containers.check_interval_ms);
        if now_ms - self.containers_ms >= interval_ms {
            self.containers_ms = now_ms;
            ops.extend(candidates(server).map(|op| (SessionId(0), op)));
        }
        if !self.config_is_set && server.raft.serving() && !server.options.members.is_empty() {
            self.config_is_set = true;
            let text = server.options.membership() + "version=0";
            if server.replica.data("/zookeeper/config").as_deref() != Some(text.as_bytes()) {
                let data = Data(Some(Bytes::from(text)));
                ops.push((SessionId(0), Op::SetConfig { data }));
            }
        }
        ops
    }
}

/// What `ContainerManager` would remove now: as much as it may in the time between two looks.
fn candidates(server: &Server) -> impl Iterator<Item = Op> {
    let options = &server.options.containers;
    let per_look =
        i64::from(options.max_per_minute) * i64::from(options.check_interval_ms) / 60_000;
    let wall_ms = server.clock.wall_ms();
    let empty = (server.replica).empty_containers(wall_ms, options.max_never_used_ms);
    let overdue = match server.options.extended_types {
        true => server.replica.overdue(wall_ms),
        false => Vec::new(),
    };
    let empty = empty.into_iter().map(|path| Op::DeleteContainer { path });
    let overdue = overdue.into_iter().map(|path| Op::DeleteTtl { path });
    (empty.chain(overdue)).take(usize::try_from(per_look).unwrap_or(1).max(1))
}

fn propose(server: &Arc<Server>, tasks: &Tasks, (session, op): (SessionId, Op)) {
    let request = Request {
        session,
        connection: ConnectionId(0),
        sequence: 0,
        now_ms: server.clock.wall_ms(),
        auth: Arc::new([]),
        op,
    };
    let raft = server.raft.clone();
    tasks.spawn("zookeeper decision", Kind::Connection, async move {
        // Lost with the leadership: the next leader decides for itself.
        if let Err(error) = raft.propose(request).await {
            debug!(%error, "a leader's decision was lost");
        }
    });
}
