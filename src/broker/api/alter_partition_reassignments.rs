//! AlterPartitionReassignments (45): replicas move to other brokers, or stop doing so.
//!
//! Version 0. Any broker takes the wish; the controller carries it out.

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};

use super::{Context, Route};
use crate::broker::Broker;
use crate::common::ids;

/// The route.
pub const ROUTE: Route = crate::route!(
    AlterPartitionReassignments,
    AlterPartitionReassignmentsRequest,
    0..=0,
    handle
);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let wishes: Vec<_> = topic
            .partitions
            .into_iter()
            .map(|partition| {
                let replicas = partition.replicas;
                let replicas =
                    replicas.map(|list| list.into_iter().map(|id| ids::BrokerId(id.0)).collect());
                (partition.partition_index, replicas)
            })
            .collect();
        let results = broker.cluster.reassign(&topic.name, &wishes).await;
        let partitions = wishes.iter().zip(results).map(|((index, _), result)| {
            let mut answer = ReassignablePartitionResponse::default()
                .with_error_message(None)
                .with_partition_index(*index);
            if let Err(refusal) = result {
                answer.error_code = refusal.error.code();
                answer.error_message = refusal.text();
            }
            answer
        });
        responses.push(
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect()),
        );
    }
    AlterPartitionReassignmentsResponse::default().with_responses(responses)
}
