//! A partition's replica on its way to another directory of this broker: its records are copied into a
//! future log, which takes the current one's place when it has all of them.
//!
//! The copy needs no lock until the end: what is cut off the current log meanwhile is found out by the
//! leader epochs, as between brokers, and cut off the future log at its next turn.

use std::sync::{Arc, PoisonError};

use super::following::{append_batches, diverging_cut};
use super::{FollowError, Partition};
use crate::common::ids::{LeaderEpoch, Offset};
use crate::log::dir::DirError;
use crate::log::{Log, LogError, ReadError};

/// A future log that lacks no more than this many answers of a read is completed while writers wait.
const LAST_READS: usize = 4;

/// Why a replica cannot go on moving.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The current log does not read.
    #[error("reading the current log")]
    Read(#[from] ReadError),
    /// The future log takes nothing.
    #[error("writing the future log")]
    Write(#[source] FollowError),
    /// The future log cannot take its place.
    #[error("taking the current log's place")]
    Replace(#[from] DirError),
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of records.
    pub bytes: usize,
    /// The future log has what the current one had when it was read.
    pub all: bool,
}

/// Cuts off the future log what the current one does not have (any more), and begins it where that begins.
/// Says whether anything was.
fn agree(current: &Log, future: &Log) -> Result<bool, FollowError> {
    let start = current.log_start_offset();
    let mut changed = false;
    if future.log_end_offset() < start {
        future.truncate_fully_and_start_at(start)?;
        changed = true;
    }
    loop {
        let end = future.log_end_offset();
        let (their_end, begin) = (current.log_end_offset(), future.log_start_offset());
        let last = (end > begin).then(|| future.epoch_for_offset(end + -1));
        let Some(last) = last.flatten() else {
            if end > their_end {
                future.truncate_fully_and_start_at(start)?;
                changed = true;
            }
            return Ok(changed);
        };
        let theirs = current.end_offset_for_epoch(last);
        if theirs.0 == last && theirs.1 >= end {
            return Ok(changed);
        }
        let ours = future.end_offset_for_epoch(theirs.0);
        let unknown = theirs.0 == LeaderEpoch::NONE;
        let cut = diverging_cut(theirs, ours, end, start);
        // Each round cuts something, so there is an end.
        if unknown || cut >= end || cut < begin.max(start) {
            future.truncate_fully_and_start_at(start)?;
            return Ok(true);
        }
        future.truncate_to(cut)?;
        changed = true;
    }
}

/// It has to be looked at again.
const NOTHING: Copied = Copied {
    bytes: 0,
    all: false,
};

fn unread(log: &Log, source: std::io::Error) -> LogError {
    LogError::Io {
        path: log.dir().to_owned(),
        action: "reading a segment",
        source,
    }
}

/// Copies the next records, as many as one read gives.
fn copy(current: &Log, future: &Log, bytes_max: usize) -> Result<Copied, MoveError> {
    if agree(current, future).map_err(MoveError::Write)? {
        // The checkpoints come before the next records.
        return Ok(NOTHING);
    }
    let (from, end) = (future.log_end_offset(), current.log_end_offset());
    let region = match current.read(from, bytes_max, end, true) {
        Ok(region) => region,
        // It was cut at either end since.
        Err(ReadError::OutOfRange { .. }) => return Ok(NOTHING),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = 0;
    if let Some(region) = region {
        let records = match region.read() {
            Ok(records) => records,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(NOTHING),
            Err(source) => return Err(ReadError::from(unread(current, source)).into()),
        };
        bytes = records.len();
        append_batches(future, records).map_err(MoveError::Write)?;
    }
    let start = current.log_start_offset().min(future.log_end_offset());
    if future.log_start_offset() < start {
        let deleted = future.delete_records_before(start, future.log_end_offset());
        deleted.map_err(|error| MoveError::Write(error.into()))?;
    }
    Ok(Copied {
        bytes,
        all: future.log_end_offset() == end,
    })
}

impl Partition {
    /// Copies the next records into the future log. Blocks on the disk.
    pub fn copy_to(&self, future: &Log, bytes_max: usize) -> Result<Copied, MoveError> {
        copy(&self.log(), future, bytes_max)
    }

    /// Copies what is still missing, and lets `replace` put the future log in place of the current one.
    /// Says whether that was done: not where too much was missing. Writers wait meanwhile.
    pub fn take_over(
        &self,
        future: &Log,
        bytes_max: usize,
        replace: impl FnOnce() -> Result<Arc<Log>, DirError>,
    ) -> Result<bool, MoveError> {
        let _appending = self.appending();
        let current = self.log();
        let mut complete = false;
        for _ in 0..LAST_READS {
            complete = copy(&current, future, bytes_max)?.all;
            if complete {
                break;
            }
        }
        if !complete {
            return Ok(false);
        }
        let log = replace()?;
        let role = self.role();
        if role.leading
            && let Err(error) = log.begin_epoch(role.leader_epoch)
        {
            self.tell_failure(&error, "the epoch is not noted in the log's new directory");
        }
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = log;
        self.interrupt();
        Ok(true)
    }

    /// How many records the future log lacks.
    pub fn future_lag(&self, future: &Log) -> i64 {
        let end: Offset = self.log().log_end_offset();
        (end - future.log_end_offset()).max(0)
    }
}
