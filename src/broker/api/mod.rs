//! One file per Kafka API, one table of all of them.
//!
//! [`ROUTES`] is the only list: ApiVersions advertises it and [`dispatch`] obeys it, so what is
//! advertised and what is served cannot drift apart. A handler has one shape,
//! `async fn handle(broker: &Broker, context: &Context, request: Req) -> Resp`; version checks and
//! bounds were done before it runs. Handlers do not call each other.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::broker::Broker;
use crate::common::disk::DiskFile;

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
pub const ROUTES: &[Route] = &[];

/// The route of an API key.
pub fn route(key: i16) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.key == key)
}
