//! Leaving the cluster in order (controlled shutdown): others lead and need not wait for this broker, before
//! it stops serving. The same for what lies in a log directory that is full, as long as it is.
//!
//! The departing broker writes the states itself, by the controller's own rules and guarded by their
//! versions. What nobody else has stays with it until the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::broker::Broker;
use crate::broker::controller::decide::leader;
use crate::broker::image::{BrokerImage, Image, znode};
use crate::broker::peer_watch;
use crate::client::zookeeper::{Error, MultiError, Op, State};
use crate::common::ids::{BrokerId, TopicPartition};
use crate::common::shutdown::Shutdown;
use crate::zookeeper::error::ErrorCode;

/// How long ZooKeeper may take for one round of writes: a node that stops may be its last server.
const ROUND_LIMIT: Duration = Duration::from_secs(2);
/// Between two rounds, where others wrote the same states.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// How often log directories are looked at, as often as they are maintained.
const YIELD_PERIOD: Duration = Duration::from_secs(1);

/// Hands over what others can take and unregisters. Bounded by `controlled.shutdown.max.retries` times
/// `controlled.shutdown.retry.backoff.ms`; without ZooKeeper nothing is waited for.
pub async fn depart(broker: &Arc<Broker>, leaving: &Shutdown) {
    let settings = &broker.config.broker;
    if settings.controlled_shutdown_enable {
        let retries = u32::try_from(settings.controlled_shutdown_max_retries).unwrap_or(0);
        let backoff = u64::try_from(settings.controlled_shutdown_retry_backoff_ms).unwrap_or(0);
        let limit = Duration::from_millis(backoff).saturating_mul(retries.max(1));
        // Nothing comes into the in-sync set again that is not fetched.
        broker.fetchers.stop();
        match tokio::time::timeout(limit, hand_over(broker)).await {
            Ok(true) => {
                info!(broker = %broker.id, "everything that others can lead is handed over")
            }
            Ok(false) => debug!("no ZooKeeper to hand over with"),
            Err(_) => warn!(
                limit_ms = limit.as_millis(),
                "not everything is handed over in time: clients will notice this broker's stop"
            ),
        }
    }
    // Nobody registers again from here on, or governs.
    leaving.stop();
    if connected(broker)
        && tokio::time::timeout(ROUND_LIMIT, unregister(broker))
            .await
            .is_err()
    {
        debug!("unregistering takes too long; the end of the session does it");
    }
}

fn connected(broker: &Broker) -> bool {
    let state = broker.cluster.zookeeper().state();
    let connected = matches!(*state.borrow(), State::Connected { .. });
    connected
}

/// Until the shutdown: what lies in a directory that takes nothing for now is led by others, and they do not
/// wait for it. What nobody else has stays, so that it can be read at least.
pub async fn yield_halted(broker: Arc<Broker>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(YIELD_PERIOD) => {}
            () = shutdown.stopped() => return,
        }
        let halted = broker.replicas.dirs().halted();
        if halted.is_empty() || !connected(&broker) {
            continue;
        }
        let image = broker.image.load();
        let wanted = |id: &TopicPartition| halted.contains(id);
        let registered = image.brokers.keys().copied().collect();
        if due(&image, &registered, broker.id, &wanted).is_empty() {
            continue;
        }
        let known = peer_watch::answering(&broker).await;
        let sets = due(&image, &known, broker.id, &wanted);
        if sets.is_empty() {
            continue;
        }
        info!(broker = %broker.id, partitions = sets.len(), "a log directory takes nothing: others shall lead");
        let until = Instant::now() + ROUND_LIMIT;
        if !write(&broker, sets, until).await {
            debug!("no ZooKeeper to hand over with");
        }
    }
}

/// Writes until the image shows that nothing is left to be handed over; false where that cannot be.
async fn hand_over(broker: &Broker) -> bool {
    let mut asked: Option<(BTreeMap<BrokerId, BrokerImage>, BTreeSet<BrokerId>)> = None;
    loop {
        let image = broker.image.load();
        if !connected(broker) || !image.brokers.contains_key(&broker.id) {
            return false;
        }
        let known = match asked.take() {
            Some((brokers, known)) if brokers == image.brokers => known,
            _ => peer_watch::answering(broker).await,
        };
        let sets = due(&image, &known, broker.id, &|_| true);
        asked = Some((image.brokers.clone(), known));
        if sets.is_empty() {
            return true;
        }
        let until = Instant::now() + ROUND_LIMIT;
        if !write(broker, sets, until).await {
            return false;
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Writes what is due, and waits until the image has it; false where ZooKeeper does not answer in time.
async fn write(broker: &Broker, sets: Vec<Vec<Op>>, until: Instant) -> bool {
    let zookeeper = broker.cluster.zookeeper();
    let answers = tokio::time::timeout_at(until, zookeeper.multi_all(sets)).await;
    let Ok(answers) = answers else { return false };
    for answer in answers {
        match answer {
            Ok(_) => {}
            // Somebody was faster; what they wrote is on its way into the image.
            Err(MultiError {
                error: Error::Code(code),
                ..
            }) => debug!(?code, "a state is newer"),
            Err(MultiError { error, .. }) => {
                debug!(%error, "handing over");
                return false;
            }
        }
    }
    let settled = broker.cluster.settle();
    tokio::time::timeout_at(until, settled).await.is_ok()
}

/// A guarded write for every state that shall not name this broker any more.
fn due(
    image: &Image,
    known: &BTreeSet<BrokerId>,
    own: BrokerId,
    wanted: &dyn Fn(&TopicPartition) -> bool,
) -> Vec<Vec<Op>> {
    let topics = image.topics.values();
    let partitions = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |(index, partition)| (topic, *index, partition))
    });
    partitions
        .filter(|(topic, index, _)| wanted(&TopicPartition::new(topic.name.clone(), *index)))
        .filter_map(|(topic, index, partition)| {
            let next = leader::departed(image, known, partition, own)?;
            Some(vec![Op::Set {
                path: znode::state_path(&topic.name, index),
                data: znode::encode_state(&next),
                version: next.version,
            }])
        })
        .collect()
}

/// Removes what this session owns, so that the others need not wait for its end.
async fn unregister(broker: &Broker) {
    let zookeeper = broker.cluster.zookeeper();
    let path = znode::broker_path(broker.id);
    for path in [path.as_str(), znode::CONTROLLER] {
        let ours = match zookeeper.exists(path).await {
            Ok(Some(stat)) => (Some(stat.ephemeral_owner) == zookeeper.session()).then_some(stat),
            _ => None,
        };
        let Some(stat) = ours else { continue };
        match zookeeper.delete(path, stat.version).await {
            Ok(()) | Err(Error::Code(ErrorCode::NoNode)) => debug!(path, "removed"),
            Err(error) => debug!(path, %error, "stays until the session ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing;
    use crate::common::ids::Zxid;

    #[test]
    fn only_what_others_can_take_is_handed_over() {
        let mut shared = testing::topic("shared", 1, 3);
        let partition = shared.partitions.get_mut(&0).unwrap();
        partition.replicas.push(BrokerId(2));
        partition.state.as_mut().unwrap().isr.push(BrokerId(2));
        let mut image = testing::image(vec![shared, testing::topic("alone", 1, 3)]);
        let known = testing::ids(&[1, 2]).into_iter().collect();
        assert!(
            due(&image, &known, BrokerId(1), &|_| true).is_empty(),
            "2 is not there"
        );
        let mut other = image.brokers[&BrokerId(1)].clone();
        (other.id, other.epoch) = (BrokerId(2), Zxid(1));
        image.brokers.insert(BrokerId(2), other);
        let alone = |id: &TopicPartition| &*id.topic == "alone";
        assert!(
            due(&image, &known, BrokerId(1), &alone).is_empty(),
            "not asked for"
        );
        let sets = due(&image, &known, BrokerId(1), &|_| true);
        let [set] = &sets[..] else { panic!("{sets:?}") };
        let [
            Op::Set {
                path,
                data,
                version: 0,
            },
        ] = &set[..]
        else {
            panic!("{set:?}")
        };
        assert_eq!(path, "/brokers/topics/shared/partitions/0/state");
        let text = String::from_utf8_lossy(data);
        assert!(
            text.contains(r#""leader":2,"version":1,"leader_epoch":4,"isr":[2]"#),
            "{text}"
        );
    }
}
