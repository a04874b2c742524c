//! Writes the in-sync sets that leaders here want changed into the state znodes.
//!
//! One task for all partitions: what is due at one moment goes out as one pipelined batch of sets, each
//! guarded by the version that its leader knows. What the sets are is decided in [`super::isr`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, info};

use crate::broker::Broker;
use crate::broker::controller::decide::leader::in_sync;
use crate::broker::image::{Image, PartitionState, znode};
use crate::broker::isr::{Outcome, Proposal};
use crate::broker::partition::Partition;
use crate::client::zookeeper::{MultiError, Op};
use crate::common::ids::{BrokerId, TopicPartition, Zxid};
use crate::common::shutdown::Shutdown;
use crate::zookeeper::error::ErrorCode;

/// How long after a write of unknown outcome it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Partitions whose in-sync set may have to change, noted by their leaders.
#[derive(Debug)]
pub struct IsrChanges {
    lag_max_ms: i64,
    due: Mutex<BTreeSet<TopicPartition>>,
    wake: Notify,
}

impl IsrChanges {
    /// None yet; `lag_max_ms` is `replica.lag.time.max.ms`.
    pub fn new(lag_max_ms: i64) -> IsrChanges {
        IsrChanges {
            lag_max_ms,
            due: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// How long a follower may be behind.
    pub fn lag_max_ms(&self) -> i64 {
        self.lag_max_ms
    }

    /// The partition's set may have to change, as its leader sees it.
    pub fn note(&self, id: &TopicPartition) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if !due.contains(id) {
            due.insert(id.clone());
            self.wake.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<TopicPartition> {
        std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes changes until the shutdown. Who lags is looked for every half of the lag time, as in Kafka.
pub async fn run(broker: Arc<Broker>, shutdown: Shutdown) {
    let changes = broker.replicas.isr_changes().clone();
    let half = u64::try_from(changes.lag_max_ms / 2).unwrap_or(0).max(1);
    let mut look = tokio::time::interval(Duration::from_millis(half));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut unknown = Vec::new();
    loop {
        let due: Vec<Arc<Partition>> = tokio::select! {
            () = changes.wake.notified() => {
                let ids = changes.take();
                let found = |id: &TopicPartition| broker.replicas.get(&id.topic, id.partition);
                ids.iter().filter_map(found).collect()
            }
            _ = look.tick() => broker.replicas.all(),
            () = tokio::time::sleep(RETRY), if !unknown.is_empty() => std::mem::take(&mut unknown),
            () = shutdown.stopped() => return,
        };
        let written = write(&broker, &due);
        unknown.extend(tokio::select! {
            again = written => again,
            () = shutdown.stopped() => return,
        });
    }
}

/// May the in-sync set be written now? What is written says of every member that it has been there since:
/// while one is dead or has registered anew, the controller writes first (KIP-903 is about the same).
fn settled(image: &Image, partition: &Partition) -> bool {
    let id = partition.id();
    let Some(placed) = image.partition(&id.topic, id.partition) else {
        return false;
    };
    placed.state.as_ref().is_some_and(|state| {
        state.version >= partition.role().state_version
            && in_sync(image, placed, state).len() == state.isr.len()
    })
}

/// Writes what is due of these partitions; gives those whose write has an unknown outcome.
async fn write(broker: &Broker, partitions: &[Arc<Partition>]) -> Vec<Arc<Partition>> {
    let image = broker.image.load();
    let (ready, mut unknown): (Vec<_>, Vec<_>) = partitions
        .iter()
        .partition(|partition| !partition.is_leader() || settled(&image, partition));
    let mut unknown: Vec<Arc<Partition>> = unknown.drain(..).cloned().collect();
    let due: Vec<(&Arc<Partition>, Proposal)> = ready
        .into_iter()
        .filter_map(|partition| {
            let id = partition.id();
            let placed = image.partition(&id.topic, id.partition);
            // What its leader knows of a follower has to be of the registration that the image shows.
            let live = |id| {
                let epoch = image.brokers.get(&id).map(|broker| broker.epoch);
                let same = |live: &(BrokerId, Zxid)| live.0 == id && Some(live.1) == epoch;
                placed.is_some_and(|placed| placed.is_live(&image, id))
                    && partition.role().live.iter().any(same)
            };
            Some((partition, partition.propose_isr(live)?))
        })
        .collect();
    if due.is_empty() {
        return unknown;
    }
    let sets = due.iter().map(|(partition, proposal)| {
        let id = partition.id();
        vec![Op::Set {
            path: znode::state_path(&id.topic, id.partition),
            data: znode::encode_state(&state(proposal)),
            version: proposal.version,
        }]
    });
    let answers = broker
        .cluster
        .zookeeper()
        .multi_all(sets.collect())
        .await
        .into_iter();
    for ((partition, proposal), answer) in due.iter().zip(answers) {
        let outcome = match &answer {
            Ok(stats) => stats.first().map_or(Outcome::Unknown, |stat| {
                Outcome::Written(stat.version, stat.mzxid)
            }),
            Err(MultiError { error, .. })
                if error.is(ErrorCode::BadVersion) || error.is(ErrorCode::NoNode) =>
            {
                Outcome::Stale
            }
            Err(_) => Outcome::Unknown,
        };
        if let Err(error) = &answer {
            debug!(partition = %partition.id(), %error, "the in-sync set is not written");
        }
        let settled = partition.settle_isr(proposal, outcome);
        if settled {
            tell(broker, partition, proposal);
        }
        match outcome {
            Outcome::Unknown => unknown.push((*partition).clone()),
            // Who fell behind or came up while the write was on its way waits no half lag time.
            _ if settled => broker.replicas.isr_changes().note(partition.id()),
            _ => {}
        }
    }
    unknown
}

fn state(proposal: &Proposal) -> PartitionState {
    PartitionState {
        leader: Some(proposal.leader),
        leader_epoch: proposal.epoch,
        isr: proposal.isr.clone(),
        controller_epoch: proposal.controller_epoch,
        version: proposal.version,
        written: Zxid(0),
    }
}

fn tell(broker: &Broker, partition: &Partition, proposal: &Proposal) {
    let ids = |set: &[BrokerId]| {
        let ids: Vec<String> = set.iter().map(ToString::to_string).collect();
        ids.join(",")
    };
    let (before, after) = (&proposal.before, &proposal.isr);
    if before == after {
        return;
    }
    info!(
        partition = %partition.id(), before = ids(before), after = ids(after),
        high_watermark = %partition.high_watermark(), log_end_offset = %partition.log_end_offset(),
        "the in-sync set changes"
    );
    if before.iter().any(|id| !after.contains(id)) {
        broker.metrics.isr_shrinks.add(1);
    }
    if after.iter().any(|id| !before.contains(id)) {
        broker.metrics.isr_expands.add(1);
    }
}
