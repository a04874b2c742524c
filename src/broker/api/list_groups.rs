//! ListGroups (16): the groups that this broker coordinates. An administrator asks every broker.
//!
//! Versions 0-5. v4 filters by state and tells it, v5 the same by type; both ignore case. Every group here
//! is a classic one.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::api::{Context, Route};

/// The route.
pub const ROUTE: Route = crate::route!(ListGroups, ListGroupsRequest, 0..=5, handle);

const CLASSIC: &str = "classic";

async fn handle(
    broker: &Broker,
    context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let (mut groups, complete) = broker.groups.list();
    groups.retain(|group| {
        passes(&request.states_filter, group.state.name()) && passes(&request.types_filter, CLASSIC)
    });
    let groups = groups.into_iter().map(|group| {
        let mut listed = ListedGroup::default()
            .with_group_id(StrBytes::from_string(group.group_id.to_string()).into())
            .with_protocol_type(StrBytes::from_string(group.protocol_type.to_string()));
        if context.version >= 4 {
            listed.group_state = StrBytes::from_static_str(group.state.name());
        }
        if context.version >= 5 {
            listed.group_type = StrBytes::from_static_str(CLASSIC);
        }
        listed
    });
    let loading = ResponseError::CoordinatorLoadInProgress.code();
    ListGroupsResponse::default()
        .with_groups(groups.collect())
        .with_error_code(if complete { 0 } else { loading })
}
