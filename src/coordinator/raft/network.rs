//! Requests to the other members: one connection to each, kept, shared and renewed.
//!
//! Calls are numbered and pipelined; answers come in any order. A connection on which nothing arrives for
//! [`peer::SILENCE_LIMIT`] is given up, so a link that silently drops everything hangs nobody. Members are
//! dialed at the addresses of the configuration, never at those in the log. To raft a store is dialed, not
//! a member: while a member has another store than the one that is meant, that one is not there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error, info};

use super::peer::{
    self, Answer, Credentials, HELLO_LIMIT, Message, Peer, PeerError, Refusal, Route, call_frame,
    read_call,
};
use super::reach::{Reach, Seen};
use super::types::{LogId, TypeConfig, Vote, decode};
use crate::common::ids::MemberId;
use crate::common::net::{self, HostPort};
use crate::common::shutdown::Shutdown;
use crate::coordinator::identity::{IdentityFile, member_of};

const DIAL_LIMIT: Duration = Duration::from_secs(1);
const REDIAL_MIN: Duration = Duration::from_millis(10);
const REDIAL_MAX: Duration = Duration::from_millis(250);
/// Frames that wait for one connection.
const QUEUE_MAX: usize = 1024;
/// How long openraft leaves an unreachable member alone.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(30);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection now.
    #[error("member {0} is not connected")]
    Down(MemberId),
    /// The connection broke before the answer.
    #[error("the connection to member {0} broke")]
    Broken(MemberId),
    /// Too many frames wait.
    #[error("the connection to member {0} is congested")]
    Congested(MemberId),
    /// The message is too large for a frame.
    #[error("a message to member {0} is too large")]
    TooLarge(MemberId),
    /// The answer does not fit the question, or the member has stopped.
    #[error("member {0} has stopped")]
    Stopped(MemberId),
}

/// How a member is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Who is there, while connected.
    pub peer: Option<Peer>,
    /// Nothing listens at its address: its process is gone.
    pub dead: bool,
    /// Why it or we refused, if so.
    pub refusal: Option<Refusal>,
}

/// The connection to one member.
#[derive(Debug)]
pub struct Link {
    member: MemberId,
    address: HostPort,
    calls: Mutex<Calls>,
    status: watch::Sender<LinkStatus>,
    seen: Arc<Seen>,
    /// The other side was heard from: dial without waiting.
    redial: Notify,
}

/// A connection that stands.
#[derive(Clone, Copy, Debug)]
pub struct Up {
    /// Since when.
    pub since: Instant,
    /// When something last arrived on it.
    pub heard: Instant,
    /// The store at the other side.
    pub node: u64,
}

#[derive(Debug, Default)]
struct Calls {
    up: Option<Up>,
    queue: Option<mpsc::Sender<Bytes>>,
    waiting: BTreeMap<u64, oneshot::Sender<Bytes>>,
    next: u64,
}

/// A call that was queued.
#[derive(Debug)]
pub struct Call {
    member: MemberId,
    answer: oneshot::Receiver<Bytes>,
}

impl Call {
    /// Waits for the answer.
    pub async fn answer(self) -> Result<Answer, CallError> {
        let bytes = self
            .answer
            .await
            .map_err(|_| CallError::Broken(self.member))?;
        decode(&bytes).ok_or(CallError::Stopped(self.member))
    }
}

impl Link {
    fn new(member: MemberId, address: HostPort, seen: Arc<Seen>) -> Link {
        Link {
            member,
            address,
            calls: Mutex::default(),
            status: watch::Sender::default(),
            seen,
            redial: Notify::new(),
        }
    }

    /// How it stands, and changes.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.subscribe()
    }

    /// The connection, while it stands.
    pub fn up(&self) -> Option<Up> {
        self.lock().up
    }

    /// Is this store at the other side?
    pub fn has(&self, node: u64) -> bool {
        self.up().is_some_and(|up| up.node == node)
    }

    /// Was this store, at the other side, heard from within `limit`?
    pub fn is_alive(&self, node: u64, limit: Duration) -> bool {
        let up = self.up().filter(|up| up.node == node);
        up.is_some_and(|up| up.heard.elapsed() < limit)
    }

    /// The other side is there: dials it now, if there is no connection.
    pub fn redial(&self) {
        if self.up().is_none() {
            self.redial.notify_one();
        }
    }

    /// Queues a call. Calls of one connection arrive in the order of queueing.
    pub fn call(&self, message: &Message) -> Result<Call, CallError> {
        self.queue(self.lock(), message)
    }

    /// As [`Link::call`], to this store and to no other one that the member may have by now.
    fn call_store(&self, node: u64, message: &Message) -> Result<Call, CallError> {
        let calls = self.lock();
        match calls.up {
            Some(up) if up.node == node => self.queue(calls, message),
            _ => Err(CallError::Down(self.member)),
        }
    }

    fn queue(
        &self,
        mut calls: MutexGuard<'_, Calls>,
        message: &Message,
    ) -> Result<Call, CallError> {
        let queue = calls.queue.clone().ok_or(CallError::Down(self.member))?;
        let number = calls.next;
        let frame = call_frame(number, message).ok_or(CallError::TooLarge(self.member))?;
        queue
            .try_send(frame)
            .map_err(|_| CallError::Congested(self.member))?;
        let (tell, answer) = oneshot::channel();
        calls.next += 1;
        calls.waiting.insert(number, tell);
        Ok(Call {
            member: self.member,
            answer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the connection until told to stop. `changed` is notified when it comes or goes.
    pub async fn run(
        self: Arc<Self>,
        credentials: Arc<Credentials>,
        changed: Arc<Notify>,
        shutdown: Shutdown,
    ) {
        let mut pause = REDIAL_MIN;
        while !shutdown.is_stopping() {
            let ended = tokio::select! {
                () = shutdown.stopped() => return self.down(None, false),
                ended = self.connection(&credentials, &changed, &mut pause) => ended,
            };
            let was_up = self.status.borrow().peer.is_some();
            let refusal = match &ended {
                PeerError::Refused(refusal) | PeerError::NotLetIn(refusal) => Some(*refusal),
                _ => None,
            };
            let dead = matches!(&ended, PeerError::Io(error)
                if error.kind() == std::io::ErrorKind::ConnectionRefused);
            if was_up {
                info!(member = %self.member, reason = %ended, "lost the connection to a member");
            } else if refusal.is_some() && refusal != self.status.borrow().refusal {
                error!(member = %self.member, address = %self.address, reason = %ended, "no connection between members");
            } else {
                debug!(member = %self.member, reason = %ended, "no connection to a member");
            }
            self.down(refusal, dead);
            changed.notify_one();
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.redial.notified() => {}
            }
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    fn down(&self, refusal: Option<Refusal>, dead: bool) {
        {
            let mut calls = self.lock();
            calls.queue = None;
            calls.up = None;
            calls.waiting.clear();
        }
        self.status.send_replace(LinkStatus {
            peer: None,
            dead,
            refusal,
        });
    }

    async fn connection(
        &self,
        credentials: &Credentials,
        changed: &Notify,
        pause: &mut Duration,
    ) -> PeerError {
        let mut stream = match net::connect(&self.address, DIAL_LIMIT).await {
            Ok(stream) => stream,
            Err(error) => return error.into(),
        };
        let proof = tokio::time::timeout(HELLO_LIMIT, credentials.dial(&mut stream, self.member));
        let peer = match proof.await {
            Ok(Ok(peer)) => peer,
            Ok(Err(error)) => return error,
            Err(_) => return PeerError::Silent,
        };
        *pause = REDIAL_MIN;
        let (mut reader, mut writer) = stream.into_split();
        let (queue, mut queued) = mpsc::channel(QUEUE_MAX);
        {
            let now = Instant::now();
            let mut calls = self.lock();
            calls.queue = Some(queue);
            calls.up = Some(Up {
                since: now,
                heard: now,
                node: peer.node,
            });
        }
        self.status.send_replace(LinkStatus {
            peer: Some(peer),
            dead: false,
            refusal: None,
        });
        debug!(member = %self.member, "connected to a member");
        changed.notify_one();
        let read = async {
            loop {
                let (number, body) = match read_call(&mut reader).await {
                    Ok(call) => call,
                    Err(error) => return error,
                };
                let mut calls = self.lock();
                if let Some(up) = &mut calls.up {
                    up.heard = Instant::now();
                }
                if let Some(tell) = calls.waiting.remove(&number) {
                    // Who asked may have given up.
                    let _ = tell.send(body);
                }
            }
        };
        let write = async {
            while let Some(frame) = queued.recv().await {
                if let Err(error) = writer.write_all(&frame).await {
                    return error.into();
                }
            }
            PeerError::Closed
        };
        let ping = async {
            loop {
                tokio::time::sleep(peer::PING_INTERVAL).await;
                // The answer only has to arrive.
                let _ = self.call(&Message::Ping);
            }
        };
        tokio::select! { ended = read => ended, ended = write => ended, () = ping => PeerError::Closed }
    }
}

/// The connections to all other members.
#[derive(Clone, Debug)]
pub struct Links {
    links: Arc<BTreeMap<MemberId, Arc<Link>>>,
    identity: Arc<IdentityFile>,
}

impl Links {
    /// One for each of `members`; none is dialed before [`Link::run`]. What they answer is noted in `seen`.
    pub fn new(
        members: impl Iterator<Item = (MemberId, HostPort)>,
        seen: &Arc<Seen>,
        identity: Arc<IdentityFile>,
    ) -> Links {
        let links = members.map(|(member, address)| {
            let link = Link::new(member, address, seen.clone());
            (member, Arc::new(link))
        });
        Links {
            links: Arc::new(links.collect()),
            identity,
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&MemberId, &Arc<Link>)> {
        self.links.iter()
    }

    /// The one to a member.
    pub fn get(&self, member: MemberId) -> Option<&Arc<Link>> {
        self.links.get(&member)
    }

    /// The one to the member whose store this is, while it has this store.
    pub fn to_store(&self, node: u64) -> Option<&Arc<Link>> {
        self.get(member_of(node)).filter(|link| link.has(node))
    }
}

/// One of openraft's ways to a member.
#[derive(Clone, Debug)]
pub struct Network {
    node: u64,
    link: Option<Arc<Link>>,
    identity: Arc<IdentityFile>,
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Network;

    async fn new_client(&mut self, target: u64, _: &openraft::EmptyNode) -> Network {
        Network {
            node: target,
            link: self.get(member_of(target)).cloned(),
            identity: self.identity.clone(),
        }
    }
}

type RpcError<E> = RPCError<u64, openraft::EmptyNode, E>;

impl Network {
    async fn call(&self, message: Message) -> Result<Answer, CallError> {
        let member = member_of(self.node);
        let link = self.link.as_ref().ok_or(CallError::Down(member))?;
        link.call_store(self.node, &message)?.answer().await
    }

    fn route(&self) -> Route {
        Route {
            // Who has anything to say to raft knows it.
            ensemble: self.identity.ensemble().unwrap_or_default(),
            to: self.node,
        }
    }

    fn failed<E: std::error::Error>(&self, error: &CallError) -> RpcError<E> {
        match error {
            CallError::Broken(_) => RPCError::Network(NetworkError::new(error)),
            _ => RPCError::Unreachable(Unreachable::new(error)),
        }
    }

    /// Notes that the member has voted so, and has this leader's log up to `last`.
    fn note(&self, vote: &Vote, last: Option<LogId>) {
        if let Some(link) = &self.link {
            link.seen.note(self.node, Reach::of(vote, last));
        }
    }

    fn stopped<E: std::error::Error>(&self) -> RpcError<E> {
        self.failed(&CallError::Stopped(member_of(self.node)))
    }
}

impl RaftNetwork<TypeConfig> for Network {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError<RaftError<u64>>> {
        let (vote, prev) = (rpc.vote, rpc.prev_log_id);
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        match self.call(Message::Append(self.route(), rpc)).await {
            Ok(Answer::Append(answer)) => {
                match &answer {
                    AppendEntriesResponse::Success => self.note(&vote, last),
                    AppendEntriesResponse::PartialSuccess(last) => self.note(&vote, *last),
                    AppendEntriesResponse::Conflict => self.note(&vote, None),
                    AppendEntriesResponse::HigherVote(higher) => self.note(higher, None),
                }
                Ok(answer)
            }
            Ok(_) => Err(self.stopped()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<RaftError<u64, InstallSnapshotError>>> {
        let (vote, last) = (rpc.vote, rpc.meta.last_log_id.filter(|_| rpc.done));
        match self.call(Message::Snapshot(self.route(), rpc)).await {
            Ok(Answer::Snapshot(Ok(answer))) => {
                let is_taken = answer.vote.leader_id == vote.leader_id;
                self.note(&answer.vote, last.filter(|_| is_taken));
                Ok(answer)
            }
            Ok(Answer::Snapshot(Err(error))) => {
                Err(RPCError::RemoteError(RemoteError::new(self.node, error)))
            }
            Ok(_) => Err(self.stopped()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError<RaftError<u64>>> {
        match self.call(Message::Vote(self.route(), rpc)).await {
            Ok(Answer::Vote(answer)) => {
                self.note(&answer.vote, None);
                Ok(answer)
            }
            Ok(_) => Err(self.stopped()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
