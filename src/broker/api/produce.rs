//! Produce (0): appends record batches; one result per partition.
//!
//! Versions 3-13 (advertised from 0, see `api_versions`). v7 allows zstd, v8 adds messages to errors,
//! v10 names the current leader, v13 names topics by id. acks 0 gets no frame: a failure closes the
//! connection. The batches stay slices of the request's frame down to the write. Transactions are not
//! supported: a request with a transactional id is refused with INVALID_TXN_STATE, which a producer
//! takes as fatal; it never comes that far, because InitProducerId refuses it first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{BadRequest, Context, Reply, Route};
use crate::broker::Broker;
use crate::broker::image::Image;
use crate::broker::metrics::Traffic;
use crate::broker::partition::{Appended, Origin, Partition, Refused, is_internal_topic};
use crate::kafka::batch::{BatchHeader, Compression};

/// The route.
pub const ROUTE: Route = Route {
    key: 0,
    name: "Produce",
    min: 3,
    max: 13,
    handle: |broker, context, body| Box::pin(handle(broker, context, body)),
};

/// The client id that may write to internal topics (`AdminUtils.AdminClientId` of Kafka).
const ADMIN_CLIENT: &str = "__admin_client";

async fn handle(broker: &Broker, context: &Context, body: Bytes) -> Result<Reply, BadRequest> {
    let request: ProduceRequest = super::decode(ROUTE.name, context.version, body)?;
    let acks = request.acks;
    let image = broker.image.load();
    let mut done = append_all(broker, context, &image, request);
    if acks == -1 {
        wait_replicated(&mut done).await;
    }
    let failed = count(broker, &done);
    if acks == 0 {
        return Ok(if failed > 0 {
            Reply::Close
        } else {
            Reply::Nothing
        });
    }
    let response = respond(context, &image, done);
    super::encode(ROUTE.name, context.version, &response)
}

/// Counts the partitions of a request, in all and by topic; gives how many failed.
fn count(broker: &Broker, done: &[Topic]) -> usize {
    let mut failures = 0;
    for topic in done {
        for one in &topic.partitions {
            let failed = u64::from(one.result.is_err());
            failures += usize::from(one.result.is_err());
            let note = |traffic: &Traffic| {
                traffic.total_produce_requests.add(1);
                traffic.failed_produce_requests.add(failed);
            };
            note(&broker.metrics.traffic);
            let known = topic.known.as_deref();
            match &one.partition {
                Some(partition) => note(partition.traffic()),
                None => known
                    .and_then(|name| broker.replicas.get(name, one.index))
                    .into_iter()
                    .for_each(|partition| note(partition.traffic())),
            }
        }
    }
    failures
}

/// One topic's results; the name or the id is what the request said.
struct Topic {
    name: kafka_protocol::messages::TopicName,
    id: uuid::Uuid,
    /// The name that was looked up, for where the leader is.
    known: Option<Arc<str>>,
    partitions: Vec<Done>,
}

struct Done {
    index: i32,
    result: Result<Appended, Refused>,
    /// Where to wait for acks=all.
    partition: Option<Arc<Partition>>,
    limit: Duration,
}

fn append_all(
    broker: &Broker,
    context: &Context,
    image: &Image,
    request: ProduceRequest,
) -> Vec<Topic> {
    let refused = match request.acks {
        -1..=1 => request.transactional_id.as_ref().map(|_| {
            refuse(
                ResponseError::InvalidTxnState,
                "transactions are not supported",
            )
        }),
        _ => Some(Refused::plain(ResponseError::InvalidRequiredAcks)),
    };
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut done = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let TopicProduceData {
            name,
            topic_id,
            partition_data,
            ..
        } = topic;
        let known = if context.version >= 13 {
            image.topic_names.get(&topic_id).cloned()
        } else {
            Some(Arc::from(name.as_str()))
        };
        let mut partitions = Vec::with_capacity(partition_data.len());
        for data in partition_data {
            let index = data.index;
            let appended = match (&refused, &known) {
                (Some(refused), _) => Err(refused.clone()),
                (None, None) => Err(Refused::plain(ResponseError::UnknownTopicId)),
                (None, Some(topic)) => append(broker, context, topic, data, request.acks),
            };
            let (result, partition) = match appended {
                Ok((appended, partition)) => (Ok(appended), Some(partition)),
                Err(refused) => (Err(refused), None),
            };
            partitions.push(Done {
                index,
                result,
                partition,
                limit,
            });
        }
        done.push(Topic {
            name,
            id: topic_id,
            known,
            partitions,
        });
    }
    done
}

fn append(
    broker: &Broker,
    context: &Context,
    topic: &str,
    data: PartitionProduceData,
    acks: i16,
) -> Result<(Appended, Arc<Partition>), Refused> {
    if is_internal_topic(topic) && context.client_id != ADMIN_CLIENT {
        return Err(refuse(
            ResponseError::InvalidTopicException,
            &format!("Cannot append to internal topic {topic}"),
        ));
    }
    let partition = broker
        .replicas
        .leader(topic, data.index)
        .map_err(Refused::plain)?;
    let batch = data.records.unwrap_or_default();
    check(&batch, context.version)?;
    if acks == -1 && !partition.enough_in_sync() {
        return Err(Refused::plain(ResponseError::NotEnoughReplicas));
    }
    let bytes = batch.len() as u64;
    let appended = partition.append(batch, Origin::Client, None)?;
    if !appended.duplicate {
        let records = appended.last_offset - appended.base_offset + 1;
        for traffic in [&broker.metrics.traffic, partition.traffic()] {
            traffic.messages_in.add(u64::try_from(records).unwrap_or(0));
            traffic.bytes_in.add(bytes);
        }
    }
    Ok((appended, partition))
}

/// What depends on the request, not on the log: one batch of format v2, and no codec that a client of
/// this version cannot know.
fn check(batch: &[u8], version: i16) -> Result<(), Refused> {
    let invalid = |what: &str| {
        refuse(
            ResponseError::InvalidRecord,
            &format!("Produce requests with version {version} {what}"),
        )
    };
    if batch.is_empty() {
        return Err(invalid("must have at least one record batch"));
    }
    if batch.get(16).is_some_and(|magic| *magic != 2) {
        return Err(invalid(
            "are only allowed to contain record batches with magic version 2",
        ));
    }
    let header = BatchHeader::parse(batch)
        .map_err(|error| refuse(ResponseError::CorruptMessage, &error.to_string()))?;
    if header.size() < batch.len() {
        return Err(invalid(
            "are only allowed to contain exactly one record batch",
        ));
    }
    if header.compression() == Some(Compression::Zstd) && version < 7 {
        return Err(refuse(
            ResponseError::UnsupportedCompressionType,
            &format!(
                "Produce requests with version {version} are not allowed to use ZStandard compression"
            ),
        ));
    }
    Ok(())
}

fn refuse(error: ResponseError, message: &str) -> Refused {
    Refused {
        error,
        message: message.to_owned(),
        record: None,
    }
}

/// acks=all: every partition's records on all its in-sync replicas, all within one time limit.
async fn wait_replicated(done: &mut [Topic]) {
    let now = Instant::now();
    let all = done.iter_mut().flat_map(|topic| &mut topic.partitions);
    for one in all {
        let (Ok(appended), Some(partition)) = (&one.result, &one.partition) else {
            continue;
        };
        let replicated = partition.replicated_by(appended.last_offset, now + one.limit);
        if let Err(error) = replicated.await {
            one.result = Err(Refused::plain(error));
        }
    }
}

fn respond(context: &Context, image: &Image, done: Vec<Topic>) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for topic in done {
        let mut answered = TopicProduceResponse::default();
        if context.version >= 13 {
            answered.topic_id = topic.id;
        } else {
            answered.name = topic.name;
        }
        for one in topic.partitions {
            let mut answer = answer(context.version, &one);
            let moved = matches!(&one.result, Err(refused) if refused.error == ResponseError::NotLeaderOrFollower);
            if context.version >= 10 && moved {
                let name = topic.known.as_deref().unwrap_or_default();
                point_to_leader(
                    image,
                    context,
                    (name, one.index),
                    &mut answer,
                    &mut response,
                );
            }
            answered.partition_responses.push(answer);
        }
        response.responses.push(answered);
    }
    response
}

fn answer(version: i16, one: &Done) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(one.index);
    match &one.result {
        Ok(appended) => answer
            .with_base_offset(appended.base_offset.0)
            .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1))
            .with_log_start_offset(appended.log_start_offset.0),
        Err(refused) => {
            let answer = answer
                .with_base_offset(-1)
                .with_error_code(refused.error.code());
            if version < 8 {
                return answer;
            }
            let own = || StrBytes::from_string(refused.message.clone());
            let records = refused.record.map(|index| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(Some(own()))
            });
            answer
                .with_record_errors(records.into_iter().collect())
                .with_error_message(message(refused, own))
        }
    }
}

/// Kafka leaves most refusals to the code's own sentence, and blames single records beside it. Ours are
/// the reasons that 2.8.0 does not have, and those of batches that no client of Kafka's makes.
fn message(refused: &Refused, own: impl Fn() -> StrBytes) -> Option<StrBytes> {
    const REJECTED: &str = "One or more records have been rejected";
    const REJECTED_TIME: &str = "One or more records have been rejected due to invalid timestamp";
    match (refused.error, refused.record) {
        (ResponseError::InvalidTimestamp, Some(_)) => {
            Some(StrBytes::from_static_str(REJECTED_TIME))
        }
        (_, Some(_)) => Some(StrBytes::from_static_str(REJECTED)),
        (ResponseError::InvalidRecord | ResponseError::InvalidTxnState, None) => Some(own()),
        _ => None,
    }
}

/// Tells the client where the leader is, so that it needs no Metadata request (KIP-951).
fn point_to_leader(
    image: &Image,
    context: &Context,
    (topic, partition): (&str, i32),
    answer: &mut PartitionProduceResponse,
    response: &mut ProduceResponse,
) {
    let Some(leader) = image.leader_hint(topic, partition, &context.listener) else {
        return;
    };
    let id = BrokerId(leader.id.0);
    answer.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(id)
        .with_leader_epoch(leader.epoch.0);
    let nodes = &mut response.node_endpoints;
    let known = nodes.iter().any(|node| node.node_id == id);
    if let (false, Some((address, rack))) = (known, leader.node) {
        nodes.push(
            NodeEndpoint::default()
                .with_node_id(id)
                .with_host(StrBytes::from_string(address.host.clone()))
                .with_port(i32::from(address.port))
                .with_rack(rack.map(|rack| StrBytes::from_string(rack.to_owned()))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_single_v2_batch_is_refused_by_kafkas_codes() {
        let mut batch = vec![0u8; 61];
        batch[8..12].copy_from_slice(&49i32.to_be_bytes());
        batch[16] = 2;
        assert_eq!(check(&batch, 3), Ok(()));
        let code = |batch: &[u8], version| check(batch, version).map_err(|refused| refused.error);
        assert_eq!(code(&[], 3), Err(ResponseError::InvalidRecord));
        assert_eq!(code(&batch[..60], 3), Err(ResponseError::CorruptMessage));
        let two = [batch.clone(), batch.clone()].concat();
        assert_eq!(code(&two, 3), Err(ResponseError::InvalidRecord));
        let mut old = batch.clone();
        old[16] = 1;
        assert_eq!(code(&old, 3), Err(ResponseError::InvalidRecord));
        batch[22] = 4;
        assert_eq!(
            code(&batch, 6),
            Err(ResponseError::UnsupportedCompressionType)
        );
        assert_eq!(code(&batch, 7), Ok(()));
    }
}
