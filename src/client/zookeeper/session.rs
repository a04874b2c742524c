//! The task behind a ZooKeeper session: dials, shakes hands, sends, reads, pings, dials again.
//!
//! One connection at a time. Its two loops share the queue of requests in flight; whichever ends first
//! ends the connection, and what was in flight is answered with connection loss, because nobody knows
//! whether it happened.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::{Answer, Error, Event, Pending, Shared, State};
use crate::common::frame::read_frame;
use crate::common::ids::SessionId;
use crate::common::net::{self, HostPort, TcpStream};
use crate::common::rng::Rng;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::jute::{Jute, put_frame};
use crate::zookeeper::message::{
    ConnectRequest, ConnectResponse, EventType, PASSWORD_BYTES, ReplyHeader, Request, Response,
    WatcherEvent, XID_EVENT, XID_PING,
};

/// The longest answer that is read: the Java client's `jute.maxbuffer`, for long lists of children.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The shortest and the longest pause before the ensemble is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How often a connection that does not come about is mentioned.
const REMIND_MS: i64 = 5_000;
/// How long the server may take to answer the end of a session.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// Requests that are written with one call.
const WRITE_BATCH: usize = 256;

/// The session's own state and its ends of the channels.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) incoming: mpsc::Receiver<Pending>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) lost: Arc<AtomicBool>,
    pub(super) rng: Rng,
    /// The member that took the session last.
    pub(super) last: Option<usize>,
}

/// What names a session to a server.
#[derive(Clone, Debug)]
struct Ticket {
    session: i64,
    password: [u8; PASSWORD_BYTES],
    last_zxid: i64,
}

impl Ticket {
    fn none(last_zxid: i64) -> Ticket {
        Ticket {
            session: 0,
            password: [0; PASSWORD_BYTES],
            last_zxid,
        }
    }
}

/// A request that was sent.
struct InFlight {
    xid: i32,
    op: i32,
    sent_ms: i64,
    reply: oneshot::Sender<Answer>,
}

/// How a connection ended.
enum End {
    /// It broke, or the server closed it.
    Broken(String),
    /// The session was closed on purpose.
    Closed,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut ticket = Ticket::none(0);
        while let Some(stream) = self.dial(&mut ticket).await {
            let session = SessionId(ticket.session);
            // The event first: whoever waits for the state finds it in the stream.
            self.tell(Event::Connected(session));
            self.shared.state.send_replace(State::Connected { session });
            let end = self.converse(stream, &mut ticket).await;
            match end {
                End::Broken(_) if self.shared.closing.is_stopping() => break,
                End::Closed => break,
                End::Broken(reason) => {
                    warn!(%session, reason, "the connection to ZooKeeper was lost");
                    self.note(reason);
                    let since_ms = self.shared.clock.monotonic_ms();
                    self.shared
                        .state
                        .send_replace(State::Disconnected { since_ms });
                }
            }
        }
        self.shared.state.send_replace(State::Closed);
        self.incoming.close();
        self.refuse_all(&Error::Closed);
    }

    /// Tries the members in turn until one takes the session; none when it was closed meanwhile.
    async fn dial(&mut self, ticket: &mut Ticket) -> Option<TcpStream> {
        let shared = self.shared.clone();
        let servers = &shared.options.servers;
        let mut next = match self.last {
            // Whoever had us last is tried last: it may be there and yet not answer.
            Some(last) => last + 1,
            None => self.start_index(servers.len()),
        };
        let mut pause = PAUSE.0;
        let began_ms = shared.clock.monotonic_ms();
        let mut reminded_ms = began_ms;
        let mut tried = 0;
        loop {
            let server = servers.get(next % servers.len().max(1))?;
            next += 1;
            tried += 1;
            let attempt = tokio::select! {
                attempt = self.attempt(server, ticket) => attempt,
                () = shared.closing.stopped() => return None,
            };
            match attempt {
                Ok(Some(stream)) => {
                    self.last = Some((next - 1) % servers.len().max(1));
                    return Some(stream);
                }
                Ok(None) => {
                    // The session is over. A new one starts right away, on the same server.
                    warn!(
                        session = ticket.session,
                        "the ZooKeeper session has expired"
                    );
                    *ticket = Ticket::none(ticket.last_zxid);
                    self.refuse_all(&Error::SessionExpired);
                    next += servers.len() - 1;
                    self.last = None;
                    continue;
                }
                Err(reason) => {
                    debug!(%server, reason, "ZooKeeper does not take the session");
                    self.note(format!("{server}: {reason}"));
                }
            }
            let now_ms = shared.clock.monotonic_ms();
            if now_ms - reminded_ms >= REMIND_MS {
                reminded_ms = now_ms;
                let waited_s = (now_ms - began_ms) / 1000;
                let servers = shared.options.servers_text();
                warn!(servers, waited_s, reason = %self.problem(), "waiting for ZooKeeper");
            }
            if tried % servers.len() == 0 {
                let overdue = now_ms - began_ms > shared.negotiated_ms.load(Ordering::Relaxed);
                if !self.rest(pause, overdue).await {
                    return None;
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Waits before the next round. Requests go on waiting, unless there has been no connection for
    /// as long as a session lives. False when the session is to be closed.
    async fn rest(&mut self, pause: Duration, overdue: bool) -> bool {
        let shared = self.shared.clone();
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return true,
                () = shared.closing.stopped() => return false,
                request = self.incoming.recv(), if overdue => match request {
                    Some(pending) => drop(pending.reply.send(Err(Error::ConnectionLoss))),
                    None => return false,
                },
            }
        }
    }

    /// One handshake. None: the session is over.
    async fn attempt(
        &mut self,
        server: &HostPort,
        ticket: &mut Ticket,
    ) -> Result<Option<TcpStream>, String> {
        let shared = self.shared.clone();
        let members = u32::try_from(shared.options.servers.len())
            .unwrap_or(1)
            .max(1);
        let limit = (shared.options.session_timeout / members).max(Duration::from_secs(1));
        let mut stream = net::connect(server, limit)
            .await
            .map_err(|error| error.to_string())?;
        let sent_ms = shared.clock.monotonic_ms();
        let shaken = tokio::time::timeout(limit, shake(&mut stream, ticket, &shared)).await;
        let response = shaken.map_err(|_| format!("no handshake in {limit:?}"))??;
        if response.timeout_ms <= 0 || response.session_id == 0 {
            if ticket.session == 0 {
                return Err("it refuses a new session".to_owned());
            }
            return Ok(None);
        }
        if ticket.session != response.session_id {
            info!(
                %server,
                session = format!("{:#x}", response.session_id),
                timeout_ms = response.timeout_ms,
                "ZooKeeper session established"
            );
        } else {
            info!(%server, "reconnected to ZooKeeper within the session");
        }
        ticket.session = response.session_id;
        ticket.password = response.password;
        shared
            .negotiated_ms
            .store(response.timeout_ms.into(), Ordering::Relaxed);
        shared.confirmed_ms.fetch_max(sent_ms, Ordering::Relaxed);
        Ok(Some(stream))
    }

    /// Serves requests over one connection until it ends.
    async fn converse(&mut self, stream: TcpStream, ticket: &mut Ticket) -> End {
        let (reader, writer) = stream.into_split();
        let wire = Wire {
            shared: self.shared.clone(),
            in_flight: Mutex::default(),
            ping_sent_ms: AtomicI64::new(0),
            last_zxid: AtomicI64::new(ticket.last_zxid),
            events: self.events.clone(),
            lost: self.lost.clone(),
        };
        let reading = wire.read(BufReader::with_capacity(64 << 10, reader));
        let writing = wire.write(writer, &mut self.incoming);
        let end = tokio::select! {
            end = reading => end,
            end = writing => end,
        };
        ticket.last_zxid = wire.last_zxid.load(Ordering::Relaxed);
        self.shared
            .seen_zxid
            .store(ticket.last_zxid, Ordering::Relaxed);
        let in_flight = std::mem::take(&mut *wire.lock());
        for request in in_flight {
            let answer = match end {
                End::Closed => Err(Error::Closed),
                End::Broken(_) => Err(Error::ConnectionLoss),
            };
            // Whoever gave up waiting needs no answer.
            let _ = request.reply.send(answer);
        }
        end
    }

    fn start_index(&self, servers: usize) -> usize {
        usize::try_from(self.rng.below(servers as u64)).unwrap_or(0)
    }

    fn refuse_all(&mut self, error: &Error) {
        while let Ok(pending) = self.incoming.try_recv() {
            let _ = pending.reply.send(Err(error.clone()));
        }
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    fn note(&self, problem: String) {
        *self
            .shared
            .last_problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn problem(&self) -> String {
        self.shared
            .last_problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn shake(
    stream: &mut TcpStream,
    ticket: &Ticket,
    shared: &Shared,
) -> Result<ConnectResponse, String> {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: ticket.last_zxid,
        timeout_ms: i32::try_from(shared.options.session_timeout.as_millis()).unwrap_or(i32::MAX),
        session_id: ticket.session,
        password: Some(Bytes::copy_from_slice(&ticket.password)),
        read_only: Some(false),
    };
    let mut frame = BytesMut::new();
    put_frame(&mut frame, |out| request.encode(out));
    stream
        .write_all(&frame)
        .await
        .map_err(|error| error.to_string())?;
    let answer = read_frame(stream, ANSWER_BYTES_MAX)
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = answer.ok_or("it closes the connection: it does not serve (no quorum?)")?;
    ConnectResponse::decode(&mut answer).map_err(|error| format!("its handshake is bad: {error}"))
}

/// What the two loops of a connection share.
struct Wire {
    shared: Arc<Shared>,
    in_flight: Mutex<VecDeque<InFlight>>,
    ping_sent_ms: AtomicI64,
    last_zxid: AtomicI64,
    events: mpsc::Sender<Event>,
    lost: Arc<AtomicBool>,
}

impl Wire {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<InFlight>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn part_of_timeout(&self, numerator: u64, denominator: u64) -> Duration {
        let timeout = self.shared.negotiated_ms.load(Ordering::Relaxed);
        let timeout = u64::try_from(timeout).unwrap_or(1).max(1);
        Duration::from_millis((timeout.saturating_mul(numerator) / denominator).max(1))
    }

    async fn write<W>(&self, mut writer: W, incoming: &mut mpsc::Receiver<Pending>) -> End
    where
        W: AsyncWrite + Unpin,
    {
        let mut xid: i32 = 0;
        let mut out = BytesMut::new();
        let mut batch = Vec::with_capacity(WRITE_BATCH);
        let mut closing = false;
        while !closing {
            let idle = tokio::time::timeout(
                self.part_of_timeout(1, 6),
                incoming.recv_many(&mut batch, WRITE_BATCH),
            );
            let taken = tokio::select! {
                // What was asked before the end is sent before the end.
                biased;
                taken = idle => taken,
                () = self.shared.closing.stopped() => Ok(0),
            };
            let now_ms = self.shared.clock.monotonic_ms();
            match taken {
                Ok(0) if self.shared.leaving.load(Ordering::Relaxed) => return End::Closed,
                Ok(0) => {
                    // The handle is gone or everything stops: end the session, not just the socket.
                    let (reply, _) = oneshot::channel();
                    let request = Request::CloseSession;
                    batch.push(Pending { request, reply });
                }
                Ok(_) => {}
                Err(_) => {
                    self.ping_sent_ms.store(now_ms, Ordering::Relaxed);
                    Request::Ping.put(&mut out, XID_PING);
                }
            }
            for pending in batch.drain(..) {
                xid = if xid == i32::MAX { 1 } else { xid + 1 };
                pending.request.put(&mut out, xid);
                closing |= matches!(pending.request, Request::CloseSession);
                self.lock().push_back(InFlight {
                    xid,
                    op: pending.request.op(),
                    sent_ms: now_ms,
                    reply: pending.reply,
                });
            }
            if let Err(error) = writer.write_all(&out).await {
                return End::Broken(format!("writing: {error}"));
            }
            out.clear();
        }
        // The reader sees the answer to the close, or the server's end of the connection.
        tokio::time::sleep(FAREWELL).await;
        End::Closed
    }

    async fn read<R>(&self, mut reader: R) -> End
    where
        R: AsyncRead + Unpin,
    {
        loop {
            // Soon enough to find another member while the session lives, and before it is in doubt.
            let patience = self.part_of_timeout(1, 3);
            let frame =
                match tokio::time::timeout(patience, read_frame(&mut reader, ANSWER_BYTES_MAX))
                    .await
                {
                    Ok(Ok(Some(frame))) => frame,
                    Ok(Ok(None)) => return End::Broken("the server closed it".to_owned()),
                    Ok(Err(error)) => return End::Broken(error.to_string()),
                    Err(_) => return End::Broken(format!("nothing was heard for {patience:?}")),
                };
            match self.take(frame) {
                Ok(false) => {}
                Ok(true) => return End::Closed,
                Err(reason) => return End::Broken(reason),
            }
        }
    }

    /// One frame from the server. True when it says that the session is closed.
    fn take(&self, mut frame: Bytes) -> Result<bool, String> {
        let header = ReplyHeader::decode(&mut frame).map_err(|error| error.to_string())?;
        if header.zxid > 0 {
            self.last_zxid.fetch_max(header.zxid, Ordering::Relaxed);
        }
        if header.xid == XID_EVENT {
            let event = WatcherEvent::decode(&mut frame).map_err(|error| error.to_string())?;
            if let Some(kind) = EventType::from_code(event.kind) {
                let path = self.shared.options.unrooted(&event.path).to_owned();
                if self.events.try_send(Event::Node(kind, path)).is_err() {
                    self.lost.store(true, Ordering::Relaxed);
                }
            }
            return Ok(false);
        }
        if header.xid == XID_PING {
            let sent_ms = self.ping_sent_ms.load(Ordering::Relaxed);
            self.shared
                .confirmed_ms
                .fetch_max(sent_ms, Ordering::Relaxed);
            return Ok(false);
        }
        let request = self
            .lock()
            .pop_front()
            .ok_or_else(|| format!("an answer {} to nothing", header.xid))?;
        if request.xid != header.xid {
            let wrong = format!("answer {} came instead of {}", header.xid, request.xid);
            self.lock().push_front(request);
            return Err(wrong);
        }
        self.shared
            .confirmed_ms
            .fetch_max(request.sent_ms, Ordering::Relaxed);
        let answer = match ErrorCode::from_code(header.err) {
            Some(code) => Err(Error::Code(code)),
            None => Response::decode(request.op, &mut frame).map_err(|_| Error::Malformed),
        };
        let closed = request.op == crate::zookeeper::message::op::CLOSE_SESSION;
        // Whoever gave up waiting needs no answer.
        let _ = request.reply.send(answer);
        Ok(closed)
    }
}
