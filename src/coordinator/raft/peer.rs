//! Members among themselves: proof of membership, the messages, and serving them.
//!
//! The invariant: nothing of Raft is parsed before the other side has proved, by a keyed digest over both
//! sides' fresh random values, that it knows the cluster's secret and means this member. Without a
//! configured secret the key is derived from cluster and members: that keeps out strangers and mistakes,
//! not attackers. A call to raft says for which store it is, and of which ensemble, so what was meant for
//! a member's lost store never reaches the new one ([`super::admission`]). A store that is older than what
//! it has said to have on disk ([`super::reach`]), or whose place another one has taken, is refused; it
//! learns of that and ends.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
use super::network::Links;
use super::node::Touches;
use super::reach::{Reach, Seen};
use super::state_machine::StateMachine;
use super::types::{LeaderKey, LogId, Part, Raft, TypeConfig, decode, encode};
use crate::common::disk::told;
use crate::common::flood::Flood;
use crate::common::frame::{FrameError, read_frame};
use crate::common::ids::{MemberId, SessionId};
use crate::common::net::{Descriptors, KEPT, Peers, TcpListener, TcpStream};
use crate::common::rng::Rng;
use crate::common::tasks::{self, Kind, Tasks};
use crate::coordinator::identity::{IdentityFile, member_of};
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
const MAGIC: [u8; 8] = *b"tripRFT3";

/// Which store a call to raft is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Of which ensemble the caller is.
    pub ensemble: u64,
    /// Raft's name for the store.
    pub to: u64,
}

/// What one member asks another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping,
    /// Replicate, or a heartbeat.
    Append(Route, AppendEntriesRequest<TypeConfig>),
    /// Ask for a vote.
    Vote(Route, VoteRequest<u64>),
    /// A piece of a snapshot.
    Snapshot(Route, InstallSnapshotRequest<TypeConfig>),
    /// Requests for the leader to propose.
    Forward(LeaderKey, Part),
    /// Sessions that were heard from.
    Touch(Vec<SessionId>),
    /// From the leader, which stops: let this store stand for election at once.
    Release(LeaderKey, u64),
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
    node: u64,
    ensemble: Option<u64>,
    fresh: bool,
    /// By which entry it counts; `None` while it does not.
    counts_by: Option<LogId>,
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
    Welcome(Box<Hello>, Proof),
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
    /// Its data are of another ensemble with the same names.
    #[error(
        "the member has come back with the data directory of another ensemble; restore its own, or empty it \
         and let the member join anew"
    )]
    OtherEnsemble,
    /// Another process has its id.
    #[error(
        "another process is this member already, with another data directory, at the address where the member is \
         dialed; give each its own id"
    )]
    Twice,
    /// Another store has taken its place.
    #[error(
        "the member has joined anew since with another data directory, which counts in the place of this one; \
         restore that, or empty this one and let the member join anew"
    )]
    Replaced,
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
    /// Who has refused our data for good, and why.
    refused_by: OnceLock<(MemberId, Refusal)>,
    /// The entry by which our store counts.
    counts_by: Mutex<Option<LogId>>,
    /// Our connections to the others.
    links: Option<Links>,
}

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which member.
    pub member: MemberId,
    /// Raft's name for its store.
    pub node: u64,
    /// Of which ensemble it is, if it knows.
    pub ensemble: Option<u64>,
    /// It has never voted or written anything.
    pub fresh: bool,
    /// By its own log it counts: it may vote, and be elected.
    pub counts: bool,
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
            counts_by: Mutex::default(),
            links: None,
        }
    }

    /// Says how far our data reaches, and remembers in `seen` how far that of the others does. Over `links`
    /// it is seen who is there already.
    pub fn with_data(
        mut self,
        log: LogStore,
        machine: StateMachine,
        seen: Arc<Seen>,
        links: Links,
    ) -> Credentials {
        self.data = Some((log, machine));
        self.links = Some(links);
        self.seen = seen;
        self
    }

    /// A member that has refused us because our data is older than what we had acknowledged, or has been
    /// replaced. There is nothing to answer, vote or write with such data.
    pub fn refused_by(&self) -> Option<(MemberId, Refusal)> {
        self.refused_by.get().copied()
    }

    /// Says by which entry our store counts, if it does.
    pub fn set_counts_by(&self, entry: Option<LogId>) {
        *self
            .counts_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = entry;
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
            node: self.identity.node(),
            ensemble: self.identity.ensemble(),
            fresh: self.fresh.load(Ordering::Relaxed),
            counts_by: *self
                .counts_by
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
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
            || member_of(hello.node) != hello.from
        {
            Err(Refusal::OtherMember)
        } else {
            Ok(())
        }
    }

    /// Is it a store of this ensemble that has not been replaced, and no older than it was `seen` to be
    /// before it looked how far it reaches?
    fn check_store(&self, hello: &Hello, seen: Reach, reach: Reach) -> Result<Peer, Refusal> {
        let ours = self.identity.ensemble();
        if ours.is_some() && hello.ensemble.is_some() && ours != hello.ensemble {
            Err(Refusal::OtherEnsemble)
        } else if reach < seen {
            Err(Refusal::OlderStore)
        } else if self.is_replaced(hello) {
            Err(Refusal::Replaced)
        } else {
            Ok(Peer {
                member: hello.from,
                node: hello.node,
                ensemble: hello.ensemble,
                fresh: hello.fresh,
                counts: hello.counts_by.is_some(),
            })
        }
    }

    /// Does another store of the same member answer us at this moment?
    fn is_twice(&self, hello: &Hello) -> bool {
        let link = self.links.as_ref().and_then(|links| links.get(hello.from));
        let up = link.and_then(|link| link.up());
        up.is_some_and(|up| up.node != hello.node && up.heard.elapsed() < 4 * PING_INTERVAL)
    }

    /// Does it count by its own log, and no more by what was committed since?
    fn is_replaced(&self, hello: &Hello) -> bool {
        let committed = self.data.as_ref().map(|(_, machine)| machine.membership());
        match (committed, hello.counts_by) {
            (Some(committed), Some(by)) => {
                let known = committed.nodes().any(|(node, _)| *node == hello.node);
                !known && *committed.log_id() >= Some(by)
            }
            _ => false,
        }
    }

    /// Notes how far a member reaches, by what it asks: it stands, and leads, only with what is on its disk.
    fn note(&self, peer: &Peer, message: &Message) {
        let (vote, last) = match message {
            Message::Append(_, request) => {
                let last = request.entries.last().map(|entry| entry.log_id);
                (&request.vote, last.or(request.prev_log_id))
            }
            Message::Vote(_, request) => (&request.vote, None),
            _ => return,
        };
        if vote.leader_id.node_id == peer.node {
            self.seen.note(peer.node, Reach::of(vote, last));
        }
    }

    /// Proves ourselves on a connection that we dialed, and checks who answered.
    pub async fn dial<S>(&self, stream: &mut S, to: MemberId) -> Result<Peer, PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ours = self.hello(to);
        let seen = self.seen.now();
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
            if matches!(refusal, Refusal::OlderStore | Refusal::Replaced) {
                self.refused_by.get_or_init(|| (to, refusal));
            }
            return Err(PeerError::Refused(refusal));
        }
        let seen = seen.get(&theirs.node).copied().unwrap_or_default();
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
        let seen = self.seen.of(theirs.node);
        send(stream, &HelloAnswer::Welcome(Box::new(ours.clone()), proof)).await?;
        let proof: Proof = receive(stream).await?;
        let proved = match self.is_proved(b"dialer", &theirs, &ours, &proof) {
            true if self.is_twice(&theirs) => Err(Refusal::Twice),
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
    /// The last entry that a leader has spoken of.
    pub offered: Arc<AtomicU64>,
    /// Our connections the other way.
    pub links: Links,
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
        // It is there: no need to wait for the next try.
        if let Some(link) = self.links.get(peer.member) {
            link.redial();
        }
        let (mut reader, mut writer) = stream.into_split();
        let (answers, mut outgoing) = mpsc::channel::<Bytes>(SERVED_MAX);
        let places = Arc::new(Semaphore::new(SERVED_MAX));
        let read = async {
            loop {
                let (number, body) = read_call(&mut reader).await?;
                let message: Message = decode(&body).ok_or(PeerError::Garbage)?;
                let at_once = if self.is_for_us(&peer, &message).await? {
                    self.credentials.note(&peer, &message);
                    self.hear(&message);
                    self.at_once(&peer, &message)?
                } else {
                    Some(Answer::Stopped)
                };
                if let Some(answer) = at_once {
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

    /// Is it for our store, and not for one that this member has lost? And is it of our ensemble? A new
    /// store is of the ensemble that first speaks to it, and knows that before it answers.
    async fn is_for_us(&self, peer: &Peer, message: &Message) -> Result<bool, PeerError> {
        let (route, vote) = match message {
            Message::Append(route, request) => (route, &request.vote),
            Message::Vote(route, request) => (route, &request.vote),
            Message::Snapshot(route, piece) => (route, &piece.vote),
            _ => return Ok(true),
        };
        if vote.leader_id.node_id != peer.node {
            return Err(PeerError::Garbage);
        }
        let identity = &self.credentials.identity;
        if route.to != identity.node() {
            return Ok(false);
        }
        match identity.ensemble() {
            Some(ensemble) if ensemble == route.ensemble => {}
            Some(_) => return Err(PeerError::NotLetIn(Refusal::OtherEnsemble)),
            None => {
                let (identity, ensemble) = (identity.clone(), route.ensemble);
                let noted = tasks::blocking(move || identity.set_ensemble(ensemble)).await;
                noted.map_err(|error| io::Error::other(told(&error)))?;
            }
        }
        Ok(true)
    }

    /// Notes that a leader leads, and how far its log goes.
    fn hear(&self, message: &Message) {
        let offered = match message {
            Message::Append(_, request) => {
                self.led.send_replace(Some(Instant::now()));
                request.leader_commit
            }
            Message::Snapshot(_, piece) => {
                self.led.send_replace(Some(Instant::now()));
                piece.meta.last_log_id
            }
            _ => None,
        };
        let index = offered.map_or(0, |id| id.index);
        self.offered.fetch_max(index, Ordering::Relaxed);
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
            Message::Release(_, next) if *next == self.credentials.identity.node() => {
                Some(Answer::Stopped)
            }
            Message::Release(leader, _) | Message::Stand(leader)
                if !handover::concerns(&self.raft, *leader, peer.node) =>
            {
                Some(Answer::Stopped)
            }
            Message::Append(..)
            | Message::Vote(..)
            | Message::Snapshot(..)
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
            Message::Append(_, request) => match self.raft.append_entries(request).await {
                Ok(answer) => Answer::Append(answer),
                Err(_) => Answer::Stopped,
            },
            Message::Vote(_, request) => self.vote(request).await,
            Message::Snapshot(_, piece) => {
                Answer::Snapshot(self.raft.install_snapshot(piece).await)
            }
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
