//! Whole nodes in this process, or the real binary beside it, driven over real sockets.
//!
//! What goes through a client's eyes belongs here; what one file decides alone is tested in that file.
//! Nothing waits for luck: [`cluster::wait_until`] waits for a condition and says which one never came.

#[path = "../lib/http_get.rs"]
mod http_get;

mod bad_disk;
mod bad_start;
mod client;
mod cluster;
mod emptied_data;
mod garbage;
mod groups;
mod http;
mod images;
mod lost_connections;
mod malformed_znodes;
mod moves;
mod older_data;
mod output;
mod produce_fetch;
mod readme;
mod replication;
mod restart;
mod three;
mod topics;
mod znodes;
