//! Every record that crosses the client port: handshake, headers, requests, replies, watch events.
//!
//! All of them encode and decode, so a server, a client and a proxy read the same code. Frames are
//! `put_frame` around header and record. What a record means is decided elsewhere.

use bytes::{Bytes, BytesMut};

use crate::zookeeper::acl::Acl;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::jute::{Jute, JuteError, put_buffer, put_frame, records};
use crate::zookeeper::stat::Stat;

/// The xid of watch events.
pub const XID_EVENT: i32 = -1;
/// The xid of pings.
pub const XID_PING: i32 = -2;
/// The xid of authentication packets.
pub const XID_AUTH: i32 = -4;
/// The xid that most clients give setWatches.
pub const XID_SET_WATCHES: i32 = -8;
/// Length of a session's password.
pub const PASSWORD_BYTES: usize = 16;
/// `jute.maxbuffer` of ZooKeeper 3.6: the longest frame.
pub const FRAME_BYTES_MAX: usize = 0xf_ffff;

/// Operation codes (`ZooDefs.OpCode`).
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
    /// In a multi's results: an error stands here.
    pub const ERROR: i32 = -1;
}

/// Bits of a create's flags that Kafka and the classic API use.
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod flags {
    pub const PERSISTENT: i32 = 0;
    pub const EPHEMERAL: i32 = 1;
    pub const PERSISTENT_SEQUENTIAL: i32 = 2;
    pub const EPHEMERAL_SEQUENTIAL: i32 = 3;
    pub const CONTAINER: i32 = 4;
    pub const PERSISTENT_WITH_TTL: i32 = 5;
    pub const PERSISTENT_SEQUENTIAL_WITH_TTL: i32 = 6;
}

/// Modes of addWatch.
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod watch_mode {
    pub const PERSISTENT: i32 = 0;
    pub const PERSISTENT_RECURSIVE: i32 = 1;
}

/// Kinds of watch that checkWatches and removeWatches name.
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod watcher_type {
    pub const CHILDREN: i32 = 1;
    pub const DATA: i32 = 2;
    pub const ANY: i32 = 3;
}

records! {
    /// In front of every request but the first.
    RequestHeader { /** Echoed in the reply. */ xid: i32, /** See [`op`]. */ op: i32 }
    /// In front of every reply but the first.
    ReplyHeader { /** The request's. */ xid: i32, /** See §1 of the protocol. */ zxid: i64, /** 0, or an error's number. */ err: i32 }
    /// create, create2, createContainer.
    CreateRequest { /** … */ path: String, /** May be null. */ data: Option<Bytes>, /** … */ acl: Vec<Acl>, /** See [`flags`]. */ flags: i32 }
    /// createTTL.
    CreateTtlRequest { /** … */ path: String, /** May be null. */ data: Option<Bytes>, /** … */ acl: Vec<Acl>, /** See [`flags`]. */ flags: i32, /** … */ ttl_ms: i64 }
    /// delete, and check inside a multi.
    VersionedPath { /** … */ path: String, /** −1: any. */ version: i32 }
    /// exists, getData, getChildren, getChildren2.
    WatchedPath { /** … */ path: String, /** Leave a watch? */ watch: bool }
    /// setData.
    SetDataRequest { /** … */ path: String, /** May be null. */ data: Option<Bytes>, /** −1: any. */ version: i32 }
    /// setACL.
    SetAclRequest { /** … */ path: String, /** … */ acl: Vec<Acl>, /** The expected aversion; −1: any. */ version: i32 }
    /// reconfig.
    ReconfigRequest { /** … */ joining: String, /** … */ leaving: String, /** … */ new_members: String, /** … */ version: i64 }
    /// checkWatches, removeWatches.
    WatchesRequest { /** … */ path: String, /** See [`watcher_type`]. */ kind: i32 }
    /// addWatch.
    AddWatchRequest { /** … */ path: String, /** See [`watch_mode`]. */ mode: i32 }
    /// setWatches.
    SetWatchesRequest { /** The last zxid that the client saw. */ relative_zxid: i64, /** … */ data: Vec<String>, /** … */ exist: Vec<String>, /** … */ child: Vec<String> }
    /// setWatches2.
    SetWatches2Request { /** The last zxid that the client saw. */ relative_zxid: i64, /** … */ data: Vec<String>, /** … */ exist: Vec<String>, /** … */ child: Vec<String>, /** … */ persistent: Vec<String>, /** … */ persistent_recursive: Vec<String> }
    /// auth.
    AuthRequest { /** Always 0. */ kind: i32, /** … */ scheme: String, /** … */ auth: Option<Bytes> }
    /// In front of every part of a multi, and behind the last one.
    MultiHeader { /** See [`op`]. */ op: i32, /** Is this the end? */ done: bool, /** −1 in requests. */ err: i32 }
    /// getData's reply.
    DataReply { /** May be null. */ data: Option<Bytes>, /** … */ stat: Stat }
    /// create2's reply.
    Create2Reply { /** The path, with the sequence if there is one. */ path: String, /** … */ stat: Stat }
    /// getChildren2's reply.
    Children2Reply { /** Names, not paths. */ children: Vec<String>, /** … */ stat: Stat }
    /// getACL's reply.
    AclReply { /** … */ acl: Vec<Acl>, /** … */ stat: Stat }
    /// A watch event's record, under a header with [`XID_EVENT`].
    WatcherEvent { /** See [`EventType`]. */ kind: i32, /** 3: SyncConnected. */ state: i32, /** The node's full path. */ path: String }
}

/// What a watch event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// The node came into being.
    NodeCreated = 1,
    /// The node is gone.
    NodeDeleted = 2,
    /// The node's data was set.
    NodeDataChanged = 3,
    /// A child came or went.
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The type of a number on the wire; the local-only kinds of the Java client are `None`.
    pub fn from_code(code: i32) -> Option<EventType> {
        match code {
            1 => Some(EventType::NodeCreated),
            2 => Some(EventType::NodeDeleted),
            3 => Some(EventType::NodeDataChanged),
            4 => Some(EventType::NodeChildrenChanged),
            _ => None,
        }
    }
}

/// `KeeperState.SyncConnected`.
pub const STATE_SYNC_CONNECTED: i32 = 3;

/// Appends a whole event frame.
pub fn put_event(out: &mut BytesMut, kind: EventType, path: &str) {
    put_frame(out, |out| {
        put_header(out, XID_EVENT, -1, 0);
        (kind as i32).encode(out);
        STATE_SYNC_CONNECTED.encode(out);
        put_buffer(out, path.as_bytes());
    });
}

/// Appends a reply header.
pub fn put_header(out: &mut BytesMut, xid: i32, zxid: i64, err: i32) {
    xid.encode(out);
    zxid.encode(out);
    err.encode(out);
}

/// The first frame of a connection, without a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Always 0.
    pub protocol_version: i32,
    /// The last zxid that this client has seen from anybody.
    pub last_zxid_seen: i64,
    /// The session timeout it wants, in ms.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session_id: i64,
    /// 16 bytes; zeros for a new session.
    pub password: Option<Bytes>,
    /// Absent from very old clients; then the reply leaves it out too.
    pub read_only: Option<bool>,
}

impl Jute for ConnectRequest {
    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.last_zxid_seen.encode(out);
        self.timeout_ms.encode(out);
        self.session_id.encode(out);
        self.password.encode(out);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }
    fn decode(input: &mut Bytes) -> Result<Self, JuteError> {
        Ok(ConnectRequest {
            protocol_version: i32::decode(input)?,
            last_zxid_seen: i64::decode(input)?,
            timeout_ms: i32::decode(input)?,
            session_id: i64::decode(input)?,
            password: Option::decode(input)?,
            read_only: if input.is_empty() {
                None
            } else {
                Some(bool::decode(input)?)
            },
        })
    }
}

/// The server's first frame, without a header. Timeout and id 0 mean that the session is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Always 0.
    pub protocol_version: i32,
    /// The negotiated session timeout, in ms.
    pub timeout_ms: i32,
    /// The session.
    pub session_id: i64,
    /// Its password.
    pub password: [u8; PASSWORD_BYTES],
    /// Present if the request had it.
    pub read_only: Option<bool>,
}

impl Jute for ConnectResponse {
    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.timeout_ms.encode(out);
        self.session_id.encode(out);
        put_buffer(out, &self.password);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }
    fn decode(input: &mut Bytes) -> Result<Self, JuteError> {
        let protocol_version = i32::decode(input)?;
        let timeout_ms = i32::decode(input)?;
        let session_id = i64::decode(input)?;
        let password = Option::<Bytes>::decode(input)?.unwrap_or_default();
        Ok(ConnectResponse {
            protocol_version,
            timeout_ms,
            session_id,
            password: <[u8; PASSWORD_BYTES]>::try_from(&password[..])
                .map_err(|_| JuteError::Length(i32::try_from(password.len()).unwrap_or(-1)))?,
            read_only: if input.is_empty() {
                None
            } else {
                Some(bool::decode(input)?)
            },
        })
    }
}

/// Which of the three create operations that carry the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKind {
    /// create: answers the path.
    Create,
    /// create2: answers path and Stat.
    Create2,
    /// createContainer: answers path and Stat.
    Container,
}

impl CreateKind {
    /// Its operation code.
    pub fn op(self) -> i32 {
        match self {
            CreateKind::Create => op::CREATE,
            CreateKind::Create2 => op::CREATE2,
            CreateKind::Container => op::CREATE_CONTAINER,
        }
    }
}

/// One step of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum MultiOp {
    Create(CreateKind, CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(VersionedPath),
    SetData(SetDataRequest),
    Check(VersionedPath),
    GetData(WatchedPath),
    GetChildren(WatchedPath),
}

impl MultiOp {
    /// Its operation code.
    pub fn op(&self) -> i32 {
        match self {
            MultiOp::Create(kind, _) => kind.op(),
            MultiOp::CreateTtl(_) => op::CREATE_TTL,
            MultiOp::Delete(_) => op::DELETE,
            MultiOp::SetData(_) => op::SET_DATA,
            MultiOp::Check(_) => op::CHECK,
            MultiOp::GetData(_) => op::GET_DATA,
            MultiOp::GetChildren(_) => op::GET_CHILDREN,
        }
    }

    fn decode(code: i32, input: &mut Bytes) -> Result<MultiOp, JuteError> {
        Ok(match code {
            op::CREATE => MultiOp::Create(CreateKind::Create, Jute::decode(input)?),
            op::CREATE2 => MultiOp::Create(CreateKind::Create2, Jute::decode(input)?),
            op::CREATE_CONTAINER => MultiOp::Create(CreateKind::Container, Jute::decode(input)?),
            op::CREATE_TTL => MultiOp::CreateTtl(Jute::decode(input)?),
            op::DELETE => MultiOp::Delete(Jute::decode(input)?),
            op::SET_DATA => MultiOp::SetData(Jute::decode(input)?),
            op::CHECK => MultiOp::Check(Jute::decode(input)?),
            op::GET_DATA => MultiOp::GetData(Jute::decode(input)?),
            op::GET_CHILDREN => MultiOp::GetChildren(Jute::decode(input)?),
            other => return Err(JuteError::Code(other)),
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            MultiOp::Create(_, record) => record.encode(out),
            MultiOp::CreateTtl(record) => record.encode(out),
            MultiOp::Delete(record) | MultiOp::Check(record) => record.encode(out),
            MultiOp::SetData(record) => record.encode(out),
            MultiOp::GetData(record) | MultiOp::GetChildren(record) => record.encode(out),
        }
    }
}

/// The steps of a multi or multiRead, as they follow the request header.
impl Jute for Vec<MultiOp> {
    fn encode(&self, out: &mut BytesMut) {
        for step in self {
            put_multi_header(out, step.op(), false, -1);
            step.encode(out);
        }
        put_multi_header(out, -1, true, -1);
    }
    fn decode(input: &mut Bytes) -> Result<Self, JuteError> {
        let mut steps = Vec::new();
        loop {
            let header = MultiHeader::decode(input)?;
            if header.done {
                return Ok(steps);
            }
            steps.push(MultiOp::decode(header.op, input)?);
        }
    }
}

fn put_multi_header(out: &mut BytesMut, op: i32, done: bool, err: i32) {
    MultiHeader { op, done, err }.encode(out);
}

/// One step's result within a multi's or multiRead's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum MultiResult {
    Create(String),
    Create2(CreateKind, Create2Reply),
    Delete,
    SetData(Stat),
    Check,
    GetData(DataReply),
    GetChildren(Vec<String>),
    /// `None`: this step would have succeeded, another one did not.
    Error(Option<ErrorCode>),
}

impl Jute for Vec<MultiResult> {
    fn encode(&self, out: &mut BytesMut) {
        for result in self {
            match result {
                MultiResult::Create(path) => {
                    put_multi_header(out, op::CREATE, false, 0);
                    path.encode(out);
                }
                MultiResult::Create2(kind, reply) => {
                    put_multi_header(out, kind.op(), false, 0);
                    reply.encode(out);
                }
                MultiResult::Delete => put_multi_header(out, op::DELETE, false, 0),
                MultiResult::SetData(stat) => {
                    put_multi_header(out, op::SET_DATA, false, 0);
                    stat.encode(out);
                }
                MultiResult::Check => put_multi_header(out, op::CHECK, false, 0),
                MultiResult::GetData(reply) => {
                    put_multi_header(out, op::GET_DATA, false, 0);
                    reply.encode(out);
                }
                MultiResult::GetChildren(children) => {
                    put_multi_header(out, op::GET_CHILDREN, false, 0);
                    children.encode(out);
                }
                MultiResult::Error(error) => {
                    let code = error.map_or(0, ErrorCode::code);
                    put_multi_header(out, op::ERROR, false, code);
                    code.encode(out);
                }
            }
        }
        put_multi_header(out, -1, true, -1);
    }

    fn decode(input: &mut Bytes) -> Result<Self, JuteError> {
        let mut results = Vec::new();
        loop {
            let header = MultiHeader::decode(input)?;
            if header.done {
                return Ok(results);
            }
            results.push(match header.op {
                op::CREATE => MultiResult::Create(String::decode(input)?),
                op::CREATE2 => MultiResult::Create2(CreateKind::Create2, Jute::decode(input)?),
                op::CREATE_CONTAINER => {
                    MultiResult::Create2(CreateKind::Container, Jute::decode(input)?)
                }
                op::DELETE => MultiResult::Delete,
                op::SET_DATA => MultiResult::SetData(Stat::decode(input)?),
                op::CHECK => MultiResult::Check,
                op::GET_DATA => MultiResult::GetData(Jute::decode(input)?),
                op::GET_CHILDREN => MultiResult::GetChildren(Jute::decode(input)?),
                op::ERROR => MultiResult::Error(ErrorCode::from_code(i32::decode(input)?)),
                other => return Err(JuteError::Code(other)),
            });
        }
    }
}

/// A request's record with its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Request {
    Create(CreateKind, CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(VersionedPath),
    Exists(WatchedPath),
    GetData(WatchedPath),
    SetData(SetDataRequest),
    GetAcl(String),
    SetAcl(SetAclRequest),
    GetChildren(WatchedPath),
    GetChildren2(WatchedPath),
    Sync(String),
    Ping,
    Check(VersionedPath),
    Multi(Vec<MultiOp>),
    MultiRead(Vec<MultiOp>),
    Reconfig(ReconfigRequest),
    CheckWatches(WatchesRequest),
    RemoveWatches(WatchesRequest),
    Auth(AuthRequest),
    SetWatches(SetWatchesRequest),
    SetWatches2(SetWatches2Request),
    GetEphemerals(String),
    GetAllChildrenNumber(String),
    AddWatch(AddWatchRequest),
    /// A token of SASL.
    Sasl(Option<Bytes>),
    CloseSession,
    /// An operation that this table does not hold; its record is not looked at.
    Unknown(i32),
}

impl Request {
    /// Its operation code.
    pub fn op(&self) -> i32 {
        match self {
            Request::Create(kind, _) => kind.op(),
            Request::CreateTtl(_) => op::CREATE_TTL,
            Request::Delete(_) => op::DELETE,
            Request::Exists(_) => op::EXISTS,
            Request::GetData(_) => op::GET_DATA,
            Request::SetData(_) => op::SET_DATA,
            Request::GetAcl(_) => op::GET_ACL,
            Request::SetAcl(_) => op::SET_ACL,
            Request::GetChildren(_) => op::GET_CHILDREN,
            Request::GetChildren2(_) => op::GET_CHILDREN2,
            Request::Sync(_) => op::SYNC,
            Request::Ping => op::PING,
            Request::Check(_) => op::CHECK,
            Request::Multi(_) => op::MULTI,
            Request::MultiRead(_) => op::MULTI_READ,
            Request::Reconfig(_) => op::RECONFIG,
            Request::CheckWatches(_) => op::CHECK_WATCHES,
            Request::RemoveWatches(_) => op::REMOVE_WATCHES,
            Request::Auth(_) => op::AUTH,
            Request::SetWatches(_) => op::SET_WATCHES,
            Request::SetWatches2(_) => op::SET_WATCHES2,
            Request::GetEphemerals(_) => op::GET_EPHEMERALS,
            Request::GetAllChildrenNumber(_) => op::GET_ALL_CHILDREN_NUMBER,
            Request::AddWatch(_) => op::ADD_WATCH,
            Request::Sasl(_) => op::SASL,
            Request::CloseSession => op::CLOSE_SESSION,
            Request::Unknown(code) => *code,
        }
    }

    /// Reads the record of operation `code`. Bytes behind the record are ignored, as ZooKeeper does.
    pub fn decode(code: i32, input: &mut Bytes) -> Result<Request, JuteError> {
        Ok(match code {
            op::CREATE => Request::Create(CreateKind::Create, Jute::decode(input)?),
            op::CREATE2 => Request::Create(CreateKind::Create2, Jute::decode(input)?),
            op::CREATE_CONTAINER => Request::Create(CreateKind::Container, Jute::decode(input)?),
            op::CREATE_TTL => Request::CreateTtl(Jute::decode(input)?),
            op::DELETE => Request::Delete(Jute::decode(input)?),
            op::EXISTS => Request::Exists(Jute::decode(input)?),
            op::GET_DATA => Request::GetData(Jute::decode(input)?),
            op::SET_DATA => Request::SetData(Jute::decode(input)?),
            op::GET_ACL => Request::GetAcl(Jute::decode(input)?),
            op::SET_ACL => Request::SetAcl(Jute::decode(input)?),
            op::GET_CHILDREN => Request::GetChildren(Jute::decode(input)?),
            op::GET_CHILDREN2 => Request::GetChildren2(Jute::decode(input)?),
            op::SYNC => Request::Sync(Jute::decode(input)?),
            op::PING => Request::Ping,
            op::CHECK => Request::Check(Jute::decode(input)?),
            op::MULTI => Request::Multi(Jute::decode(input)?),
            op::MULTI_READ => Request::MultiRead(Jute::decode(input)?),
            op::RECONFIG => Request::Reconfig(Jute::decode(input)?),
            op::CHECK_WATCHES => Request::CheckWatches(Jute::decode(input)?),
            op::REMOVE_WATCHES => Request::RemoveWatches(Jute::decode(input)?),
            op::AUTH => Request::Auth(Jute::decode(input)?),
            op::SET_WATCHES => Request::SetWatches(Jute::decode(input)?),
            op::SET_WATCHES2 => Request::SetWatches2(Jute::decode(input)?),
            op::GET_EPHEMERALS => Request::GetEphemerals(Jute::decode(input)?),
            op::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber(Jute::decode(input)?),
            op::ADD_WATCH => Request::AddWatch(Jute::decode(input)?),
            op::SASL => Request::Sasl(Jute::decode(input)?),
            op::CLOSE_SESSION => Request::CloseSession,
            other => Request::Unknown(other),
        })
    }

    /// Appends the record, without header.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Create(_, record) => record.encode(out),
            Request::CreateTtl(record) => record.encode(out),
            Request::Delete(record) | Request::Check(record) => record.encode(out),
            Request::Exists(record)
            | Request::GetData(record)
            | Request::GetChildren(record)
            | Request::GetChildren2(record) => record.encode(out),
            Request::SetData(record) => record.encode(out),
            Request::GetAcl(path)
            | Request::Sync(path)
            | Request::GetEphemerals(path)
            | Request::GetAllChildrenNumber(path) => path.encode(out),
            Request::SetAcl(record) => record.encode(out),
            Request::Multi(steps) | Request::MultiRead(steps) => steps.encode(out),
            Request::Reconfig(record) => record.encode(out),
            Request::CheckWatches(record) | Request::RemoveWatches(record) => record.encode(out),
            Request::Auth(record) => record.encode(out),
            Request::SetWatches(record) => record.encode(out),
            Request::SetWatches2(record) => record.encode(out),
            Request::AddWatch(record) => record.encode(out),
            Request::Sasl(token) => token.encode(out),
            Request::Ping | Request::CloseSession | Request::Unknown(_) => {}
        }
    }

    /// Appends a whole request frame: length, header, record.
    pub fn put(&self, out: &mut BytesMut, xid: i32) {
        put_frame(out, |out| {
            RequestHeader { xid, op: self.op() }.encode(out);
            self.encode(out);
        });
    }
}

/// A successful reply's record. Which one answers which operation: [`Response::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Response {
    /// delete, ping, auth, setWatches, removeWatches, closeSession: a header and nothing else.
    Nothing,
    /// create, sync.
    Path(String),
    Create2(Create2Reply),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData, reconfig.
    Data(DataReply),
    /// getChildren, getEphemerals.
    Children(Vec<String>),
    Children2(Children2Reply),
    Acl(AclReply),
    /// getAllChildrenNumber.
    Number(i32),
    /// addWatch answers an ErrorResponse of 0.
    Error(i32),
    /// multi, multiRead.
    Multi(Vec<MultiResult>),
    /// sasl.
    Token(Option<Bytes>),
}

impl Response {
    /// Reads the record that answers operation `code`.
    pub fn decode(code: i32, input: &mut Bytes) -> Result<Response, JuteError> {
        Ok(match code {
            op::CREATE | op::SYNC => Response::Path(Jute::decode(input)?),
            op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                Response::Create2(Jute::decode(input)?)
            }
            op::EXISTS | op::SET_DATA | op::SET_ACL => Response::Stat(Jute::decode(input)?),
            op::GET_DATA | op::RECONFIG => Response::Data(Jute::decode(input)?),
            op::GET_CHILDREN | op::GET_EPHEMERALS => Response::Children(Jute::decode(input)?),
            op::GET_CHILDREN2 => Response::Children2(Jute::decode(input)?),
            op::GET_ACL => Response::Acl(Jute::decode(input)?),
            op::GET_ALL_CHILDREN_NUMBER => Response::Number(Jute::decode(input)?),
            op::ADD_WATCH => Response::Error(Jute::decode(input)?),
            op::MULTI | op::MULTI_READ => Response::Multi(Jute::decode(input)?),
            op::SASL => Response::Token(Jute::decode(input)?),
            op::DELETE
            | op::PING
            | op::AUTH
            | op::SET_WATCHES
            | op::SET_WATCHES2
            | op::CHECK_WATCHES
            | op::REMOVE_WATCHES
            | op::CLOSE_SESSION => Response::Nothing,
            other => return Err(JuteError::Code(other)),
        })
    }

    /// Appends the record, without header.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Response::Nothing => {}
            Response::Path(path) => path.encode(out),
            Response::Create2(reply) => reply.encode(out),
            Response::Stat(stat) => stat.encode(out),
            Response::Data(reply) => reply.encode(out),
            Response::Children(names) => names.encode(out),
            Response::Children2(reply) => reply.encode(out),
            Response::Acl(reply) => reply.encode(out),
            Response::Number(number) | Response::Error(number) => number.encode(out),
            Response::Multi(results) => results.encode(out),
            Response::Token(token) => token.encode(out),
        }
    }
}

/// Appends a whole reply frame: length, header, and the record unless it is an error.
pub fn put_reply(out: &mut BytesMut, xid: i32, zxid: i64, result: &Result<Response, ErrorCode>) {
    put_frame(out, |out| match result {
        Ok(response) => {
            put_header(out, xid, zxid, 0);
            response.encode(out);
        }
        Err(error) => put_header(out, xid, zxid, error.code()),
    });
}

#[cfg(test)]
mod tests;
