//! All logs under `log.dirs`: load, lock, create, delete, checkpoint; a directory fails alone.
//!
//! The one invariant: nothing is written into a directory before its lock is held and its
//! `meta.properties` says that it is ours. Knows nothing of leaders; high watermarks are lent to it
//! for the checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint::{
    META_PROPERTIES, Offsets, PARTITION_METADATA, decode_topic_id, encode_identity, encode_topic_id,
};
use super::error::{Failure, IoContext, LogError};
use super::log::{Log, Start};
use super::options::Options;
use super::recovery::Lost;
use crate::common::clock::Clock;
use crate::common::disk::{DirLock, Disk, Open};
use crate::common::ids::{BrokerId, Offset, TopicPartition, valid_topic_name};
use crate::common::rng::Rng;
use crate::common::tasks;

const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
/// Ends the name of a partition directory that waits for its removal.
const DELETE_SUFFIX: &str = "-delete";
const SMALL_FILE_MAX: u64 = 64 << 10;
/// How many logs are made, or closed, at once. They wait for syncs, not for the processor.
const SYNCING_THREADS: usize = 16;

/// Who the directories belong to, as `meta.properties` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `broker.id`.
    pub broker_id: BrokerId,
    /// `cluster.id`.
    pub cluster_id: String,
}

impl Identity {
    /// Who we are, as far as that is not who it is, and what to correct. Before ZooKeeper was asked, the
    /// cluster is only what the directory says: then nothing is said of it.
    fn told_to_owner_of(&self, found: &Identity) -> String {
        let broker = format!("broker {}", self.broker_id);
        let cluster = format!("cluster {:?}", self.cluster_id);
        match (
            self.broker_id == found.broker_id,
            self.cluster_id == found.cluster_id,
        ) {
            (_, true) => format!("{broker}: correct broker.id"),
            (true, false) => format!("{cluster}: correct cluster.id or zookeeper.connect"),
            (false, false) => format!("{broker} of {cluster}: correct broker.id"),
        }
    }
}

/// Why directories can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The directory is another broker's, or another cluster's. Nothing was written.
    #[error(
        "{} belongs to broker {} of cluster {:?}; this is {}, or use this broker's own directories; nothing was changed",
        path.display(), found.broker_id, found.cluster_id, ours.told_to_owner_of(found)
    )]
    Foreign {
        /// The log directory.
        path: PathBuf,
        /// What its `meta.properties` says.
        found: Identity,
        /// Who we are.
        ours: Identity,
    },
    /// Another process holds the lock.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The log directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A file beside the logs does not read.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A partition that is there already.
    #[error("{0} exists already")]
    Exists(TopicPartition),
    /// A partition that is not there.
    #[error("{0} does not exist")]
    Missing(TopicPartition),
    /// A topic name that may not become a path.
    #[error("{0}")]
    TopicName(String),
    /// A partition whose log is there and cannot be used until somebody mends it.
    #[error("{id} is offline: {reason}")]
    Offline {
        /// The partition.
        id: TopicPartition,
        /// Why.
        reason: String,
    },
    /// No directory is usable.
    #[error("no log directory is usable: {}", reasons.join("; "))]
    NoneLeft {
        /// Why, for each.
        reasons: Vec<String>,
    },
    /// The disk failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl DirError {
    /// May it work when it is tried again?
    pub fn may_pass(&self) -> bool {
        match self {
            DirError::NoneLeft { .. } => true,
            DirError::Log(error) => Failure::of(error).is_passing,
            _ => false,
        }
    }
}

/// All logs of a broker. Shared as `Arc`; every method blocks on the disk.
#[derive(Debug)]
pub struct Dirs {
    disk: Arc<dyn Disk>,
    clock: Clock,
    rng: Rng,
    dirs: Vec<Dir>,
    failed: Mutex<BTreeMap<PathBuf, Failed>>,
    state: Mutex<State>,
    /// Checkpoints are written by one thread at a time.
    checkpointing: Mutex<()>,
}

/// One usable directory.
#[derive(Debug)]
struct Dir {
    path: Arc<Path>,
    _lock: Box<dyn DirLock>,
}

/// A log that is to be made.
#[derive(Clone, Debug)]
pub struct NewLog {
    /// Its name.
    pub id: TopicPartition,
    /// Its topic's id, for `partition.metadata`.
    pub topic_id: Option<uuid::Uuid>,
    /// Its settings.
    pub options: Options,
}

/// A new log's directory, and how making its files went.
type Made = (Arc<Path>, NewLog, Result<Arc<Log>, DirError>);

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<TopicPartition, Entry>,
    /// Logs that cannot be used, in directories that can.
    damaged: BTreeMap<TopicPartition, Damaged>,
    /// Logs whose files are being made.
    creating: BTreeSet<TopicPartition>,
    /// What the checkpoint said before the start, until a newer one is written.
    high_watermarks: Offsets,
    /// Directories that wait for their removal, and when it is due (monotonic).
    deleted: Vec<(i64, PathBuf)>,
    /// Logs that are to take the place of those of the same name in `logs`.
    futures: BTreeMap<TopicPartition, Entry>,
    /// The directories of such logs as they were found, until all directories are known.
    found_futures: Vec<Found>,
    /// What the checkpoints of each directory say now, the high watermarks aside.
    on_disk: BTreeMap<Arc<Path>, Checkpoints>,
    /// Logs that had records at the last clean stop, and whose directories were gone at the start.
    missing: BTreeMap<TopicPartition, Lost>,
    /// Where logs shall be made.
    preferred: BTreeMap<TopicPartition, Arc<Path>>,
}

#[derive(Clone, Debug)]
struct Entry {
    log: Arc<Log>,
    dir: Arc<Path>,
    topic_id: Option<uuid::Uuid>,
}

impl Dirs {
    /// Locks the directories, checks whose they are and opens every log. `options` gives a topic's
    /// settings, `loading` is told how far it is. A directory that fails is reported by [`Dirs::failed`]; it is an error only when none
    /// is left, or when one is another's.
    pub fn open(
        disk: Arc<dyn Disk>,
        dirs: &[PathBuf],
        identity: Identity,
        options: &dyn Fn(&str) -> Options,
        clock: Clock,
        loading: &Loading,
    ) -> Result<Dirs, DirError> {
        // Whose they are comes before anything else, for all of them: no byte is written if one is not
        // ours.
        for dir in dirs {
            match read_identity(&*disk, dir) {
                Ok(Some(found)) if found != identity => {
                    return Err(DirError::Foreign {
                        path: dir.clone(),
                        found,
                        ours: identity,
                    });
                }
                Err(error @ DirError::Malformed { .. }) => return Err(error),
                _ => {}
            }
        }
        let mut opened = Dirs {
            disk,
            // Names of deleted directories need to differ, not to be secret.
            rng: Rng::from_seed(clock.wall_ms().cast_unsigned()),
            clock,
            dirs: Vec::new(),
            failed: Mutex::default(),
            state: Mutex::default(),
            checkpointing: Mutex::default(),
        };
        for path in dirs {
            match opened.open_dir(path, &identity, options, loading) {
                Ok(dir) => opened.dirs.push(dir),
                Err(error @ DirError::Locked { .. }) => return Err(error),
                Err(error) => {
                    let mut state = locked(&opened.state);
                    state.logs.retain(|_, entry| *entry.dir != **path);
                    state.damaged.retain(|_, damaged| *damaged.dir != **path);
                    state.found_futures.retain(|found| !found.is_in(path));
                    drop(state);
                    opened.fail(path, Failure::of(&error));
                }
            }
        }
        if opened.dirs.is_empty() {
            return Err(opened.none_left());
        }
        opened.unmark_all();
        opened.open_futures(options);
        opened.tell_missing();
        Ok(opened)
    }

    fn open_dir(
        &self,
        path: &Path,
        identity: &Identity,
        options: &dyn Fn(&str) -> Options,
        loading: &Loading,
    ) -> Result<Dir, DirError> {
        let disk = &*self.disk;
        disk.create_dir_all(path).at(path, "making the directory")?;
        let lock = disk.lock(&path.join(LOCK_FILE));
        let lock = lock.map_err(|source| not_locked(path, source))?;
        let meta = path.join(META_PROPERTIES);
        if read_identity(disk, path)?.is_none() {
            disk.replace(&meta, encode_identity(identity).as_bytes())
                .at(&meta, "writing")?;
        }
        let checkpoints = self.read_checkpoints(path)?;
        let dir = Dir {
            path: path.into(),
            _lock: lock,
        };
        let said = checkpoints.clone();
        locked(&self.state).on_disk.insert(dir.path.clone(), said);
        let mut entries = Vec::new();
        for entry in disk.list(path).at(path, "listing")? {
            let Some(name) = entry.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !disk.is_dir(&entry) {
                continue;
            }
            if name.ends_with(DELETE_SUFFIX) {
                locked(&self.state).deleted.push((i64::MIN, entry));
                continue;
            }
            if let Some(id) = partition_of(name) {
                entries.push((id, entry));
            } else if let Some(id) = future_of(name) {
                self.note_future(&dir, id, entry, &checkpoints);
            }
        }
        let mut loading = loading.begin(path, entries.len(), checkpoints.clean, &self.clock);
        for (id, entry) in entries {
            self.open_log(&dir, id, entry, &checkpoints, options)?;
            loading.one_more();
        }
        loading.end();
        locked(&self.state)
            .high_watermarks
            .extend(checkpoints.high_watermarks);
        Ok(dir)
    }

    fn open_log(
        &self,
        dir: &Dir,
        id: TopicPartition,
        path: PathBuf,
        checkpoints: &Checkpoints,
        options: &dyn Fn(&str) -> Options,
    ) -> Result<(), DirError> {
        let start = checkpoints.start_of(&id);
        let topic_id = self.read_topic_id(&path);
        if !self.is_to_be_opened(&id, &path, &dir.path)?
            && let Some(other) = self.dir_of(&id)
        {
            if self.is_put_away(&path) {
                return Ok(());
            }
            return Err(DirError::Malformed {
                path,
                reason: format!("{id} is also in {}", other.display()),
            });
        }
        let opened = Log::open(
            self.disk.clone(),
            path.clone(),
            id.clone(),
            options(&id.topic),
            start,
            self.clock.clone(),
        );
        let log = match opened {
            Ok(log) => {
                // After a clean stop the checkpoint is exact; after any other, retention may be ahead.
                let known = checkpoints.log_start_offsets.get(&id);
                log.compare_start(known.copied().filter(|_| checkpoints.clean));
                log
            }
            Err(error) if error.is_of_one_log() || error.is_of_one_path() => {
                let damaged = Damaged {
                    path,
                    dir: dir.path.clone(),
                    topic_id,
                    recovery_point: checkpoints.recovery_points.get(&id).copied(),
                    log_start_offset: checkpoints.log_start_offsets.get(&id).copied(),
                    was_clean: checkpoints.clean,
                    reason: Failure::of(&error).reason,
                };
                self.set_aside(id, damaged);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let entry = Entry {
            log: Arc::new(log),
            dir: dir.path.clone(),
            topic_id,
        };
        locked(&self.state).logs.insert(id, entry);
        Ok(())
    }

    fn read_topic_id(&self, partition_dir: &Path) -> Option<uuid::Uuid> {
        let path = partition_dir.join(PARTITION_METADATA);
        if !self.disk.exists(&path) {
            return None;
        }
        let bytes = self.disk.read(&path, SMALL_FILE_MAX).ok();
        let topic_id = bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| decode_topic_id(&text));
        if topic_id.is_none() {
            tracing::warn!(?path, "the topic id does not read");
        }
        topic_id
    }

    // ---- the logs --------------------------------------------------------------------------------

    /// Directories in use.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.path.to_path_buf()).collect()
    }

    /// A log, if there is one that can be used.
    pub fn get(&self, id: &TopicPartition) -> Option<Arc<Log>> {
        self.find(id).ok().flatten()
    }

    /// A log; none where no directory in use has one, an error where it is there and cannot be used.
    pub fn find(&self, id: &TopicPartition) -> Result<Option<Arc<Log>>, DirError> {
        let state = locked(&self.state);
        match state.damaged.get(id) {
            Some(damaged) => Err(damaged.refusal(id)),
            None => Ok(state.logs.get(id).map(|entry| entry.log.clone())),
        }
    }

    fn dir_of(&self, id: &TopicPartition) -> Option<Arc<Path>> {
        let state = locked(&self.state);
        let log = state.logs.get(id).map(|entry| entry.dir.clone());
        log.or_else(|| Some(state.damaged.get(id)?.dir.clone()))
    }

    /// All logs, by name.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let state = locked(&self.state);
        state.logs.values().map(|entry| entry.log.clone()).collect()
    }

    /// All logs that are written to, the future ones included.
    fn entries(&self) -> Vec<Entry> {
        let state = locked(&self.state);
        let futures = state.futures.values();
        state.logs.values().chain(futures).cloned().collect()
    }

    /// The high watermark that was checkpointed before the start.
    pub fn high_watermark(&self, id: &TopicPartition) -> Option<Offset> {
        locked(&self.state).high_watermarks.get(id).copied()
    }

    /// The topic's id as `partition.metadata` has it.
    pub fn topic_id(&self, id: &TopicPartition) -> Option<uuid::Uuid> {
        let state = locked(&self.state);
        match state.damaged.get(id) {
            Some(damaged) => damaged.topic_id,
            None => state.logs.get(id)?.topic_id,
        }
    }

    /// Makes an empty log in the directory that has the fewest.
    pub fn create(
        &self,
        id: &TopicPartition,
        topic_id: Option<uuid::Uuid>,
        options: Options,
    ) -> Result<Arc<Log>, DirError> {
        let wanted = NewLog {
            id: id.clone(),
            topic_id,
            options,
        };
        let mut created = self.create_all(vec![wanted]);
        created.pop().expect("as many results as were asked for")
    }

    /// Makes empty logs, each in the directory that has the fewest; one result for each, in their
    /// order. They survive a power cut when this returns. Many at once cost little more than one,
    /// because their syncs share their waits; no lock is held meanwhile.
    pub fn create_all(&self, wanted: Vec<NewLog>) -> Vec<Result<Arc<Log>, DirError>> {
        let placed = self.place(wanted);
        let made = tasks::side_by_side(placed, SYNCING_THREADS, |placed| {
            let (dir, wanted) = placed?;
            let made = self.make_log(&dir, &wanted).map(Arc::new);
            Ok((dir, wanted, made))
        });
        let logs = made.iter().filter_map(|one: &Result<Made, _>| {
            let (.., made) = one.as_ref().ok()?;
            made.as_ref().ok().cloned()
        });
        // A log of the same name may have been deleted a moment ago. A directory that fails is noted.
        let _ = self.keep_cuts(&logs.collect::<Vec<_>>());
        let used: BTreeSet<Arc<Path>> = made
            .iter()
            .filter_map(|one: &Result<_, DirError>| one.as_ref().ok())
            .map(|(dir, ..)| dir.clone())
            .collect();
        let unsynced: BTreeSet<Arc<Path>> = used
            .into_iter()
            .filter(|dir| {
                let synced = self.disk.sync_dir(dir);
                if let Err(error) = &synced {
                    self.fail(dir, Failure::of(error));
                }
                synced.is_err()
            })
            .collect();
        let mut state = locked(&self.state);
        let enter = |one: Result<Made, DirError>| {
            let (dir, wanted, made) = one?;
            state.creating.remove(&wanted.id);
            if unsynced.contains(&dir) {
                return Err(self.none_left());
            }
            let log = made?;
            let entry = Entry {
                log: log.clone(),
                dir,
                topic_id: wanted.topic_id,
            };
            state.high_watermarks.remove(&wanted.id);
            state.preferred.remove(&wanted.id);
            state.logs.insert(wanted.id, entry);
            Ok(log)
        };
        made.into_iter().map(enter).collect()
    }

    /// Chooses directories, and marks the logs as being made.
    fn place(&self, wanted: Vec<NewLog>) -> Vec<Result<(Arc<Path>, NewLog), DirError>> {
        let mut state = locked(&self.state);
        let mut counts: Vec<(usize, Arc<Path>)> = {
            let failed = locked(&self.failed);
            let usable = self
                .dirs
                .iter()
                .filter(|dir| !failed.contains_key(&*dir.path));
            usable.map(|dir| (0, dir.path.clone())).collect()
        };
        for entry in state.logs.values() {
            if let Some((count, _)) = counts.iter_mut().find(|(_, dir)| *dir == entry.dir) {
                *count += 1;
            }
        }
        let place = |wanted: NewLog| {
            valid_topic_name(&wanted.id.topic).map_err(DirError::TopicName)?;
            if state.logs.contains_key(&wanted.id) {
                return Err(DirError::Exists(wanted.id));
            }
            if let Some(damaged) = state.damaged.get(&wanted.id) {
                return Err(damaged.refusal(&wanted.id));
            }
            let preferred = state.preferred.get(&wanted.id);
            let preferred = preferred.filter(|dir| counts.iter().any(|(_, one)| one == *dir));
            let least = counts
                .iter_mut()
                .filter(|(_, dir)| preferred.is_none_or(|preferred| preferred == dir))
                .min_by_key(|(count, _)| *count);
            let (count, dir) = least.ok_or_else(|| self.none_left())?;
            if !state.creating.insert(wanted.id.clone()) {
                return Err(DirError::Exists(wanted.id));
            }
            *count += 1;
            Ok((dir.clone(), wanted))
        };
        wanted.into_iter().map(place).collect()
    }

    /// The files of one new log.
    fn make_log(&self, dir: &Path, wanted: &NewLog) -> Result<Log, DirError> {
        let path = dir.join(wanted.id.to_string());
        let start = Start {
            recovery_point: Offset(0),
            log_start_offset: Offset(0),
            clean: true,
        };
        let log = Log::open(
            self.disk.clone(),
            path.clone(),
            wanted.id.clone(),
            wanted.options.clone(),
            start,
            self.clock.clone(),
        )?;
        if let Some(topic_id) = wanted.topic_id {
            let metadata = path.join(PARTITION_METADATA);
            self.disk
                .replace(&metadata, encode_topic_id(topic_id).as_bytes())
                .at(&metadata, "writing")?;
        }
        Ok(log)
    }

    /// Gives a log up: closed and renamed now, removed after `file.delete.delay.ms`.
    pub fn delete(&self, id: &TopicPartition) -> Result<(), DirError> {
        let mut state = locked(&self.state);
        let (from, dir, delay) = match (state.logs.get(id), state.damaged.get(id)) {
            (Some(entry), _) => {
                entry.log.abandon();
                let delay = entry.log.options().file_delete_delay_ms;
                (entry.log.dir().to_path_buf(), entry.dir.clone(), delay)
            }
            (None, Some(damaged)) => (damaged.path.clone(), damaged.dir.clone(), 0),
            (None, None) => return Err(DirError::Missing(id.clone())),
        };
        self.put_away(&mut state, id, (&from, &dir), delay)?;
        state.logs.remove(id);
        state.damaged.remove(id);
        state.missing.remove(id);
        state.high_watermarks.remove(id);
        state.preferred.remove(id);
        drop(state);
        self.drop_future(id)
    }

    // ---- background and end ----------------------------------------------------------------------

    /// Background work that is due: syncs of rolled segments and `flush.ms`, removal of what was given
    /// up, expiry of producers. Call it every second or so on a blocking thread. A log that fails is
    /// reported once and takes no more writes.
    pub fn maintain(&self) {
        for Entry { log, dir, .. } in self.entries() {
            match log.maintain() {
                Ok(()) | Err(LogError::Closed { .. }) => {}
                Err(error) => self.fail(&dir, Failure::of(&error)),
            }
            if let Some(failure) = log.take_failure() {
                self.fail(&dir, failure);
            }
        }
        self.regain();
        let now = self.clock.monotonic_ms();
        let due: Vec<PathBuf> = {
            let mut state = locked(&self.state);
            let (due, later) = std::mem::take(&mut state.deleted)
                .into_iter()
                .partition(|(due, _)| *due <= now);
            state.deleted = later;
            Vec::into_iter(due)
                .map(|(_, path): (i64, PathBuf)| path)
                .collect()
        };
        for path in due {
            if let Err(error) = self.disk.remove_dir_all(&path) {
                tracing::warn!(?path, %error, "a deleted log could not be removed; the next start tries again");
            }
        }
    }

    /// Clean stop: closes all logs, writes the checkpoints and, where all went well, the clean shutdown
    /// marker.
    pub fn close(
        &self,
        high_watermark: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Result<(), DirError> {
        let mut unclean: BTreeMap<Arc<Path>, LogError> = BTreeMap::new();
        let close = |entry: Entry| (entry.log.close(), entry);
        for (closed, entry) in tasks::side_by_side(self.entries(), SYNCING_THREADS, close) {
            if let Err(error) = closed {
                tracing::error!(log = %entry.log.id(), %error, "the log was not closed cleanly");
                unclean.entry(entry.dir.clone()).or_insert(error);
            }
        }
        let written = self.checkpoint(high_watermark);
        for dir in &self.dirs {
            if unclean.contains_key(&dir.path) || !self.may_be_clean(&dir.path) {
                continue;
            }
            let marker = dir.path.join(CLEAN_SHUTDOWN_FILE);
            let file = self
                .disk
                .open(&marker, Open::Create)
                .at(&marker, "writing")?;
            file.sync().at(&marker, "syncing")?;
            self.disk.sync_dir(&dir.path).at(&dir.path, "syncing")?;
        }
        unclean
            .into_values()
            .next()
            .map_or(written, |error| Err(error.into()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The partition that a directory's name stands for; `None` for what is not ours.
fn partition_of(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let index: i32 = partition.parse().ok().filter(|index| *index >= 0)?;
    // "+1" and "01" parse, too, but would be written differently.
    (valid_topic_name(topic).is_ok() && index.to_string() == partition)
        .then(|| TopicPartition::new(topic, index))
}

mod checkpoints;
mod examine;
mod future;
mod health;
mod loading;

pub use self::future::{Place, future_name_fits};
pub use self::loading::Loading;

use self::checkpoints::Checkpoints;
use self::examine::{not_locked, read_identity};
use self::future::{Found, future_of};
use self::health::{Damaged, Failed};

#[cfg(test)]
mod tests;
