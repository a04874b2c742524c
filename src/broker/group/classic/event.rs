//! What happens to a classic group, and what has to be done about it: plain values.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::broker::group::classic::Join;
use crate::broker::group::record::GroupMetadata;

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; maybe offsets.
    Empty,
    /// Waits for its members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Every member may have its assignment.
    Stable,
    /// Unloaded or deleted; this value is of no more use.
    Dead,
}

impl State {
    /// The state in Kafka's spelling.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// Names an open request; the driver knows who waits behind it.
pub type Waiter = u64;

/// Names a write of the group's metadata.
pub type Write = u64;

/// Who a request says it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The member's id; empty if it has none.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation that the member believes in; -1 for none.
    pub generation: i32,
}

/// A SyncGroup request.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    /// Who asks.
    pub identity: Identity,
    /// Must be the group's, where it is given (v5).
    pub protocol_type: Option<Arc<str>>,
    /// Must be the group's, where it is given (v5).
    pub protocol_name: Option<Arc<str>>,
    /// The leader's assignment by member id.
    pub assignments: BTreeMap<Arc<str>, Bytes>,
}

/// What happens to a group.
#[derive(Clone, Debug)]
pub enum Event {
    /// A member joins, or joins again.
    Join(Waiter, Join),
    /// A member asks for its assignment; the leader brings everybody's.
    Sync(Waiter, Sync),
    /// A member is alive.
    Heartbeat(Waiter, Identity),
    /// Members leave: (member id, instance id) each.
    Leave(Waiter, Vec<(Arc<str>, Option<Arc<str>>)>),
    /// Time passed; [`Group::deadline`] says when this is due.
    Tick,
    /// The write that [`Effect::Write`] asked for is durable, or failed.
    Written(Write, Result<(), ResponseError>),
    /// This broker coordinates the group no more.
    Unload,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer(Waiter, Answer),
    /// Write the group's metadata, then report [`Event::Written`].
    Write(Write, GroupMetadata),
}

/// An answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To JoinGroup.
    Joined(Joined),
    /// To JoinGroup that failed: the code and the member id to go on with.
    JoinRefused(ResponseError, Arc<str>),
    /// To SyncGroup.
    Synced(Result<Synced, ResponseError>),
    /// To Heartbeat.
    Heartbeat(Result<(), ResponseError>),
    /// To LeaveGroup, member by member; or one code for all.
    Left(Result<Vec<Option<ResponseError>>, ResponseError>),
}

/// A member's place in a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// For example `consumer`.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was voted for.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    /// The leader shall not assign: the group is stable (v9).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// Everybody, for the leader: member id, instance id, metadata.
    pub members: Vec<(Arc<str>, Option<Arc<str>>, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The group's protocol.
    pub protocol_name: Option<Arc<str>>,
    /// Opaque to the broker.
    pub assignment: Bytes,
}
