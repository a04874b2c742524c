//! Logs on their way to another directory of this broker: `topic-partition.<hex>-future`, as in Kafka.
//!
//! A future log takes the place of the current one in two renames, and a kill may come between them. So
//! the current log says first, by a file in its directory, that it gives way to another copy of itself;
//! a start that finds two copies takes the other one. Once it is in use again it says so no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoints::Checkpoints;
use super::{Dir, DirError, Dirs, Entry, State, locked, partition_of};
use crate::common::disk::Open;
use crate::common::ids::{Offset, TopicPartition};
use crate::log::checkpoint::{PARTITION_METADATA, encode_topic_id};
use crate::log::error::{Failure, IoContext, LogError};
use crate::log::log::{Log, Start};
use crate::log::options::Options;

/// Ends the name of a future log's directory.
const FUTURE_SUFFIX: &str = "-future";
/// In the directory of a log that gives way to another copy. Other brokers pass such a name over.
const GIVES_WAY: &str = "gives-way";
/// Wishes for logs that are not there yet; more are not kept.
const PREFERRED_MAX: usize = 100_000;

/// The partition that a future log's directory is of.
pub(super) fn future_of(name: &str) -> Option<TopicPartition> {
    let (partition, _) = name.strip_suffix(FUTURE_SUFFIX)?.rsplit_once('.')?;
    partition_of(partition)
}

/// What is known of a directory by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is none of `log.dirs`.
    Unknown,
    /// It failed.
    Offline,
    /// It is in use.
    Online,
}

impl Dirs {
    /// Is this one of the directories?
    pub fn place_of(&self, path: &Path) -> Place {
        if locked(&self.failed).contains_key(path) {
            Place::Offline
        } else if self.dirs.iter().any(|dir| *dir.path == *path) {
            Place::Online
        } else {
            Place::Unknown
        }
    }

    /// The log that is to take the place of the current one, if there is one.
    pub fn future(&self, id: &TopicPartition) -> Option<Arc<Log>> {
        let state = locked(&self.state);
        state.futures.get(id).map(|entry| entry.log.clone())
    }

    /// Where the log shall be made, if it has to be made.
    pub fn prefer(&self, id: &TopicPartition, dir: &Path) {
        let mut state = locked(&self.state);
        let known = state.logs.contains_key(id) || state.damaged.contains_key(id);
        if !known && state.preferred.len() < PREFERRED_MAX {
            state.preferred.insert(id.clone(), dir.into());
        }
    }

    /// Makes the future log in `dir`, which has none yet. Nothing of it is synced.
    pub fn make_future(
        &self,
        id: &TopicPartition,
        dir: &Path,
        options: Options,
    ) -> Result<Arc<Log>, DirError> {
        let found = self.dirs.iter().find(|one| *one.path == *dir);
        // A directory that is offline may hold another future log of the same partition.
        let (Some(dir), true) = (found, locked(&self.failed).is_empty()) else {
            return Err(self.none_left());
        };
        let path = dir.path.join(self.suffixed(id, FUTURE_SUFFIX));
        let start = Start {
            recovery_point: Offset(0),
            log_start_offset: Offset(0),
            clean: true,
        };
        let made = self.open_at(&path, id, options, start);
        let log = made.inspect_err(|error| self.fail(&dir.path, Failure::of(error)))?;
        let topic_id = self.topic_id(id);
        if let Some(topic_id) = topic_id {
            let metadata = path.join(PARTITION_METADATA);
            self.disk
                .replace(&metadata, encode_topic_id(topic_id).as_bytes())
                .at(&metadata, "writing")?;
        }
        let entry = Entry {
            log: log.clone(),
            dir: dir.path.clone(),
            topic_id,
        };
        locked(&self.state).futures.insert(id.clone(), entry);
        Ok(log)
    }

    fn open_at(
        &self,
        path: &Path,
        id: &TopicPartition,
        options: Options,
        start: Start,
    ) -> Result<Arc<Log>, LogError> {
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let log = Log::open(disk, path.to_owned(), id.clone(), options, start, clock)?;
        Ok(Arc::new(log))
    }

    /// The future log is wanted no more: its files go.
    pub fn drop_future(&self, id: &TopicPartition) -> Result<(), DirError> {
        let mut state = locked(&self.state);
        let Some(entry) = state.futures.remove(id) else {
            return Ok(());
        };
        entry.log.abandon();
        self.put_away(&mut state, id, (entry.log.dir(), &entry.dir), 0)
    }

    /// The future log cannot be used: its files stay for the next start.
    pub fn forget_future(&self, id: &TopicPartition) {
        if let Some(entry) = locked(&self.state).futures.remove(id) {
            entry.log.abandon();
        }
    }

    /// The future log, which has what the current one has, takes its place. Nobody may write to either
    /// meanwhile. The files of the one that was go after `file.delete.delay.ms`.
    pub fn replace_with_future(&self, id: &TopicPartition) -> Result<Arc<Log>, DirError> {
        let mut state = locked(&self.state);
        let missing = || DirError::Missing(id.clone());
        let current = state.logs.get(id).cloned().ok_or_else(missing)?;
        let future = state.futures.get(id).cloned().ok_or_else(missing)?;
        future.log.close()?;
        let marker = current.log.dir().join(GIVES_WAY);
        let marked = self.mark(&marker, current.log.dir());
        let log = marked.and_then(|()| self.rename_future(id, &future));
        let log = match log {
            Ok(log) => log,
            Err(error) => {
                // The current log stays in use: it must not say anything else.
                self.unmark(&marker)?;
                return Err(error.into());
            }
        };
        let entry = Entry {
            log: log.clone(),
            ..future
        };
        state.futures.remove(id);
        state.logs.insert(id.clone(), entry);
        current.log.abandon();
        let delay = current.log.options().file_delete_delay_ms;
        let place: (&Path, &Path) = (current.log.dir(), &current.dir);
        if let Err(error) = self.put_away(&mut state, id, place, delay) {
            // It says that it gives way: the next start puts it away.
            tracing::error!(partition = %id, %error, "the log that was replaced cannot be removed");
            self.fail(&current.dir, Failure::of(&error));
        }
        Ok(log)
    }

    fn mark(&self, marker: &Path, dir: &Path) -> Result<(), LogError> {
        self.disk.open(marker, Open::Create).at(marker, "writing")?;
        self.disk.sync_dir(dir).at(dir, "syncing")
    }

    fn unmark(&self, marker: &Path) -> Result<(), LogError> {
        if !self.disk.exists(marker) {
            return Ok(());
        }
        self.disk.remove_file(marker).at(marker, "removing")?;
        let dir = marker.parent().unwrap_or(marker);
        self.disk.sync_dir(dir).at(dir, "syncing")
    }

    /// Gives a closed future log the current one's name, and opens it there.
    fn rename_future(&self, id: &TopicPartition, future: &Entry) -> Result<Arc<Log>, LogError> {
        let (from, to) = (future.log.dir(), future.dir.join(id.to_string()));
        let start = Start {
            recovery_point: future.log.recovery_point(),
            log_start_offset: future.log.log_start_offset(),
            clean: true,
        };
        self.disk.rename(from, &to).at(from, "renaming")?;
        let synced = self.disk.sync_dir(&future.dir).at(&future.dir, "syncing");
        let options = (*future.log.options()).clone();
        let opened = synced.and_then(|()| self.open_at(&to, id, options, start));
        if opened.is_err() {
            self.disk.rename(&to, from).at(&to, "renaming back")?;
        }
        opened
    }

    // ---- the start -------------------------------------------------------------------------------

    /// Of two copies of a log the one that gives way goes. `path` is the second one that was found.
    /// Says whether it is the one to open.
    pub(super) fn is_to_be_opened(
        &self,
        id: &TopicPartition,
        path: &Path,
        dir: &Arc<Path>,
    ) -> Result<bool, DirError> {
        let mut state = locked(&self.state);
        let first = state.logs.get(id).cloned();
        let Some(first) = first else {
            return Ok(!state.damaged.contains_key(id));
        };
        let marked = |path: &Path| self.disk.exists(&path.join(GIVES_WAY));
        let (first_goes, this_goes) = (marked(first.log.dir()), marked(path));
        if first_goes == this_goes {
            return Ok(false);
        }
        tracing::info!(partition = %id, kept = ?path, first_goes, "a move between directories is finished");
        if this_goes {
            self.put_away(&mut state, id, (path, dir), 0)?;
            return Ok(false);
        }
        state.logs.remove(id);
        first.log.abandon();
        self.put_away(&mut state, id, (first.log.dir(), &first.dir), 0)?;
        Ok(true)
    }

    /// Is the second copy that was found gone by now?
    pub(super) fn is_put_away(&self, path: &Path) -> bool {
        !self.disk.exists(path)
    }

    /// Ends what [`Dirs::is_to_be_opened`] is for: these logs are used from now on.
    pub(super) fn unmark_all(&self) {
        let logs: Vec<Entry> = locked(&self.state).logs.values().cloned().collect();
        for entry in logs {
            let marker = entry.log.dir().join(GIVES_WAY);
            if let Err(error) = self.unmark(&marker) {
                self.fail(&entry.dir, Failure::of(&error));
            }
        }
    }

    /// Opens the future logs that were found: the moves go on. Those without a current log are put away,
    /// unless it may lie in a directory that is not there.
    pub(super) fn open_futures(&self, options: &dyn Fn(&str) -> Options) {
        let found = std::mem::take(&mut locked(&self.state).found_futures);
        for one in found {
            let id = one.id.clone();
            let (current, twice) = {
                let state = locked(&self.state);
                let current = state.logs.get(&id).cloned();
                (current, state.futures.contains_key(&id))
            };
            let opened = match current {
                None if self.unopened().is_some() || self.find(&id).is_err() => continue,
                Some(current) if current.dir != one.dir && !twice => self
                    .open_at(&one.path, &id, options(&id.topic), one.start)
                    .map(|log| Entry {
                        log,
                        dir: one.dir.clone(),
                        topic_id: current.topic_id,
                    })
                    .map_err(|error| Failure::of(&error).reason),
                _ => Err("there is nothing that it could take the place of".to_owned()),
            };
            match opened {
                Ok(entry) => {
                    locked(&self.state).futures.insert(id, entry);
                }
                Err(reason) => {
                    tracing::warn!(partition = %id, dir = ?one.path, reason, "a future log is given up");
                    let mut state = locked(&self.state);
                    if let Err(error) = self.put_away(&mut state, &id, (&one.path, &one.dir), 0) {
                        tracing::warn!(dir = ?one.path, %error, "it cannot be removed");
                    }
                }
            }
        }
    }

    /// Notes a future log for [`Dirs::open_futures`].
    pub(super) fn note_future(
        &self,
        dir: &Dir,
        id: TopicPartition,
        path: PathBuf,
        checkpoints: &Checkpoints,
    ) {
        let found = Found {
            start: checkpoints.start_of(&id),
            dir: dir.path.clone(),
            id,
            path,
        };
        locked(&self.state).found_futures.push(found);
    }

    /// Renames a log's directory, so that it is removed when `delay_ms` is over.
    pub(super) fn put_away(
        &self,
        state: &mut State,
        id: &TopicPartition,
        (from, dir): (&Path, &Path),
        delay_ms: i64,
    ) -> Result<(), DirError> {
        let to = dir.join(self.suffixed(id, super::DELETE_SUFFIX));
        self.disk.rename(from, &to).at(from, "renaming")?;
        self.disk.sync_dir(dir).at(dir, "syncing")?;
        let due = self.clock.monotonic_ms().saturating_add(delay_ms);
        state.deleted.push((due, to));
        Ok(())
    }

    fn suffixed(&self, id: &TopicPartition, suffix: &str) -> String {
        let mut random = [0u8; 16];
        self.rng.fill(&mut random);
        let hex = format!("{:032x}", u128::from_be_bytes(random));
        // A name of more than 255 bytes would not be made; Kafka cuts the topic's name, too.
        let mut name = id.to_string();
        name.truncate(255 - hex.len() - suffix.len() - 1);
        format!("{name}.{hex}{suffix}")
    }
}

/// A future log's directory that was found at the start.
#[derive(Debug)]
pub(super) struct Found {
    id: TopicPartition,
    path: PathBuf,
    dir: Arc<Path>,
    start: Start,
}

impl Found {
    /// Does it lie in this directory?
    pub(super) fn is_in(&self, dir: &Path) -> bool {
        *self.dir == *dir
    }
}

/// Is the name of a future log's directory of this partition one that file systems take?
pub fn future_name_fits(id: &TopicPartition) -> bool {
    // The dot, and 32 digits.
    id.to_string().len() + 1 + 32 + FUTURE_SUFFIX.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::super::tests::{World, id, options, put};
    use super::*;
    use crate::common::disk::Disk;

    /// `t-0` in /a with two records, and a future log of it in /b with the same.
    fn moving(world: &World) -> Dirs {
        let dirs = world.open(&["/a", "/b"]);
        let log = dirs.create(&id("t", 0), None, options()).expect("made");
        let future = dirs
            .make_future(&id("t", 0), Path::new("/b"), options())
            .expect("made");
        for log in [&log, &future] {
            put(log);
            put(log);
            log.flush(Offset(2)).expect("synced");
        }
        dirs
    }

    fn names(world: &World, dir: &str) -> Vec<String> {
        let all = world.disk.list(Path::new(dir)).expect("listed");
        let all = all.iter().filter(|path| world.disk.is_dir(path));
        let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
        all.filter_map(name).collect()
    }

    fn place(dirs: &Dirs) -> String {
        let log = dirs.get(&id("t", 0)).expect("there");
        assert_eq!(log.log_end_offset(), Offset(2));
        log.dir().display().to_string()
    }

    #[test]
    fn a_future_log_takes_the_place_of_the_current_one() {
        let world = World::new();
        let dirs = moving(&world);
        let log = dirs.replace_with_future(&id("t", 0)).expect("replaced");
        assert_eq!(log.dir(), Path::new("/b/t-0"));
        put(&log);
        assert_eq!(log.log_end_offset(), Offset(3));
        assert!(dirs.future(&id("t", 0)).is_none());
        let old = names(&world, "/a");
        assert!(old.len() == 1 && old[0].ends_with("-delete"), "{old:?}");
        drop(dirs);
        world.disk.kill();
        let dirs = world.open(&["/a", "/b"]);
        let log = dirs.get(&id("t", 0)).expect("there");
        assert_eq!(log.log_end_offset(), Offset(3));
        dirs.maintain();
        assert_eq!(names(&world, "/a"), Vec::<String>::new());
    }

    #[test]
    fn a_kill_in_the_midst_leaves_one_log() {
        // Killed before the marker, before the rename of the future log, and before that of the current.
        for (killed, expected, goes_on) in [
            (0, "/a/t-0", true),
            (1, "/a/t-0", true),
            (2, "/b/t-0", false),
        ] {
            for order in [["/a", "/b"], ["/b", "/a"]] {
                let world = World::new();
                let dirs = moving(&world);
                let future = dirs.future(&id("t", 0)).expect("there");
                if killed > 0 {
                    let dir = Path::new("/a/t-0");
                    dirs.mark(&dir.join(GIVES_WAY), dir).expect("marked");
                }
                if killed > 1 {
                    world
                        .disk
                        .rename(future.dir(), Path::new("/b/t-0"))
                        .expect("renamed");
                    world.disk.sync_dir(Path::new("/b")).expect("synced");
                }
                drop((dirs, future));
                world.disk.kill();
                let dirs = world.open(&order);
                assert_eq!(dirs.failed(), vec![], "{killed} {order:?}");
                assert_eq!(place(&dirs), expected, "{killed} {order:?}");
                let future = dirs.future(&id("t", 0));
                assert_eq!(future.is_some(), goes_on, "{killed} {order:?}");
                assert!(!world.disk.exists(Path::new("/a/t-0/gives-way")));
                if goes_on {
                    dirs.replace_with_future(&id("t", 0)).expect("replaced");
                    assert_eq!(place(&dirs), "/b/t-0");
                }
            }
        }
    }

    #[test]
    fn two_logs_of_one_name_are_refused_where_none_gives_way() {
        let world = World::new();
        let dirs = moving(&world);
        let future = dirs.future(&id("t", 0)).expect("there");
        world
            .disk
            .rename(future.dir(), Path::new("/b/t-0"))
            .expect("renamed");
        drop((dirs, future));
        let dirs = world.open(&["/a", "/b"]);
        let failed = dirs.failed();
        assert!(
            failed.len() == 1 && failed[0].1.contains("is also in /a"),
            "{failed:?}"
        );
        assert_eq!(place(&dirs), "/a/t-0");
    }

    #[test]
    fn a_future_log_without_a_current_one_is_put_away() {
        let world = World::new();
        let dirs = moving(&world);
        let log = dirs.get(&id("t", 0)).expect("there");
        drop(dirs);
        world.disk.remove_dir_all(log.dir()).expect("removed");
        let dirs = world.open(&["/a", "/b"]);
        assert!(dirs.future(&id("t", 0)).is_none());
        let left = names(&world, "/b");
        assert!(left.len() == 1 && left[0].ends_with("-delete"), "{left:?}");
    }

    #[test]
    fn names_are_those_of_kafka() {
        let table = [
            (
                "t-0.0123456789abcdef0123456789abcdef-future",
                Some(id("t", 0)),
            ),
            ("a.b-c-17.00-future", Some(id("a.b-c", 17))),
            ("t-0.00-delete", None),
            ("t-0-future", None),
            ("t-x.00-future", None),
        ];
        for (name, partition) in table {
            assert_eq!(future_of(name), partition, "{name}");
        }
        assert!(future_name_fits(&id(&"x".repeat(213), 0)));
        assert!(!future_name_fits(&id(&"x".repeat(214), 0)));
    }
}
