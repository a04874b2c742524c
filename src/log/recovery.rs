//! Opens a directory: after a clean stop by looking at the ends, after a crash by reading again.
//!
//! From the segment of the recovery point on, every batch is read and its checksum compared; the log is
//! cut at the first one that is bad, and what lies behind goes. Indexes, epochs and producers come from
//! the batches where their files are missing or wrong. Doing it twice changes nothing.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{IoContext, LogError};
use super::index_file::segment_path;
use super::leader_epoch::{self, LeaderEpochs};
use super::log::Start;
use super::offset_index::OffsetIndex;
use super::options::Options;
use super::producer_state::{ProducerState, SNAPSHOT_SUFFIX};
use super::reader::{Scan, ScanError};
use super::segment::{DELETED_SUFFIX, LOG_SUFFIX, Segment};
use crate::common::disk::{Disk, DiskFile, Open};
use crate::common::ids::Offset;
use crate::kafka::batch::{BatchError, BatchHeader, HEADER_BYTES};

/// Snapshots and epoch files above this are damaged for sure.
const SMALL_FILE_MAX: u64 = 64 << 20;
/// Bytes of payload that are in memory at once while checksums are compared.
const READ_BYTES: usize = 128 << 10;

/// An empty file that says that a sync failed here. It is not synced, and need not be: what it warns of
/// is in the page cache, as it is itself, and a reboot takes both.
pub(super) const SYNC_FAILED: &str = "sync-failed";

/// An opened directory.
#[derive(Debug)]
pub(super) struct Recovered {
    /// At least one; the last is the active one.
    pub segments: Vec<Arc<Segment>>,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
    pub recovery_point: Offset,
    pub epochs: LeaderEpochs,
    pub producers: ProducerState,
    /// What was there and is not any more.
    pub lost: Option<Lost>,
    /// A log start offset that cannot be, and was not followed.
    pub ignored_start: Option<Offset>,
}

/// Records that were in a log and are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many offsets.
    pub offsets: i64,
    /// How many bytes, where they were still there.
    pub bytes: Option<u64>,
    /// What became of them.
    pub reason: &'static str,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lost {
            offsets, reason, ..
        } = self;
        match self.bytes {
            Some(bytes) => write!(f, "{offsets} offsets, {bytes} bytes: {reason}"),
            None => write!(f, "{offsets} offsets: {reason}"),
        }
    }
}

/// What was found in a directory.
#[derive(Debug, Default)]
struct Found {
    segments: Vec<i64>,
    snapshots: Vec<i64>,
    /// Indexes without a log; where one was given up on purpose, its name is still there.
    orphans: Vec<i64>,
    given_up: Vec<i64>,
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Arc<Path>,
    options: &'a Options,
    now_ms: i64,
}

/// Opens `dir`, which exists, and brings it into order.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Arc<Path>,
    options: &Options,
    start: Start,
    now_ms: i64,
) -> Result<Recovered, LogError> {
    let recovery = Recovery {
        disk,
        dir,
        options,
        now_ms,
    };
    let found = recovery.look_around()?;
    let sync_failed = disk.exists(&dir.join(SYNC_FAILED));
    let clean = start.clean && !sync_failed;
    let start = Start { clean, ..start };
    if sync_failed {
        recovery.rewrite(&found, start)?;
    }
    let mut lost = recovery.missing(&found, start)?;
    let mut segments = recovery.open_segments(&found, start, &mut lost)?;
    let mut log_end_offset = match segments.last() {
        Some((_, end)) => *end,
        None => start.log_start_offset,
    };
    let ignored_start = recovery.ignored_start(start, segments.last().map(|(_, end)| *end));
    let mut log_start_offset = ignored_start.map_or(start.log_start_offset, |_| Offset(0));
    if log_end_offset < log_start_offset {
        // Kafka does the same: what was deleted may not come back, and offsets are not used again.
        tracing::warn!(?dir, %log_end_offset, %log_start_offset, "the log ends before its start; emptied");
        for (segment, _) in segments.drain(..) {
            recovery.remove_now(&segment)?;
        }
        log_end_offset = log_start_offset;
    }
    if segments.is_empty() {
        let active = recovery.begin_at(log_start_offset)?;
        segments.push((Arc::new(active), log_start_offset));
    }
    let segments: Vec<Arc<Segment>> = segments.into_iter().map(|(segment, _)| segment).collect();
    if let Some(first) = segments.first() {
        log_start_offset = log_start_offset.max(first.base_offset());
    }
    if let Some(active) = segments.last() {
        active.become_active(options.segment_index_bytes)?;
    }
    let epochs = recovery.epochs(&segments, (log_start_offset, log_end_offset), sync_failed)?;
    let producers = recovery.producers(&found, &segments, log_start_offset, log_end_offset)?;
    recovery.settle(sync_failed, start.clean)?;
    // Recovery has read everything, but it has not synced it.
    let recovery_point = if start.clean {
        log_end_offset
    } else {
        start.recovery_point.clamp(log_start_offset, log_end_offset)
    };
    Ok(Recovered {
        segments,
        log_start_offset,
        log_end_offset,
        recovery_point,
        epochs,
        producers,
        lost,
        ignored_start,
    })
}

impl Recovery<'_> {
    /// The log start offset, where it cannot be. Deletion raises the recovery point with the start, so that
    /// one beyond both the log and that is no trace of it: the checkpoint is damaged. What reads well is
    /// not removed for that, though Kafka does.
    fn ignored_start(&self, start: Start, end: Option<Offset>) -> Option<Offset> {
        let (end, log_start_offset) = (end?, start.log_start_offset);
        if log_start_offset <= end.max(start.recovery_point) {
            return None;
        }
        tracing::error!(
            dir = ?self.dir, log_end_offset = %end, %log_start_offset, recovery_point = %start.recovery_point,
            "the checkpoint's log start offset lies beyond the log; it is ignored, and the records are kept"
        );
        Some(log_start_offset)
    }

    /// Ends the recovery: what was removed must stay away, before anything new is written beside it.
    fn settle(&self, sync_failed: bool, clean: bool) -> Result<(), LogError> {
        if sync_failed {
            let marker = self.dir.join(SYNC_FAILED);
            self.disk.remove_file(&marker).at(&marker, "removing")?;
        }
        if !clean {
            self.disk.sync_dir(self.dir).at(self.dir, "syncing")?;
        }
        Ok(())
    }

    /// The first segment of an empty log.
    fn begin_at(&self, offset: Offset) -> Result<Segment, LogError> {
        let index_bytes = self.options.segment_index_bytes;
        Segment::create(self.disk, self.dir, offset.0, index_bytes, self.now_ms)
    }

    /// Sorts the files by what they are and removes leftovers.
    fn look_around(&self) -> Result<Found, LogError> {
        let mut found = Found::default();
        let mut others: Vec<(PathBuf, i64)> = Vec::new();
        for path in self.disk.list(self.dir).at(self.dir, "listing")? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if name.ends_with(".swap") {
                return Err(LogError::Closed {
                    path: path.clone(),
                    reason: "a compaction by Kafka was interrupted here; start Kafka once to finish it",
                });
            }
            if let Some(number) = name.strip_suffix(".log.deleted") {
                found.given_up.extend(base_offset_of(number));
            }
            if name.ends_with(DELETED_SUFFIX)
                || name.ends_with(".cleaned")
                || name.ends_with(".tmp")
            {
                self.disk
                    .remove_file(&path)
                    .at(&path, "removing a leftover")?;
                continue;
            }
            let Some((number, suffix)) = name.split_once('.') else {
                continue;
            };
            let Some(offset) = base_offset_of(number) else {
                continue;
            };
            match suffix {
                LOG_SUFFIX => found.segments.push(offset),
                SNAPSHOT_SUFFIX => found.snapshots.push(offset),
                "index" | "timeindex" | "txnindex" => others.push((path.clone(), offset)),
                _ => {}
            }
        }
        found.segments.sort_unstable();
        found.snapshots.sort_unstable();
        for (path, offset) in others {
            if found.segments.binary_search(&offset).is_err() {
                self.disk
                    .remove_file(&path)
                    .at(&path, "removing an orphan")?;
                found.orphans.push(offset);
            }
        }
        Ok(found)
    }

    /// Writes again, as it reads, what was not known to be synced when a sync failed. The kernel counts
    /// those pages as written, so that no later sync would write them, and a power cut would take them
    /// from below a recovery point.
    fn rewrite(&self, found: &Found, start: Start) -> Result<(), LogError> {
        let bases = &found.segments;
        let mut buffer = Vec::new();
        for (at, &base) in bases.iter().enumerate() {
            let next = bases.get(at + 1);
            if next.is_some_and(|next| Offset(*next) <= start.recovery_point) {
                continue;
            }
            let path = segment_path(self.dir, base, LOG_SUFFIX);
            tracing::warn!(
                ?path,
                "a sync failed before the restart: the segment is written again"
            );
            let file = self.disk.open(&path, Open::Write).at(&path, "opening")?;
            let size = file.len().at(&path, "opening")?;
            let mut position = 0;
            while position < size {
                let len = usize::try_from(size - position);
                buffer.resize(len.map_or(READ_BYTES, |left| left.min(READ_BYTES)), 0);
                file.read_exact_at(&mut buffer, position)
                    .and_then(|()| file.write_at(&[IoSlice::new(&buffer)], position))
                    .at(&path, "writing again")?;
                position += buffer.len() as u64;
            }
            file.sync().at(&path, "syncing")?;
        }
        Ok(())
    }

    /// Segments that somebody removed or emptied: their indexes are there, or name batches.
    fn missing(&self, found: &Found, start: Start) -> Result<Option<Lost>, LogError> {
        let bases = &found.segments;
        let next_of = |base: i64| bases.iter().find(|next| **next > base).copied();
        let given_up = |base: &i64| found.given_up.contains(base);
        let removed = found.orphans.iter().find(|base| !given_up(base));
        if let Some(&base) = removed
            && let Some(next) = next_of(base).map(Offset)
        {
            let from = start.log_start_offset.max(Offset(base));
            if from < next {
                return Ok(Some(Lost {
                    offsets: next - from,
                    bytes: None,
                    reason: "the segment before was removed",
                }));
            }
        }
        if !self.first_is_emptied(found)? {
            return Ok(None);
        }
        let base = bases.first().copied().unwrap_or_default();
        let end = next_of(base).map_or(start.recovery_point, Offset);
        Ok(Some(Lost {
            offsets: (end - start.log_start_offset.max(Offset(base))).max(0),
            bytes: None,
            reason: "its first segment was emptied",
        }))
    }

    /// Is the first segment empty, and does its index name batches?
    fn first_is_emptied(&self, found: &Found) -> Result<bool, LogError> {
        let Some(&base) = found.segments.first() else {
            return Ok(false);
        };
        let path = segment_path(self.dir, base, LOG_SUFFIX);
        let file = self.disk.open(&path, Open::Write).at(&path, "opening")?;
        if file.len().at(&path, "opening")? > 0 {
            return Ok(false);
        }
        let index = OffsetIndex::open(self.disk, self.dir, base);
        let last = index.and_then(|index| index.map_or(Ok(None), |index| index.last()));
        Ok(last.at(&path, "reading the index")?.is_some())
    }

    /// Opens all segments, each with the offset behind its last record.
    fn open_segments(
        &self,
        found: &Found,
        start: Start,
        lost: &mut Option<Lost>,
    ) -> Result<Vec<(Arc<Segment>, Offset)>, LogError> {
        let mut opened = Vec::with_capacity(found.segments.len());
        let bases = &found.segments;
        let index_bytes = self.options.segment_index_bytes;
        for (at, &base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).map(|next| Offset(*next));
            let (segment, intact) =
                Segment::open(self.disk, self.dir, base, index_bytes, self.now_ms)?;
            let emptied = segment.size() == 0 && !self.options.compact;
            if let Some(next) = next.filter(|next| emptied && *next > start.log_start_offset) {
                lost.get_or_insert(Lost {
                    offsets: next - start.log_start_offset.max(Offset(base)),
                    bytes: None,
                    reason: "a segment was emptied",
                });
            }
            let suspect = !start.clean && next.is_none_or(|next| next > start.recovery_point);
            if !suspect
                && intact
                && let Some(end) = self.known_end(&segment, next)?
            {
                opened.push((Arc::new(segment), end));
                continue;
            }
            let size = segment.size();
            // The end of the log may be cut even after a clean stop; what was synced may not.
            let end = self.read_again(&segment, next, suspect || next.is_none())?;
            // A power cut may take the unsynced end of a rolled segment and leave its successor.
            let hole = suspect && !self.options.compact && next.is_some_and(|next| end < next);
            let cut = segment.size() < size || hole;
            if next.is_some() && !cut {
                segment.become_inactive()?;
            }
            opened.push((Arc::new(segment), end));
            if cut {
                let cut_bytes =
                    size.saturating_sub(opened.last().map_or(0, |(last, _)| last.size()));
                if let Some(dropped) = self.drop_behind(&bases[at + 1..], end, cut_bytes)? {
                    *lost = Some(dropped);
                }
                break;
            }
        }
        Ok(opened)
    }

    /// Removes the segments behind a cut at `end`, as Kafka does, and says what goes with them.
    fn drop_behind(
        &self,
        bases: &[i64],
        end: Offset,
        cut_bytes: u64,
    ) -> Result<Option<Lost>, LogError> {
        let (mut old_end, mut bytes) = (end, cut_bytes);
        let index_bytes = self.options.segment_index_bytes;
        for &base in bases {
            let (segment, _) = Segment::open(self.disk, self.dir, base, index_bytes, self.now_ms)?;
            // Of one that does not read to its end, at least where it begins is known.
            let known = segment.next_offset().unwrap_or(Offset(base));
            old_end = old_end.max(known);
            bytes += segment.size();
            self.remove_now(&segment)?;
        }
        Ok((!bases.is_empty()).then(|| Lost {
            offsets: old_end - end,
            bytes: Some(bytes),
            reason: "a segment that was not synced is damaged, and what lay behind was dropped",
        }))
    }

    /// Where a sound segment ends; `None` if its last batches do not read.
    fn known_end(
        &self,
        segment: &Segment,
        next: Option<Offset>,
    ) -> Result<Option<Offset>, LogError> {
        if next.is_some() {
            return Ok(next);
        }
        match segment.next_offset() {
            Ok(end) => Ok(Some(end)),
            Err(LogError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all batches of a segment and rebuilds its indexes. With `may_cut` checksums are compared,
    /// too, and the segment is cut behind the last good batch; without, damage is an error: these
    /// records were synced, and dropping them would lose what lies behind.
    fn read_again(
        &self,
        segment: &Segment,
        next: Option<Offset>,
        may_cut: bool,
    ) -> Result<Offset, LogError> {
        segment.reset_indexes(self.options.segment_index_bytes, self.now_ms)?;
        let size = segment.size();
        let mut scan = Scan::new(&**segment.file(), 0, size);
        let mut end = segment.base_offset();
        let damage = loop {
            let position = scan.position();
            let (_, header) = match scan.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(end),
                Err(ScanError::Batch { source, .. }) => break (position, source),
                Err(error) => return Err(segment.scan_error(error)),
            };
            let overlaps = next.is_some_and(|next| header.last_offset() >= next);
            if header.base_offset < end || overlaps || !segment.holds(header.last_offset()) {
                let source = BatchError::Offsets {
                    base_offset: header.base_offset,
                    last_offset_delta: header.last_offset_delta,
                };
                break (position, source);
            }
            if may_cut {
                let computed = checksum(&**segment.file(), position, &header)
                    .at(&segment.path(), "comparing checksums")?;
                if computed != header.crc {
                    let stored = header.crc;
                    break (position, BatchError::Checksum { stored, computed });
                }
            }
            segment.make_index_room()?;
            segment.note_batch(position, &header, self.options.index_interval_bytes);
            end = header.next_offset();
        };
        let (position, source) = damage;
        if !may_cut {
            return Err(LogError::Damaged {
                path: segment.path(),
                position,
                source,
            });
        }
        tracing::warn!(
            path = ?segment.path(), position, lost_bytes = size - position, reason = %source,
            "the segment is cut behind its last good batch"
        );
        segment.cut(position)?;
        Ok(end)
    }

    /// Removes a segment's files at once; nobody reads them yet.
    fn remove_now(&self, segment: &Segment) -> Result<(), LogError> {
        for path in segment.rename_deleted(&**self.disk)? {
            self.disk.remove_file(&path).at(&path, "removing")?;
        }
        Ok(())
    }

    /// The epochs: from their file, and what it lacks from the batches. `rewrite` doubts the file.
    fn epochs(
        &self,
        segments: &[Arc<Segment>],
        (log_start_offset, log_end_offset): (Offset, Offset),
        rewrite: bool,
    ) -> Result<LeaderEpochs, LogError> {
        let path = self.dir.join(leader_epoch::FILE);
        let from_file = if self.disk.exists(&path) {
            let bytes = self.disk.read(&path, SMALL_FILE_MAX).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.as_deref().and_then(LeaderEpochs::decode)
        } else {
            None
        };
        let mut epochs = from_file.clone().unwrap_or_default();
        epochs.truncate_end(log_end_offset);
        // With a file, only its newest entries can be missing: those of the active segment.
        let from = match (&from_file, segments.last()) {
            (Some(_), Some(active)) => active.base_offset(),
            _ => log_start_offset,
        };
        replay(segments, from, log_end_offset, |header| {
            epochs.assign(header.partition_leader_epoch, header.base_offset);
        })?;
        epochs.truncate_start(log_start_offset);
        let differs = rewrite || from_file.as_ref() != Some(&epochs);
        if differs && !(from_file.is_none() && epochs.is_empty()) {
            self.disk
                .replace(&path, epochs.encode().as_bytes())
                .at(&path, "writing epochs")?;
        }
        Ok(epochs)
    }

    /// The producers: from the newest snapshot that reads, and the batches behind it.
    fn producers(
        &self,
        found: &Found,
        segments: &[Arc<Segment>],
        log_start_offset: Offset,
        log_end_offset: Offset,
    ) -> Result<ProducerState, LogError> {
        let mut state = None;
        for &offset in found.snapshots.iter().rev() {
            let path = segment_path(self.dir, offset, SNAPSHOT_SUFFIX);
            let belongs = segments
                .iter()
                .any(|segment| segment.base_offset() == Offset(offset));
            if state.is_some()
                || Offset(offset) > log_end_offset
                || Offset(offset) < log_start_offset
            {
                if !belongs || Offset(offset) > log_end_offset {
                    self.disk
                        .remove_file(&path)
                        .at(&path, "removing a snapshot")?;
                }
                continue;
            }
            let bytes = self.disk.read(&path, SMALL_FILE_MAX).ok();
            match bytes.as_deref().and_then(ProducerState::decode) {
                Some(read) => state = Some((read, Offset(offset))),
                None => {
                    tracing::warn!(?path, "the snapshot is damaged and removed");
                    self.disk
                        .remove_file(&path)
                        .at(&path, "removing a snapshot")?;
                }
            }
        }
        let (mut state, from) = state.unwrap_or((ProducerState::default(), log_start_offset));
        state.expire(self.now_ms, self.options.producer_id_expiration_ms);
        if from < log_end_offset {
            replay(segments, from, log_end_offset, |header| {
                state.update(header)
            })?;
            state.expire(self.now_ms, self.options.producer_id_expiration_ms);
        }
        Ok(state)
    }
}

/// The number in a file's name.
fn base_offset_of(number: &str) -> Option<i64> {
    if number.len() != 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// Shows the header of every batch that ends in `from..to`.
pub(super) fn replay(
    segments: &[Arc<Segment>],
    from: Offset,
    to: Offset,
    mut visit: impl FnMut(&BatchHeader),
) -> Result<(), LogError> {
    let first = segments
        .partition_point(|segment| segment.base_offset() <= from)
        .saturating_sub(1);
    for segment in segments.iter().skip(first) {
        let Some((position, _)) = segment.find(from)? else {
            continue;
        };
        let mut scan = Scan::new(&**segment.file(), position, segment.size());
        while let Some((_, header)) = scan.next().map_err(|error| segment.scan_error(error))? {
            if header.base_offset >= to {
                return Ok(());
            }
            visit(&header);
        }
    }
    Ok(())
}

/// CRC-32C of a batch in a file, without holding it in memory.
fn checksum(file: &dyn DiskFile, position: u64, header: &BatchHeader) -> std::io::Result<u32> {
    let mut crc = header.checksum(&[]);
    let mut at = position + HEADER_BYTES as u64;
    let end = position + header.size() as u64;
    let mut buffer = Vec::new();
    while at < end {
        let len = usize::try_from(end - at).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        buffer.resize(len, 0);
        file.read_exact_at(&mut buffer, at)?;
        crc = crc32c::crc32c_append(crc, &buffer);
        at += len as u64;
    }
    Ok(crc)
}
