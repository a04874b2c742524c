//! Raft: one log of requests, agreed on by the members, applied by each.
//!
//! openraft decides; this folder gives it a durable log ([`log_store`]), a state machine over the replica
//! ([`state_machine`]), a network ([`network`] out, [`peer`] in), and puts in front of it what it does not
//! have: batching and exactly-once forwarding ([`batch`]), elections that fit the disks ([`standing`],
//! [`runtime`]), a look at how old the data of a member is ([`reach`]), and a way back for one that has lost them
//! ([`admission`]). [`waits`] says what is missing. [`node`] ties them together and is what the rest of the
//! coordinator sees. The only folder that names openraft. Knows nothing of znodes.

pub mod admission;
pub mod batch;
pub mod examine;
pub mod handover;
pub mod leadership;
pub mod log_store;
pub mod network;
pub mod node;
pub mod peer;
pub mod reach;
pub mod runtime;
pub mod standing;
pub mod start_error;
pub mod state_machine;
pub mod status;
pub mod types;
pub mod waits;

pub use node::{ProposeError, RaftNode, RaftOptions, RaftStatus, Role, StartError, StoreKind};
