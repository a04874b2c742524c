//! SyncGroup (14): the leader hands out the assignment, everybody gets a share.
//!
//! Versions 0-5. v3 has static members; v5 names the protocol type and the protocol, both mandatory there.
//! Waits for the leader's request and until the group is written to the log.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::classic::{Identity, Sync};

/// The route.
pub const ROUTE: Route = crate::route!(SyncGroup, SyncGroupRequest, 0..=5, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version >= 5 && !named {
        let error = ResponseError::InconsistentGroupProtocol;
        return SyncGroupResponse::default().with_error_code(error.code());
    }
    let own = |text: &Option<StrBytes>| text.as_ref().map(|text| Arc::from(text.as_str()));
    let assignments = request.assignments.iter().map(|given| {
        let assignment = Bytes::copy_from_slice(&given.assignment);
        (Arc::from(given.member_id.as_str()), assignment)
    });
    let sync = Sync {
        identity: Identity {
            member_id: request.member_id.as_str().into(),
            instance_id: own(&request.group_instance_id),
            generation: request.generation_id,
        },
        protocol_type: own(&request.protocol_type),
        protocol_name: own(&request.protocol_name),
        assignments: assignments.collect(),
    };
    match broker.groups.sync(&request.group_id, sync).await {
        Ok(synced) => {
            let shown = |text: Option<Arc<str>>| {
                let text = text.filter(|_| context.version >= 5);
                text.map(|text| StrBytes::from_string(text.to_string()))
            };
            SyncGroupResponse::default()
                .with_protocol_type(shown(synced.protocol_type))
                .with_protocol_name(shown(synced.protocol_name))
                .with_assignment(synced.assignment)
        }
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}
