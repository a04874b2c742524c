//! CreateTopics (19): topics by count or by assignment, at any broker.
//!
//! Versions 2-7. v4 defaults by -1, v5 tells the settings of what was created, v7 its id. Answers when
//! every partition has a leader; when that takes longer than the client's timeout, the creation goes
//! on and the answer is REQUEST_TIMED_OUT.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::{Created, NewTopic, Refusal};
use crate::common::ids::BrokerId;
use crate::config::describe_topic;

/// The route.
pub const ROUTE: Route = crate::route!(CreateTopics, CreateTopicsRequest, 2..=7, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.clone()) {
            twice.insert(topic.name.clone());
        }
    }
    let mut response = CreateTopicsResponse::default();
    for name in &twice {
        let message = "Found multiple entries for this topic.";
        let refusal = Refusal::because(ResponseError::InvalidRequest, message);
        response.topics.push(refused(name.clone(), &refusal));
    }
    let wanted: Vec<CreatableTopic> = request
        .topics
        .into_iter()
        .filter(|topic| !twice.contains(&topic.name))
        .collect();
    let names: Vec<TopicName> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let (sound, wrong): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .map(new_topic)
        .partition(|topic| topic.is_ok());
    drop(wrong);
    let sound: Vec<NewTopic> = sound.into_iter().flatten().collect();
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let cluster = &broker.cluster;
    let mut results: BTreeMap<String, Result<Created, Refusal>> = BTreeMap::new();
    let asked: Vec<String> = sound.iter().map(|topic| topic.name.clone()).collect();
    let made = cluster
        .create_topics(sound, request.validate_only, limit)
        .await;
    results.extend(asked.into_iter().zip(made));
    let mut describe = Describe::new(broker, context.version);
    for name in names {
        response.topics.push(match results.remove(name.as_str()) {
            Some(Ok(created)) => describe.created(name, created),
            Some(Err(refusal)) => refused(name, &refusal),
            None => {
                let message = "Duplicate partition index in the replica assignment.";
                refused(
                    name,
                    &Refusal::because(ResponseError::InvalidReplicaAssignment, message),
                )
            }
        });
    }
    response
}

/// A partition that is assigned twice has no place in a map.
fn new_topic(topic: CreatableTopic) -> Result<NewTopic, ()> {
    let mut assignments = BTreeMap::new();
    for assignment in topic.assignments {
        let replicas = assignment
            .broker_ids
            .iter()
            .map(|id| BrokerId(id.0))
            .collect();
        if assignments
            .insert(assignment.partition_index, replicas)
            .is_some()
        {
            return Err(());
        }
    }
    let config = topic.configs.into_iter();
    let config = config.map(|entry| {
        (
            entry.name.to_string(),
            entry.value.map(|value| value.to_string()),
        )
    });
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        config: config.collect(),
    })
}

fn refused(name: TopicName, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(refusal.error.code())
        .with_error_message(refusal.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

/// Describes new topics; most of a large request say nothing themselves, and look alike.
struct Describe<'a> {
    broker: &'a Broker,
    wanted: bool,
    plain: Option<Vec<CreatableTopicConfigs>>,
}

impl<'a> Describe<'a> {
    fn new(broker: &'a Broker, version: i16) -> Describe<'a> {
        Describe {
            broker,
            wanted: version >= 5,
            plain: None,
        }
    }

    fn created(&mut self, name: TopicName, created: Created) -> CreatableTopicResult {
        let configs = self.configs(&created.config);
        CreatableTopicResult::default()
            .with_name(name)
            .with_error_message(None)
            .with_topic_id(created.id)
            .with_num_partitions(created.partitions)
            .with_replication_factor(created.replication_factor)
            .with_configs(Some(configs))
    }

    fn configs(&mut self, overrides: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
        if !self.wanted {
            return Vec::new();
        }
        if overrides.is_empty()
            && let Some(plain) = &self.plain
        {
            return plain.clone();
        }
        let dynamic = self.broker.dynamic_config();
        let entries = describe_topic(&self.broker.config, &dynamic, overrides);
        let configs: Vec<CreatableTopicConfigs> = entries
            .into_iter()
            .map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_static_str(entry.name))
                    .with_value(entry.value.map(StrBytes::from_string))
                    .with_read_only(entry.read_only)
                    .with_config_source(entry.source as i8)
                    .with_is_sensitive(entry.sensitive)
            })
            .collect();
        if overrides.is_empty() {
            self.plain = Some(configs.clone());
        }
        configs
    }
}
