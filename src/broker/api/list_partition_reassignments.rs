//! ListPartitionReassignments (46): which replicas move.
//!
//! Version 0. `kafka-topics --describe` always asks, too.

use std::collections::BTreeSet;

use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::common::ids;

/// The route.
pub const ROUTE: Route = crate::route!(
    ListPartitionReassignments,
    ListPartitionReassignmentsRequest,
    0..=0,
    handle
);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = broker.image.load();
    let asked: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        let pairs = topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let indexes = topic.partition_indexes.into_iter();
            indexes.map(move |index| (name.clone(), index))
        });
        pairs.collect()
    });
    let ids = |list: &[ids::BrokerId]| list.iter().map(|id| BrokerId(id.0)).collect();
    let mut topics = Vec::new();
    for topic in image.topics.values() {
        let moving = topic.partitions.iter().filter(|(index, partition)| {
            let wanted = asked
                .as_ref()
                .is_none_or(|asked| asked.contains(&(topic.name.to_string(), **index)));
            wanted && !(partition.adding.is_empty() && partition.removing.is_empty())
        });
        let partitions: Vec<_> = moving
            .map(|(index, partition)| {
                OngoingPartitionReassignment::default()
                    .with_partition_index(*index)
                    .with_replicas(ids(&partition.replicas))
                    .with_adding_replicas(ids(&partition.adding))
                    .with_removing_replicas(ids(&partition.removing))
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(
                OngoingTopicReassignment::default()
                    .with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
                    .with_partitions(partitions),
            );
        }
    }
    ListPartitionReassignmentsResponse::default().with_topics(topics)
}
