//! The disk seam: what the log engine and the coordinator need of a file system, and no more.
//!
//! Two implementations: [`real`] on the operating system, and [`sim`] in memory, which loses or tears
//! unsynced writes when told to crash. All calls block; callers on async threads know which ones may
//! take long (sync, directory walks) and move those away with [`crate::common::tasks::blocking`].

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod real;
pub mod sim;
pub mod timed;

/// How a file is opened. Files are always readable; there is one writer by convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The file must exist; reading only.
    Read,
    /// The file must exist; reading and writing.
    Write,
    /// Created when missing; reading and writing.
    Create,
    /// Must not exist yet; reading and writing.
    CreateNew,
}

/// Has the process, or the system, as many open files as it may? This passes by itself.
pub fn is_out_of_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let code = error.downcast_ref::<io::Error>();
        let code = code.and_then(io::Error::raw_os_error);
        if code.is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a person can do about an error that is the state of the disk or a limit, and no damage of ours.
pub fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>();
        let advice = found.and_then(|found| advice_on(found.kind()));
        if advice.is_some() {
            return advice;
        }
        cause = error.source();
    }
    is_out_of_descriptors(error)
        .then_some("too many files are open: raise the limit (ulimit -n, LimitNOFILE)")
}

fn advice_on(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull => {
            Some("the disk is full: free some space there; what is on it is kept, do not remove it")
        }
        io::ErrorKind::QuotaExceeded => {
            Some("the disk quota is used up: raise it; what is there is kept, do not remove it")
        }
        io::ErrorKind::FileTooLarge => {
            Some("files may not grow further: raise the limit (ulimit -f, LimitFSIZE)")
        }
        io::ErrorKind::OutOfMemory => Some(
            "memory, address space or threads have run out: raise the limit (ulimit -v, ulimit -u, a control group's)",
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("the file system is mounted read-only: the kernel's log may say why")
        }
        _ => None,
    }
}

/// An error with its causes on one line, and what can be done about it where that is known.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors already say what their cause says.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    match advice(error) {
        Some(advice) if !text.contains(advice) => format!("{text}; {advice}"),
        _ => text,
    }
}

const OUT_OF_DESCRIPTORS: [i32; 2] = [
    rustix::io::Errno::MFILE.raw_os_error(),
    rustix::io::Errno::NFILE.raw_os_error(),
];

/// A file system, seen from one process.
pub trait Disk: Debug + Send + Sync {
    /// Opens one file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory and its parents; fine if it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Full paths of a directory's entries, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Is there a file or directory?
    fn exists(&self, path: &Path) -> bool;
    /// Is it a directory?
    fn is_dir(&self, path: &Path) -> bool;
    /// Renames a file or directory, replacing a file that is in the way.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Fails where nothing can be made in `dir`. Only asks; changes nothing.
    fn may_write(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Takes the exclusive lock of a directory by its lock file, for as long as the guard lives.
    fn lock(&self, lock_file: &Path) -> io::Result<Box<dyn DirLock>>;

    /// A small file, whole. Refuses files above `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let len = file.len()?;
        if len > limit {
            let text = format!("{} has {len} bytes, more than {limit}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a small file so that a crash leaves the old or the new content, never a mix:
    /// temporary file, sync, rename, sync of the directory. Where that fails, no temporary file stays.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        let write = || {
            let file = self.open(&temporary, Open::Create)?;
            file.truncate(0)?;
            file.write_at(&[IoSlice::new(bytes)], 0)?;
            file.sync()?;
            self.rename(&temporary, path)
        };
        if let Err(error) = write() {
            // On a full disk its name already takes room; what went wrong first is what counts.
            let _ = self.remove_file(&temporary);
            return Err(error);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }
}

/// An open file. Positions are explicit, so readers and the writer share one handle.
pub trait DiskFile: Debug + Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Is there nothing in the file?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Writes all of `parts`, one after the other, at `position`. May leave a part written on error.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Reads up to `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize>;
    /// Cuts the file, or extends it with zeros.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Data and length on stable storage when this returns. After an error the content is unknown.
    fn sync(&self) -> io::Result<()>;
    /// The descriptor for `sendfile`, where there is one.
    fn as_file(&self) -> Option<&File> {
        None
    }

    /// Reads exactly `into.len()` bytes or fails with `UnexpectedEof`.
    fn read_exact_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.read_at(&mut into[done..], position + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
}

/// Held while a directory is ours.
pub trait DirLock: Debug + Send + Sync {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("writing /d")]
    struct Writing(#[source] io::Error);

    #[test]
    fn an_error_says_its_cause_and_what_to_do() {
        use rustix::io::Errno;
        for (code, cause, advice) in [
            (Errno::NOSPC, "No space left on device", "free some space"),
            (Errno::DQUOT, "Disk quota exceeded", "quota"),
            (Errno::FBIG, "File too large", "ulimit -f"),
            (Errno::ROFS, "Read-only file system", "read-only"),
            (Errno::MFILE, "Too many open files", "ulimit -n"),
            (Errno::NFILE, "Too many open files", "ulimit -n"),
        ] {
            let text = told(&Writing(code.into()));
            assert!(
                text.starts_with(&format!("writing /d: {cause}")) && text.contains(advice),
                "{text}"
            );
        }
        let text = told(&Writing(Errno::IO.into()));
        assert_eq!(text, "writing /d: Input/output error (os error 5)");
    }
}
