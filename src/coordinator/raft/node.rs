//! One member: opens its data, joins the others, and gives the coordinator `propose`.
//!
//! Start order: identity (whose data is this?), lock, store, log, snapshots, core, network. Everything
//! that could be wrong with the data is found before the first vote. After a storage failure the member
//! stops: the reason is logged, an essential task fails, and the process ends. [`super::leadership`] watches
//! who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

pub use super::batch::ProposeError;
use super::batch::{Proposals, Send, Waiter};
use super::handover;
use super::leadership;
use super::log_store::LogStore;
use super::network::Links;
use super::peer::{Answer, Credentials, Message, PeerServer};
use super::reach::Seen;
use super::runtime;
pub use super::start_error::StartError;
use super::start_error::{STORE_OPEN_LIMIT, or_disk_full};
use super::state_machine::StateMachine;
use super::types::{LeaderKey, Part, Raft, encode};
use super::waits::{Other, Waits};
use crate::common::clock::Clock;
use crate::common::disk::{DirLock, Disk, told};
use crate::common::ids::{MemberId, SessionId, Zxid};
use crate::common::metrics::Histogram;
use crate::common::net::{HostPort, TcpListener};
use crate::common::rng::Rng;
use crate::common::tasks::{self, Kind, Tasks};
use crate::coordinator::identity::{IdentityFile, Opened};
use crate::coordinator::replica::Replica;
use crate::coordinator::room::Held;
use crate::coordinator::snapshot_file::{SnapshotDir, SnapshotFileError};
use crate::coordinator::status::Latency;
use crate::coordinator::store::{Store, StoreError, plain::PlainStore, sled::SledStore};
use crate::coordinator::tree::op::{Outcome, Request};

const HEARTBEAT_MS: u64 = 150;
/// How often the keeper looks after things.
const KEEPER_INTERVAL: Duration = Duration::from_millis(250);
/// The durable index is noted every so many rounds of the keeper.
const NOTE_ROUNDS: u64 = 3;
const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
const SNAPSHOT_PIECE_LIMIT_MS: u64 = 10_000;
/// A snapshot is taken after so many bytes of log, too, or after as many as the last one had: what the log
/// takes on disk, and in memory, is bounded by bytes.
const SNAPSHOT_LOG_BYTES: u64 = 5 << 20;
/// The largest request; ZooKeeper's limit is 1 MiB by default.
const REQUEST_BYTES_MAX: usize = 16 << 20;
const FORWARD_PAUSE: Duration = Duration::from_millis(20);
/// Sessions that a member reports at most at once; more wait for the next report.
const TOUCHES_MAX: usize = 100_000;

/// What the log is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// sled, on the real disk.
    Sled,
    /// One file over the disk seam, for simulation.
    Plain,
}

/// What a member needs to know.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// The cluster's name; data of another cluster is refused.
    pub cluster: String,
    /// Which member this is.
    pub member: MemberId,
    /// All members with their raft addresses.
    pub members: BTreeMap<MemberId, HostPort>,
    /// The secret that members prove to one another.
    pub secret: Option<Vec<u8>>,
    /// Where the data lives.
    pub dir: PathBuf,
    /// What the log is kept in.
    pub store: StoreKind,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
    /// How long a request may wait for its outcome.
    pub propose_limit: Duration,
}

impl RaftOptions {
    /// A member with ordinary limits.
    pub fn new(
        cluster: impl Into<String>,
        member: MemberId,
        members: BTreeMap<MemberId, HostPort>,
        dir: impl Into<PathBuf>,
    ) -> RaftOptions {
        RaftOptions {
            cluster: cluster.into(),
            member,
            members,
            secret: None,
            dir: dir.into(),
            store: if cfg!(feature = "sim") {
                // sled has threads of its own.
                StoreKind::Plain
            } else {
                StoreKind::Sled
            },
            snapshot_entries: 10_000,
            propose_limit: Duration::from_secs(10),
        }
    }
}

/// What a member is, as ZooKeeper's `srvr` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The only member, and ready.
    Standalone,
    /// Leads, and a quorum follows.
    Leader,
    /// Follows a leader, and has caught up with its beginning.
    Follower,
    /// None of these: no requests are served.
    #[default]
    Looking,
}

/// Numbers for status pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// What this member is.
    pub role: Role,
    /// The present leader.
    pub leader: Option<MemberId>,
    /// The present term.
    pub term: u64,
    /// The last entry in the log.
    pub last_log_index: Option<u64>,
    /// The last entry applied.
    pub applied_index: Option<u64>,
    /// The last entry covered by a snapshot.
    pub snapshot_index: Option<u64>,
    /// The last entry purged from the log.
    pub purged_index: Option<u64>,
    /// On the leader: how many entries each member lacks.
    pub lag: BTreeMap<MemberId, u64>,
    /// All members, and whether we are connected to them.
    pub members: BTreeMap<MemberId, bool>,
    /// Requests of this member's clients that wait.
    pub waiting: usize,
    /// Syncs so far.
    pub sync_count: u64,
    /// Half of them took at most so many µs.
    pub sync_p50_us: u64,
    /// Almost all of them took at most so many µs.
    pub sync_p99_us: u64,
    /// The longest.
    pub sync_max_us: u64,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
}

/// Sessions heard from since the last report.
#[derive(Debug, Default)]
pub struct Touches(Mutex<BTreeSet<SessionId>>);

impl Touches {
    /// Notes sessions.
    pub fn report(&self, sessions: &[SessionId]) {
        let mut noted = self.lock();
        let room = TOUCHES_MAX.saturating_sub(noted.len());
        noted.extend(sessions.iter().take(room));
    }

    fn drain(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running member of the ensemble.
pub struct RaftNode {
    pub(super) options: RaftOptions,
    pub(super) raft: Raft,
    pub(super) proposals: Arc<Proposals>,
    pub(super) log: LogStore,
    pub(super) machine: StateMachine,
    pub(super) links: Links,
    pub(super) links_changed: Arc<Notify>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) identity: Arc<IdentityFile>,
    pub(super) role: watch::Sender<(Role, u64)>,
    replica: Arc<Replica>,
    clock: Clock,
    touches: Arc<Touches>,
    /// When an append last arrived.
    pub(super) led: watch::Sender<Option<Instant>>,
    pub(super) tasks: Tasks,
    resending: AtomicBool,
    /// It hands its leadership over.
    pub(super) stopping: AtomicBool,
    /// The directory is ours while this is here.
    lock: Mutex<Option<Box<dyn DirLock>>>,
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode")
            .field("member", &self.options.member)
            .finish_non_exhaustive()
    }
}

/// What was found in the data directory.
struct Data {
    identity: Arc<IdentityFile>,
    log: LogStore,
    machine: StateMachine,
    lock: Box<dyn DirLock>,
}

impl Data {
    fn credentials(&self, options: &RaftOptions, seen: Arc<Seen>, rng: &Rng) -> Credentials {
        let members: Vec<MemberId> = options.members.keys().copied().collect();
        let credentials = Credentials::new(
            &options.cluster,
            options.secret.as_deref(),
            options.member,
            &members,
            self.identity.clone(),
            rng.fork("raft peers"),
        );
        credentials.set_fresh(self.log.is_fresh());
        credentials.with_data(self.log.clone(), self.machine.clone(), seen)
    }
}

impl RaftNode {
    /// Opens the data and starts the member. `listener` is its raft port; a single member needs none.
    pub async fn start(
        options: RaftOptions,
        listener: Option<TcpListener>,
        replica: Arc<Replica>,
        disk: Arc<dyn Disk>,
        clock: Clock,
        rng: Rng,
        tasks: Tasks,
    ) -> Result<Arc<RaftNode>, StartError> {
        let member = options.member;
        if !options.members.contains_key(&member) || options.members.keys().any(|id| id.0 > 255) {
            let count = options.members.len();
            return Err(StartError::Members { member, count });
        }
        let proposals = Arc::new(Proposals::new(member, rng.next_u64()));
        let opening = {
            let (options, replica, proposals) =
                (options.clone(), replica.clone(), proposals.clone());
            let (clock, rng) = (clock.clone(), rng.clone());
            tasks::blocking(move || {
                open(&options, replica, proposals, disk.clone(), clock, &rng)
                    .map_err(|error| or_disk_full(error, &*disk, &options.dir))
            })
        };
        let data = match tokio::time::timeout(STORE_OPEN_LIMIT, opening).await {
            Ok(data) => data?,
            Err(_) => return Err(StartError::StoreSlow { dir: options.dir }),
        };
        let others = options.members.iter().filter(|(id, _)| **id != member);
        let seen = Arc::new(Seen::default());
        let links = Links::new(others.map(|(id, address)| (*id, address.clone())), &seen);
        let credentials = Arc::new(data.credentials(&options, seen, &rng));
        let config = config(&options)?;
        let (log, machine) = (data.log.clone(), data.machine.clone());
        let raft = Raft::new(member.0, config, links.clone(), log, machine);
        let raft = runtime::watched(tasks.clone(), raft).await;
        let raft = raft.map_err(|error| StartError::Core {
            reason: told(&error),
        })?;
        let node = Arc::new(RaftNode {
            options,
            raft,
            proposals,
            log: data.log,
            machine: data.machine,
            links,
            links_changed: Arc::new(Notify::new()),
            credentials,
            identity: data.identity,
            role: watch::Sender::default(),
            replica,
            clock,
            touches: Arc::default(),
            led: watch::Sender::default(),
            tasks: tasks.child(),
            resending: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            lock: Mutex::new(Some(data.lock)),
        });
        node.spawn(listener);
        Ok(node)
    }

    fn spawn(self: &Arc<Self>, listener: Option<TcpListener>) {
        let tasks = &self.tasks;
        if let Some(listener) = listener {
            let server = Arc::new(PeerServer {
                credentials: self.credentials.clone(),
                raft: self.raft.clone(),
                proposals: self.proposals.clone(),
                touches: self.touches.clone(),
                led: self.led.clone(),
                tasks: tasks.clone(),
            });
            tasks.spawn("raft port", Kind::Essential, server.run(listener));
        }
        for (_, link) in self.links.all() {
            let (credentials, changed) = (self.credentials.clone(), self.links_changed.clone());
            let run = link
                .clone()
                .run(credentials, changed, tasks.shutdown().clone());
            tasks.spawn("raft link", Kind::Essential, run);
        }
        tasks.spawn("raft sender", Kind::Essential, self.clone().sender());
        tasks.spawn("raft keeper", Kind::Essential, self.clone().keeper());
        tasks.spawn("raft trimmer", Kind::Essential, self.clone().trimmer());
        tasks.spawn(
            leadership::TASK,
            Kind::Essential,
            leadership::watch(self.clone()),
        );
    }

    /// Puts a request into the line at once; the receiver gets its outcome when this member has applied
    /// it. Requests are applied in the order of submitting.
    /// `held` is given back then.
    pub fn submit(
        &self,
        request: &Request,
        held: Option<Held>,
    ) -> oneshot::Receiver<Result<Outcome, ProposeError>> {
        let (tell, answer) = oneshot::channel();
        let bytes = Bytes::from(encode(request));
        if bytes.len() > REQUEST_BYTES_MAX {
            let bytes = bytes.len();
            let _ = tell.send(Err(ProposeError::TooLarge { bytes }));
        } else {
            let now_ms = self.clock.monotonic_ms();
            self.proposals
                .submit(bytes, Waiter::Request(tell, held), now_ms);
        }
        answer
    }

    /// As [`RaftNode::submit`], and waits.
    pub async fn propose(&self, request: Request) -> Result<Outcome, ProposeError> {
        let answer = self.submit(&request, None);
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// As [`RaftNode::barrier`], in the line with the requests that were submitted before.
    pub fn submit_barrier(&self) -> oneshot::Receiver<Result<(), ProposeError>> {
        let (tell, answer) = oneshot::channel();
        let now_ms = self.clock.monotonic_ms();
        self.proposals
            .submit(Bytes::new(), Waiter::Barrier(tell), now_ms);
        answer
    }

    /// Resolves when this member has applied everything that was committed before the call. It is an
    /// empty entry in the log, so it is in line with the requests submitted before.
    pub async fn barrier(&self) -> Result<Zxid, ProposeError> {
        let answer = self.submit_barrier();
        answer.await.unwrap_or(Err(ProposeError::Stopped))?;
        Ok(self.replica.last_zxid())
    }

    /// What this member is now.
    pub fn role(&self) -> Role {
        self.role.borrow().0
    }

    /// Who leads, as far as known.
    pub fn leader(&self) -> Option<MemberId> {
        leadership::leader(&self.raft.server_metrics().borrow()).map(|key| MemberId(key.node_id))
    }

    /// May clients be served?
    pub fn serving(&self) -> bool {
        self.role() != Role::Looking
    }

    /// What this member waits for, by the names of those that are missing; `None` while it serves.
    pub fn waits_for(&self) -> Option<Waits> {
        if self.serving() {
            return None;
        }
        let others = self.links.all().map(|(member, link)| Other {
            member: *member,
            address: self.options.members[member].clone(),
            link: *link.status().borrow(),
        });
        let others: Vec<Other> = others.collect();
        Some(Waits::of(self.log.is_fresh(), self.leader(), &others))
    }

    /// Role and term, as they change.
    pub fn role_changes(&self) -> watch::Receiver<(Role, u64)> {
        self.role.subscribe()
    }

    /// Notes that a session was heard from here.
    pub fn touch(&self, session: SessionId) {
        self.touches.report(&[session]);
    }

    /// On the leader: the sessions heard from anywhere since the last call. Elsewhere nothing; they are
    /// on their way to the leader.
    pub fn take_touches(&self) -> Vec<SessionId> {
        match self.role() {
            Role::Leader | Role::Standalone => self.touches.drain(),
            Role::Follower | Role::Looking => Vec::new(),
        }
    }

    /// How long the syncs of the log took.
    pub fn sync_us(&self) -> &Histogram {
        self.log.sync_us()
    }

    /// How long writing snapshots took.
    pub fn snapshot_ms(&self) -> Latency {
        self.machine.saving().read()
    }

    /// The last transaction that the newest snapshot covers.
    pub fn snapshot_zxid(&self) -> Option<Zxid> {
        self.machine.snapshot_zxid()
    }

    /// Numbers for status pages.
    pub fn status(&self) -> RaftStatus {
        let (last, purged) = self.log.ends();
        let applied = *self.machine.applied().borrow();
        let data = self.raft.data_metrics().borrow().clone();
        let (role, term) = *self.role.borrow();
        let last_index = last.map_or(0, |id| id.index);
        let lag = data
            .replication
            .unwrap_or_default()
            .into_iter()
            .map(|(node, matched)| {
                let matched = matched.map_or(0, |id| id.index);
                (MemberId(node), last_index.saturating_sub(matched))
            });
        let connected = self.options.members.keys().map(|id| {
            let up = self
                .links
                .get(*id)
                .map(|link| link.status().borrow().peer.is_some());
            (*id, up.unwrap_or(true))
        });
        let sync_us = self.log.sync_us();
        RaftStatus {
            role,
            leader: self.leader(),
            term,
            last_log_index: last.map(|id| id.index),
            applied_index: applied.map(|id| id.index),
            snapshot_index: self.machine.snapshot_index(),
            purged_index: purged.map(|id| id.index),
            lag: lag.collect(),
            members: connected.collect(),
            waiting: self.proposals.waiting(),
            sync_count: sync_us.count(),
            sync_p50_us: sync_us.quantile_us(0.5),
            sync_p99_us: sync_us.quantile_us(0.99),
            sync_max_us: sync_us.max_us(),
            store_bytes: self.log.size_bytes(),
        }
    }

    /// Takes a snapshot now, in the background.
    pub async fn snapshot(&self) {
        if self.raft.trigger().snapshot().await.is_err() {
            warn!("raft has stopped; no snapshot");
        }
    }

    /// Proposes nothing more, though this member may lead.
    pub(super) fn stop_proposing(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.proposals.set_leader(None, false);
    }

    /// Stops the member. If it leads, another one does first. What is acknowledged is on disk already; what waits is failed.
    pub async fn shutdown(self: &Arc<Self>) {
        handover::hand_over(self).await;
        self.proposals.stop();
        self.tasks.shutdown().stop();
        if let Err(error) = self.raft.shutdown().await {
            warn!(%error, "stopping raft");
        }
        self.note_durable().await;
        self.tasks.stop(Duration::from_secs(5)).await;
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        info!(member = %self.options.member, "raft stopped");
    }

    /// Tells the identity file how far the log is durable.
    async fn note_durable(&self) {
        let log = self.log.clone();
        if let Err(error) = tasks::blocking(move || log.note_durable()).await {
            warn!(error = %told(&error), "the durable index was not noted");
        }
    }

    /// Moves requests out: into the log if we lead, to the leader if not.
    async fn sender(self: Arc<Self>) {
        let shutdown = self.tasks.shutdown().clone();
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = self.proposals.wake.notified() => {}
            }
            while let Some(send) = self.proposals.next() {
                match send {
                    Send::Propose(batch) => {
                        if self.raft.client_write_ff(batch).await.is_err() {
                            // The leadership watch reports why.
                            return;
                        }
                    }
                    Send::Forward(leader, part) => {
                        if !self.forward(leader, part) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Sends a part to the leader. Says whether to go on; if not, everything is sent again later.
    fn forward(self: &Arc<Self>, leader: LeaderKey, part: Part) -> bool {
        let link = self.links.get(MemberId(leader.node_id));
        let call = link.and_then(|link| link.call(&Message::Forward(leader, part)).ok());
        let Some(call) = call else {
            self.resend();
            return false;
        };
        let node = self.clone();
        self.tasks
            .spawn("raft forward", Kind::Connection, async move {
                let shutdown = node.tasks.shutdown().clone();
                tokio::select! {
                    () = shutdown.stopped() => {}
                    answer = call.answer() => if !matches!(answer, Ok(Answer::Forward(true))) {
                        node.resend();
                    },
                }
            });
        true
    }

    /// Sends all that is unresolved again after a pause; once, however often it is asked for.
    fn resend(self: &Arc<Self>) {
        if self.resending.swap(true, Ordering::SeqCst) {
            return;
        }
        let node = self.clone();
        self.tasks
            .spawn("raft resend", Kind::Connection, async move {
                tokio::time::sleep(FORWARD_PAUSE).await;
                node.resending.store(false, Ordering::SeqCst);
                node.proposals.rewind();
            });
    }

    /// Looks after what has no event: late requests, touches, the durable index.
    async fn keeper(self: Arc<Self>) {
        let shutdown = self.tasks.shutdown().clone();
        let mut round = 0u64;
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(KEEPER_INTERVAL) => {}
            }
            round += 1;
            let limit_ms =
                i64::try_from(self.options.propose_limit.as_millis()).unwrap_or(i64::MAX);
            self.proposals
                .expire(self.clock.monotonic_ms().saturating_sub(limit_ms));
            self.report_touches().await;
            if round.is_multiple_of(NOTE_ROUNDS) {
                self.note_durable().await;
            }
        }
    }

    /// Bounds the log by bytes. It follows the log's growth rather than the time: large entries fill a
    /// disk, and the store's memory, faster than any timer looks.
    async fn trimmer(self: Arc<Self>) {
        let shutdown = self.tasks.shutdown().clone();
        // What was found up to one snapshot's distance is taken as covered by the snapshot that was found.
        let distance = || SNAPSHOT_LOG_BYTES.max(self.machine.snapshot_bytes());
        let mut snapshot_at = self.log.appended_bytes().min(distance());
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = self.log.grown() => {}
                () = tokio::time::sleep(KEEPER_INTERVAL) => {}
            }
            let appended = self.log.appended_bytes();
            if appended.saturating_sub(snapshot_at) > distance() {
                snapshot_at = appended;
                self.snapshot().await;
            }
            self.purge().await;
        }
    }

    /// Purges the log up to the older of the two snapshots, and never further: a damaged newest one can be
    /// done without. openraft's own purge counts entries and knows one snapshot.
    async fn purge(&self) {
        let Some(older) = self.machine.older_snapshot_index() else {
            return;
        };
        let purged = self.log.ends().1.map(|id| id.index);
        if purged < Some(older) && self.raft.trigger().purge_log(older).await.is_err() {
            warn!("raft has stopped; no purge");
        }
    }

    async fn report_touches(&self) {
        let leader = self
            .leader()
            .filter(|leader| *leader != self.options.member);
        let Some(link) = leader.and_then(|leader| self.links.get(leader)) else {
            return;
        };
        let sessions = self.touches.drain();
        if !sessions.is_empty() && link.call(&Message::Touch(sessions.clone())).is_err() {
            self.touches.report(&sessions);
        }
    }
}

fn config(options: &RaftOptions) -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: HEARTBEAT_MS,
        // The upper one is the lease; no election begins by openraft's timers.
        election_timeout_min: HEARTBEAT_MS + 1,
        election_timeout_max: super::standing::LEASE.as_millis() as u64,
        enable_elect: false,
        install_snapshot_timeout: SNAPSHOT_PIECE_LIMIT_MS,
        snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // The keeper purges.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: options.snapshot_entries.saturating_mul(2),
        purge_batch_size: 256,
        ..Config::default()
    };
    config
        .validate()
        .map(Arc::new)
        .map_err(|error| StartError::Core {
            reason: told(&error),
        })
}

/// Opens and verifies everything in the data directory. Blocks.
fn open(
    options: &RaftOptions,
    replica: Arc<Replica>,
    proposals: Arc<Proposals>,
    disk: Arc<dyn Disk>,
    clock: Clock,
    rng: &Rng,
) -> Result<Data, StartError> {
    let dir = options.dir.clone();
    let members: Vec<MemberId> = options.members.keys().copied().collect();
    let open_identity = || {
        let (cluster, member) = (&options.cluster, options.member);
        IdentityFile::open(disk.clone(), &dir, cluster, member, &members, rng)
    };
    // Before the lock: a stranger's directory is not even locked.
    open_identity()?;
    let unusable = |source| StartError::Directory {
        dir: dir.clone(),
        source,
    };
    disk.create_dir_all(&dir).map_err(unusable)?;
    let lock = disk.lock(&dir.join("lock")).map_err(unusable)?;
    let store_dir = dir.join("raft");
    let identity = match open_identity()? {
        Opened::Existing(identity) => identity,
        Opened::Fresh(_)
            if disk.exists(&store_dir.join("db")) || disk.exists(&store_dir.join("plain")) =>
        {
            return Err(StartError::NoIdentity { dir });
        }
        Opened::Fresh(fresh) => fresh.create()?,
    };
    let identity = Arc::new(identity);
    let store = open_store(&disk, options.store, &dir)?;
    let log = LogStore::open(store, identity.clone(), clock).map_err(|source| StartError::Log {
        dir: dir.clone(),
        source,
    })?;
    let snapshots = |source: SnapshotFileError| StartError::Snapshots {
        dir: dir.clone(),
        source: source.into(),
    };
    let files = SnapshotDir::open(disk.clone(), &dir.join("snapshots")).map_err(snapshots)?;
    let machine =
        StateMachine::open(replica, proposals, files).map_err(|source| StartError::Snapshots {
            dir: dir.clone(),
            source,
        })?;
    let have = machine.snapshot_index();
    match log.ends().1 {
        Some(purged) if have < Some(purged.index) => Err(StartError::Gap {
            dir,
            have,
            purged: purged.index,
        }),
        _ => Ok(Data {
            identity,
            log,
            machine,
            lock,
        }),
    }
}

fn open_store(
    disk: &Arc<dyn Disk>,
    kind: StoreKind,
    dir: &Path,
) -> Result<Arc<dyn Store>, StartError> {
    let path = dir.join("raft");
    let opened: Result<Arc<dyn Store>, StoreError> = match kind {
        StoreKind::Sled => SledStore::open(&**disk, &path).map(|store| Arc::new(store) as _),
        StoreKind::Plain => PlainStore::open(disk.clone(), &path).map(|store| Arc::new(store) as _),
    };
    let store = opened.map_err(|source| StartError::Store {
        dir: dir.to_owned(),
        source,
    })?;
    disk.sync_dir(dir).map_err(|source| StartError::Directory {
        dir: dir.to_owned(),
        source,
    })?;
    Ok(store)
}

#[cfg(test)]
mod tests;
