//! A [`Disk`] that notes how long its syncs take.
//!
//! Everything else goes straight through, descriptors for `sendfile` included.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirLock, Disk, DiskFile, Open};
use crate::common::clock::Clock;
use crate::common::metrics::Histogram;

/// Another disk, with its syncs measured.
#[derive(Clone, Debug)]
pub struct TimedDisk {
    disk: Arc<dyn Disk>,
    clock: Clock,
    syncs: Arc<Histogram>,
}

impl TimedDisk {
    /// Measures the syncs of files and directories on `disk`.
    pub fn new(disk: Arc<dyn Disk>, clock: Clock, syncs: Arc<Histogram>) -> TimedDisk {
        TimedDisk { disk, clock, syncs }
    }
}

fn timed(
    clock: &Clock,
    syncs: &Histogram,
    sync: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let began_us = clock.monotonic_us();
    let synced = sync();
    let taken_us = clock.monotonic_us().saturating_sub(began_us);
    syncs.observe_us(u64::try_from(taken_us).unwrap_or(0));
    synced
}

impl Disk for TimedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(TimedFile {
            file: self.disk.open(path, how)?,
            clock: self.clock.clone(),
            syncs: self.syncs.clone(),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.disk.is_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        timed(&self.clock, &self.syncs, || self.disk.sync_dir(dir))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn may_write(&self, dir: &Path) -> io::Result<()> {
        self.disk.may_write(dir)
    }

    fn lock(&self, lock_file: &Path) -> io::Result<Box<dyn DirLock>> {
        self.disk.lock(lock_file)
    }
}

#[derive(Debug)]
struct TimedFile {
    file: Arc<dyn DiskFile>,
    clock: Clock,
    syncs: Arc<Histogram>,
}

impl DiskFile for TimedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(parts, position)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(into, position)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        timed(&self.clock, &self.syncs, || self.file.sync())
    }

    fn as_file(&self) -> Option<&File> {
        self.file.as_file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    #[test]
    fn syncs_are_counted_and_nothing_else_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let syncs = Arc::new(Histogram::default());
        let disk = TimedDisk::new(Arc::new(RealDisk), Clock::real(), syncs.clone());
        let path = dir.path().join("a");
        disk.replace(&path, b"text").expect("replaced");
        assert_eq!(disk.read(&path, 10).expect("reads"), b"text");
        assert_eq!(syncs.count(), 2, "the file and its directory");
        let file = disk.open(&path, Open::Write).expect("opens");
        assert!(file.as_file().is_some());
        file.sync().expect("synced");
        assert_eq!(syncs.count(), 3);
    }
}
