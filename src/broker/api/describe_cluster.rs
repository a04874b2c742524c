//! DescribeCluster (60): the brokers and the controller.
//!
//! Versions 0-2. v1 adds the type of endpoints (controllers of their own do not exist here), v2 fenced
//! brokers (never listed: a broker without a session is not known).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;

/// The route.
pub const ROUTE: Route = crate::route!(DescribeCluster, DescribeClusterRequest, 0..=2, handle);

const BROKERS: i8 = 1;
/// Everything that can be done to a cluster, as bits by the operation's code; without an authorizer
/// everybody may.
const OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

async fn handle(
    broker: &Broker,
    context: &Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let message = "The broker has no endpoints of controllers.";
        return DescribeClusterResponse::default()
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_endpoint_type(BROKERS);
    }
    let image = broker.image.load();
    let brokers = image.brokers.values().filter_map(|broker| {
        let endpoint = broker.endpoints.get(&*context.listener)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.id.0))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string)),
        )
    });
    let controller = image.controller.filter(|id| image.brokers.contains_key(id));
    let operations = if request.include_cluster_authorized_operations {
        OPERATIONS
    } else {
        i32::MIN
    };
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(controller.map_or(-1, |id| id.0)))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}
