//! LeaveGroup (13): members go, or are put out by an administrator.
//!
//! Versions 0-5. Up to v2 one member and one code; from v3 a list with a code each, by member id or (static
//! members) by instance id; v5 adds a reason, for the log.

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use tracing::debug;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};

/// The route.
pub const ROUTE: Route = crate::route!(LeaveGroup, LeaveGroupRequest, 0..=5, handle);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let members = if context.version >= 3 {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let leaver = |member: &MemberIdentity| {
        if let Some(reason) = &member.reason {
            let reason: String = reason.chars().take(255).collect();
            debug!(group = ?request.group_id.as_str(), ?reason, "a member leaves");
        }
        let instance_id = member.group_instance_id.as_ref();
        let id: Arc<str> = member.member_id.as_str().into();
        (id, instance_id.map(|id| id.as_str().into()))
    };
    let leavers = members.iter().map(leaver).collect();
    let errors = match broker.groups.leave(&request.group_id, leavers).await {
        Ok(errors) => errors,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    let code = |error: &Option<_>| {
        error
            .as_ref()
            .map_or(0, kafka_protocol::ResponseError::code)
    };
    if context.version < 3 {
        let first = errors.first().map_or(0, code);
        return LeaveGroupResponse::default().with_error_code(first);
    }
    let answers = members.into_iter().zip(&errors).map(|(member, error)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(error))
    });
    LeaveGroupResponse::default().with_members(answers.collect())
}
