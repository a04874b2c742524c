//! DeleteTopics (20): by name, or since v6 by id.
//!
//! Versions 1-6. v5 adds a message, v6 ids. The deletion is marked in ZooKeeper and the controller's to
//! carry out; the answer waits for it as long as the client says.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::cluster::Refusal;
use crate::broker::image::Image;

/// The route.
pub const ROUTE: Route = crate::route!(DeleteTopics, DeleteTopicsRequest, 1..=6, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let wanted: Vec<DeleteTopicState> = if context.version >= 6 {
        request.topics
    } else {
        let named = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(named).collect()
    };
    let image = broker.image.load();
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    let mut responses: Vec<DeletableTopicResult> = Vec::with_capacity(wanted.len());
    for state in wanted {
        let mut result = DeletableTopicResult::default()
            .with_name(state.name.clone())
            .with_topic_id(state.topic_id);
        match find(broker, context, &image, &state) {
            Ok((name, id)) if seen.insert(name.clone()) => {
                result.topic_id = id;
                result.name = Some(TopicName(StrBytes::from_string(name.clone())));
                names.push((responses.len(), name));
            }
            Ok(_) => refuse(
                &mut result,
                &Refusal::because(
                    ResponseError::InvalidRequest,
                    "The topic is named more than once.",
                ),
            ),
            Err(refusal) => refuse(&mut result, &refusal),
        }
        responses.push(result);
    }
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let wanted: Vec<String> = names.iter().map(|(_, name)| name.clone()).collect();
    let results = broker.cluster.delete_topics(&wanted, limit).await;
    for ((at, _), result) in names.iter().zip(results) {
        if let Err(refusal) = result {
            refuse(&mut responses[*at], &refusal);
        }
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

fn find(
    broker: &Broker,
    context: &Context,
    image: &Image,
    state: &DeleteTopicState,
) -> Result<(String, uuid::Uuid), Refusal> {
    if !broker.config.broker.delete_topic_enable {
        return Err(if context.version < 3 {
            ResponseError::InvalidRequest.into()
        } else {
            ResponseError::TopicDeletionDisabled.into()
        });
    }
    match (&state.name, state.topic_id.is_nil()) {
        (Some(_), false) => Err(Refusal::because(
            ResponseError::InvalidRequest,
            "Topic name and topic ID can not both be specified.",
        )),
        (None, true) => Err(Refusal::because(
            ResponseError::InvalidRequest,
            "Neither topic name nor id were specified.",
        )),
        (Some(name), true) => {
            let topic = image.topic(name);
            let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
            Ok((topic.name.to_string(), topic.id))
        }
        (None, false) => {
            let topic = image.topic_by_id(state.topic_id);
            let topic = topic.ok_or(ResponseError::UnknownTopicId)?;
            Ok((topic.name.to_string(), topic.id))
        }
    }
}

fn refuse(result: &mut DeletableTopicResult, refusal: &Refusal) {
    result.error_code = refusal.error.code();
    result.error_message = refusal.text();
}
