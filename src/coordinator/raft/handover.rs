//! A leader that stops hands its leadership over, rather than let the others find out by their timers.
//!
//! openraft 0.9 has no transfer, and its members refuse every vote for a lease's time after they heard
//! from a leader. So the leader chooses the follower that lacks least and tells the others, and then
//! itself, to take up the vote that the chosen one is about to ask for: a vote that is not committed has no
//! lease. Nobody is granted anything by that: the chosen one still has to ask, and its log is compared. If
//! any step fails, the timers do what they always did.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::leadership;
use super::node::RaftNode;
use super::peer::{Answer, Message};
use super::types::{LeaderKey, LogId, Raft, Vote};
use crate::coordinator::identity::member_of;

/// How long the whole may take; what is not done by then is left to the timers.
const LIMIT: Duration = Duration::from_millis(800);
/// How long a follower gets to receive the end of the log.
const CATCH_UP_LIMIT: Duration = Duration::from_millis(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The vote that `next` asks for when it stands right after `leader`.
pub fn vote_after(leader: LeaderKey, next: u64) -> Vote {
    Vote::new(leader.term + 1, next)
}

/// May a message about the end of `leader`'s time, sent by `from`, be believed here?
pub fn concerns(raft: &Raft, leader: LeaderKey, from: u64) -> bool {
    let now = leadership::leader(&raft.server_metrics().borrow());
    now == Some(leader) && leader.node_id == from
}

/// Gives up the lease of the present leader in favour of `vote`, which is not committed. To openraft it is
/// an append behind an entry that no log has: it takes up the vote, and refuses the rest.
pub async fn release(raft: &Raft, vote: Vote) {
    let append = AppendEntriesRequest {
        vote,
        prev_log_id: Some(LogId::new(vote.leader_id, u64::MAX - 1)),
        entries: Vec::new(),
        leader_commit: None,
    };
    if let Err(error) = raft.append_entries(append).await {
        debug!(%error, "the lease was not given up");
    }
}

/// If this member leads, makes another one lead. Returns when that one does, or when the time is up.
pub async fn hand_over(node: &Arc<RaftNode>) {
    let until = Instant::now() + LIMIT;
    let mut metrics = node.raft.server_metrics();
    let now = metrics.borrow().clone();
    let me = node.options.member;
    let leader = match leadership::leader(&now) {
        Some(leader) if leader.node_id == now.id && node.options.members.len() > 1 => leader,
        _ => return,
    };
    // Nothing new enters the log; the other members keep what they have and send it to the next leader.
    node.stop_proposing();
    let Some(next) = caught_up(node).await else {
        info!(member = %me, "no member can take over the leadership");
        return;
    };
    let to = member_of(next);
    let others = node.links.all().filter(|(member, _)| **member != to);
    let calls: Vec<_> = others
        .filter_map(|(_, link)| link.call(&Message::Release(leader, next)).ok())
        .collect();
    for call in calls {
        let _ = timeout_at(until.min(Instant::now() + CATCH_UP_LIMIT), call.answer()).await;
    }
    release(&node.raft, vote_after(leader, next)).await;
    let link = node.links.to_store(next);
    let Some(call) = link.and_then(|link| link.call(&Message::Stand(leader)).ok()) else {
        return;
    };
    // This member stays until then, because its own vote may be needed.
    let led = async {
        let stands = call.answer().await;
        let new = |now: &_| leadership::leader(now).is_some_and(|by| by != leader);
        matches!(stands, Ok(Answer::Here)) && metrics.wait_for(new).await.is_ok()
    };
    match timeout_at(until, led).await {
        Ok(true) => info!(member = %me, %to, "handed the leadership over"),
        _ => info!(member = %me, %to, "the leadership was not taken over in time"),
    }
}

/// The connected follower that has all of the log, or else the one that lacks least. It has to count.
async fn caught_up(node: &RaftNode) -> Option<u64> {
    let until = Instant::now() + CATCH_UP_LIMIT;
    loop {
        let (last, _) = node.log.ends();
        let replication = node.raft.data_metrics().borrow().replication.clone()?;
        let voters = node.voters();
        let (next, matched) = replication
            .into_iter()
            .filter(|(other, _)| voters.include(*other) && node.links.to_store(*other).is_some())
            .max_by_key(|(_, matched)| *matched)?;
        if matched >= last || Instant::now() >= until {
            return Some(next);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
