//! [`Store`] on sled 0.34. The only file that names sled.
//!
//! What sled does not do is done here: its flush is no fsync (it calls `sync_file_range`), so a
//! descriptor of our own on its file is synced after each flush; its large values go to files that it
//! never syncs, so values are cut into pieces that stay inside its log; it may panic or give up on open,
//! so opening is guarded and tried again without its `snap.*` file, which it can do without; and it
//! cannot be trusted to notice damage, so each piece carries a checksum over its key.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use tracing::warn;

use super::{Change, Store, StoreError, Table, seal, unseal};
use crate::common::disk::{Disk, DiskFile, Open};
use crate::common::tasks;

/// sled keeps up to 17 values of a leaf in one message, and a message above a quarter of a segment
/// would leave its log for a file that is never synced.
const SEGMENT_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = 24 << 10;
const _: () = assert!(PIECE_BYTES * 18 < SEGMENT_BYTES / 4);

/// Cached pages; the log store caches the log's end by itself.
const CACHE_BYTES: u64 = 16 << 20;

/// How much of a panic's text is told.
const PANIC_CHARS_MAX: usize = 200;

/// Keys removed in one sled batch.
const REMOVE_BATCH: usize = 1024;

/// sled, with the durability that it lacks.
#[derive(Debug)]
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
    log: sled::Tree,
    meta: sled::Tree,
    /// Our own descriptor on sled's file.
    file: Arc<dyn DiskFile>,
    latch: OnceLock<String>,
}

/// How often, and how long apart, sled's own lock is asked for again.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

impl SledStore {
    /// Opens or creates the store in the directory `path`.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<SledStore, StoreError> {
        let mut opened = Self::open_once(disk, path);
        // The directory's own lock keeps others out, so sled's is held by threads of a store that this
        // process has just closed: they end by themselves.
        for _ in 0..LOCK_TRIES {
            match &opened {
                Err(error) if report(error).contains("could not acquire lock") => {
                    std::thread::sleep(LOCK_PAUSE);
                    opened = Self::open_once(disk, path);
                }
                _ => break,
            }
        }
        match opened {
            Ok(store) => Ok(store),
            Err(first) => {
                if !set_snapshots_aside(disk, path)? {
                    return Err(first);
                }
                warn!(path = ?path, error = %report(&first), "sled did not open; trying without its snapshot file");
                Self::open_once(disk, path).map_err(|_| first)
            }
        }
    }

    fn open_once(disk: &dyn Disk, path: &Path) -> Result<SledStore, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let opened = tasks::caught(|| {
            let db = config.open()?;
            let log = db.open_tree("log")?;
            let meta = db.open_tree("meta")?;
            // Names of trees are durable before anything is written to them.
            db.flush()?;
            Ok::<_, sled::Error>((db, log, meta))
        });
        let (db, log, meta) = match opened {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => return Err(failed("opening", path, error)),
            Err(panic) => {
                let source = panicked(&*panic);
                return Err(StoreError::Io {
                    action: "opening",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let file = disk
            .open(&path.join("db"), Open::Write)
            .and_then(|file| file.sync().map(|()| file))
            .and_then(|file| disk.sync_dir(path).map(|()| file))
            .map_err(|source| StoreError::Io {
                action: "syncing",
                path: path.to_owned(),
                source,
            })?;
        Ok(SledStore {
            path: path.to_owned(),
            db,
            log,
            meta,
            file,
            latch: OnceLock::new(),
        })
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        match table {
            Table::Log => &self.log,
            Table::Meta => &self.meta,
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.latch.get() {
            None => Ok(()),
            Some(first) => Err(StoreError::Latched {
                path: self.path.clone(),
                first: first.clone(),
            }),
        }
    }

    fn latched<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            let _ = self.latch.set(report(error));
        }
        result
    }

    fn write_unlatched(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut puts: Option<(Table, sled::Batch)> = None;
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    if puts.as_ref().is_some_and(|(open, _)| open != table) {
                        self.apply(puts.take())?;
                    }
                    let (_, batch) = puts.get_or_insert_with(|| (*table, sled::Batch::default()));
                    put_pieces(batch, *table, *key, value);
                }
                Change::RemoveUp(table, keys) => {
                    self.apply(puts.take())?;
                    self.remove(*table, keys, false)?;
                }
                Change::RemoveDown(table, keys) => {
                    self.apply(puts.take())?;
                    self.remove(*table, keys, true)?;
                }
            }
        }
        self.apply(puts)
    }

    fn apply(&self, puts: Option<(Table, sled::Batch)>) -> Result<(), StoreError> {
        match puts {
            None => Ok(()),
            Some((table, batch)) => self
                .tree(table)
                .apply_batch(batch)
                .map_err(|error| failed("writing", &self.path, error)),
        }
    }

    fn remove(&self, table: Table, keys: &Range<u64>, falling: bool) -> Result<(), StoreError> {
        let tree = self.tree(table);
        loop {
            let range = tree.range(piece_key(keys.start, 0)..piece_key(keys.end, 0));
            let mut found = Vec::new();
            let each = |item: sled::Result<(sled::IVec, sled::IVec)>| item.map(|(key, _)| key);
            if falling {
                for key in range.rev().take(REMOVE_BATCH).map(each) {
                    found.push(key.map_err(|error| failed("reading", &self.path, error))?);
                }
            } else {
                for key in range.take(REMOVE_BATCH).map(each) {
                    found.push(key.map_err(|error| failed("reading", &self.path, error))?);
                }
            }
            if found.is_empty() {
                return Ok(());
            }
            let mut batch = sled::Batch::default();
            for key in found {
                batch.remove(key);
            }
            self.apply(Some((table, batch)))?;
        }
    }

    fn damaged(&self, table: Table, key: u64) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            table,
            key,
        }
    }
}

impl Store for SledStore {
    fn get(&self, table: Table, key: u64) -> Result<Option<Bytes>, StoreError> {
        let end = key.saturating_add(1);
        Ok(self
            .scan(table, key..end, usize::MAX)?
            .pop()
            .map(|(_, value)| value))
    }

    fn scan(
        &self,
        table: Table,
        keys: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.check()?;
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let mut open: Option<Partial> = None;
        let mut bytes = 0;
        let range = self
            .tree(table)
            .range(piece_key(keys.start, 0)..piece_key(keys.end, 0));
        for item in range {
            let (raw_key, sealed) = item.map_err(|error| failed("reading", &self.path, error))?;
            let (key, number) =
                split_key(&raw_key).ok_or_else(|| self.damaged(table, keys.start))?;
            let piece =
                Piece::decode(table, key, &sealed).ok_or_else(|| self.damaged(table, key))?;
            let mut partial = open.take().unwrap_or_else(|| Partial::new(key));
            if !partial.push(key, number, &piece) {
                return Err(self.damaged(table, key));
            }
            if !partial.is_whole() {
                open = Some(partial);
                continue;
            }
            bytes += partial.value.len();
            found.push((key, partial.value.freeze()));
            if bytes >= bytes_max {
                return Ok(found);
            }
        }
        match open {
            None => Ok(found),
            Some(partial) => Err(self.damaged(table, partial.key)),
        }
    }

    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.check()?;
        self.latched(self.write_unlatched(changes))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        let flushed = self
            .db
            .flush()
            .map_err(|error| failed("flushing", &self.path, error));
        let synced = flushed.and_then(|_| {
            let synced = match self.file.as_file() {
                Some(file) => file.sync_data(),
                None => self.file.sync(),
            };
            synced.map_err(|source| StoreError::Io {
                action: "syncing",
                path: self.path.clone(),
                source,
            })
        });
        self.latched(synced)
    }

    fn size_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// One stored piece of a value: how many there are, a checksum of the whole is not needed because the
/// count and the keys are under each piece's own.
struct Piece<'a> {
    count: u16,
    data: &'a [u8],
}

impl<'a> Piece<'a> {
    fn decode(table: Table, key: u64, sealed: &'a [u8]) -> Option<Piece<'a>> {
        let value = unseal(table, key, sealed)?;
        let (count, data) = value.split_first_chunk::<2>()?;
        // The piece's own number is part of the data under the checksum.
        Some(Piece {
            count: u16::from_be_bytes(*count),
            data,
        })
    }
}

/// A value whose pieces are being gathered.
struct Partial {
    key: u64,
    seen: u16,
    count: u16,
    value: BytesMut,
}

impl Partial {
    fn new(key: u64) -> Partial {
        Partial {
            key,
            seen: 0,
            count: 0,
            value: BytesMut::new(),
        }
    }

    /// Takes the next piece; says whether it was the one that had to come.
    fn push(&mut self, key: u64, number: u16, piece: &Piece<'_>) -> bool {
        if self.seen == 0 {
            self.count = piece.count;
        }
        let Some((own, data)) = piece.data.split_first_chunk::<2>() else {
            return false;
        };
        let fits = key == self.key
            && number == self.seen
            && u16::from_be_bytes(*own) == number
            && piece.count == self.count
            && number < piece.count;
        if fits {
            self.value.put_slice(data);
            self.seen += 1;
        }
        fits
    }

    fn is_whole(&self) -> bool {
        self.seen == self.count
    }
}

fn put_pieces(batch: &mut sled::Batch, table: Table, key: u64, value: &[u8]) {
    let count = value.len().div_ceil(PIECE_BYTES).max(1);
    for number in 0..count {
        let from = number * PIECE_BYTES;
        let data = &value[from..value.len().min(from + PIECE_BYTES)];
        let mut piece = Vec::with_capacity(data.len() + 4);
        piece.put_u16(count as u16);
        piece.put_u16(number as u16);
        piece.put_slice(data);
        batch.insert(
            piece_key(key, number as u16).as_slice(),
            seal(table, key, &piece),
        );
    }
}

fn piece_key(key: u64, number: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn split_key(bytes: &[u8]) -> Option<(u64, u16)> {
    let (key, number) = bytes.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*key),
        u16::from_be_bytes(number.try_into().ok()?),
    ))
}

/// Moves sled's `snap.*` files out of its way. Says whether there were any.
fn set_snapshots_aside(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let aside = |source| StoreError::Io {
        action: "setting a snapshot aside in",
        path: path.to_owned(),
        source,
    };
    if !disk.is_dir(path) {
        return Ok(false);
    }
    let mut moved = false;
    for file in disk.list(path).map_err(aside)? {
        let name = file.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| name.starts_with("snap.")) {
            disk.rename(&file, &path.join(format!("aside-{name}")))
                .map_err(aside)?;
            moved = true;
        }
    }
    Ok(moved)
}

fn failed(action: &'static str, path: &Path, error: sled::Error) -> StoreError {
    let source = match error {
        sled::Error::Io(error) => original(error),
        other => io::Error::new(io::ErrorKind::InvalidData, shown(&other.to_string())),
    };
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// sled passes on copies of errors, with what was the system's code in their texts only.
fn original(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text
        .strip_prefix("Os { code: ")
        .and_then(|rest| rest.split_once(',')?.0.parse().ok());
    code.map_or(error, io::Error::from_raw_os_error)
}

/// What sled panics on is damage, or that it gets no thread and no memory, which is none.
fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or_default();
    let short = ["code: 11,", "code: 12,", "Cannot allocate memory"];
    let kind = match short.iter().any(|short| text.contains(short)) {
        true => io::ErrorKind::OutOfMemory,
        false => io::ErrorKind::InvalidData,
    };
    let text: String = text.chars().take(PANIC_CHARS_MAX).collect();
    io::Error::new(kind, format!("sled panicked: {text:?}"))
}

/// sled's own text without the backtrace, which is always empty.
fn shown(text: &str) -> &str {
    text.split_once(" backtrace").map_or(text, |(text, _)| text)
}

/// An error with its causes on one line.
fn report(error: &StoreError) -> String {
    match error {
        StoreError::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}
