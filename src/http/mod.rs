//! Health, metrics and ZooKeeper's admin commands over HTTP.
//!
//! Reads plain values through [`Sources`]; it never reaches into a broker or a coordinator, so it works
//! the same for a half that runs, that starts, or that is not here. Answers `GET` and `HEAD` only.

pub mod commands;
pub mod health;
pub mod metrics;
pub mod server;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::broker::status::{BrokerStatus, SyncFigures};

/// Where the answers come from. `None` is a half that this node does not run; a half that has not
/// started yet says so in its values.
#[derive(Clone, Default)]
pub struct Sources {
    /// This node's broker.
    pub broker: Option<Arc<dyn Fn() -> BrokerStatus + Send + Sync>>,
    /// What has to be asked elsewhere before `/metrics` reads the broker.
    pub prepare: Option<Arc<Prepare>>,
    /// This node's coordinator.
    pub coordinator: Option<Arc<dyn Fn() -> CoordinatorView + Send + Sync>>,
    /// ZooKeeper's admin commands.
    pub commands: Option<Commands>,
    /// The process.
    pub process: Option<Arc<dyn Fn() -> ProcessFigures + Send + Sync>>,
}

/// Asks elsewhere, within a short time.
pub type Prepare = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// ZooKeeper's admin commands: their names, and what runs one.
#[derive(Clone)]
pub struct Commands {
    /// Those that are shown.
    pub names: Vec<&'static str>,
    /// Answers a command with its arguments.
    pub run: Arc<Run>,
}

/// Answers a command, by any of its names, with its arguments.
pub type Run = dyn Fn(&str, &[(String, String)]) -> serde_json::Value + Send + Sync;

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("broker", &self.broker.is_some())
            .field("coordinator", &self.coordinator.is_some())
            .finish_non_exhaustive()
    }
}

/// A coordinator at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoordinatorView {
    /// Does it know a leader and serve clients?
    pub serving: bool,
    /// What it waits for, by the names of the members that are missing, while it does not serve.
    pub waits_for: Option<String>,
    /// The members of the ensemble.
    pub members: usize,
    /// The leader's number, if it is known.
    pub leader: Option<u64>,
    /// The members that have come back without their data and do not count yet, as far as it knows.
    pub joining: Vec<u64>,
    /// This member's number.
    pub id: u64,
    /// The leader's number of terms.
    pub term: u64,
    /// The last entry in its log.
    pub last_log_index: u64,
    /// The last entry applied to the tree.
    pub applied_index: u64,
    /// Requests of clients here that wait for their outcome.
    pub waiting: usize,
    /// Sessions of the ensemble.
    pub sessions: usize,
    /// Syncs of its log.
    pub syncs: SyncFigures,
    /// ZooKeeper's figures.
    pub figures: Vec<Figure>,
}

/// One of ZooKeeper's figures, as its Prometheus provider has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// `gauge`, `counter` or `summary`.
    pub kind: &'static str,
    /// Which part of a summary, behind its name.
    pub part: &'static str,
    /// Which quantile of a summary.
    pub quantile: Option<&'static str>,
    /// The value.
    pub value: f64,
}

/// The process, as Prometheus' client libraries name these figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// How many it may open.
    pub max_fds: u64,
    /// Seconds since 1970.
    pub start_seconds: f64,
    /// The share of the last minute, 0 to 1, in which the async workers were idle, where it is known.
    pub idle_share: Option<f64>,
}
