//! The openraft type set, and what an entry is.
//!
//! An entry carries many requests of many members. They travel as opaque bytes, so the log, the network
//! and the store copy them without looking; only apply decodes them. Changing a type here changes the
//! log's format.

use std::io::Cursor;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::common::ids::MemberId;

openraft::declare_raft_types!(
    /// Everything openraft asks us to choose.
    pub TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = super::runtime::Runtime,
        // Nobody listens for its answer to a write: apply resolves the waiting requests itself, on every
        // member alike, and a lost write is told by the next leader's first entry.
        Responder = openraft::raft::responder::OneshotResponder<TypeConfig>,
);

/// One log entry.
pub type Entry = openraft::Entry<TypeConfig>;
/// Term, leader and index of an entry.
pub type LogId = openraft::LogId<u64>;
/// A leader and its term. Two leaders of one term are ordered by their node.
pub type LeaderKey = openraft::CommittedLeaderId<u64>;
/// A vote for a leader.
pub type Vote = openraft::Vote<u64>;
/// What stops a raft node.
pub type StorageError = openraft::StorageError<u64>;
/// Who counts, and who only receives.
pub type Membership = openraft::Membership<u64, openraft::EmptyNode>;
/// The same, and the entry that says so.
pub type StoredMembership = openraft::StoredMembership<u64, openraft::EmptyNode>;
/// The handle of the running core.
pub type Raft = openraft::Raft<TypeConfig>;

/// Requests that became one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader that this was gathered for. In another leader's entry it is void: its members may have
    /// sent the requests again, and nothing may be applied twice.
    pub leader: LeaderKey,
    /// The requests, in the order of applying.
    pub parts: Vec<Part>,
}

/// Requests of one member, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which member.
    pub member: MemberId,
    /// Drawn when the member's process started; numbers of another life mean nothing to it.
    pub life: u64,
    /// The number of the first request; the others follow without gaps.
    pub first: u64,
    /// Nothing that the member still waits for comes before `first`.
    pub from_start: bool,
    /// Encoded requests; an empty one is a barrier.
    pub requests: Vec<Bytes>,
}

impl Part {
    /// The number after the last request.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.requests.len() as u64)
    }

    /// Bytes of all requests.
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(Bytes::len).sum()
    }
}

/// Encodes for the log, the disk and the wire.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let why = "raft types have lengths that are known and end in memory";
    // Grown by doubling it would take up to twice its size, for as long as it waits.
    let bytes = postcard::experimental::serialized_size(value).expect(why);
    postcard::to_extend(value, Vec::with_capacity(bytes)).expect(why)
}

/// Decodes; `None` for anything but exactly one whole value.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
