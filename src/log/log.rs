//! A partition's log: append, read, truncate, roll, retain. One writer at a time, readers never wait.
//!
//! The one invariant: `log_end_offset` is published after the bytes below it are in the file and
//! counted by their segment. Readers take a snapshot of the segment list and look no further.
//! Lock order: `writer`, then `epochs`, then `segments`; the last two are held for a few loads only.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::error::{AppendError, Failure, IoContext, LogError, ReadError};
use super::leader_epoch::{self, LeaderEpochs};
use super::options::Options;
use super::producer_state::{ProducerState, ProducerStatus, Verdict};
use super::reader::{Region, TimestampOffset};
use super::recovery::{Lost, Recovered, SYNC_FAILED, recover};
use super::segment::{RollLimits, Segment};
use super::validate::{INFLATED_BYTES_MAX, Validated, validate};
use crate::common::clock::Clock;
use crate::common::disk::{Disk, Open};
use crate::common::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::kafka::batch::{Batch, BatchHeader, HEADER_BYTES, batches};
use crate::kafka::record::records;

/// How long a log is left alone that could not be written for lack of room or descriptors.
pub const HALT_MS: i64 = 5_000;

/// What the checkpoints say about a log before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Everything below was synced.
    pub recovery_point: Offset,
    /// Records below were deleted (DeleteRecords, retention).
    pub log_start_offset: Offset,
    /// The last stop was clean: nothing needs to be read again.
    pub clean: bool,
}

/// Who wrote a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is checked.
    Client,
    /// This broker, for its internal topics: any base offset is fine, it is replaced.
    Internal,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The time put on the records, or -1 where the producer's stayed.
    pub log_append_time_ms: i64,
    /// The log's first offset.
    pub log_start_offset: Offset,
    /// The batch was in the log already: nothing was written, the offsets are the old ones.
    pub duplicate: bool,
}

/// A log's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Bytes in all segments.
    pub size_bytes: u64,
    /// How many segments.
    pub segments: usize,
    /// The first offset.
    pub log_start_offset: Offset,
    /// The offset that the next record gets.
    pub log_end_offset: Offset,
    /// Everything below was synced.
    pub recovery_point: Offset,
}

type Segments = Arc<Vec<Arc<Segment>>>;

/// One partition's log. Shared as `Arc`; all methods take `&self` and block on the disk.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    id: TopicPartition,
    clock: Clock,
    options: Mutex<Arc<Options>>,
    segments: Mutex<Segments>,
    epochs: Mutex<Epochs>,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    recovery_point: AtomicI64,
    last_flush_ms: AtomicI64,
    writer: Mutex<Writer>,
    /// What was found to be gone when it was opened.
    lost: Mutex<Option<Lost>>,
    ignored_start: Option<Offset>,
    /// The disk's last failure to write or sync, until somebody asks.
    failure: Mutex<Option<Failure>>,
    /// On the monotonic clock; see [`Log::is_halted`].
    halted_until_ms: AtomicI64,
}

#[derive(Debug)]
struct Epochs {
    list: LeaderEpochs,
    /// The file is newer than what was synced of it.
    unsynced: bool,
}

/// What only the writer touches.
#[derive(Debug)]
struct Writer {
    producers: ProducerState,
    /// Why nothing can be written any more.
    closed: Option<&'static str>,
    /// Counts truncations, so that a sync that ran meanwhile vouches for nothing.
    truncations: u64,
    /// Files that wait for their removal, and when it is due (monotonic).
    deleted: VecDeque<(i64, PathBuf)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Opens the log in `dir`, created when missing, and recovers what needs it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: TopicPartition,
        options: Options,
        start: Start,
        clock: Clock,
    ) -> Result<Log, LogError> {
        let dir: Arc<Path> = dir.into();
        disk.create_dir_all(&dir).at(&dir, "making the directory")?;
        let Recovered {
            segments,
            log_start_offset,
            log_end_offset,
            recovery_point,
            epochs,
            producers,
            lost,
            ignored_start,
        } = recover(&disk, &dir, &options, start, clock.wall_ms())?;
        let mut lost = lost;
        if start.recovery_point > log_end_offset {
            lost.get_or_insert(Lost {
                offsets: start.recovery_point - log_end_offset,
                bytes: None,
                reason: "its files were emptied or removed",
            });
        }
        let log = Log {
            lost: Mutex::new(lost),
            ignored_start,
            disk,
            dir,
            id,
            options: Mutex::new(Arc::new(options)),
            segments: Mutex::new(Arc::new(segments)),
            epochs: Mutex::new(Epochs {
                list: epochs,
                unsynced: false,
            }),
            log_start_offset: AtomicI64::new(log_start_offset.0),
            log_end_offset: AtomicI64::new(log_end_offset.0),
            recovery_point: AtomicI64::new(recovery_point.0),
            last_flush_ms: AtomicI64::new(clock.monotonic_ms()),
            clock,
            writer: Mutex::new(Writer {
                producers,
                closed: None,
                truncations: 0,
                deleted: VecDeque::new(),
            }),
            failure: Mutex::default(),
            halted_until_ms: AtomicI64::new(i64::MIN),
        };
        log.tell_lost();
        Ok(log)
    }

    // ---- facts ---------------------------------------------------------------------------------

    /// The log's name.
    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// The directory it was opened in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The time of the log's clock.
    pub fn monotonic_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// The first offset.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start_offset.load(Ordering::Acquire))
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end_offset.load(Ordering::Acquire))
    }

    /// Everything below was synced; goes to the recovery point checkpoint.
    pub fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// Figures.
    pub fn status(&self) -> Status {
        let segments = self.segments();
        Status {
            size_bytes: segments.iter().map(|segment| segment.size()).sum(),
            segments: segments.len(),
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
            recovery_point: self.recovery_point(),
        }
    }

    /// Idempotent producers that are remembered.
    pub fn active_producers(&self) -> Vec<ProducerStatus> {
        locked(&self.writer).producers.status()
    }

    /// The settings in force.
    pub fn options(&self) -> Arc<Options> {
        locked(&self.options).clone()
    }

    /// Changes the settings; the next append follows them.
    pub fn set_options(&self, options: Options) {
        *locked(&self.options) = Arc::new(options);
    }

    fn segments(&self) -> Segments {
        locked(&self.segments).clone()
    }

    fn active(&self) -> Arc<Segment> {
        let segments = locked(&self.segments);
        segments
            .last()
            .expect("recovery makes a segment and none of the methods takes the last one away")
            .clone()
    }

    /// The writer, if the log still takes writes.
    fn writer(&self) -> Result<MutexGuard<'_, Writer>, LogError> {
        let writer = locked(&self.writer);
        match writer.closed {
            None => Ok(writer),
            Some(reason) => Err(LogError::Closed {
                path: self.dir.to_path_buf(),
                reason,
            }),
        }
    }

    /// Records that were in the log and were found to be gone when it was opened.
    pub fn lost(&self) -> Option<Lost> {
        locked(&self.lost).clone()
    }

    /// The log start offset of the checkpoint, where it lay beyond the log when that was opened.
    pub fn ignored_start(&self) -> Option<Offset> {
        self.ignored_start
    }

    /// Compares with where the log is known to have begun.
    pub(super) fn compare_start(&self, known: Option<Offset>) {
        let start = self.log_start_offset();
        if let Some(known) = known.filter(|known| *known < start && self.lost().is_none()) {
            *locked(&self.lost) = Some(Lost {
                offsets: start - known,
                bytes: None,
                reason: "its first segments were removed",
            });
            self.tell_lost();
        }
    }

    /// The log serves what is left; that something is gone must not pass unseen.
    fn tell_lost(&self) {
        if let Some(lost) = self.lost() {
            tracing::error!(
                partition = %self.id, %lost, log_start_offset = %self.log_start_offset(),
                log_end_offset = %self.log_end_offset(), "records that were in the log are gone"
            );
        }
    }

    /// Can the log still be written?
    pub fn takes_writes(&self) -> bool {
        locked(&self.writer).closed.is_none()
    }

    /// The disk's last failure to write or sync here since somebody asked.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        locked(&self.failure).take()
    }

    /// Tells the next start that the page cache may hold what the disk does not.
    fn mark_failed_sync(&self) {
        let path = self.dir.join(SYNC_FAILED);
        if let Err(error) = self.disk.open(&path, Open::Create) {
            tracing::error!(
                ?path, %error,
                "a sync failed and cannot be noted: reboot before this broker is started again"
            );
        }
    }

    /// A read failed: that concerns the disk as much as a failed write.
    pub fn note_failed_read(&self, error: &ReadError) {
        if let ReadError::Storage(error) = error {
            self.note_failure(error);
        }
    }

    fn note_failure(&self, error: &LogError) {
        if !error.is_of_one_log() {
            let failure = Failure::of(error);
            if failure.is_passing {
                let until_ms = self.monotonic_ms().saturating_add(HALT_MS);
                self.halted_until_ms.store(until_ms, Ordering::Relaxed);
            }
            *locked(&self.failure) = Some(failure);
        }
    }

    /// Was there no room, or no descriptor, for it a moment ago? Others had better lead it.
    pub fn is_halted(&self) -> bool {
        self.monotonic_ms() < self.halted_until_ms.load(Ordering::Relaxed)
    }

    // ---- appending -----------------------------------------------------------------------------

    /// Appends exactly one batch as it came from the wire; offsets and `leader_epoch` are put on it.
    /// It is in the page cache when this returns, and synced where `flush.messages` asks for it.
    pub fn append_as_leader(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let options = self.options();
        let Validated {
            mut header,
            payload,
            log_append_time_ms,
        } = validate(&batch, &options, origin, self.clock.wall_ms())?;
        let appended = {
            let mut writer = self.writer()?;
            if let Verdict::Duplicate {
                first_offset,
                last_offset,
                timestamp,
            } = writer.producers.check(&header)?
            {
                return Ok(Appended {
                    first_offset,
                    last_offset,
                    log_append_time_ms: log_append_time_ms.min(timestamp),
                    log_start_offset: self.log_start_offset(),
                    duplicate: true,
                });
            }
            header.base_offset = self.log_end_offset();
            header.partition_leader_epoch = leader_epoch;
            self.check_epoch(&header)?;
            self.write(&mut writer, &header, &payload, &options)?;
            Appended {
                first_offset: header.base_offset,
                last_offset: header.last_offset(),
                log_append_time_ms,
                log_start_offset: self.log_start_offset(),
                duplicate: false,
            }
        };
        self.flush_if_due(&options)?;
        Ok(appended)
    }

    /// Appends whole batches that have their offsets and epochs already. Those before the first bad
    /// one are in the log even if this returns an error.
    pub fn append_as_follower(&self, bytes: Bytes) -> Result<Appended, AppendError> {
        let options = self.options();
        let mut first_offset = None;
        let mut last_offset = self.log_end_offset() + -1;
        for batch in batches(bytes) {
            let batch = batch?;
            batch.check()?;
            let mut writer = self.writer()?;
            let header = batch.header();
            if header.base_offset < self.log_end_offset() {
                return Err(AppendError::NotNext {
                    offset: header.base_offset,
                    log_end_offset: self.log_end_offset(),
                });
            }
            self.check_epoch(header)?;
            self.write(&mut writer, header, &batch.payload(), &options)?;
            first_offset.get_or_insert(header.base_offset);
            last_offset = header.last_offset();
        }
        self.flush_if_due(&options)?;
        Ok(Appended {
            first_offset: first_offset.unwrap_or(last_offset + 1),
            last_offset,
            log_append_time_ms: -1,
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        })
    }

    fn check_epoch(&self, header: &BatchHeader) -> Result<(), AppendError> {
        match self.latest_epoch() {
            Some(current) if header.partition_leader_epoch < current => {
                Err(AppendError::OldEpoch {
                    epoch: header.partition_leader_epoch,
                    current,
                })
            }
            _ => Ok(()),
        }
    }

    /// Writes a batch whose header is final.
    fn write(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        payload: &Bytes,
        options: &Options,
    ) -> Result<(), AppendError> {
        let written = self.write_batch(writer, header, payload, options);
        if let Err(AppendError::Storage(error)) = &written {
            self.note_failure(error);
        }
        written
    }

    /// One vectored write.
    fn write_batch(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        payload: &Bytes,
        options: &Options,
    ) -> Result<(), AppendError> {
        let last = i64::from(header.last_offset_delta);
        if header.base_offset.0.checked_add(last + 1).is_none() {
            return Err(LogError::Offset {
                path: self.dir.to_path_buf(),
                offset: header.base_offset,
            }
            .into());
        }
        self.note_epoch(header.partition_leader_epoch, header.base_offset)?;
        let mut active = self.active();
        let limits = RollLimits {
            segment_bytes: u64::from(options.segment_bytes),
            segment_ms: options.segment_ms,
            now_ms: self.clock.wall_ms(),
        };
        let size = header.size() as u64;
        if active.should_roll(limits, size, header.max_timestamp, header.last_offset())? {
            active = self.roll_to(writer, header.base_offset, options)?;
        }
        let head: [u8; HEADER_BYTES] = header.encode();
        let parts = [IoSlice::new(&head), IoSlice::new(payload)];
        if let Err(failed) = active.append(&parts, header, options.index_interval_bytes) {
            if !failed.tail_is_clean {
                writer.closed = Some("an append failed and its bytes could not be cut off again");
                self.mark_failed_sync();
            }
            return Err(failed.error.into());
        }
        writer.producers.update(header);
        self.log_end_offset
            .store(header.next_offset().0, Ordering::Release);
        Ok(())
    }

    fn flush_if_due(&self, options: &Options) -> Result<(), LogError> {
        if options.flush_messages == i64::MAX {
            return Ok(());
        }
        let end = self.log_end_offset();
        if end - self.recovery_point() >= options.flush_messages {
            self.flush(end)?;
        }
        Ok(())
    }

    // ---- epochs --------------------------------------------------------------------------------

    /// The epoch that an offset was written in, if known.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        locked(&self.epochs).list.epoch_for(offset)
    }

    /// The newest epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        locked(&self.epochs).list.latest()
    }

    /// The largest known epoch that is not above `epoch`, and the offset where it ends; (-1, -1) if
    /// `epoch` is unknown or newer than all.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        locked(&self.epochs)
            .list
            .end_offset_for(epoch, self.log_end_offset())
    }

    /// A new leader's epoch begins at the log's end. Called on becoming leader.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        let _writer = self.writer()?;
        self.note_epoch(epoch, self.log_end_offset())
    }

    fn note_epoch(&self, epoch: LeaderEpoch, start: Offset) -> Result<(), LogError> {
        let mut epochs = locked(&self.epochs);
        if epochs.list.latest().is_some_and(|latest| latest >= epoch) {
            return Ok(());
        }
        let before = epochs.list.clone();
        if epochs.list.assign(epoch, start) {
            let written = self.write_epochs(&mut epochs);
            if let Err(error) = &written {
                self.note_failure(error);
                epochs.list = before;
            }
            return written;
        }
        Ok(())
    }

    /// Writes the file without a sync: what a crash takes from it is found in the batches again.
    fn write_epochs(&self, epochs: &mut Epochs) -> Result<(), LogError> {
        let path = self.dir.join(leader_epoch::FILE);
        self.write_small(&path, epochs.list.encode().as_bytes())
            .at(&path, "writing epochs")?;
        epochs.unsynced = true;
        Ok(())
    }

    /// Writes the file for good: after a truncation its old entries may not come back.
    fn sync_epochs(&self, epochs: &mut Epochs) -> Result<(), LogError> {
        let path = self.dir.join(leader_epoch::FILE);
        self.disk
            .replace(&path, epochs.list.encode().as_bytes())
            .at(&path, "writing epochs")?;
        epochs.unsynced = false;
        Ok(())
    }

    fn write_small(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = path.with_extension("tmp");
        let file = self.disk.open(&temporary, Open::Create)?;
        file.truncate(0)?;
        file.write_at(&[IoSlice::new(bytes)], 0)?;
        self.disk.rename(&temporary, path)
    }

    // ---- reading -------------------------------------------------------------------------------

    /// The region of whole batches from the one that contains `offset`, at most `max_bytes` long and
    /// below `upper`. With `min_one` the first batch is in it whatever its size. `None` when there is
    /// nothing (yet), or the first batch does not fit.
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        upper: Offset,
        min_one: bool,
    ) -> Result<Option<Region>, ReadError> {
        let end = self.log_end_offset();
        let start = self.log_start_offset();
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange {
                offset,
                log_start_offset: start,
                log_end_offset: end,
            });
        }
        let upper = upper.min(end);
        if offset >= upper {
            return Ok(None);
        }
        let segments = self.segments();
        let mut at = segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .saturating_sub(1);
        // A segment may hold nothing at or behind the offset; then the next one does.
        while let Some(segment) = segments.get(at) {
            // The size first: whatever it counts lies below a log end that is loaded later.
            let size = segment.size();
            if let Some((position, header)) = segment.find(offset)? {
                if header.last_offset() >= upper {
                    return Ok(None);
                }
                let first = header.size();
                if first > max_bytes && !min_one {
                    return Ok(None);
                }
                let limit = size.min(position + max_bytes.max(first) as u64);
                let next_base = segments.get(at + 1).map(|next| next.base_offset());
                let whole = next_base.unwrap_or_else(|| self.log_end_offset());
                let end = if limit == size && upper >= whole {
                    size
                } else {
                    let from = position + first as u64;
                    segment.end_of_batches(from, limit, upper)?
                };
                return Ok(Some(Region {
                    file: segment.file().clone(),
                    position,
                    len: usize::try_from(end.saturating_sub(position)).unwrap_or(first),
                }));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The first record whose timestamp is `timestamp` or later.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        self.first_from(&self.segments(), self.log_start_offset(), timestamp)
    }

    /// The first record with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let segments = self.segments();
        let max = segments.iter().map(|segment| segment.max_timestamp()).max();
        let Some(max) = max.filter(|max| *max >= 0) else {
            return Ok(None);
        };
        if let Some(found) = self.offset_for_timestamp(max)? {
            return Ok(Some(found));
        }
        // That record was deleted from the front of its segment: look at what is left.
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        let mut best: Option<TimestampOffset> = None;
        let mut from = start;
        let mut least = 0;
        while from < end {
            let Some(found) = self.first_from(&segments, from, least)? else {
                break;
            };
            from = found.offset + 1;
            least = found.timestamp.saturating_add(1);
            best = Some(found);
        }
        Ok(best)
    }

    /// The first record at `from` or behind whose timestamp is `timestamp` or later.
    fn first_from(
        &self,
        segments: &[Arc<Segment>],
        start: Offset,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        for segment in segments {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            let mut from = start;
            // More than one batch is tried where the search offset lies inside the first.
            while let Some((position, header)) = segment.find_timestamp(timestamp, from)? {
                if let Some(found) = self.record_at(segment, position, &header, timestamp, from)? {
                    return Ok(Some(found));
                }
                from = header.next_offset();
            }
        }
        Ok(None)
    }

    /// The first record of a batch at `from` or behind with a timestamp of `timestamp` or later.
    fn record_at(
        &self,
        segment: &Segment,
        position: u64,
        header: &BatchHeader,
        timestamp: i64,
        from: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let found = |offset, timestamp| TimestampOffset {
            offset,
            timestamp,
            leader_epoch: header.partition_leader_epoch,
        };
        if header.is_log_append_time() {
            let offset = header.base_offset.max(from);
            return Ok(Some(found(offset, header.max_timestamp)));
        }
        let region = Region {
            file: segment.file().clone(),
            position,
            len: header.size(),
        };
        let bytes = region.read().at(&segment.path(), "reading a batch")?;
        let batch = Batch::parse(&bytes)
            .and_then(|batch| batch.check().map(|()| batch))
            .map_err(|source| LogError::Damaged {
                path: segment.path(),
                position,
                source,
            })?;
        for record in records(&batch, INFLATED_BYTES_MAX)? {
            let record = record?;
            if record.timestamp >= timestamp && record.offset >= from {
                return Ok(Some(found(record.offset, record.timestamp)));
            }
        }
        Ok(None)
    }
}

mod shape;
#[cfg(test)]
mod tests;
