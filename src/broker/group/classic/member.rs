//! One member of a classic group: what it told about itself and what it waits for. Pure.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::group::classic::Waiter;
use crate::broker::group::record::MemberMetadata;

/// Protocols by preference: name and the member's metadata for it.
pub type Protocols = Vec<(Arc<str>, Bytes)>;

/// A JoinGroup request.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// The id that the client has; empty if it has none.
    pub member_id: Arc<str>,
    /// A fresh id, in case it needs one.
    pub new_member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client understands MEMBER_ID_REQUIRED (v4).
    pub require_known_member_id: bool,
    /// The client understands `skip_assignment` (v9).
    pub support_skipping_assignment: bool,
    /// The client's name.
    pub client_id: Arc<str>,
    /// The client's address, as Kafka prints it.
    pub client_host: Arc<str>,
    /// How long a rebalance may wait for this member.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// For example `consumer`.
    pub protocol_type: Arc<str>,
    /// What it speaks, its favourite first.
    pub protocols: Protocols,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's name.
    pub client_id: Arc<str>,
    /// The client's address, as Kafka prints it.
    pub client_host: Arc<str>,
    /// How long a rebalance may wait for this member.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it speaks, its favourite first.
    pub protocols: Protocols,
    /// What the leader gave it; empty before.
    pub assignment: Bytes,
    /// Has not been in a generation yet.
    pub(super) is_new: bool,
    pub(super) join: Option<Waiter>,
    pub(super) sync: Option<Waiter>,
    /// When its session ends; none while that cannot happen.
    pub(super) deadline: Option<i64>,
}

impl Member {
    pub(super) fn new(id: Arc<str>, join: Join) -> Member {
        Member {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            is_new: true,
            join: None,
            sync: None,
            deadline: None,
        }
    }

    pub(super) fn load(stored: MemberMetadata, protocol: Arc<str>, now_ms: i64) -> Member {
        let mut member = Member {
            id: stored.member_id,
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: vec![(protocol, stored.subscription)],
            assignment: stored.assignment,
            is_new: false,
            join: None,
            sync: None,
            deadline: None,
        };
        member.renew(now_ms);
        member
    }

    pub(super) fn stored(&self, protocol: &str, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// Takes over what the client says of itself now. Its name and address stay, as in Kafka.
    pub(super) fn update(&mut self, join: Join) {
        self.protocols = join.protocols;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.session_timeout_ms = join.session_timeout_ms;
    }

    pub(super) fn renew(&mut self, now_ms: i64) {
        let timeout_ms = i64::from(self.session_timeout_ms.max(0));
        self.deadline = Some(now_ms.saturating_add(timeout_ms));
    }

    pub(super) fn waits(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(|(name, _)| &**name)
    }

    pub(super) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| **name == *protocol)
    }

    /// Its metadata for one protocol; empty if it does not speak it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let mut found = self
            .protocols
            .iter()
            .filter(|(name, _)| **name == *protocol);
        found
            .next()
            .map(|(_, data)| data.clone())
            .unwrap_or_default()
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        let protocols: usize = self.protocols.iter().map(|(_, data)| data.len()).sum();
        protocols + self.assignment.len()
    }
}
