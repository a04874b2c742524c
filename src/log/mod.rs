//! One partition's records on disk, in Kafka 2.8's files. Knows nothing of replicas and sockets.
//!
//! The picture, for a partition directory `<topic>-<partition>` under one of `log.dirs`:
//!
//! ```text
//! 00000000000000000000.log        batches back to back, as on the wire
//! 00000000000000000000.index      8-byte entries: last offset of a batch - base u32, its position u32
//! 00000000000000000000.timeindex  12-byte entries: largest timestamp so far i64, its offset - base u32
//! 00000000000000000042.snapshot   what is known of idempotent producers at offset 42
//! leader-epoch-checkpoint         epoch -> first offset
//! partition.metadata              the topic's id
//! ```
//!
//! The number is the first offset that the segment may hold. The indexes of the last (active) segment
//! are pre-sized with zeros and cut when it is rolled or the log is closed. Beside the partition
//! directories lie `meta.properties`, `.lock`, `.kafka_cleanshutdown` and the checkpoints.
//!
//! What recovery assumes: bytes below the recovery point were synced and are whole; above it anything
//! may be missing, torn or zero, and every index, snapshot and checkpoint may be missing or garbage.
//! The `.log` files alone decide what the log holds; all else is rebuilt from them.

mod checkpoint;
pub mod dir;
pub mod error;
mod index_file;
mod leader_epoch;
#[allow(clippy::module_inception, reason = "the noun of this folder")]
mod log;
mod offset_index;
pub mod options;
mod producer_state;
mod reader;
mod recovery;
pub mod retention;
mod segment;
mod time_index;
mod validate;

pub use error::{AppendError, LogError, ReadError};
pub use log::{Appended, HALT_MS, Log, Origin, Start, Status};
pub use options::{Options, TimestampType};
pub use producer_state::ProducerStatus;
pub use reader::Region;
pub use reader::TimestampOffset;
pub use recovery::Lost;
