//! A three-node Kafka cluster, ZooKeeper included, in one small binary.
//!
//! The map, in reading order. Arrows point down only; `tests/tidy.rs` holds the table.
//!
//! * [`cli`] — the command line: a node, a throw-away cluster, and the Kafka and ZooKeeper tools.
//! * [`http`] — health, metrics and ZooKeeper's admin commands over HTTP.
//! * [`broker`] — a Kafka broker. It keeps its cluster metadata in ZooKeeper, and meets the
//!   coordinator over ZooKeeper's protocol only, also inside one process.
//! * [`coordinator`] — a ZooKeeper ensemble: openraft over sled. It knows nothing of Kafka.
//! * [`client`] — speaks both protocols outward: for the tools and for the broker's own requests.
//! * [`log`] — one partition's records on disk, in Kafka's files. It knows nothing of replicas.
//! * [`config`] — one row per setting; every source of settings ends in one resolved value.
//! * [`kafka`] — Kafka's wire, no I/O and no state.
//! * [`zookeeper`] — ZooKeeper's wire, no I/O and no state.
//! * [`common`] — the world (clock, disk, network, tasks, randomness) and words everybody uses.

pub mod broker;
pub mod cli;
pub mod client;
pub mod common;
pub mod config;
pub mod coordinator;
pub mod http;
pub mod kafka;
pub mod log;
pub mod zookeeper;
