//! A read is a file region plus bounds; bytes are copied only if asked.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::common::disk::DiskFile;
use crate::common::ids::{LeaderEpoch, Offset};

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
