//! Why a member does not start, in words that tell the operator what to do, and what not to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::log_store::LogError;
use super::state_machine::RestoreError;
use crate::common::disk::{self, Disk};
use crate::common::ids::MemberId;
use crate::coordinator::identity::IdentityError;
use crate::coordinator::store::StoreError;

/// With less room than this the store cannot open.
const FREE_BYTES_MIN: u64 = 4 << 20;
pub(super) const STORE_OPEN_LIMIT: Duration = Duration::from_secs(60);

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The list of members makes no sense.
    #[error("member {member} is not in the list of {count} members, or an id is above 255")]
    Members {
        /// Who we are.
        member: MemberId,
        /// How many are listed.
        count: usize,
    },
    /// Another process uses the directory, or it cannot be used at all.
    #[error("the data directory {} cannot be used", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The identity file stops us.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is a log but nobody knows whose.
    #[error(
        "{} holds a raft log but no identity file, so it cannot be known what this member voted for; \
         restore the file, or empty the directory and let the member join anew", dir.display()
    )]
    NoIdentity {
        /// Which directory.
        dir: PathBuf,
    },
    /// The store does not open.
    #[error(
        "the raft store in {} does not open; this member must not vote without it. Restore the data \
         directory, or empty it and let the member join anew", dir.display()
    )]
    Store {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The disk is full, or a limit is reached, which is no damage.
    #[error("the data directory {} cannot be written", dir.display())]
    DiskFull {
        /// Which directory.
        dir: PathBuf,
        /// What met it, in its words.
        #[source]
        source: io::Error,
    },
    /// Opening takes too long.
    #[error("the raft store in {} did not open within {STORE_OPEN_LIMIT:?}", dir.display())]
    StoreSlow {
        /// Which directory.
        dir: PathBuf,
    },
    /// The log is damaged.
    #[error("the raft data in {} cannot be used", dir.display())]
    Log {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: LogError,
    },
    /// The snapshots are damaged.
    #[error("the snapshots in {} cannot be used", dir.display())]
    Snapshots {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: RestoreError,
    },
    /// The log begins after the newest whole snapshot.
    #[error(
        "entries {}..={purged} are in no whole snapshot and no longer in the log of {}; restore the data \
         directory, or empty it and let the member join anew", have.map_or(0, |have| have + 1), dir.display()
    )]
    Gap {
        /// Which directory.
        dir: PathBuf,
        /// The last entry of the snapshot.
        have: Option<u64>,
        /// The last entry that is gone from the log.
        purged: u64,
    },
    /// The core refused to start.
    #[error("raft does not start: {reason}")]
    Core {
        /// In its words.
        reason: String,
    },
}

/// A full disk or a limit is told as what it is: the other messages advise what would lose the data.
pub(super) fn or_disk_full(error: StartError, disk: &dyn Disk, dir: &Path) -> StartError {
    let mut known = None;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        let found = at.downcast_ref::<io::Error>();
        if let Some(found) = found.filter(|found| disk::advice(*found).is_some()) {
            // Not always with its code, which a text of its own has replaced.
            let code = found.raw_os_error().map(io::Error::from_raw_os_error);
            let with_text = || io::Error::new(found.kind(), found.to_string());
            known = Some(code.unwrap_or_else(with_text));
        }
        cause = at.source();
    }
    // The store does not always pass on why it failed.
    if known.is_none() && matches!(error, StartError::Store { .. }) {
        let free = disk.free_bytes(dir).unwrap_or(u64::MAX);
        let text = format!("{free} bytes are free");
        let full = io::Error::new(io::ErrorKind::StorageFull, text);
        known = (free < FREE_BYTES_MIN).then_some(full);
    }
    let dir = dir.to_owned();
    match known {
        None => error,
        Some(source) => StartError::DiskFull { dir, source },
    }
}
