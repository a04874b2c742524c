//! One member: opens its data, joins the others, and gives the coordinator `propose`.
//!
//! Start order: identity (whose data is this?), lock, store, log, snapshots, core, network. Everything
//! that could be wrong with the data is found before the first vote. After a storage failure the member
//! stops: the reason is logged, an essential task fails, and the process ends. [`super::leadership`] watches
//! who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::admission::Voters;
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
pub use super::status::RaftStatus;
use super::types::{LeaderKey, LogId, Part, Raft, encode};
use crate::common::clock::Clock;
use crate::common::disk::{DirLock, Disk, told};
use crate::common::ids::{MemberId, SessionId, Zxid};
use crate::common::metrics::Histogram;
use crate::common::net::{HostPort, TcpListener};
use crate::common::rng::Rng;
use crate::common::tasks::{self, Kind, Tasks};
use crate::coordinator::identity::{IdentityFile, Opened, member_of};
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
    /// The last entry that a leader has spoken of.
    pub(super) offered: Arc<AtomicU64>,
    seen: Arc<Seen>,
    pub(super) tasks: Tasks,
    resending: AtomicBool,
    /// It hands its leadership over.
    pub(super) stopping: AtomicBool,
    /// The directory is ours while this is here.
    lock: Mutex<Option<Box<dyn DirLock>>>,
    /// How many changes of the membership this member may still ask for.
    #[cfg(test)]
    changes_left: AtomicU64,
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
    fn credentials(
        &self,
        options: &RaftOptions,
        seen: Arc<Seen>,
        links: &Links,
        rng: &Rng,
    ) -> Credentials {
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
        let (log, machine) = (self.log.clone(), self.machine.clone());
        credentials.with_data(log, machine, seen, links.clone())
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
        let identity = data.identity.clone();
        let seen = Arc::new(Seen::of_file(&identity.get().reaches));
        let others = others.map(|(id, address)| (*id, address.clone()));
        let links = Links::new(others, &seen, identity.clone());
        let credentials = Arc::new(data.credentials(&options, seen.clone(), &links, &rng));
        let raft = start_core(&options, &data, &links, &tasks).await?;
        let counts_by = counts_by(&raft, identity.node()).await?;
        credentials.set_counts_by(counts_by);
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
            offered: Arc::default(),
            seen,
            tasks: tasks.child(),
            resending: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            lock: Mutex::new(Some(data.lock)),
            #[cfg(test)]
            changes_left: AtomicU64::new(u64::MAX),
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
                offered: self.offered.clone(),
                links: self.links.clone(),
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
        leadership::leader(&self.raft.server_metrics().borrow()).map(|key| member_of(key.node_id))
    }

    /// Who counts, by this member's log.
    pub(super) fn voters(&self) -> Voters {
        let membership = self
            .raft
            .server_metrics()
            .borrow()
            .membership_config
            .clone();
        Voters::of(membership.membership())
    }

    /// Does this member's store count?
    pub(super) fn counts(&self) -> bool {
        self.voters().include(self.identity.node())
    }

    /// May this member ask for a change of the membership?
    pub(super) fn may_change_membership(&self) -> bool {
        #[cfg(test)]
        {
            let left = &self.changes_left;
            let one_less = |left: u64| left.checked_sub(1);
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                .is_ok()
        }
        #[cfg(not(test))]
        true
    }

    /// May clients be served?
    pub fn serving(&self) -> bool {
        self.role() != Role::Looking
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

    /// Tells the identity file how far the log is durable, and how far the others were seen to reach.
    async fn note_durable(&self) {
        let log = self.log.clone();
        let known = self.machine.membership();
        let known: BTreeSet<u64> = known.nodes().map(|(node, _)| *node).collect();
        let reaches = self.seen.to_file(|node| known.contains(&node));
        if let Err(error) = tasks::blocking(move || log.note(reaches)).await {
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
        let link = self.links.to_store(leader.node_id);
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

async fn start_core(
    options: &RaftOptions,
    data: &Data,
    links: &Links,
    tasks: &Tasks,
) -> Result<Raft, StartError> {
    let (log, machine) = (data.log.clone(), data.machine.clone());
    let config = config(options)?;
    let raft = Raft::new(data.identity.node(), config, links.clone(), log, machine);
    let raft = runtime::watched(tasks.clone(), raft).await;
    raft.map_err(|error| StartError::Core {
        reason: told(&error),
    })
}

/// The entry by which this store counts, if it does.
async fn counts_by(raft: &Raft, node: u64) -> Result<Option<LogId>, StartError> {
    let found = raft.with_raft_state(move |state| {
        let membership = state.membership_state.effective();
        let counts = Voters::of(membership.membership()).include(node);
        membership.log_id().filter(|_| counts)
    });
    found.await.map_err(|error| StartError::Core {
        reason: told(&error),
    })
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
