//! What one request means: read here, or a change for the log; and what the log's answer is on the wire.

use bytes::Bytes;

use crate::common::ids::SessionId;
use crate::coordinator::tree::op::{Change, ConnectionId, Done, Op, Outcome};
use crate::coordinator::tree::{Node, Tree, check};
use crate::coordinator::watch::{WatchKind, Watches};
use crate::zookeeper::acl::{self, Acl, Id};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message;
use crate::zookeeper::message::{
    AclReply, AddWatchRequest, Children2Reply, Create2Reply, CreateKind, CreateRequest,
    CreateTtlRequest, DataReply, EventType, MultiOp, MultiResult, Request, Response, WatchedPath,
    WatchesRequest, watch_mode, watcher_type,
};

/// Flags that no node has.
const NO_FLAGS: i32 = -1;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Where watches are left.
    pub connection: ConnectionId,
    /// Whose ephemerals are listed.
    pub session: SessionId,
    /// What it has proved.
    pub auth: &'a [Id],
}

/// Answers a request that does not go through the log. Events that setWatches finds overdue come out
/// beside the answer and go first.
pub fn read(
    tree: &Tree,
    watches: &mut Watches,
    reader: &Reader<'_>,
    request: &Request,
    events: &mut Vec<(EventType, String)>,
) -> Result<Response, ErrorCode> {
    match request {
        Request::Exists(record) => exists(tree, watches, reader, record),
        Request::GetData(record) => get_data(tree, watches, reader, record).map(Response::Data),
        Request::GetChildren(record) => {
            children(tree, watches, reader, record).map(|reply| Response::Children(reply.children))
        }
        Request::GetChildren2(record) => {
            children(tree, watches, reader, record).map(Response::Children2)
        }
        Request::GetAcl(path) => get_acl(tree, reader, path).map(Response::Acl),
        Request::GetEphemerals(prefix) => {
            let all = matches!(prefix.trim(), "" | "/");
            let own = tree.ephemerals_of(reader.session);
            let matching = own.filter(|path| all || path.starts_with(prefix.as_str()));
            Ok(Response::Children(matching.cloned().collect()))
        }
        Request::GetAllChildrenNumber(path) => {
            let node = tree.get(path).ok_or(ErrorCode::NoNode)?;
            check::permitted(&node.acl, acl::READ, reader.auth)?;
            let count = tree.descendants(path);
            Ok(Response::Number(i32::try_from(count).unwrap_or(i32::MAX)))
        }
        Request::MultiRead(steps) => multi_read(tree, watches, reader, steps),
        Request::AddWatch(record) => add_watch(watches, reader, record),
        Request::CheckWatches(record) => find_watches(watches, reader, record, false),
        Request::RemoveWatches(record) => find_watches(watches, reader, record, true),
        Request::SetWatches(record) => {
            let mut armed = Rearm::new(tree, watches, reader, record.relative_zxid, events);
            armed.one_shot(&record.data, &record.exist, &record.child)?;
            Ok(Response::Nothing)
        }
        Request::SetWatches2(record) => {
            let mut armed = Rearm::new(tree, watches, reader, record.relative_zxid, events);
            armed.one_shot(&record.data, &record.exist, &record.child)?;
            armed.all(WatchKind::Persistent, &record.persistent)?;
            armed.all(WatchKind::Recursive, &record.persistent_recursive)?;
            Ok(Response::Nothing)
        }
        Request::Sync(path) => Ok(Response::Path(path.clone())),
        Request::Ping => Ok(Response::Nothing),
        Request::Reconfig(_) => Err(ErrorCode::ReconfigDisabled),
        _ => Err(ErrorCode::Unimplemented),
    }
}

/// About how many bytes the answer to a read will have; looking must be cheap.
pub fn reply_bytes(tree: &Tree, request: &Request) -> usize {
    let data = |path: &str| {
        let node = find(tree, path).ok();
        node.and_then(|node| node.data.as_ref())
            .map_or(0, Bytes::len)
    };
    let names = |path: &str| {
        find(tree, path).map_or(0, |node| {
            // Names of one parent are mostly alike.
            let ends = [node.children.first(), node.children.last()];
            let longest = ends.into_iter().flatten().map(String::len).max();
            node.children.len() * (longest.unwrap_or(0) + 4)
        })
    };
    match request {
        Request::GetData(record) => data(&record.path),
        Request::GetChildren(record) | Request::GetChildren2(record) => names(&record.path),
        Request::MultiRead(steps) => {
            let each = steps.iter().map(|step| match step {
                MultiOp::GetData(record) => data(&record.path),
                MultiOp::GetChildren(record) => names(&record.path),
                _ => 0,
            });
            each.sum()
        }
        _ => 0,
    }
}

/// The node that a request reads; the root has an empty name, too.
fn find<'a>(tree: &'a Tree, path: &str) -> Result<&'a Node, ErrorCode> {
    let path = if path.is_empty() { "/" } else { path };
    tree.get(path).ok_or(ErrorCode::NoNode)
}

fn arm(
    watches: &mut Watches,
    reader: &Reader<'_>,
    kind: WatchKind,
    path: &str,
) -> Result<(), ErrorCode> {
    if watches.add(reader.connection, kind, path) {
        Ok(())
    } else {
        Err(ErrorCode::SystemError)
    }
}

fn exists(
    tree: &Tree,
    watches: &mut Watches,
    reader: &Reader<'_>,
    record: &WatchedPath,
) -> Result<Response, ErrorCode> {
    if record.path.contains('\0') {
        return Err(ErrorCode::BadArguments);
    }
    // Armed even if there is no node: that is how a client waits for one.
    if record.watch {
        arm(watches, reader, WatchKind::Data, &record.path)?;
    }
    let node = find(tree, &record.path)?;
    Ok(Response::Stat(node.stat()))
}

fn get_data(
    tree: &Tree,
    watches: &mut Watches,
    reader: &Reader<'_>,
    record: &WatchedPath,
) -> Result<DataReply, ErrorCode> {
    let node = find(tree, &record.path)?;
    check::permitted(&node.acl, acl::READ, reader.auth)?;
    if record.watch {
        arm(watches, reader, WatchKind::Data, &record.path)?;
    }
    Ok(DataReply {
        data: node.data.clone(),
        stat: node.stat(),
    })
}

fn children(
    tree: &Tree,
    watches: &mut Watches,
    reader: &Reader<'_>,
    record: &WatchedPath,
) -> Result<Children2Reply, ErrorCode> {
    let node = find(tree, &record.path)?;
    check::permitted(&node.acl, acl::READ, reader.auth)?;
    if record.watch {
        arm(watches, reader, WatchKind::Child, &record.path)?;
    }
    Ok(Children2Reply {
        children: node.children.iter().cloned().collect(),
        stat: node.stat(),
    })
}

fn get_acl(tree: &Tree, reader: &Reader<'_>, path: &str) -> Result<AclReply, ErrorCode> {
    let node = find(tree, path)?;
    check::permitted(&node.acl, acl::READ | acl::ADMIN, reader.auth)?;
    let is_admin = check::permitted(&node.acl, acl::ADMIN, reader.auth).is_ok();
    let shown = node
        .acl
        .iter()
        .map(|line| match line.id.id.split_once(':') {
            // Password hashes are for those who may change them.
            Some((user, _)) if !is_admin && line.id.scheme == "digest" => Acl {
                perms: line.perms,
                id: Id::new("digest", format!("{user}:x")),
            },
            _ => line.clone(),
        });
    Ok(AclReply {
        acl: shown.collect(),
        stat: node.stat(),
    })
}

fn multi_read(
    tree: &Tree,
    watches: &mut Watches,
    reader: &Reader<'_>,
    steps: &[MultiOp],
) -> Result<Response, ErrorCode> {
    let is_read = |step: &MultiOp| matches!(step, MultiOp::GetData(_) | MultiOp::GetChildren(_));
    if !steps.iter().all(is_read) {
        return Err(ErrorCode::MarshallingError);
    }
    let results = steps.iter().map(|step| {
        let result = match step {
            MultiOp::GetData(record) => {
                get_data(tree, watches, reader, record).map(MultiResult::GetData)
            }
            MultiOp::GetChildren(record) => children(tree, watches, reader, record)
                .map(|reply| MultiResult::GetChildren(reply.children)),
            _ => Err(ErrorCode::MarshallingError),
        };
        result.unwrap_or_else(|error| MultiResult::Error(Some(error)))
    });
    Ok(Response::Multi(results.collect()))
}

fn add_watch(
    watches: &mut Watches,
    reader: &Reader<'_>,
    record: &AddWatchRequest,
) -> Result<Response, ErrorCode> {
    let kind = match record.mode {
        watch_mode::PERSISTENT => WatchKind::Persistent,
        watch_mode::PERSISTENT_RECURSIVE => WatchKind::Recursive,
        _ => return Err(ErrorCode::MarshallingError),
    };
    arm(watches, reader, kind, &record.path)?;
    Ok(Response::Error(0))
}

fn find_watches(
    watches: &mut Watches,
    reader: &Reader<'_>,
    record: &WatchesRequest,
    remove: bool,
) -> Result<Response, ErrorCode> {
    let kinds: &[WatchKind] = match record.kind {
        watcher_type::CHILDREN => &[WatchKind::Child],
        watcher_type::DATA => &[WatchKind::Data],
        watcher_type::ANY => &[
            WatchKind::Child,
            WatchKind::Data,
            WatchKind::Persistent,
            WatchKind::Recursive,
        ],
        _ => return Err(ErrorCode::MarshallingError),
    };
    let mut found = false;
    for kind in kinds {
        found |= if remove {
            watches.remove(reader.connection, *kind, &record.path)
        } else {
            watches.has(reader.connection, *kind, &record.path)
        };
    }
    if found {
        Ok(Response::Nothing)
    } else {
        Err(ErrorCode::NoWatcher)
    }
}

/// setWatches: what changed since the client last looked is told at once, the rest is armed
/// (`DataTree.setWatches`).
struct Rearm<'a> {
    tree: &'a Tree,
    watches: &'a mut Watches,
    reader: &'a Reader<'a>,
    relative_zxid: i64,
    events: &'a mut Vec<(EventType, String)>,
}

impl<'a> Rearm<'a> {
    fn new(
        tree: &'a Tree,
        watches: &'a mut Watches,
        reader: &'a Reader<'a>,
        relative_zxid: i64,
        events: &'a mut Vec<(EventType, String)>,
    ) -> Rearm<'a> {
        Rearm {
            tree,
            watches,
            reader,
            relative_zxid,
            events,
        }
    }

    fn one_shot(
        &mut self,
        data: &[String],
        exist: &[String],
        child: &[String],
    ) -> Result<(), ErrorCode> {
        for path in data {
            match self.tree.get(path).map(|node| node.stat().mzxid.0) {
                None => self.overdue(EventType::NodeDeleted, path),
                Some(mzxid) if mzxid > self.relative_zxid => {
                    self.overdue(EventType::NodeDataChanged, path);
                }
                Some(_) => arm(self.watches, self.reader, WatchKind::Data, path)?,
            }
        }
        for path in exist {
            match self.tree.get(path) {
                Some(_) => self.overdue(EventType::NodeCreated, path),
                None => arm(self.watches, self.reader, WatchKind::Data, path)?,
            }
        }
        for path in child {
            match self.tree.get(path).map(|node| node.stat().pzxid.0) {
                None => self.overdue(EventType::NodeDeleted, path),
                Some(pzxid) if pzxid > self.relative_zxid => {
                    self.overdue(EventType::NodeChildrenChanged, path);
                }
                Some(_) => arm(self.watches, self.reader, WatchKind::Child, path)?,
            }
        }
        Ok(())
    }

    fn all(&mut self, kind: WatchKind, paths: &[String]) -> Result<(), ErrorCode> {
        for path in paths {
            arm(self.watches, self.reader, kind, path)?;
        }
        Ok(())
    }

    fn overdue(&mut self, kind: EventType, path: &str) {
        self.events.push((kind, path.to_owned()));
    }
}

/// The operation that a request puts into the log; `None` for one that is answered here.
/// `extended_types`: are there TTL nodes?
pub fn operation(request: &Request, extended_types: bool) -> Result<Option<Op>, ErrorCode> {
    let change = |change| Ok(Some(Op::Change(change)));
    match request {
        Request::Create(_, record) => change(create(record, extended_types)),
        Request::CreateTtl(record) => change(create_ttl(record, extended_types)),
        Request::Delete(record) => change(Change::Delete {
            path: record.path.clone(),
            version: record.version,
        }),
        Request::SetData(record) => change(Change::SetData {
            path: record.path.clone(),
            data: record.data.clone().into(),
            version: record.version,
        }),
        Request::SetAcl(record) => change(Change::SetAcl {
            path: record.path.clone(),
            acl: record.acl.clone(),
            version: record.version,
        }),
        Request::Multi(steps) => {
            let changes = steps.iter().map(|step| multi_change(step, extended_types));
            let changes: Result<Vec<_>, _> = changes.collect();
            Ok(Some(Op::Multi(changes?)))
        }
        Request::CloseSession => Ok(Some(Op::CloseSession)),
        _ => Ok(None),
    }
}

/// The flags alone say what is created, whichever of the operations asks for it.
fn create(record: &CreateRequest, extended_types: bool) -> Change {
    Change::Create {
        path: record.path.clone(),
        data: record.data.clone().into(),
        acl: record.acl.clone(),
        // This record says no TTL.
        flags: match is_ttl(record.flags) && extended_types {
            true => NO_FLAGS,
            false => record.flags,
        },
    }
}

fn create_ttl(record: &CreateTtlRequest, extended_types: bool) -> Change {
    let (path, data, acl) = (
        record.path.clone(),
        record.data.clone().into(),
        record.acl.clone(),
    );
    if is_ttl(record.flags) && extended_types {
        return Change::CreateTtl {
            path,
            data,
            acl,
            is_sequential: record.flags == message::flags::PERSISTENT_SEQUENTIAL_WITH_TTL,
            ttl_ms: record.ttl_ms,
        };
    }
    Change::Create {
        path,
        data,
        acl,
        flags: match is_ttl(record.flags) {
            true => record.flags,
            // A node that would not go by itself.
            false => NO_FLAGS,
        },
    }
}

fn is_ttl(flags: i32) -> bool {
    matches!(
        flags,
        message::flags::PERSISTENT_WITH_TTL | message::flags::PERSISTENT_SEQUENTIAL_WITH_TTL
    )
}

fn multi_change(step: &MultiOp, extended_types: bool) -> Result<Change, ErrorCode> {
    Ok(match step {
        MultiOp::Create(_, record) => create(record, extended_types),
        MultiOp::CreateTtl(record) => create_ttl(record, extended_types),
        MultiOp::Delete(record) => Change::Delete {
            path: record.path.clone(),
            version: record.version,
        },
        MultiOp::SetData(record) => Change::SetData {
            path: record.path.clone(),
            data: record.data.clone().into(),
            version: record.version,
        },
        MultiOp::Check(record) => Change::Check {
            path: record.path.clone(),
            version: record.version,
        },
        // Reads have a multi of their own.
        MultiOp::GetData(_) | MultiOp::GetChildren(_) => {
            return Err(ErrorCode::MarshallingError);
        }
    })
}

/// What of a request its answer depends on: all that is kept of it while it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The path of what was created, without a stat.
    Path,
    /// Whatever the outcome says.
    Plain,
    /// One result for each step.
    Multi(Vec<Step>),
}

/// A step of a multi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// createContainer, createTTL.
    WithStat,
    /// check.
    Check,
    /// Any other.
    Plain,
}

/// The form of a request's answer.
pub fn form(request: &Request) -> Form {
    match request {
        Request::Create(CreateKind::Create, _) => Form::Path,
        Request::Multi(steps) => {
            let steps = steps.iter().map(|step| match step {
                MultiOp::Create(CreateKind::Container, _) | MultiOp::CreateTtl(_) => Step::WithStat,
                MultiOp::Check(_) => Step::Check,
                _ => Step::Plain,
            });
            Form::Multi(steps.collect())
        }
        _ => Form::Plain,
    }
}

/// The log's answer in the form that the client's operation expects.
pub fn response(form: &Form, outcome: Outcome) -> Result<Response, ErrorCode> {
    Ok(match (outcome.result?, form) {
        (Done::Created(path, _), Form::Path) => Response::Path(path),
        (Done::Created(path, stat), _) => Response::Create2(Create2Reply { path, stat }),
        (Done::Stat(stat), _) => Response::Stat(stat),
        (Done::Multi(Ok(steps)), Form::Multi(asked)) => {
            let results = asked.iter().zip(steps);
            Response::Multi(
                results
                    .map(|(asked, done)| multi_result(*asked, done))
                    .collect(),
            )
        }
        (Done::Multi(Err(codes)), _) => {
            Response::Multi(codes.into_iter().map(MultiResult::Error).collect())
        }
        (Done::Nothing | Done::Session(_) | Done::Multi(Ok(_)), _) => Response::Nothing,
    })
}

fn multi_result(asked: Step, done: Done) -> MultiResult {
    match (asked, done) {
        // What a client of 3.6 reads: it knows create2 only as the answer to these.
        (Step::WithStat, Done::Created(path, stat)) => {
            MultiResult::Create2(CreateKind::Create2, Create2Reply { path, stat })
        }
        (_, Done::Created(path, _)) => MultiResult::Create(path),
        (_, Done::Stat(stat)) => MultiResult::SetData(stat),
        (Step::Check, _) => MultiResult::Check,
        _ => MultiResult::Delete,
    }
}
