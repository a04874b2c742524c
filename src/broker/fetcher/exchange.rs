//! Between a follower's wishes and the wire: Fetch requests from what a session names, and the
//! connection to the leader.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Deps;
use super::session::{Asked, Request};
use crate::client::ClientError;
use crate::client::connection::{Connection, Settings};
use crate::common::ids::{BrokerId, TopicPartition, Zxid};

/// The newest version that is spoken: 17 adds directories of replicas, which mean nothing here.
pub(super) const FETCH_VERSION_MAX: i16 = 16;
/// For the TCP handshake and the version exchange with a leader.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What an answer may have beside its records.
const ANSWER_ENVELOPE_BYTES: usize = 64 << 20;

/// Dials the leader, at the address that the image has for it; none where it has none.
pub(super) async fn connect(
    deps: &Deps,
    (leader, number): super::Place,
) -> Result<Option<Connection>, ClientError> {
    let image = deps.image.load();
    let listener = &deps.config.listeners.inter_broker;
    let live = image.brokers.get(&leader);
    let Some(address) = live.and_then(|live| live.endpoints.get(listener)) else {
        return Ok(None);
    };
    let broker = &deps.config.broker;
    let records = broker.replica_fetch_response_max_bytes.max(0) as usize
        + broker.replica_fetch_max_bytes.max(0) as usize;
    let settings = Settings {
        connect_timeout: CONNECT_LIMIT,
        request_timeout: millis(broker.replica_socket_timeout_ms),
        // One batch that is larger than the limits comes all the same.
        response_bytes_max: records
            .max(i32::MAX as usize / 8)
            .saturating_add(ANSWER_ENVELOPE_BYTES),
        ..Settings::new(format!("broker-{}-fetcher-{number}", deps.id))
    };
    let connection = Connection::open(&deps.world, address, &settings).await?;
    Ok(Some(connection))
}

pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Puts a request into words.
pub(super) fn fetch_request(deps: &Deps, request: Request, version: i16) -> FetchRequest {
    let broker = &deps.config.broker;
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<(TopicPartition, Uuid)> = None;
    for (id, asked) in request.named {
        let same = last
            .as_ref()
            .is_some_and(|(last, topic)| last.topic == id.topic && *topic == asked.topic_id);
        if !same {
            topics.push(
                FetchTopic::default()
                    .with_topic(topic_name(&id))
                    .with_topic_id(asked.topic_id),
            );
        }
        if let Some(topic) = topics.last_mut() {
            let item = partition(&id, &asked, broker.replica_fetch_max_bytes);
            topic.partitions.push(item);
        }
        last = Some((id, asked.topic_id));
    }
    let forgotten = request.forgotten.iter().map(|(id, topic_id)| {
        ForgottenTopic::default()
            .with_topic(topic_name(id))
            .with_topic_id(*topic_id)
            .with_partitions(vec![id.partition])
    });
    let fetch = FetchRequest::default()
        .with_max_wait_ms(broker.replica_fetch_wait_max_ms)
        .with_min_bytes(broker.replica_fetch_min_bytes)
        .with_max_bytes(broker.replica_fetch_response_max_bytes)
        .with_session_id(request.id)
        .with_session_epoch(request.epoch)
        .with_topics(topics)
        .with_forgotten_topics_data(forgotten.collect());
    let image = deps.image.load();
    let registered = image.brokers.get(&deps.id).map(|own| own.epoch);
    said_by(fetch, (deps.id, registered), version)
}

/// Where the replica's id goes depends on the version; only the newer ones have a place for its registration.
fn said_by(
    fetch: FetchRequest,
    (id, registered): (BrokerId, Option<Zxid>),
    version: i16,
) -> FetchRequest {
    if version >= 15 {
        let state = ReplicaState::default()
            .with_replica_id(id.0.into())
            .with_replica_epoch(registered.map_or(-1, |epoch| epoch.0));
        fetch.with_replica_state(state)
    } else {
        fetch.with_replica_id(id.0.into())
    }
}

fn topic_name(id: &TopicPartition) -> TopicName {
    TopicName(StrBytes::from_string(id.topic.to_string()))
}

fn partition(id: &TopicPartition, asked: &Asked, bytes_max: i32) -> FetchPartition {
    FetchPartition::default()
        .with_partition(id.partition)
        .with_current_leader_epoch(asked.epoch.0)
        .with_fetch_offset(asked.offset.0)
        .with_last_fetched_epoch(asked.last_epoch.map_or(-1, |epoch| epoch.0))
        .with_log_start_offset(asked.log_start.0)
        .with_partition_max_bytes(bytes_max)
}
