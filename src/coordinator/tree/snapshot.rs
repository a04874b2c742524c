//! The whole tree as bytes, and back, with a checksum. One tree has exactly one form, so equal trees
//! have equal bytes and equal digests on every member.
//!
//! ```text
//! "TRIPODZK" | version i32 | last zxid i64
//! | sessions i32, each: id i64, password buffer, timeout i32, connection i64, sequence i64
//! | nodes i32, each: path, data, acl, kind i32 (0 persistent, 1 ephemeral, 2 container, 3 TTL), owner i64
//! |   (session, or TTL in ms),
//! |   czxid, mzxid, pzxid, ctime, mtime i64, version, aversion, creates i32
//! | CRC-32C of all before i32
//! ```
//! Nodes come in order of their paths, so a parent always precedes its children. Format 1, which is read,
//! too, knows no TTL nodes, and whoever wrote it did not count what quotas are about.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::common::ids::{SessionId, Zxid};
use crate::coordinator::tree::op::ConnectionId;
use crate::coordinator::tree::tree::{Node, NodeKind, Session, Tree};
use crate::zookeeper::acl::Acl;
use crate::zookeeper::jute::{Jute, JuteError, put_buffer};
use crate::zookeeper::message::PASSWORD_BYTES;
use crate::zookeeper::path;

const MAGIC: &[u8; 8] = b"TRIPODZK";
const VERSION: i32 = 2;
const OLDEST_VERSION: i32 = 1;

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They begin otherwise, or are too few.
    #[error("these {0} bytes are not a snapshot of the tree")]
    NotASnapshot(usize),
    /// Written by another version of this program.
    #[error(
        "the snapshot has format {0}, this program reads formats {OLDEST_VERSION} to {VERSION}"
    )]
    Version(i32),
    /// They were changed since they were written.
    #[error("the snapshot's checksum is {found:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// What the last four bytes say.
        found: u32,
        /// What the others amount to.
        computed: u32,
    },
    /// The checksum is right and the content is not.
    #[error("the snapshot's content")]
    Content(#[from] JuteError),
    /// A node without a parent.
    #[error("the snapshot has a node at {0:?} and none above it")]
    Orphan(String),
}

impl Tree {
    /// The whole tree, sessions included.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Enough for nodes as they mostly are: growing would copy all of it, and have it twice.
        let data_bytes = usize::try_from(self.data_bytes).unwrap_or(usize::MAX);
        let bytes = (self.nodes.len() * 160 + self.sessions.len() * 64).saturating_add(data_bytes);
        let mut out = BytesMut::with_capacity(bytes.saturating_add(256));
        out.put_slice(MAGIC);
        out.put_i32(VERSION);
        out.put_i64(self.last_zxid.0);
        out.put_u32(u32::try_from(self.sessions.len()).unwrap_or(u32::MAX));
        for (id, session) in &self.sessions {
            out.put_i64(id.0);
            put_buffer(&mut out, &session.password);
            out.put_i32(session.timeout_ms);
            out.put_u64(session.connection.0);
            out.put_u64(session.sequence);
        }
        out.put_u32(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        for (path, node) in &self.nodes {
            put_node(&mut out, path, node);
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out.into()
    }

    /// The last transaction in what [`Tree::to_bytes`] wrote, by its first bytes.
    pub fn zxid_of(bytes: &[u8]) -> Option<Zxid> {
        let rest = bytes.strip_prefix(MAGIC)?.get(4..)?;
        rest.first_chunk::<8>()
            .map(|zxid| Zxid(i64::from_be_bytes(*zxid)))
    }

    /// Reads what [`Tree::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Tree, SnapshotError> {
        let length = bytes.len();
        let (content, checksum) = bytes
            .split_last_chunk::<4>()
            .ok_or(SnapshotError::NotASnapshot(length))?;
        let content = content
            .strip_prefix(MAGIC)
            .ok_or(SnapshotError::NotASnapshot(length))?;
        let (found, computed) = (
            u32::from_be_bytes(*checksum),
            crc32c::crc32c(&bytes[..length - 4]),
        );
        if found != computed {
            return Err(SnapshotError::Checksum { found, computed });
        }
        let mut input = Bytes::copy_from_slice(content);
        let version = i32::decode(&mut input)?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(SnapshotError::Version(version));
        }
        let mut tree = Tree::empty();
        tree.last_zxid = Zxid(i64::decode(&mut input)?);
        for _ in 0..i32::decode(&mut input)? {
            let (id, session) = take_session(&mut input)?;
            tree.sessions.insert(id, session);
        }
        for _ in 0..i32::decode(&mut input)? {
            let (path, node) = take_node(&tree, &mut input)?;
            if path != "/" && tree.get(path::parent(&path).unwrap_or("")).is_none() {
                return Err(SnapshotError::Orphan(path));
            }
            tree.link(path, node);
        }
        if version == 1 {
            tree.count_all();
        }
        Ok(tree)
    }

    /// Equal on members whose trees are equal.
    pub fn digest(&self) -> u64 {
        let hash = Sha256::digest(self.to_bytes());
        hash.iter()
            .take(8)
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }
}

fn put_node(out: &mut BytesMut, path: &str, node: &Node) {
    let (kind, owner) = match node.kind {
        NodeKind::Persistent => (0, SessionId(0)),
        NodeKind::Ephemeral(owner) => (1, owner),
        NodeKind::Container => (2, SessionId(0)),
        NodeKind::Ttl(ttl_ms) => (3, SessionId(ttl_ms)),
    };
    put_buffer(out, path.as_bytes());
    node.data.encode(out);
    node.acl.to_vec().encode(out);
    out.put_i32(kind);
    out.put_i64(owner.0);
    for number in [
        node.czxid.0,
        node.mzxid.0,
        node.pzxid.0,
        node.ctime_ms,
        node.mtime_ms,
    ] {
        out.put_i64(number);
    }
    for number in [node.version, node.aversion, node.creates] {
        out.put_i32(number);
    }
}

fn take_session(input: &mut Bytes) -> Result<(SessionId, Session), SnapshotError> {
    let id = SessionId(i64::decode(input)?);
    let password = Option::<Bytes>::decode(input)?.unwrap_or_default();
    let session = Session {
        password: <[u8; PASSWORD_BYTES]>::try_from(&password[..])
            .map_err(|_| JuteError::Length(i32::try_from(password.len()).unwrap_or(-1)))?,
        timeout_ms: i32::decode(input)?,
        connection: ConnectionId(i64::decode(input)?.cast_unsigned()),
        sequence: i64::decode(input)?.cast_unsigned(),
    };
    Ok((id, session))
}

fn take_node(tree: &Tree, input: &mut Bytes) -> Result<(String, Node), SnapshotError> {
    let path = String::decode(input)?;
    // A copy of its own: a slice would keep the whole snapshot in memory as long as one node lives.
    let data = Option::<Bytes>::decode(input)?.map(|data| Bytes::copy_from_slice(&data));
    let acl = Vec::<Acl>::decode(input)?;
    let kind = i32::decode(input)?;
    let owner = SessionId(i64::decode(input)?);
    let neighbour = tree
        .get(path::parent(&path).unwrap_or("/"))
        .map_or_else(|| acl.clone().into(), |parent| parent.acl.clone());
    let node = Node {
        data,
        acl: tree.share_acl(acl, &neighbour),
        kind: match kind {
            0 => NodeKind::Persistent,
            1 => NodeKind::Ephemeral(owner),
            2 => NodeKind::Container,
            3 => NodeKind::Ttl(owner.0),
            other => return Err(JuteError::Code(other).into()),
        },
        children: BTreeSet::new(),
        czxid: Zxid(i64::decode(input)?),
        mzxid: Zxid(i64::decode(input)?),
        pzxid: Zxid(i64::decode(input)?),
        ctime_ms: i64::decode(input)?,
        mtime_ms: i64::decode(input)?,
        version: i32::decode(input)?,
        aversion: i32::decode(input)?,
        creates: i32::decode(input)?,
    };
    Ok((path, node))
}
