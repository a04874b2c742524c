//! One file per Kafka API, one table of all of them.
//!
//! [`ROUTES`] is the only list: ApiVersions advertises it and [`dispatch`] obeys it, so what is
//! advertised and what is served cannot drift apart. A handler has one shape,
//! `async fn handle(broker: &Broker, context: &Context, request: Req) -> Resp`; version checks and
//! bounds were done before it runs. Handlers do not call each other.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::broker::Broker;
use crate::broker::connection::Peer;
use crate::common::disk::DiskFile;
use crate::kafka::bounds::{self, BoundsError};
use crate::kafka::header::{self, HeaderError};

mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;

/// What a handler may know about the request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request's version; the response is encoded in the same.
    pub version: i16,
    /// The client's name for itself; empty where it sent none.
    pub client_id: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener that the connection came in by; metadata answers name the same listener.
    pub listener: std::sync::Arc<str>,
    /// Numbers this broker's connections.
    pub connection: u64,
}

/// A part of a response: bytes, or a region of a file that goes out by sendfile.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Encoded bytes.
    Bytes(Bytes),
    /// `len` bytes of `file` from `position` on.
    File {
        /// The open segment.
        file: std::sync::Arc<dyn DiskFile>,
        /// Where the region begins.
        position: u64,
        /// How long it is.
        len: u64,
    },
}

impl Chunk {
    /// Bytes on the wire.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a chunk may be empty, nobody asks"
    )]
    pub fn len(&self) -> u64 {
        match self {
            Chunk::Bytes(bytes) => bytes.len() as u64,
            Chunk::File { len, .. } => *len,
        }
    }
}

/// What goes back to the client after the response header.
#[derive(Debug)]
pub enum Reply {
    /// The response's body, in order.
    Body(Vec<Chunk>),
    /// No frame at all (Produce with acks=0).
    Nothing,
    /// No frame, and the connection is closed (Produce with acks=0 that failed).
    Close,
}

/// A request that cannot be decoded; the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("{api} v{version} cannot be decoded: {reason}")]
pub struct BadRequest {
    /// The API's name.
    pub api: &'static str,
    /// The request's version.
    pub version: i16,
    /// What the decoder said.
    pub reason: String,
}

/// A handler's future.
pub type Handling<'a> = Pin<Box<dyn Future<Output = Result<Reply, BadRequest>> + Send + 'a>>;

/// One API that this broker serves.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The API key.
    pub key: i16,
    /// The API's name, as in Kafka's documentation.
    pub name: &'static str,
    /// The lowest version that is served.
    pub min: i16,
    /// The highest version that is served.
    pub max: i16,
    /// Decodes the body, handles it, encodes the answer.
    pub handle: for<'a> fn(&'a Broker, &'a Context, Bytes) -> Handling<'a>,
}

/// Decodes a body whose bounds were checked before.
pub fn decode<Req: Decodable>(
    api: &'static str,
    version: i16,
    mut body: Bytes,
) -> Result<Req, BadRequest> {
    Req::decode(&mut body, version).map_err(|error| BadRequest {
        api,
        version,
        reason: error.to_string(),
    })
}

/// Encodes a response in the request's version.
pub fn encode<Resp: Encodable>(
    api: &'static str,
    version: i16,
    response: &Resp,
) -> Result<Reply, BadRequest> {
    let failed = |error: anyhow::Error| BadRequest {
        api,
        version,
        reason: error.to_string(),
    };
    let mut body = BytesMut::with_capacity(response.compute_size(version).map_err(failed)?);
    response.encode(&mut body, version).map_err(failed)?;
    Ok(Reply::Body(vec![Chunk::Bytes(body.freeze())]))
}

/// Makes a [`Route`] of a handler: `route!(Heartbeat, HeartbeatRequest, 0..=4, handle)`.
#[macro_export]
macro_rules! route {
    ($name:ident, $request:ty, $min:literal ..= $max:literal, $handle:path) => {
        $crate::broker::api::Route {
            key: <$request as kafka_protocol::protocol::Request>::KEY,
            name: stringify!($name),
            min: $min,
            max: $max,
            handle: |broker, context, body| {
                Box::pin(async move {
                    let request: $request =
                        $crate::broker::api::decode(stringify!($name), context.version, body)?;
                    let response = $handle(broker, context, request).await;
                    $crate::broker::api::encode(stringify!($name), context.version, &response)
                })
            },
        }
    };
}

/// Every API that is served, by key. What is not in here is not advertised.
pub const ROUTES: &[Route] = &[
    produce::ROUTE,                       // 0
    fetch::ROUTE,                         // 1
    list_offsets::ROUTE,                  // 2
    metadata::ROUTE,                      // 3
    offset_commit::ROUTE,                 // 8
    offset_fetch::ROUTE,                  // 9
    find_coordinator::ROUTE,              // 10
    join_group::ROUTE,                    // 11
    heartbeat::ROUTE,                     // 12
    leave_group::ROUTE,                   // 13
    sync_group::ROUTE,                    // 14
    describe_groups::ROUTE,               // 15
    list_groups::ROUTE,                   // 16
    api_versions::ROUTE,                  // 18
    create_topics::ROUTE,                 // 19
    delete_topics::ROUTE,                 // 20
    delete_records::ROUTE,                // 21
    init_producer_id::ROUTE,              // 22
    offset_for_leader_epoch::ROUTE,       // 23
    describe_configs::ROUTE,              // 32
    alter_configs::ROUTE,                 // 33
    alter_replica_log_dirs::ROUTE,        // 34
    describe_log_dirs::ROUTE,             // 35
    create_partitions::ROUTE,             // 37
    delete_groups::ROUTE,                 // 42
    elect_leaders::ROUTE,                 // 43
    incremental_alter_configs::ROUTE,     // 44
    alter_partition_reassignments::ROUTE, // 45
    list_partition_reassignments::ROUTE,  // 46
    offset_delete::ROUTE,                 // 47
    describe_cluster::ROUTE,              // 60
];

/// The route of an API key.
pub fn route(key: i16) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.key == key)
}

/// Why a request gets no answer; the connection is closed, as real brokers do.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The header does not read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The API is not served, or not in this version.
    #[error("API {key} v{version} is not served")]
    Version {
        /// The API key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// A count or length in the body goes beyond the frame.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// The body does not decode, or its answer does not encode.
    #[error(transparent)]
    Bad(#[from] BadRequest),
    /// A Produce with acks=0 failed: closing is the only way to say so.
    #[error("a produce request with acks=0 failed")]
    Unacknowledged,
}

/// Serves one frame: what goes back, with its length in front; `None` where nothing does.
pub async fn dispatch(
    broker: &Broker,
    peer: &Peer,
    frame: Bytes,
) -> Result<Option<Vec<Chunk>>, Closed> {
    let began_us = broker.clock.monotonic_us();
    let (header, body) = header::parse(frame)?;
    let (key, version) = (header.key, header.version);
    let route = route(key)
        .ok_or(Closed::Version { key, version })
        .and_then(|route| match version {
            version if (route.min..=route.max).contains(&version) => Ok(Some(route)),
            _ if key == api_versions::ROUTE.key => Ok(None),
            version => Err(Closed::Version { key, version }),
        })?;
    let Some(route) = route else {
        let body = api_versions::unsupported();
        return Ok(Some(framed(key, 0, header.correlation_id, vec![body])));
    };
    bounds::check_request(key, version, &body)?;
    let context = Context {
        version,
        client_id: header.client_id.unwrap_or_default(),
        peer: peer.address,
        listener: peer.listener.clone(),
        connection: peer.number,
    };
    let reply = (route.handle)(broker, &context, body).await?;
    let taken_us = u64::try_from(broker.clock.monotonic_us() - began_us).unwrap_or(0);
    broker
        .metrics
        .requests
        .observe_us(key, route.name, taken_us);
    match reply {
        Reply::Body(chunks) => Ok(Some(framed(key, version, header.correlation_id, chunks))),
        Reply::Nothing => Ok(None),
        Reply::Close => Err(Closed::Unacknowledged),
    }
}

/// Puts length and response header in front of a body.
fn framed(key: i16, version: i16, correlation_id: i32, mut body: Vec<Chunk>) -> Vec<Chunk> {
    let body_len: u64 = body.iter().map(Chunk::len).sum();
    let mut head = BytesMut::with_capacity(16);
    head.put_i32(0);
    header::put_response(key, version, correlation_id, &mut head);
    // Responses are bounded far below 2 GiB by the limits on requests and on what a fetch returns.
    let length = u64::try_from(head.len() - 4).unwrap_or(0) + body_len;
    head[..4].copy_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
    body.insert(0, Chunk::Bytes(head.freeze()));
    body
}

#[cfg(test)]
mod tests;
