//! CreatePartitions (37): topics grow.
//!
//! Versions 0-3. The count is the new total; assignments are for the new partitions only. v2 is
//! flexible, v3 may throttle (never does here).

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::Refusal;
use crate::common::ids::BrokerId;

/// The route.
pub const ROUTE: Route = crate::route!(CreatePartitions, CreatePartitionsRequest, 0..=3, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = tokio::time::Instant::now() + limit;
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(topic.name.clone()))
        .map(|topic| topic.name.clone())
        .collect();
    let mut response = CreatePartitionsResponse::default();
    let mut answered = BTreeSet::new();
    for topic in request.topics {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let result = if twice.contains(&topic.name) {
            let message = "Duplicate topic in request.";
            Err(Refusal::because(ResponseError::InvalidRequest, message))
        } else {
            let ids = |broker_ids: Vec<kafka_protocol::messages::BrokerId>| {
                broker_ids.iter().map(|id| BrokerId(id.0)).collect()
            };
            let assignments = topic.assignments.map(|given| {
                let given = given.into_iter();
                given.map(|replicas| ids(replicas.broker_ids)).collect()
            });
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let cluster = &broker.cluster;
            cluster
                .create_partitions(
                    &topic.name,
                    topic.count,
                    assignments,
                    request.validate_only,
                    left,
                )
                .await
        };
        let mut answer = CreatePartitionsTopicResult::default().with_name(topic.name);
        if let Err(refusal) = result {
            answer.error_code = refusal.error.code();
            answer.error_message = refusal.text();
        }
        response.results.push(answer);
    }
    response
}
