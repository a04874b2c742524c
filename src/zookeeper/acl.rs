//! Access control lists: who may do what with one node. Pure; whoever decides passes the identities in.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::zookeeper::jute::{Jute, JuteError};

/// May read data and list children.
pub const READ: i32 = 1;
/// May set data.
pub const WRITE: i32 = 2;
/// May create children.
pub const CREATE: i32 = 4;
/// May delete children.
pub const DELETE: i32 = 8;
/// May set the ACL.
pub const ADMIN: i32 = 16;
/// Everything.
pub const ALL: i32 = 31;

/// An identity: a scheme and an id within it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, `super` …
    pub scheme: String,
    /// What the scheme makes of it: `anyone`, `user:hash`, an address.
    pub id: String,
}

impl Id {
    /// Joins a scheme and an id.
    pub fn new(scheme: &str, id: impl Into<String>) -> Id {
        Id {
            scheme: scheme.to_owned(),
            id: id.into(),
        }
    }
}

impl Jute for Id {
    fn encode(&self, out: &mut BytesMut) {
        self.scheme.encode(out);
        self.id.encode(out);
    }
    fn decode(input: &mut Bytes) -> Result<Id, JuteError> {
        Ok(Id {
            scheme: String::decode(input)?,
            id: String::decode(input)?,
        })
    }
}

/// One line of an access control list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acl {
    /// A sum of [`READ`], [`WRITE`], [`CREATE`], [`DELETE`], [`ADMIN`].
    pub perms: i32,
    /// Whom they are given to.
    pub id: Id,
}

impl Acl {
    /// Everything for everybody, Kafka's choice for its nodes.
    pub fn open() -> Vec<Acl> {
        vec![Acl {
            perms: ALL,
            id: Id::new("world", "anyone"),
        }]
    }

    /// Read for everybody.
    pub fn read_only() -> Vec<Acl> {
        vec![Acl {
            perms: READ,
            id: Id::new("world", "anyone"),
        }]
    }
}

impl Jute for Acl {
    fn encode(&self, out: &mut BytesMut) {
        self.perms.encode(out);
        self.id.encode(out);
    }
    fn decode(input: &mut Bytes) -> Result<Acl, JuteError> {
        Ok(Acl {
            perms: i32::decode(input)?,
            id: Id::decode(input)?,
        })
    }
}
