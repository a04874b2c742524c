//! Follows leaders: one task per leader (`num.replica.fetchers` of them), which fetches all partitions
//! that this broker follows there.
//!
//! [`Fetchers::follow`] is told after each image what is to be followed; the roles themselves are taken
//! by `Replicas::apply` before, and a partition looks at its role under its own lock before it takes
//! anything, so an answer that comes late changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::{debug, info};

use crate::broker::image::ImageCell;
use crate::broker::metrics::BrokerMetrics;
use crate::broker::partition::Partition;
use crate::broker::replicas::Replicas;
use crate::broker::throttle::Throttles;
use crate::client::World;
use crate::common::ids::{BrokerId, TopicPartition};
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Kind;
use crate::config::Config;
use crate::log::dir::Dirs;

mod answer;
mod exchange;
mod session;
mod task;

/// What a task follows. Each value of the channel is a new image's.
type Assigned = Arc<BTreeMap<TopicPartition, Arc<Partition>>>;

/// What every task can reach.
#[derive(Clone, Debug)]
struct Deps {
    id: BrokerId,
    config: Arc<Config>,
    image: Arc<ImageCell>,
    metrics: Arc<BrokerMetrics>,
    throttles: Arc<Throttles>,
    dirs: Arc<Dirs>,
    world: World,
}

/// A leader, and which of the tasks for it.
type Place = (BrokerId, usize);

#[derive(Debug)]
struct Running {
    assigned: watch::Sender<Assigned>,
    stop: Shutdown,
}

/// All tasks that follow leaders.
#[derive(Debug)]
pub struct Fetchers {
    deps: Deps,
    /// None once it was stopped.
    running: Mutex<Option<BTreeMap<Place, Running>>>,
}

impl Fetchers {
    /// None yet.
    pub fn new(
        config: &Arc<Config>,
        image: &Arc<ImageCell>,
        metrics: &Arc<BrokerMetrics>,
        replicas: &Replicas,
        world: World,
    ) -> Fetchers {
        Fetchers {
            deps: Deps {
                id: config.broker_id,
                config: config.clone(),
                image: image.clone(),
                metrics: metrics.clone(),
                throttles: replicas.throttles().clone(),
                dirs: replicas.dirs().clone(),
                world,
            },
            running: Mutex::new(Some(BTreeMap::new())),
        }
    }

    /// Follows what the roles say now: starts, tells and stops tasks.
    pub fn follow(&self, replicas: &Replicas) {
        let tasks = usize::try_from(self.deps.config.broker.num_replica_fetchers).unwrap_or(1);
        let mut wanted: BTreeMap<Place, BTreeMap<TopicPartition, Arc<Partition>>> = BTreeMap::new();
        for partition in replicas.all() {
            let role = partition.role();
            if let Some(leader) = role.leader.filter(|leader| *leader != self.deps.id) {
                let place = (leader, share(partition.id(), tasks.max(1)));
                let partitions = wanted.entry(place).or_default();
                partitions.insert(partition.id().clone(), partition);
            }
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = &mut *running else {
            return;
        };
        running.retain(|place, task| {
            let kept = wanted.contains_key(place);
            if !kept {
                info!(leader = %place.0, "nothing is followed there any more");
                task.stop.stop();
            }
            kept
        });
        for (place, partitions) in wanted {
            let assigned = Arc::new(partitions);
            match running.get(&place) {
                Some(task) => {
                    task.assigned.send_replace(assigned);
                }
                None => {
                    running.insert(place, self.start(place, assigned));
                }
            }
        }
    }

    fn start(&self, (leader, number): Place, assigned: Assigned) -> Running {
        info!(%leader, partitions = assigned.len(), "following");
        let (sender, receiver) = watch::channel(assigned);
        let stop = self.deps.world.tasks.shutdown().child();
        let task = task::Task::new(self.deps.clone(), (leader, number), receiver, stop.clone());
        self.deps
            .world
            .tasks
            .spawn("replica fetcher", Kind::Essential, task.run());
        Running {
            assigned: sender,
            stop,
        }
    }

    /// Follows nothing any more, for good: this broker departs. What was asked for may still arrive, and
    /// is dropped.
    pub fn stop(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for task in running.into_iter().flatten() {
            task.1.stop.stop();
        }
        debug!("following nothing any more");
    }
}

/// Which of a leader's tasks fetches the partition.
fn share(id: &TopicPartition, tasks: usize) -> usize {
    let hash = id
        .topic
        .bytes()
        .chain(id.partition.to_be_bytes())
        .fold(7usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
    hash % tasks
}

#[cfg(test)]
mod tests;
