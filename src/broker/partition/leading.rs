//! A partition's replica as the leader: roles, appends, followers' fetches, the high watermark, and the
//! changes of the in-sync set. What follows from what is decided in [`crate::broker::isr`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::time::Instant;
use tracing::debug;

use super::{Appended, Origin, Partition, Refused, Role};
use crate::broker::isr::{Fetched, Given, LeaderState, Outcome, Proposal, Standing};
use crate::broker::wait::Waiter;
use crate::common::ids::{BrokerId, LeaderEpoch, Offset, Zxid};
use crate::log;

/// More than any waiter lacks: it looks again. How many bytes a follower's progress brings to light is
/// not counted.
const ANY_BYTES: u64 = u64::MAX;

impl Role {
    fn given(&self) -> Given<'_> {
        Given {
            epoch: self.leader_epoch,
            version: self.state_version,
            controller_epoch: self.controller_epoch,
            replicas: &self.replicas,
            live: &self.live,
            written: self.state_written,
            isr: &self.isr,
        }
    }

    /// One replica: what this log has, all in-sync replicas have.
    fn alone(&self) -> bool {
        self.leading && self.replicas.len() <= 1
    }
}

impl Partition {
    pub(super) fn leader_state(&self) -> MutexGuard<'_, Option<LeaderState>> {
        self.leader_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn appending(&self) -> MutexGuard<'_, ()> {
        self.appending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_role(&self, role: Arc<Role>) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = role;
    }

    /// Takes a role. Appends that run finish first; everybody who waits here looks again. A role of an
    /// older state than the one that is known is passed over.
    pub fn become_role(&self, role: Role) -> Result<(), log::LogError> {
        let _appending = self.appending();
        let before = self.role();
        let age = |role: &Role| (role.leader_epoch, role.state_version);
        if *before == role {
            return Ok(());
        }
        if age(&role) < age(&before) {
            debug!(partition = %self.id, ?role, "an older state");
            return Ok(());
        }
        if role.leading && (!before.leading || before.leader_epoch != role.leader_epoch) {
            self.log().begin_epoch(role.leader_epoch)?;
        }
        self.take_role(&before, role);
        Ok(())
    }

    /// Gives the role up for good: the replica is to be removed.
    pub fn retire(&self) {
        let _appending = self.appending();
        let before = self.role();
        self.take_role(&before, Role::default());
    }

    /// Called with `appending` held.
    fn take_role(&self, before: &Role, role: Role) {
        let moved = (before.leading, before.leader_epoch) != (role.leading, role.leader_epoch);
        let resized = before.replicas.len() != role.replicas.len();
        let role = Arc::new(role);
        let mut state = self.leader_state();
        self.set_role(role.clone());
        match (role.leading, role.leader) {
            (true, Some(local)) => {
                self.lead(&mut state, local, &role);
                if let Some(state) = &*state {
                    self.advance_high_watermark(state);
                }
            }
            _ => *state = None,
        }
        drop(state);
        if moved || resized {
            self.interrupt();
        } else {
            self.subscribers.mark();
        }
    }

    fn lead(&self, state: &mut Option<LeaderState>, local: BrokerId, role: &Role) {
        let (end, now_ms) = (self.log().log_end_offset(), self.log().monotonic_ms());
        let epoch_start = self.epoch_start(role.leader_epoch);
        match state {
            Some(state) => state.adopt(role.given(), epoch_start, end, now_ms),
            None => {
                let lag_max_ms = self.isr_changes.lag_max_ms();
                let given = role.given();
                let new = LeaderState::new(local, lag_max_ms, given, epoch_start, end, now_ms);
                *state = Some(new);
                self.reign.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Where this epoch began; it may have begun a while ago, where this broker leads it again.
    fn epoch_start(&self, epoch: LeaderEpoch) -> Offset {
        if epoch.0 == 0 {
            return self.log().log_start_offset();
        }
        let (_, end) = self
            .log()
            .end_offset_for_epoch(LeaderEpoch(epoch.0.saturating_sub(1)));
        if end.0 >= 0 {
            end
        } else {
            self.log().log_end_offset()
        }
    }

    /// Appends one batch as the leader, assigns its offsets and wakes who waits for it. The records are
    /// in the page cache when this returns; `expected` is the epoch that the caller was elected with.
    ///
    /// Blocks for the length of one page-cache write.
    pub fn append(
        &self,
        batch: Bytes,
        origin: Origin,
        expected: Option<LeaderEpoch>,
    ) -> Result<Appended, Refused> {
        let size = batch.len() as u64;
        let _appending = self.appending();
        let role = self.role();
        if !role.leading || expected.is_some_and(|epoch| epoch != role.leader_epoch) {
            return Err(Refused::plain(ResponseError::NotLeaderOrFollower));
        }
        let origin = match origin {
            Origin::Client => log::Origin::Client,
            Origin::Coordinator => log::Origin::Internal,
        };
        let appended = self
            .log()
            .append_as_leader(batch, role.leader_epoch, origin)
            .map_err(|error| self.refusal(error))?;
        if !appended.duplicate {
            self.appended(&role, size);
        }
        Ok(Appended {
            base_offset: appended.first_offset,
            last_offset: appended.last_offset,
            log_append_time_ms: Some(appended.log_append_time_ms).filter(|time| *time >= 0),
            log_start_offset: appended.log_start_offset,
            duplicate: appended.duplicate,
        })
    }

    /// The log has `bytes` more. Called with `appending` held.
    fn appended(&self, role: &Role, bytes: u64) {
        let end = self.log().log_end_offset();
        if role.alone() {
            let before = self.high_watermark.fetch_max(end.0, Ordering::AcqRel);
            if end.0 > before {
                self.watchers.advance(end, bytes);
            }
            return;
        }
        self.end_watchers.advance(end, bytes);
        self.subscribers.mark();
        if let Some(state) = &*self.leader_state() {
            self.advance_high_watermark(state);
        }
    }

    /// Moves the high watermark to where all in-sync replicas are. The lock on the leader's state is what
    /// keeps a leader that was from moving it.
    fn advance_high_watermark(&self, state: &LeaderState) {
        let end = self.log().log_end_offset();
        let Some(everywhere) = state.high_watermark(end, self.log().monotonic_ms()) else {
            return;
        };
        let before = self
            .high_watermark
            .fetch_max(everywhere.0, Ordering::AcqRel);
        if everywhere.0 > before {
            self.watchers.advance(everywhere, ANY_BYTES);
            self.subscribers.mark();
        }
    }

    /// Are there as many in-sync replicas as the topic asks of acks=all?
    pub fn enough_in_sync(&self) -> bool {
        let role = self.role();
        role.isr.len() >= role.min_insync_replicas
    }

    /// Waits until the record at `offset` is on all in-sync replicas (acks=all), and they are enough.
    pub async fn replicated(
        &self,
        offset: Offset,
        limit: std::time::Duration,
    ) -> Result<(), ResponseError> {
        self.replicated_by(offset, Instant::now() + limit).await
    }

    /// [`Partition::replicated`] with a deadline that several partitions share.
    pub async fn replicated_by(
        &self,
        offset: Offset,
        deadline: Instant,
    ) -> Result<(), ResponseError> {
        let reign = self.reign.load(Ordering::Acquire);
        if self.high_watermark() <= offset {
            tokio::time::timeout_at(deadline, self.reach(offset, reign))
                .await
                .unwrap_or(Err(ResponseError::RequestTimedOut))?;
        }
        if self.enough_in_sync() {
            Ok(())
        } else {
            Err(ResponseError::NotEnoughReplicasAfterAppend)
        }
    }

    async fn reach(&self, offset: Offset, reign: u64) -> Result<(), ResponseError> {
        loop {
            let watch_epoch = self.watchers.epoch();
            // Who led meanwhile may have put something else at the offset. A new epoch alone is no harm.
            if !self.is_leader() || self.reign.load(Ordering::Acquire) != reign {
                return Err(ResponseError::NotLeaderOrFollower);
            }
            if self.high_watermark() > offset {
                return Ok(());
            }
            let waiter = Waiter::new(1);
            let _watching = self.watchers.watch_for(&waiter, offset, watch_epoch);
            waiter.enough().await;
        }
    }

    /// Is the high watermark still below where this leader's epoch began? Then what was acknowledged
    /// before may lie above it, and "the latest offset" would go back (KIP-207).
    pub fn high_watermark_lags(&self) -> bool {
        let state = self.leader_state();
        let start = state.as_ref().map(LeaderState::epoch_start);
        start.is_some_and(|start| start > self.high_watermark())
    }

    // ---- followers -----------------------------------------------------------------------------

    /// A follower, under the registration that it says, has asked for what comes at `offset`, so it has
    /// everything before; `leader_end` is where this log ended when it was read for it. Answers the newest high watermark that the
    /// follower was sent so far.
    pub fn fetched_by(
        &self,
        (follower, registered): (BrokerId, Option<Zxid>),
        (offset, log_start): (Offset, Offset),
        leader_end: Offset,
    ) -> Result<Offset, ResponseError> {
        let mut state = self.leader_state();
        let Some(state) = &mut *state else {
            return Err(ResponseError::NotLeaderOrFollower);
        };
        let fetched = Fetched {
            offset,
            log_start,
            leader_end,
            registered,
            now_ms: self.log().monotonic_ms(),
        };
        let Some(told) = state.fetched(follower, fetched) else {
            // The follower may know of a newer assignment than this leader does.
            debug!(partition = %self.id, %follower, "a fetch from a broker that is no replica, or of an earlier registration");
            return Err(ResponseError::UnknownLeaderEpoch);
        };
        self.advance_high_watermark(state);
        if state.may_join(follower, self.high_watermark()) {
            self.isr_changes.note(&self.id);
        }
        Ok(told)
    }

    /// The in-sync followers that a consumer could read on from at `offset`; none where another leads.
    pub fn holders(&self, offset: Offset) -> Vec<Standing> {
        let state = self.leader_state();
        state
            .as_ref()
            .map_or_else(Vec::new, |state| state.holders(offset))
    }

    /// The follower is sent this high watermark.
    pub fn told(&self, follower: BrokerId, high_watermark: Offset) {
        if let Some(state) = &mut *self.leader_state() {
            state.told(follower, high_watermark);
        }
    }

    /// Does this broker lead, with followers?
    pub fn has_followers(&self) -> bool {
        let role = self.role();
        role.leading && !role.alone()
    }

    /// The change of the in-sync set that is due, if this broker leads and one is.
    pub fn propose_isr(&self, registered: impl Fn(BrokerId) -> bool) -> Option<Proposal> {
        let mut state = self.leader_state();
        let (end, now_ms) = (self.log().log_end_offset(), self.log().monotonic_ms());
        let high_watermark = self.high_watermark();
        state
            .as_mut()?
            .propose(end, high_watermark, now_ms, registered)
    }

    /// What became of a proposal. Says whether the in-sync set is another one now.
    pub fn settle_isr(&self, proposal: &Proposal, outcome: Outcome) -> bool {
        let _appending = self.appending();
        let mut state = self.leader_state();
        let Some(state) = &mut *state else {
            return false;
        };
        if !state.settle(proposal, outcome) {
            return false;
        }
        let mut role = (*self.role()).clone();
        let (isr, version, written) = state.committed();
        role.isr = isr.to_vec();
        role.state_version = version;
        role.state_written = written;
        self.set_role(Arc::new(role));
        self.advance_high_watermark(state);
        self.subscribers.mark();
        true
    }
}
