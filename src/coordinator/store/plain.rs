//! [`Store`] as one append-only file over the disk seam, for simulation.
//!
//! Every write is one checksummed record behind the last; the tables live in memory. Opening replays the
//! file and cuts a torn tail, which can only be what was never synced. The file is rewritten when most of
//! it is dead. Not for large data: sled is what members use outside simulation.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes};

use super::{Change, Store, StoreError, Table};
use crate::common::disk::{Disk, DiskFile, Open};

const FILE_BYTES_MAX: u64 = 1 << 30;
/// A smaller file is not worth rewriting.
const REWRITE_BYTES_MIN: u64 = 4 << 20;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// The store.
#[derive(Debug)]
pub struct PlainStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    end: u64,
    live_bytes: u64,
    tables: BTreeMap<(Table, u64), Bytes>,
    failure: Option<String>,
}

impl PlainStore {
    /// Opens or creates the store in the directory `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<PlainStore, StoreError> {
        let path = dir.join("plain");
        let opened = (|| {
            disk.create_dir_all(dir)?;
            let file = disk.open(&path, Open::Create)?;
            let bytes = disk.read(&path, FILE_BYTES_MAX)?;
            let (tables, end) = replay(&bytes);
            file.truncate(end)?;
            file.sync()?;
            disk.sync_dir(dir)?;
            let live_bytes = tables.values().map(record_bytes).sum();
            Ok(State {
                file,
                end,
                live_bytes,
                tables,
                failure: None,
            })
        })();
        let state = opened.map_err(|source| failed("opening", &path, source))?;
        Ok(PlainStore {
            disk,
            path,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.failure {
            None => Ok(state),
            Some(first) => Err(StoreError::Latched {
                path: self.path.clone(),
                first: first.clone(),
            }),
        }
    }

    /// Runs a step on the file; its first failure is the last step.
    fn step(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut state = self.lock()?;
        work(&mut state).map_err(|source| {
            state.failure = Some(format!("{action}: {source}"));
            failed(action, &self.path, source)
        })
    }

    /// Writes what is alive into a new file.
    fn rewrite(&self, state: &mut State) -> io::Result<()> {
        let mut bytes = Vec::new();
        for ((table, key), value) in &state.tables {
            put_record(&mut bytes, PUT, *table, *key, 0, value);
        }
        self.disk.replace(&self.path, &bytes)?;
        state.file = self.disk.open(&self.path, Open::Write)?;
        state.end = bytes.len() as u64;
        state.live_bytes = state.end;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { table, key, value } => {
                self.live_bytes += record_bytes(value);
                if let Some(old) = self.tables.insert((*table, *key), value.clone()) {
                    self.live_bytes -= record_bytes(&old);
                }
            }
            Change::RemoveUp(table, keys) | Change::RemoveDown(table, keys) => {
                for value in remove(&mut self.tables, *table, keys) {
                    self.live_bytes -= record_bytes(&value);
                }
            }
        }
    }
}

impl Store for PlainStore {
    fn get(&self, table: Table, key: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock()?.tables.get(&(table, key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        keys: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let state = self.lock()?;
        let mut found = Vec::new();
        let mut bytes = 0;
        if keys.start >= keys.end {
            return Ok(found);
        }
        for ((_, key), value) in state.tables.range((table, keys.start)..(table, keys.end)) {
            found.push((*key, value.clone()));
            bytes += value.len();
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    put_record(&mut bytes, PUT, *table, *key, 0, value);
                }
                Change::RemoveUp(table, keys) | Change::RemoveDown(table, keys) => {
                    put_record(&mut bytes, REMOVE, *table, keys.start, keys.end, &[]);
                }
            }
        }
        self.step("writing", |state| {
            state.file.write_at(&[IoSlice::new(&bytes)], state.end)?;
            state.end += bytes.len() as u64;
            for change in changes {
                state.apply(change);
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.step("syncing", |state| {
            if state.end > REWRITE_BYTES_MIN && state.end / 2 > state.live_bytes {
                self.rewrite(state)
            } else {
                state.file.sync()
            }
        })
    }

    fn size_bytes(&self) -> u64 {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end
    }
}

/// `length u32 | crc u32 | kind u8, table u8, key u64, end u64, value`
fn put_record(out: &mut Vec<u8>, kind: u8, table: Table, key: u64, end: u64, value: &[u8]) {
    let mut body = Vec::with_capacity(value.len() + 18);
    body.put_u8(kind);
    body.put_u8(if table == Table::Log { 1 } else { 2 });
    body.put_u64(key);
    body.put_u64(end);
    body.put_slice(value);
    out.put_u32(body.len() as u32);
    out.put_u32(crc32c::crc32c(&body));
    out.put_slice(&body);
}

fn record_bytes(value: &Bytes) -> u64 {
    value.len() as u64 + 26
}

/// The tables that a file's whole records make, and where they end.
fn replay(bytes: &[u8]) -> (BTreeMap<(Table, u64), Bytes>, u64) {
    let mut tables = BTreeMap::new();
    let mut rest = bytes;
    while rest.len() >= 26 {
        let mut head = &rest[..8];
        let (length, crc) = (head.get_u32() as usize, head.get_u32());
        let Some(mut body) = rest[8..]
            .get(..length)
            .filter(|body| length >= 18 && crc32c::crc32c(body) == crc)
        else {
            break;
        };
        rest = &rest[8 + length..];
        let (kind, table) = (body.get_u8(), body.get_u8());
        let (key, end) = (body.get_u64(), body.get_u64());
        let table = if table == 1 { Table::Log } else { Table::Meta };
        if kind == PUT {
            tables.insert((table, key), Bytes::copy_from_slice(body));
        } else {
            remove(&mut tables, table, &(key..end));
        }
    }
    (tables, (bytes.len() - rest.len()) as u64)
}

fn remove(
    tables: &mut BTreeMap<(Table, u64), Bytes>,
    table: Table,
    keys: &Range<u64>,
) -> Vec<Bytes> {
    if keys.start >= keys.end {
        return Vec::new();
    }
    let range = tables.range((table, keys.start)..(table, keys.end));
    let found: Vec<(Table, u64)> = range.map(|(key, _)| *key).collect();
    found.iter().filter_map(|key| tables.remove(key)).collect()
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    fn put(key: u64, value: &'static [u8]) -> Change {
        Change::Put {
            table: Table::Log,
            key,
            value: Bytes::from_static(value),
        }
    }

    #[test]
    fn every_cut_leaves_a_prefix_of_the_writes() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = PlainStore::open(Arc::new(RealDisk), dir.path()).expect("opens");
        store
            .write(&[put(1, b"one"), put(2, b"two")])
            .expect("written");
        store
            .write(&[Change::RemoveDown(Table::Log, 2..9), put(3, b"three")])
            .expect("written");
        store.sync().expect("synced");
        let path = dir.path().join("plain");
        let whole = RealDisk.read(&path, 9999).expect("there");
        let states = [vec![], vec![1], vec![1, 2], vec![1], vec![1, 3]];
        let mut seen = 0;
        for cut in 0..=whole.len() {
            RealDisk.replace(&path, &whole[..cut]).expect("cut");
            let store = PlainStore::open(Arc::new(RealDisk), dir.path()).expect("opens");
            let found = store
                .scan(Table::Log, 0..u64::MAX, usize::MAX)
                .expect("readable");
            let keys: Vec<u64> = found.iter().map(|(key, _)| *key).collect();
            if keys != states[seen] {
                seen += 1;
            }
            assert_eq!(keys, states[seen], "cut at {cut}");
        }
        assert_eq!(seen, 4);
    }

    #[test]
    fn a_file_that_is_mostly_dead_is_rewritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = PlainStore::open(Arc::new(RealDisk), dir.path()).expect("opens");
        static VALUE: [u8; 100_000] = [7; 100_000];
        for _ in 0..100 {
            store.write(&[put(5, &VALUE)]).expect("written");
            store.sync().expect("synced");
        }
        assert!(store.size_bytes() < 2 * REWRITE_BYTES_MIN);
        drop(store);
        let store = PlainStore::open(Arc::new(RealDisk), dir.path()).expect("opens");
        assert_eq!(
            store.get(Table::Log, 5).expect("readable").as_deref(),
            Some(&VALUE[..])
        );
    }
}
