//! OffsetForLeaderEpoch (23): where a leader's epoch ended, for clients after a change of leader.
//!
//! Versions 2-4. v3 adds the replica id, which changes nothing: only the leader answers, and consumers
//! and followers alike are told of the log's end.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::common::ids::{LeaderEpoch, Offset};

/// The route.
pub const ROUTE: Route = crate::route!(
    OffsetForLeaderEpoch,
    OffsetForLeaderEpochRequest,
    2..=4,
    handle
);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut answered = OffsetForLeaderTopicResult::default();
        for wanted in &topic.partitions {
            let answer = EpochEndOffset::default()
                .with_partition(wanted.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            answered
                .partitions
                .push(match find(broker, &topic.topic, wanted) {
                    Ok((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end.0),
                    Err(error) => answer.with_error_code(error.code()),
                });
        }
        response.topics.push(answered.with_topic(topic.topic));
    }
    response
}

fn find(
    broker: &Broker,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ResponseError> {
    let partition = broker.replicas.leader(topic, wanted.partition)?;
    partition.check_epoch(wanted.current_leader_epoch)?;
    Ok(partition.end_offset_for_epoch(LeaderEpoch(wanted.leader_epoch)))
}
