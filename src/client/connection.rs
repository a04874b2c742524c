//! One Kafka connection: version negotiation, correlation ids, pipelining and deadlines.
//!
//! Requests are written in the order in which they were started and answers come back in that order,
//! as Kafka promises. Whatever goes wrong (a late answer included) closes the connection, and every
//! waiting request learns of it. Retrying is the business of [`super::cluster`] and its users.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::metrics::{Meter, Timed, Traffic};
use super::{ClientError, World};
use crate::common::frame::read_frame;
use crate::common::net::{self, HostPort, OwnedReadHalf, OwnedWriteHalf};
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Kind;
use crate::kafka::{bounds, header};

/// Requests that may wait for the socket before a caller has to.
const OUTGOING_MAX: usize = 16;
/// What one read from the socket asks for.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How a client introduces itself and how long it waits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sent with every request.
    pub client_id: String,
    /// For the TCP handshake and the version exchange.
    pub connect_timeout: Duration,
    /// From writing a request to its answer, unless the call says otherwise.
    pub request_timeout: Duration,
    /// The largest answer that is read.
    pub response_bytes_max: usize,
    /// What log lines begin with, as `[Producer clientId=x] `.
    pub context: String,
    /// An administrator says less of brokers and topics than a producer or consumer.
    pub is_admin: bool,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `metadata.max.age.ms`.
    pub metadata_age_max: Duration,
    /// `send.buffer.bytes` and `receive.buffer.bytes`; `None` leaves them to the system.
    pub buffers: net::Buffers,
    /// Counts what goes over all connections made with these settings.
    pub traffic: Arc<Traffic>,
}

impl Settings {
    /// Kafka's defaults under the given client id.
    pub fn new(client_id: impl Into<String>) -> Settings {
        Settings {
            client_id: client_id.into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            response_bytes_max: 256 * 1024 * 1024,
            context: String::new(),
            is_admin: false,
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
            buffers: net::Buffers::default(),
            traffic: Arc::default(),
        }
    }
}

/// A connection to one broker; clones share the socket.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    versions: Arc<BTreeMap<i16, (i16, i16)>>,
}

#[derive(Debug)]
struct Shared {
    address: HostPort,
    settings: Settings,
    waiting: Mutex<Waiting>,
    /// Given when the connection is over, by whoever notices first.
    over: Shutdown,
}

#[derive(Debug, Default)]
struct Waiting {
    correlation_id: i32,
    answers: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    closed: bool,
}

#[derive(Debug)]
struct Outgoing {
    correlation_id: i32,
    frame: Bytes,
    answer: Option<oneshot::Sender<Bytes>>,
}

/// A request on its way. Dropping it does not take the request back.
#[derive(Debug)]
pub struct InFlight<R> {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Bytes>,
    version: i16,
    correlation_id: i32,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Dials `address` and agrees on versions.
    pub async fn open(
        world: &World,
        address: &HostPort,
        settings: &Settings,
    ) -> Result<Connection, ClientError> {
        let stream = net::connect_with(address, settings.connect_timeout, settings.buffers)
            .await
            .map_err(|source| ClientError::Connect {
                address: address.clone(),
                source,
            })?;
        settings.traffic.opened();
        let shared = Arc::new(Shared {
            address: address.clone(),
            settings: settings.clone(),
            waiting: Mutex::new(Waiting::default()),
            over: world.tasks.shutdown().child(),
        });
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let (reader, writer) = stream.into_split();
        let traffic = &settings.traffic;
        let read = read_loop(shared.clone(), reader);
        let read = Timed::new(read, traffic.clone(), world.clock.clone());
        let write = write_loop(shared.clone(), writer, queue);
        let write = Timed::new(write, traffic.clone(), world.clock.clone());
        world
            .tasks
            .spawn("kafka-client-read", Kind::Connection, read);
        world
            .tasks
            .spawn("kafka-client-write", Kind::Connection, write);
        let mut connection = Connection {
            shared,
            outgoing,
            versions: Arc::new(BTreeMap::new()),
        };
        connection.versions = Arc::new(connection.negotiate().await?);
        Ok(connection)
    }

    /// The peer's address.
    pub fn address(&self) -> &HostPort {
        &self.shared.address
    }

    /// Is the connection over?
    pub fn is_closed(&self) -> bool {
        self.shared.over.is_stopping()
    }

    /// Ends the connection; requests that wait learn of it.
    pub fn close(&self) {
        self.shared.over.stop();
    }

    /// What the broker serves: key → lowest and highest version.
    pub fn versions(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.versions
    }

    /// The highest version of `R` that both sides speak, `cap` at most.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16, ClientError> {
        let unsupported = || ClientError::Unsupported {
            address: self.shared.address.clone(),
            api: api_name(R::KEY),
            version: None,
        };
        let (low, high) = *self.versions.get(&R::KEY).ok_or_else(unsupported)?;
        let version = high.min(R::VERSIONS.max).min(cap);
        if version < low.max(R::VERSIONS.min) {
            return Err(unsupported());
        }
        Ok(version)
    }

    /// Sends `request` in the highest common version and waits for the answer.
    pub async fn send<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(i16::MAX)?;
        self.send_as(request, version).await
    }

    /// Sends `request` in `version`, as the settings' timeout allows.
    pub async fn send_as<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let limit = self.shared.settings.request_timeout;
        self.start(request, version).await?.answer(limit).await
    }

    /// Sends `request` in `version` and waits up to `limit`.
    pub async fn send_within<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        self.start(request, version).await?.answer(limit).await
    }

    /// Puts `request` in line; the order of calls is the order on the wire.
    pub async fn start<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<InFlight<R>, ClientError> {
        let (sender, answer) = oneshot::channel();
        let correlation_id = self.enqueue(request, version, Some(sender)).await?;
        Ok(InFlight {
            shared: self.shared.clone(),
            answer,
            version,
            correlation_id,
            request: PhantomData,
        })
    }

    /// Puts a request in line that gets no answer (Produce with acks=0).
    pub async fn start_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        self.enqueue(request, version, None).await.map(|_| ())
    }

    async fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        answer: Option<oneshot::Sender<Bytes>>,
    ) -> Result<i32, ClientError> {
        let correlation_id = {
            let mut waiting = self.shared.waiting();
            waiting.correlation_id = waiting.correlation_id.wrapping_add(1) & i32::MAX;
            waiting.correlation_id
        };
        let frame = self
            .encode(request, version, correlation_id)
            .map_err(|source| self.shared.malformed(R::KEY, version, source))?;
        let outgoing = Outgoing {
            correlation_id,
            frame,
            answer,
        };
        tokio::select! {
            sent = self.outgoing.send(outgoing) => {
                sent.map(|()| correlation_id).map_err(|_| self.shared.closed())
            }
            () = self.shared.over.stopped() => Err(self.shared.closed()),
        }
    }

    fn encode<R: Request>(
        &self,
        request: &R,
        version: i16,
        correlation_id: i32,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(StrBytes::from_string(
                self.shared.settings.client_id.clone(),
            )));
        let header_version = R::header_version(version);
        let length = header.compute_size(header_version)? + request.compute_size(version)?;
        let mut frame = BytesMut::with_capacity(4 + length);
        frame.put_i32(i32::try_from(length)?);
        header.encode(&mut frame, header_version)?;
        request.encode(&mut frame, version)?;
        Ok(frame.freeze())
    }

    async fn negotiate(&self) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
        let limit = self.shared.settings.connect_timeout;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tripod"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.start(&request, 3).await?.answer(limit).await?;
        if answer.error_code == ResponseError::UnsupportedVersion.code() {
            answer = self
                .start(&ApiVersionsRequest::default(), 0)
                .await?
                .answer(limit)
                .await?;
        }
        ClientError::check(answer.error_code, None)?;
        Ok(answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect())
    }
}

impl<R: Request> InFlight<R> {
    /// The number that request and answer bear.
    pub fn correlation_id(&self) -> i32 {
        self.correlation_id
    }

    /// Waits for the answer, at most `limit`; a late one closes the connection.
    pub async fn answer(self, limit: Duration) -> Result<R::Response, ClientError> {
        let frame = match tokio::time::timeout(limit, self.answer).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => return Err(self.shared.closed()),
            Err(_) => {
                self.shared.over.stop();
                return Err(ClientError::TimedOut {
                    address: self.shared.address.clone(),
                    api: api_name(R::KEY),
                    limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                });
            }
        };
        decode::<R>(frame, self.version).map_err(|source| {
            self.shared.over.stop();
            self.shared.malformed(R::KEY, self.version, source)
        })
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed {
            address: self.address.clone(),
        }
    }

    fn meter(&self) -> Meter {
        Meter::new(self.settings.traffic.clone(), self.address.clone())
    }

    fn malformed(
        &self,
        key: i16,
        version: i16,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> ClientError {
        ClientError::Malformed {
            address: self.address.clone(),
            api: api_name(key),
            version,
            source,
        }
    }

    /// Takes the oldest waiter if the answer is for it; `None` means that the peer lost count.
    fn take_waiter(&self, correlation_id: i32) -> Option<oneshot::Sender<Bytes>> {
        let mut waiting = self.waiting();
        match waiting.answers.front() {
            Some((expected, _)) if *expected == correlation_id => {
                self.settings.traffic.settled(1);
                waiting.answers.pop_front().map(|(_, answer)| answer)
            }
            _ => None,
        }
    }

    /// Ends the connection and lets everybody who waits know.
    fn finish(&self) {
        self.over.stop();
        let mut waiting = self.waiting();
        if !waiting.closed {
            self.settings.traffic.closed();
        }
        waiting.closed = true;
        self.settings.traffic.settled(waiting.answers.len());
        waiting.answers.clear();
    }
}

/// The name of an API, for messages.
pub fn api_name(key: i16) -> &'static str {
    match ApiKey::try_from(key) {
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::FindCoordinator) => "FindCoordinator",
        Ok(ApiKey::JoinGroup) => "JoinGroup",
        Ok(ApiKey::SyncGroup) => "SyncGroup",
        Ok(ApiKey::Heartbeat) => "Heartbeat",
        Ok(ApiKey::LeaveGroup) => "LeaveGroup",
        Ok(ApiKey::OffsetCommit) => "OffsetCommit",
        Ok(ApiKey::OffsetFetch) => "OffsetFetch",
        Ok(ApiKey::ListGroups) => "ListGroups",
        Ok(ApiKey::DescribeGroups) => "DescribeGroups",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::DeleteTopics) => "DeleteTopics",
        Ok(ApiKey::CreatePartitions) => "CreatePartitions",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::ElectLeaders) => "ElectLeaders",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        Ok(ApiKey::ListPartitionReassignments) => "ListPartitionReassignments",
        Ok(ApiKey::DescribeCluster) => "DescribeCluster",
        _ => "the request",
    }
}

/// Reads one answer. Every length in the frame is checked before the codec may allocate for it.
fn decode<R: Request>(
    mut frame: Bytes,
    version: i16,
) -> Result<R::Response, Box<dyn std::error::Error + Send + Sync>> {
    header::take_response(R::KEY, version, &mut frame)?;
    // A broker that lacks the asked version of ApiVersions answers in version 0's shape.
    let unsupported = ResponseError::UnsupportedVersion.code().to_be_bytes();
    let version = if R::KEY == ApiVersionsRequest::KEY && frame.starts_with(&unsupported) {
        0
    } else {
        version
    };
    bounds::check_response(R::KEY, version, &frame)?;
    Ok(R::Response::decode(&mut frame, version)?)
}

async fn read_loop(shared: Arc<Shared>, reader: OwnedReadHalf) {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    let limit = shared.settings.response_bytes_max;
    let mut meter = shared.meter();
    loop {
        let frame = tokio::select! {
            frame = read_frame(&mut reader, limit) => frame,
            () = shared.over.stopped() => break,
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(peer = %shared.address, %error, "a connection failed");
                break;
            }
        };
        meter.received(frame.len() + 4);
        let Some(correlation_id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id))
        else {
            break;
        };
        let Some(waiter) = shared.take_waiter(correlation_id) else {
            tracing::warn!(peer = %shared.address, correlation_id, "an answer to nothing we asked");
            break;
        };
        // Whoever stopped waiting does not need the answer.
        let _ = waiter.send(frame);
    }
    shared.finish();
}

async fn write_loop(
    shared: Arc<Shared>,
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
) {
    let mut meter = shared.meter();
    loop {
        let outgoing = tokio::select! {
            outgoing = queue.recv() => outgoing,
            () = shared.over.stopped() => None,
        };
        let Some(outgoing) = outgoing else { break };
        if let Some(answer) = outgoing.answer {
            let mut waiting = shared.waiting();
            if waiting.closed {
                break;
            }
            waiting.answers.push_back((outgoing.correlation_id, answer));
            shared.settings.traffic.asked();
        }
        let written = tokio::select! {
            written = writer.write_all(&outgoing.frame) => written,
            () = shared.over.stopped() => break,
        };
        meter.sent(outgoing.frame.len());
        if let Err(error) = written {
            tracing::debug!(peer = %shared.address, %error, "a connection failed");
            break;
        }
    }
    shared.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiVersionsResponse;

    #[test]
    fn an_unsupported_version_is_read_in_the_oldest_shape() {
        // error 35, one key: 18 from 0 to 3, as a real 2.8.0 broker answers ApiVersions v4.
        let frame = Bytes::from_static(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3]);
        let answer: ApiVersionsResponse =
            decode::<ApiVersionsRequest>(frame, 3).expect("well formed");
        assert_eq!(answer.error_code, 35);
        assert_eq!(answer.api_keys.len(), 1);
        assert_eq!(answer.api_keys[0].max_version, 3);
    }

    #[test]
    fn a_frame_without_a_correlation_id_is_refused() {
        assert!(decode::<ApiVersionsRequest>(Bytes::from_static(&[0, 0]), 3).is_err());
    }
}
