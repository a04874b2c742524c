//! A file of fixed-size entries, as both indexes are: appended at the end, searched by reading single
//! entries, never mapped and never loaded whole.
//!
//! The newest entries wait in memory and are written some dozens at a time: after an unclean stop the
//! active segment's indexes are rebuilt anyway. Between uses no descriptor is held, so that an idle
//! log costs little.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::disk::{Disk, DiskFile, Open};

/// Entries that wait in memory at most.
const PENDING_MAX: usize = 64;

/// An index file with entries of `N` bytes. An entry of zeros is an unused slot.
#[derive(Debug)]
pub(super) struct IndexFile<const N: usize> {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    base_offset: i64,
    suffix: &'static str,
    state: Mutex<State<N>>,
}

#[derive(Debug)]
struct State<const N: usize> {
    file: Option<Arc<dyn DiskFile>>,
    /// Entries in the file.
    written: u64,
    /// Slots of the file.
    capacity: u64,
    /// Entries behind those in the file.
    pending: Vec<[u8; N]>,
}

/// The name of a segment's file.
pub(super) fn segment_path(dir: &Path, base_offset: i64, suffix: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{suffix}"))
}

impl<const N: usize> IndexFile<N> {
    /// An empty index of `bytes` zeros, rounded down to whole entries. Replaces what is there.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        suffix: &'static str,
        bytes: u32,
    ) -> io::Result<Self> {
        let index = Self::unopened(disk, dir, base_offset, suffix);
        {
            let mut state = index.state();
            let file = disk.open(&index.path(), Open::Create)?;
            file.truncate(0)?;
            state.file = Some(file);
            state.resize(u64::from(bytes) / N as u64)?;
            state.file = None;
        }
        Ok(index)
    }

    /// Opens an index; `None` when it is missing or its length is not that of whole entries.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        suffix: &'static str,
    ) -> io::Result<Option<Self>> {
        let index = Self::unopened(disk, dir, base_offset, suffix);
        let path = index.path();
        if !disk.exists(&path) {
            return Ok(None);
        }
        let file = disk.open(&path, Open::Write)?;
        let len = file.len()?;
        if len % N as u64 != 0 {
            return Ok(None);
        }
        {
            let mut state = index.state();
            state.capacity = len / N as u64;
            state.written = state.capacity;
            state.file = Some(file);
            // Slots behind the last entry are zeros: find the first of them.
            if state.written > 0 && state.get(state.written - 1)? == [0; N] {
                state.written = state.partition_point(|entry| *entry != [0; N])?;
            }
            state.file = None;
        }
        Ok(Some(index))
    }

    fn unopened(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        suffix: &'static str,
    ) -> Self {
        IndexFile {
            disk: disk.clone(),
            dir: dir.clone(),
            base_offset,
            suffix,
            state: Mutex::new(State {
                file: None,
                written: 0,
                capacity: 0,
                pending: Vec::new(),
            }),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.base_offset, self.suffix)
    }

    fn state(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with its file open.
    fn opened(&self) -> io::Result<MutexGuard<'_, State<N>>> {
        let mut state = self.state();
        if state.file.is_none() {
            state.file = Some(self.disk.open(&self.path(), Open::Write)?);
        }
        Ok(state)
    }

    /// Slots that are left.
    pub(super) fn room(&self) -> u64 {
        let state = self.state();
        state.capacity.saturating_sub(state.len())
    }

    /// The last entry.
    pub(super) fn last(&self) -> io::Result<Option<[u8; N]>> {
        let state = self.state();
        if let Some(last) = state.pending.last() {
            return Ok(Some(*last));
        }
        if state.written == 0 {
            return Ok(None);
        }
        drop(state);
        let state = self.opened()?;
        state.get(state.written - 1).map(Some)
    }

    /// The last of the leading entries that satisfy `holds`.
    pub(super) fn last_where(
        &self,
        holds: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<[u8; N]>> {
        let state = self.state();
        // Readers at the tail are served from memory.
        if let Some(first) = state.pending.first()
            && holds(first)
        {
            let count = state.pending.partition_point(&holds);
            return Ok(state.pending.get(count - 1).copied());
        }
        if state.written == 0 {
            return Ok(None);
        }
        drop(state);
        let state = self.opened()?;
        match state.partition_point(&holds)? {
            0 => Ok(None),
            count => state.get(count - 1).map(Some),
        }
    }

    /// Writes waiting entries if their number calls for it, so that the next [`IndexFile::push`]
    /// cannot fail.
    pub(super) fn make_room(&self) -> io::Result<()> {
        if self.state().pending.len() < PENDING_MAX {
            return Ok(());
        }
        self.opened()?.spill()
    }

    /// Appends an entry.
    pub(super) fn push(&self, entry: [u8; N]) {
        self.state().pending.push(entry);
    }

    /// Writes all entries and gives back the slots that are not used.
    pub(super) fn trim(&self) -> io::Result<()> {
        let mut state = self.opened()?;
        state.spill()?;
        let used = state.written;
        if state.capacity != used {
            state.resize(used)?;
        }
        state.file = None;
        Ok(())
    }

    /// Makes the file `bytes` long, at least what is used.
    pub(super) fn resize(&self, bytes: u32) -> io::Result<()> {
        let mut state = self.opened()?;
        state.spill()?;
        let slots = (u64::from(bytes) / N as u64).max(state.written);
        state.resize(slots)?;
        state.file = None;
        Ok(())
    }

    /// Keeps the leading entries that satisfy `keep`; the slots stay.
    pub(super) fn truncate_where(&self, keep: impl Fn(&[u8; N]) -> bool) -> io::Result<()> {
        let mut state = self.opened()?;
        state.spill()?;
        let kept = state.partition_point(keep)?;
        let slots = state.capacity;
        state.written = kept;
        // Cut and extend again: that zeroes the slots given up.
        state.resize(kept)?;
        state.resize(slots)
    }

    /// Syncs the file.
    pub(super) fn sync(&self) -> io::Result<()> {
        let file = {
            let mut state = self.opened()?;
            state.spill()?;
            state.file.take()
        };
        file.map_or(Ok(()), |file| file.sync())
    }
}

impl<const N: usize> State<N> {
    fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn file(&self) -> io::Result<&Arc<dyn DiskFile>> {
        self.file
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn get(&self, slot: u64) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        self.file()?.read_exact_at(&mut entry, slot * N as u64)?;
        Ok(entry)
    }

    /// How many leading entries of the file satisfy `holds`.
    fn partition_point(&self, holds: impl Fn(&[u8; N]) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.written);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = self.pending.as_flattened();
        self.file()?
            .write_at(&[IoSlice::new(bytes)], self.written * N as u64)?;
        self.written += self.pending.len() as u64;
        self.capacity = self.capacity.max(self.written);
        self.pending.clear();
        Ok(())
    }

    fn resize(&mut self, slots: u64) -> io::Result<()> {
        self.file()?.truncate(slots * N as u64)?;
        self.capacity = slots;
        Ok(())
    }
}
