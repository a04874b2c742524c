//! Makes this broker do what the image says: leads, lets go, and tells the group coordinator.
//!
//! Also steps down: a broker that has not heard from ZooKeeper for a whole session timeout, by its own
//! monotonic clock, may have been replaced, so it leads nothing until it is registered again.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::broker::registration::OfflineReplicas;
use crate::broker::replicas::{Changes, Replicas};
use crate::client::zookeeper::State;
use crate::common::ids::TopicPartition;
use crate::common::shutdown::Shutdown;
use crate::common::tasks;

/// The topic whose partitions are groups' homes.
const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// When what failed for now is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Brings the partitions up to the newest image.
pub async fn once(broker: &Arc<Broker>) {
    let count = broker.image.count();
    let image = broker.image.load();
    let replicas = broker.replicas.clone();
    let changes = tasks::blocking(move || replicas.apply(&image)).await;
    tell(broker, &changes);
    broker.fetchers.follow(&broker.replicas);
    broker.image.apply(count);
    broker.offline.send_if_modified(|told| {
        let now = offline(&broker.replicas);
        let changed = *told != now;
        *told = now;
        changed
    });
}

/// Which replicas here cannot be used before a restart, by topic.
fn offline(replicas: &Replicas) -> OfflineReplicas {
    let mut offline = OfflineReplicas::new();
    for id in replicas.lasting_offline() {
        let partitions = offline.entry(id.topic.to_string()).or_default();
        partitions.insert(id.partition);
    }
    offline
}

fn tell(broker: &Broker, changes: &Changes) {
    let home = |id: &&TopicPartition| &*id.topic == CONSUMER_OFFSETS;
    for id in changes.resigned.iter().filter(home) {
        broker.groups.resigned(id.partition);
    }
    for (id, epoch) in &changes.elected {
        if home(&id) {
            broker.groups.elected(id.partition, *epoch);
        }
    }
    if !changes.elected.is_empty() || !changes.resigned.is_empty() {
        info!(
            elected = changes.elected.len(),
            resigned = changes.resigned.len(),
            deleted = changes.deleted.len(),
            "leaderships changed"
        );
    }
}

/// Follows the images until the shutdown.
pub async fn run(broker: Arc<Broker>, shutdown: Shutdown) {
    let zookeeper = broker.cluster.zookeeper().clone();
    let mut changes = broker.image.changes();
    let mut state = zookeeper.state();
    let mut in_doubt = false;
    loop {
        let connected = matches!(*state.borrow_and_update(), State::Connected { .. });
        changes.mark_unchanged();
        let doubt_ms = doubt(
            &broker,
            zookeeper.confirmed_ms(),
            zookeeper.session_timeout_ms(),
        );
        if in_doubt {
            if connected && doubt_ms > 0 {
                // What the image says may be of the time before the doubt.
                broker.cluster.settle().await;
            }
            let registered = broker.image.load().brokers.contains_key(&broker.id);
            if connected && doubt_ms > 0 && registered {
                info!("the ZooKeeper session stands again: leading what is this broker's");
                in_doubt = false;
                once(&broker).await;
            }
        } else if doubt_ms <= 0 {
            warn!("no word from ZooKeeper for a session timeout: leading nothing until it is back");
            in_doubt = true;
            let resigned = broker.replicas.resign_all();
            tell(&broker, &resigned);
        } else {
            once(&broker).await;
        }
        let until_doubt = Duration::from_millis(u64::try_from(doubt_ms).unwrap_or(0).max(1));
        tokio::select! {
            _ = changes.changed() => {}
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(until_doubt), if !in_doubt => {}
            // A full disk, or too many open files: that passes.
            () = tokio::time::sleep(RETRY_PERIOD), if broker.replicas.is_unfinished() => {}
            () = broker.replicas.dir_is_lost() => {
                if !broker.replicas.dirs().may_take_logs() {
                    let why = broker.replicas.dirs().none_left().to_string();
                    error!(why, "every log directory has failed: this node stops");
                    broker.tasks.fail("log directories", format!("the broker cannot go on: {why}"));
                }
            }
            () = shutdown.stopped() => return,
        }
    }
}

/// Milliseconds until the session may be over.
fn doubt(broker: &Broker, confirmed_ms: i64, timeout_ms: i64) -> i64 {
    confirmed_ms
        .saturating_add(timeout_ms)
        .saturating_sub(broker.clock.monotonic_ms())
}
