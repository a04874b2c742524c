//! InitProducerId (22): an id for an idempotent producer.
//!
//! Versions 0-5. A producer without a transactional id always gets a new id with epoch 0 (an id and
//! epoch that it brings along, v3, are of no use to it). Transactions are not served yet: a
//! transactional id gets UNSUPPORTED_VERSION, which no client retries.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tracing::warn;

use super::{Context, Route};
use crate::broker::Broker;

/// The route.
pub const ROUTE: Route = crate::route!(InitProducerId, InitProducerIdRequest, 0..=5, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return refused(ResponseError::InvalidRequest),
        Some(_) => {
            warn!(client = ?context.client_id, "refused a transactional producer: transactions are not supported yet");
            return refused(ResponseError::UnsupportedVersion);
        }
    }
    match broker.cluster.allocate_producer_id().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id.0))
            .with_producer_epoch(0),
        // Clients retry this one, as ZooKeeper may be back soon.
        Err(refusal) if refusal.error == ResponseError::RequestTimedOut => {
            refused(ResponseError::CoordinatorLoadInProgress)
        }
        Err(refusal) => refused(refusal.error),
    }
}
