//! What can be known of log directories before anything is written: whose they are, and whether they
//! can be used at all. Changes nothing on the disk.

use std::io;
use std::path::{Path, PathBuf};

use super::{
    CLEAN_SHUTDOWN_FILE, DirError, Dirs, Identity, LOCK_FILE, SMALL_FILE_MAX, partition_of,
};
use crate::common::disk::Disk;
use crate::common::ids::BrokerId;
use crate::log::checkpoint::{META_PROPERTIES, decode_identity};
use crate::log::error::{Failure, IoContext, LogError};

impl Dirs {
    /// What the first `meta.properties` says; none in new directories. All of them have to be the
    /// broker's and of one cluster: of `cluster_id`, where that is known already.
    pub fn identity(
        disk: &dyn Disk,
        dirs: &[PathBuf],
        broker_id: BrokerId,
        cluster_id: Option<&str>,
    ) -> Result<Option<Identity>, DirError> {
        let mut first: Option<Identity> = None;
        for dir in dirs {
            let Some(found) = told_identity(disk, dir)? else {
                continue;
            };
            let cluster = first.as_ref().map(|first| first.cluster_id.as_str());
            let ours = Identity {
                broker_id,
                cluster_id: cluster_id
                    .or(cluster)
                    .unwrap_or(&found.cluster_id)
                    .to_owned(),
            };
            if found != ours {
                return Err(DirError::Foreign {
                    path: dir.clone(),
                    found,
                    ours,
                });
            }
            first.get_or_insert(found);
        }
        Ok(first)
    }

    /// The id of the broker that the directories belong to, if one of them says it.
    pub fn broker_id(disk: &dyn Disk, dirs: &[PathBuf]) -> Result<Option<BrokerId>, DirError> {
        for dir in dirs {
            if let Some(found) = told_identity(disk, dir)? {
                return Ok(Some(found.broker_id));
            }
        }
        Ok(None)
    }

    /// The first directory that says whose it is and holds partitions, and who that is. What waits for
    /// its removal does not count.
    pub fn inhabited(
        disk: &dyn Disk,
        dirs: &[PathBuf],
    ) -> Result<Option<(PathBuf, Identity)>, DirError> {
        for dir in dirs {
            let Some(identity) = told_identity(disk, dir)? else {
                continue;
            };
            if holds_partitions(disk, dir).at(dir, "listing")? {
                return Ok(Some((dir.clone(), identity)));
            }
        }
        Ok(None)
    }

    /// Does any of them hold partitions, whoever's? One that cannot be read says nothing.
    pub fn hold_partitions(disk: &dyn Disk, dirs: &[PathBuf]) -> bool {
        dirs.iter()
            .any(|dir| disk.exists(dir) && holds_partitions(disk, dir).unwrap_or(false))
    }

    /// Did the last stop of the broker that these directories belong to close all the logs in them? To be
    /// asked before [`Dirs::open`], which takes the marks away.
    pub fn stopped_cleanly(disk: &dyn Disk, dirs: &[PathBuf]) -> bool {
        dirs.iter().all(|dir| {
            disk.exists(&dir.join(CLEAN_SHUTDOWN_FILE)) || !disk.exists(&dir.join(META_PROPERTIES))
        })
    }

    /// Refuses what [`Dirs::open`] would refuse anyway: a directory that another process uses, and
    /// directories of which none can be written.
    pub fn usable(disk: &dyn Disk, dirs: &[PathBuf]) -> Result<(), DirError> {
        let mut reasons = Vec::new();
        for dir in dirs {
            match may_be_used(disk, dir) {
                Ok(()) => {}
                Err(error @ DirError::Locked { .. }) => return Err(error),
                Err(error) => reasons.push(Failure::of(&error).reason),
            }
        }
        if reasons.len() < dirs.len() {
            return Ok(());
        }
        Err(DirError::NoneLeft { reasons })
    }
}

/// What waits for its removal does not count.
fn holds_partitions(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    let holds = |entry: &PathBuf| {
        let name = entry.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| partition_of(name).is_some()) && disk.is_dir(entry)
    };
    Ok(disk.list(dir)?.iter().any(holds))
}

fn may_be_used(disk: &dyn Disk, dir: &Path) -> Result<(), DirError> {
    read_identity(disk, dir)?;
    let lock_file = dir.join(LOCK_FILE);
    if disk.exists(&lock_file) {
        disk.lock(&lock_file)
            .map_err(|source| not_locked(dir, source))?;
    }
    // What is missing is made: in the nearest directory that is there.
    let place = dir.ancestors().find(|place| disk.exists(place));
    let place = place.unwrap_or(Path::new("."));
    disk.may_write(place)
        .at(dir, "looking whether it can be written")?;
    Ok(())
}

/// Why a lock was not got.
pub(super) fn not_locked(dir: &Path, source: io::Error) -> DirError {
    let path = dir.to_owned();
    if source.kind() == io::ErrorKind::WouldBlock {
        return DirError::Locked { path, source };
    }
    DirError::Log(LogError::Io {
        path,
        action: "locking",
        source,
    })
}

/// What a directory says of itself. As in Kafka, one whose `meta.properties` the disk does not give out
/// says nothing: it is not used, but the others are. One that holds nonsense is refused.
fn told_identity(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, DirError> {
    match read_identity(disk, dir) {
        Err(DirError::Log(_)) => Ok(None),
        told => told,
    }
}

pub(super) fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, DirError> {
    let path = dir.join(META_PROPERTIES);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let bytes = disk.read(&path, SMALL_FILE_MAX).at(&path, "reading")?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned());
    text.and_then(|text| decode_identity(&text))
        .map(Some)
        .map_err(|reason| DirError::Malformed { path, reason })
}
