//! A partition's replica as a follower: it takes what the leader sends, and cuts off what the leader
//! does not have.
//!
//! Every method names the leader's epoch that its caller has fetched under and looks at the role under
//! the `appending` lock: what a leader of the past sent changes nothing.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::{info, warn};

use super::{Partition, Role};
use crate::common::ids::{LeaderEpoch, Offset};
use crate::kafka::batch::BatchHeader;
use crate::log::{AppendError, Log, LogError};

/// Why a follower could not take what it was sent.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It follows under another epoch now, or its log ends elsewhere: the answer is of the past.
    #[error("the role has changed since")]
    Outdated,
    /// The disk failed: the log takes no more.
    #[error("the disk")]
    Storage(#[source] Box<AppendError>),
    /// The records are damaged or do not fit.
    #[error("records that do not fit the log")]
    Unfit(#[source] Box<AppendError>),
}

impl From<AppendError> for FollowError {
    fn from(error: AppendError) -> FollowError {
        match error {
            AppendError::Storage(_) => FollowError::Storage(Box::new(error)),
            _ => FollowError::Unfit(Box::new(error)),
        }
    }
}

impl From<LogError> for FollowError {
    fn from(error: LogError) -> FollowError {
        FollowError::Storage(Box::new(AppendError::Storage(error)))
    }
}

/// Why and where a follower's log is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// The leader says: the largest epoch of mine not above your last is this one, and it ends here.
    Diverging(LeaderEpoch, Offset),
    /// The leader's log ends here, before ours.
    Behind(Offset),
    /// The leader's log begins here, behind our end: nothing of ours is of use.
    Restart(Offset),
}

/// What a leader sent for one partition.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Whole batches from the log's end on, maybe with a part of one more.
    pub records: Bytes,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's first offset.
    pub log_start_offset: Offset,
}

/// The cut for a diverging log (KIP-101, KIP-595), from the leader's epoch and its end there, and ours
/// for the same epoch: the largest that we know not above it. An end of -1 is an unknown one.
pub(super) fn diverging_cut(
    theirs: (LeaderEpoch, Offset),
    ours: (LeaderEpoch, Offset),
    log_end: Offset,
    high_watermark: Offset,
) -> Offset {
    let cut = if theirs.1.0 < 0 {
        high_watermark
    } else if theirs.0.0 < 0 || ours.1.0 < 0 {
        theirs.1
    } else if ours.0 != theirs.0 {
        // We lack that epoch: cut back to before it, and ask again.
        ours.1
    } else {
        ours.1.min(theirs.1)
    };
    cut.min(log_end)
}

/// Appends whole batches as they come from another copy of the log.
pub(super) fn append_batches(log: &Log, records: Bytes) -> Result<(), FollowError> {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    if start == end
        && let Ok(first) = BatchHeader::parse(&records)
        && first.base_offset < end
        && first.last_offset() >= end
    {
        // The leader's log begins inside of a batch (DeleteRecords), and batches come whole.
        log.truncate_fully_and_start_at(first.base_offset)?;
    }
    log.append_as_follower(records)?;
    Ok(())
}

impl Partition {
    /// The epoch that this broker follows under; none where it does not follow.
    pub fn following(&self) -> Option<LeaderEpoch> {
        let role = self.role();
        follows(&role).then_some(role.leader_epoch)
    }

    /// The epoch of the last record, for the leader to compare (KIP-595).
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        let end = self.log().log_end_offset();
        if end <= self.log().log_start_offset() {
            return None;
        }
        self.log().epoch_for_offset(end + -1)
    }

    /// Takes what the leader of `epoch` sent for `offset`. Answers the bytes of records that came.
    ///
    /// Blocks for the length of a page-cache write.
    pub fn follow(
        &self,
        epoch: LeaderEpoch,
        offset: Offset,
        sent: Sent,
    ) -> Result<usize, FollowError> {
        let _appending = self.appending();
        self.check_follows(epoch)?;
        if self.log().log_end_offset() != offset {
            return Err(FollowError::Outdated);
        }
        let bytes = sent.records.len();
        let appended = if bytes > 0 {
            append_batches(&self.log(), sent.records)
        } else {
            Ok(())
        };
        // What came before a bad batch is in the log, and counts.
        let end = self.log().log_end_offset();
        let visible = sent.high_watermark.min(end);
        let before = self.high_watermark.fetch_max(visible.0, Ordering::AcqRel);
        if visible.0 > before {
            self.watchers.advance(visible, u64::MAX);
        }
        appended?;
        let start = sent.log_start_offset.min(self.high_watermark());
        if start > self.log().log_start_offset() {
            self.log()
                .delete_records_before(start, self.high_watermark())?;
        }
        Ok(bytes)
    }

    /// Where the log is to be cut, as it is now.
    pub fn cut(&self, why: Truncation) -> Offset {
        let end = self.log().log_end_offset();
        match why {
            Truncation::Diverging(their_epoch, their_end) => {
                let ours = self.log().end_offset_for_epoch(their_epoch);
                let theirs = (their_epoch, their_end);
                diverging_cut(theirs, ours, end, self.high_watermark())
            }
            Truncation::Behind(offset) => offset.min(end),
            Truncation::Restart(offset) => offset,
        }
    }

    /// Cuts the log, as a follower of `epoch`; what checkpoints say of it has to be kept before anything
    /// is appended ([`Dirs::keep_cuts`](crate::log::dir::Dirs::keep_cuts)). Answers whether anything changed. Blocks for syncs.
    pub fn truncate(&self, epoch: LeaderEpoch, why: Truncation) -> Result<bool, FollowError> {
        let _appending = self.appending();
        self.check_follows(epoch)?;
        let (end, last) = (self.log().log_end_offset(), self.last_epoch());
        let high_watermark = self.high_watermark();
        let cut = self.cut(why);
        if cut < high_watermark {
            warn!(
                partition = %self.id, %cut, %high_watermark, log_end_offset = %end,
                "truncating below the high watermark: records that were committed are lost, by an unclean \
                 election or by the loss of all in-sync replicas' data"
            );
        }
        if let Truncation::Restart(offset) = why {
            warn!(partition = %self.id, from = %end, to = %offset, "starting over where the leader's log begins");
            self.log().truncate_fully_and_start_at(offset)?;
        } else {
            info!(partition = %self.id, from = %end, to = %cut, ?why, "truncating");
            if cut < self.log().log_start_offset() {
                self.log().truncate_fully_and_start_at(cut)?;
            } else {
                self.log().truncate_to(cut)?;
            }
        }
        // Under the leader's state lock, as every other move of it.
        let state = self.leader_state();
        let visible = match why {
            Truncation::Restart(offset) => offset,
            _ => high_watermark.min(cut),
        };
        self.high_watermark.store(visible.0, Ordering::Release);
        drop(state);
        self.interrupt();
        Ok((self.log().log_end_offset(), self.last_epoch()) != (end, last))
    }

    fn check_follows(&self, epoch: LeaderEpoch) -> Result<(), FollowError> {
        let role = self.role();
        if follows(&role) && role.leader_epoch == epoch {
            Ok(())
        } else {
            Err(FollowError::Outdated)
        }
    }
}

fn follows(role: &Role) -> bool {
    !role.leading && role.leader.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_follows_kip_101() {
        // Theirs, ours for their epoch, our end, our high watermark, the cut.
        let table = [
            // The same epoch, they have less of it; they have more; and we end before.
            ((4, 10), (4, 15), 15, 5, 10),
            ((4, 15), (4, 10), 20, 5, 10),
            ((4, 15), (4, 15), 12, 5, 12),
            // Ours is older: we lack theirs, and ask again from where ours ends.
            ((4, 10), (2, 7), 15, 5, 7),
            // We know nothing that old.
            ((4, 10), (-1, -1), 15, 5, 10),
            // They know no epoch, or no end.
            ((-1, 10), (-1, -1), 15, 5, 10),
            ((-1, -1), (-1, -1), 15, 5, 5),
        ];
        for (theirs, ours, end, high_watermark, cut) in table {
            let of = |(epoch, end)| (LeaderEpoch(epoch), Offset(end));
            let found = diverging_cut(of(theirs), of(ours), Offset(end), Offset(high_watermark));
            assert_eq!(found, Offset(cut), "{theirs:?} {ours:?}");
        }
    }
}
