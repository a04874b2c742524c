//! DescribeConfigs (32): settings of topics and of this broker.
//!
//! Versions 1-4. v1 adds synonyms, v3 types and documentation, v4 is flexible. Broker settings are
//! answered by that broker alone; the empty name is what all brokers were told dynamically.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::{Entity, Refusal};
use crate::config::{
    ConfigEntry, ConfigSource, DynamicConfig, Synonym, describe_broker, describe_topic,
};

/// The route.
pub const ROUTE: Route = crate::route!(DescribeConfigs, DescribeConfigsRequest, 1..=4, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let documentation = request.include_documentation;
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(broker, &resource) {
            Ok(entries) => {
                let keys = resource.configuration_keys.as_ref();
                // As in Kafka, an empty list of names asks for all.
                let asked = |entry: &ConfigEntry| {
                    keys.is_none_or(|keys| {
                        keys.is_empty() || keys.iter().any(|key| key.as_str() == entry.name)
                    })
                };
                let entries = entries.into_iter().filter(asked);
                result.with_configs(
                    entries
                        .map(|entry| shown(entry, synonyms, documentation))
                        .collect(),
                )
            }
            // Where only the code speaks, Kafka's message is empty here, not null.
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(refusal.text().or_else(|| Some(StrBytes::default()))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let dynamic = broker.dynamic_config();
    match Entity::described(resource.resource_type, &resource.resource_name, broker.id)? {
        Entity::Topic(name) => {
            let image = broker.image.load();
            let topic = image.topic(&name);
            let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
            Ok(describe_topic(&broker.config, &dynamic, &topic.config))
        }
        Entity::Broker(None) => {
            let cluster = DynamicConfig {
                broker: BTreeMap::new(),
                ..dynamic
            };
            let mut entries = describe_broker(&broker.config, &cluster);
            // What one broker was told or knows by itself is no concern of the whole cluster.
            let cluster_wide =
                |synonym: &Synonym| synonym.source == ConfigSource::DynamicDefaultBroker;
            for entry in &mut entries {
                entry.synonyms.retain(cluster_wide);
            }
            entries.retain(|entry| entry.source == ConfigSource::DynamicDefaultBroker);
            Ok(entries)
        }
        Entity::Broker(Some(_)) => Ok(describe_broker(&broker.config, &dynamic)),
    }
}

fn shown(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let chain = entry.synonyms.into_iter().filter(|_| synonyms);
    let chain = chain.map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_string(synonym.name))
            .with_value(synonym.value.map(StrBytes::from_string))
            .with_source(synonym.source as i8)
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(chain.collect())
        .with_config_type(entry.kind as i8)
        .with_documentation(documentation.then(|| StrBytes::from_static_str(entry.documentation)))
}
