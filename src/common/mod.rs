//! The world, and the words everybody uses.
//!
//! Clock, randomness, disk, network and task spawning are reached through this module only, so that
//! a whole cluster can run in one process under virtual time and faults from a seed. Nothing here
//! knows of Kafka, ZooKeeper or Raft, and nothing here imports another module of ours.

pub mod clock;
pub mod der;
pub mod disk;
pub mod flood;
pub mod frame;
pub mod ids;
pub mod metrics;
pub mod net;
pub mod rng;
pub mod sealed;
pub mod shutdown;
pub mod tasks;
#[cfg(test)]
pub mod testing;
pub mod tls;
pub mod units;
pub mod x500;
