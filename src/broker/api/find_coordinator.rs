//! FindCoordinator (10): which broker a group's members talk to.
//!
//! Versions 0-6. v1 adds the kind of key and a message, v4 several keys. The broker is the leader of the
//! group's partition of `__consumer_offsets`; the topic is made on first use, and until it has a leader the
//! answer is COORDINATOR_NOT_AVAILABLE, which clients retry. Transactions and share groups are not served:
//! a retriable code would let a producer wait for ever, so those get INVALID_REQUEST with a reason.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::coordinator::{OFFSETS_TOPIC, partition_for};
use crate::broker::image::{BrokerImage, Image};

/// The route.
pub const ROUTE: Route = crate::route!(FindCoordinator, FindCoordinatorRequest, 0..=6, handle);

const GROUP: i8 = 0;

async fn handle(
    broker: &Broker,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if request.key_type == GROUP && !broker.image.load().topics.contains_key(OFFSETS_TOPIC) {
        // A refusal shows below: there is no coordinator yet.
        let _ = broker.cluster.ensure_internal_topic(OFFSETS_TOPIC).await;
    }
    let image = broker.image.load();
    let one = |key: StrBytes| {
        let mut answer = find(&image, context, request.key_type, &key);
        answer.key = key;
        answer
    };
    if context.version >= 4 {
        let all = request.coordinator_keys.into_iter().map(one).collect();
        return FindCoordinatorResponse::default().with_coordinators(all);
    }
    let found = one(request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message.filter(|_| context.version >= 1))
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(image: &Image, context: &Context, key_type: i8, key: &str) -> Coordinator {
    if key_type != GROUP {
        let what = match key_type {
            1 => "Transactions are not supported by this broker.",
            2 => "Share groups are not supported by this broker.",
            _ => "Unknown coordinator type.",
        };
        return refuse(ResponseError::InvalidRequest, what);
    }
    match leader(image, key) {
        Some(leader) => match leader.endpoints.get(&*context.listener) {
            Some(endpoint) => Coordinator::default()
                .with_node_id(BrokerId(leader.id.0))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port)),
            None => {
                let what = "The coordinator does not have the listener that was asked.";
                refuse(ResponseError::CoordinatorNotAvailable, what)
            }
        },
        None => {
            let what = "The coordinator is not available.";
            refuse(ResponseError::CoordinatorNotAvailable, what)
        }
    }
}

fn leader<'a>(image: &'a Image, group_id: &str) -> Option<&'a BrokerImage> {
    let topic = image.topic(OFFSETS_TOPIC)?;
    let partitions = i32::try_from(topic.partitions.len()).ok()?;
    let partition = topic.partitions.get(&partition_for(group_id, partitions))?;
    image.brokers.get(&partition.leader()?)
}

fn refuse(error: ResponseError, what: &'static str) -> Coordinator {
    Coordinator::default()
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_static_str(what)))
        .with_node_id(BrokerId(-1))
        .with_port(-1)
}
