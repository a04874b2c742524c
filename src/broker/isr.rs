//! What a leader knows of its followers, and what follows from it: the high watermark, and who is in
//! sync. Pure: times and log ends come in as arguments.
//!
//! There are two in-sync sets. The *committed* one is what the state znode says, as far as this broker
//! knows; min.insync.replicas counts that one. The *maximal* one has everybody in it who may be in the
//! znode by now, because a change is on its way or its outcome is unknown. The invariant: the high
//! watermark lies below the log end of every member of the maximal set, so whichever set turns out to
//! be the true one, each of its members has every record that was shown or acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::ids::{BrokerId, ControllerEpoch, LeaderEpoch, Offset, Zxid};

/// What is known of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    /// Its log's end: the offset that it asked for last; none until it has asked.
    log_end: Option<Offset>,
    /// Its log's start, as it said.
    log_start: Offset,
    /// When it asked last, or when this broker began to lead.
    fetched_ms: i64,
    /// Where the leader's log ended then.
    leader_end: Offset,
    /// When it had everything, for the last time; none where it never had.
    caught_up_ms: Option<i64>,
    /// The newest high watermark that it was sent.
    told: Offset,
    /// The registration under which it did all that; none while it is not registered.
    registered: Option<Zxid>,
}

impl Follower {
    /// A follower that has not asked yet. Who is in sync gets the whole lag time to ask, as in Kafka.
    fn new(in_sync: bool, registered: Option<Zxid>, leader_end: Offset, now_ms: i64) -> Follower {
        Follower {
            log_end: None,
            log_start: Offset(-1),
            fetched_ms: now_ms,
            leader_end,
            caught_up_ms: in_sync.then_some(now_ms),
            told: Offset(-1),
            registered,
        }
    }

    /// Kafka's rule: it has caught up now when it asks for our end, and it had caught up at its last
    /// fetch when it asks for what was our end then (records that came since are not its fault).
    fn fetched(&mut self, fetch: Fetched) {
        if fetch.offset >= fetch.leader_end {
            self.caught_up_ms = self.caught_up_ms.max(Some(fetch.now_ms));
        } else if fetch.offset >= self.leader_end {
            self.caught_up_ms = self.caught_up_ms.max(Some(self.fetched_ms));
        }
        self.log_end = Some(fetch.offset);
        self.log_start = fetch.log_start;
        self.leader_end = fetch.leader_end;
        self.fetched_ms = fetch.now_ms;
    }

    fn caught_up_within(&self, lag_max_ms: i64, now_ms: i64) -> bool {
        self.caught_up_ms
            .is_some_and(|at| now_ms.saturating_sub(at) <= lag_max_ms)
    }
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub id: BrokerId,
    /// Its log's end.
    pub log_end: Offset,
    /// When it had everything, for the last time.
    pub caught_up_ms: Option<i64>,
}

/// A follower's fetch.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// What it asked for: everything below is in its log.
    pub offset: Offset,
    /// Where its log begins.
    pub log_start: Offset,
    /// Where the leader's log ended when it was read for this fetch.
    pub leader_end: Offset,
    /// The registration that the follower says it has, if it says one.
    pub registered: Option<Zxid>,
    /// When.
    pub now_ms: i64,
}

/// A leadership as the image gives it.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// Version of the state znode.
    pub version: i32,
    /// The controller that wrote the state.
    pub controller_epoch: ControllerEpoch,
    /// All assigned replicas.
    pub replicas: &'a [BrokerId],
    /// When the state was written: who registered later restarted since.
    pub written: Zxid,
    /// Those of the replicas that are registered, and since when.
    pub live: &'a [(BrokerId, Zxid)],
    /// The in-sync ones.
    pub isr: &'a [BrokerId],
}

/// A change of the in-sync set that shall be written, guarded by the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who leads.
    pub leader: BrokerId,
    /// The epoch that it leads under.
    pub epoch: LeaderEpoch,
    /// The version of the state znode that is to be replaced.
    pub version: i32,
    /// Stays in the state.
    pub controller_epoch: ControllerEpoch,
    /// Before.
    pub before: Vec<BrokerId>,
    /// The new set.
    pub isr: Vec<BrokerId>,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the znode, which has this version now and was written by this transaction.
    Written(i32, Zxid),
    /// Somebody else has written the znode: the image will tell.
    Stale,
    /// Nobody knows.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// A change may be proposed.
    Free,
    /// One is on its way.
    InFlight,
    /// The znode is newer than what is known here.
    Stale,
}

/// A leader's view of its partition's replicas, for as long as it leads.
#[derive(Clone, Debug)]
pub struct LeaderState {
    local: BrokerId,
    lag_max_ms: i64,
    epoch: LeaderEpoch,
    /// Where the log ended when this epoch began.
    epoch_start: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    committed: Vec<BrokerId>,
    version: i32,
    written: Zxid,
    controller_epoch: ControllerEpoch,
    /// Members of sets that were proposed for this version and may be in the znode.
    tried: BTreeSet<BrokerId>,
    writing: Writing,
}

impl LeaderState {
    /// `local` begins to lead; nothing is known of its followers.
    pub fn new(
        local: BrokerId,
        lag_max_ms: i64,
        given: Given<'_>,
        epoch_start: Offset,
        leader_end: Offset,
        now_ms: i64,
    ) -> LeaderState {
        let mut state = LeaderState {
            local,
            lag_max_ms,
            epoch: given.epoch,
            epoch_start,
            followers: BTreeMap::new(),
            committed: given.isr.to_vec(),
            version: given.version,
            written: given.written,
            controller_epoch: given.controller_epoch,
            tried: BTreeSet::new(),
            writing: Writing::Free,
        };
        state.assign(given, leader_end, now_ms);
        state
    }

    /// The image has something newer to say while this broker leads on. What followers have stays
    /// known, also under a new epoch: they follow the same log.
    pub fn adopt(
        &mut self,
        given: Given<'_>,
        epoch_start: Offset,
        leader_end: Offset,
        now_ms: i64,
    ) {
        let raised = given.epoch > self.epoch;
        if raised {
            self.epoch_start = epoch_start;
        }
        if (given.epoch, given.version) > (self.epoch, self.version) {
            self.committed = given.isr.to_vec();
            // A newer version settles what was tried on the older one, one way or the other.
            self.tried.clear();
            self.writing = Writing::Free;
        }
        self.epoch = given.epoch;
        self.version = given.version;
        self.written = given.written;
        self.controller_epoch = given.controller_epoch;
        self.assign(given, leader_end, now_ms);
        if raised {
            // Whom somebody else took out of the set is not waited for, as in Kafka, until it catches up again.
            for (id, follower) in &mut self.followers {
                if !self.committed.contains(id) {
                    follower.caught_up_ms = None;
                }
            }
        }
    }

    fn assign(&mut self, given: Given<'_>, leader_end: Offset, now_ms: i64) {
        let registered = |id: BrokerId| {
            let mut live = given.live.iter();
            live.find(|live| live.0 == id).map(|live| live.1)
        };
        self.followers.retain(|id, _| given.replicas.contains(id));
        for id in given.replicas.iter().filter(|id| **id != self.local) {
            let (in_sync, now) = (self.committed.contains(id), registered(*id));
            let new = Follower::new(in_sync, now, leader_end, now_ms);
            let known = self.followers.entry(*id).or_insert(new);
            let restarted = now.is_some() && now != known.registered;
            // Who is gone and out of sync is waited for no more; what a broker had before it
            // registered anew is not known any more.
            if restarted || now.is_none() && !in_sync {
                *known = new;
            }
        }
    }

    /// Where the log ended when this epoch began.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// The in-sync set of the state znode, as far as it is known, and the version that has it.
    pub fn committed(&self) -> (&[BrokerId], i32, Zxid) {
        (&self.committed, self.version, self.written)
    }

    /// May it be in the in-sync set of the znode?
    fn maximal(&self, id: BrokerId) -> bool {
        self.committed.contains(&id) || self.tried.contains(&id)
    }

    /// Takes note of a follower's fetch; none where it is no replica, or where it asked before it registered
    /// anew: what it had then says nothing of what it has now. Answers the newest high watermark that it
    /// was told.
    pub fn fetched(&mut self, follower: BrokerId, fetch: Fetched) -> Option<Offset> {
        let follower = self.followers.get_mut(&follower)?;
        let known = fetch.registered.zip(follower.registered);
        if known.is_some_and(|(said, now)| said < now) {
            return None;
        }
        follower.fetched(fetch);
        Some(follower.told)
    }

    /// The follower is sent this high watermark.
    pub fn told(&mut self, follower: BrokerId, high_watermark: Offset) {
        if let Some(follower) = self.followers.get_mut(&follower) {
            follower.told = follower.told.max(high_watermark);
        }
    }

    /// How far everybody is who may be in sync, and who is not and yet keeps up (or else it could never
    /// join while records come in). None while a member has not said where it is.
    pub fn high_watermark(&self, leader_end: Offset, now_ms: i64) -> Option<Offset> {
        let mut lowest = leader_end;
        for (id, follower) in &self.followers {
            if self.maximal(*id) {
                lowest = lowest.min(follower.log_end?);
            } else if follower.caught_up_within(self.lag_max_ms, now_ms)
                && let Some(end) = follower.log_end
            {
                lowest = lowest.min(end);
            }
        }
        Some(lowest)
    }

    /// The committed in-sync followers that have the record at `offset`, or are where it will be.
    pub fn holders(&self, offset: Offset) -> Vec<Standing> {
        let in_sync = self
            .followers
            .iter()
            .filter(|(id, _)| self.committed.contains(id));
        let standings = in_sync.filter_map(|(id, follower)| {
            Some(Standing {
                id: *id,
                log_end: follower.log_end.filter(|end| *end >= offset)?,
                caught_up_ms: follower.caught_up_ms,
            })
            .filter(|_| follower.log_start <= offset)
        });
        standings.collect()
    }

    /// Could the follower join the in-sync set now?
    pub fn may_join(&self, id: BrokerId, high_watermark: Offset) -> bool {
        let end = self.followers.get(&id).and_then(|one| one.log_end);
        self.writing == Writing::Free
            && !self.maximal(id)
            && end.is_some_and(|end| end >= high_watermark && end >= self.epoch_start)
    }

    /// The caught-up rule: not at our end, and not within the lag time.
    fn lags(&self, id: BrokerId, leader_end: Offset, now_ms: i64) -> bool {
        self.followers.get(&id).is_none_or(|follower| {
            follower.log_end != Some(leader_end)
                && !follower.caught_up_within(self.lag_max_ms, now_ms)
        })
    }

    /// Nobody who restarted since the state was written may be in a newer one that would vouch for it,
    /// before it has shown that it still has everything.
    fn proven(&self, id: BrokerId, high_watermark: Offset) -> bool {
        self.followers.get(&id).is_some_and(|follower| {
            follower
                .registered
                .is_none_or(|since| since <= self.written)
                || follower.log_end.is_some_and(|end| end >= high_watermark)
        })
    }

    /// The change that is due, if one is; it is in flight then, until [`LeaderState::settle`].
    /// `registered` says which brokers the image knows as alive.
    pub fn propose(
        &mut self,
        leader_end: Offset,
        high_watermark: Offset,
        now_ms: i64,
        registered: impl Fn(BrokerId) -> bool,
    ) -> Option<Proposal> {
        if self.writing != Writing::Free {
            return None;
        }
        let stays = |id: &BrokerId| {
            *id == self.local
                || !self.lags(*id, leader_end, now_ms) && self.proven(*id, high_watermark)
        };
        let mut isr: Vec<BrokerId> = self.committed.iter().copied().filter(stays).collect();
        let joining = self.followers.keys().copied();
        // Who was in a set of unknown outcome counts as in sync and yet may have to be written again.
        let joining = joining.filter(|id| {
            !self.committed.contains(id)
                && registered(*id)
                && (self.may_join(*id, high_watermark)
                    || self.tried.contains(id)
                        && !self.lags(*id, leader_end, now_ms)
                        && self.proven(*id, high_watermark))
        });
        isr.extend(joining);
        if isr == self.committed && self.tried.is_empty() {
            return None;
        }
        self.tried.extend(&isr);
        self.writing = Writing::InFlight;
        Some(Proposal {
            leader: self.local,
            epoch: self.epoch,
            version: self.version,
            controller_epoch: self.controller_epoch,
            before: self.committed.clone(),
            isr,
        })
    }

    /// Takes in what became of a proposal; one that a newer state has overtaken is passed over. Says
    /// whether the committed set is another one now.
    pub fn settle(&mut self, proposal: &Proposal, outcome: Outcome) -> bool {
        let current = (proposal.epoch, proposal.version) == (self.epoch, self.version);
        if !current || self.writing != Writing::InFlight {
            return false;
        }
        match outcome {
            Outcome::Written(version, zxid) => {
                self.committed.clone_from(&proposal.isr);
                self.version = version;
                self.written = zxid;
                self.tried.clear();
                self.writing = Writing::Free;
                true
            }
            Outcome::Stale => {
                self.writing = Writing::Stale;
                false
            }
            // Tried again on the same version: one of the two succeeds at most, and it tells.
            Outcome::Unknown => {
                self.writing = Writing::Free;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
