//! `/brokers/ids/N`: being known, staying known, and not being known twice.
//!
//! The ephemeral is created as Kafka does, and its czxid is the broker's epoch. When it is another
//! session's, it is either our own from before a crash (then it is removed, so that a restart need not
//! wait for the old session to expire) or another broker with our id (then we do not start).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::broker::image::ImageCell;
use crate::broker::image::znode::{self, Losses, Since};
use crate::broker::losses;
use crate::client::zookeeper::{Error, Mode, MultiError, Op, State, ZooKeeper};
use crate::common::clock::Clock;
use crate::common::ids::{BrokerId, Zxid, kafka_uuid_text};
use crate::common::net::{self, HostPort};
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::zookeeper::error::ErrorCode;

/// How long another broker with our id may take to accept a connection, to be taken for alive.
const PROBE: Duration = Duration::from_secs(1);

/// Why a broker is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Another broker has the id.
    #[error(
        "broker id {id} is taken by the broker at {holder}: give this broker another id \
         (broker.id, KAFKA_BROKER_ID) or stop the other one"
    )]
    Duplicate {
        /// Our id, and the other's.
        id: BrokerId,
        /// Where the other says it listens.
        holder: String,
    },
    /// The cluster has another id than the configuration or the data directory.
    #[error(
        "The Cluster ID {found} doesn't match {origin}. The broker is trying to join the wrong cluster. \
         Configured zookeeper.connect may be wrong. (ZooKeeper at {servers}; no log directory was changed: correct \
         zookeeper.connect, or use the data directories and the cluster.id of this cluster)"
    )]
    Cluster {
        /// The ensemble.
        servers: String,
        /// `/cluster/id`.
        found: String,
        /// What was expected, and who says so, in Kafka's words where it has some.
        origin: String,
    },
    /// The ensemble knows no cluster, but this broker has data of one. Every log here would be taken for
    /// that of a deleted topic.
    #[error(
        "{} holds partitions of the cluster {cluster_id}, and ZooKeeper at {servers} knows no cluster \
         (/cluster/id is missing): restore the coordinator's data, or move the broker's data away to \
         begin a new cluster; no log directory was changed",
        dir.display()
    )]
    Orphaned {
        /// The log directory.
        dir: PathBuf,
        /// What its `meta.properties` says.
        cluster_id: String,
        /// The ensemble.
        servers: String,
    },
    /// All numbers above the reserved ones are used up.
    #[error("no broker id is left above reserved.broker.max.id")]
    NoIdLeft,
    /// `/cluster/id` cannot be read.
    #[error(
        "/cluster/id at {servers} is malformed; no log directory was changed. To repair it, start the nodes \
         with --roles coordinator (a ZooKeeper of its own runs anyway), and write it with zkCli.sh: \
         set /cluster/id {{\"version\":\"1\",\"id\":\"{}\"}}{}",
        id.as_deref().unwrap_or("…"),
        match id {
            Some(_) => "",
            None => ", where … is the cluster.id that meta.properties has in the brokers' log directories",
        }
    )]
    ClusterId {
        /// The ensemble.
        servers: String,
        /// What it has to be, if this broker knows.
        id: Option<String>,
    },
    /// ZooKeeper failed.
    #[error("registering in ZooKeeper")]
    ZooKeeper(#[from] Error),
}

/// Refuses partitions of a cluster (`inhabited`: where, and its id) that the ensemble knows nothing of:
/// its data is lost, or it is the wrong ensemble. Comes before anything is written there.
pub async fn refuse_orphans(
    zookeeper: &ZooKeeper,
    inhabited: Option<(PathBuf, String)>,
) -> Result<(), RegistrationError> {
    let Some((dir, cluster_id)) = inhabited else {
        return Ok(());
    };
    match zookeeper.get(znode::CLUSTER_ID).await {
        Ok(_) => Ok(()),
        Err(error) if error.is(ErrorCode::NoNode) => Err(RegistrationError::Orphaned {
            dir,
            cluster_id,
            servers: zookeeper.servers(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Creates what Kafka expects to find in every cluster.
pub async fn prepare(zookeeper: &ZooKeeper) -> Result<(), Error> {
    zookeeper.create_chroot().await?;
    let nodes = znode::PERSISTENT_PATHS.map(|path| (path, None));
    zookeeper.create_absent(nodes).await?;
    let feature = (znode::FEATURE, Some(znode::encode_feature()));
    zookeeper.create_absent([feature]).await
}

/// Reads the cluster's id, or gives it one: the one that is configured, or that the data directory
/// remembers, or a new one.
pub async fn cluster_id(
    zookeeper: &ZooKeeper,
    configured: Option<&str>,
    remembered: Option<&str>,
    rng: &Rng,
) -> Result<String, RegistrationError> {
    let servers = zookeeper.servers();
    loop {
        let found = match zookeeper.get(znode::CLUSTER_ID).await {
            Ok((data, _)) => znode::decode_cluster_id(&data),
            Err(error) if error.is(ErrorCode::NoNode) => {
                let id = configured.or(remembered).map(str::to_owned);
                let id = id.unwrap_or_else(|| kafka_uuid_text(rng.uuid()));
                let data = znode::encode_cluster_id(&id);
                let nodes = [("/cluster", None), (znode::CLUSTER_ID, Some(data))];
                zookeeper.create_absent(nodes).await?;
                // Another broker may have been faster.
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let found = found.map_err(|_| RegistrationError::ClusterId {
            servers: servers.clone(),
            id: remembered.or(configured).map(str::to_owned),
        })?;
        return refuse_other(&found, configured, remembered, &servers).map(|()| found);
    }
}

/// Refuses the cluster `found` where another one is configured, or is what the data directory remembers.
pub fn refuse_other(
    found: &str,
    configured: Option<&str>,
    remembered: Option<&str>,
    servers: &str,
) -> Result<(), RegistrationError> {
    let differs = |expected: &&str| *expected != found;
    let configured = configured
        .filter(differs)
        .map(|expected| format!("the configured cluster.id {expected}"));
    let remembered = remembered
        .filter(differs)
        .map(|expected| format!("stored clusterId Some({expected}) in meta.properties"));
    match configured.or(remembered) {
        None => Ok(()),
        Some(origin) => Err(RegistrationError::Cluster {
            servers: servers.to_owned(),
            found: found.to_owned(),
            origin,
        }),
    }
}

/// An id that no broker was given before, above those that people give: every write of Kafka's own znode
/// makes its version one more.
pub async fn new_broker_id(
    zookeeper: &ZooKeeper,
    reserved_max: i32,
) -> Result<BrokerId, RegistrationError> {
    let stat = zookeeper
        .set(znode::BROKER_SEQUENCE_ID, Vec::new(), -1)
        .await?;
    let id = reserved_max.checked_add(stat.version);
    id.map(BrokerId).ok_or(RegistrationError::NoIdLeft)
}

/// Refuses an id that another broker has, if that broker answers where it is listed. One that does not
/// may be dead: the registration itself waits for the end of its session.
pub async fn refuse_taken(
    zookeeper: &ZooKeeper,
    id: BrokerId,
    listeners: &[(String, String, HostPort)],
) -> Result<(), RegistrationError> {
    let (data, stat) = match zookeeper.get(&znode::broker_path(id)).await {
        Ok(found) => found,
        Err(error) if error.is(ErrorCode::NoNode) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Ok(broker) = znode::decode_broker(id, &data, stat.czxid) else {
        return Ok(());
    };
    if broker.endpoints != by_name(listeners) && answers(&broker.endpoints).await {
        return Err(duplicate(id, &broker.endpoints));
    }
    Ok(())
}

fn by_name(listeners: &[(String, String, HostPort)]) -> BTreeMap<String, HostPort> {
    let listeners = listeners.iter();
    listeners
        .map(|(name, _, address)| (name.clone(), address.clone()))
        .collect()
}

async fn answers(endpoints: &BTreeMap<String, HostPort>) -> bool {
    for address in endpoints.values() {
        if net::connect(address, PROBE).await.is_ok() {
            return true;
        }
    }
    false
}

fn duplicate(id: BrokerId, endpoints: &BTreeMap<String, HostPort>) -> RegistrationError {
    let holder = listed_text(endpoints);
    RegistrationError::Duplicate { id, holder }
}

fn listed_text(endpoints: &BTreeMap<String, HostPort>) -> String {
    let texts: Vec<String> = endpoints.values().map(HostPort::to_string).collect();
    texts.join(",")
}

/// This broker's entry.
#[derive(Debug)]
pub struct Registration {
    /// The session that owns it.
    pub zookeeper: Arc<ZooKeeper>,
    /// Where the others are seen.
    pub cell: Arc<ImageCell>,
    /// The time, for the entry's timestamp.
    pub clock: Clock,
    /// This broker's id.
    pub id: BrokerId,
    /// Name, security protocol and advertised address of each listener.
    pub listeners: Vec<(String, String, HostPort)>,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Our locked data directory has been this broker's before: an entry with our addresses can only
    /// be that of our own dead predecessor.
    pub seasoned: bool,
    /// What befell our directories.
    pub losses: Losses,
    /// Our replicas that cannot be used.
    pub offline: watch::Receiver<OfflineReplicas>,
}

/// Replicas whose logs cannot be used: partitions by topic.
pub type OfflineReplicas = BTreeMap<String, BTreeSet<i32>>;

/// Who stands in our place.
enum Holder {
    Nobody,
    Us(Zxid),
    Another {
        version: i32,
        czxid: Zxid,
        addresses: Option<BTreeMap<String, HostPort>>,
    },
}

impl Registration {
    /// Registers; answers the broker's epoch. Waits for a predecessor's session to expire if that is
    /// all that is in the way.
    pub async fn register(&self) -> Result<Zxid, RegistrationError> {
        let path = znode::broker_path(self.id);
        let losses = [self.losses.blank, self.losses.cut];
        if losses.contains(&Since::Now) {
            self.make_way(&path).await?;
            losses::fence(&self.zookeeper, &self.cell, self.id).await;
        }
        loop {
            let steps = vec![
                Op::Create {
                    path: path.clone(),
                    data: None,
                    mode: Mode::Ephemeral,
                },
                Op::Set {
                    path: path.clone(),
                    data: self.encoded(&self.offline.borrow()),
                    version: 0,
                },
            ];
            match self.zookeeper.multi(steps).await {
                Ok(stats) => {
                    let epoch = stats.first().ok_or(Error::Malformed)?.czxid;
                    info!(broker = %self.id, epoch = epoch.0, "registered");
                    return Ok(epoch);
                }
                Err(MultiError { error, .. }) if error.is(ErrorCode::NodeExists) => {}
                Err(MultiError { error, .. }) => return Err(error.into()),
            }
            match self.holder(&path).await? {
                Holder::Nobody => {}
                Holder::Us(epoch) => return Ok(epoch),
                Holder::Another {
                    version,
                    czxid,
                    addresses,
                } => self.displace(&path, version, czxid, addresses).await?,
            }
        }
    }

    fn encoded(&self, offline: &OfflineReplicas) -> Vec<u8> {
        let (listeners, rack) = (&self.listeners, self.rack.as_deref());
        znode::encode_broker(listeners, rack, self.losses, offline, self.clock.wall_ms())
    }

    /// Says in our entry which replicas cannot be used, where that differs from what stands there, and tells
    /// of it as Kafka does.
    async fn tell_offline(&self) -> Result<(), Error> {
        let wanted = self.offline.borrow().clone();
        let image = self.cell.load();
        let told = image.brokers.get(&self.id);
        if told.is_none_or(|told| told.offline == wanted) {
            return Ok(());
        }
        let path = znode::broker_path(self.id);
        let (_, stat) = self.zookeeper.get(&path).await?;
        if Some(stat.ephemeral_owner) != self.zookeeper.session() {
            return Ok(());
        }
        let steps = vec![
            Op::Set {
                path,
                data: self.encoded(&wanted),
                version: stat.version,
            },
            Op::Create {
                path: format!("{}/log_dir_event_", znode::LOG_DIR_EVENTS),
                data: Some(znode::encode_log_dir_event(self.id)),
                mode: Mode::Sequential,
            },
        ];
        let written = self.zookeeper.multi(steps).await;
        let count: usize = wanted.values().map(BTreeSet::len).sum();
        info!(broker = %self.id, partitions = count, written = written.is_ok(), "telling which replicas are offline");
        written.map(|_| ()).map_err(|refused| refused.error)
    }

    /// Waits until nobody stands in our place.
    async fn make_way(&self, path: &str) -> Result<(), RegistrationError> {
        while let Holder::Another {
            version,
            czxid,
            addresses,
        } = self.holder(path).await?
        {
            self.displace(path, version, czxid, addresses).await?;
        }
        Ok(())
    }

    async fn holder(&self, path: &str) -> Result<Holder, Error> {
        let (data, stat) = match self.zookeeper.get(path).await {
            Ok(found) => found,
            Err(error) if error.is(ErrorCode::NoNode) => return Ok(Holder::Nobody),
            Err(error) => return Err(error),
        };
        if Some(stat.ephemeral_owner) == self.zookeeper.session() {
            return Ok(Holder::Us(stat.czxid));
        }
        let broker = znode::decode_broker(self.id, &data, stat.czxid).ok();
        Ok(Holder::Another {
            version: stat.version,
            czxid: stat.czxid,
            addresses: broker.map(|broker| broker.endpoints),
        })
    }

    /// Gets rid of a dead predecessor's entry, or finds that its owner lives.
    async fn displace(
        &self,
        path: &str,
        version: i32,
        czxid: Zxid,
        addresses: Option<BTreeMap<String, HostPort>>,
    ) -> Result<(), RegistrationError> {
        let same = addresses.as_ref() == Some(&by_name(&self.listeners));
        if same && self.seasoned {
            info!(broker = %self.id, "taking over the entry that this broker left when it died");
            return match self.zookeeper.delete(path, version).await {
                Err(Error::Code(ErrorCode::NoNode | ErrorCode::BadVersion)) | Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let listed = addresses.unwrap_or_default();
        let taken = duplicate(self.id, &listed);
        if !same && answers(&listed).await {
            return Err(taken);
        }
        let session = self.zookeeper.session_timeout_ms().max(18_000);
        let limit = Duration::from_millis(u64::try_from(session).unwrap_or(18_000) * 3 / 2);
        warn!(
            broker = %self.id,
            holder = listed_text(&listed),
            "waiting for the session that holds this broker's id to expire"
        );
        let gone = self.cell.wait_for(|image| {
            let broker = image.brokers.get(&self.id);
            broker.is_none_or(|broker| broker.epoch != czxid)
        });
        tokio::time::timeout(limit, gone)
            .await
            .map(|_| ())
            .map_err(|_| taken)
    }

    /// Registers again whenever the entry is lost: with a new session, or when somebody removed it.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut changes = self.cell.changes();
        let mut state = self.zookeeper.state();
        loop {
            changes.mark_unchanged();
            let connected = matches!(*state.borrow_and_update(), State::Connected { .. });
            let known = self.cell.load().brokers.contains_key(&self.id);
            if connected
                && !known
                && let Err(problem) = self.register().await
            {
                match problem {
                    RegistrationError::ZooKeeper(problem) => {
                        warn!(%problem, "registering again failed; it is tried with the next connection");
                    }
                    problem => error!(%problem, "this broker cannot register again"),
                }
            }
            if connected
                && known
                && let Err(problem) = self.tell_offline().await
            {
                debug!(%problem, "what is offline here is told later");
            }
            tokio::select! {
                _ = changes.changed() => {}
                changed = state.changed() => if changed.is_err() { return },
                changed = self.offline.changed() => if changed.is_err() { return },
                () = shutdown.stopped() => return,
            }
        }
    }
}
