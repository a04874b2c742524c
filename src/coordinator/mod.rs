//! A ZooKeeper ensemble: one replicated tree behind ZooKeeper's client protocol. It knows nothing of
//! Kafka.

pub mod outbox;
pub mod replica;
pub mod request;
pub mod tree;
pub mod watch;
