//! Who leads, and what follows from it on this member.
//!
//! openraft elects; this says when: at the first start (all members are here and empty), at a restart (a
//! quorum is here), and when the leader is gone ([`super::standing`] decides). It also notices that the core
//! has stopped, or that this member's data is older than what it had acknowledged, which stops the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::metrics::RaftServerMetrics;
use tracing::{error, info, warn};

use super::network::LinkStatus;
use super::node::{RaftNode, Role};
use super::peer::Refusal;
use super::standing::{Leader, Sight, Standing};
use super::types::{LeaderKey, Vote};
use crate::common::ids::MemberId;
use crate::common::tasks;

/// The name of the task that this runs in.
pub const TASK: &str = "raft leadership";
/// Changes are told; this is for what only time shows.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A leader that no quorum has answered for so long no longer serves, unless the others are only slow.
const QUORUM_SILENCE_MS: u64 = 1_500;
/// A process from which nothing was heard for so long is gone. It answers pings whatever its disk does. Longer
/// than a lease.
const ALIVE_LIMIT: Duration = Duration::from_millis(600);
/// A follower that has not seen its leader lead for so long no longer serves. An election that can be won is
/// over by then.
const UNLED_LIMIT: Duration = Duration::from_secs(1);
/// A leader whose process answers may take so long for one write; ZooKeeper's `syncLimit` by default.
const SLOW_LIMIT: Duration = Duration::from_secs(10);
/// How long a member serves nothing before it says what it waits for.
const TELL_AFTER: Duration = Duration::from_secs(3);

type Metrics = RaftServerMetrics<u64, openraft::EmptyNode>;

/// The leader that this member follows or is.
pub fn leader(metrics: &Metrics) -> Option<LeaderKey> {
    metrics.vote.committed.then_some(metrics.vote.leader_id)
}

/// May a new ensemble begin? Only when all its members are here and all are empty: a quorum of empty ones
/// may have been emptied, and the others then hold what was acknowledged. For the same reason a member
/// that another one has refused for having come back empty begins none. `others` are the other members,
/// and whether each is empty; `None` while not connected.
fn may_begin(others: &[Option<bool>], came_back_empty: bool) -> bool {
    !came_back_empty && others.iter().all(|fresh| *fresh == Some(true))
}

/// What was done already, so that it is done once.
#[derive(Debug, Default)]
struct Memory {
    begun: bool,
    /// A member has refused this one, because its data directory is not the one it had.
    came_back_empty: bool,
    /// Since when nothing is served, and whether the log says why.
    silent_since: Option<tokio::time::Instant>,
    told: bool,
    standing: Standing<Vote>,
    /// Since when no leader is seen to lead.
    unled_since: Option<tokio::time::Instant>,
    linked: BTreeMap<MemberId, bool>,
    noted: BTreeSet<MemberId>,
}

/// Runs until the member stops.
pub async fn watch(node: Arc<RaftNode>) {
    let shutdown = node.tasks.shutdown().clone();
    let mut metrics = node.raft.server_metrics();
    let started = tokio::time::Instant::now();
    let mut memory = Memory::default();
    loop {
        let now = metrics.borrow_and_update().clone();
        if is_older(&node) || has_stopped(&node, &now, false) {
            return;
        }
        let elected = leader(&now);
        let seen = elected.map_or(Leader::Unknown, |key| see(&node, key));
        let leader = elected.filter(|_| !node.stopping.load(Ordering::SeqCst));
        let leading = now.state == ServerState::Leader;
        node.proposals.set_leader(leader, leading);
        publish(&node, &now, leader, seen, &mut memory);
        if node.options.members.len() == 1 {
            alone(&node, leader, &mut memory).await;
        } else {
            relink(&node, leader, &mut memory);
            begin(&node, &mut memory).await;
            stand(&node, &now, seen, started.elapsed(), &mut memory).await;
            note_peers(&node, leader, &mut memory).await;
            tell(&node, &mut memory);
        }
        tokio::select! {
            () = shutdown.stopped() => return,
            // The core has the other end: it is gone, whatever it said last.
            changed = metrics.changed() => if changed.is_err() && has_stopped(&node, &now, true) {
                return;
            },
            () = node.links_changed.notified() => {}
            () = node.proposals.opened.notified() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// Ends the process, through the essential task that this runs in, if the core has stopped by itself.
/// Says whether it has. `gone`: it has, though it may not have been able to say so.
fn has_stopped(node: &RaftNode, now: &Metrics, gone: bool) -> bool {
    let state = node.raft.metrics().borrow().running_state.clone();
    let failure = node.log.failure().or(node.machine.failure());
    if failure.is_none() && state.is_ok() && !gone {
        return false;
    }
    node.proposals.stop();
    if !node.tasks.shutdown().is_stopping() {
        // A failure of our storage was logged where it happened.
        if let (None, Err(fatal)) = (&failure, &state) {
            error!(member = now.id, reason = %fatal, "raft has stopped");
        }
        let why = failure.unwrap_or_else(|| "raft has stopped; the log says why".to_owned());
        node.tasks
            .fail(TASK, format!("the coordinator cannot go on: {why}"));
    }
    true
}

/// Ends the process if another member remembers this one with more than it has: it must not vote, and the
/// log of a leader that counts on it would break.
fn is_older(node: &RaftNode) -> bool {
    let Some(by) = node.credentials.refused_by() else {
        return false;
    };
    node.proposals.stop();
    let dir = node.options.dir.display();
    let why = format!(
        "the coordinator cannot go on: its data directory {dir} is older than what this member had \
         acknowledged to member {by}, so votes or entries that the others count on are lost; restore the \
         directory as it was when the member last ended. The others go on without it while they are a quorum"
    );
    error!(member = %node.options.member, "{why}");
    node.tasks.fail(TASK, why);
    true
}

fn publish(
    node: &RaftNode,
    now: &Metrics,
    leader: Option<LeaderKey>,
    seen: Leader,
    memory: &mut Memory,
) {
    let led = leader.is_some() && seen == Leader::Leads;
    let unled_since = (!led).then(|| {
        let now = tokio::time::Instant::now;
        memory.unled_since.unwrap_or_else(now)
    });
    memory.unled_since = unled_since;
    let unled = unled_since.is_some_and(|since| since.elapsed() >= UNLED_LIMIT);
    let role = if unled || !node.proposals.is_open() {
        Role::Looking
    } else if node.options.members.len() == 1 {
        Role::Standalone
    } else if now.state != ServerState::Leader {
        Role::Follower
    } else {
        let silence = node.raft.data_metrics().borrow().millis_since_quorum_ack;
        match silence {
            Some(ms) if ms > SLOW_LIMIT.as_millis() as u64 => Role::Looking,
            Some(ms) if ms > QUORUM_SILENCE_MS && !quorum_answers(node) => Role::Looking,
            _ => Role::Leader,
        }
    };
    let next = (role, now.vote.leader_id.term);
    let changed = node
        .role
        .send_if_modified(|old| std::mem::replace(old, next) != next);
    if changed {
        let leader = leader.map(|key| key.node_id);
        info!(member = now.id, role = ?role, term = next.1, leader, "role");
    }
}

/// The only member asks nobody.
async fn alone(node: &RaftNode, leader: Option<LeaderKey>, memory: &mut Memory) {
    if leader.is_some_and(|key| node.proposals.is_led_by(key)) || memory.begun {
        return;
    }
    memory.begun = true;
    if node.log.is_fresh() {
        initialize(node).await;
    } else if node.raft.trigger().elect().await.is_err() {
        memory.begun = false;
    }
}

/// Sends again what the old connection to the leader may have lost.
fn relink(node: &RaftNode, leader: Option<LeaderKey>, memory: &mut Memory) {
    for (member, link) in node.links.all() {
        let up = link.status().borrow().peer.is_some();
        let was = memory.linked.insert(*member, up);
        if up && was != Some(true) && leader.is_some_and(|key| key.node_id == member.0) {
            node.proposals.rewind();
        }
    }
}

/// The first start of all members.
async fn begin(node: &RaftNode, memory: &mut Memory) {
    let fresh = node.log.is_fresh();
    node.credentials.set_fresh(fresh);
    if memory.begun || !fresh {
        return;
    }
    let mut others = Vec::new();
    for (_, status) in statuses(node) {
        memory.came_back_empty |= status.refusal == Some(Refusal::OtherStore);
        others.push(status.peer.map(|peer| peer.fresh));
    }
    if may_begin(&others, memory.came_back_empty) {
        memory.begun = true;
        initialize(node).await;
    }
}

/// Says once what is missing, when nothing has been served for a while.
fn tell(node: &RaftNode, memory: &mut Memory) {
    let Some(waits) = node.waits_for() else {
        memory.silent_since = None;
        memory.told = false;
        return;
    };
    let since = *memory
        .silent_since
        .get_or_insert_with(tokio::time::Instant::now);
    if !memory.told && since.elapsed() >= TELL_AFTER {
        memory.told = true;
        let member = node.options.member;
        warn!(%member, "not serving: {waits}");
    }
}

/// Do enough members answer, though their logs may be slow?
fn quorum_answers(node: &RaftNode) -> bool {
    let answering = node.links.all();
    let answering = answering.filter(|(_, link)| link.is_alive(ALIVE_LIMIT));
    answering.count() + 1 > node.options.members.len() / 2
}

async fn initialize(node: &RaftNode) {
    let members: BTreeSet<u64> = node.options.members.keys().map(|id| id.0).collect();
    match node.raft.initialize(members).await {
        Ok(()) => info!(member = %node.options.member, "a new cluster"),
        // Another member's vote was faster.
        Err(error) => info!(%error, "the cluster has begun without this member"),
    }
    node.credentials.set_fresh(node.log.is_fresh());
}

/// Stands for election when it is time to.
async fn stand(node: &RaftNode, now: &Metrics, seen: Leader, at: Duration, memory: &mut Memory) {
    let me = node.options.member;
    let leader = leader(now);
    let others = node.options.members.keys().filter(|id| {
        // It does not stand against itself.
        leader.is_none_or(|leader| leader.node_id != id.0)
    });
    let before = others.take_while(|id| **id != me).count();
    let sight = Sight {
        vote: now.vote,
        leader: seen,
        able: quorum_here(node) && !node.log.is_fresh() && !node.stopping.load(Ordering::SeqCst),
        busy: node.log.is_writing(),
        before: u32::try_from(before).unwrap_or(u32::MAX),
        write: node.log.slow_write(),
    };
    if memory.standing.look(sight, at) {
        info!(member = %me, leader = ?sight.leader, "standing for election");
        if node.raft.trigger().elect().await.is_err() {
            warn!("raft has stopped; no election");
        }
    }
}

/// How it stands with the leader that was elected last.
fn see(node: &RaftNode, leader: LeaderKey) -> Leader {
    if leader.node_id == node.options.member.0 {
        return Leader::Leads;
    }
    let link = node.links.get(MemberId(leader.node_id));
    let Some((since, heard)) = link.and_then(|link| link.up()) else {
        return Leader::Gone;
    };
    match *node.led.borrow() {
        _ if heard.elapsed() >= ALIVE_LIMIT => Leader::Silent,
        Some(led) if led < since => Leader::Unproven,
        None => Leader::Unproven,
        Some(led) if led.elapsed() >= SLOW_LIMIT => Leader::Silent,
        Some(_) => Leader::Leads,
    }
}

fn quorum_here(node: &RaftNode) -> bool {
    let up = statuses(node)
        .filter(|(_, status)| status.peer.is_some())
        .count();
    up + 1 > node.options.members.len() / 2
}

fn statuses(node: &RaftNode) -> impl Iterator<Item = (MemberId, LinkStatus)> {
    node.links
        .all()
        .map(|(member, link)| (*member, *link.status().borrow()))
}

/// Remembers the members' stores once the cluster exists, so that one that comes back empty is noticed.
async fn note_peers(node: &Arc<RaftNode>, leader: Option<LeaderKey>, memory: &mut Memory) {
    if leader.is_none() || !node.proposals.is_open() {
        return;
    }
    let known = node.identity.get().peers;
    let met: Vec<_> = statuses(node)
        .filter_map(|(member, status)| status.peer.map(|peer| (member, peer.store_id)))
        .filter(|(member, _)| !known.contains_key(member) && !memory.noted.contains(member))
        .collect();
    for (member, store_id) in met {
        memory.noted.insert(member);
        let identity = node.identity.clone();
        if let Err(failure) = tasks::blocking(move || identity.set_peer(member, store_id)).await {
            warn!(error = %failure, "a member's store was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_begins_only_when_all_are_here_and_empty() {
        let cases: [(&[Option<bool>], bool, bool); 8] = [
            (&[], false, true),
            (&[None, None], false, false),
            (&[Some(true), None], false, false),
            (&[Some(true), Some(true)], false, true),
            (&[Some(true), Some(true)], true, false),
            (&[Some(true), Some(false)], false, false),
            (&[Some(false), None], false, false),
            (&[Some(false), Some(false)], false, false),
        ];
        for (others, came_back_empty, expected) in cases {
            assert_eq!(
                may_begin(others, came_back_empty),
                expected,
                "{others:?} {came_back_empty}"
            );
        }
    }
}
