//! Snapshots as plain files: the newest two, each with a checksum at its end.
//!
//! A file appears under its name only when it is whole and durable (temporary name, sync, rename, sync of
//! the directory). A damaged newest one is set aside for the one before it; the log is kept back to that.
//! Knows nothing of what is inside.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tracing::warn;

use crate::common::disk::{Disk, Open};

const MAGIC: &[u8; 8] = b"tripSNP1";
const PREFIX: &str = "snapshot.";
const KEEP: usize = 2;
/// Where a damaged one is moved to; the one that lay there before goes.
const ASIDE: &str = "damaged";
/// Larger trees than this do not fit the coordinator's purpose.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
#[error("{action} snapshot {}", path.display())]
pub struct SnapshotFileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// One snapshot: what it describes, and the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The last index that is part of the state.
    pub index: u64,
    /// Raft's description.
    pub meta: Bytes,
    /// The state machine's bytes.
    pub data: Bytes,
}

/// A directory of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// One step at a time: what a reader has chosen is not removed under it.
    steps: Arc<Mutex<()>>,
}

impl SnapshotDir {
    /// Opens the directory, making it if it is missing, and clears what a crash left half-written.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<SnapshotDir, SnapshotFileError> {
        let this = SnapshotDir {
            disk,
            dir: dir.to_owned(),
            steps: Arc::default(),
        };
        this.step("opening", dir, |disk| disk.create_dir_all(dir))?;
        for file in this.step("listing", dir, |disk| disk.list(dir))? {
            if file.extension().is_some_and(|name| name == "tmp") {
                this.step("clearing", &file, |disk| disk.remove_file(&file))?;
            }
        }
        Ok(this)
    }

    /// Writes a snapshot, durably, and removes all but the newest two. Returns [`SnapshotDir::older`].
    pub fn save(&self, snapshot: &StoredSnapshot) -> Result<Option<u64>, SnapshotFileError> {
        let _step = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(format!("{PREFIX}{:020}", snapshot.index));
        let temporary = path.with_extension("tmp");
        self.step("writing", &path, |disk| {
            let file = disk.open(&temporary, Open::Create)?;
            file.truncate(0)?;
            let head = head(snapshot);
            let crc = crc32c::crc32c(&head);
            let crc = crc32c::crc32c_append(crc, &snapshot.meta);
            let crc = crc32c::crc32c_append(crc, &snapshot.data).to_be_bytes();
            let parts = [&head[..], &snapshot.meta, &snapshot.data, &crc];
            file.write_at(&parts.map(IoSlice::new), 0)?;
            file.sync()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(&self.dir)
        })?;
        let files = self.files()?;
        for old in files.iter().rev().skip(KEEP) {
            self.step("removing", old, |disk| disk.remove_file(old))?;
        }
        self.older()
    }

    /// The newest snapshot that is whole. Damaged ones above it are set aside: they must neither count as
    /// one of the two that are kept, nor hold the log's purge at their index.
    pub fn newest(&self) -> Result<Option<StoredSnapshot>, SnapshotFileError> {
        let _step = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for path in self.files()?.iter().rev() {
            let bytes = self.step("reading", path, |disk| disk.read(path, FILE_BYTES_MAX))?;
            if let Some(snapshot) = decode(Bytes::from(bytes)) {
                return Ok(Some(snapshot));
            }
            let aside = self.dir.join(ASIDE);
            warn!(path = ?path, aside = ?aside, "a snapshot is damaged; trying an older one");
            self.step("setting aside", path, |disk| {
                disk.rename(path, &aside)?;
                disk.sync_dir(&self.dir)
            })?;
        }
        Ok(None)
    }

    /// The last index of the newest snapshot in `dir` that is whole. Changes nothing.
    pub fn newest_whole(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>, SnapshotFileError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SnapshotFileError {
                action,
                path,
                source,
            }
        };
        if !disk.is_dir(dir) {
            return Ok(None);
        }
        let files = disk.list(dir).map_err(failed("listing", dir))?;
        for path in files.iter().rev().filter(|path| index_of(path).is_some()) {
            let bytes = disk.read(path, FILE_BYTES_MAX);
            let bytes = bytes.map_err(failed("reading", path))?;
            if let Some(snapshot) = decode(Bytes::from(bytes)) {
                return Ok(Some(snapshot.index));
            }
        }
        Ok(None)
    }

    /// The last index of the snapshot that is kept in case the newest is damaged. The log after it is
    /// needed; the log before it is not.
    pub fn older(&self) -> Result<Option<u64>, SnapshotFileError> {
        let files = self.files()?;
        let kept = files.iter().rev().take(KEEP).collect::<Vec<_>>();
        Ok(match kept[..] {
            [_, .., oldest] => index_of(oldest),
            _ => None,
        })
    }

    fn files(&self) -> Result<Vec<PathBuf>, SnapshotFileError> {
        let mut files = self.step("listing", &self.dir, |disk| disk.list(&self.dir))?;
        files.retain(|path| index_of(path).is_some());
        Ok(files)
    }

    fn step<T>(
        &self,
        action: &'static str,
        path: &Path,
        work: impl FnOnce(&dyn Disk) -> io::Result<T>,
    ) -> Result<T, SnapshotFileError> {
        work(&*self.disk).map_err(|source| SnapshotFileError {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

/// The index in a snapshot's name; `None` for any other file.
fn index_of(path: &Path) -> Option<u64> {
    let name = path.file_name().and_then(|name| name.to_str())?;
    let number = name.strip_prefix(PREFIX)?;
    let is_number = number.len() == 20 && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten()
}

fn head(snapshot: &StoredSnapshot) -> Vec<u8> {
    let mut head = Vec::with_capacity(24);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&snapshot.index.to_be_bytes());
    head.extend_from_slice(&(snapshot.meta.len() as u64).to_be_bytes());
    head
}

fn decode(bytes: Bytes) -> Option<StoredSnapshot> {
    let body = bytes.len().checked_sub(4)?;
    let crc = u32::from_be_bytes(bytes[body..].try_into().ok()?);
    if body < 24 || &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..body]) != crc {
        return None;
    }
    let index = u64::from_be_bytes(bytes[8..16].try_into().ok()?);
    let meta = usize::try_from(u64::from_be_bytes(bytes[16..24].try_into().ok()?)).ok()?;
    let data_from = meta.checked_add(24).filter(|from| *from <= body)?;
    Some(StoredSnapshot {
        index,
        meta: bytes.slice(24..data_from),
        data: bytes.slice(data_from..body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    fn snapshot(index: u64) -> StoredSnapshot {
        StoredSnapshot {
            index,
            meta: Bytes::from(format!("meta {index}")),
            data: Bytes::from(format!("the state at {index}")),
        }
    }

    #[test]
    fn the_newest_whole_one_is_found_and_two_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let snapshots = SnapshotDir::open(Arc::new(RealDisk), dir.path()).expect("opens");
        assert_eq!(snapshots.newest().expect("readable"), None);
        for index in [5, 700, 80] {
            snapshots.save(&snapshot(index)).expect("written");
        }
        assert_eq!(snapshots.files().expect("listed").len(), 2);
        assert_eq!(snapshots.newest().expect("readable"), Some(snapshot(700)));
        let newest = snapshots.files().expect("listed").pop().expect("two");
        let good = RealDisk.read(&newest, 9999).expect("there");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode(bad.into()), None, "byte {at}");
            assert_eq!(decode(good[..at].to_vec().into()), None, "cut at {at}");
        }
        RealDisk.replace(&newest, &good[1..]).expect("spoiled");
        RealDisk
            .replace(&dir.path().join("snapshot.9.tmp"), b"x")
            .expect("left over");
        let again = SnapshotDir::open(Arc::new(RealDisk), dir.path()).expect("opens");
        assert_eq!(again.older().expect("listed"), Some(80));
        assert_eq!(again.newest().expect("readable"), Some(snapshot(80)));
        // The damaged one is out of the way: the next is kept beside the one that is whole.
        assert_eq!(again.older().expect("listed"), None);
        assert_eq!(again.save(&snapshot(900)).expect("written"), Some(80));
        assert!(RealDisk.exists(&dir.path().join(ASIDE)));
    }
}
