//! Who leads, and what follows from it on this member.
//!
//! openraft elects; this says when: at the first start (all members are here and empty), at a restart (a
//! quorum is here), and when the leader is gone ([`super::standing`] decides). It also notices that the core
//! has stopped, or that this member's data is older than what it had acknowledged, which stops the process;
//! and, while this member leads, it takes back members that have lost their data ([`super::admission`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::metrics::RaftServerMetrics;
use tracing::{error, info, warn};

use super::admission;
use super::network::LinkStatus;
use super::node::{RaftNode, Role};
use super::peer::{Peer, Refusal};
use super::standing::{Leader, Sight, Standing};
use super::types::{LeaderKey, Vote};
use crate::common::disk::told;
use crate::common::ids::MemberId;
use crate::common::tasks;
use crate::coordinator::identity::member_of;

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
/// may have been emptied, and the others then hold what was acknowledged. `others` are the other members,
/// and whether each is empty; `None` while not connected.
fn may_begin(others: &[Option<bool>]) -> bool {
    others.iter().all(|fresh| *fresh == Some(true))
}

/// What was done already, so that it is done once.
#[derive(Debug, Default)]
struct Memory {
    begun: bool,
    /// Since when nothing is served, and whether the log says why.
    silent_since: Option<tokio::time::Instant>,
    told: bool,
    standing: Standing<Vote>,
    /// Since when no leader is seen to lead.
    unled_since: Option<tokio::time::Instant>,
    linked: BTreeMap<MemberId, bool>,
    taken: admission::Taken,
}

/// Runs until the member stops.
pub async fn watch(node: Arc<RaftNode>) {
    let shutdown = node.tasks.shutdown().clone();
    let mut metrics = node.raft.server_metrics();
    let started = tokio::time::Instant::now();
    let mut memory = Memory::default();
    loop {
        let now = metrics.borrow_and_update().clone();
        if is_older(&node) || has_stopped(&node, false) {
            return;
        }
        let elected = leader(&now);
        let counts_by = *now.membership_config.log_id();
        node.credentials
            .set_counts_by(counts_by.filter(|_| node.counts()));
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
            admission::advance(&node, &mut memory.taken).await;
            tell(&node, &mut memory);
        }
        tokio::select! {
            () = shutdown.stopped() => return,
            // The core has the other end: it is gone, whatever it said last.
            changed = metrics.changed() => if changed.is_err() && has_stopped(&node, true) {
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
fn has_stopped(node: &RaftNode, gone: bool) -> bool {
    let state = node.raft.metrics().borrow().running_state.clone();
    let failure = node.log.failure().or(node.machine.failure());
    if failure.is_none() && state.is_ok() && !gone {
        return false;
    }
    node.proposals.stop();
    if !node.tasks.shutdown().is_stopping() {
        // A failure of our storage was logged where it happened.
        if let (None, Err(fatal)) = (&failure, &state) {
            error!(member = %node.options.member, reason = %fatal, "raft has stopped");
        }
        let why = failure.unwrap_or_else(|| "raft has stopped; the log says why".to_owned());
        node.tasks
            .fail(TASK, format!("the coordinator cannot go on: {why}"));
    }
    true
}

/// Ends the process if another member remembers this one with more than it has, or has another store in
/// its place: it must not vote, and the log of a leader that counts on it would break.
fn is_older(node: &RaftNode) -> bool {
    let Some((by, refusal)) = node.credentials.refused_by() else {
        return false;
    };
    node.proposals.stop();
    let dir = node.options.dir.display();
    let why = if refusal == Refusal::Replaced {
        format!(
            "the coordinator cannot go on: this member has joined anew since with another data directory, \
             which counts in the place of {dir}, as member {by} knows; restore that one, or empty {dir} and \
             let the member join anew"
        )
    } else {
        format!(
            "the coordinator cannot go on: its data directory {dir} is older than what this member had \
             acknowledged to member {by}, so votes or entries that the others count on are lost; restore the \
             directory as it was when the member last ended, or empty it and let the member join anew. The \
             others go on without it while they are a quorum"
        )
    };
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
    let alone = node.options.members.len() == 1;
    let role = if unled || !node.proposals.is_open() || !(alone || node.counts()) {
        Role::Looking
    } else if alone {
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
        let (member, leader) = (
            node.options.member,
            leader.map(|key| member_of(key.node_id).0),
        );
        info!(%member, role = ?role, term = next.1, leader, "role");
    }
}

/// The only member asks nobody.
async fn alone(node: &RaftNode, leader: Option<LeaderKey>, memory: &mut Memory) {
    if leader.is_some_and(|key| node.proposals.is_led_by(key)) || memory.begun {
        return;
    }
    memory.begun = true;
    if node.log.is_fresh() {
        initialize(node, &[]).await;
    } else if node.raft.trigger().elect().await.is_err() {
        memory.begun = false;
    }
}

/// Sends again what the old connection to the leader may have lost.
fn relink(node: &RaftNode, leader: Option<LeaderKey>, memory: &mut Memory) {
    for (member, link) in node.links.all() {
        let up = link.status().borrow().peer.is_some();
        let was = memory.linked.insert(*member, up);
        if up && was != Some(true) && leader.is_some_and(|key| member_of(key.node_id) == *member) {
            node.proposals.rewind();
        }
    }
}

/// The first start of all members. One of them begins, the others hear of it: which stores there are is
/// said once.
async fn begin(node: &RaftNode, memory: &mut Memory) {
    let fresh = node.log.is_fresh();
    node.credentials.set_fresh(fresh);
    let first = node.options.members.keys().next() == Some(&node.options.member);
    if memory.begun || !fresh || !first {
        return;
    }
    let peers: Vec<_> = statuses(node).map(|(_, status)| status.peer).collect();
    let others: Vec<_> = peers
        .iter()
        .map(|peer| peer.map(|peer| peer.fresh))
        .collect();
    if may_begin(&others) {
        memory.begun = true;
        let peers: Vec<Peer> = peers.into_iter().flatten().collect();
        initialize(node, &peers).await;
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
    node.voters().have_quorum(|other| {
        let link = node.links.get(member_of(other));
        other == node.identity.node() || link.is_some_and(|link| link.is_alive(other, ALIVE_LIMIT))
    })
}

async fn initialize(node: &RaftNode, others: &[Peer]) {
    let me = node.identity.node();
    // A beginning that was cut short may have been heard of.
    let known = others.iter().find_map(|peer| peer.ensemble);
    let identity = node.identity.clone();
    let noted = tasks::blocking(move || identity.set_ensemble(known.unwrap_or(me))).await;
    if let Err(failure) = noted {
        let why = format!("the coordinator cannot begin: {}", told(&failure));
        return node.tasks.fail(TASK, why);
    }
    let stores: BTreeSet<u64> = others.iter().map(|peer| peer.node).chain([me]).collect();
    match node.raft.initialize(stores).await {
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
        leader.is_none_or(|leader| member_of(leader.node_id) != **id)
    });
    let before = others.take_while(|id| **id != me).count();
    let sight = Sight {
        vote: now.vote,
        leader: seen,
        able: quorum_here(node) && node.counts() && !node.stopping.load(Ordering::SeqCst),
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
    if leader.node_id == node.identity.node() {
        return Leader::Leads;
    }
    let link = node.links.to_store(leader.node_id);
    let Some(up) = link.and_then(|link| link.up()) else {
        return Leader::Gone;
    };
    match *node.led.borrow() {
        _ if up.heard.elapsed() >= ALIVE_LIMIT => Leader::Silent,
        Some(led) if led < up.since => Leader::Unproven,
        None => Leader::Unproven,
        Some(led) if led.elapsed() >= SLOW_LIMIT => Leader::Silent,
        Some(_) => Leader::Leads,
    }
}

fn quorum_here(node: &RaftNode) -> bool {
    let here = |other| other == node.identity.node() || node.links.to_store(other).is_some();
    node.voters().have_quorum(here)
}

fn statuses(node: &RaftNode) -> impl Iterator<Item = (MemberId, LinkStatus)> {
    node.links
        .all()
        .map(|(member, link)| (*member, *link.status().borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_begins_only_when_all_are_here_and_empty() {
        let cases: [(&[Option<bool>], bool); 7] = [
            (&[], true),
            (&[None, None], false),
            (&[Some(true), None], false),
            (&[Some(true), Some(true)], true),
            (&[Some(true), Some(false)], false),
            (&[Some(false), None], false),
            (&[Some(false), Some(false)], false),
        ];
        for (others, expected) in cases {
            assert_eq!(may_begin(others), expected, "{others:?}");
        }
    }
}
