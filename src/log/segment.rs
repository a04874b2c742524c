//! One base offset: the data file and its two indexes.
//!
//! The one invariant: `size` covers whole batches only, and it is published after their bytes are in
//! the file; readers look no further. The log's writer is the only caller of what takes part in
//! writing.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{IoContext, LogError};
use super::index_file::segment_path;
use super::offset_index::{self, OffsetIndex};
use super::reader::{Scan, ScanError};
use super::time_index::{self, TimeIndex, TimestampEntry};
use crate::common::disk::{Disk, DiskFile, Open};
use crate::common::ids::Offset;
use crate::kafka::batch::{BatchHeader, NO_TIMESTAMP};

/// The data file's ending.
pub(super) const LOG_SUFFIX: &str = "log";
/// Put behind the names of files that wait for their removal.
pub(super) const DELETED_SUFFIX: &str = "deleted";

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    base_offset: i64,
    dir: Arc<Path>,
    file: Arc<dyn DiskFile>,
    size: AtomicU64,
    offset_index: OffsetIndex,
    time_index: TimeIndex,
    index_is_bad: AtomicBool,
    state: Mutex<State>,
}

/// How many of the newest batches are remembered: readers at the end of a log mostly ask for one of
/// them.
const NEWEST_MAX: usize = 8;

/// What the writer keeps between appends.
#[derive(Clone, Debug)]
struct State {
    /// The newest batches and where they begin, in their order.
    newest: VecDeque<(u64, BatchHeader)>,
    /// When the segment was made or opened.
    created_ms: i64,
    /// The largest timestamp of the first append; rolling by time counts from it.
    first_timestamp: Option<i64>,
    /// The largest timestamp, and the last offset of the batch that has it.
    max_timestamp: TimestampEntry,
    bytes_since_index_entry: u64,
}

/// What rolling depends on, for one batch that is about to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct RollLimits {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub now_ms: i64,
}

impl Segment {
    /// An empty segment; files of the same name are replaced.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        index_bytes: u32,
        now_ms: i64,
    ) -> Result<Segment, LogError> {
        let path = segment_path(dir, base_offset, LOG_SUFFIX);
        let file = disk
            .open(&path, Open::Create)
            .at(&path, "creating a segment")?;
        file.truncate(0).at(&path, "creating a segment")?;
        let (offset_index, time_index) = Self::create_indexes(disk, dir, base_offset, index_bytes)
            .at(&path, "creating indexes")?;
        Ok(Self::assemble(
            dir,
            base_offset,
            file,
            0,
            offset_index,
            time_index,
            now_ms,
        ))
    }

    /// Opens what is there. `false` beside it: an index is missing or cannot be right, both are empty
    /// now, and [`super::recovery`] must fill them.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        index_bytes: u32,
        now_ms: i64,
    ) -> Result<(Segment, bool), LogError> {
        let path = segment_path(dir, base_offset, LOG_SUFFIX);
        let file = disk
            .open(&path, Open::Write)
            .at(&path, "opening a segment")?;
        let size = file.len().at(&path, "opening a segment")?;
        let opened = OffsetIndex::open(disk, dir, base_offset)
            .and_then(|offsets| Ok(offsets.zip(TimeIndex::open(disk, dir, base_offset)?)))
            .at(&path, "opening indexes")?;
        let intact = opened.is_some();
        let (offset_index, time_index) = match opened {
            Some(indexes) => indexes,
            None => Self::create_indexes(disk, dir, base_offset, index_bytes)
                .at(&path, "creating indexes")?,
        };
        let segment = Self::assemble(
            dir,
            base_offset,
            file,
            size,
            offset_index,
            time_index,
            now_ms,
        );
        let intact = intact && segment.indexes_are_plausible()?;
        if intact {
            let last = segment
                .time_index
                .last()
                .at(&path, "reading the time index")?;
            segment.state().max_timestamp = last;
        }
        Ok((segment, intact))
    }

    fn create_indexes(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        bytes: u32,
    ) -> io::Result<(OffsetIndex, TimeIndex)> {
        Ok((
            OffsetIndex::create(disk, dir, base_offset, bytes)?,
            TimeIndex::create(disk, dir, base_offset, bytes)?,
        ))
    }

    fn assemble(
        dir: &Arc<Path>,
        base_offset: i64,
        file: Arc<dyn DiskFile>,
        size: u64,
        offset_index: OffsetIndex,
        time_index: TimeIndex,
        created_ms: i64,
    ) -> Segment {
        Segment {
            base_offset,
            dir: dir.clone(),
            file,
            size: AtomicU64::new(size),
            offset_index,
            time_index,
            index_is_bad: AtomicBool::new(false),
            state: Mutex::new(State {
                newest: VecDeque::new(),
                created_ms,
                first_timestamp: None,
                max_timestamp: TimestampEntry {
                    timestamp: NO_TIMESTAMP,
                    offset: Offset(base_offset),
                },
                bytes_since_index_entry: 0,
            }),
        }
    }

    /// Do the last entries name batches that are there, and is nothing newer missing? What lies
    /// before them is checked when a search lands on it.
    fn indexes_are_plausible(&self) -> Result<bool, LogError> {
        let path = self.path();
        let size = self.size();
        let last = self.offset_index.last().at(&path, "reading the index")?;
        let position = last.map_or(0, |entry| u64::from(entry.position));
        let times = self.time_index.last().at(&path, "reading the time index")?;
        let mut scan = Scan::new(&*self.file, position.min(size), size);
        let mut first = true;
        loop {
            match scan.next() {
                Ok(Some((_, header))) => {
                    let landed = last.is_none_or(|entry| header.last_offset() == entry.offset);
                    if first && !landed {
                        return Ok(false);
                    }
                    if header.max_timestamp > times.timestamp {
                        return Ok(false);
                    }
                }
                Ok(None) => break,
                // A tail that does not read is recovery's business; it starts with the indexes.
                Err(ScanError::Batch { .. }) => return Ok(false),
                Err(error) => return Err(self.scan_error(error)),
            }
            first = false;
        }
        if first && last.is_some() {
            return Ok(false);
        }
        Ok(times.timestamp == NO_TIMESTAMP || self.batch_of(&times)?.is_some())
    }

    pub(super) fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.base_offset, LOG_SUFFIX)
    }

    pub(super) fn base_offset(&self) -> Offset {
        Offset(self.base_offset)
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest timestamp; the time of creation where no record has one.
    pub(super) fn largest_timestamp(&self) -> i64 {
        let state = self.state();
        if state.max_timestamp.timestamp >= 0 {
            state.max_timestamp.timestamp
        } else {
            state.created_ms
        }
    }

    /// The largest timestamp of a record, or -1.
    pub(super) fn max_timestamp(&self) -> i64 {
        self.state().max_timestamp.timestamp
    }

    pub(super) fn scan_error(&self, error: ScanError) -> LogError {
        match error {
            ScanError::Io { source, .. } => LogError::Io {
                path: self.path(),
                action: "reading batches",
                source,
            },
            ScanError::Batch { position, source } => LogError::Damaged {
                path: self.path(),
                position,
                source,
            },
        }
    }

    // ---- writing -------------------------------------------------------------------------------

    /// Must a new segment be made before this batch? Kafka's `LogSegment.shouldRoll`.
    pub(super) fn should_roll(
        &self,
        limits: RollLimits,
        batch_bytes: u64,
        batch_max_timestamp: i64,
        batch_last_offset: Offset,
    ) -> Result<bool, LogError> {
        let size = self.size();
        if size + batch_bytes > limits.segment_bytes
            || self.offset_index.is_full()
            || self.time_index.is_full()
            || !self.holds(batch_last_offset)
        {
            return Ok(true);
        }
        if size == 0 {
            return Ok(false);
        }
        Ok(self.time_waited(limits.now_ms, batch_max_timestamp)? > limits.segment_ms)
    }

    /// Can the offset be written relative to the base?
    pub(super) fn holds(&self, offset: Offset) -> bool {
        (0..=i64::from(i32::MAX)).contains(&(offset.0.saturating_sub(self.base_offset)))
    }

    fn time_waited(&self, now_ms: i64, timestamp: i64) -> Result<i64, LogError> {
        let mut state = self.state();
        if state.first_timestamp.is_none()
            && let Some((_, header)) = Scan::new(&*self.file, 0, self.size())
                .next()
                .map_err(|error| self.scan_error(error))?
        {
            state.first_timestamp = Some(header.max_timestamp);
        }
        Ok(match state.first_timestamp {
            Some(first) if first >= 0 => timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(state.created_ms),
        })
    }

    /// Writes one batch. After an error the file is as before, or the error says that it is not.
    pub(super) fn append(
        &self,
        parts: &[IoSlice<'_>],
        header: &BatchHeader,
        index_interval_bytes: u32,
    ) -> Result<(), AppendFailed> {
        let position = self.size();
        let failed = |source: io::Error, tail_is_clean| AppendFailed {
            error: LogError::Io {
                path: self.path(),
                action: "appending",
                source,
            },
            tail_is_clean,
        };
        // Everything that may fail comes first; what is left after the data write cannot.
        self.make_index_room().map_err(|error| AppendFailed {
            error,
            tail_is_clean: true,
        })?;
        if let Err(source) = self.file.write_at(parts, position) {
            // Synced, as in `cut`: once the segment is rolled nobody would do it any more.
            let cut = self.file.truncate(position);
            let cut = cut.and_then(|()| self.file.sync()).is_ok();
            return Err(failed(source, cut));
        }
        self.note_batch(position, header, index_interval_bytes);
        self.size
            .store(position + header.size() as u64, Ordering::Release);
        Ok(())
    }

    /// Makes the next [`Segment::note_batch`] free of writes.
    pub(super) fn make_index_room(&self) -> Result<(), LogError> {
        self.offset_index
            .file()
            .make_room()
            .and_then(|()| self.time_index.file().make_room())
            .at(&self.path(), "writing index entries")
    }

    /// Index entries and timestamps for a batch that lies at `position`. Kafka's rule: an entry when
    /// more than the interval was written since the last one.
    pub(super) fn note_batch(&self, position: u64, header: &BatchHeader, interval: u32) {
        let mut state = self.state();
        if state.newest.len() == NEWEST_MAX {
            state.newest.pop_front();
        }
        state.newest.push_back((position, *header));
        if position == 0 {
            state.first_timestamp = Some(header.max_timestamp);
        }
        if header.max_timestamp > state.max_timestamp.timestamp {
            state.max_timestamp = TimestampEntry {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            };
        }
        if state.bytes_since_index_entry > u64::from(interval) {
            // A position fits: segments are at most 2 GiB (`segment.bytes` is an i32 in Kafka).
            self.offset_index
                .push(header.last_offset(), position as u32);
            if let Err(error) = self.time_index.push(state.max_timestamp) {
                tracing::warn!(path = ?self.path(), %error, "an entry of the time index is left out");
            }
            state.bytes_since_index_entry = 0;
        }
        state.bytes_since_index_entry += header.size() as u64;
    }

    /// No more appends: the last entry of the time index is written and both indexes are trimmed.
    pub(super) fn become_inactive(&self) -> Result<(), LogError> {
        let path = self.path();
        let last = self.state().max_timestamp;
        self.time_index
            .push(last)
            .and_then(|()| self.time_index.file().trim())
            .and_then(|()| self.offset_index.file().trim())
            .at(&path, "trimming indexes")
    }

    /// Gives the indexes their full size: this is the active segment.
    pub(super) fn become_active(&self, index_bytes: u32) -> Result<(), LogError> {
        self.offset_index
            .file()
            .resize(index_bytes)
            .and_then(|()| self.time_index.file().resize(index_bytes))
            .at(&self.path(), "sizing indexes")
    }

    /// Data on stable storage; with `whole` the indexes, too.
    pub(super) fn sync(&self, whole: bool) -> Result<(), LogError> {
        let path = self.path();
        self.file.sync().at(&path, "syncing")?;
        if whole {
            self.offset_index
                .file()
                .sync()
                .at(&path, "syncing the index")?;
            self.time_index
                .file()
                .sync()
                .at(&path, "syncing the time index")?;
        }
        Ok(())
    }

    /// Empties the indexes and what is known of timestamps, for a rebuild.
    pub(super) fn reset_indexes(&self, index_bytes: u32, now_ms: i64) -> Result<(), LogError> {
        let path = self.path();
        self.offset_index
            .file()
            .truncate_where(|_| false)
            .and_then(|()| self.time_index.file().truncate_where(|_| false))
            .at(&path, "emptying indexes")?;
        self.become_active(index_bytes)?;
        *self.state() = State {
            newest: VecDeque::new(),
            created_ms: now_ms,
            first_timestamp: None,
            max_timestamp: TimestampEntry {
                timestamp: NO_TIMESTAMP,
                offset: Offset(self.base_offset),
            },
            bytes_since_index_entry: 0,
        };
        Ok(())
    }

    /// Cuts the data file at a batch's beginning. Synced: else a power cut could bring the old tail
    /// back behind what is written next, and it would read as part of the log.
    pub(super) fn cut(&self, position: u64) -> Result<(), LogError> {
        self.state().newest.clear();
        let truncated = self.file.truncate(position);
        truncated
            .and_then(|()| self.file.sync())
            .at(&self.path(), "cutting")?;
        self.size.store(position, Ordering::Release);
        Ok(())
    }

    /// Cuts so that nothing at `offset` or behind is left.
    pub(super) fn truncate_to(&self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        let path = self.path();
        let Some((position, _)) = self.find(offset)? else {
            return Ok(());
        };
        self.offset_index
            .truncate_to(offset)
            .and_then(|()| self.time_index.truncate_to(offset))
            .at(&path, "cutting indexes")?;
        self.cut(position)?;
        let max_timestamp = self.scan_max_timestamp()?;
        let mut state = self.state();
        state.max_timestamp = max_timestamp;
        state.bytes_since_index_entry = 0;
        if position == 0 {
            state.first_timestamp = None;
            state.created_ms = now_ms;
        }
        Ok(())
    }

    /// The largest timestamp, from the time index and the batches behind its last entry.
    fn scan_max_timestamp(&self) -> Result<TimestampEntry, LogError> {
        let path = self.path();
        let mut max = self.time_index.last().at(&path, "reading the time index")?;
        let from = self.start_for(max.offset)?;
        let mut scan = Scan::new(&*self.file, from, self.size());
        while let Some((_, header)) = scan.next().map_err(|error| self.scan_error(error))? {
            if header.max_timestamp > max.timestamp {
                max = TimestampEntry {
                    timestamp: header.max_timestamp,
                    offset: header.last_offset(),
                };
            }
        }
        Ok(max)
    }

    /// Renames the files out of the way; returns their new names.
    pub(super) fn rename_deleted(&self, disk: &dyn Disk) -> Result<Vec<PathBuf>, LogError> {
        let mut renamed = Vec::new();
        for suffix in [LOG_SUFFIX, offset_index::SUFFIX, time_index::SUFFIX] {
            let path = segment_path(&self.dir, self.base_offset, suffix);
            let to = segment_path(
                &self.dir,
                self.base_offset,
                &format!("{suffix}.{DELETED_SUFFIX}"),
            );
            if disk.exists(&path) {
                disk.rename(&path, &to).at(&path, "giving a segment up")?;
                renamed.push(to);
            }
        }
        Ok(renamed)
    }

    // ---- reading -------------------------------------------------------------------------------

    /// A position at or before the batch that contains `offset`; never trusts an entry that does not
    /// match its batch.
    fn start_for(&self, offset: Offset) -> Result<u64, LogError> {
        Ok(self.scan_for(offset)?.position())
    }

    /// A scan that begins there.
    fn scan_for(&self, offset: Offset) -> Result<Scan<'_>, LogError> {
        let path = self.path();
        let entry = self
            .offset_index
            .lookup(offset)
            .at(&path, "reading the index")?;
        let size = self.size();
        let Some(entry) = entry else {
            return Ok(Scan::new(&*self.file, 0, size));
        };
        let position = u64::from(entry.position);
        let mut scan = Scan::new(&*self.file, position.min(size), size);
        match scan.next() {
            Ok(Some((_, header))) if header.last_offset() == entry.offset => scan.restart(position),
            Err(error @ ScanError::Io { .. }) => return Err(self.scan_error(error)),
            _ => {
                if !self.index_is_bad.swap(true, Ordering::Relaxed) {
                    tracing::warn!(?path, ?entry, "the index is wrong; reading without it");
                }
                scan.restart(0);
            }
        }
        Ok(scan)
    }

    /// The batch that contains `offset`, if it is one of the newest.
    fn newest(&self, offset: Offset) -> Option<(u64, BatchHeader)> {
        let size = self.size();
        let state = self.state();
        let mut newest = state.newest.iter().rev();
        // The last one may be on its way into the file; it counts when the size covers it.
        newest
            .find(|(_, header)| header.base_offset <= offset)
            .filter(|(position, header)| {
                offset <= header.last_offset() && position + header.size() as u64 <= size
            })
            .copied()
    }

    /// The offset behind the last record. Reads the headers behind the last index entry.
    pub(super) fn next_offset(&self) -> Result<Offset, LogError> {
        let mut end = Offset(self.base_offset);
        let mut scan = self.scan_for(Offset(i64::MAX))?;
        while let Some((_, header)) = scan.next().map_err(|error| self.scan_error(error))? {
            end = header.next_offset();
        }
        Ok(end)
    }

    /// The first batch that ends at `offset` or behind: where it begins, and its header.
    pub(super) fn find(&self, offset: Offset) -> Result<Option<(u64, BatchHeader)>, LogError> {
        if let Some(found) = self.newest(offset) {
            return Ok(Some(found));
        }
        let mut scan = self.scan_for(offset)?;
        while let Some((position, header)) = scan.next().map_err(|error| self.scan_error(error))? {
            if header.last_offset() >= offset {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Where the last batch ends that begins at `from` or behind, ends at `limit` at most, and lies
    /// wholly below `upper`. `from` is where a batch begins.
    pub(super) fn end_of_batches(
        &self,
        from: u64,
        limit: u64,
        upper: Offset,
    ) -> Result<u64, LogError> {
        let path = self.path();
        let mut start = from;
        let position = u32::try_from(limit.saturating_sub(1)).unwrap_or(u32::MAX);
        let near_limit = self
            .offset_index
            .lookup_position(position)
            .at(&path, "reading the index")?;
        // An entry serves if its batch is in the range; the batch itself is looked at again below.
        if let Some(entry) = near_limit
            && u64::from(entry.position) > start
        {
            if entry.offset < upper {
                start = self.start_for(entry.offset)?.max(start);
            } else {
                start = self
                    .start_for(Offset(upper.0.saturating_sub(1)))?
                    .max(start);
            }
        }
        let mut end = start;
        let mut scan = Scan::new(&*self.file, start, self.size());
        while let Some((_, header)) = scan.next().map_err(|error| self.scan_error(error))? {
            if scan.position() > limit || header.last_offset() >= upper {
                break;
            }
            end = scan.position();
        }
        Ok(end)
    }

    /// The batch that a time index entry names, if the entry is right.
    fn batch_of(&self, entry: &TimestampEntry) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let found = match self.find(entry.offset) {
            Ok(found) => found,
            Err(LogError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(found.filter(|(_, header)| {
            // Kafka's leaders name the record itself where they saw it, and the batch's last offset
            // where they did not (compressed batches, recovery).
            header.base_offset <= entry.offset && header.max_timestamp == entry.timestamp
        }))
    }

    /// The first batch at `from` or behind with a timestamp of `timestamp` or later in it.
    pub(super) fn find_timestamp(
        &self,
        timestamp: i64,
        from: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let path = self.path();
        let entry = self
            .time_index
            .lookup(timestamp)
            .at(&path, "reading the time index")?;
        let trusted = match entry {
            Some(entry) if self.batch_of(&entry)?.is_some() => entry.offset,
            _ => Offset(self.base_offset),
        };
        let mut scan = Scan::new(&*self.file, self.start_for(trusted.max(from))?, self.size());
        while let Some((position, header)) = scan.next().map_err(|error| self.scan_error(error))? {
            if header.max_timestamp >= timestamp && header.last_offset() >= from {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }
}

/// An append that failed.
#[derive(Debug)]
pub(super) struct AppendFailed {
    pub error: LogError,
    /// Nothing of the batch is left in the file.
    pub tail_is_clean: bool,
}
