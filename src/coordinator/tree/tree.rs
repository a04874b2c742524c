//! The tree of nodes: `apply` is the only way to change it, and answers every request.
//!
//! Checks happen here, once, on every member alike. The semantics and their order are those of
//! ZooKeeper's `PrepRequestProcessor` and `DataTree`. It must not look at anything but its arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::common::ids::{SessionId, Zxid};
use crate::coordinator::tree::op::{Change, ConnectionId, Data, Done, Op, Outcome, Request};
use crate::coordinator::tree::quota::{self, Excess};
use crate::coordinator::tree::{ad_hash, check};
use crate::zookeeper::acl::{self, Acl, Id};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{EventType, PASSWORD_BYTES, flags};
use crate::zookeeper::path;
use crate::zookeeper::stat::Stat;

/// Nodes that are there from the start and cannot be deleted.
const SPECIAL_PATHS: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
const CONFIG_PATH: &str = "/zookeeper/config";
/// The longest life of a TTL node (`EphemeralType.TTL`): what fits beside the type in 64 bits.
const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// When somebody deletes it.
    Persistent,
    /// With its session, or when somebody deletes it.
    Ephemeral(SessionId),
    /// Some time after its last child.
    Container,
    /// When it has no children and was not set for so many ms.
    Ttl(i64),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Null is not empty.
    pub data: Option<Bytes>,
    /// Shared by most nodes of a tree.
    pub acl: Arc<[Acl]>,
    /// How it ends.
    pub kind: NodeKind,
    /// Names, not paths.
    pub children: BTreeSet<String>,
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) pzxid: Zxid,
    pub(super) ctime_ms: i64,
    pub(super) mtime_ms: i64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// How many children were ever created; the next sequence number.
    pub(super) creates: i32,
}

impl Node {
    fn system(data: Option<Bytes>, acl: Arc<[Acl]>) -> Node {
        Node {
            data,
            acl,
            kind: NodeKind::Persistent,
            children: BTreeSet::new(),
            czxid: Zxid(0),
            mzxid: Zxid(0),
            pzxid: Zxid(0),
            ctime_ms: 0,
            mtime_ms: 0,
            version: 0,
            aversion: 0,
            creates: 0,
        }
    }

    /// What clients see of it.
    pub fn stat(&self) -> Stat {
        let num_children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            // Creates plus deletes, as DataNode.copyStat counts them.
            cversion: self.creates.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: match self.kind {
                NodeKind::Ephemeral(owner) => owner,
                // What stands there for these inside of ZooKeeper is not shown to clients.
                NodeKind::Persistent | NodeKind::Container | NodeKind::Ttl(_) => SessionId(0),
            },
            data_length: i32::try_from(self.data_bytes()).unwrap_or(i32::MAX),
            num_children,
            pzxid: self.pzxid,
        }
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Proves that a reconnecting client is the same one.
    pub password: [u8; PASSWORD_BYTES],
    /// Negotiated.
    pub timeout_ms: i32,
    /// The connection whose writes count.
    pub connection: ConnectionId,
    /// How many writes of that connection were applied.
    pub sequence: u64,
}

/// What somebody may be waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node changed.
    Node {
        /// How.
        kind: EventType,
        /// Its path.
        path: String,
        /// The transaction.
        zxid: Zxid,
        /// Who may read it; a watcher who may not is not told.
        acl: Arc<[Acl]>,
    },
    /// A session ended.
    SessionClosed(SessionId),
    /// A session goes on through another connection.
    SessionMoved(SessionId, ConnectionId),
    /// There is more below a node than its quota allows: ZooKeeper 3.6 does not refuse it, but warns.
    QuotaExceeded(Excess),
}

/// Nodes and sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub(super) last_zxid: Zxid,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    // What follows can be derived from the nodes.
    pub(super) ephemerals: BTreeMap<SessionId, BTreeSet<String>>,
    pub(super) containers: BTreeSet<String>,
    pub(super) ttls: BTreeSet<String>,
    /// The nodes that have a quota.
    pub(super) quotas: BTreeSet<String>,
    pub(super) data_bytes: u64,
    ad_hash: u64,
    open: Arc<[Acl]>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

/// One transaction while it runs.
pub(super) struct Txn<'a> {
    zxid: Zxid,
    now_ms: i64,
    session: SessionId,
    auth: &'a [Id],
    pub(super) events: Vec<Event>,
    pub(super) undo: Vec<Undo>,
}

/// How to take one step of a multi back.
pub(super) enum Undo {
    Create {
        path: String,
        parent_pzxid: Zxid,
    },
    Delete {
        path: String,
        node: Box<Node>,
        parent_pzxid: Zxid,
    },
    Node {
        path: String,
        data: Option<Bytes>,
        acl: Arc<[Acl]>,
        mzxid: Zxid,
        mtime_ms: i64,
        version: i32,
        aversion: i32,
    },
}

impl Tree {
    /// The tree of a new ensemble: the root and ZooKeeper's own three nodes.
    pub fn new() -> Tree {
        let mut tree = Tree::empty();
        let open = tree.open.clone();
        let read_only: Arc<[Acl]> = Acl::read_only().into();
        for path in SPECIAL_PATHS {
            let acl = if path == CONFIG_PATH {
                &read_only
            } else {
                &open
            };
            let mut node = Node::system(Some(Bytes::new()), acl.clone());
            if path == CONFIG_PATH {
                node.aversion = -1;
            }
            tree.link(path.to_owned(), node);
        }
        tree
    }

    /// No node at all; only for reading a snapshot.
    pub(super) fn empty() -> Tree {
        Tree {
            last_zxid: Zxid(0),
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: BTreeSet::new(),
            data_bytes: 0,
            ad_hash: 0,
            open: Acl::open().into(),
        }
    }

    /// The last transaction applied.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// One node.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All nodes; ZooKeeper counts its root twice.
    pub fn node_count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// Bytes of paths and data.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The digest of all nodes, as ZooKeeper calculates it.
    pub fn ad_hash(&self) -> u64 {
        self.ad_hash
    }

    /// Changes a node where it stands.
    fn alter<T>(&mut self, path: &str, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let node = self.nodes.get_mut(path)?;
        self.ad_hash = self.ad_hash.wrapping_sub(ad_hash::of(path, node));
        let result = change(node);
        self.ad_hash = self.ad_hash.wrapping_add(ad_hash::of(path, node));
        Some(result)
    }

    /// All sessions, in order of their ids.
    pub fn sessions(&self) -> &BTreeMap<SessionId, Session> {
        &self.sessions
    }

    /// The paths that end with this session.
    pub fn ephemerals_of(&self, session: SessionId) -> impl Iterator<Item = &String> {
        self.ephemerals.get(&session).into_iter().flatten()
    }

    /// How many nodes are ephemeral.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// How many nodes are below `path`, at any depth.
    pub fn descendants(&self, path: &str) -> usize {
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        self.nodes
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| path.as_str() != "/")
            .count()
    }

    /// Containers that had children and have none now; also those that never had any for longer than
    /// `never_used_ms`, unless that is 0 (`ContainerManager.getCandidates`).
    pub fn empty_containers(&self, now_ms: i64, never_used_ms: i64) -> Vec<String> {
        let empty = |path: &&String| {
            self.get(path).is_some_and(|node| {
                let forgotten =
                    never_used_ms != 0 && now_ms.saturating_sub(node.mtime_ms) > never_used_ms;
                node.children.is_empty() && (node.creates != 0 || forgotten)
            })
        };
        self.containers.iter().filter(empty).cloned().collect()
    }

    /// TTL nodes whose time is up.
    pub fn overdue(&self, now_ms: i64) -> Vec<String> {
        let over = |path: &&String| self.get(path).is_some_and(|node| node.is_overdue(now_ms));
        self.ttls.iter().filter(over).cloned().collect()
    }

    /// Applies one committed request. Deterministic and infallible; an error is an answer and has a
    /// zxid too. The events are those of this transaction, in order.
    pub fn apply(&mut self, zxid: Zxid, request: &Request) -> (Outcome, Vec<Event>) {
        self.last_zxid = zxid;
        let mut txn = Txn {
            zxid,
            now_ms: request.now_ms,
            session: request.session,
            auth: &request.auth,
            events: Vec::new(),
            undo: Vec::new(),
        };
        let result = self.run(&mut txn, request);
        if result.is_err() {
            txn.events.clear();
        }
        (Outcome { zxid, result }, txn.events)
    }

    fn run(&mut self, txn: &mut Txn<'_>, request: &Request) -> Result<Done, ErrorCode> {
        match &request.op {
            Op::CreateSession {
                password,
                timeout_ms,
            } => self.create_session(request, *password, *timeout_ms),
            Op::AttachSession {
                password,
                timeout_ms,
            } => self.attach_session(txn, request, password, *timeout_ms),
            Op::CloseSession => {
                self.admit(request)?;
                self.end_session(txn, request.session)
            }
            Op::ExpireSession { term } => {
                if u64::try_from(txn.zxid.0 >> 32) != Ok(*term) {
                    return Err(ErrorCode::RequestTimeout);
                }
                self.end_session(txn, request.session)
            }
            Op::Change(change) => {
                self.admit(request)?;
                self.change(txn, change)
            }
            Op::Multi(changes) => {
                self.admit(request)?;
                Ok(Done::Multi(self.multi(txn, changes)))
            }
            Op::DeleteContainer { path } => {
                let node = self.get(path).ok_or(ErrorCode::NoNode)?;
                if node.kind != NodeKind::Container {
                    return Err(ErrorCode::BadArguments);
                }
                if !node.children.is_empty() {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(txn, path);
                Ok(Done::Nothing)
            }
            Op::DeleteTtl { path } => {
                // It may have been set, or got a child, since the leader looked.
                let node = self.get(path).ok_or(ErrorCode::NoNode)?;
                if !node.is_overdue(txn.now_ms) {
                    return Err(ErrorCode::BadVersion);
                }
                self.remove(txn, path);
                Ok(Done::Nothing)
            }
            Op::SetConfig { data } => self.set_config(txn, data),
        }
    }

    fn set_config(&mut self, txn: &mut Txn<'_>, data: &Data) -> Result<Done, ErrorCode> {
        self.store(txn, CONFIG_PATH, data.own())
    }

    fn multi(
        &mut self,
        txn: &mut Txn<'_>,
        changes: &[Change],
    ) -> Result<Vec<Done>, Vec<Option<ErrorCode>>> {
        let mut done = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match self.change(txn, change) {
                Ok(step) => done.push(step),
                Err(error) => {
                    txn.events.clear();
                    while let Some(step) = txn.undo.pop() {
                        self.take_back(step);
                    }
                    let codes = (0..changes.len()).map(|at| match at.cmp(&index) {
                        std::cmp::Ordering::Less => None,
                        std::cmp::Ordering::Equal => Some(error),
                        std::cmp::Ordering::Greater => Some(ErrorCode::RuntimeInconsistency),
                    });
                    return Err(codes.collect());
                }
            }
        }
        Ok(done)
    }

    fn change(&mut self, txn: &mut Txn<'_>, change: &Change) -> Result<Done, ErrorCode> {
        match change {
            Change::Create {
                path,
                data,
                acl,
                flags,
            } => {
                let (kind, is_sequential) = kind_of(*flags, txn.session)?;
                self.create(txn, path, data, acl, kind, is_sequential)
            }
            Change::CreateTtl {
                path,
                data,
                acl,
                is_sequential,
                ttl_ms,
            } => {
                if !(1..=TTL_MAX_MS).contains(ttl_ms) {
                    return Err(ErrorCode::BadArguments);
                }
                self.create(txn, path, data, acl, NodeKind::Ttl(*ttl_ms), *is_sequential)
            }
            Change::Delete { path, version } => self.delete(txn, path, *version),
            Change::SetData {
                path,
                data,
                version,
            } => {
                let node = self.existing(path)?;
                check::permitted(&node.acl, acl::WRITE, txn.auth)?;
                check::version(node.version, *version)?;
                self.store(txn, path, data.own())
            }
            Change::SetAcl { path, acl, version } => self.set_acl(txn, path, acl, *version),
            Change::Check { path, version } => {
                let node = self.existing(path)?;
                check::permitted(&node.acl, acl::READ, txn.auth)?;
                check::version(node.version, *version)?;
                Ok(Done::Nothing)
            }
        }
    }

    fn existing(&self, path: &str) -> Result<&Node, ErrorCode> {
        if !path::valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        self.get(path).ok_or(ErrorCode::NoNode)
    }

    fn create(
        &mut self,
        txn: &mut Txn<'_>,
        asked: &str,
        data: &Data,
        asked_acl: &[Acl],
        kind: NodeKind,
        is_sequential: bool,
    ) -> Result<Done, ErrorCode> {
        let parent_path = path::parent(asked).ok_or(ErrorCode::BadArguments)?;
        if asked.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let resolved = check::resolve_acl(asked_acl, txn.auth)?;
        let parent = self.get(parent_path).ok_or(ErrorCode::NoNode)?;
        check::permitted(&parent.acl, acl::CREATE, txn.auth)?;
        let path = if is_sequential {
            path::sequential(asked, parent.creates)
        } else {
            asked.to_owned()
        };
        if !path::valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.kind, NodeKind::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let (parent_pzxid, parent_acl) = (parent.pzxid, parent.acl.clone());
        let parent_path = parent_path.to_owned();
        let node = Node {
            data: data.own(),
            acl: self.share_acl(resolved, &parent_acl),
            kind,
            children: BTreeSet::new(),
            czxid: txn.zxid,
            mzxid: txn.zxid,
            pzxid: txn.zxid,
            ctime_ms: txn.now_ms,
            mtime_ms: txn.now_ms,
            version: 0,
            aversion: 0,
            creates: 0,
        };
        let (stat, bytes) = (node.stat(), node.data_bytes());
        txn.node_event(EventType::NodeCreated, &path, &node.acl);
        txn.node_event(EventType::NodeChildrenChanged, &parent_path, &parent_acl);
        self.link(path.clone(), node);
        self.alter(&parent_path, |parent| {
            parent.creates = parent.creates.wrapping_add(1);
            parent.pzxid = txn.zxid;
        });
        txn.undo.push(Undo::Create {
            path: path.clone(),
            parent_pzxid,
        });
        self.begin_count(txn, &path);
        self.count(txn, &path, quota::change(0, bytes), 1);
        Ok(Done::Created(path, stat))
    }

    fn delete(&mut self, txn: &mut Txn<'_>, path: &str, version: i32) -> Result<Done, ErrorCode> {
        let parent_path = path::parent(path).ok_or(ErrorCode::BadArguments)?;
        if path.contains('\0') || SPECIAL_PATHS.contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.get(parent_path).ok_or(ErrorCode::NoNode)?;
        check::permitted(&parent.acl, acl::DELETE, txn.auth)?;
        let node = self.get(path).ok_or(ErrorCode::NoNode)?;
        check::version(node.version, version)?;
        if !node.children.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(txn, path);
        Ok(Done::Nothing)
    }

    fn set_acl(
        &mut self,
        txn: &mut Txn<'_>,
        path: &str,
        asked: &[Acl],
        version: i32,
    ) -> Result<Done, ErrorCode> {
        if !path::valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let resolved = check::resolve_acl(asked, txn.auth)?;
        let node = self.get(path).ok_or(ErrorCode::NoNode)?;
        check::permitted(&node.acl, acl::ADMIN, txn.auth)?;
        check::version(node.aversion, version)?;
        txn.undo.push(node.before(path));
        let acl = self.share_acl(resolved, &node.acl.clone());
        let stat = self.alter(path, |node| {
            node.acl = acl;
            node.aversion = node.aversion.wrapping_add(1);
            node.stat()
        });
        stat.map(Done::Stat).ok_or(ErrorCode::NoNode)
    }

    /// Sets a node's data; the checks are done.
    fn store(
        &mut self,
        txn: &mut Txn<'_>,
        path: &str,
        data: Option<Bytes>,
    ) -> Result<Done, ErrorCode> {
        let changed = self.alter(path, |node| {
            txn.undo.push(node.before(path));
            let before = node.data_bytes();
            node.data = data;
            node.version = node.version.wrapping_add(1);
            node.mzxid = txn.zxid;
            node.mtime_ms = txn.now_ms;
            txn.node_event(EventType::NodeDataChanged, path, &node.acl);
            (before, node.data_bytes(), node.stat())
        });
        let (before, bytes, stat) = changed.ok_or(ErrorCode::NoNode)?;
        self.data_bytes = self.data_bytes - before as u64 + bytes as u64;
        self.count(txn, path, quota::change(before, bytes), 0);
        Ok(Done::Stat(stat))
    }

    /// Deletes a node without children; the checks are done.
    pub(super) fn remove(&mut self, txn: &mut Txn<'_>, path: &str) {
        let Some(node) = self.unlink(path) else {
            return;
        };
        txn.node_event(EventType::NodeDeleted, path, &node.acl);
        let bytes = node.data_bytes();
        let parent_path = path::parent(path).unwrap_or("/");
        self.alter(parent_path, |parent| {
            txn.undo.push(Undo::Delete {
                path: path.to_owned(),
                node: Box::new(node),
                parent_pzxid: parent.pzxid,
            });
            parent.pzxid = txn.zxid;
            txn.node_event(EventType::NodeChildrenChanged, parent_path, &parent.acl);
        });
        self.count(txn, path, quota::change(bytes, 0), -1);
    }

    /// Puts a node into the maps that hold it, and its name into its parent.
    pub(super) fn link(&mut self, path: String, node: Node) {
        self.data_bytes += (path.len() + node.data_bytes()) as u64;
        self.ad_hash = self.ad_hash.wrapping_add(ad_hash::of(&path, &node));
        match node.kind {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(owner) => {
                self.ephemerals
                    .entry(owner)
                    .or_default()
                    .insert(path.clone());
            }
            NodeKind::Container => {
                self.containers.insert(path.clone());
            }
            NodeKind::Ttl(_) => {
                self.ttls.insert(path.clone());
            }
        }
        if let Some(limited) = quota::limited_by(&path) {
            self.quotas.insert(limited.to_owned());
        }
        if path != "/"
            && let Some(parent) = self.nodes.get_mut(path::parent(&path).unwrap_or("/"))
        {
            parent.children.insert(path::name(&path).to_owned());
        }
        self.nodes.insert(path, node);
    }

    fn unlink(&mut self, path: &str) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        self.data_bytes -= (path.len() + node.data_bytes()) as u64;
        self.ad_hash = self.ad_hash.wrapping_sub(ad_hash::of(path, &node));
        match node.kind {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(owner) => {
                if let Some(paths) = self.ephemerals.get_mut(&owner) {
                    paths.remove(path);
                    if paths.is_empty() {
                        self.ephemerals.remove(&owner);
                    }
                }
            }
            NodeKind::Container => {
                self.containers.remove(path);
            }
            NodeKind::Ttl(_) => {
                self.ttls.remove(path);
            }
        }
        if let Some(limited) = quota::limited_by(path) {
            self.quotas.remove(limited);
        }
        if let Some(parent) = self.nodes.get_mut(path::parent(path).unwrap_or("/")) {
            parent.children.remove(path::name(path));
        }
        Some(node)
    }

    fn take_back(&mut self, step: Undo) {
        match step {
            Undo::Create { path, parent_pzxid } => {
                self.unlink(&path);
                self.alter(path::parent(&path).unwrap_or("/"), |parent| {
                    parent.creates = parent.creates.wrapping_sub(1);
                    parent.pzxid = parent_pzxid;
                });
            }
            Undo::Delete {
                path,
                node,
                parent_pzxid,
            } => {
                self.alter(path::parent(&path).unwrap_or("/"), |parent| {
                    parent.pzxid = parent_pzxid;
                });
                self.link(path, *node);
            }
            Undo::Node {
                path,
                data,
                acl,
                mzxid,
                mtime_ms,
                version,
                aversion,
            } => {
                let bytes = self.alter(&path, |node| {
                    let before = node.data_bytes();
                    node.data = data;
                    node.acl = acl;
                    node.mzxid = mzxid;
                    node.mtime_ms = mtime_ms;
                    node.version = version;
                    node.aversion = aversion;
                    (before as u64, node.data_bytes() as u64)
                });
                if let Some((before, bytes)) = bytes {
                    self.data_bytes = self.data_bytes - before + bytes;
                }
            }
        }
    }

    /// Most nodes have the open ACL or their parent's: keep one copy.
    pub(super) fn share_acl(&self, acl: Vec<Acl>, neighbour: &Arc<[Acl]>) -> Arc<[Acl]> {
        if acl[..] == self.open[..] {
            self.open.clone()
        } else if acl[..] == neighbour[..] {
            neighbour.clone()
        } else {
            acl.into()
        }
    }
}

impl Node {
    /// Is it a TTL node whose time is up?
    fn is_overdue(&self, now_ms: i64) -> bool {
        match self.kind {
            NodeKind::Ttl(ttl_ms) => {
                self.children.is_empty() && now_ms.saturating_sub(self.mtime_ms) > ttl_ms
            }
            _ => false,
        }
    }

    pub(super) fn before(&self, path: &str) -> Undo {
        Undo::Node {
            path: path.to_owned(),
            data: self.data.clone(),
            acl: self.acl.clone(),
            mzxid: self.mzxid,
            mtime_ms: self.mtime_ms,
            version: self.version,
            aversion: self.aversion,
        }
    }
}

impl Txn<'_> {
    fn node_event(&mut self, kind: EventType, path: &str, acl: &Arc<[Acl]>) {
        self.events.push(Event::Node {
            kind,
            path: path.to_owned(),
            zxid: self.zxid,
            acl: acl.clone(),
        });
    }
}

/// What a create's flags ask for: the kind, and whether a number is added to the name.
fn kind_of(asked_flags: i32, session: SessionId) -> Result<(NodeKind, bool), ErrorCode> {
    Ok(match asked_flags {
        flags::PERSISTENT => (NodeKind::Persistent, false),
        flags::EPHEMERAL => (NodeKind::Ephemeral(session), false),
        flags::PERSISTENT_SEQUENTIAL => (NodeKind::Persistent, true),
        flags::EPHEMERAL_SEQUENTIAL => (NodeKind::Ephemeral(session), true),
        flags::CONTAINER => (NodeKind::Container, false),
        // Only without extendedTypesEnabled: with it, createTTL is a change of its own.
        flags::PERSISTENT_WITH_TTL | flags::PERSISTENT_SEQUENTIAL_WITH_TTL => {
            return Err(ErrorCode::Unimplemented);
        }
        _ => return Err(ErrorCode::BadArguments),
    })
}

#[cfg(test)]
mod tests;
