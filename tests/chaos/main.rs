//! Three real processes under load, and faults: kill -9, SIGSTOP, rolling restarts, links, disks, connections. Every run writes a history,
//! and `tests/check` judges it. One fault at a time; the seed of a random run is printed and taken from
//! `TRIPOD_CHAOS_SEED`, its length in seconds from `TRIPOD_CHAOS_SECONDS`.

#[path = "../check/mod.rs"]
mod check;
#[path = "../lib/http_get.rs"]
mod http_get;

mod connections;
mod disks;
mod ensemble;
mod faults;
mod links;
mod namespace;
mod network;
mod nodes;
mod run;
mod sessions;
mod workload;
