//! The two halves of a node, as this process holds them: from a [`Config`] to what each half takes, and
//! from what each half tells to what the HTTP pages show.
//!
//! The halves do not know each other. A broker reaches its coordinator as it would reach any ZooKeeper:
//! over TCP, by `zookeeper.connect`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::{info, warn};

use crate::broker::status::{self, BrokerStatus, SyncFigures};
use crate::broker::{Broker, BrokerDeps, Prepared, Running};
use crate::common::clock::Clock;
use crate::common::disk::real::RealDisk;
use crate::common::disk::{Disk, told};
use crate::common::ids::BrokerId;
use crate::common::net::{self, HostPort};
use crate::common::rng::Rng;
use crate::common::tasks::{self, Tasks};
use crate::common::tls;
use crate::config::value::Password;
use crate::config::{Config, CoordinatorConfig, Member};
use crate::coordinator::server::Server;
use crate::coordinator::{self, Coordinator, admin, auth, monitor};
use crate::http::{Commands, CoordinatorView, Figure, ProcessFigures, Sources};
use crate::log::dir::Loading;

use super::joined::Joined;
use super::{logging, process};

/// What all nodes of this process share.
#[derive(Clone, Debug)]
pub struct World {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// The halves' tasks are children of these.
    pub tasks: Tasks,
}

impl World {
    /// The real one.
    pub fn real(tasks: Tasks) -> World {
        World {
            disk: Arc::new(RealDisk),
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks,
        }
    }
}

/// One node.
#[derive(Debug)]
pub struct Halves {
    /// Its configuration.
    pub config: Arc<Config>,
    /// What the pages read, from the moment that the coordinator serves.
    server: Arc<OnceLock<Arc<Server>>>,
    coordinator: Mutex<Option<Coordinator>>,
    prepared: Mutex<Option<Prepared>>,
    broker: Arc<OnceLock<Running>>,
    /// What a broker that starts says of its logs.
    loading: Arc<Loading>,
    http: OnceLock<SocketAddr>,
}

impl Halves {
    /// A node of which nothing runs yet.
    pub fn new(config: Arc<Config>) -> Halves {
        Halves {
            config,
            server: Arc::default(),
            coordinator: Mutex::default(),
            prepared: Mutex::default(),
            broker: Arc::default(),
            loading: Arc::default(),
            http: OnceLock::new(),
        }
    }

    /// Notes where the pages are.
    pub fn serves_http(&self, address: SocketAddr) {
        let _ = self.http.set(address);
    }

    /// The port of the pages, once they are served.
    pub fn http_port(&self) -> Option<u16> {
        self.http.get().map(SocketAddr::port)
    }

    /// The broker's id, which it may have been given only now.
    pub fn broker_id(&self) -> BrokerId {
        let running = self.broker.get();
        running.map_or(self.config.broker_id, |running| running.broker.id)
    }

    /// The port for Kafka's clients, once it is open.
    pub fn kafka_port(&self) -> Option<u16> {
        let first = self.broker.get()?.addresses.values().next()?;
        Some(first.port())
    }

    /// The port for ZooKeeper's clients, once it is open.
    pub fn zookeeper_port(&self) -> Option<u16> {
        self.server.get().map(|server| server.client_address.port())
    }

    /// The coordinator, from the moment that it serves.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.server.get().cloned()
    }

    /// The broker, from the moment that it serves.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.get().map(|running| running.broker.clone())
    }

    /// Where the HTTP pages read. A half that has not started answers with nothing but zeros, which reads
    /// as "waits for everything".
    pub fn sources(&self) -> Sources {
        let workers = process::Workers::current();
        let mut sources = Sources {
            process: Some(Arc::new(move || ProcessFigures {
                idle_share: workers.as_ref().map(process::Workers::idle_share),
                ..process::figures()
            })),
            ..Sources::default()
        };
        if self.config.roles.coordinator {
            let (server, config) = (self.server.clone(), self.config.clone());
            sources.coordinator = Some(Arc::new(move || match server.get() {
                Some(server) => coordinator_view(server),
                None => CoordinatorView {
                    id: config.myid.0,
                    members: config.members.len().max(1),
                    ..CoordinatorView::default()
                },
            }));
            let server = self.server.clone();
            sources.commands = Some(Commands {
                names: admin::names(),
                run: Arc::new(move |name, arguments| {
                    admin::run(server.get().map(|server| &**server), name, arguments)
                }),
            });
        }
        if self.config.roles.broker {
            let (running, id) = (self.broker.clone(), self.config.broker_id);
            let loading = self.loading.clone();
            sources.broker = Some(Arc::new(move || match running.get() {
                Some(running) => status::of(&running.broker),
                None => BrokerStatus {
                    id,
                    loading: loading.now(),
                    ..BrokerStatus::default()
                },
            }));
            let running = self.broker.clone();
            sources.prepare = Some(Arc::new(move || {
                let broker = running.get().map(|running| running.broker.clone());
                Box::pin(async move {
                    if let Some(broker) = broker {
                        status::prepare(&broker).await;
                    }
                })
            }));
        }
        sources
    }

    /// Removes what a start that was killed left behind: also one that is refused later does that.
    pub async fn tidy(&self, world: &World) {
        if self.config.roles.coordinator {
            let (disk, dir) = (world.disk.clone(), self.config.coordinator_dir.clone());
            tasks::blocking(move || coordinator::remove_leftover(&*disk, &dir)).await;
        }
    }

    /// Looks whether the broker can start, if this node has one: what refuses it has to be known before
    /// the coordinator begins to write.
    pub async fn prepare_broker(&self, world: &World) -> Result<(), String> {
        if !self.config.roles.broker {
            return Ok(());
        }
        let deps = BrokerDeps {
            config: self.config.clone(),
            disk: world.disk.clone(),
            clock: world.clock.clone(),
            rng: world.rng.fork("broker"),
            tasks: world.tasks.clone(),
            loading: self.loading.clone(),
        };
        let prepared = Broker::prepare(deps).await.map_err(|error| told(&error))?;
        if self.would_begin_anew(world).await {
            prepared.refuse_orphans().map_err(|error| told(&error))?;
        }
        if let Some(joined) = self.joined(world).await {
            let refused = prepared.refuse_other_than(&joined.cluster_id);
            refused.map_err(|error| {
                let file = Joined::path(&self.config);
                format!(
                    "{}; {} has it from the last start: remove that file if the cluster was replaced on purpose",
                    told(&error),
                    file.display()
                )
            })?;
        }
        *locked(&self.prepared) = Some(prepared);
        Ok(())
    }

    /// Is this node's ZooKeeper its own coordinator, alone, and without data? Then it knows no cluster, and
    /// that can be told before it makes its directory.
    async fn would_begin_anew(&self, world: &World) -> bool {
        let config = &self.config;
        if !config.roles.coordinator || !config.members.is_empty() || !asks_itself(config) {
            return false;
        }
        let (disk, dir) = (world.disk.clone(), config.coordinator_dir.clone());
        tasks::blocking(move || coordinator::is_unused(&*disk, &dir)).await
    }

    /// The cluster that this node's broker joined last, if the node's own coordinator has noted one.
    async fn joined(&self, world: &World) -> Option<Joined> {
        if !self.config.roles.coordinator {
            return None;
        }
        let (disk, config) = (world.disk.clone(), self.config.clone());
        tasks::blocking(move || Joined::read(&*disk, &config)).await
    }

    /// Notes the cluster that the broker is in, for the next start.
    async fn note_joined(&self, world: &World, cluster_id: &str) {
        if !self.config.roles.coordinator {
            return;
        }
        let joined = Joined::new(&self.config, cluster_id);
        let (disk, config) = (world.disk.clone(), self.config.clone());
        let written = tasks::blocking(move || joined.write(&*disk, &config)).await;
        if let Err(error) = written {
            let file = Joined::path(&self.config);
            warn!(file = %file.display(), %error, "not written; the next start does not know the cluster beforehand");
        }
    }

    /// Starts the coordinator, if this node has one.
    pub async fn start_coordinator(&self, world: &World) -> Result<(), String> {
        if !self.config.roles.coordinator {
            return Ok(());
        }
        let world = coordinator::World {
            disk: world.disk.clone(),
            clock: world.clock.clone(),
            rng: world.rng.fork("coordinator"),
            tasks: world.tasks.clone(),
        };
        let options = coordinator_options(&self.config, quorum_host(&self.config).await);
        let coordinator = Coordinator::start(options, world)
            .await
            .map_err(|error| told(&error))?;
        let _ = self.server.set(coordinator.server());
        *locked(&self.coordinator) = Some(coordinator);
        Ok(())
    }

    /// Starts the broker, if this node has one, and says whether it does.
    pub async fn start_broker(&self, world: &World) -> Result<bool, String> {
        if locked(&self.prepared).is_none() {
            self.prepare_broker(world).await?;
        }
        let Some(prepared) = locked(&self.prepared).take() else {
            return Ok(false);
        };
        let running = prepared.start().await.map_err(|error| told(&error))?;
        self.note_joined(world, &running.broker.cluster_id).await;
        let _ = self.broker.set(running);
        Ok(true)
    }

    /// Stops the broker, leaderships first.
    pub async fn stop_broker(&self) {
        if let Some(running) = self.broker.get() {
            running.shutdown().await;
        }
    }

    /// Stops the coordinator.
    pub async fn stop_coordinator(&self) {
        let coordinator = locked(&self.coordinator).take();
        if let Some(coordinator) = coordinator {
            coordinator.shutdown().await;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Is `zookeeper.connect` this node's own coordinator?
fn asks_itself(config: &Config) -> bool {
    if config.broker.zookeeper_connect.is_none() {
        return true;
    }
    let own = &config.coordinator;
    config.zookeeper.servers.iter().all(|server| {
        i32::from(server.port) == own.client_port
            && (matches!(server.host.as_str(), "localhost" | "127.0.0.1" | "::1")
                || own.client_port_address.as_ref() == Some(&server.host))
    })
}

/// Where to listen for the other members: on the address of our own line, as ZooKeeper does, so that
/// several members fit on one machine; on every interface where that name is not one of this machine's,
/// as behind a Kubernetes Service.
async fn quorum_host(config: &Config) -> String {
    let own = config
        .members
        .iter()
        .find(|member| member.id == config.myid);
    let Some(own) = own.filter(|_| !config.coordinator.quorum_listen_on_all_ips) else {
        return "0.0.0.0".to_owned();
    };
    match net::bind(&HostPort::new(own.host.clone(), 0)).await {
        Ok(_) => own.host.clone(),
        Err(error) => {
            info!(host = own.host, %error, "not an address of this machine; listening for members on all");
            "0.0.0.0".to_owned()
        }
    }
}

fn coordinator_options(config: &Config, quorum_host: String) -> coordinator::Options {
    let settings = &config.coordinator;
    let port = |port: i32| u16::try_from(port).unwrap_or(0);
    let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
    // Spelt out, so that a message about a busy port says where it is busy.
    let everywhere = || "0.0.0.0".to_owned();
    let client_host = settings.client_port_address.clone();
    let client_host = client_host.filter(|host| !host.is_empty());
    let own = config
        .members
        .iter()
        .find(|member| member.id == config.myid);
    let ticks = |said: i32, ticks: i32| {
        if said > 0 {
            said
        } else {
            settings.tick_time.saturating_mul(ticks)
        }
    };
    let members = config.members.iter();
    let members = members.map(|member| (member.id, coordinator_member(member)));
    coordinator::Options {
        member: config.myid,
        members: members.collect(),
        data_dir: config.coordinator_dir.clone(),
        client_address: HostPort::new(
            client_host.unwrap_or_else(everywhere),
            port(settings.client_port),
        ),
        secure: secure_options(settings),
        tick_time_ms: unsigned(settings.tick_time),
        init_limit: unsigned(settings.init_limit),
        sync_limit: unsigned(settings.sync_limit),
        min_session_timeout_ms: ticks(settings.min_session_timeout, 2),
        max_session_timeout_ms: ticks(settings.max_session_timeout, 20),
        max_client_cnxns: usize::try_from(settings.max_client_cnxns).unwrap_or(0),
        max_cnxns: usize::try_from(settings.max_cnxns).unwrap_or(0),
        jute_max_buffer: usize::try_from(settings.jute_maxbuffer).unwrap_or(0),
        four_letter_words: settings.four_letter_words.clone(),
        auth: auth_options(config),
        cluster: config
            .node
            .cluster_id
            .clone()
            .unwrap_or_else(|| "tripod".to_owned()),
        secret: settings
            .peer_secret
            .expose()
            .map(|secret| secret.as_bytes().to_vec()),
        quorum_listen: HostPort::new(quorum_host, own.map_or(2888, |own| own.quorum_port)),
        snapshot_count: u64::from(unsigned(settings.snap_count)),
        extended_types: settings.extended_types_enabled,
        read_only_mode: settings.read_only_mode_enabled,
        containers: coordinator::Containers {
            check_interval_ms: unsigned(settings.container_check_interval_ms),
            max_per_minute: unsigned(settings.container_max_per_minute),
            max_never_used_ms: settings.container_max_never_used_interval_ms,
        },
    }
}

fn secure_options(settings: &CoordinatorConfig) -> Option<coordinator::Secure> {
    let port = u16::try_from(settings.secure_client_port?).unwrap_or(0);
    let host = settings.secure_client_port_address.clone();
    let host = host.filter(|host| !host.is_empty());
    let store = |path: &Option<String>, password: &Password| {
        Some(tls::Store {
            path: path.clone()?.into(),
            password: password.expose().unwrap_or_default().to_owned(),
        })
    };
    let versions = settings.ssl_versions();
    let client_auth = settings.ssl_client_auth().to_ascii_lowercase();
    Some(coordinator::Secure {
        address: HostPort::new(host.unwrap_or_else(|| "0.0.0.0".to_owned()), port),
        tls: tls::Settings {
            key_store: store(&settings.ssl_key_store, &settings.ssl_key_store_password),
            trust_store: store(
                &settings.ssl_trust_store,
                &settings.ssl_trust_store_password,
            ),
            versions: versions
                .into_iter()
                .filter_map(tls::Version::named)
                .collect(),
            cipher_suites: settings.ssl_cipher_suites.clone(),
        },
        client_auth: match client_auth.as_str() {
            "none" => tls::ClientAuth::None,
            "want" => tls::ClientAuth::Want,
            _ => tls::ClientAuth::Need,
        },
    })
}

fn auth_options(config: &Config) -> auth::Options {
    let settings = &config.coordinator;
    let users = config.logins.users.iter().flatten();
    let users =
        users.filter_map(|(name, password)| Some((name.clone(), password.expose()?.to_owned())));
    auth::Options {
        super_digest: settings.super_digest.expose().map(str::to_owned),
        users: config
            .logins
            .users
            .is_some()
            .then(|| auth::Users(users.collect())),
        has_sasl: settings.has_sasl_provider(),
        has_x509: settings.has_x509_provider(),
        requires_sasl: settings.requires_sasl,
        keeps_failed: settings.keeps_failed_sasl,
        sasl_super: settings.sasl_super_user.clone(),
        x509_super: settings.x509_super_user.clone(),
        skip_acl: settings.skip_acl,
    }
}

fn coordinator_member(member: &Member) -> coordinator::Member {
    let at = |port| HostPort::new(member.host.clone(), port);
    coordinator::Member {
        quorum: at(member.quorum_port),
        election: at(member.election_port),
        client: member.client.as_ref().map(|client| {
            let host = match client.host.as_str() {
                "" => "0.0.0.0",
                host => host,
            };
            HostPort::new(host, client.port)
        }),
    }
}

fn coordinator_view(server: &Server) -> CoordinatorView {
    let (status, raft) = (server.status(), server.raft.status());
    let syncs = server.raft.sync_us();
    let figures = monitor::figures(&status).into_iter();
    let figures = figures.map(|figure| Figure {
        name: figure.name,
        kind: figure.kind,
        part: figure.part,
        quantile: figure.quantile,
        value: figure.value,
    });
    CoordinatorView {
        figures: figures.collect(),
        serving: status.is_serving,
        members: status.members,
        leader: status.leader.map(|leader| leader.0),
        waits_for: status.waits_for,
        joining: raft.joining.iter().map(|member| member.0).collect(),
        id: status.member.0,
        term: raft.term,
        last_log_index: raft.last_log_index.unwrap_or(0),
        applied_index: raft.applied_index.unwrap_or(0),
        sessions: status.counts.sessions,
        waiting: raft.waiting,
        syncs: SyncFigures {
            count: syncs.count(),
            sum_us: syncs.sum_us(),
            max_us: syncs.max_us(),
        },
    }
}

/// What the world waits for on standard output when a broker can be used: test libraries search for
/// these texts, in every log format.
pub fn ready_lines(config: &Config, id: BrokerId) -> Vec<String> {
    let texts = [
        format!("[KafkaServer id={id}] started"),
        "Kafka Server started".to_owned(),
        "Transitioning from RECOVERY to RUNNING".to_owned(),
    ];
    let json = config.log.format == "json";
    texts
        .into_iter()
        .map(|text| {
            if json {
                logging::json_line(&text, &[])
            } else {
                text
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::four_letter;

    #[test]
    fn ready_lines_hold_what_test_libraries_search_in_both_formats() {
        let mut config = Config::defaults();
        for format in ["text", "json"] {
            config.log.format = format.to_owned();
            let lines = ready_lines(&config, config.broker_id).join("\n");
            for text in [
                "[KafkaServer id=1] started",
                "Kafka Server started",
                "Transitioning from RECOVERY to RUNNING",
            ] {
                assert!(lines.contains(text), "{lines}");
            }
        }
    }

    #[test]
    fn the_words_that_may_be_allowed_are_those_that_are_answered() {
        for word in crate::config::FOUR_LETTER_WORDS {
            assert!(four_letter::is_known(word), "{word}");
        }
    }

    #[test]
    fn halves_that_do_not_run_yet_say_so() {
        let halves = Halves::new(Arc::new(Config::defaults()));
        let readiness = crate::http::health::readiness(&halves.sources());
        assert_eq!(
            readiness.waits_for,
            [
                "the coordinator sees no leader: a quorum is 1 of 1 members",
                "the broker has no ZooKeeper session",
            ]
        );
    }
}
