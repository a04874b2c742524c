//! Accepts clients: limits per address, and the first four bytes of a connection, which are a word or
//! the length of a handshake. What a connection says later is `connection`'s business.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, info, warn};

use crate::common::clock::Clock;
use crate::common::disk::{Disk, Open};
use crate::common::flood::Flood;
use crate::common::frame;
use crate::common::ids::{MemberId, SessionId};
use crate::common::net::{self, Descriptors, KEPT, Peers, TcpListener, TcpStream};
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::{Kind, Tasks};
use crate::common::tls::{Acceptor, Stream};
use crate::coordinator::raft::RaftNode;
use crate::coordinator::replica::Replica;
use crate::coordinator::room::Rooms;
use crate::coordinator::status::{ConnectionStats, Mode, ServerStats, Spread, Status};
use crate::coordinator::trace::TraceMask;
use crate::coordinator::tree::op::ConnectionId;
use crate::coordinator::{Options, connection, four_letter, mode_of};

/// A new connection has this long to say who it is.
const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(10);
/// After an answer, what the client still sends is read for this long, so that closing does not reset
/// the connection before the answer is read.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4096;
/// The longest handshake; a real one has some fifty bytes.
const HANDSHAKE_BYTES_MAX: usize = 16 << 10;
/// How deep the data directory is measured.
const DIR_DEPTH_MAX: u32 = 4;
/// A follower that lacks more log entries than this is not in step; fewer may be on their way to it.
const SYNCED_LAG_MAX: u64 = 1_000;
/// What ZooKeeper sends of a word's answer at once.
const WORD_CHUNK_BYTES: usize = 8_192;
/// How long accepting pauses when the system has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection of this member shares.
#[derive(Debug)]
pub struct Server {
    /// As started.
    pub options: Options,
    /// The applied state.
    pub replica: Arc<Replica>,
    /// The log.
    pub raft: Arc<RaftNode>,
    /// The time.
    pub clock: Clock,
    /// For passwords and connection ids.
    pub rng: Rng,
    /// The counters.
    pub stats: ServerStats,
    /// What the connections may have in memory together.
    pub rooms: Rooms,
    /// Where clients connect.
    pub client_address: SocketAddr,
    /// Where they connect with TLS.
    pub secure_address: Option<SocketAddr>,
    /// Monotonic ms of the start.
    pub started_ms: i64,
    /// Monotonic ms since when this member leads; −1 if it does not.
    pub leading_since_ms: AtomicI64,
    /// The next session's id.
    pub next_session: AtomicI64,
    /// For sizes and for counting descriptors.
    pub disk: Arc<dyn Disk>,
    /// What is traced.
    pub trace: TraceMask,
    /// See [`Server::is_read_only`].
    pub read_only: AtomicBool,
    addresses: Mutex<BTreeMap<IpAddr, usize>>,
}

/// The parts of a [`Server`] that others made.
#[derive(Debug)]
#[allow(missing_docs, reason = "the same names as in Server")]
pub struct Parts {
    pub options: Options,
    pub replica: Arc<Replica>,
    pub raft: Arc<RaftNode>,
    pub clock: Clock,
    pub rng: Rng,
    pub client_address: SocketAddr,
    pub secure_address: Option<SocketAddr>,
    pub next_session: i64,
    pub disk: Arc<dyn Disk>,
}

impl Server {
    /// A server without connections.
    pub fn new(parts: Parts) -> Server {
        Server {
            started_ms: parts.clock.monotonic_ms(),
            options: parts.options,
            replica: parts.replica,
            raft: parts.raft,
            clock: parts.clock,
            rng: parts.rng,
            stats: ServerStats::default(),
            rooms: Rooms::default(),
            client_address: parts.client_address,
            secure_address: parts.secure_address,
            leading_since_ms: AtomicI64::new(-1),
            next_session: AtomicI64::new(parts.next_session),
            disk: parts.disk,
            trace: TraceMask::default(),
            read_only: AtomicBool::new(false),
            addresses: Mutex::new(BTreeMap::new()),
        }
    }

    /// Everything that status pages show.
    pub fn status(&self) -> Status {
        let is_read_only = self.is_read_only();
        let mode = match is_read_only {
            true => Mode::ReadOnly,
            false => mode_of(self.raft.role(), &self.options),
        };
        let now_ms = self.clock.monotonic_ms();
        let leading_since_ms = self.leading_since_ms.load(Ordering::Relaxed);
        let (learners, synced_followers) = self.followers();
        Status {
            member: self.options.member,
            mode,
            is_serving: self.raft.serving(),
            is_read_only,
            leader: self.raft.leader(),
            waits_for: self.raft.waits_for().map(|waits| waits.to_string()),
            members: self.options.members.len().max(1),
            last_zxid: self.replica.last_zxid(),
            counts: self.replica.counts(),
            outstanding: self.stats.outstanding.load(Ordering::Relaxed),
            connections: self.stats.connection_count(),
            latency: self.stats.latency.read(),
            packets_received: self.stats.received.load(Ordering::Relaxed),
            packets_sent: self.stats.sent.load(Ordering::Relaxed),
            uptime_ms: now_ms - self.started_ms,
            leading_ms: (mode == Mode::Leader && leading_since_ms >= 0)
                .then_some(now_ms - leading_since_ms),
            response_bytes: self.stats.response_bytes.read(),
            proposal_bytes: self.stats.proposal_bytes.read(),
            learners,
            synced_followers,
            pending_syncs: self.stats.pending_syncs.get(),
            events: self.stats.events(),
            reads: Spread::of(&self.stats.reads),
            updates: Spread::of(&self.stats.updates),
            syncs: Spread::of(self.raft.sync_us()),
            fired: self.replica.fired(),
            elections: self.stats.elections.read(),
            loading: self.stats.loading.read(),
            snapshots: self.raft.snapshot_ms(),
            open_files: self.open_files(),
            max_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            client_address: self.client_address,
        }
    }

    /// `srst`: counters start again.
    pub fn reset_stats(&self) {
        self.stats.reset();
        self.replica.reset_fired();
    }

    /// How many other members are connected, and how many of them keep up with this leader.
    fn followers(&self) -> (usize, usize) {
        let raft = self.raft.status();
        let connected = |id: &MemberId| raft.members.get(id).is_some_and(|up| *up);
        let others = raft.members.keys().filter(|id| **id != self.options.member);
        let learners = others.filter(|id| connected(id)).count();
        let followers = raft.lag.iter();
        let followers = followers.filter(|(id, _)| **id != self.options.member && connected(id));
        let followers = followers.filter(|(id, _)| !raft.joining.contains(*id));
        let synced = followers.filter(|(_, lag)| **lag <= SYNCED_LAG_MAX).count();
        (learners, synced)
    }

    /// Does it serve those who only read, having no leader (`ReadOnlyZooKeeperServer`)?
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Does it answer clients at all?
    pub fn is_running(&self) -> bool {
        self.raft.serving() || self.is_read_only()
    }

    /// A connection id that no other connection has, on any member.
    pub fn new_connection_id(&self) -> ConnectionId {
        ConnectionId(self.rng.next_u64().max(1))
    }

    /// Bytes of all files in the data directory.
    pub fn disk_bytes(&self) -> u64 {
        self.bytes_below(&self.options.data_dir, DIR_DEPTH_MAX)
    }

    fn bytes_below(&self, dir: &Path, depth: u32) -> u64 {
        let entries = self.disk.list(dir).unwrap_or_default();
        let sizes = entries.iter().map(|path| {
            if !self.disk.is_dir(path) {
                let file = self.disk.open(path, Open::Read);
                file.and_then(|file| file.len()).unwrap_or(0)
            } else if depth > 0 {
                self.bytes_below(path, depth - 1)
            } else {
                0
            }
        });
        sizes.sum()
    }

    fn open_files(&self) -> Option<u64> {
        let entries = self.disk.list(Path::new("/proc/self/fd")).ok()?;
        Some(entries.len() as u64)
    }

    /// How many connections are admitted.
    fn admitted(&self) -> usize {
        let addresses = self.addresses.lock();
        let addresses = addresses.unwrap_or_else(PoisonError::into_inner);
        addresses.values().sum()
    }

    fn admit(&self, address: IpAddr) -> bool {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all_max = self.options.max_cnxns;
        if all_max != 0 && addresses.values().sum::<usize>() >= all_max {
            return false;
        }
        let count = addresses.entry(address).or_default();
        let max = self.options.max_client_cnxns;
        if max != 0 && *count >= max {
            return false;
        }
        *count += 1;
        true
    }

    fn leave(&self, address: IpAddr) {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// Serves clients until the shutdown signal, behind TLS if there is an acceptor.
pub async fn run(
    server: Arc<Server>,
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    tasks: Tasks,
) {
    let shutdown = tasks.shutdown().clone();
    let tls = acceptor.is_some();
    match net::local_address(&listener) {
        Ok(address) => info!(%address, tls, "serving ZooKeeper clients"),
        Err(error) => warn!(%error, tls, "serving ZooKeeper clients"),
    }
    let (failing, refusing, keeping) = (Flood::default(), Flood::default(), Flood::default());
    let descriptors = Descriptors::of_process(Peers::ZooKeeper);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopped() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !descriptors.spare(&stream, server.admitted()) {
                    server.stats.rejected.add(1);
                    if let Some(untold) = keeping.tell(server.clock.monotonic_ms()) {
                        warn!(%peer, untold, "{KEPT}");
                    }
                    continue;
                }
                // Beyond the limit: closed at once, as ZooKeeper does.
                if !server.admit(peer.ip()) {
                    server.stats.rejected.add(1);
                    if let Some(untold) = refusing.tell(server.clock.monotonic_ms()) {
                        warn!(
                            %peer,
                            per_address = server.options.max_client_cnxns,
                            in_all = server.options.max_cnxns,
                            untold,
                            "too many connections"
                        );
                    }
                    continue;
                }
                let (server, shutdown) = (server.clone(), shutdown.clone());
                let acceptor = acceptor.clone();
                tasks.spawn("zookeeper connection", Kind::Connection, async move {
                    let guard = Admitted(server, peer.ip());
                    let served = admitted(&guard.0, stream, peer, acceptor, &shutdown);
                    if let Err(error) = served.await {
                        debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                // Mostly: out of descriptors. Those that are open go on.
                if let Some(untold) = failing.tell(server.clock.monotonic_ms()) {
                    warn!(%error, untold, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives the place back however the connection ends.
struct Admitted(Arc<Server>, IpAddr);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// Serves one connection, behind a handshake if there has to be one.
async fn admitted(
    server: &Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        let client = Client { peer, name: None };
        return greet(server, stream.into(), &client, shutdown).await;
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(FIRST_BYTES_LIMIT, acceptor.accept(stream)) => shaken,
        () = shutdown.stopped() => return Ok(()),
    };
    let (stream, name) = shaken
        .map_err(io::Error::from)
        .flatten()
        .inspect_err(|_| server.stats.dropped.add(1))?;
    greet(server, stream, &Client { peer, name }, shutdown).await
}

async fn greet(
    server: &Arc<Server>,
    mut stream: Stream,
    client: &Client,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let first = async {
        let mut head = [0u8; 4];
        let read = stream.read_exact(&mut head).await;
        read.inspect_err(|_| server.stats.dropped.add(1))?;
        if let Some(word) = four_letter::word(&head) {
            return Ok(First::Word(word));
        }
        let length = i32::from_be_bytes(head);
        let limit = server.options.jute_max_buffer.min(HANDSHAKE_BYTES_MAX);
        let body = frame::read_body(&mut stream, length, limit).await;
        body.map(First::Handshake).map_err(io::Error::other)
    };
    let first = tokio::select! {
        first = tokio::time::timeout(FIRST_BYTES_LIMIT, first) => {
            let late = |_| {
                server.stats.speechless.add(1);
                io::Error::from(io::ErrorKind::TimedOut)
            };
            first.map_err(late)??
        }
        () = shutdown.stopped() => return Ok(()),
    };
    match first {
        First::Word(word) => {
            // In ZooKeeper a word is a packet, and its connection is one of those that are listed.
            let id = server.new_connection_id();
            let stats = ConnectionStats::new(client.peer, SessionId(0), 0, server.clock.wall_ms());
            stats.received.fetch_add(1, Ordering::Relaxed);
            server.stats.received.fetch_add(1, Ordering::Relaxed);
            server.stats.bytes_received.add(4);
            server.stats.connected(id, Arc::new(stats));
            // Only this word has an argument.
            if word.sets_trace_mask() && word.is_allowed(server) {
                let mask = tokio::time::timeout(FIRST_BYTES_LIMIT, stream.read_i64()).await;
                server.trace.set(mask??);
            }
            let text = four_letter::answer(server, word);
            server.stats.disconnected(id);
            tokio::time::timeout(FIRST_BYTES_LIMIT, send(&mut stream, text.as_bytes())).await??;
            let packets = text.len().div_ceil(WORD_CHUNK_BYTES) as u64;
            server.stats.sent.fetch_add(packets, Ordering::Relaxed);
            linger(&mut stream).await
        }
        First::Handshake(body) => {
            tokio::select! {
                ended = connection::serve(server, &mut stream, client, body) => ended?,
                () = shutdown.stopped() => return Ok(()),
            }
            linger(&mut stream).await
        }
    }
}

/// Who is at the other end, before it says anything.
#[derive(Debug)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The name in its certificate.
    pub name: Option<String>,
}

enum First {
    Word(&'static four_letter::Word),
    Handshake(bytes::Bytes),
}

/// Behind TLS, what was taken is not sent yet.
async fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Closes our half and reads the rest of theirs.
async fn linger(stream: &mut Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let drain = async {
        let mut scratch = [0u8; 512];
        let mut drained = 0;
        while drained < LINGER_BYTES_MAX {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => break,
                Ok(read) => drained += read,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_LIMIT, drain).await;
    Ok(())
}
