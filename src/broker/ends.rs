//! Where logs end that other brokers lead, for the lag of the groups that are coordinated here.
//!
//! A group's lag is told by its coordinator alone, so that a sum over all brokers counts nothing twice;
//! its partitions may be led anywhere. The leaders are asked when somebody looks ([`refresh`]), within
//! a short time and not again for a while. What a leader does not say is not known: no guess is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tracing::debug;

use crate::broker::Broker;
use crate::client::cluster::Cluster;
use crate::client::connection::Settings;
use crate::client::{ClientError, World};
use crate::common::ids::{BrokerId, TopicPartition};

/// How long one look may take, all leaders together.
const LIMIT: Duration = Duration::from_secs(2);
/// How long one leader may take.
const LEADER_LIMIT: Duration = Duration::from_millis(700);
/// How long answers serve: scrapers that come together share them.
const KEEP_MS: i64 = 2_000;
/// Answers of more than a hundred thousand partitions stay below this.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The time that asks for the end of a log.
const LATEST: i64 = -1;

/// What the leaders said, and the connections to them.
#[derive(Debug, Default)]
pub struct Ends {
    known: Mutex<BTreeMap<TopicPartition, i64>>,
    asking: tokio::sync::Mutex<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    /// When the leaders were asked last (monotonic).
    asked_ms: Option<i64>,
    /// What they were asked for then.
    asked: BTreeSet<TopicPartition>,
    /// The connections, made when somebody looks first.
    leaders: Option<Cluster>,
}

impl Ends {
    /// What consumers of the partition may read up to, if its leader said it.
    pub fn of(&self, id: &TopicPartition) -> Option<i64> {
        self.known().get(id).copied()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, i64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the leaders of what the groups here consume elsewhere, unless that was done a moment ago.
pub async fn refresh(broker: &Broker) {
    let mut asking = broker.ends.asking.lock().await;
    let now_ms = broker.clock.monotonic_ms();
    let groups = broker.groups.status();
    let consumed = groups.into_iter().flat_map(|group| group.offsets);
    let wanted: BTreeSet<_> = consumed.map(|(id, _)| id).collect();
    let recent = asking.asked_ms.is_some_and(|at| now_ms - at < KEEP_MS);
    if recent && wanted.is_subset(&asking.asked) {
        return;
    }
    ask_leaders(broker, &mut asking, wanted.clone()).await;
    asking.asked = wanted;
    asking.asked_ms = Some(broker.clock.monotonic_ms());
}

async fn ask_leaders(broker: &Broker, asking: &mut Asking, wanted: BTreeSet<TopicPartition>) {
    let image = broker.image.load();
    let mut by_leader: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
    for id in wanted {
        let placed = image.partition(&id.topic, id.partition);
        match placed.and_then(|placed| placed.leader()) {
            Some(leader) if leader != broker.id => by_leader.entry(leader).or_default().push(id),
            _ => {}
        }
    }
    let leaders = asking.leaders.get_or_insert_with(|| dialler(broker));
    let mut known = BTreeMap::new();
    let all = async {
        for (leader, partitions) in by_leader {
            match ask(broker, leaders, leader, &partitions).await {
                Ok(ends) => known.extend(ends),
                Err(error) => {
                    debug!(%leader, %error, "the leader does not say where its logs end");
                }
            }
        }
    };
    // Who did not answer in time is as unknown as who refused.
    let _ = tokio::time::timeout(LIMIT, all).await;
    *broker.ends.known() = known;
}

async fn ask(
    broker: &Broker,
    leaders: &Cluster,
    leader: BrokerId,
    partitions: &[TopicPartition],
) -> Result<Vec<(TopicPartition, i64)>, ClientError> {
    let image = broker.image.load();
    let listener = &broker.config.listeners.inter_broker;
    let address = image
        .brokers
        .get(&leader)
        .and_then(|live| live.endpoints.get(listener));
    let Some(address) = address else {
        return Ok(Vec::new());
    };
    let connection = leaders.connect(address).await?;
    let answer = connection.send(&request(partitions)).await?;
    let topics = answer.topics.into_iter();
    let ends = topics.flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().filter_map(move |partition| {
            let id = TopicPartition::new(name.0.as_str(), partition.partition_index);
            (partition.error_code == 0 && partition.offset >= 0).then_some((id, partition.offset))
        })
    });
    Ok(ends.collect())
}

/// Where the leaders are is in the image; it keeps the connections to them.
fn dialler(broker: &Broker) -> Cluster {
    let world = World {
        clock: broker.clock.clone(),
        rng: broker.rng.clone(),
        tasks: broker.tasks.clone(),
    };
    let settings = Settings {
        connect_timeout: LEADER_LIMIT,
        request_timeout: LEADER_LIMIT,
        response_bytes_max: ANSWER_BYTES_MAX,
        ..Settings::new(format!("broker-{}-lag", broker.id))
    };
    Cluster::new(world, Vec::new(), settings)
}

/// `partitions` are sorted by topic.
fn request(partitions: &[TopicPartition]) -> ListOffsetsRequest {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for id in partitions {
        let item = ListOffsetsPartition::default()
            .with_partition_index(id.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(LATEST);
        match topics.last_mut() {
            Some(topic) if *topic.name.0 == *id.topic => topic.partitions.push(item),
            _ => {
                let name = TopicName(StrBytes::from_string(id.topic.to_string()));
                let topic = ListOffsetsTopic::default().with_name(name);
                topics.push(topic.with_partitions(vec![item]));
            }
        }
    }
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(topics)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::partition::Origin;
    use crate::broker::testing::{apply, batch, broker, image, listen, topic};
    use crate::common::net::HostPort;

    #[tokio::test]
    async fn leaders_elsewhere_are_asked_and_silence_is_no_answer() {
        let (here, there) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let leader = broker(there.path(), vec![topic("a", 2, 0), topic("b", 1, 0)]);
        for (topic, partition, records) in [("a", 1, 3), ("b", 0, 1)] {
            let led = leader.replicas.leader(topic, partition).expect("leads");
            for _ in 0..records {
                led.append(batch(&[b"x"]), Origin::Client, None)
                    .expect("appends");
            }
        }
        let address = listen(&leader).await;
        let address = HostPort::new(address.ip().to_string(), address.port());

        let asker = broker(here.path(), vec![]);
        let mut view = image(vec![]);
        let mut other = view.brokers[&BrokerId(1)].clone();
        other.id = BrokerId(2);
        for endpoint in other.endpoints.values_mut() {
            *endpoint = address.clone();
        }
        view.brokers.insert(other.id, other);
        for mut topic in [topic("a", 2, 0), topic("b", 1, 0), topic("c", 1, 0)] {
            for placed in topic.partitions.values_mut() {
                placed.replicas = vec![BrokerId(2)];
                placed.state.as_mut().expect("has one").leader = Some(BrokerId(2));
            }
            view.topics.insert(topic.name.clone(), Arc::new(topic));
        }
        asker.image.swap(Arc::new(view));

        let wanted = [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("gone", 0)];
        let wanted: BTreeSet<_> = wanted.map(|(t, p)| TopicPartition::new(t, p)).into();
        let ends = |broker: &Broker| {
            let ends = wanted.iter().map(|id| broker.ends.of(id));
            ends.collect::<Vec<_>>()
        };
        let mut asking = Asking::default();
        for _ in 0..2 {
            ask_leaders(&asker, &mut asking, wanted.clone()).await;
            let expected = [Some(0), Some(3), Some(1), None, None];
            assert_eq!(ends(&asker), expected, "c is not led there");
        }
        assert!(leader.tasks.stop(Duration::from_secs(10)).await);
        ask_leaders(&asker, &mut asking, wanted.clone()).await;
        assert_eq!(ends(&asker), [None; 5]);
        apply(&asker, vec![]);
    }
}
