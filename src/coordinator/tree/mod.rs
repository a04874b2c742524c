//! The replicated state: nodes and sessions, and the one function that changes them.
//!
//! Pure: no clock, no randomness, no I/O, and no way for apply to fail. Every member that applies the
//! same requests has the same tree, byte for byte.

mod ad_hash;
pub mod check;
pub mod op;
mod quota;
mod session;
mod snapshot;
#[allow(clippy::module_inception, reason = "the file is about the tree")]
mod tree;

pub use quota::Excess;
pub use snapshot::SnapshotError;
pub use tree::{Event, Node, NodeKind, Session, Tree};
