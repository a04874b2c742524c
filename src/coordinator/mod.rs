//! A ZooKeeper ensemble: one replicated tree behind ZooKeeper's client protocol. It knows nothing of
//! Kafka.
//!
//! A client's write goes `server` → `connection` → `request` → `raft` → `replica` → `tree`, and its
//! outcome back to the connection; a read stops at the replica. `leader` is what only the leader does:
//! it alone decides that a session is over. The ensemble's members run this same code; which of them
//! leads is raft's business.

pub mod admin;
pub mod auth;
pub mod connection;
pub mod four_letter;
pub mod identity;
pub mod leader;
pub mod monitor;
pub mod outbox;
pub mod raft;
pub mod read_only;
pub mod replica;
pub mod request;
pub mod room;
pub mod server;
pub mod session;
pub mod snapshot_file;
pub mod status;
pub mod store;
pub mod trace;
pub mod tree;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::ids::MemberId;
use crate::common::net::{self, HostPort, TcpListener};
use crate::common::rng::Rng;
use crate::common::tasks::{Kind, Tasks};
use crate::common::tls;
use crate::coordinator::raft::examine::examine;
pub use crate::coordinator::raft::examine::{is_unused, remove_leftover};
use crate::coordinator::raft::{RaftNode, RaftOptions, Role};
use crate::coordinator::replica::Replica;
use crate::coordinator::server::{Parts, Server};
use crate::coordinator::status::{Mode, Status};
use crate::zookeeper::message::FRAME_BYTES_MAX;

/// How long stopping waits for connections and for raft.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member: `myid`.
    pub member: MemberId,
    /// Every member, this one included; empty for a standalone server.
    pub members: BTreeMap<MemberId, Member>,
    /// Where the log and the snapshots lie.
    pub data_dir: PathBuf,
    /// Where clients connect; port 0 lets the system choose.
    pub client_address: HostPort,
    /// Where clients connect with TLS, if they can.
    pub secure: Option<Secure>,
    /// ZooKeeper's unit of time.
    pub tick_time_ms: u32,
    /// Ticks that a member may take to join a leader.
    pub init_limit: u32,
    /// Ticks that a member may be out of touch with the leader.
    pub sync_limit: u32,
    /// The shortest session timeout; 2 ticks unless configured.
    pub min_session_timeout_ms: i32,
    /// The longest session timeout; 20 ticks unless configured.
    pub max_session_timeout_ms: i32,
    /// Connections that one address may have; 0 for any number.
    pub max_client_cnxns: usize,
    /// Connections of all addresses together; 0 for any number.
    pub max_cnxns: usize,
    /// The longest frame.
    pub jute_max_buffer: usize,
    /// The four-letter words that are answered; `*` for all.
    pub four_letter_words: Vec<String>,
    /// Who may prove to be whom.
    pub auth: auth::Options,
    /// The cluster's name; data of another cluster is refused.
    pub cluster: String,
    /// The secret that members prove to one another, if they have one.
    pub secret: Option<Vec<u8>>,
    /// Where this member listens for the others; port 0 is not possible, as they have to know it. Unused
    /// by a standalone server.
    pub quorum_listen: HostPort,
    /// Log entries between two snapshots (`snapCount`).
    pub snapshot_count: u64,
    /// Are there TTL nodes (`extendedTypesEnabled`)?
    pub extended_types: bool,
    /// Does a member without a quorum serve those who only read (`readonlymode.enabled`)?
    pub read_only_mode: bool,
    /// How empty containers and TTL nodes are removed.
    pub containers: Containers,
}

/// `znode.container.*`: how the leader looks for containers and TTL nodes to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Containers {
    /// How often.
    pub check_interval_ms: u32,
    /// How many are removed at most.
    pub max_per_minute: u32,
    /// After how long a container goes that never had a child; 0: never.
    pub max_never_used_ms: i64,
}

impl Default for Containers {
    fn default() -> Containers {
        Containers {
            check_interval_ms: 60_000,
            max_per_minute: 10_000,
            max_never_used_ms: 0,
        }
    }
}

/// The secure client port.
#[derive(Clone, Debug)]
pub struct Secure {
    /// Where to listen; port 0 lets the system choose.
    pub address: HostPort,
    /// The stores, and what is spoken.
    pub tls: tls::Settings,
    /// Whether clients have to show a certificate.
    pub client_auth: tls::ClientAuth,
}

/// One member: `server.N=host:quorum:election`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where raft talks to it.
    pub quorum: HostPort,
    /// The address of ZooKeeper's election; shown, not used: raft elects over `quorum`.
    pub election: HostPort,
    /// Where its clients connect, if its line says so; shown to those that ask for the configuration.
    pub client: Option<HostPort>,
}

impl Options {
    /// A standalone server with ZooKeeper's defaults.
    pub fn standalone(data_dir: PathBuf, client_address: HostPort) -> Options {
        let tick_time_ms = 2000;
        Options {
            member: MemberId(1),
            members: BTreeMap::new(),
            data_dir,
            client_address,
            secure: None,
            tick_time_ms,
            init_limit: 10,
            sync_limit: 5,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            max_client_cnxns: 60,
            max_cnxns: 0,
            jute_max_buffer: FRAME_BYTES_MAX,
            four_letter_words: four_letter::DEFAULT_WHITELIST
                .split(',')
                .map(str::to_owned)
                .collect(),
            auth: auth::Options::default(),
            cluster: "tripod".to_owned(),
            secret: None,
            quorum_listen: HostPort::new("0.0.0.0", 2888),
            snapshot_count: 100_000,
            extended_types: false,
            read_only_mode: false,
            containers: Containers::default(),
        }
    }

    /// This member's number as it is shown: a server alone has none.
    pub fn shown_id(&self) -> u64 {
        match self.members.is_empty() {
            true => 0,
            false => self.member.0,
        }
    }

    /// The members as `server.N=…` lines, as `conf` and /zookeeper/config show them.
    pub fn membership(&self) -> String {
        let mut text = String::new();
        for (id, member) in &self.members {
            let _ = write!(
                text,
                "server.{id}={}:{}:participant",
                member.quorum, member.election.port
            );
            if let Some(client) = &member.client {
                let _ = write!(text, ";{client}");
            }
            text.push('\n');
        }
        text
    }
}

/// What a coordinator gets from its surroundings.
#[derive(Clone, Debug)]
pub struct World {
    /// For the log, the snapshots and their sizes.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Clock,
    /// For passwords, connection ids and election timeouts.
    pub rng: Rng,
    /// The coordinator's tasks are a child of these.
    pub tasks: Tasks,
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mostly: another process has the port.
    #[error("cannot listen for ZooKeeper clients on {address} (coordinator.clientPort): {source}")]
    Bind {
        /// As configured.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
    /// Mostly: another process has the port.
    #[error(
        "cannot listen for ZooKeeper clients with TLS on {address} (secureClientPort): {source}"
    )]
    BindSecure {
        /// As configured.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
    /// A key or trust store that cannot be used.
    #[error("TLS for ZooKeeper clients (ssl.*): {0}")]
    Tls(#[from] tls::TlsError),
    /// Mostly: another process has the port.
    #[error("cannot listen for the other members on {address}: {source}")]
    BindQuorum {
        /// As configured.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
    /// The member list and the own id do not agree.
    #[error("member {0} is not in the list of members")]
    NotAMember(MemberId),
    /// A word that does not exist.
    #[error("'{0}' is not a four-letter word that can be allowed")]
    UnknownWord(String),
    /// The log did not open, or raft did not start.
    #[error(transparent)]
    Raft(#[from] raft::StartError),
}

/// A running member.
#[derive(Debug)]
pub struct Coordinator {
    server: Arc<Server>,
    tasks: Tasks,
}

impl Coordinator {
    /// Binds the client port, opens the log, and serves. Returns as soon as both are done; a leader may
    /// still have to be found.
    pub async fn start(options: Options, world: World) -> Result<Coordinator, StartError> {
        check(&options)?;
        let bind_error = |source| StartError::Bind {
            address: options.client_address.clone(),
            source,
        };
        let listener = net::bind(&options.client_address)
            .await
            .map_err(bind_error)?;
        let secure = bind_secure(&options, &world).await?;
        let quorum = bind_quorum(&options).await?;
        let client_address = net::local_address(&listener).map_err(bind_error)?;
        let tasks = world.tasks.child();
        let replica = Arc::new(Replica::new());
        let begun_ms = world.clock.monotonic_ms();
        let raft = start_raft(&options, quorum, &world, replica.clone()).await?;
        let loading_ms = world.clock.monotonic_ms() - begun_ms;
        info!(member = %options.member, members = options.members.len().max(1), "coordinator started");
        let server = Arc::new(Server::new(Parts {
            next_session: session::first_session_id(options.member.0, world.clock.wall_ms()),
            options,
            replica,
            raft,
            disk: world.disk,
            clock: world.clock,
            rng: world.rng,
            client_address,
            secure_address: secure.as_ref().map(|(_, _, address)| *address),
        }));
        server.stats.loading.note(loading_ms);
        tasks.spawn(
            "zookeeper leader",
            Kind::Essential,
            leader::run(server.clone(), tasks.clone()),
        );
        tasks.spawn(
            "zookeeper server",
            Kind::Essential,
            server::run(server.clone(), listener, None, tasks.clone()),
        );
        if let Some((listener, acceptor, _)) = secure {
            tasks.spawn(
                "zookeeper server with TLS",
                Kind::Essential,
                server::run(server.clone(), listener, Some(acceptor), tasks.clone()),
            );
        }
        Ok(Coordinator { server, tasks })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.server.client_address
    }

    /// Where they connect with TLS.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.server.secure_address
    }

    /// Everything that status pages show.
    pub fn status(&self) -> Status {
        self.server.status()
    }

    /// What a status page needs to ask again and again.
    pub fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// Stops accepting, ends the connections, and stops raft. Says whether everything ended in time.
    pub async fn shutdown(self) -> bool {
        let phase = |name: &str| {
            let name = format!("coordinator {}: {name}", self.server.options.member);
            self.tasks.phase(name)
        };
        let connections = phase("ending connections");
        let ended = self.tasks.stop(STOP_LIMIT).await;
        drop(connections);
        let _raft = phase("ending raft");
        self.server.raft.shutdown().await;
        info!("coordinator stopped");
        ended
    }
}

/// The secure client port, and the keys for it.
async fn bind_secure(
    options: &Options,
    world: &World,
) -> Result<Option<(TcpListener, tls::Acceptor, SocketAddr)>, StartError> {
    let Some(secure) = &options.secure else {
        return Ok(None);
    };
    let acceptor = tls::Acceptor::new(&*world.disk, &secure.tls, secure.client_auth)?;
    let bind_error = |source| StartError::BindSecure {
        address: secure.address.clone(),
        source,
    };
    let listener = net::bind(&secure.address).await.map_err(bind_error)?;
    let address = net::local_address(&listener).map_err(bind_error)?;
    Ok(Some((listener, acceptor, address)))
}

/// The port for the other members; a single member has none.
async fn bind_quorum(options: &Options) -> Result<Option<TcpListener>, StartError> {
    if options.members.len() <= 1 {
        return Ok(None);
    }
    let bound = net::bind(&options.quorum_listen).await;
    bound.map(Some).map_err(|source| StartError::BindQuorum {
        address: options.quorum_listen.clone(),
        source,
    })
}

fn check(options: &Options) -> Result<(), StartError> {
    if !options.members.is_empty() && !options.members.contains_key(&options.member) {
        return Err(StartError::NotAMember(options.member));
    }
    match options
        .four_letter_words
        .iter()
        .find(|word| !four_letter::is_known(word))
    {
        Some(word) => Err(StartError::UnknownWord(word.clone())),
        None => Ok(()),
    }
}

fn mode_of(role: Role, options: &Options) -> Mode {
    match role {
        // `standaloneEnabled=false`: an ensemble, if of one.
        Role::Standalone if !options.members.is_empty() => Mode::Leader,
        Role::Standalone => Mode::Standalone,
        Role::Leader => Mode::Leader,
        Role::Follower => Mode::Follower,
        Role::Looking => Mode::Looking,
    }
}

async fn start_raft(
    options: &Options,
    listener: Option<TcpListener>,
    world: &World,
    replica: Arc<Replica>,
) -> Result<Arc<RaftNode>, raft::StartError> {
    let mut members: BTreeMap<MemberId, HostPort> = options
        .members
        .iter()
        .map(|(id, member)| (*id, member.quorum.clone()))
        .collect();
    if members.is_empty() {
        members.insert(options.member, options.quorum_listen.clone());
    }
    let mut raft_options = RaftOptions::new(
        options.cluster.clone(),
        options.member,
        members,
        &options.data_dir,
    );
    raft_options.secret = options.secret.clone();
    raft_options.snapshot_entries = options.snapshot_count;
    let (disk, clock) = (world.disk.clone(), world.clock.clone());
    examine(raft_options.clone(), disk, clock, world.rng.clone()).await?;
    RaftNode::start(
        raft_options,
        listener,
        replica,
        world.disk.clone(),
        world.clock.clone(),
        world.rng.clone(),
        // Not a child of ours: it stops after the connections.
        world.tasks.child(),
    )
    .await
}
