//! Kafka's wire: headers, bounds and record batches. No I/O and no state.
//!
//! The messages themselves are those of the kafka-protocol crate; what is here stands in front of it
//! ([`bounds`], [`header`]) or beside it.

pub mod batch;
pub mod bounds;
pub mod compression;
pub mod header;
pub mod record;
pub mod subscription;
