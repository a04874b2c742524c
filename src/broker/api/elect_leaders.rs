//! ElectLeaders (43): partitions go to their preferred leaders, or get any leader.
//!
//! Versions 0-2. v1 adds the type of election, v2 is flexible. Null asks for all partitions; then those
//! that need no election are left out of the answer, as in Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::peer_watch;
use crate::common::ids::TopicPartition;

/// The route.
pub const ROUTE: Route = crate::route!(ElectLeaders, ElectLeadersRequest, 0..=2, handle);

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return ElectLeadersResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    let everything = request.topic_partitions.is_none();
    let partitions: Vec<TopicPartition> = match request.topic_partitions {
        Some(topics) => topics
            .into_iter()
            .flat_map(|topic| {
                let name = topic.topic.to_string();
                let ids = topic.partitions.into_iter();
                ids.map(move |partition| TopicPartition::new(name.as_str(), partition))
            })
            .collect(),
        None => {
            let image = broker.image.load();
            let topics = image.topics.values();
            topics
                .flat_map(|topic| {
                    let ids = topic.partitions.keys();
                    ids.map(|partition| TopicPartition::new(topic.name.clone(), *partition))
                })
                .collect()
        }
    };
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let unclean = request.election_type == UNCLEAN;
    let known = peer_watch::answering(broker).await;
    let results = broker
        .cluster
        .elect_leaders(&partitions, &known, unclean, limit)
        .await;
    let mut by_topic: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (id, result) in partitions.iter().zip(results) {
        let mut answer = PartitionResult::default()
            .with_error_message(None)
            .with_partition_id(id.partition);
        if let Err(refusal) = result {
            if everything && refusal.error == ResponseError::ElectionNotNeeded {
                continue;
            }
            answer.error_code = refusal.error.code();
            answer.error_message = refusal.text();
        }
        by_topic
            .entry(id.topic.to_string())
            .or_default()
            .push(answer);
    }
    let results = by_topic.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(TopicName(StrBytes::from_string(topic)))
            .with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}
