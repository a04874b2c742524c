//! Reading and writing the checkpoints of each directory; their text is [`checkpoint`]'s.
//!
//! What is written of a log that is set aside is what was read of it, so that it is opened from there
//! when it is whole again.
//!
//! [`checkpoint`]: crate::log::checkpoint

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::health::Damaged;
use super::{CLEAN_SHUTDOWN_FILE, Dir, DirError, Dirs, Entry, locked};
use crate::common::disk::Open;
use crate::common::ids::{Offset, TopicPartition};
use crate::log::checkpoint::{
    CLEANER_OFFSETS, HIGH_WATERMARKS, LOG_START_OFFSETS, Offsets, RECOVERY_POINTS, decode_offsets,
    encode_offsets,
};
use crate::log::error::{Failure, IoContext, LogError};
use crate::log::log::{Log, Start};
use crate::log::recovery::Lost;

/// A checkpoint of a million partitions with long names stays below this.
const CHECKPOINT_BYTES_MAX: u64 = 512 << 20;

/// The checkpoints of one directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints {
    pub recovery_points: Offsets,
    pub log_start_offsets: Offsets,
    pub high_watermarks: Offsets,
    /// The last stop was clean.
    pub clean: bool,
}

impl Checkpoints {
    /// What they say of one log.
    pub(super) fn start_of(&self, id: &TopicPartition) -> Start {
        let offset = |offsets: &Offsets| offsets.get(id).copied().unwrap_or_default();
        Start {
            recovery_point: offset(&self.recovery_points),
            log_start_offset: offset(&self.log_start_offsets),
            clean: self.clean,
        }
    }
}

impl Dirs {
    pub(super) fn read_checkpoints(&self, dir: &Path) -> Result<Checkpoints, DirError> {
        let disk = &*self.disk;
        let marker = dir.join(CLEAN_SHUTDOWN_FILE);
        let clean = disk.exists(&marker);
        if clean {
            // Gone before anything else happens: a crash while loading is a crash (KAFKA-10471).
            disk.remove_file(&marker).at(&marker, "removing")?;
            disk.sync_dir(dir).at(dir, "syncing")?;
        }
        let read = |name: &str| -> Offsets {
            let path = dir.join(name);
            if !disk.exists(&path) {
                return Offsets::new();
            }
            let bytes = disk.read(&path, CHECKPOINT_BYTES_MAX).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.as_deref().and_then(decode_offsets).unwrap_or_else(|| {
                tracing::warn!(?path, "the checkpoint is damaged; starting without it");
                Offsets::new()
            })
        };
        let cleaner = dir.join(CLEANER_OFFSETS);
        if !disk.exists(&cleaner) {
            disk.open(&cleaner, Open::Create).at(&cleaner, "writing")?;
        }
        Ok(Checkpoints {
            recovery_points: read(RECOVERY_POINTS),
            log_start_offsets: read(LOG_START_OFFSETS),
            high_watermarks: read(HIGH_WATERMARKS),
            clean,
        })
    }

    /// Logs were made shorter, or anew under an old name: before anything is appended behind the cut, the
    /// checkpoints may not speak of what was there before. Records below a recovery point are not looked
    /// at after a power cut, those below a log start offset are gone, and an end below either passes for
    /// a loss. Writes a directory only where its files say too much, and then for all logs in it, so that
    /// many cuts cost little more than one. Blocks.
    pub fn keep_cuts(&self, logs: &[Arc<Log>]) -> Result<(), LogError> {
        let _one = locked(&self.checkpointing);
        for dir in &self.dirs {
            let here = logs
                .iter()
                .filter(|log| log.dir().parent() == Some(&*dir.path));
            if !here.into_iter().any(|log| self.says_too_much(dir, log)) {
                continue;
            }
            let points = self.points(dir, &|_| None);
            let kept = [
                (RECOVERY_POINTS, &points.recovery_points),
                (LOG_START_OFFSETS, &points.log_start_offsets),
            ];
            let written = self.write_files(dir, &kept);
            self.note_written(dir, points, written.is_ok());
            written.inspect_err(|error| self.fail(&dir.path, Failure::of(error)))?;
        }
        Ok(())
    }

    /// Logs that had records when all were closed, and of which not even a directory is left: as an empty
    /// one would be made in its place, that must not pass unseen.
    pub(super) fn tell_missing(&self) {
        let mut state = locked(&self.state);
        let mut missing = BTreeMap::new();
        let said = self.dirs.iter().filter_map(|dir| {
            let said = state.on_disk.get(&dir.path)?;
            said.clean.then_some((dir, said))
        });
        for (dir, said) in said {
            for (id, end) in &said.recovery_points {
                let start = said.log_start_offsets.get(id).copied().unwrap_or_default();
                let known = state.logs.contains_key(id)
                    || state.damaged.contains_key(id)
                    || state.futures.contains_key(id);
                if known || *end <= start {
                    continue;
                }
                let lost = Lost {
                    offsets: *end - start,
                    bytes: None,
                    reason: "its directory was removed",
                };
                tracing::error!(
                    partition = %id, %lost, dir = ?dir.path, log_start_offset = %start,
                    log_end_offset = %end, "records that were in the log are gone"
                );
                missing.insert(id.clone(), lost);
            }
        }
        state.missing = missing;
    }

    /// Logs that had records at the last clean stop, and whose directories were gone at the start.
    pub fn missing(&self) -> BTreeMap<TopicPartition, Lost> {
        locked(&self.state).missing.clone()
    }

    /// Does a checkpoint hold more of the log than the log does?
    fn says_too_much(&self, dir: &Dir, log: &Log) -> bool {
        let state = locked(&self.state);
        let above = |offsets: &Offsets, offset: Offset| {
            offsets.get(log.id()).is_some_and(|known| *known > offset)
        };
        state.on_disk.get(&dir.path).is_some_and(|said| {
            above(&said.recovery_points, log.recovery_point())
                || above(&said.log_start_offsets, log.log_start_offset())
        })
    }

    /// Keeps what the files say. Where writing them failed, they may say either.
    fn note_written(&self, dir: &Dir, points: Checkpoints, written: bool) {
        let mut state = locked(&self.state);
        let said = state.on_disk.entry(dir.path.clone()).or_default();
        if written {
            *said = points;
            return;
        }
        for (said, points) in [
            (&mut said.recovery_points, points.recovery_points),
            (&mut said.log_start_offsets, points.log_start_offsets),
        ] {
            for (id, offset) in points {
                let known = said.entry(id).or_insert(offset);
                *known = offset.max(*known);
            }
        }
    }

    /// Writes recovery points, log start offsets and the high watermarks that `high_watermark` knows. A
    /// directory that fails keeps no other from its turn; the first error is told.
    pub fn checkpoint(
        &self,
        high_watermark: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Result<(), DirError> {
        let _one = locked(&self.checkpointing);
        let mut written = Ok(());
        for dir in &self.dirs {
            let points = self.points(dir, high_watermark);
            let files = [
                (RECOVERY_POINTS, &points.recovery_points),
                (LOG_START_OFFSETS, &points.log_start_offsets),
                (HIGH_WATERMARKS, &points.high_watermarks),
            ];
            let all = self.write_files(dir, &files);
            self.note_written(dir, points, all.is_ok());
            if let Err(error) = all {
                self.fail(&dir.path, Failure::of(&error));
                written = written.and(Err(error.into()));
            }
        }
        written
    }

    /// What the checkpoints of a directory say now.
    fn points(
        &self,
        dir: &Dir,
        high_watermark: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Checkpoints {
        let (entries, aside): (Vec<Entry>, Vec<(TopicPartition, Damaged)>) = {
            let state = locked(&self.state);
            // A partition has its current log in one directory and its future one in another.
            let logs = state.logs.values().chain(state.futures.values());
            let logs = logs.filter(|entry| entry.dir == dir.path);
            let aside = state.damaged.iter().filter(|(_, one)| one.dir == dir.path);
            let aside = aside.map(|(id, one)| (id.clone(), one.clone()));
            (logs.cloned().collect(), aside.collect())
        };
        let mut points = Checkpoints::default();
        for entry in entries {
            let id = entry.log.id();
            let start = entry.log.log_start_offset();
            let recovery_point = entry.log.recovery_point();
            points.recovery_points.insert(id.clone(), recovery_point);
            // Also 0, so that a first segment that somebody removes is missed.
            points.log_start_offsets.insert(id.clone(), start);
            let known = high_watermark(id).or_else(|| self.high_watermark(id));
            let current = self.dir_of(id).is_some_and(|current| current == dir.path);
            if let Some(offset) = known.filter(|_| current) {
                points.high_watermarks.insert(id.clone(), offset);
            }
        }
        for (id, damaged) in aside {
            let known = self.high_watermark(&id).map(|offset| (id.clone(), offset));
            points.high_watermarks.extend(known);
            let start = damaged.log_start_offset.map(|offset| (id.clone(), offset));
            points.log_start_offsets.extend(start);
            let synced = damaged.recovery_point.map(|offset| (id, offset));
            points.recovery_points.extend(synced);
        }
        points
    }

    fn write_files(&self, dir: &Dir, files: &[(&str, &Offsets)]) -> Result<(), LogError> {
        for (name, offsets) in files {
            let path = dir.path.join(name);
            self.disk
                .replace(&path, encode_offsets(offsets).as_bytes())
                .at(&path, "writing")?;
        }
        Ok(())
    }
}
