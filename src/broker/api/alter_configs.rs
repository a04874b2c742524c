//! AlterConfigs (33): all settings of a resource at once; what is not named falls back to its default.
//!
//! Versions 0-2, v2 is flexible. Deprecated in Kafka for IncrementalAlterConfigs; older librdkafka and
//! kafkajs send it. A success has no message at all, as Kafka's.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

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
    let resources = request.resources.into_iter().map(|resource| Resource {
        kind: resource.resource_type,
        name: resource.resource_name.clone(),
        alterations: alterations(resource),
    });
    let answers = alter_all(broker, resources, true, request.validate_only).await;
    AlterConfigsResponse::default().with_responses(answers)
}

/// What a request wants of one resource.
pub(super) struct Resource {
    pub kind: i8,
    pub name: StrBytes,
    pub alterations: Result<BTreeMap<String, Alteration>, Refusal>,
}

/// Alters resource after resource. With `replace` what is not named falls back to its default.
pub(super) async fn alter_all(
    broker: &Broker,
    resources: impl Iterator<Item = Resource>,
    replace: bool,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let mut answers = Vec::new();
    for resource in resources {
        let Resource {
            kind,
            name,
            alterations,
        } = resource;
        let altered = async {
            let entity = Entity::altered(kind, &name, broker.id)?;
            let cluster = &broker.cluster;
            cluster
                .alter_config(&entity, &alterations?, replace, validate_only)
                .await
        };
        let refused = altered.await.err();
        let mut answer = AlterConfigsResourceResponse::default()
            .with_error_message(None)
            .with_resource_type(kind)
            .with_resource_name(name);
        if let Some(refusal) = refused {
            answer.error_code = refusal.error.code();
            answer.error_message = refusal.text();
        }
        answers.push(answer);
    }
    answers
}

fn alterations(resource: AlterConfigsResource) -> Result<BTreeMap<String, Alteration>, Refusal> {
    let mut alterations = BTreeMap::new();
    for config in resource.configs {
        let name = config.name.to_string();
        let Some(value) = config.value else {
            let message = format!("Null value not supported for : {name}");
            return Err(Refusal::because(ResponseError::InvalidRequest, message));
        };
        alterations.insert(name, Alteration::Set(value.to_string()));
    }
    Ok(alterations)
}
