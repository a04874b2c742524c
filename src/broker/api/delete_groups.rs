//! DeleteGroups (42): groups without members go, with their offsets.
//!
//! Versions 0-2. A code per group: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND. Answered when the tombstones are on
//! all in-sync replicas.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::broker::Broker;
use crate::broker::api::{Context, Route};

/// The route.
pub const ROUTE: Route = crate::route!(DeleteGroups, DeleteGroupsRequest, 0..=2, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut names = request.groups_names;
    names.sort();
    names.dedup();
    let mut results = Vec::with_capacity(names.len());
    for id in names {
        let error = broker.groups.delete(&id).await.err();
        let result = DeletableGroupResult::default().with_group_id(id);
        results.push(result.with_error_code(error.map_or(0, |error| error.code())));
    }
    DeleteGroupsResponse::default().with_results(results)
}
