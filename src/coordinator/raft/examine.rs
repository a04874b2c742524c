//! Looks whether a member's data is whole before the member is started on it.
//!
//! sled repairs what it opens: of a damaged file it keeps what it can read, and the rest is gone, also
//! for somebody who could have mended it. So the store is copied, and the copy is opened and read as the
//! real one will be. What is refused is left as it was. Nobody else may use the directory meanwhile.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::log_store::{LogError, LogStore};
use super::node::{RaftOptions, StoreKind};
use super::start_error::{STORE_OPEN_LIMIT, StartError, or_disk_full};
use crate::common::clock::Clock;
use crate::common::disk::{Disk, Open};
use crate::common::ids::MemberId;
use crate::common::rng::Rng;
use crate::common::tasks;
use crate::coordinator::identity::{FILE_NAME, Identity, IdentityFile, Opened, StoredVote};
use crate::coordinator::snapshot_file::SnapshotDir;
use crate::coordinator::store::StoreError;
use crate::coordinator::store::sled::SledStore;

/// The store's directory, its main file, and where its copy lies for a moment.
const STORE: &str = "raft";
const STORE_FILE: &str = "db";
const COPY: &str = "raft.examined";
/// A larger store is opened without looking: this much takes about a quarter of a second, and what a
/// tree of usual size keeps in its log is less.
const COPY_BYTES_MAX: u64 = 128 << 20;
/// What has to stay free beside the copy.
const SPARE_BYTES: u64 = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;
/// sled's threads end by themselves, a little later than it is closed, and may still write.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// Refuses data that the member would refuse after it had been opened. Changes nothing that is there.
pub async fn examine(
    options: RaftOptions,
    disk: Arc<dyn Disk>,
    clock: Clock,
    rng: Rng,
) -> Result<(), StartError> {
    let dir = options.dir.clone();
    let looking = tasks::blocking(move || {
        look(&options, &disk, clock, &rng)
            .map_err(|error| or_disk_full(error, &*disk, &options.dir))
    });
    match tokio::time::timeout(STORE_OPEN_LIMIT, looking).await {
        Ok(looked) => looked,
        Err(_) => Err(StartError::StoreSlow { dir }),
    }
}

fn look(
    options: &RaftOptions,
    disk: &Arc<dyn Disk>,
    clock: Clock,
    rng: &Rng,
) -> Result<(), StartError> {
    let dir = &options.dir;
    let store = dir.join(STORE);
    let members: Vec<MemberId> = options.members.keys().copied().collect();
    let (cluster, member) = (&options.cluster, options.member);
    let opened = IdentityFile::open(disk.clone(), dir, cluster, member, &members, rng)?;
    let identity = match opened {
        Opened::Existing(identity) => Arc::new(identity),
        Opened::Fresh(_) => return nothing_left(&**disk, dir),
    };
    // Of a directory that somebody uses the copy would be no copy.
    let lock = dir.join("lock");
    let lock = disk.exists(&lock).then(|| disk.lock(&lock)).transpose();
    let _lock = lock.map_err(|source| unusable(dir, source))?;
    if options.store != StoreKind::Sled {
        return Ok(());
    }
    if !disk.exists(&store.join(STORE_FILE)) {
        return match is_new(&identity.get()) {
            true => Ok(()),
            false => Err(missing(dir, &store)),
        };
    }
    let bytes = size_of(&**disk, &store).map_err(|source| unusable(dir, source))?;
    let free = disk.free_bytes(dir).unwrap_or(0);
    if bytes > COPY_BYTES_MAX || free < bytes + SPARE_BYTES {
        info!(
            bytes,
            free, "the raft store is opened without a look at a copy"
        );
        return Ok(());
    }
    let copy = dir.join(COPY);
    remove(&**disk, &copy);
    let result = match copy_dir(&**disk, &store, &copy) {
        Ok(()) => read_copy(disk, dir, &copy, identity, clock),
        Err(source) => Err(unusable(dir, source)),
    };
    remove(&**disk, &copy);
    result
}

/// Removes the copy of a look that was killed, unless somebody uses the directory. Blocks.
pub fn remove_leftover(disk: &dyn Disk, dir: &Path) {
    let copy = dir.join(COPY);
    if disk.exists(&copy) && disk.lock(&dir.join("lock")).is_ok() {
        remove(disk, &copy);
    }
}

/// Has no member ever run on this directory, as far as it tells? Blocks.
pub fn is_unused(disk: &dyn Disk, dir: &Path) -> bool {
    !disk.exists(&dir.join(FILE_NAME)) && nothing_left(disk, dir).is_ok()
}

/// A directory without identity holds nothing else either.
fn nothing_left(disk: &dyn Disk, dir: &Path) -> Result<(), StartError> {
    let is_inhabited = |name: &str| {
        let path = dir.join(name);
        disk.is_dir(&path) && disk.list(&path).is_ok_and(|files| !files.is_empty())
    };
    match is_inhabited(STORE) || is_inhabited("snapshots") {
        true => Err(StartError::NoIdentity {
            dir: dir.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Has the member of this identity never voted, nor held an entry? Then it may not have had a store yet.
fn is_new(identity: &Identity) -> bool {
    identity.vote == StoredVote::default() && identity.durable_index.is_none()
}

/// Opens the copy as the store will be opened, and compares it with the identity and the snapshots.
fn read_copy(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    copy: &Path,
    identity: Arc<IdentityFile>,
    clock: Clock,
) -> Result<(), StartError> {
    let store = dir.join(STORE);
    let opened = SledStore::open(&**disk, copy).map_err(|error| StartError::Store {
        dir: dir.to_owned(),
        source: of_original(error, &store),
    })?;
    let log = LogStore::open(Arc::new(opened), identity, clock).map_err(|error| {
        let source = match error {
            LogError::Store(error) => LogError::Store(of_original(error, &store)),
            other => other,
        };
        StartError::Log {
            dir: dir.to_owned(),
            source,
        }
    })?;
    let have = SnapshotDir::newest_whole(&**disk, &dir.join("snapshots"));
    let have = have.map_err(|source| StartError::Snapshots {
        dir: dir.to_owned(),
        source: source.into(),
    })?;
    match log.ends().1 {
        Some(purged) if have < Some(purged.index) => Err(StartError::Gap {
            dir: dir.to_owned(),
            have,
            purged: purged.index,
        }),
        _ => Ok(()),
    }
}

fn unusable(dir: &Path, source: io::Error) -> StartError {
    let dir = dir.to_owned();
    StartError::Directory { dir, source }
}

fn missing(dir: &Path, store: &Path) -> StartError {
    StartError::Store {
        dir: dir.to_owned(),
        source: StoreError::Io {
            action: "opening",
            path: store.join(STORE_FILE),
            source: io::ErrorKind::NotFound.into(),
        },
    }
}

/// The same error about the store that was copied.
fn of_original(error: StoreError, store: &Path) -> StoreError {
    let path = store.to_owned();
    match error {
        StoreError::Io { action, source, .. } => StoreError::Io {
            action,
            path,
            source,
        },
        StoreError::Damaged { table, key, .. } => StoreError::Damaged { path, table, key },
        StoreError::Latched { first, .. } => StoreError::Latched { path, first },
    }
}

fn size_of(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for path in disk.list(dir)? {
        bytes += match disk.is_dir(&path) {
            true => size_of(disk, &path)?,
            false => disk.open(&path, Open::Read)?.len()?,
        };
    }
    Ok(bytes)
}

fn copy_dir(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk.create_dir_all(to)?;
    for path in disk.list(from)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        let target: PathBuf = to.join(name);
        match disk.is_dir(&path) {
            true => copy_dir(disk, &path, &target)?,
            false => copy_file(disk, &path, &target)?,
        }
    }
    Ok(())
}

fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (
        disk.open(from, Open::Read)?,
        disk.open(to, Open::CreateNew)?,
    );
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = 0;
    loop {
        let read = from.read_at(&mut chunk, position)?;
        if read == 0 {
            return Ok(());
        }
        to.write_at(&[IoSlice::new(&chunk[..read])], position)?;
        position += read as u64;
    }
}

fn remove(disk: &dyn Disk, copy: &Path) {
    for attempt in 1..=REMOVE_TRIES {
        if !disk.exists(copy) {
            return;
        }
        match disk.remove_dir_all(copy) {
            Err(error) if attempt == REMOVE_TRIES => {
                warn!(path = ?copy, %error, "a copy of the raft store stays; it may be removed");
            }
            Err(_) => std::thread::sleep(REMOVE_PAUSE),
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use bytes::Bytes;
    use openraft::storage::RaftLogStorage;

    use super::super::types::{LeaderKey, LogId};
    use super::*;
    use crate::common::disk::real::RealDisk;
    use crate::common::net::HostPort;
    use crate::coordinator::snapshot_file::StoredSnapshot;

    const ME: MemberId = MemberId(1);

    fn contents(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => contents(&path, into),
                false => drop(into.insert(path.clone(), fs::read(&path).expect("a file"))),
            }
        }
    }

    /// Refused with `said`, or not; nothing changes.
    async fn examined(dir: &Path, said: Option<&str>) {
        let members = BTreeMap::from([(ME, HostPort::new("localhost", 1))]);
        let options = RaftOptions::new("c", ME, members, dir);
        let mut before = BTreeMap::new();
        contents(dir, &mut before);
        let found = examine(
            options,
            Arc::new(RealDisk),
            Clock::real(),
            Rng::from_seed(1),
        )
        .await;
        let mut after = BTreeMap::new();
        contents(dir, &mut after);
        assert_eq!(after, before);
        match (found, said) {
            (Ok(()), None) => {}
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{error}"),
            (found, said) => panic!("{found:?}, not {said:?}"),
        }
    }

    #[tokio::test]
    async fn a_log_that_begins_after_the_snapshots_is_refused_as_it_lies() {
        let dir = tempfile::tempdir().expect("a directory");
        let (dir, disk) = (dir.path(), Arc::new(RealDisk) as Arc<dyn Disk>);
        examined(dir, None).await;
        let opened = IdentityFile::open(disk.clone(), dir, "c", ME, &[ME], &Rng::from_seed(1));
        let Ok(Opened::Fresh(fresh)) = opened else {
            panic!("nothing is there");
        };
        let identity = Arc::new(fresh.create().expect("written"));
        // As after a crash at the first start.
        examined(dir, None).await;
        let store = SledStore::open(&*disk, &dir.join(STORE)).expect("opens");
        let mut log =
            LogStore::open(Arc::new(store), identity.clone(), Clock::real()).expect("opens");
        let upto = LogId::new(LeaderKey::new(1, ME.0), 3);
        log.purge(upto).await.expect("purged");
        log.note_durable().expect("noted");
        drop(log);
        examined(dir, Some("are in no whole snapshot")).await;
        let snapshots = SnapshotDir::open(disk.clone(), &dir.join("snapshots")).expect("opens");
        let [meta, data] = [Bytes::new(), Bytes::new()];
        let index = upto.index;
        let snapshot = StoredSnapshot { index, meta, data };
        snapshots.save(&snapshot).expect("saved");
        examined(dir, None).await;
        let file = disk.list(&dir.join("snapshots")).expect("listed").remove(0);
        let good = fs::read(&file).expect("there");
        fs::write(&file, &good[1..]).expect("cut");
        examined(dir, Some("are in no whole snapshot")).await;
        fs::write(&file, good).expect("mended");
        let copy = dir.join(COPY);
        fs::create_dir_all(copy.join("blobs")).expect("made");
        fs::write(copy.join("db"), "half of it").expect("written");
        let lock = disk.lock(&dir.join("lock")).expect("free");
        remove_leftover(&*disk, dir);
        assert!(copy.exists(), "somebody is at work");
        drop(lock);
        remove_leftover(&*disk, dir);
        assert!(!copy.exists());
        fs::rename(dir.join("identity"), dir.join("elsewhere")).expect("renamed");
        examined(dir, Some("no identity file")).await;
        fs::remove_dir_all(dir.join(STORE)).expect("removed");
        examined(dir, Some("no identity file")).await;
        fs::rename(dir.join("elsewhere"), dir.join("identity")).expect("renamed");
        examined(dir, Some("does not open")).await;
    }
}
