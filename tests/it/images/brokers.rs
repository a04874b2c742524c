//! A coordinator with brokers, in temporary directories, on ports that the system chooses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tripod::broker::image::Image;
use tripod::broker::{Broker, BrokerDeps, Running, StartError};
use tripod::client::World;
use tripod::client::zookeeper::{Options, ZooKeeper};
use tripod::common::clock::Clock;
use tripod::common::disk::Disk;
use tripod::common::disk::real::RealDisk;
use tripod::common::ids::BrokerId;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;
use tripod::config::{Config, Listeners, ZookeeperConnect};
use tripod::coordinator::{self, Coordinator};

/// How long a test waits for what has to come.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A coordinator that stands alone.
pub struct Cluster {
    dir: TempDir,
    tasks: Tasks,
    pub coordinator: Coordinator,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let dir = TempDir::new().expect("a temporary directory");
        let tasks = Tasks::new(Shutdown::new());
        let options = coordinator::Options::standalone(
            dir.path().join("coordinator"),
            HostPort::new("127.0.0.1", 0),
        );
        let world = coordinator::World {
            disk: Arc::new(RealDisk),
            clock: Clock::real(),
            rng: Rng::from_seed(1),
            tasks: tasks.clone(),
        };
        let coordinator = Coordinator::start(options, world).await.expect("it starts");
        Cluster {
            dir,
            tasks,
            coordinator,
        }
    }

    fn server(&self) -> HostPort {
        HostPort::new("127.0.0.1", self.coordinator.client_address().port())
    }

    pub fn log_dir(&self, id: i32) -> std::path::PathBuf {
        self.dir.path().join(format!("broker-{id}"))
    }

    pub fn config(&self, id: i32, port: u16, log_dir: &Path) -> Config {
        let mut config = Config::defaults();
        config.broker_id = BrokerId(id);
        config.broker.broker_id = id;
        config.broker.listeners = Some(format!("PLAINTEXT://127.0.0.1:{port}"));
        config.broker.zookeeper_session_timeout_ms = 6_000;
        config.listeners = Listeners::resolve(&config.broker, "localhost").expect("listeners");
        config.log_dirs = vec![log_dir.to_owned()];
        config.zookeeper = ZookeeperConnect {
            servers: vec![self.server()],
            chroot: String::new(),
        };
        config
    }

    pub async fn try_broker(&self, config: Config) -> Result<Running, StartError> {
        self.try_broker_on(Arc::new(RealDisk), config).await
    }

    pub async fn try_broker_on(
        &self,
        disk: Arc<dyn Disk>,
        config: Config,
    ) -> Result<Running, StartError> {
        let deps = BrokerDeps {
            config: Arc::new(config),
            disk,
            clock: Clock::real(),
            rng: Rng::from_seed(2),
            tasks: self.tasks.child(),
            loading: Arc::default(),
        };
        Broker::start(deps).await
    }

    pub async fn broker(&self, id: i32) -> Running {
        let config = self.config(id, 0, &self.log_dir(id));
        self.try_broker(config).await.expect("the broker starts")
    }

    /// A session of a stranger.
    pub async fn zookeeper(&self) -> Arc<ZooKeeper> {
        let options = Options {
            servers: vec![self.server()],
            chroot: String::new(),
            session_timeout: Duration::from_secs(6),
            connection_timeout: Some(LIMIT),
        };
        let world = World {
            clock: Clock::real(),
            rng: Rng::from_seed(3),
            tasks: self.tasks.child(),
        };
        ZooKeeper::connect(options, &world)
            .await
            .expect("it is there")
            .0
    }

    pub async fn stop(self) {
        self.coordinator.shutdown().await;
        assert!(self.tasks.stop(LIMIT).await, "a task did not end");
    }
}

/// Waits until a broker's image is as wanted.
pub async fn see(broker: &Running, what: &str, wanted: impl FnMut(&Image) -> bool) -> Arc<Image> {
    tokio::time::timeout(LIMIT, broker.broker.image.wait_for(wanted))
        .await
        .unwrap_or_else(|_| panic!("{what}: {:#?}", broker.broker.image.load()))
}
