//! Consumer groups: who is a member, who owns which partition, which offsets are committed.
//!
//! Decisions are in `classic` (pure), positions in `offsets` (pure), bytes in `record`; [`coordinator`]
//! is the driver that holds them together. A group lives on the broker that leads its partition of
//! `__consumer_offsets`, and everything that was acknowledged can be rebuilt from that partition.

pub mod classic;
pub mod coordinator;
pub mod offsets;
pub mod record;

#[cfg(test)]
mod tests;

pub use coordinator::{GroupStatus, Groups, Options};
