//! OffsetCommit (8): a group's positions are written down.
//!
//! Versions 2-9. v2-4 may ask for a retention of their own, v6 adds the leader epoch, v7 static members, v9
//! tells an unknown group from an old generation. Answered when the offsets are on all in-sync replicas.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::classic::Identity;
use crate::broker::group::record::CommittedOffset;
use crate::common::ids::{LeaderEpoch, TopicPartition};

/// The route.
pub const ROUTE: Route = crate::route!(OffsetCommit, OffsetCommitRequest, 2..=9, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let sorted = sort(broker, &request);
    let identity = Identity {
        member_id: request.member_id.as_str().into(),
        instance_id: request
            .group_instance_id
            .as_ref()
            .map(|id| id.as_str().into()),
        generation: request.generation_id_or_member_epoch,
    };
    let mut result = Ok(());
    // Where every topic is unknown there is nothing to ask the group about.
    if !sorted.commits.is_empty() || !sorted.too_large.is_empty() {
        result = broker
            .groups
            .commit(&request.group_id, identity, sorted.commits)
            .await;
    }
    if context.version < 9 && result == Err(ResponseError::GroupIdNotFound) {
        result = Err(ResponseError::IllegalGeneration);
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let id = (topic.name.as_str(), partition.partition_index);
            let error = if sorted.unknown.contains(&TopicPartition::new(id.0, id.1)) {
                Some(ResponseError::UnknownTopicOrPartition)
            } else if let Err(error) = result {
                Some(error)
            } else if sorted.too_large.contains(&TopicPartition::new(id.0, id.1)) {
                Some(ResponseError::OffsetMetadataTooLarge)
            } else {
                None
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.map_or(0, |error| error.code()))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// The request's partitions by what can be done with them.
#[derive(Debug, Default)]
struct Sorted {
    commits: Vec<(TopicPartition, CommittedOffset)>,
    unknown: BTreeSet<TopicPartition>,
    too_large: BTreeSet<TopicPartition>,
}

fn sort(broker: &Broker, request: &OffsetCommitRequest) -> Sorted {
    let image = broker.image.load();
    let now_ms = broker.clock.wall_ms();
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms >= 0);
    let mut sorted = Sorted::default();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let id = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let metadata = partition.committed_metadata.as_ref();
            let metadata = metadata.map_or("", |text| text.as_str());
            if image.partition(&id.topic, id.partition).is_none() {
                sorted.unknown.insert(id);
            } else if metadata.encode_utf16().count() > broker.groups.offset_metadata_bytes_max() {
                sorted.too_large.insert(id);
            } else {
                let value = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    metadata: metadata.into(),
                    commit_timestamp_ms: now_ms,
                    expire_timestamp_ms: retention_ms.map(|ms| now_ms.saturating_add(ms)),
                };
                sorted.commits.push((id, value));
            }
        }
    }
    sorted
}
