//! Heartbeat (12): keeps a classic group's member alive.
//!
//! Versions 0-4. v3 adds `group.instance.id` (honoured). Never waits.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::broker::Broker;
use crate::broker::api::{Context, Route};
use crate::broker::group::classic::Identity;

/// The route.
pub const ROUTE: Route = crate::route!(Heartbeat, HeartbeatRequest, 0..=4, handle);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let instance_id = request.group_instance_id.as_ref();
    let identity = Identity {
        member_id: request.member_id.as_str().into(),
        instance_id: instance_id.map(|id| id.as_str().into()),
        generation: request.generation_id,
    };
    let result = broker.groups.heartbeat(&request.group_id, identity).await;
    HeartbeatResponse::default().with_error_code(result.err().map_or(0, |error| error.code()))
}
