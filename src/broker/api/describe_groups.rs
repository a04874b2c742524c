//! DescribeGroups (15): who is in a group and has what.
//!
//! Versions 0-6. v3 may ask for the permitted operations (all of them: nothing is forbidden here), v4 adds
//! instance ids, v6 says GROUP_ID_NOT_FOUND where older ones say "Dead". Metadata and assignments are shown
//! while a group is stable, as in Kafka.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::classic::State;
use crate::broker::group::coordinator::Described;

/// The route.
pub const ROUTE: Route = crate::route!(DescribeGroups, DescribeGroupsRequest, 0..=6, handle);

/// READ (3), DELETE (6) and DESCRIBE (8), a bit each.
const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8);

async fn handle(
    broker: &Broker,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let mut answer = match broker.groups.describe(&id) {
            Ok(Some(group)) => describe(context.version, group),
            Ok(None) => unknown(context.version, &id),
            Err(error) => {
                return DescribedGroup::default()
                    .with_group_id(id)
                    .with_error_code(error.code());
            }
        };
        if context.version >= 3 && request.include_authorized_operations {
            answer.authorized_operations = GROUP_OPERATIONS;
        }
        answer.with_group_id(id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn unknown(version: i16, id: &GroupId) -> DescribedGroup {
    let dead =
        DescribedGroup::default().with_group_state(StrBytes::from_static_str(State::Dead.name()));
    if version < 6 {
        return dead;
    }
    let message = format!("Group {} not found.", id.as_str());
    dead.with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}

fn describe(version: i16, group: Described) -> DescribedGroup {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let members = group.members.into_iter().map(|member| {
        let instance_id = member.instance_id.filter(|_| version >= 4);
        DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(instance_id.map(|id| text(&id)))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}
