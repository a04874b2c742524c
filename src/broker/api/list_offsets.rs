//! ListOffsets (2): the first, the last, or the offset at a time, of each partition.
//!
//! Versions 1-10. v2 isolation, v4 leader epochs, v7 the largest timestamp (-3), v8 the first local
//! offset (-4; all is local here), v9 the last tiered one (-5; there is none). Never waits: a new leader
//! whose high watermark still lags says OFFSET_NOT_AVAILABLE rather than an offset that goes back
//! (KIP-207; v5, before that LEADER_NOT_AVAILABLE). A follower that asks gets the log's end.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::partition::{Isolation, Partition};
use crate::common::ids::{LeaderEpoch, Offset};

/// The route.
pub const ROUTE: Route = crate::route!(ListOffsets, ListOffsetsRequest, 1..=10, handle);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

async fn handle(
    broker: &Broker,
    context: &Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let reader = match (request.replica_id.0, request.isolation_level) {
        (0.., _) => Isolation::LogEnd,
        (_, 1) => Isolation::LastStable,
        _ => Isolation::HighWatermark,
    };
    let mut seen = BTreeSet::new();
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let mut answered = ListOffsetsTopicResponse::default();
        for wanted in &topic.partitions {
            let fresh = seen.insert((topic.name.clone(), wanted.partition_index));
            let found = if fresh {
                find(broker, context.version, &topic.name, wanted, reader)
            } else {
                Err(ResponseError::InvalidRequest)
            };
            answered
                .partitions
                .push(answer(context.version, wanted.partition_index, found));
        }
        response.topics.push(answered.with_name(topic.name));
    }
    response
}

/// Offset, timestamp and the epoch that wrote it.
type Found = Option<(Offset, i64, Option<LeaderEpoch>)>;

fn find(
    broker: &Broker,
    version: i16,
    topic: &str,
    wanted: &ListOffsetsPartition,
    reader: Isolation,
) -> Result<Found, ResponseError> {
    let partition = broker.replicas.leader(topic, wanted.partition_index)?;
    partition.check_epoch(wanted.current_leader_epoch)?;
    let lags = reader != Isolation::LogEnd && partition.high_watermark_lags();
    let found = look_up(&partition, version, wanted.timestamp, reader)?;
    // What is visible now may be less than what was visible under the leader before.
    if lags && (wanted.timestamp == LATEST || wanted.timestamp >= 0 && found.is_none()) {
        return Err(if version >= 5 {
            ResponseError::OffsetNotAvailable
        } else {
            ResponseError::LeaderNotAvailable
        });
    }
    Ok(found)
}

fn look_up(
    partition: &Partition,
    version: i16,
    timestamp: i64,
    reader: Isolation,
) -> Result<Found, ResponseError> {
    let start = |partition: &Partition| {
        let offset = partition.log_start_offset();
        Some((offset, -1, partition.log().epoch_for_offset(offset)))
    };
    let by_time = |found: Option<crate::broker::partition::TimestampOffset>| {
        found.map(|found| (found.offset, found.timestamp, Some(found.leader_epoch)))
    };
    match timestamp {
        LATEST => {
            let offset = match reader {
                Isolation::LogEnd => partition.log_end_offset(),
                Isolation::HighWatermark => partition.high_watermark(),
                Isolation::LastStable => partition.last_stable_offset(),
            };
            Ok(Some((offset, -1, Some(partition.leader_epoch()))))
        }
        EARLIEST => Ok(start(partition)),
        MAX_TIMESTAMP if version >= 7 => partition.max_timestamp().map(by_time),
        EARLIEST_LOCAL if version >= 8 => Ok(start(partition)),
        LATEST_TIERED if version >= 9 => Ok(None),
        timestamp if timestamp >= 0 => partition.offset_for_timestamp(timestamp).map(by_time),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

fn answer(
    version: i16,
    partition: i32,
    found: Result<Found, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(partition)
        .with_offset(-1)
        .with_timestamp(-1);
    match found {
        Err(error) => answer.with_error_code(error.code()),
        Ok(None) => answer,
        Ok(Some((offset, timestamp, epoch))) => {
            let answer = answer.with_offset(offset.0).with_timestamp(timestamp);
            match epoch {
                Some(epoch) if version >= 4 => answer.with_leader_epoch(epoch.0),
                _ => answer,
            }
        }
    }
}
