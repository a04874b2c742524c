//! JoinGroup (11): a member enters a group's next generation.
//!
//! Versions 0-9. v1 has a rebalance timeout of its own, v4 MEMBER_ID_REQUIRED, v5 static members, v7 the
//! protocol type and a null protocol, v8 a reason (for the log), v9 skip_assignment. Waits for the other
//! members, up to their rebalance timeout.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tracing::debug;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::classic::{Join, Joined};

/// The route.
pub const ROUTE: Route = crate::route!(JoinGroup, JoinGroupRequest, 0..=9, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    if let Some(reason) = &request.reason {
        let reason: String = reason.chars().take(255).collect();
        debug!(group = ?request.group_id.as_str(), ?reason, "a member joins");
    }
    let member_id = request.member_id.clone();
    // What is kept must not hold on to the whole frame, hence the copies.
    let protocols = request.protocols.iter().map(|protocol| {
        let metadata = Bytes::copy_from_slice(&protocol.metadata);
        (Arc::from(protocol.name.as_str()), metadata)
    });
    let join = Join {
        member_id: member_id.as_str().into(),
        new_member_id: Arc::default(),
        instance_id: request
            .group_instance_id
            .as_ref()
            .map(|id| id.as_str().into()),
        require_known_member_id: context.version >= 4,
        support_skipping_assignment: context.version >= 9,
        client_id: context.client_id.as_str().into(),
        client_host: format!("/{}", context.peer.ip()).into(),
        rebalance_timeout_ms: if context.version >= 1 {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: request.protocol_type.as_str().into(),
        protocols: protocols.collect(),
    };
    match broker.groups.join(&request.group_id, join).await {
        Ok(joined) => respond(context.version, joined),
        Err((error, member_id)) => {
            let response = JoinGroupResponse::default()
                .with_error_code(error.code())
                .with_generation_id(-1)
                .with_member_id(text(&member_id));
            // Before v7 the name could not be null.
            response.with_protocol_name((context.version < 7).then(StrBytes::default))
        }
    }
}

fn respond(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|(id, instance_id, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&id))
                .with_group_instance_id(instance_id.filter(|_| version >= 5).map(|id| text(&id)))
                .with_metadata(metadata)
        });
    let protocol_name = joined.protocol_name.map(|name| text(&name));
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(
            joined
                .protocol_type
                .filter(|_| version >= 7)
                .map(|kind| text(&kind)),
        )
        .with_protocol_name(protocol_name.or((version < 7).then(StrBytes::default)))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(version >= 9 && joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn every_version_encodes_what_a_generation_says() {
        let joined = Joined {
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            leader: "a".into(),
            skip_assignment: true,
            member_id: "a".into(),
            members: vec![("a".into(), Some("i".into()), Bytes::from_static(b"x"))],
        };
        for version in 0..=9 {
            for joined in [joined.clone(), Joined::default()] {
                let response = respond(version, joined);
                let mut out = BytesMut::new();
                response.encode(&mut out, version).expect("it encodes");
            }
        }
    }
}
