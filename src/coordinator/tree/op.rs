//! The operations that go through the log, and what apply answers.
//!
//! A request carries everything that apply needs — time, ids, random values — because apply itself may
//! look at nothing but the tree. Members replay these types, so changing them changes the log's format;
//! a variant behind the others does not change what was written before it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::common::ids::{SessionId, Zxid};
use crate::zookeeper::acl::{Acl, Id};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::PASSWORD_BYTES;
use crate::zookeeper::stat::Stat;

/// Names one connection of a session, so that writes of an earlier connection can be told apart.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

/// One request as its proposer stamped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose request it is; 0 for the coordinator's own.
    pub session: SessionId,
    /// The connection it came through; the session's writes from any other one are refused.
    pub connection: ConnectionId,
    /// Counts the writes of one connection from 1; apply refuses a repeated or early one, so a proposal
    /// may be retried and still takes effect at most once and in order. 0 for the coordinator's own.
    pub sequence: u64,
    /// The proposer's wall clock, ms since 1970.
    pub now_ms: i64,
    /// The identities that this connection has proved.
    pub auth: Arc<[Id]>,
    /// What to do.
    pub op: Op,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Begin the session `Request::session`.
    CreateSession {
        /// Chosen at random by the proposer.
        password: [u8; PASSWORD_BYTES],
        /// Already negotiated.
        timeout_ms: i32,
    },
    /// Move the session to the connection `Request::connection`.
    AttachSession {
        /// What the client gave.
        password: [u8; PASSWORD_BYTES],
        /// Already negotiated anew.
        timeout_ms: i32,
    },
    /// End the session; its ephemerals go with it.
    CloseSession,
    /// End the session because it was not heard from.
    ExpireSession {
        /// The raft term of the leader that decided; a decision from an earlier term is void.
        term: u64,
    },
    /// One change.
    Change(Change),
    /// All of these or none.
    Multi(Vec<Change>),
    /// Remove a container if it is still empty.
    DeleteContainer {
        /// Its path.
        path: String,
    },
    /// Replace the data of /zookeeper/config.
    SetConfig {
        /// The members as `server.N=…` lines and the version.
        data: Data,
    },
    /// Remove a TTL node if its time is still up.
    DeleteTtl {
        /// Its path.
        path: String,
    },
}

/// One change of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// create, create2, createContainer.
    Create {
        /// As asked; a sequence is appended by apply.
        path: String,
        /// May be null, which is not empty.
        data: Data,
        /// As asked; `auth` lines are resolved by apply.
        acl: Vec<Acl>,
        /// See `zookeeper::message::flags`.
        flags: i32,
    },
    /// delete.
    Delete {
        /// Which node.
        path: String,
        /// −1: any.
        version: i32,
    },
    /// setData.
    SetData {
        /// Which node.
        path: String,
        /// May be null.
        data: Data,
        /// −1: any.
        version: i32,
    },
    /// setACL.
    SetAcl {
        /// Which node.
        path: String,
        /// As asked.
        acl: Vec<Acl>,
        /// The expected aversion; −1: any.
        version: i32,
    },
    /// check; only within a multi.
    Check {
        /// Which node.
        path: String,
        /// −1: any.
        version: i32,
    },
    /// createTTL, where extendedTypesEnabled allows it.
    CreateTtl {
        /// As asked; a sequence is appended by apply.
        path: String,
        /// May be null, which is not empty.
        data: Data,
        /// As asked; `auth` lines are resolved by apply.
        acl: Vec<Acl>,
        /// Is a number added to the name?
        is_sequential: bool,
        /// How long it stays without being set, in ms.
        ttl_ms: i64,
    },
}

/// A node's data: null, or bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data(pub Option<Bytes>);

impl Data {
    /// A copy of its own: a slice of a network buffer would keep all of that buffer in memory.
    pub(super) fn own(&self) -> Option<Bytes> {
        self.0.as_ref().map(|bytes| Bytes::copy_from_slice(bytes))
    }
}

impl From<Option<Bytes>> for Data {
    fn from(data: Option<Bytes>) -> Data {
        Data(data)
    }
}

/// What apply answered: an error is an answer, never a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request's own transaction id; failed requests have one too.
    pub zxid: Zxid,
    /// What happened.
    pub result: Result<Done, ErrorCode>,
}

/// What a successful request did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// delete, check, the end of a session.
    Nothing,
    /// A session began or moved; its timeout in ms.
    Session(i32),
    /// A node was created: its final path.
    Created(String, Stat),
    /// setData, setACL.
    Stat(Stat),
    /// Every step of a multi. If one is an error, none took effect; `None` in its place stands for a
    /// step that would have succeeded.
    Multi(Result<Vec<Done>, Vec<Option<ErrorCode>>>),
}

// `bytes` is used without its serde feature; formats with a byte type get bytes, others a list.
impl Serialize for Data {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_none(),
            Some(bytes) => serializer.serialize_some(&Raw(bytes)),
        }
    }
}

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Owned(Vec<u8>);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Visitor).map(Owned)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        let owned = Option::<Owned>::deserialize(deserializer)?;
        Ok(Data(owned.map(|owned| Bytes::from(owned.0))))
    }
}
