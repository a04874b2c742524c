//! A read is a file region plus bounds; bytes are copied only if asked.
//!
//! [`Scan`] walks batch headers in a file without reading payloads; everything that looks for an
//! offset or a position behind an index entry uses it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::common::disk::DiskFile;
use crate::common::ids::{LeaderEpoch, Offset};
use crate::kafka::batch::{BatchError, BatchHeader, HEADER_BYTES};

/// A run of whole batches in one segment file. The file stays readable while this lives, also when the
/// segment is given up meanwhile.
#[derive(Clone, Debug)]
pub struct Region {
    /// The open segment.
    pub file: Arc<dyn DiskFile>,
    /// Where the first batch begins.
    pub position: u64,
    /// Bytes up to the end of the last batch.
    pub len: usize,
}

impl Region {
    /// Copies the region into memory. Blocks.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: i64,
    /// The epoch in its batch.
    pub leader_epoch: LeaderEpoch,
}

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error("reading at position {position}")]
    Io {
        position: u64,
        #[source]
        source: io::Error,
    },
    #[error("no batch at position {position}")]
    Batch {
        position: u64,
        #[source]
        source: BatchError,
    },
}

/// Bytes fetched at once: many headers of small batches in one read.
const CHUNK_BYTES: usize = 4 * 1024;

/// Walks the headers of the batches in `position..end` of a file.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, position: u64, end: u64) -> Scan<'a> {
        Scan {
            file,
            position,
            end,
            chunk: Vec::new(),
            chunk_at: 0,
        }
    }

    /// Begins again at `position`. What was read of the file stays in memory, so a batch that was looked
    /// at to check an index entry costs no second read.
    pub(super) fn restart(&mut self, position: u64) {
        self.position = position;
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's position and header; the batch lies wholly before the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, ScanError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let left = self.end - position;
        let want = usize::try_from(left).map_or(HEADER_BYTES, |left| left.min(HEADER_BYTES));
        self.fetch(position, want, left)
            .map_err(|source| ScanError::Io { position, source })?;
        let at = (position - self.chunk_at) as usize;
        let head = self.chunk.get(at..).unwrap_or_default();
        let header = BatchHeader::parse(&head[..head.len().min(HEADER_BYTES)])
            .map_err(|source| ScanError::Batch { position, source })?;
        let size = header.size() as u64;
        if size > left {
            let source = BatchError::Short {
                have: usize::try_from(left).unwrap_or(usize::MAX),
                want: size,
            };
            return Err(ScanError::Batch { position, source });
        }
        self.position += size;
        Ok(Some((position, header)))
    }

    /// Makes `want` bytes at `position` be in the chunk, unless the file ends before.
    fn fetch(&mut self, position: u64, want: usize, left: u64) -> io::Result<()> {
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if position >= self.chunk_at && position + want as u64 <= chunk_end {
            return Ok(());
        }
        let len = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        self.chunk.resize(len, 0);
        self.chunk_at = position;
        let mut done = 0;
        while done < want {
            match self
                .file
                .read_at(&mut self.chunk[done..], position + done as u64)?
            {
                0 => break,
                read => done += read,
            }
        }
        self.chunk.truncate(done);
        Ok(())
    }
}
