//! `.timeindex`: from timestamps to offsets.
//!
//! An entry says: up to this offset no timestamp is larger than this one. Both numbers only rise. The
//! offset is the last one of the batch that holds the timestamp, so an entry can be checked. (A Kafka
//! leader that decodes an uncompressed batch writes the record's own offset; its recovery writes what
//! we write.)

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::index_file::IndexFile;
use crate::common::disk::Disk;
use crate::common::ids::Offset;
use crate::kafka::batch::NO_TIMESTAMP;

const ENTRY_BYTES: usize = 12;
/// The file name's ending.
pub(super) const SUFFIX: &str = "timeindex";

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimestampEntry {
    /// The largest timestamp so far.
    pub timestamp: i64,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

/// One segment's time index.
#[derive(Debug)]
pub(super) struct TimeIndex {
    base_offset: i64,
    file: IndexFile<ENTRY_BYTES>,
}

fn encode(base_offset: i64, entry: TimestampEntry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
    let relative = (entry.offset.0 - base_offset) as u32;
    bytes[8..].copy_from_slice(&relative.to_be_bytes());
    bytes
}

fn decode(base_offset: i64, bytes: &[u8; ENTRY_BYTES]) -> TimestampEntry {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    TimestampEntry {
        timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        offset: Offset(base_offset.saturating_add(i64::from(u32::from_be_bytes([i, j, k, l])))),
    }
}

impl TimeIndex {
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        bytes: u32,
    ) -> io::Result<TimeIndex> {
        let file = IndexFile::create(disk, dir, base_offset, SUFFIX, bytes)?;
        Ok(TimeIndex { base_offset, file })
    }

    /// `None` when there is no usable file.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
    ) -> io::Result<Option<TimeIndex>> {
        let file = IndexFile::open(disk, dir, base_offset, SUFFIX)?;
        Ok(file.map(|file| TimeIndex { base_offset, file }))
    }

    /// The bytes below, for what concerns no entry.
    pub(super) fn file(&self) -> &IndexFile<ENTRY_BYTES> {
        &self.file
    }

    /// One slot stays free for the entry that is written when the segment is rolled.
    pub(super) fn is_full(&self) -> bool {
        self.file.room() <= 1
    }

    /// The last entry; before the first one, no timestamp at the base offset.
    pub(super) fn last(&self) -> io::Result<TimestampEntry> {
        Ok(self.file.last()?.map_or(
            TimestampEntry {
                timestamp: NO_TIMESTAMP,
                offset: Offset(self.base_offset),
            },
            |entry| decode(self.base_offset, &entry),
        ))
    }

    /// Appends an entry if its timestamp is news; `make_room` came before.
    pub(super) fn push(&self, entry: TimestampEntry) -> io::Result<()> {
        let last = self.last()?;
        if entry.timestamp > last.timestamp && entry.offset >= last.offset {
            self.file.push(encode(self.base_offset, entry));
        }
        Ok(())
    }

    /// The last entry at or before `timestamp`.
    pub(super) fn lookup(&self, timestamp: i64) -> io::Result<Option<TimestampEntry>> {
        let base = self.base_offset;
        let found = self
            .file
            .last_where(|entry| decode(base, entry).timestamp <= timestamp)?;
        Ok(found.map(|entry| decode(base, &entry)))
    }

    /// Drops entries at `offset` and behind.
    pub(super) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let base = self.base_offset;
        self.file
            .truncate_where(|entry| decode(base, entry).offset < offset)
    }
}
