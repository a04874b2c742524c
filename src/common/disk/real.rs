//! [`Disk`] on the operating system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{DirLock, Disk, DiskFile, Open};

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock(#[allow(dead_code, reason = "the lock lives as long as the descriptor")] File);

impl DirLock for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(how != Open::Read);
        match how {
            Open::Read | Open::Write => {}
            Open::Create => {
                options.create(true);
            }
            Open::CreateNew => {
                options.create_new(true);
            }
        }
        let file = options.open(path).map_err(|error| with_path(error, path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(|error| with_path(error, path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(dir).map_err(|error| with_path(error, dir))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|error| with_path(error, from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|error| with_path(error, path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path).map_err(|error| with_path(error, path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| with_path(error, dir))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn may_write(&self, dir: &Path) -> io::Result<()> {
        let is_dir = fs::metadata(dir).map_err(|error| with_path(error, dir))?;
        if !is_dir.is_dir() {
            return Err(with_path(io::ErrorKind::NotADirectory.into(), dir));
        }
        // As the effective user, as every other call here.
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        let allowed = accessat(CWD, dir, wanted, AtFlags::EACCESS);
        allowed.map_err(|error| with_path(error.into(), dir))
    }

    fn lock(&self, lock_file: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_file)
            .map_err(|error| with_path(error, lock_file))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is locked by another process", lock_file.display()),
            )),
            Err(fs::TryLockError::Error(error)) => Err(with_path(error, lock_file)),
        }
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut at = position;
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut written = rustix::io::pwritev(&self.0, parts, at)?;
        if written == total {
            return Ok(());
        }
        // A short write (a signal, a full disk): go on part by part, so that the true error shows.
        at += written as u64;
        for part in parts {
            let skip = written.min(part.len());
            written -= skip;
            self.0.write_all_at(&part[skip..], at)?;
            at += (part.len() - skip) as u64;
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(into, position)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.0)
    }
}

/// The same kind of error, with the path in its text.
fn with_path(error: io::Error, path: &Path) -> io::Error {
    let path = path.to_owned();
    io::Error::new(error.kind(), OfPath { path, error })
}

/// Keeps the system's own error below the path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
struct OfPath {
    path: PathBuf,
    #[source]
    error: io::Error,
}
