//! How a log changes its shape: roll, truncate, retain, sync, close.
//!
//! All of it happens under the writer's lock, except syncing, which must not hold up appends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Log, Writer, locked};
use crate::common::ids::Offset;
use crate::log::error::{IoContext, LogError};
use crate::log::index_file::segment_path;
use crate::log::options::Options;
use crate::log::producer_state::{ProducerState, SNAPSHOT_SUFFIX};
use crate::log::recovery::replay;
use crate::log::retention::{RetentionLimits, SegmentFacts, expired};
use crate::log::segment::Segment;

impl Log {
    /// Begins a new segment.
    pub fn roll(&self) -> Result<(), LogError> {
        let options = self.options();
        let mut writer = self.writer()?;
        self.roll_to(&mut writer, self.log_end_offset(), &options)?;
        Ok(())
    }

    pub(super) fn roll_to(
        &self,
        writer: &mut Writer,
        base_offset: Offset,
        options: &Options,
    ) -> Result<Arc<Segment>, LogError> {
        let old = self.active();
        if old.base_offset() == base_offset && old.size() == 0 {
            old.become_active(options.segment_index_bytes)?;
            return Ok(old);
        }
        let now_ms = self.clock.wall_ms();
        let active = Arc::new(Segment::create(
            &self.disk,
            &self.dir,
            base_offset.0,
            options.segment_index_bytes,
            now_ms,
        )?);
        // Recovery makes up for both, should they fail.
        if let Err(error) = old
            .become_inactive()
            .and_then(|()| self.write_snapshot(writer, base_offset))
        {
            tracing::warn!(log = %self.id, %error, "a rolled segment is left without its last entries");
        }
        let mut segments = locked(&self.segments);
        let mut list = Vec::with_capacity(segments.len() + 1);
        list.extend(segments.iter().cloned());
        list.push(active.clone());
        *segments = Arc::new(list);
        Ok(active)
    }

    fn write_snapshot(&self, writer: &Writer, offset: Offset) -> Result<(), LogError> {
        let path = segment_path(&self.dir, offset.0, SNAPSHOT_SUFFIX);
        self.write_small(&path, &writer.producers.encode())
            .at(&path, "writing a snapshot")
    }

    /// Syncs what lies below `up_to`. Takes long: call it on a blocking thread. After an error nothing
    /// is known of what is on the disk, and the log takes no more writes.
    pub fn flush(&self, up_to: Offset) -> Result<(), LogError> {
        let (truncations, from, end) = {
            let writer = self.writer()?;
            (
                writer.truncations,
                self.recovery_point(),
                self.log_end_offset(),
            )
        };
        self.last_flush_ms
            .store(self.clock.monotonic_ms(), Ordering::Relaxed);
        let up_to = up_to.min(end);
        if up_to <= from {
            return Ok(());
        }
        let synced = self.sync_range(from, up_to);
        let mut writer = locked(&self.writer);
        match synced {
            Ok(()) => {
                if writer.truncations == truncations {
                    self.recovery_point.fetch_max(up_to.0, Ordering::AcqRel);
                }
                Ok(())
            }
            Err(error) if error.is_out_of_descriptors() => {
                // No sync failed: none was tried.
                self.note_failure(&error);
                Err(error)
            }
            Err(error) => {
                // A sync that is tried again may succeed without having written anything.
                writer.closed.get_or_insert("a sync failed");
                self.mark_failed_sync();
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    fn sync_range(&self, from: Offset, up_to: Offset) -> Result<(), LogError> {
        let segments = self.segments();
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.base_offset());
            if next.is_some_and(|next| next <= from) || segment.base_offset() >= up_to {
                continue;
            }
            segment.sync(next.is_some())?;
        }
        let mut epochs = locked(&self.epochs);
        if epochs.unsynced {
            self.sync_epochs(&mut epochs)?;
        }
        drop(epochs);
        self.disk.sync_dir(&self.dir).at(&self.dir, "syncing")
    }

    /// Cuts the log so that `offset` is its end.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), LogError> {
        let options = self.options();
        let mut writer = self.writer()?;
        if offset >= self.log_end_offset() {
            // An epoch that began at the end and wrote nothing may be one that others never had.
            let mut epochs = locked(&self.epochs);
            if epochs.list.truncate_end(offset) {
                self.sync_epochs(&mut epochs)?;
            }
            return Ok(());
        }
        let segments = self.segments();
        let Some(first) = segments.first().filter(|_| offset.0 >= 0) else {
            return Err(self.bad_offset(offset));
        };
        if offset < first.base_offset() {
            return self.start_over(&mut writer, offset, &options);
        }
        writer.truncations += 1;
        let kept = segments.partition_point(|segment| segment.base_offset() <= offset);
        self.log_end_offset.store(offset.0, Ordering::Release);
        self.recovery_point.fetch_min(offset.0, Ordering::AcqRel);
        self.log_start_offset.fetch_min(offset.0, Ordering::AcqRel);
        *locked(&self.segments) = Arc::new(segments[..kept].to_vec());
        for segment in &segments[kept..] {
            self.give_up(&mut writer, segment, &options)?;
        }
        let active = self.active();
        if let Err(error) = active.truncate_to(offset, self.clock.wall_ms()) {
            writer.closed = Some("a truncation failed");
            self.mark_failed_sync();
            self.note_failure(&error);
            return Err(error);
        }
        active.become_active(options.segment_index_bytes)?;
        {
            let mut epochs = locked(&self.epochs);
            if epochs.list.truncate_end(offset) {
                self.sync_epochs(&mut epochs)?;
            }
        }
        self.disk.sync_dir(&self.dir).at(&self.dir, "syncing")?;
        self.reload_producers(&mut writer, offset)
    }

    /// Producers as they were at `end`: snapshots behind it go, and the batches since the newest one
    /// before it are read again.
    fn reload_producers(&self, writer: &mut Writer, end: Offset) -> Result<(), LogError> {
        let mut from = self.log_start_offset();
        writer.producers.clear();
        let mut snapshots: Vec<(i64, PathBuf)> = self
            .disk
            .list(&self.dir)
            .at(&self.dir, "listing")?
            .into_iter()
            .filter_map(|path| Some((snapshot_offset(&path)?, path)))
            .collect();
        snapshots.sort_unstable();
        while let Some((offset, path)) = snapshots.pop() {
            if Offset(offset) > end {
                self.disk
                    .remove_file(&path)
                    .at(&path, "removing a snapshot")?;
                continue;
            }
            let bytes = self
                .disk
                .read(&path, 64 << 20)
                .at(&path, "reading a snapshot")?;
            if let Some(state) = ProducerState::decode(&bytes) {
                writer.producers = state;
                from = Offset(offset);
                break;
            }
        }
        let producers = &mut writer.producers;
        replay(&self.segments(), from, end, |header| {
            producers.update(header)
        })
    }

    /// The log is about to be cut at `offset`: from now on no checkpoint speaks of what lies behind.
    pub fn announce_cut(&self, offset: Offset) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        if offset < self.recovery_point() {
            writer.truncations += 1;
            self.recovery_point.fetch_min(offset.0, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Drops everything; the next record gets `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), LogError> {
        let options = self.options();
        let mut writer = self.writer()?;
        self.start_over(&mut writer, offset, &options)
    }

    fn start_over(
        &self,
        writer: &mut Writer,
        offset: Offset,
        options: &Options,
    ) -> Result<(), LogError> {
        if offset.0 < 0 {
            return Err(self.bad_offset(offset));
        }
        writer.truncations += 1;
        writer.producers.clear();
        for segment in self.segments().iter() {
            self.give_up(writer, segment, options)?;
        }
        for path in self.disk.list(&self.dir).at(&self.dir, "listing")? {
            if snapshot_offset(&path).is_some() {
                self.disk
                    .remove_file(&path)
                    .at(&path, "removing a snapshot")?;
            }
        }
        let active = Segment::create(
            &self.disk,
            &self.dir,
            offset.0,
            options.segment_index_bytes,
            self.clock.wall_ms(),
        )?;
        *locked(&self.segments) = Arc::new(vec![Arc::new(active)]);
        self.log_start_offset.store(offset.0, Ordering::Release);
        self.log_end_offset.store(offset.0, Ordering::Release);
        self.recovery_point.store(offset.0, Ordering::Release);
        let mut epochs = locked(&self.epochs);
        epochs.list.clear();
        self.sync_epochs(&mut epochs)
    }

    fn bad_offset(&self, offset: Offset) -> LogError {
        LogError::Offset {
            path: self.dir.to_path_buf(),
            offset,
        }
    }

    /// Renames a segment's files away and notes them for removal. It is in no list any more.
    fn give_up(
        &self,
        writer: &mut Writer,
        segment: &Segment,
        options: &Options,
    ) -> Result<(), LogError> {
        let due = self
            .clock
            .monotonic_ms()
            .saturating_add(options.file_delete_delay_ms);
        for path in segment.rename_deleted(&*self.disk)? {
            writer.deleted.push_back((due, path));
        }
        Ok(())
    }

    // ---- retention -----------------------------------------------------------------------------

    /// Makes `offset` the first offset (DeleteRecords); may not be above the high watermark. Returns
    /// the log start offset, which never falls.
    pub fn delete_records_before(
        &self,
        offset: Offset,
        high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        let _writer = self.writer()?;
        if offset > high_watermark || offset > self.log_end_offset() {
            return Err(self.bad_offset(offset));
        }
        self.raise_start(offset)?;
        Ok(self.log_start_offset())
    }

    fn raise_start(&self, offset: Offset) -> Result<(), LogError> {
        if offset <= self.log_start_offset() {
            return Ok(());
        }
        // In this order: a checkpoint never has a start above its recovery point.
        self.recovery_point.fetch_max(offset.0, Ordering::AcqRel);
        self.log_start_offset.store(offset.0, Ordering::Release);
        let mut epochs = locked(&self.epochs);
        if epochs.list.truncate_start(offset) {
            self.write_epochs(&mut epochs)?;
        }
        Ok(())
    }

    /// Gives up segments that time, size or the log start offset allow, none above the high
    /// watermark. Returns how many.
    pub fn apply_retention(&self, now_ms: i64, high_watermark: Offset) -> Result<usize, LogError> {
        let options = self.options();
        let mut writer = self.writer()?;
        let segments = self.segments();
        let end = self.log_end_offset();
        let facts: Vec<SegmentFacts> = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| SegmentFacts {
                end_offset: segments.get(at + 1).map_or(end, |next| next.base_offset()),
                size_bytes: segment.size(),
                largest_timestamp: segment.largest_timestamp(),
            })
            .collect();
        let limits = RetentionLimits {
            now_ms,
            retention_ms: options.retention_ms,
            retention_bytes: options.retention_bytes,
            delete: options.delete,
            high_watermark,
            log_start_offset: self.log_start_offset(),
        };
        let count = expired(&facts, &limits);
        if count == 0 {
            return Ok(0);
        }
        if count == segments.len() {
            self.roll_to(&mut writer, end, &options)?;
        }
        let segments = self.segments();
        *locked(&self.segments) = Arc::new(segments[count..].to_vec());
        self.raise_start(segments[count].base_offset())?;
        for segment in &segments[..count] {
            self.give_up(&mut writer, segment, &options)?;
            let snapshot = segment_path(&self.dir, segment.base_offset().0, SNAPSHOT_SUFFIX);
            if self.disk.exists(&snapshot) {
                self.disk
                    .remove_file(&snapshot)
                    .at(&snapshot, "removing a snapshot")?;
            }
        }
        Ok(count)
    }

    // ---- background and end ----------------------------------------------------------------------

    /// Work that is due: rolled segments and `flush.ms` are synced, files given up are removed, idle
    /// producers are forgotten. Blocks; called every second or so.
    pub fn maintain(&self) -> Result<(), LogError> {
        let options = self.options();
        let now = self.clock.monotonic_ms();
        let rolled = self.active().base_offset();
        let due =
            now.saturating_sub(self.last_flush_ms.load(Ordering::Relaxed)) >= options.flush_ms;
        if due {
            self.flush(self.log_end_offset())?;
        } else if self.recovery_point() < rolled {
            self.flush(rolled)?;
        }
        let mut writer = self.writer()?;
        writer
            .producers
            .expire(self.clock.wall_ms(), options.producer_id_expiration_ms);
        while writer.deleted.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, path)) = writer.deleted.pop_front() {
                self.disk.remove_file(&path).at(&path, "removing")?;
            }
        }
        Ok(())
    }

    /// Clean stop: syncs, trims the indexes, writes the producers' snapshot. No write afterwards.
    pub fn close(&self) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        writer.closed = Some("it was closed");
        let end = self.log_end_offset();
        let active = self.active();
        active.become_inactive()?;
        // Where nothing was written since the last sync, there is nothing to sync: an index that has no
        // entries reads the same with or without its free slots.
        let from = self.recovery_point();
        let unwritten = from >= end && active.size() == 0 && writer.truncations == 0;
        let synced = match unwritten && !locked(&self.epochs).unsynced {
            true => Ok(()),
            false => self.sync_range(from, end),
        };
        synced
            .and_then(|()| if unwritten { Ok(()) } else { active.sync(true) })
            .inspect_err(|error| {
                self.mark_failed_sync();
                self.note_failure(error);
            })?;
        let snapshot = segment_path(&self.dir, end.0, SNAPSHOT_SUFFIX);
        if end > self.log_start_offset() || self.disk.exists(&snapshot) {
            self.disk
                .replace(&snapshot, &writer.producers.encode())
                .at(&snapshot, "writing a snapshot")?;
        }
        self.recovery_point.store(end.0, Ordering::Release);
        Ok(())
    }

    /// The directory goes away: nothing is written any more, nothing is synced.
    pub fn abandon(&self) {
        locked(&self.writer).closed = Some("it was deleted");
    }
}

fn snapshot_offset(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let (number, suffix) = name.split_once('.')?;
    (suffix == SNAPSHOT_SUFFIX)
        .then(|| number.parse().ok())
        .flatten()
}
