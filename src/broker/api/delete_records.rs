//! DeleteRecords (21): the first offset of a partition moves up.
//!
//! Versions 0-2, v2 is flexible. -1 stands for the high watermark. Topics that are compacted only are
//! refused, as in Kafka.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::partition::is_internal_topic;
use crate::common::ids::Offset;
use crate::common::tasks;
use crate::config::TopicConfig;

/// The route.
pub const ROUTE: Route = crate::route!(DeleteRecords, DeleteRecordsRequest, 0..=2, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let index = wanted.partition_index;
            let deleted = delete(broker, &topic.name, index, wanted.offset).await;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            partitions.push(match deleted {
                Ok(low) => result.with_low_watermark(low.0),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        response.topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    response
}

async fn delete(
    broker: &Broker,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<Offset, ResponseError> {
    if is_internal_topic(topic) {
        return Err(ResponseError::InvalidTopicException);
    }
    let image = broker.image.load();
    let known = image
        .topic(topic)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !TopicConfig::resolve(&broker.config.broker, &known.config).deletes() {
        return Err(ResponseError::PolicyViolation);
    }
    let partition = broker.replicas.leader(topic, index)?;
    tasks::blocking(move || {
        let high_watermark = partition.high_watermark();
        let offset = match offset {
            -1 => high_watermark,
            said => Offset(said),
        };
        if offset.0 < 0 || offset > high_watermark {
            return Err(ResponseError::OffsetOutOfRange);
        }
        partition
            .log()
            .delete_records_before(offset, high_watermark)
            .map_err(|_| ResponseError::KafkaStorageError)
    })
    .await
}
