//! OffsetFetch (9): the positions that groups committed.
//!
//! Versions 1-9 (the crate has no v10, which names topics by id). v2 may ask for all partitions (null
//! topics), v5 adds the leader epoch, v7 require_stable, v8 several groups in one request, v9 the member
//! epoch of KIP-848, which classic groups do not have. A partition without an offset is -1, not an error. No
//! commit is ever unstable here: transactions are not served, and a commit shows only when it is durable.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::record::CommittedOffset;
use crate::common::ids::TopicPartition;

/// The route.
pub const ROUTE: Route = crate::route!(OffsetFetch, OffsetFetchRequest, 1..=9, handle);

/// Topics with their partitions, in the order of the answer.
type Wanted = Vec<(TopicName, Vec<i32>)>;

async fn handle(
    broker: &Broker,
    context: &Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version < 8 {
        return single(broker, context.version, request);
    }
    let groups = request.groups.into_iter().map(|group| {
        let wanted = group.topics.map(|topics| {
            let pair = topics
                .into_iter()
                .map(|topic| (topic.name, topic.partition_indexes));
            pair.collect()
        });
        let response = OffsetFetchResponseGroup::default();
        let response = match fetch(broker, &group.group_id, wanted) {
            Ok(topics) => {
                let topics = topics.into_iter().map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|(index, value)| {
                        let value = Value::from(value);
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(index)
                            .with_committed_offset(value.offset)
                            .with_committed_leader_epoch(value.leader_epoch)
                            .with_metadata(Some(value.metadata))
                    });
                    let partitions = partitions.collect();
                    OffsetFetchResponseTopics::default()
                        .with_name(name)
                        .with_partitions(partitions)
                });
                response.with_topics(topics.collect())
            }
            Err((error, _)) => response.with_error_code(error.code()),
        };
        response.with_group_id(group.group_id)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn single(broker: &Broker, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.map(|topics| {
        let pair = topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes));
        pair.collect::<Wanted>()
    });
    // v1 had no null and asked for nothing with an empty list.
    let (topics, error) = match fetch(broker, &request.group_id, topics) {
        Ok(topics) => (topics, 0),
        Err((error, wanted)) if version < 2 => {
            let none = |index| (index, None);
            let all = wanted.unwrap_or_default().into_iter();
            let topics = all.map(|(name, all)| (name, all.into_iter().map(none).collect()));
            (topics.collect(), error.code())
        }
        Err((error, _)) => (Vec::new(), error.code()),
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, value)| {
            let value = Value::from(value);
            let leader_epoch = if version >= 5 { value.leader_epoch } else { -1 };
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(value.offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(value.metadata))
                .with_error_code(if version < 2 { error } else { 0 })
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    OffsetFetchResponse::default()
        .with_topics(topics.collect())
        .with_error_code(if version >= 2 { error } else { 0 })
}

type Found = Vec<(TopicName, Vec<(i32, Option<CommittedOffset>)>)>;

/// One group's offsets in the shape of the answer; an error gives the question back.
fn fetch(
    broker: &Broker,
    group_id: &str,
    wanted: Option<Wanted>,
) -> Result<Found, (ResponseError, Option<Wanted>)> {
    let Some(wanted) = wanted else {
        let all = broker
            .groups
            .fetch_offsets(group_id, None)
            .map_err(|error| (error, None))?;
        let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, value) in all {
            topics
                .entry(id.topic)
                .or_default()
                .push((id.partition, Some(value)));
        }
        let name = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
        return Ok(topics
            .into_iter()
            .map(|(topic, all)| (name(&topic), all))
            .collect());
    };
    let ids = wanted.iter().flat_map(|(name, partitions)| {
        let id = |index: &i32| TopicPartition::new(name.as_str(), *index);
        partitions.iter().map(id)
    });
    let ids: Vec<_> = ids.collect();
    let mut found = match broker.groups.fetch_offsets(group_id, Some(&ids)) {
        Ok(found) => found,
        Err(error) => return Err((error, Some(wanted))),
    };
    let topics = wanted.into_iter().map(|(name, partitions)| {
        let values = partitions.into_iter().map(|index| {
            let id = TopicPartition::new(name.as_str(), index);
            (index, found.remove(&id))
        });
        let values = values.collect();
        (name, values)
    });
    Ok(topics.collect())
}

/// What the wire says of an offset, or of none.
struct Value {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

impl From<Option<CommittedOffset>> for Value {
    fn from(found: Option<CommittedOffset>) -> Value {
        match found {
            None => Value {
                offset: -1,
                leader_epoch: -1,
                metadata: StrBytes::default(),
            },
            Some(found) => Value {
                offset: found.offset,
                leader_epoch: found.leader_epoch.0,
                metadata: StrBytes::from_string(found.metadata.to_string()),
            },
        }
    }
}
