//! OffsetDelete (47): some of a group's offsets go.
//!
//! Version 0, in the old encoding. A topic that a living consumer group subscribes to keeps its offsets:
//! GROUP_SUBSCRIBED_TO_TOPIC.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::common::ids::TopicPartition;

/// The route.
pub const ROUTE: Route = crate::route!(OffsetDelete, OffsetDeleteRequest, 0..=0, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let image = broker.image.load();
    let known = |id: &TopicPartition| image.partition(&id.topic, id.partition).is_some();
    let ids = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|asked| TopicPartition::new(topic.name.as_str(), asked.partition_index))
    });
    let wanted = ids.filter(|id| known(id)).collect();
    let errors = match broker
        .groups
        .delete_offsets(&request.group_id, wanted)
        .await
    {
        Ok(errors) => errors,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut errors = errors.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let id = TopicPartition::new(topic.name.as_str(), asked.partition_index);
            let error = if known(&id) {
                errors.next().flatten()
            } else {
                Some(ResponseError::UnknownTopicOrPartition)
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(error.map_or(0, |error| error.code()))
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
