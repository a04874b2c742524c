//! An ordered key-value store for the Raft log, and nothing else that would need one.
//!
//! The invariant: [`Store::sync`] returns `Ok` only when everything written before it survives a power
//! cut. After the first error of a write or a sync the store is finished; it answers every later call
//! with [`StoreError::Latched`], because a retried fsync may report a success that is none.
//! Knows neither Raft nor znodes. All calls block; the log store moves them off the async threads.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

pub mod plain;
pub mod sled;

/// What a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Raft entries by index.
    Log,
    /// A handful of small values (vote, purge position) by fixed keys.
    Meta,
}

/// One step of a write.
#[derive(Clone, Debug)]
pub enum Change {
    /// Stores a value, replacing what was there.
    Put {
        /// Which table.
        table: Table,
        /// The key.
        key: u64,
        /// The value; of any length.
        value: Bytes,
    },
    /// Removes keys in rising order: a crash in the middle leaves the upper part of the range.
    RemoveUp(Table, Range<u64>),
    /// Removes keys in falling order: a crash in the middle leaves the lower part of the range.
    RemoveDown(Table, Range<u64>),
}

/// Why the store did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or the operating system reported a failure.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The store's directory or file.
        path: PathBuf,
        /// What was reported.
        #[source]
        source: io::Error,
    },
    /// A value that is not what was written under its key.
    #[error("{}: the value of key {key} in table {table:?} is damaged", path.display())]
    Damaged {
        /// The store's directory or file.
        path: PathBuf,
        /// Which table.
        table: Table,
        /// Which key.
        key: u64,
    },
    /// An earlier failure was final.
    #[error("{}: the store stopped after an earlier failure: {first}", path.display())]
    Latched {
        /// The store's directory or file.
        path: PathBuf,
        /// The first failure's text.
        first: String,
    },
}

/// Where Raft keeps its log and vote. One writer; readers may run beside it.
pub trait Store: Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, table: Table, key: u64) -> Result<Option<Bytes>, StoreError>;
    /// Keys and values of a range, rising; ends early once `bytes_max` is passed, after at least one.
    fn scan(
        &self,
        table: Table,
        keys: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError>;
    /// Makes changes visible, in order. They are durable after the next [`Store::sync`] only.
    fn write(&self, changes: &[Change]) -> Result<(), StoreError>;
    /// Everything written so far is on stable storage when this returns.
    fn sync(&self) -> Result<(), StoreError>;
    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}

/// Puts a checksum over table, key and value in front of a value.
pub(crate) fn seal(table: Table, key: u64, value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + 4);
    sealed.extend_from_slice(&checksum(table, key, value).to_be_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// Takes the checksum off again; `None` if it does not fit.
pub(crate) fn unseal(table: Table, key: u64, sealed: &[u8]) -> Option<&[u8]> {
    let (head, value) = sealed.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*head) == checksum(table, key, value)).then_some(value)
}

fn checksum(table: Table, key: u64, value: &[u8]) -> u32 {
    let tag = match table {
        Table::Log => 1u8,
        Table::Meta => 2,
    };
    let crc = crc32c::crc32c(&[tag]);
    let crc = crc32c::crc32c_append(crc, &key.to_be_bytes());
    crc32c::crc32c_append(crc, value)
}
