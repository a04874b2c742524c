//! `.index`: from offsets to positions, one entry for every few kilobytes of log.
//!
//! An entry names the *last* offset of a batch and the position where that batch begins, so it can be
//! checked against the batch. A missing entry makes a search longer, never wrong.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::index_file::IndexFile;
use crate::common::disk::Disk;
use crate::common::ids::Offset;

const ENTRY_BYTES: usize = 8;
/// The file name's ending.
pub(super) const SUFFIX: &str = "index";

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetPosition {
    /// The last offset of a batch.
    pub offset: Offset,
    /// Where the batch begins.
    pub position: u32,
}

/// One segment's offset index.
#[derive(Debug)]
pub(super) struct OffsetIndex {
    base_offset: i64,
    file: IndexFile<ENTRY_BYTES>,
}

fn encode(base_offset: i64, entry: OffsetPosition) -> [u8; ENTRY_BYTES] {
    let relative = (entry.offset.0 - base_offset) as u32;
    (u64::from(relative) << 32 | u64::from(entry.position)).to_be_bytes()
}

fn decode(base_offset: i64, bytes: &[u8; ENTRY_BYTES]) -> OffsetPosition {
    let both = u64::from_be_bytes(*bytes);
    OffsetPosition {
        offset: Offset(base_offset.saturating_add((both >> 32) as i64)),
        position: both as u32,
    }
}

impl OffsetIndex {
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
        bytes: u32,
    ) -> io::Result<OffsetIndex> {
        let file = IndexFile::create(disk, dir, base_offset, SUFFIX, bytes)?;
        Ok(OffsetIndex { base_offset, file })
    }

    /// `None` when there is no usable file.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base_offset: i64,
    ) -> io::Result<Option<OffsetIndex>> {
        let file = IndexFile::open(disk, dir, base_offset, SUFFIX)?;
        Ok(file.map(|file| OffsetIndex { base_offset, file }))
    }

    /// The bytes below, for what concerns no entry.
    pub(super) fn file(&self) -> &IndexFile<ENTRY_BYTES> {
        &self.file
    }

    /// No slot left: the segment must be rolled.
    pub(super) fn is_full(&self) -> bool {
        self.file.room() == 0
    }

    /// Appends an entry; `make_room` came before.
    pub(super) fn push(&self, offset: Offset, position: u32) {
        self.file.push(encode(
            self.base_offset,
            OffsetPosition { offset, position },
        ));
    }

    pub(super) fn last(&self) -> io::Result<Option<OffsetPosition>> {
        Ok(self
            .file
            .last()?
            .map(|entry| decode(self.base_offset, &entry)))
    }

    /// The last entry at or before `offset`.
    pub(super) fn lookup(&self, offset: Offset) -> io::Result<Option<OffsetPosition>> {
        let base = self.base_offset;
        let found = self
            .file
            .last_where(|entry| decode(base, entry).offset <= offset)?;
        Ok(found.map(|entry| decode(base, &entry)))
    }

    /// The last entry at or before `position`.
    pub(super) fn lookup_position(&self, position: u32) -> io::Result<Option<OffsetPosition>> {
        let base = self.base_offset;
        let found = self
            .file
            .last_where(|entry| decode(base, entry).position <= position)?;
        Ok(found.map(|entry| decode(base, &entry)))
    }

    /// Drops entries at `offset` and behind.
    pub(super) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let base = self.base_offset;
        self.file
            .truncate_where(|entry| decode(base, entry).offset < offset)
    }
}
