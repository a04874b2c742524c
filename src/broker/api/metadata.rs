//! Metadata (3): the brokers, and who leads which partition.
//!
//! Versions 0-13. v1 null means all topics, v4 a client may forbid creation, v5 offline replicas, v7
//! leader epochs, v8 authorized operations, v10 topic ids, v12 asks by id, v13 a top-level error
//! (never set). Addresses are those of the listener that the client came in by. Topics that are
//! missing are created where settings and client allow it, and answered as not yet available.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::image::{Image, PartitionImage, TopicImage};
use crate::broker::partition::is_internal_topic;
use crate::common::ids::{self, valid_topic_name};

/// The route.
pub const ROUTE: Route = crate::route!(Metadata, MetadataRequest, 0..=13, handle);

/// Everything that can be done to a cluster, as bits by the operation's code. Without an authorizer
/// everybody may: what Kafka's `AuthHelper` answers then.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The same for a topic.
const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

async fn handle(broker: &Broker, context: &Context, request: MetadataRequest) -> MetadataResponse {
    let image = broker.image.load();
    let view = View {
        image: &image,
        context,
        operations: request.include_topic_authorized_operations,
    };
    let mut response = view.cluster(broker);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let all = match &request.topics {
        None => true,
        Some(topics) => context.version == 0 && topics.is_empty(),
    };
    if all {
        let topics = image.topics.values();
        let live = topics.filter(|topic| !image.deleting.contains(&topic.name));
        response.topics = live.map(|topic| view.topic(topic)).collect();
        return response;
    }
    let create =
        request.allow_auto_topic_creation && broker.config.broker.auto_create_topics_enable;
    let mut asked = BTreeSet::new();
    for wanted in request.topics.unwrap_or_default() {
        if !asked.insert((wanted.name.clone(), wanted.topic_id)) {
            continue;
        }
        let topic = match view.find(&wanted) {
            Ok(topic) => view.topic(topic),
            Err((ResponseError::UnknownTopicOrPartition, Some(name))) if create => {
                match broker.cluster.auto_create(&name).await {
                    // Kafka lets clients ask again; here the topic can be used at once.
                    Ok(()) => {
                        let image = broker.image.load();
                        let view = View {
                            image: &image,
                            context,
                            operations: request.include_topic_authorized_operations,
                        };
                        match view.find(&wanted) {
                            Ok(topic) => view.topic(topic),
                            Err((error, name)) => view.missing(error, name, Uuid::nil()),
                        }
                    }
                    Err(refusal) => view.missing(refusal.error, Some(name), Uuid::nil()),
                }
            }
            Err((error, name)) => view.missing(error, name, wanted.topic_id),
        };
        response.topics.push(topic);
    }
    response
}

/// An image as one client sees it.
struct View<'a> {
    image: &'a Image,
    context: &'a Context,
    operations: bool,
}

impl View<'_> {
    fn cluster(&self, broker: &Broker) -> MetadataResponse {
        let controller = self
            .image
            .controller
            .filter(|id| self.image.brokers.contains_key(id));
        MetadataResponse::default()
            .with_brokers(self.brokers())
            .with_cluster_id(Some(StrBytes::from_string(broker.cluster_id.clone())))
            .with_controller_id(BrokerId(controller.map_or(-1, |id| id.0)))
    }

    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let brokers = self.image.brokers.values();
        brokers
            .filter_map(|broker| {
                let endpoint = broker.endpoints.get(&*self.context.listener)?;
                Some(
                    MetadataResponseBroker::default()
                        .with_node_id(BrokerId(broker.id.0))
                        .with_host(StrBytes::from_string(endpoint.host.clone()))
                        .with_port(i32::from(endpoint.port))
                        .with_rack(broker.rack.clone().map(StrBytes::from_string)),
                )
            })
            .collect()
    }

    /// The topic that is asked for; otherwise why not, and by which name.
    fn find(
        &self,
        wanted: &MetadataRequestTopic,
    ) -> Result<&Arc<TopicImage>, (ResponseError, Option<String>)> {
        let Some(name) = &wanted.name else {
            return self
                .image
                .topic_by_id(wanted.topic_id)
                .filter(|topic| !self.image.deleting.contains(&topic.name))
                .ok_or((ResponseError::UnknownTopicId, None));
        };
        let failed = |error| (error, Some(name.to_string()));
        if valid_topic_name(name).is_err() {
            return Err(failed(ResponseError::InvalidTopicException));
        }
        self.image
            .topic(name)
            .filter(|topic| !self.image.deleting.contains(&topic.name))
            .ok_or_else(|| failed(ResponseError::UnknownTopicOrPartition))
    }

    fn topic(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter();
        let response = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(
                topic.name.to_string(),
            ))))
            .with_topic_id(topic.id)
            .with_is_internal(is_internal_topic(&topic.name))
            .with_partitions(
                partitions
                    .map(|(index, placed)| self.partition(*index, placed))
                    .collect(),
            );
        if self.operations {
            response.with_topic_authorized_operations(TOPIC_OPERATIONS)
        } else {
            response
        }
    }

    fn missing(
        &self,
        error: ResponseError,
        name: Option<String>,
        id: Uuid,
    ) -> MetadataResponseTopic {
        // Before v12 the name cannot be null.
        let name = match name {
            None if self.context.version < 12 => Some(String::new()),
            name => name,
        };
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_is_internal(name.as_deref().is_some_and(is_internal_topic))
            .with_name(name.map(|name| TopicName(StrBytes::from_string(name))))
            .with_topic_id(id)
    }

    fn partition(&self, index: i32, placed: &PartitionImage) -> MetadataResponsePartition {
        let wire = |ids: &[ids::BrokerId]| ids.iter().map(|id| BrokerId(id.0)).collect::<Vec<_>>();
        let reachable = |id: &ids::BrokerId| {
            let broker = self.image.brokers.get(id);
            broker.map(|broker| broker.endpoints.contains_key(&*self.context.listener))
        };
        let leader = placed.leader();
        let (leader, error) = match leader.as_ref().map(reachable) {
            Some(Some(true)) => (leader, None),
            Some(Some(false)) if self.context.version >= 6 => {
                (None, Some(ResponseError::ListenerNotFound))
            }
            _ => (None, Some(ResponseError::LeaderNotAvailable)),
        };
        let offline: Vec<_> = placed
            .replicas
            .iter()
            .copied()
            .filter(|id| reachable(id) != Some(true) || placed.offline.contains(id))
            .collect();
        let response = MetadataResponsePartition::default()
            .with_error_code(error.map_or(0, |error| error.code()))
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.map_or(-1, |id| id.0)))
            .with_replica_nodes(wire(&placed.replicas))
            .with_isr_nodes(wire(
                placed.state.as_ref().map_or(&[], |state| &state.isr[..]),
            ));
        let response = if self.context.version >= 5 {
            response.with_offline_replicas(wire(&offline))
        } else {
            response
        };
        match &placed.state {
            Some(state) if self.context.version >= 7 => {
                response.with_leader_epoch(state.leader_epoch.0)
            }
            _ => response,
        }
    }
}
