//! IncrementalAlterConfigs (44): settings one by one; lists grow and shrink.
//!
//! Versions 0-1, v1 is flexible. A resource is altered as a whole or not at all.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::alter_configs::{Resource, alter_all};
use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::{Alteration, Refusal};

/// The route.
pub const ROUTE: Route = crate::route!(
    IncrementalAlterConfigs,
    IncrementalAlterConfigsRequest,
    0..=1,
    handle
);

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const OPERATIONS: [&str; 4] = ["SET", "DELETE", "APPEND", "SUBTRACT"];

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let resources = request.resources.into_iter().map(|resource| Resource {
        kind: resource.resource_type,
        name: resource.resource_name.clone(),
        alterations: alterations(resource),
    });
    let answers = alter_all(broker, resources, false, request.validate_only).await;
    let answers = answers.into_iter().map(|answer| {
        AlterConfigsResourceResponse::default()
            .with_error_code(answer.error_code)
            .with_error_message(answer.error_message)
            .with_resource_type(answer.resource_type)
            .with_resource_name(answer.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(answers.collect())
}

fn alterations(resource: AlterConfigsResource) -> Result<BTreeMap<String, Alteration>, Refusal> {
    let invalid = |message: String| Refusal::because(ResponseError::InvalidRequest, message);
    let mut alterations = BTreeMap::new();
    let (mut twice, mut nulls) = (Vec::new(), Vec::new());
    for config in resource.configs {
        let name = config.name.to_string();
        let value = config.value.map(|value| value.to_string());
        let operation = config.config_operation;
        let Some(verb) = usize::try_from(operation)
            .ok()
            .and_then(|operation| OPERATIONS.get(operation))
        else {
            return Err(invalid(format!("Unknown operation type {operation}")));
        };
        if value.is_none() && operation != DELETE {
            nulls.push(format!("{verb}:{name}"));
        }
        let value = value.unwrap_or_default();
        let alteration = match operation {
            SET => Alteration::Set(value),
            DELETE => Alteration::Delete,
            APPEND => Alteration::Append(value),
            _ => Alteration::Subtract(value),
        };
        if alterations.insert(name.clone(), alteration).is_some() && !twice.contains(&name) {
            twice.push(name);
        }
    }
    if !twice.is_empty() {
        let twice = twice.join(",");
        return Err(invalid(format!(
            "Error due to duplicate config keys : {twice}"
        )));
    }
    if !nulls.is_empty() {
        let nulls = nulls.join(",");
        return Err(invalid(format!("Null value not supported for : {nulls}")));
    }
    Ok(alterations)
}
