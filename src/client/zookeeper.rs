//! A ZooKeeper session: requests, watches, reconnection. For the broker and for the tools.
//!
//! Many requests may be in flight; ZooKeeper answers in order, and a watch event comes before the reply
//! that shows the change. A lost connection is dialled again by itself, within the session as long as
//! that lives and with a new one afterwards. Whoever holds ephemerals or watches learns of both from
//! [`Events`] and renews them: this module remembers neither. It knows nothing of Kafka.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::World;
use crate::common::clock::Clock;
use crate::common::ids::SessionId;
use crate::common::net::HostPort;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Kind;
use crate::zookeeper::acl::Acl;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{
    AddWatchRequest, CreateKind, CreateRequest, EventType, MultiOp, MultiResult, Request, Response,
    SetDataRequest, VersionedPath, WatchedPath, flags, watch_mode,
};
use crate::zookeeper::stat::Stat;

mod session;

/// Requests that wait for the connection; more make their callers wait.
const REQUESTS_MAX: usize = 4096;
/// Watch events that wait to be read. When more come, [`Event::Lost`] stands for all of them.
const EVENTS_MAX: usize = 65_536;

/// Whom to dial, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ensemble's members.
    pub servers: Vec<HostPort>,
    /// A prefix of every path; empty, or `/path`. Its user creates it: [`ZooKeeper::create_chroot`].
    pub chroot: String,
    /// The session timeout to ask for.
    pub session_timeout: Duration,
    /// How long [`ZooKeeper::connect`] tries; none is for ever.
    pub connection_timeout: Option<Duration>,
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// ZooKeeper refused it.
    #[error("ZooKeeper answers {0}")]
    Code(ErrorCode),
    /// The connection was lost: whether it happened is unknown.
    #[error("the connection to ZooKeeper was lost")]
    ConnectionLoss,
    /// The session is over, and its ephemerals with it.
    #[error("the ZooKeeper session has expired")]
    SessionExpired,
    /// No member could be reached in time.
    #[error("no ZooKeeper could be reached at {servers} in {limit_ms} ms: {reason}")]
    Unreachable {
        /// The members.
        servers: String,
        /// How long it was tried.
        limit_ms: u128,
        /// The last failure.
        reason: String,
    },
    /// The answer is not what the request asks for.
    #[error("ZooKeeper's answer does not follow the protocol")]
    Malformed,
    /// This handle was closed.
    #[error("the ZooKeeper session is closed")]
    Closed,
}

impl Error {
    /// Is it this answer of ZooKeeper's?
    pub fn is(&self, code: ErrorCode) -> bool {
        *self == Error::Code(code)
    }
}

/// A multi that did nothing, because one of its steps could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step}: {error}")]
pub struct MultiError {
    /// The step that failed; 0 where the multi as a whole did.
    pub step: usize,
    /// Why.
    pub error: Error,
}

/// The kinds of node that a create makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Stays.
    Persistent,
    /// Goes with the session.
    Ephemeral,
    /// Stays; the server appends a number to its name.
    Sequential,
}

impl Mode {
    fn flags(self) -> i32 {
        match self {
            Mode::Persistent => flags::PERSISTENT,
            Mode::Ephemeral => flags::EPHEMERAL,
            Mode::Sequential => flags::PERSISTENT_SEQUENTIAL,
        }
    }
}

/// One step of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Op {
    Create {
        path: String,
        data: Option<Vec<u8>>,
        mode: Mode,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    Delete {
        path: String,
        version: i32,
    },
    Check {
        path: String,
        version: i32,
    },
}

/// Where the session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A server is being looked for; since when, on the monotonic clock.
    Disconnected {
        /// Milliseconds of [`Clock::monotonic_ms`].
        since_ms: i64,
    },
    /// Requests are served.
    Connected {
        /// The session; another one than before if that had expired.
        session: SessionId,
    },
    /// Closed by its user.
    Closed,
}

/// What the server told without being asked, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A watched node changed.
    Node(EventType, String),
    /// A connection stands. Watches of an older connection are gone, what they would have told
    /// meanwhile is unknown.
    Connected(SessionId),
    /// More happened than could be kept: read everything again. Also stands for all marks so far.
    Lost,
    /// [`ZooKeeper::mark`] was called here.
    Mark(u64),
}

/// The stream of [`Event`]s.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    lost: Arc<AtomicBool>,
}

impl Events {
    /// The next event; none when the session was closed.
    pub async fn next(&mut self) -> Option<Event> {
        if self.lost.swap(false, Ordering::Relaxed) {
            return Some(Event::Lost);
        }
        self.queue.recv().await
    }

    /// An event that is here already.
    pub fn ready(&mut self) -> Option<Event> {
        if self.lost.swap(false, Ordering::Relaxed) {
            return Some(Event::Lost);
        }
        self.queue.try_recv().ok()
    }
}

/// A session. Shared as `Arc`; every method may be called from any task.
#[derive(Debug)]
pub struct ZooKeeper {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Pending>,
    events: mpsc::WeakSender<Event>,
    lost: Arc<AtomicBool>,
    marks: AtomicU64,
}

/// What the handle and the session's task have in common.
#[derive(Debug)]
struct Shared {
    options: Options,
    clock: Clock,
    state: watch::Sender<State>,
    negotiated_ms: AtomicI64,
    confirmed_ms: AtomicI64,
    /// The last zxid that a connection which has ended showed.
    seen_zxid: AtomicI64,
    last_problem: Mutex<String>,
    closing: Shutdown,
    /// End the connection only.
    leaving: AtomicBool,
}

/// The far ends of a handle's channels.
struct Ends {
    incoming: mpsc::Receiver<Pending>,
    tell: mpsc::Sender<Event>,
    queue: mpsc::Receiver<Event>,
}

type Answer = Result<Response, Error>;

/// A request on its way.
#[derive(Debug)]
struct Pending {
    request: Request,
    reply: oneshot::Sender<Answer>,
}

impl ZooKeeper {
    /// Starts a session and waits until it stands.
    pub async fn connect(
        options: Options,
        world: &World,
    ) -> Result<(Arc<ZooKeeper>, Events), Error> {
        let (zookeeper, events) = ZooKeeper::start(options, world);
        zookeeper.connected().await?;
        Ok((zookeeper, events))
    }

    /// Starts a session without waiting for it; requests wait instead.
    pub fn start(options: Options, world: &World) -> (Arc<ZooKeeper>, Events) {
        let closing = world.tasks.shutdown().child();
        let (zookeeper, ends) = ZooKeeper::new(options, world.clock.clone(), closing);
        let events = Events {
            queue: ends.queue,
            lost: zookeeper.lost.clone(),
        };
        let task = session::Task {
            shared: zookeeper.shared.clone(),
            incoming: ends.incoming,
            events: ends.tell,
            lost: zookeeper.lost.clone(),
            rng: world.rng.fork("zookeeper"),
            last: None,
        };
        world
            .tasks
            .spawn("zookeeper-session", Kind::Essential, task.run());
        (Arc::new(zookeeper), events)
    }

    /// A handle without a session, for tests of what needs none: every request is answered `Closed`.
    #[cfg(test)]
    pub fn closed(clock: Clock) -> Arc<ZooKeeper> {
        let options = Options {
            servers: Vec::new(),
            chroot: String::new(),
            session_timeout: Duration::ZERO,
            connection_timeout: None,
        };
        Arc::new(ZooKeeper::new(options, clock, Shutdown::new()).0)
    }

    fn new(options: Options, clock: Clock, closing: Shutdown) -> (ZooKeeper, Ends) {
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let (tell, queue) = mpsc::channel(EVENTS_MAX);
        let timeout = i64::try_from(options.session_timeout.as_millis()).unwrap_or(i64::MAX);
        let now_ms = clock.monotonic_ms();
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Disconnected { since_ms: now_ms }),
            negotiated_ms: AtomicI64::new(timeout),
            confirmed_ms: AtomicI64::new(now_ms),
            seen_zxid: AtomicI64::new(0),
            last_problem: Mutex::new("nothing was tried yet".to_owned()),
            closing,
            leaving: AtomicBool::new(false),
            options,
            clock,
        });
        let zookeeper = ZooKeeper {
            shared,
            requests,
            events: tell.downgrade(),
            lost: Arc::default(),
            marks: AtomicU64::new(0),
        };
        let ends = Ends {
            incoming,
            tell,
            queue,
        };
        (zookeeper, ends)
    }

    /// Waits for a connection, as long as the options say.
    pub async fn connected(&self) -> Result<SessionId, Error> {
        let mut state = self.shared.state.subscribe();
        let wait = state.wait_for(|state| !matches!(state, State::Disconnected { .. }));
        let limit = self.shared.options.connection_timeout;
        let reached = match limit {
            Some(limit) => tokio::time::timeout(limit, wait).await,
            None => Ok(wait.await),
        };
        match reached.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Connected { session })) => Ok(session),
            Ok(_) => Err(Error::Closed),
            Err(_) => Err(Error::Unreachable {
                servers: self.servers(),
                limit_ms: limit.unwrap_or_default().as_millis(),
                reason: self.last_problem(),
            }),
        }
    }

    /// Waits for the next connection where `error` says that the last one went: what may be done twice can
    /// be done again then. Any other error comes back.
    pub async fn mended(&self, error: Error) -> Result<(), Error> {
        match error {
            Error::ConnectionLoss | Error::SessionExpired => self.connected().await.map(drop),
            other => Err(other),
        }
    }

    /// Follows where the session stands.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// The session's id, while connected.
    pub fn session(&self) -> Option<SessionId> {
        match *self.shared.state.borrow() {
            State::Connected { session } => Some(session),
            _ => None,
        }
    }

    /// The session timeout that the server granted.
    pub fn session_timeout_ms(&self) -> i64 {
        self.shared.negotiated_ms.load(Ordering::Relaxed)
    }

    /// When the newest request that was answered left here, on the monotonic clock. The server keeps
    /// the session at least [`ZooKeeper::session_timeout_ms`] from then on, and perhaps no longer.
    pub fn confirmed_ms(&self) -> i64 {
        self.shared.confirmed_ms.load(Ordering::Relaxed)
    }

    /// The last zxid that was seen before the connection that stands: what setWatches has to tell.
    pub fn seen_zxid(&self) -> i64 {
        self.shared.seen_zxid.load(Ordering::Relaxed)
    }

    /// Puts a mark into the stream of events. Whatever was answered before this call has its events in
    /// front of the mark.
    pub fn mark(&self) -> u64 {
        let mark = self.marks.fetch_add(1, Ordering::SeqCst) + 1;
        let sent = self
            .events
            .upgrade()
            .is_some_and(|events| events.try_send(Event::Mark(mark)).is_ok());
        if !sent {
            self.lost.store(true, Ordering::Relaxed);
        }
        mark
    }

    /// The newest mark.
    pub fn marked(&self) -> u64 {
        self.marks.load(Ordering::SeqCst)
    }

    /// The members, for messages.
    pub fn servers(&self) -> String {
        self.shared.options.servers_text()
    }

    /// Why the last attempt to connect failed.
    pub fn last_problem(&self) -> String {
        self.shared
            .last_problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the session: its ephemerals are gone when this returns, if a server could be told.
    pub async fn close(&self) {
        self.shared.closing.stop();
        let mut state = self.shared.state.subscribe();
        let closed = state.wait_for(|state| *state == State::Closed);
        // The task itself waits no longer than this for the server.
        let _ = tokio::time::timeout(2 * session::FAREWELL, closed).await;
    }

    /// Ends the connection but not the session: its ephemerals live until it expires.
    pub async fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.close().await;
    }

    /// Creates a node; answers its path, with the number if it is sequential.
    pub async fn create(
        &self,
        path: &str,
        data: Option<Vec<u8>>,
        mode: Mode,
    ) -> Result<String, Error> {
        let record = self.create_record(path, data, mode);
        match self
            .call(Request::Create(CreateKind::Create, record))
            .await?
        {
            Response::Path(path) => Ok(self.unrooted(path)),
            _ => Err(Error::Malformed),
        }
    }

    /// Deletes a node without children; -1 deletes any version.
    pub async fn delete(&self, path: &str, version: i32) -> Result<(), Error> {
        let path = self.rooted(path);
        let request = Request::Delete(VersionedPath { path, version });
        self.call(request).await.map(|_| ())
    }

    /// A node's Stat, if it exists.
    pub async fn exists(&self, path: &str) -> Result<Option<Stat>, Error> {
        match self.call(Request::Exists(self.unwatched(path))).await {
            Ok(Response::Stat(stat)) => Ok(Some(stat)),
            Ok(_) => Err(Error::Malformed),
            Err(error) if error.is(ErrorCode::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A node's data. Null and empty data look the same here.
    pub async fn get(&self, path: &str) -> Result<(Bytes, Stat), Error> {
        let request = Request::GetData(self.unwatched(path));
        data(self.call(request).await)
    }

    /// The data of many nodes, asked for at once; in the order of `paths`.
    pub async fn get_all(&self, paths: &[String]) -> Vec<Result<(Bytes, Stat), Error>> {
        let requests = paths
            .iter()
            .map(|path| Request::GetData(self.unwatched(path)));
        let answers = self.call_all(requests.collect()).await;
        answers.into_iter().map(data).collect()
    }

    /// Replaces a node's data.
    pub async fn set(&self, path: &str, data: Vec<u8>, version: i32) -> Result<Stat, Error> {
        let request = Request::SetData(SetDataRequest {
            path: self.rooted(path),
            data: Some(data.into()),
            version,
        });
        match self.call(request).await? {
            Response::Stat(stat) => Ok(stat),
            _ => Err(Error::Malformed),
        }
    }

    /// The names of a node's children.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        let request = Request::GetChildren2(self.unwatched(path));
        children(self.call(request).await)
    }

    /// The children of many nodes, asked for at once.
    pub async fn children_all(&self, paths: &[String]) -> Vec<Result<Vec<String>, Error>> {
        let requests = paths
            .iter()
            .map(|path| Request::GetChildren2(self.unwatched(path)));
        let answers = self.call_all(requests.collect()).await;
        answers.into_iter().map(children).collect()
    }

    /// Waits until this server has applied what was committed before.
    pub async fn sync(&self, path: &str) -> Result<(), Error> {
        self.call(Request::Sync(self.rooted(path)))
            .await
            .map(|_| ())
    }

    /// Watches nodes and all that is below them until the connection ends (ZooKeeper 3.6).
    pub async fn watch_all(&self, paths: &[&str]) -> Result<(), Error> {
        let requests = paths.iter().map(|path| {
            Request::AddWatch(AddWatchRequest {
                path: self.rooted(path),
                mode: watch_mode::PERSISTENT_RECURSIVE,
            })
        });
        let answers = self.call_all(requests.collect()).await;
        answers
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()))
    }

    /// All steps or none. Answers the Stat of every step that set data, in order.
    pub async fn multi(&self, steps: Vec<Op>) -> Result<Vec<Stat>, MultiError> {
        multi(self.call(self.multi_request(steps)).await)
    }

    /// Many multis, sent one behind the other without waiting; each stands alone.
    pub async fn multi_all(&self, multis: Vec<Vec<Op>>) -> Vec<Result<Vec<Stat>, MultiError>> {
        let requests = multis.into_iter().map(|steps| self.multi_request(steps));
        let answers = self.call_all(requests.collect()).await;
        answers.into_iter().map(multi).collect()
    }

    /// Creates persistent nodes that may be there already. Parents have to come before children.
    pub async fn create_absent(
        &self,
        nodes: impl IntoIterator<Item = (&str, Option<Vec<u8>>)>,
    ) -> Result<(), Error> {
        let requests = nodes.into_iter().map(|(path, data)| {
            let record = self.create_record(path, data, Mode::Persistent);
            Request::Create(CreateKind::Create, record)
        });
        for answer in self.call_all(requests.collect()).await {
            match answer {
                Err(error) if !error.is(ErrorCode::NodeExists) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Creates the nodes of the chroot that are missing.
    pub async fn create_chroot(&self) -> Result<(), Error> {
        let chroot = &self.shared.options.chroot;
        let ends = chroot.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends.chain([chroot.len()]).filter(|end| *end > 0) {
            let record = CreateRequest {
                path: chroot[..end].to_owned(),
                data: None,
                acl: Acl::open(),
                flags: flags::PERSISTENT,
            };
            match self.call(Request::Create(CreateKind::Create, record)).await {
                Err(error) if !error.is(ErrorCode::NodeExists) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes a node with all that is below it; fine if it is not there.
    pub async fn delete_tree(&self, path: &str) -> Result<(), Error> {
        let mut found = vec![path.to_owned()];
        let mut level = found.clone();
        while !level.is_empty() {
            let listed = self.children_all(&level).await;
            let mut below = Vec::new();
            for (parent, names) in level.iter().zip(listed) {
                match names {
                    Ok(names) => {
                        below.extend(names.iter().map(|name| format!("{parent}/{name}")));
                    }
                    Err(error) if error.is(ErrorCode::NoNode) => {}
                    Err(error) => return Err(error),
                }
            }
            found.extend(below.iter().cloned());
            level = below;
        }
        let deletions = found.iter().rev().map(|path| {
            Request::Delete(VersionedPath {
                path: self.rooted(path),
                version: -1,
            })
        });
        for answer in self.call_all(deletions.collect()).await {
            match answer {
                Err(error) if !error.is(ErrorCode::NoNode) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends any request, for tools; its paths are taken as they are, without the chroot.
    pub async fn call(&self, request: Request) -> Answer {
        let waiting = self.submit(request).await;
        waiting.await.unwrap_or(Err(Error::Closed))
    }

    async fn call_all(&self, requests: Vec<Request>) -> Vec<Answer> {
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            waiting.push(self.submit(request).await);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(answer.await.unwrap_or(Err(Error::Closed)));
        }
        answers
    }

    async fn submit(&self, request: Request) -> oneshot::Receiver<Answer> {
        let (reply, waiting) = oneshot::channel();
        // A refused request drops its reply, which its caller reads as `Closed`.
        let _ = self.requests.send(Pending { request, reply }).await;
        waiting
    }

    /// A path as the server knows it.
    pub fn rooted(&self, path: &str) -> String {
        let chroot = &self.shared.options.chroot;
        match path {
            "/" if !chroot.is_empty() => chroot.clone(),
            _ => format!("{chroot}{path}"),
        }
    }

    fn unrooted(&self, path: String) -> String {
        self.shared.options.unrooted(&path).to_owned()
    }

    fn unwatched(&self, path: &str) -> WatchedPath {
        WatchedPath {
            path: self.rooted(path),
            watch: false,
        }
    }

    fn create_record(&self, path: &str, data: Option<Vec<u8>>, mode: Mode) -> CreateRequest {
        CreateRequest {
            path: self.rooted(path),
            data: data.map(Bytes::from),
            acl: Acl::open(),
            flags: mode.flags(),
        }
    }

    fn multi_request(&self, steps: Vec<Op>) -> Request {
        let steps = steps.into_iter().map(|step| match step {
            Op::Create { path, data, mode } => {
                MultiOp::Create(CreateKind::Create, self.create_record(&path, data, mode))
            }
            Op::Set {
                path,
                data,
                version,
            } => MultiOp::SetData(SetDataRequest {
                path: self.rooted(&path),
                data: Some(data.into()),
                version,
            }),
            Op::Delete { path, version } => MultiOp::Delete(VersionedPath {
                path: self.rooted(&path),
                version,
            }),
            Op::Check { path, version } => MultiOp::Check(VersionedPath {
                path: self.rooted(&path),
                version,
            }),
        });
        Request::Multi(steps.collect())
    }
}

impl Options {
    fn unrooted<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.chroot.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// The members, each once, for messages.
    pub fn servers_text(&self) -> String {
        let mut servers: Vec<String> = Vec::new();
        for server in self.servers.iter().map(HostPort::to_string) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.join(",")
    }
}

fn data(answer: Answer) -> Result<(Bytes, Stat), Error> {
    match answer? {
        Response::Data(reply) => Ok((reply.data.unwrap_or_default(), reply.stat)),
        _ => Err(Error::Malformed),
    }
}

fn children(answer: Answer) -> Result<Vec<String>, Error> {
    match answer? {
        Response::Children2(reply) => Ok(reply.children),
        _ => Err(Error::Malformed),
    }
}

fn multi(answer: Answer) -> Result<Vec<Stat>, MultiError> {
    let whole = |error| MultiError { step: 0, error };
    let Response::Multi(results) = answer.map_err(whole)? else {
        return Err(whole(Error::Malformed));
    };
    // After a failure every step is an error: 0 before the one to blame, -2 behind it.
    let culprit = results.iter().enumerate().find_map(|(step, result)| {
        let MultiResult::Error(Some(code)) = result else {
            return None;
        };
        let error = Error::Code(*code);
        (*code != ErrorCode::RuntimeInconsistency).then_some(MultiError { step, error })
    });
    if let Some(culprit) = culprit {
        return Err(culprit);
    }
    let failed = |result: &MultiResult| matches!(result, MultiResult::Error(_));
    if results.iter().any(failed) {
        return Err(whole(Error::Code(ErrorCode::RuntimeInconsistency)));
    }
    let stats = results.into_iter().filter_map(|result| match result {
        MultiResult::SetData(stat) => Some(stat),
        _ => None,
    });
    Ok(stats.collect())
}

#[cfg(test)]
mod tests;
