//! Members among themselves: proof of membership, the messages, and serving them.
//!
//! The invariant: nothing of Raft is parsed before the other side has proved, by a keyed digest over both
//! sides' fresh random values, that it knows the cluster's secret and means this member. Without a
//! configured secret the key is derived from cluster and ensemble: that keeps out strangers and mistakes,
//! not attackers. A member whose store is another than the one we met before is refused: its log and
//! vote are gone, and with it the promises it made. So is one whose store is older than what it has said
//! to have on disk ([`super::reach`]); it learns of that and ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::batch::Proposals;
use super::handover;
use super::log_store::LogStore;
use super::node::Touches;
use super::reach::{Reach, Seen};
use super::state_machine::StateMachine;
use super::types::{LeaderKey, Part, Raft, TypeConfig, decode, encode};
use crate::common::flood::Flood;
use crate::common::frame::{FrameError, read_frame};
use crate::common::ids::{MemberId, SessionId};
use crate::common::net::{Descriptors, KEPT, Peers, TcpListener, TcpStream};
use crate::common::rng::Rng;
use crate::common::tasks::{Kind, Tasks};
use crate::coordinator::identity::IdentityFile;
use crate::coordinator::tree::op::Request;

/// The largest frame between members: an append of one entry with one request of the largest size.
pub const FRAME_BYTES_MAX: usize = 24 << 20;
/// The largest frame before membership is proved.
const HELLO_BYTES_MAX: usize = 512;
/// How long the whole proof may take.
pub const HELLO_LIMIT: Duration = Duration::from_secs(2);
/// A connection on which nothing arrives for this long is dead; both sides send more often.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(3);
/// How often a dialer says something.
pub const PING_INTERVAL: Duration = Duration::from_millis(150);
/// Requests of one connection being served at once.
const SERVED_MAX: usize = 64;
/// Connections to the raft port, proved or not.
const CONNECTIONS_MAX: usize = 64;
const MAGIC: [u8; 8] = *b"tripRFT2";

/// What one member asks another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping,
    /// Replicate, or a heartbeat.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Ask for a vote.
    Vote(VoteRequest<u64>),
    /// A piece of a snapshot.
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    /// Requests for the leader to propose.
    Forward(LeaderKey, Part),
    /// Sessions that were heard from.
    Touch(Vec<SessionId>),
    /// From the leader, which stops: let this member stand for election at once.
    Release(LeaderKey, MemberId),
    /// From the leader, which stops: stand for election.
    Stand(LeaderKey),
}

/// What the other answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To a ping, a touch, or what a leader says that stops.
    Here,
    /// To an append.
    Append(AppendEntriesResponse<u64>),
    /// To a vote.
    Vote(VoteResponse<u64>),
    /// To a piece of a snapshot.
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    /// To a forward: was it taken?
    Forward(bool),
    /// The core has stopped.
    Stopped,
}

/// How a connection begins, from either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    magic: [u8; 8],
    cluster: [u8; 32],
    from: MemberId,
    to: MemberId,
    store_id: u64,
    fresh: bool,
    nonce: [u8; 32],
}

/// How far the data of who says it reaches, and the digest over this and both hellos. It is looked up only
/// when the other side's hello is here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Proof {
    reach: Reach,
    digest: [u8; 32],
}

/// What the listening side says to a hello.
#[derive(Debug, Serialize, Deserialize)]
enum HelloAnswer {
    Welcome(Hello, Proof),
    Refused(Refusal),
}

/// Why a peer was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Not the same cluster name or list of members.
    #[error("it belongs to another cluster or has another list of members")]
    OtherCluster,
    /// We are not the member it wants to speak to.
    #[error("this address is another member's")]
    OtherMember,
    /// The keyed digest is wrong.
    #[error("the cluster secrets differ")]
    NoProof,
    /// Its data directory is not the one it had.
    #[error(
        "the member has come back with an empty or foreign data directory, so its vote and log are lost; \
         restore its directory"
    )]
    OtherStore,
    /// Its data directory is older than what it has said to have on disk.
    #[error(
        "the member has come back with a data directory that is older than what it had acknowledged, so \
         votes or entries that the others count on are lost; restore its directory as it was when the \
         member ended"
    )]
    OlderStore,
}

/// Why a connection between members ended.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The socket.
    #[error("connection")]
    Io(#[from] io::Error),
    /// The framing.
    #[error("framing")]
    Frame(#[from] FrameError),
    /// It closed.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came.
    #[error("the peer fell silent")]
    Silent,
    /// It sent what is no message.
    #[error("the peer sent garbage")]
    Garbage,
    /// We were refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// We refused.
    #[error("not let in: {0}")]
    NotLetIn(Refusal),
}

/// Who we are, and how it is proved.
#[derive(Debug)]
pub struct Credentials {
    cluster: [u8; 32],
    key: Vec<u8>,
    me: MemberId,
    members: Vec<MemberId>,
    rng: Rng,
    identity: Arc<IdentityFile>,
    /// Nothing was ever voted or written here.
    fresh: AtomicBool,
    /// Where our own data ends.
    data: Option<(LogStore, StateMachine)>,
    /// How far the others were seen to reach.
    seen: Arc<Seen>,
    /// Who has refused us for older data than we had acknowledged.
    refused_by: OnceLock<MemberId>,
}

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which member.
    pub member: MemberId,
    /// Its store.
    pub store_id: u64,
    /// It has never voted or written anything.
    pub fresh: bool,
}

impl Credentials {
    /// Collects what the proof needs.
    pub fn new(
        cluster: &str,
        secret: Option<&[u8]>,
        me: MemberId,
        members: &[MemberId],
        identity: Arc<IdentityFile>,
        rng: Rng,
    ) -> Credentials {
        let mut digest = Sha256::new();
        digest.update(MAGIC);
        digest.update((cluster.len() as u64).to_be_bytes());
        digest.update(cluster);
        for member in members {
            digest.update(member.0.to_be_bytes());
        }
        let cluster: [u8; 32] = digest.finalize().into();
        Credentials {
            cluster,
            key: secret.unwrap_or(&cluster).to_vec(),
            me,
            members: members.to_vec(),
            rng,
            identity,
            fresh: AtomicBool::new(true),
            data: None,
            seen: Arc::default(),
            refused_by: OnceLock::new(),
        }
    }

    /// Says how far our data reaches, and remembers in `seen` how far that of the others does.
    pub fn with_data(
        mut self,
        log: LogStore,
        machine: StateMachine,
        seen: Arc<Seen>,
    ) -> Credentials {
        self.data = Some((log, machine));
        self.seen = seen;
        self
    }

    /// A member that has refused us because our data is older than what we had acknowledged. There is
    /// nothing to answer, vote or write with such data.
    pub fn refused_by(&self) -> Option<MemberId> {
        self.refused_by.get().copied()
    }

    /// How far our data reaches on disk.
    fn reach(&self) -> Reach {
        // The log first: a vote that lets it be cut is noted before the cut.
        let last = self.data.as_ref().and_then(|(log, machine)| {
            let last = log.ends().0.map(|id| id.index);
            last.max(machine.snapshot_index())
        });
        let vote = self.identity.get().vote;
        Reach::new(vote.term, vote.node, last)
    }

    /// Tells whether anything was voted or written here.
    pub fn set_fresh(&self, fresh: bool) {
        self.fresh.store(fresh, Ordering::Relaxed);
    }

    fn hello(&self, to: MemberId) -> Hello {
        let mut nonce = [0; 32];
        self.rng.fill(&mut nonce);
        Hello {
            magic: MAGIC,
            cluster: self.cluster,
            from: self.me,
            to,
            store_id: self.identity.get().store_id,
            fresh: self.fresh.load(Ordering::Relaxed),
            nonce,
        }
    }

    fn mac(&self, role: &[u8], dialer: &Hello, listener: &Hello, reach: &Reach) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length of key is fine");
        mac.update(role);
        mac.update(&encode(dialer));
        mac.update(&encode(listener));
        mac.update(&encode(reach));
        mac
    }

    fn prove(&self, role: &[u8], dialer: &Hello, listener: &Hello) -> Proof {
        let reach = self.reach();
        let digest = self.mac(role, dialer, listener, &reach).finalize();
        Proof {
            reach,
            digest: digest.into_bytes().into(),
        }
    }

    fn is_proved(&self, role: &[u8], dialer: &Hello, listener: &Hello, proof: &Proof) -> bool {
        let mac = self.mac(role, dialer, listener, &proof.reach);
        mac.verify_slice(&proof.digest).is_ok()
    }

    fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.magic != MAGIC || hello.cluster != self.cluster {
            Err(Refusal::OtherCluster)
        } else if hello.to != self.me
            || hello.from == self.me
            || !self.members.contains(&hello.from)
        {
            Err(Refusal::OtherMember)
        } else {
            Ok(())
        }
    }

    /// Is it the store that this member had when we last met, and no older than it was `seen` to be before
    /// it looked how far it reaches?
    fn check_store(&self, hello: &Hello, seen: Reach, reach: Reach) -> Result<Peer, Refusal> {
        match self.identity.get().peers.get(&hello.from) {
            Some(known) if *known != hello.store_id => Err(Refusal::OtherStore),
            _ if reach < seen && reach.is_nothing() => Err(Refusal::OtherStore),
            _ if reach < seen => Err(Refusal::OlderStore),
            _ => Ok(Peer {
                member: hello.from,
                store_id: hello.store_id,
                fresh: hello.fresh,
            }),
        }
    }

    /// Notes how far a member reaches, by what it asks: it stands, and leads, only with what is on its disk.
    fn note(&self, peer: &Peer, message: &Message) {
        let (vote, last) = match message {
            Message::Append(request) => {
                let last = request.entries.last().map(|entry| entry.log_id);
                (&request.vote, last.or(request.prev_log_id))
            }
            Message::Vote(request) => (&request.vote, None),
            _ => return,
        };
        if vote.leader_id.node_id == peer.member.0 {
            self.seen.note(peer.member, Reach::of(vote, last));
        }
    }

    /// Proves ourselves on a connection that we dialed, and checks who answered.
    pub async fn dial<S>(&self, stream: &mut S, to: MemberId) -> Result<Peer, PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ours = self.hello(to);
        let seen = self.seen.of(to);
        send(stream, &ours).await?;
        let (theirs, proof) = match receive(stream).await? {
            HelloAnswer::Welcome(theirs, proof) => (theirs, proof),
            HelloAnswer::Refused(refusal) => return Err(PeerError::Refused(refusal)),
        };
        self.check(&theirs).map_err(PeerError::NotLetIn)?;
        if theirs.from != to || !self.is_proved(b"listener", &ours, &theirs, &proof) {
            return Err(PeerError::NotLetIn(Refusal::NoProof));
        }
        let reach = proof.reach;
        send(stream, &self.prove(b"dialer", &ours, &theirs)).await?;
        if let Some(refusal) = receive::<_, Option<Refusal>>(stream).await? {
            if refusal == Refusal::OlderStore {
                self.refused_by.get_or_init(|| to);
            }
            return Err(PeerError::Refused(refusal));
        }
        let peer = self.check_store(&theirs, seen, reach);
        peer.map_err(PeerError::NotLetIn)
    }

    /// Checks who dialed us, and proves ourselves.
    pub async fn listen<S>(&self, stream: &mut S) -> Result<Peer, PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let theirs: Hello = receive(stream).await?;
        if let Err(refusal) = self.check(&theirs) {
            send(stream, &HelloAnswer::Refused(refusal)).await?;
            return Err(PeerError::NotLetIn(refusal));
        }
        let ours = self.hello(theirs.from);
        let proof = self.prove(b"listener", &theirs, &ours);
        let seen = self.seen.of(theirs.from);
        send(stream, &HelloAnswer::Welcome(ours.clone(), proof)).await?;
        let proof: Proof = receive(stream).await?;
        let proved = match self.is_proved(b"dialer", &theirs, &ours, &proof) {
            true => self.check_store(&theirs, seen, proof.reach),
            false => Err(Refusal::NoProof),
        };
        send(stream, &proved.err()).await?;
        proved.map_err(PeerError::NotLetIn)
    }
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    what: &impl Serialize,
) -> Result<(), PeerError> {
    let body = encode(what);
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.put_u32(body.len() as u32);
    frame.put_slice(&body);
    stream.write_all(&frame).await?;
    Ok(())
}

async fn receive<S, T>(stream: &mut S) -> Result<T, PeerError>
where
    S: AsyncRead + Unpin,
    T: serde::de::DeserializeOwned,
{
    let frame = read_frame(stream, HELLO_BYTES_MAX)
        .await?
        .ok_or(PeerError::Closed)?;
    decode(&frame).ok_or(PeerError::Garbage)
}

/// A call's number and body as one frame; `None` if it is too large.
pub fn call_frame(number: u64, body: &impl Serialize) -> Option<Bytes> {
    let body = encode(body);
    if body.len() + 8 > FRAME_BYTES_MAX {
        return None;
    }
    let mut frame = BytesMut::with_capacity(body.len() + 12);
    frame.put_u32(body.len() as u32 + 8);
    frame.put_u64(number);
    frame.put_slice(&body);
    Some(frame.freeze())
}

/// Reads one call or answer: its number and its body.
pub async fn read_call<S>(stream: &mut S) -> Result<(u64, Bytes), PeerError>
where
    S: AsyncRead + Unpin,
{
    let frame = tokio::time::timeout(SILENCE_LIMIT, read_frame(stream, FRAME_BYTES_MAX));
    let frame = frame.await.map_err(|_| PeerError::Silent)??;
    let frame = frame.ok_or(PeerError::Closed)?;
    let number = frame.first_chunk::<8>().ok_or(PeerError::Garbage)?;
    Ok((u64::from_be_bytes(*number), frame.slice(8..)))
}

/// What the raft port serves.
pub struct PeerServer {
    /// Who may come in.
    pub credentials: Arc<Credentials>,
    /// The core.
    pub raft: Raft,
    /// Where forwarded requests go.
    pub proposals: Arc<Proposals>,
    /// Where reported sessions go.
    pub touches: Arc<Touches>,
    /// When a leader was last heard from, as the arrival of an append.
    pub led: watch::Sender<Option<Instant>>,
    /// What the connections run on.
    pub tasks: Tasks,
}

impl PeerServer {
    /// Accepts members until told to stop.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let started = Instant::now();
        let since_ms = move || i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let descriptors = Descriptors::of_process(Peers::Members);
        let (failing, refusing) = (Flood::default(), Flood::default());
        let (keeping, strangers) = (Flood::default(), Arc::new(Flood::default()));
        let shutdown = self.tasks.shutdown().clone();
        loop {
            let accepted = tokio::select! {
                () = shutdown.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(untold) = failing.tell(since_ms()) {
                        warn!(%error, untold, "accepting on the raft port");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                if let Some(untold) = refusing.tell(since_ms()) {
                    warn!(%address, untold, "too many connections to the raft port; one was closed");
                }
                continue;
            };
            let open = CONNECTIONS_MAX - places.available_permits() - 1;
            if !descriptors.spare(&stream, open) {
                if let Some(untold) = keeping.tell(since_ms()) {
                    warn!(%address, untold, "{KEPT}");
                }
                continue;
            }
            let (server, strangers) = (self.clone(), strangers.clone());
            self.tasks.spawn("raft peer", Kind::Connection, async move {
                let stopped = server.tasks.shutdown().clone();
                tokio::select! {
                    () = stopped.stopped() => {}
                    result = server.connection(stream) => match result {
                        Ok(()) | Err(PeerError::Closed | PeerError::Io(_)) => {}
                        Err(PeerError::NotLetIn(refusal)) => {
                            if let Some(untold) = strangers.tell(since_ms()) {
                                warn!(%address, %refusal, untold, "a peer was not let in");
                            }
                        }
                        Err(error) => debug!(%address, %error, "a peer's connection ended"),
                    },
                }
                drop(place);
            });
        }
    }

    async fn connection(self: &Arc<Self>, mut stream: TcpStream) -> Result<(), PeerError> {
        stream.set_nodelay(true)?;
        let proof = tokio::time::timeout(HELLO_LIMIT, self.credentials.listen(&mut stream));
        let peer = proof.await.map_err(|_| PeerError::Silent)??;
        let (mut reader, mut writer) = stream.into_split();
        let (answers, mut outgoing) = mpsc::channel::<Bytes>(SERVED_MAX);
        let places = Arc::new(Semaphore::new(SERVED_MAX));
        let read = async {
            loop {
                let (number, body) = read_call(&mut reader).await?;
                let message: Message = decode(&body).ok_or(PeerError::Garbage)?;
                self.credentials.note(&peer, &message);
                if matches!(message, Message::Append(_)) {
                    self.led.send_replace(Some(Instant::now()));
                }
                if let Some(answer) = self.at_once(&peer, &message)? {
                    let frame = call_frame(number, &answer).ok_or(PeerError::Garbage)?;
                    answers.send(frame).await.map_err(|_| PeerError::Closed)?;
                    continue;
                }
                let place = places
                    .clone()
                    .acquire_owned()
                    .await
                    .map_err(|_| PeerError::Closed)?;
                let (server, answers) = (self.clone(), answers.clone());
                self.tasks.spawn("raft call", Kind::Connection, async move {
                    let answer = server.answer(message).await;
                    if let Some(frame) = call_frame(number, &answer) {
                        // The connection may be gone; the peer asks again on the next one.
                        let _ = answers.send(frame).await;
                    }
                    drop(place);
                });
            }
        };
        let write = async {
            while let Some(frame) = outgoing.recv().await {
                writer.write_all(&frame).await?;
            }
            Ok(())
        };
        tokio::select! { result = read => result, result = write => result }
    }

    /// Answers what takes no time, in the order of arrival.
    fn at_once(&self, peer: &Peer, message: &Message) -> Result<Option<Answer>, PeerError> {
        Ok(match message {
            Message::Ping => Some(Answer::Here),
            _ if self.credentials.refused_by().is_some() => Some(Answer::Stopped),
            Message::Touch(sessions) => {
                self.touches.report(sessions);
                Some(Answer::Here)
            }
            Message::Forward(leader, part) => {
                // What apply could not read would stop every member.
                let readable =
                    |bytes: &Bytes| bytes.is_empty() || decode::<Request>(bytes).is_some();
                if part.member != peer.member || !part.requests.iter().all(readable) {
                    return Err(PeerError::Garbage);
                }
                Some(Answer::Forward(self.proposals.take(*leader, part.clone())))
            }
            Message::Release(_, next) if *next == self.credentials.me => Some(Answer::Stopped),
            Message::Release(leader, _) | Message::Stand(leader)
                if !handover::concerns(&self.raft, *leader, peer.member) =>
            {
                Some(Answer::Stopped)
            }
            Message::Append(_)
            | Message::Vote(_)
            | Message::Snapshot(_)
            | Message::Release(..)
            | Message::Stand(_) => None,
        })
    }

    /// openraft, where it refuses a candidate because of its log, does not take up its term, as Raft has it. A
    /// candidate that cannot win then stays a term ahead of those that could, and refuses each of them: one
    /// round of turns after the other ends without a leader. While one leads, nothing is taken up.
    pub(super) async fn vote(&self, request: VoteRequest<u64>) -> Answer {
        let (asked, last) = (request.vote, request.last_log_id);
        let Ok(answer) = self.raft.vote(request).await else {
            return Answer::Stopped;
        };
        let is_refused = !answer.vote_granted && answer.vote < asked && answer.last_log_id > last;
        if is_refused && !answer.vote.committed {
            handover::release(&self.raft, asked).await;
        }
        Answer::Vote(answer)
    }

    async fn answer(&self, message: Message) -> Answer {
        match message {
            Message::Append(request) => match self.raft.append_entries(request).await {
                Ok(answer) => Answer::Append(answer),
                Err(_) => Answer::Stopped,
            },
            Message::Vote(request) => self.vote(request).await,
            Message::Snapshot(piece) => Answer::Snapshot(self.raft.install_snapshot(piece).await),
            Message::Release(leader, next) => {
                handover::release(&self.raft, handover::vote_after(leader, next)).await;
                Answer::Here
            }
            Message::Stand(_) => match self.raft.trigger().elect().await {
                Ok(()) => Answer::Here,
                Err(_) => Answer::Stopped,
            },
            Message::Ping | Message::Touch(_) | Message::Forward(..) => Answer::Here,
        }
    }
}
