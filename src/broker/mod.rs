//! A Kafka broker whose cluster metadata lives in ZooKeeper, in the layout of Kafka 2.8.
//!
//! [`Broker`] is a struct of handles, not of logic: each handle owns one kind of state. A request goes
//! connection → [`api`] → the noun it concerns. What the cluster looks like is read from the
//! [`image`]; changes are written to ZooKeeper through [`cluster`], and come back as a new image,
//! which [`reconcile`] turns into leading and letting go. Nobody pushes metadata to a broker.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use crate::broker::cluster::Cluster;
use crate::broker::controller::driver::Driver;
use crate::broker::ends::Ends;
use crate::broker::fetcher::Fetchers;
use crate::broker::group::Groups;
use crate::broker::image::ImageCell;
use crate::broker::image::feed::Feed;
use crate::broker::image::znode::{Losses, Since};
use crate::broker::listener::{BindError, Bound};
use crate::broker::metrics::BrokerMetrics;
use crate::broker::peer_watch::Reached;
use crate::broker::registration::{OfflineReplicas, Registration, RegistrationError};
use crate::broker::replicas::Replicas;
use crate::client::World;
use crate::client::zookeeper::{self, Events, ZooKeeper};
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::disk::timed::TimedDisk;
use crate::common::ids::BrokerId;
use crate::common::net::HostPort;
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::{self, Kind, Tasks};
use crate::config::{Config, DynamicConfig};
use crate::log::dir::{DirError, Dirs, Identity, Loading};

pub mod api;
pub mod cluster;
pub mod connection;
pub mod controller;
pub mod departure;
pub mod ends;
pub mod fetch_session;
pub mod fetcher;
pub mod group;
pub mod image;
pub mod isr;
pub mod isr_changes;
pub mod listener;
pub mod losses;
pub mod metrics;
pub mod moves;
pub mod partition;
pub mod peer_watch;
pub mod reconcile;
pub mod registration;
pub mod replicas;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod throttle;
pub mod wait;

/// What every part of a running broker can reach. Shared as `Arc<Broker>`.
#[derive(Debug)]
pub struct Broker {
    /// This broker's id.
    pub id: BrokerId,
    /// The cluster's id, as in `/cluster/id`.
    pub cluster_id: String,
    /// Settings as they were resolved at the start.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Random values: member ids, producer choices.
    pub rng: Rng,
    /// Every task of this broker.
    pub tasks: Tasks,
    /// The cluster as this broker knows it now.
    pub image: Arc<ImageCell>,
    /// The partitions that this broker leads or follows.
    pub replicas: Arc<Replicas>,
    /// The tasks that follow other leaders.
    pub fetchers: Arc<Fetchers>,
    /// The consumer groups that this broker coordinates.
    pub groups: Arc<Groups>,
    /// Changes to the cluster's metadata.
    pub cluster: Arc<Cluster>,
    /// What this broker counts.
    pub metrics: Arc<BrokerMetrics>,
    /// What other leaders said for the lag of the groups here.
    pub ends: Ends,
    /// The replicas here that cannot be used, for the registration.
    pub offline: watch::Sender<OfflineReplicas>,
    /// The other brokers to which the watch has a connection.
    pub reached: watch::Sender<Reached>,
}

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct BrokerDeps {
    /// Settings, resolved and checked.
    pub config: Arc<Config>,
    /// Where the logs are.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Clock,
    /// Random values.
    pub rng: Rng,
    /// Who joins the broker's tasks, and tells it to stop.
    pub tasks: Tasks,
    /// Is told how far the logs are loaded.
    pub loading: Arc<Loading>,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log directories cannot be used.
    #[error(transparent)]
    Logs(#[from] DirError),
    /// It cannot take its place in the cluster.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// ZooKeeper failed.
    #[error("starting with ZooKeeper at {servers}")]
    ZooKeeper {
        /// The members.
        servers: String,
        /// What it said.
        #[source]
        source: zookeeper::Error,
    },
    /// What befell the log directories cannot be kept.
    #[error("reading or writing in {}", dir.display())]
    Losses {
        /// The first log directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was told to stop before it was ready.
    #[error("stopped while starting")]
    Stopped,
}

/// A broker that serves, and the way to stop it.
#[derive(Debug)]
pub struct Running {
    /// Its handles.
    pub broker: Arc<Broker>,
    /// Where each listener really listens.
    pub addresses: BTreeMap<String, SocketAddr>,
    leaving: Shutdown,
    zookeeper: Arc<ZooKeeper>,
}

/// How long connections may take to end their requests when the broker stops.
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Broker {
    /// Prepares a broker and starts it, for those who start nothing else beside it.
    pub async fn start(deps: BrokerDeps) -> Result<Running, StartError> {
        Broker::prepare(deps).await?.start().await
    }

    /// Everything that may refuse a broker before a ZooKeeper is asked: its ports, and whose the log
    /// directories are. Changes nothing on the disk, here or elsewhere.
    pub async fn prepare(mut deps: BrokerDeps) -> Result<Prepared, StartError> {
        let bound = listener::bind(&wanted_addresses(&deps.config)).await?;
        recall_id(&mut deps).await?;
        let marks = marks(&deps).await?;
        Ok(Prepared { deps, bound, marks })
    }
}

/// A broker that nothing local stands against. Its ports are bound, and nobody is answered yet.
#[derive(Debug)]
pub struct Prepared {
    deps: BrokerDeps,
    bound: Bound,
    marks: Marks,
}

impl Prepared {
    /// For who knows already that the ZooKeeper of this broker knows no cluster.
    pub fn refuse_orphans(&self) -> Result<(), StartError> {
        let Some((dir, cluster_id)) = self.marks.inhabited.clone() else {
            return Ok(());
        };
        let servers = zookeeper_options(&self.deps.config).servers_text();
        let orphaned = RegistrationError::Orphaned {
            dir,
            cluster_id,
            servers,
        };
        Err(orphaned.into())
    }

    /// For who knows already which cluster the ZooKeeper of this broker has.
    pub fn refuse_other_than(&self, cluster_id: &str) -> Result<(), StartError> {
        let config = &self.deps.config;
        let configured = config.node.cluster_id.as_deref();
        let remembered = self.marks.identity.as_ref();
        let remembered = remembered.map(|identity| identity.cluster_id.as_str());
        let servers = zookeeper_options(config).servers_text();
        registration::refuse_other(cluster_id, configured, remembered, &servers)?;
        Ok(())
    }

    /// Starts the broker; it serves when this returns. Waits for ZooKeeper as long as the settings say.
    ///
    /// The order: ZooKeeper, the cluster's id against the directories', logs, image, registration,
    /// election, partitions, clients.
    pub async fn start(self) -> Result<Running, StartError> {
        let stopping = self.deps.tasks.shutdown().clone();
        tokio::select! {
            started = start(self) => started,
            () = stopping.stopped() => Err(StartError::Stopped),
        }
    }
}

impl Broker {
    /// What was said about this broker's settings while the cluster runs.
    pub fn dynamic_config(&self) -> DynamicConfig {
        let image = self.image.load();
        let of = |id| image.broker_configs.get(&id).cloned().unwrap_or_default();
        DynamicConfig {
            broker: of(Some(self.id)),
            cluster: of(None),
        }
    }
}

/// What the log directories say of themselves before anything is opened.
#[derive(Debug)]
struct Marks {
    identity: Option<Identity>,
    /// One that holds partitions, and the cluster that it is of.
    inhabited: Option<(PathBuf, String)>,
}

/// A broker that is not told its id has the one that its directories remember, if they do.
async fn recall_id(deps: &mut BrokerDeps) -> Result<(), DirError> {
    if deps.config.broker_id.0 >= 0 {
        return Ok(());
    }
    let (disk, dirs) = (deps.disk.clone(), deps.config.log_dirs.clone());
    let found = tasks::blocking(move || Dirs::broker_id(disk.as_ref(), &dirs)).await?;
    if let Some(id) = found {
        deps.config = Arc::new(deps.config.with_broker_id(id));
    }
    Ok(())
}

async fn marks(deps: &BrokerDeps) -> Result<Marks, DirError> {
    let config = &deps.config;
    let (disk, dirs, id) = (deps.disk.clone(), config.log_dirs.clone(), config.broker_id);
    let cluster = config.node.cluster_id.clone();
    tasks::blocking(move || {
        let identity = Dirs::identity(disk.as_ref(), &dirs, id, cluster.as_deref())?;
        let inhabited = Dirs::inhabited(disk.as_ref(), &dirs)?;
        Dirs::usable(disk.as_ref(), &dirs)?;
        Ok(Marks {
            identity,
            inhabited: inhabited.map(|(dir, identity)| (dir, identity.cluster_id)),
        })
    })
    .await
}

fn no_zookeeper(config: &Config, source: zookeeper::Error) -> StartError {
    StartError::ZooKeeper {
        servers: zookeeper_options(config).servers_text(),
        source,
    }
}

/// A session, and the cluster that it leads to: its id is in ZooKeeper when this returns.
async fn enter_cluster(
    deps: &mut BrokerDeps,
    marks: &Marks,
    addresses: &BTreeMap<String, SocketAddr>,
) -> Result<(Arc<ZooKeeper>, Events, String), StartError> {
    let config = deps.config.clone();
    let failed = |source| no_zookeeper(&config, source);
    let world = World {
        clock: deps.clock.clone(),
        rng: deps.rng.clone(),
        // The session outlives the other tasks, so that the broker can leave in order.
        tasks: deps.tasks.clone(),
    };
    let (zookeeper, events) = ZooKeeper::connect(zookeeper_options(&config), &world)
        .await
        .map_err(failed)?;
    let listeners = advertised(&config, addresses);
    let (cluster_id, id) = while_connections_go(&zookeeper, async || {
        registration::refuse_orphans(&zookeeper, marks.inhabited.clone()).await?;
        registration::prepare(&zookeeper).await?;
        let wanted = config.node.cluster_id.as_deref();
        let marked = marks.identity.as_ref();
        let marked = marked.map(|identity| identity.cluster_id.as_str());
        let cluster_id = registration::cluster_id(&zookeeper, wanted, marked, &deps.rng).await?;
        let mut id = config.broker_id;
        if id.0 < 0 {
            // Where the connection is lost on the way, a number is left out.
            let reserved = config.broker.reserved_broker_max_id;
            id = registration::new_broker_id(&zookeeper, reserved).await?;
        }
        // Before a log is opened, and with that changed.
        registration::refuse_taken(&zookeeper, id, &listeners).await?;
        Ok((cluster_id, id))
    })
    .await?;
    if id != config.broker_id {
        info!(broker = %id, "this broker was given an id; its log directories keep it");
        deps.config = Arc::new(config.with_broker_id(id));
    }
    Ok((zookeeper, events, cluster_id))
}

/// Does a step of the start, again whenever the connection to ZooKeeper goes over it: an ensemble that elects
/// a leader just now ends connections, and is back soon. The step may be done twice.
async fn while_connections_go<T>(
    zookeeper: &ZooKeeper,
    mut step: impl AsyncFnMut() -> Result<T, RegistrationError>,
) -> Result<T, RegistrationError> {
    loop {
        match step().await {
            Err(RegistrationError::ZooKeeper(error)) => zookeeper.mended(error).await?,
            done => return done,
        }
    }
}

/// What to bind, by listener.
fn wanted_addresses(config: &Config) -> Vec<(String, HostPort)> {
    let wanted = config.listeners.bound.iter();
    wanted
        .map(|endpoint| {
            let mut address = endpoint.address.clone();
            if address.host.is_empty() {
                // Spelt out, so that a message about a busy port says where it is busy.
                "0.0.0.0".clone_into(&mut address.host);
            }
            (endpoint.name.clone(), address)
        })
        .collect()
}

/// Opens the logs, and finds out whether the directories were empty when this broker was first started.
fn open_replicas(
    deps: &BrokerDeps,
    cluster_id: &str,
    image: &Arc<ImageCell>,
    metrics: &BrokerMetrics,
    seasoned: bool,
) -> impl Future<Output = Result<(Losses, Arc<Replicas>), StartError>> + use<> {
    let (config, cluster_id) = (deps.config.clone(), cluster_id.to_owned());
    let (image, disk, clock) = (image.clone(), deps.disk.clone(), deps.clock.clone());
    let loading = deps.loading.clone();
    let disk = TimedDisk::new(disk, clock.clone(), metrics.log_syncs.clone());
    let disk = Arc::new(disk);
    tasks::blocking(move || {
        let losses = losses::begin(disk.as_ref(), &config.log_dirs, seasoned);
        let dir = || config.log_dirs.first().cloned().unwrap_or_default();
        let losses = losses.map_err(|source| StartError::Losses { dir: dir(), source })?;
        let replicas = Replicas::open(config, &cluster_id, image, disk, clock, &loading)?;
        Ok((losses, Arc::new(replicas)))
    })
}

fn own_registration(
    broker: &Broker,
    addresses: &BTreeMap<String, SocketAddr>,
    seasoned: bool,
    losses: Losses,
) -> Registration {
    Registration {
        zookeeper: broker.cluster.zookeeper().clone(),
        cell: broker.image.clone(),
        clock: broker.clock.clone(),
        id: broker.id,
        listeners: advertised(&broker.config, addresses),
        rack: broker.config.broker.broker_rack.clone(),
        seasoned,
        losses,
        offline: broker.offline.subscribe(),
    }
}

async fn start(prepared: Prepared) -> Result<Running, StartError> {
    let (mut deps, bound, marks) = (prepared.deps, prepared.bound, prepared.marks);
    let tasks = deps.tasks.child();
    let addresses = bound.addresses();
    let (zookeeper, events, cluster_id) = enter_cluster(&mut deps, &marks, &addresses).await?;
    let config = deps.config.clone();

    let metrics = Arc::<BrokerMetrics>::default();
    let image = Arc::new(ImageCell::default());
    let feed = Feed::load(zookeeper.clone(), events, image.clone());
    let seasoned = marks.identity.is_some();
    let replicas = open_replicas(&deps, &cluster_id, &image, &metrics, seasoned);
    let (feed, replicas) = tokio::join!(feed, replicas);
    let feed = feed.map_err(|source| no_zookeeper(&config, source))?;
    let (losses, replicas) = replicas?;
    let feed = feed.run(tasks.shutdown().clone());
    tasks.spawn("image feed", Kind::Essential, feed);

    let groups = Arc::new(Groups::new(
        group::Options::from(&config.broker),
        deps.clock.clone(),
        deps.rng.fork("groups"),
        tasks.clone(),
        image.clone(),
        replicas.clone(),
    ));
    let world = World {
        clock: deps.clock.clone(),
        rng: deps.rng.fork("fetchers"),
        tasks: tasks.clone(),
    };
    let fetchers = Fetchers::new(&config, &image, &metrics, &replicas, world);
    let cluster = Arc::new(Cluster::new(
        zookeeper.clone(),
        image.clone(),
        config.clone(),
        deps.rng.fork("cluster"),
    ));
    let broker = Arc::new(Broker {
        id: config.broker_id,
        cluster_id,
        clock: deps.clock,
        rng: deps.rng,
        tasks,
        image,
        replicas,
        fetchers: Arc::new(fetchers),
        groups,
        cluster,
        metrics,
        ends: Ends::default(),
        offline: watch::Sender::default(),
        reached: watch::Sender::default(),
        config,
    });
    let leaving = broker.tasks.shutdown().child();
    let registration = own_registration(&broker, &addresses, seasoned, losses);
    register(&registration, deps.disk, &broker).await?;
    join_cluster(&broker, registration, &leaving).await?;
    broker.replicas.start(&broker.tasks);
    broker.groups.start();
    bound.serve(&broker, &listener_options(&broker.config));
    info!(broker = %broker.id, cluster = broker.cluster_id, "broker started");
    Ok(Running {
        broker,
        addresses,
        leaving,
        zookeeper,
    })
}

/// Registers, and keeps in the first log directory what befell it before.
async fn register(
    registration: &Registration,
    disk: Arc<dyn Disk>,
    broker: &Broker,
) -> Result<(), StartError> {
    let registering = async || registration.register().await;
    let epoch = while_connections_go(&registration.zookeeper, registering).await?;
    let losses = registration.losses;
    broker.replicas.registered(epoch);
    if let Some(dir) = broker.config.log_dirs.first().cloned() {
        tasks::blocking(move || {
            let settled = losses::settle(disk.as_ref(), &dir, losses, epoch);
            settled.map_err(|source| StartError::Losses { dir, source })
        })
        .await?;
    }
    Ok(())
}

/// Runs for controller and takes up what the image gives to this broker. The tasks that go on with it
/// are running when this returns; those that end first, when the broker leaves, follow `leaving`.
async fn join_cluster(
    broker: &Arc<Broker>,
    mut registration: Registration,
    leaving: &Shutdown,
) -> Result<(), StartError> {
    let zookeeper = broker.cluster.zookeeper().clone();
    let shutdown = broker.tasks.shutdown().clone();
    broker.cluster.settle().await;
    // In this life they lose no more.
    let own = broker.replicas.registration();
    let losses = &mut registration.losses;
    for since in [&mut losses.blank, &mut losses.cut] {
        if *since == Since::Now {
            *since = Since::At(own);
        }
    }
    let again = registration.run(leaving.clone());
    broker.tasks.spawn("registration", Kind::Essential, again);

    let driver = Driver {
        zookeeper,
        cell: broker.image.clone(),
        clock: broker.clock.clone(),
        rng: broker.rng.fork("controller"),
        id: broker.id,
        config: broker.config.clone(),
        metrics: broker.metrics.clone(),
        reached: broker.reached.subscribe(),
    };
    let watching = peer_watch::run(broker.clone(), leaving.clone());
    broker.tasks.spawn("peer watch", Kind::Essential, watching);
    let (elected, first_round) = oneshot::channel();
    let governing = driver.run(elected, leaving.clone());
    broker.tasks.spawn("controller", Kind::Essential, governing);
    // Whether it won or not: from here on there is a controller.
    let _ = first_round.await;
    reconcile::once(broker).await;
    let following = reconcile::run(broker.clone(), shutdown.clone());
    broker.tasks.spawn("reconcile", Kind::Essential, following);
    let yielding = departure::yield_halted(broker.clone(), leaving.clone());
    broker.tasks.spawn("yielding", Kind::Essential, yielding);
    let changing = isr_changes::run(broker.clone(), shutdown);
    broker.tasks.spawn("isr changes", Kind::Essential, changing);
    Ok(())
}

impl Running {
    /// Stops in order: others take over what they can lead, the broker leaves the cluster, no new
    /// connections, requests end, logs are closed cleanly. A second call finds nothing to do.
    pub async fn shutdown(&self) {
        let broker = &self.broker;
        let phase = |name: &str| {
            let name = format!("broker {}: {name}", broker.id);
            broker.tasks.phase(name)
        };
        info!(broker = %broker.id, "stopping");
        let departure = phase("handing over leaderships and leaving");
        departure::depart(broker, &self.leaving).await;
        drop(departure);
        let connections = phase("ending connections");
        if !broker.tasks.stop(STOP_LIMIT).await {
            warn!(
                tasks = broker.tasks.running(),
                "some tasks did not end in time"
            );
        }
        drop(connections);
        let session = phase("closing the ZooKeeper session");
        self.zookeeper.close().await;
        drop(session);
        let _closing = phase("closing logs");
        let replicas = broker.replicas.clone();
        if let Err(problem) = tasks::blocking(move || replicas.close()).await {
            error!(
                error = &problem as &dyn std::error::Error,
                "closing the logs"
            );
        }
        info!(broker = %broker.id, "stopped");
    }
}

fn zookeeper_options(config: &Config) -> zookeeper::Options {
    let timeout = u64::try_from(config.broker.zookeeper_session_timeout_ms).unwrap_or(18_000);
    let patience = config.broker.zookeeper_connection_timeout_ms;
    zookeeper::Options {
        servers: config.zookeeper.servers.clone(),
        chroot: config.zookeeper.chroot.clone(),
        session_timeout: Duration::from_millis(timeout),
        // Unlike Kafka, a broker that starts before its ZooKeeper waits unless told otherwise.
        connection_timeout: patience
            .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    }
}

/// What `/brokers/ids/N` says. A port that the system chose is advertised as it is.
fn advertised(
    config: &Config,
    addresses: &BTreeMap<String, SocketAddr>,
) -> Vec<(String, String, HostPort)> {
    let listeners = config.listeners.advertised.iter();
    let listeners = listeners.map(|endpoint| {
        let mut address = endpoint.address.clone();
        if address.port == 0
            && let Some(real) = addresses.get(&endpoint.name)
        {
            address.port = real.port();
        }
        let protocol = endpoint.protocol.name().to_owned();
        (endpoint.name.clone(), protocol, address)
    });
    listeners.collect()
}

fn listener_options(config: &Config) -> listener::Options {
    let broker = &config.broker;
    let unsigned = |value: i32| usize::try_from(value).unwrap_or(0);
    let overrides = broker.max_connections_per_ip_overrides.split(',');
    let overrides = overrides.filter_map(|entry| {
        let (ip, limit) = entry.trim().rsplit_once(':')?;
        Some((ip.parse::<IpAddr>().ok()?, limit.parse().ok()?))
    });
    listener::Options {
        connections_max: unsigned(broker.max_connections),
        connections_per_ip_max: unsigned(broker.max_connections_per_ip),
        connections_per_ip_overrides: overrides.collect(),
        idle: Duration::from_millis(
            u64::try_from(broker.connections_max_idle_ms).unwrap_or(u64::MAX),
        ),
        frame_bytes_max: unsigned(broker.socket_request_max_bytes),
    }
}
