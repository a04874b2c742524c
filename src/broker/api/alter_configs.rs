//! AlterConfigs (33): all settings of a resource at once; what is not named falls back to its default.
//!
//! Versions 0-2, v2 is flexible. Deprecated in Kafka for IncrementalAlterConfigs; older librdkafka and
//! kafkajs send it.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::{Alteration, Entity, Refusal};

/// The route.
pub const ROUTE: Route = crate::route!(AlterConfigs, AlterConfigsRequest, 0..=2, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let mut answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        if let Err(refusal) = alter(broker, resource, request.validate_only).await {
            answer.error_code = refusal.error.code();
            answer.error_message = refusal.text();
        }
        response.responses.push(answer);
    }
    response
}

async fn alter(
    broker: &Broker,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let entity = Entity::of(resource.resource_type, &resource.resource_name, broker.id)?;
    let mut alterations = BTreeMap::new();
    for config in resource.configs {
        let name = config.name.to_string();
        let Some(value) = config.value else {
            let message = format!("Null value not supported for : {name}");
            return Err(Refusal::because(ResponseError::InvalidRequest, message));
        };
        alterations.insert(name, Alteration::Set(value.to_string()));
    }
    let cluster = &broker.cluster;
    cluster
        .alter_config(&entity, &alterations, true, validate_only)
        .await
}
