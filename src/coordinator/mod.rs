//! A ZooKeeper ensemble: one replicated tree behind ZooKeeper's client protocol. It knows nothing of
//! Kafka.

pub mod identity;
pub mod outbox;
pub mod raft;
pub mod replica;
pub mod request;
pub mod snapshot_file;
pub mod store;
pub mod tree;
pub mod watch;
