//! ZooKeeper's wire, as 3.6 speaks it: no I/O and no state.
//!
//! Servers, the client, the tools and the fuzzers all read and write frames through this module, so
//! every record encodes and decodes, whichever side is ours.

pub mod acl;
pub mod digest_md5;
pub mod error;
pub mod jute;
pub mod message;
pub mod path;
pub mod stat;
