//! One client: the handshake, then requests in and replies out in the order of the requests.
//!
//! Writes are handed to raft as they come, many at a time; a read waits until this connection's earlier
//! writes are applied, and a later write waits until the read was answered. Everything that leaves goes through the outbox, where watch events have their
//! place. One task does it all, so that a reply costs no hop. A write without an outcome ends the
//! connection: the client then knows that it does not know.
//!
//! Memory is bounded by bytes: what this connection has waiting, and, through [`Rooms`], what all have
//! together. Before a request's bytes are read it has room; while there is none the socket is not read.
//!
//! [`Rooms`]: crate::coordinator::room::Rooms

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tracing::debug;

use crate::common::ids::SessionId;
use crate::common::tls::Stream;
use crate::coordinator::auth::{self, Identity};
use crate::coordinator::outbox::Outbox;
use crate::coordinator::raft::ProposeError;
use crate::coordinator::request::Form;
use crate::coordinator::room::{Held, Place, SHORT_BYTES_MAX};
use crate::coordinator::server::{Client, Server};
use crate::coordinator::status::ConnectionStats;
use crate::coordinator::tree::op::{ConnectionId, Done, Op, Outcome, Request};
use crate::coordinator::{read_only, request, session};
use crate::zookeeper::acl::Id;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::jute::{Jute, put_frame};
use crate::zookeeper::message::{
    self, ConnectRequest, ConnectResponse, PASSWORD_BYTES, RequestHeader, Response, XID_PING,
    put_reply,
};

/// Requests of one connection that may wait for their replies.
const PIPELINE_MAX: usize = 512;
/// The same in bytes of requests, after the first.
const PIPELINE_BYTES_MAX: usize = 1 << 20;
/// What takes no room while it waits for its turn counts so many times.
const READ_WEIGHT: usize = 8;
/// Reply bytes that are sent before more requests are answered.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Bytes that one multiRead may answer; its steps may all name one large node.
const MULTI_READ_BYTES_MAX: usize = 8 << 20;
/// What a read reserves.
const READ_BYTES: usize = 16 << 10;
/// A client that takes nothing for this long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A client that moves nothing for this long is gone if others wait for the room it takes.
const STALL_LIMIT: Duration = Duration::from_secs(3);
/// Of a session's timeout, how much may pass before raft hears again that it lives.
const TOUCH_FRACTION: i64 = 16;
const SILENCE: u32 = TOUCH_FRACTION as u32;

/// A proposal on its way, and then its result.
enum Wait<T> {
    Running(oneshot::Receiver<Result<T, ProposeError>>),
    Done(Result<T, ProposeError>),
}

impl<T> Wait<T> {
    fn is_done(&mut self, context: &mut Context<'_>) -> bool {
        if let Wait::Running(receiver) = self {
            match Pin::new(receiver).poll(context) {
                Poll::Ready(Ok(result)) => *self = Wait::Done(result),
                Poll::Ready(Err(_)) => *self = Wait::Done(Err(ProposeError::Stopped)),
                Poll::Pending => return false,
            }
        }
        true
    }
}

/// A request whose reply is not made yet.
struct Pending {
    xid: i32,
    since_ms: i64,
    /// Of its frame, as long as anything of that is kept.
    bytes: usize,
    what: What,
}

enum What {
    /// Waits for its outcome.
    Write(Form, Wait<Outcome>),
    /// Waits for everything that is committed.
    Sync(String, Wait<()>, PendingSync),
    /// Waits for the writes in front of it.
    Read(message::Request),
    /// Waits for its turn only.
    Answer(Result<Response, ErrorCode>),
    /// The same, about who the client is; it has no zxid.
    Auth(auth::Answer),
}

impl What {
    fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            What::Write(_, wait) => wait.is_done(context),
            What::Sync(_, wait, _) => wait.is_done(context),
            What::Read(_) | What::Answer(_) | What::Auth(_) => true,
        }
    }
}

/// Counts a `sync` for as long as it waits, however that ends.
struct PendingSync(Arc<Server>);

impl PendingSync {
    fn begin(server: &Arc<Server>) -> PendingSync {
        server.stats.pending_syncs.add(1);
        PendingSync(server.clone())
    }
}

impl Drop for PendingSync {
    fn drop(&mut self) {
        self.0.stats.pending_syncs.add(-1);
    }
}

/// What a request came in, and the room for that.
struct Frame {
    bytes: usize,
    held: Option<Held>,
}

/// A connection with a session.
struct Connection {
    server: Arc<Server>,
    id: ConnectionId,
    session: SessionId,
    outbox: Arc<Outbox>,
    stats: Arc<ConnectionStats>,
    identity: Identity,
    /// Its session is known here alone, and nothing is written.
    read_only: bool,
    /// Writes handed to raft.
    sequence: u64,
    pending: VecDeque<Pending>,
    /// Bytes of the frames of `pending`.
    pending_bytes: usize,
    /// For the frame that is being read.
    request_place: Place,
    /// For the reply in front, until it is sent.
    reply_place: Place,
    /// How many of `pending` look at the tree when their turn comes. A write must not be applied before
    /// they have, or they would see it.
    looks_waiting: usize,
    /// A write that waits for that.
    held: Option<(RequestHeader, message::Request, Frame)>,
    touch_every_ms: i64,
    touched_ms: i64,
    /// closeSession or a failed authentication was read: nothing after it counts.
    is_ending: bool,
}

/// Serves one client, from its handshake to the end of its connection.
pub async fn serve(
    server: &Arc<Server>,
    stream: &mut Stream,
    client: &Client,
    mut handshake: Bytes,
) -> io::Result<()> {
    server.stats.bytes_received.add(4 + handshake.len() as u64);
    server.stats.handshakes.add(1);
    let since_ms = server.clock.monotonic_ms();
    let asked = ConnectRequest::decode(&mut handshake).map_err(io::Error::other)?;
    let read_only = read_only::serves(server, &asked);
    if !server.raft.serving() && !read_only {
        return Ok(());
    }
    let outbox = Arc::new(Outbox::default());
    let id = server.new_connection_id();
    let guard = Registered(server.clone(), id);
    let identity = Identity::new(client, &server.options.auth);
    let begun = match read_only {
        true => read_only::begin(server, &asked, id, &outbox, identity.ids()),
        false => begin(server, &asked, id, &outbox, identity.ids()).await?,
    };
    let Some((session, timeout_ms, password)) = begun else {
        return Ok(());
    };
    let response = ConnectResponse {
        protocol_version: 0,
        timeout_ms,
        session_id: session.0,
        password,
        read_only: asked.read_only.map(|_| read_only),
    };
    outbox.put(|out| put_frame(out, |out| response.encode(out)));
    if timeout_ms == 0 {
        return send(stream, outbox.take()).await;
    }
    let wall_ms = server.clock.wall_ms();
    let stats = ConnectionStats::new(client.peer, session, timeout_ms, wall_ms);
    let stats = Arc::new(stats);
    let latency_ms = server.clock.monotonic_ms() - since_ms;
    (server.stats).note_handshake(&stats, latency_ms, asked.session_id == 0);
    server.stats.connected(id, stats.clone());
    server.trace.session(session, "begins here");
    debug!(peer = %client.peer, session = format!("{:#x}", session.0), timeout_ms, "session established");
    let mut connection = Connection {
        server: server.clone(),
        id,
        session,
        outbox,
        stats,
        identity,
        read_only,
        sequence: 0,
        pending: VecDeque::new(),
        pending_bytes: 0,
        request_place: Place::None,
        reply_place: Place::None,
        looks_waiting: 0,
        held: None,
        touch_every_ms: i64::from(timeout_ms) / TOUCH_FRACTION,
        touched_ms: server.clock.monotonic_ms(),
        is_ending: false,
    };
    let ended = connection.run(stream).await;
    // Also what ended the connection instead of being answered.
    let unanswered = connection.stats.outstanding.load(Relaxed);
    server.stats.outstanding.fetch_sub(unanswered, Relaxed);
    drop(guard);
    ended
}

/// Forgets the connection however it ends.
struct Registered(Arc<Server>, ConnectionId);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.replica.disconnect(self.1);
        self.0.stats.disconnected(self.1);
    }
}

/// Begins or resumes a session: its id, timeout and password; timeout 0 if there is no such session.
/// `None`: close without an answer.
async fn begin(
    server: &Arc<Server>,
    asked: &ConnectRequest,
    id: ConnectionId,
    outbox: &Arc<Outbox>,
    auth: &Arc<[Id]>,
) -> io::Result<Option<(SessionId, i32, [u8; PASSWORD_BYTES])>> {
    let seen = asked.last_zxid_seen;
    if !has_caught_up(server, seen).await? {
        debug!(seen, "a client has seen a later zxid than ours");
        return Ok(None);
    }
    let options = &server.options;
    let timeout_ms = session::negotiate(
        asked.timeout_ms,
        options.min_session_timeout_ms,
        options.max_session_timeout_ms,
    );
    let given = asked.password.as_deref().unwrap_or_default();
    let (session, password, op) = if asked.session_id == 0 {
        let mut password = [0; PASSWORD_BYTES];
        server.rng.fill(&mut password);
        let session = SessionId(server.next_session.fetch_add(1, Relaxed));
        (
            session,
            password,
            Op::CreateSession {
                password,
                timeout_ms,
            },
        )
    } else {
        let session = SessionId(asked.session_id);
        let Ok(password) = <[u8; PASSWORD_BYTES]>::try_from(given) else {
            return Ok(Some((SessionId(0), 0, [0; PASSWORD_BYTES])));
        };
        (
            session,
            password,
            Op::AttachSession {
                password,
                timeout_ms,
            },
        )
    };
    server
        .replica
        .connect(id, session, auth.clone(), outbox.clone());
    let proposal = Request {
        session,
        connection: id,
        sequence: 0,
        now_ms: server.clock.wall_ms(),
        auth: auth.clone(),
        op,
    };
    let outcome = server
        .raft
        .propose(proposal)
        .await
        .map_err(io::Error::other)?;
    Ok(Some(match outcome.result {
        Ok(Done::Session(timeout_ms)) => {
            server.raft.touch(session);
            (session, timeout_ms, password)
        }
        _ => (SessionId(0), 0, [0; PASSWORD_BYTES]),
    }))
}

/// Has this member what the client has seen? It must not see us go back in time, but we may only be
/// behind.
async fn has_caught_up(server: &Server, seen: i64) -> io::Result<bool> {
    if seen > server.replica.last_zxid().0 {
        server.raft.barrier().await.map_err(io::Error::other)?;
    }
    Ok(seen <= server.replica.last_zxid().0)
}

async fn send(stream: &mut Stream, bytes: BytesMut) -> io::Result<()> {
    tokio::time::timeout(WRITE_LIMIT, stream.write_all(&bytes)).await??;
    tokio::time::timeout(WRITE_LIMIT, stream.flush()).await?
}

impl Connection {
    async fn run(&mut self, stream: &mut Stream) -> io::Result<()> {
        let mut input = BytesMut::with_capacity(READ_BYTES);
        loop {
            self.take_frames(&mut input)?;
            std::future::poll_fn(|context| Poll::Ready(self.answer(context))).await?;
            let unsent = self.outbox.take();
            if !unsent.is_empty() {
                self.send_replies(stream, unsent).await?;
            }
            // Also what was answered with another answer than the one that needed room.
            if !self.reply_place.is_waiting() {
                drop(self.reply_place.leave());
            }
            if self.outbox.is_closed()
                || (self.is_ending && self.pending.is_empty() && self.held.is_none())
            {
                return send(stream, self.outbox.take()).await;
            }
            if self.has_work(&input) {
                continue;
            }
            if !self.wait(stream, &mut input).await? {
                return Ok(());
            }
        }
    }

    /// Waits for bytes, for the answer in front, for room, or for an event. `false`: the client closed.
    async fn wait(&mut self, stream: &mut Stream, input: &mut BytesMut) -> io::Result<bool> {
        let outbox = self.outbox.clone();
        let may_read = self.may_take() && !self.request_place.is_waiting();
        let wanted = wanted_bytes(input);
        if may_read && (wanted > READ_BYTES || input.capacity() - input.len() < READ_BYTES / 2) {
            input.reserve(wanted);
        }
        let stalls = may_read && self.request_place.is_inside();
        let waits = self.request_place.is_waiting() || self.reply_place.is_waiting();
        let touch_every = Duration::from_millis(self.touch_every_ms.max(1).unsigned_abs());
        let mut limited = (&mut *stream).take(wanted as u64);
        tokio::select! {
            read = limited.read_buf(input), if may_read => {
                if !matches!(read, Ok(1..)) {
                    self.server.stats.dropped.add(1);
                }
                return Ok(read? > 0);
            }
            () = front_is_ready(&mut self.pending),
                if !self.pending.is_empty() && !self.reply_place.is_waiting() => {}
            () = self.request_place.inside(), if self.request_place.is_waiting() => {}
            () = self.reply_place.inside(), if self.reply_place.is_waiting() => {}
            () = outbox.woken() => {}
            // It is we who do not read: the session lives.
            () = tokio::time::sleep(touch_every), if waits => self.touch(),
            // Nobody else looks after its session.
            () = tokio::time::sleep(touch_every * SILENCE), if self.read_only && may_read => {
                return Ok(false);
            }
            () = tokio::time::sleep(STALL_LIMIT), if stalls => {
                if self.is_envied() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(true)
    }

    /// Sends all of it. A client that does not take it is cut off, sooner if others wait for its room.
    async fn send_replies(&self, stream: &mut Stream, mut unsent: BytesMut) -> io::Result<()> {
        let sent = async {
            while unsent.has_remaining() {
                match tokio::time::timeout(STALL_LIMIT, stream.write_buf(&mut unsent)).await {
                    Ok(written) => drop(written?),
                    Err(_) if self.is_envied() => {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Err(_) => {}
                }
            }
            // What TLS has taken is not sent yet.
            stream.flush().await
        };
        tokio::time::timeout(WRITE_LIMIT, sent).await?
    }

    /// Does it keep others waiting?
    fn is_envied(&self) -> bool {
        let held = self.held.as_ref().map(|(_, _, frame)| frame.bytes);
        let room = held.and_then(|bytes| self.server.rooms.for_request(bytes));
        self.reply_place.is_envied()
            || self.request_place.is_envied()
            || room.is_some_and(|room| room.is_wanted())
    }

    /// Is there something to do that needs nobody else?
    fn has_work(&self, input: &BytesMut) -> bool {
        let front = self.pending.front();
        let front_is_ready = !self.reply_place.is_waiting()
            && front.is_some_and(|front| {
                matches!(front.what, What::Read(_) | What::Answer(_) | What::Auth(_))
            });
        let next_may_go = match &self.held {
            Some(_) => self.looks_waiting == 0,
            None => {
                self.may_take() && !self.request_place.is_waiting() && whole_frame(input).is_some()
            }
        };
        front_is_ready || next_may_go
    }

    fn may_take(&self) -> bool {
        !self.is_ending
            && self.held.is_none()
            && self.pending.len() < PIPELINE_MAX
            && self.pending_bytes < PIPELINE_BYTES_MAX
    }

    /// Takes whole frames off `input`, as many as may wait.
    fn take_frames(&mut self, input: &mut BytesMut) -> io::Result<()> {
        let limit = self.server.options.jute_max_buffer;
        if let Some((header, request, frame)) = self.held.take() {
            self.begin_request(header, request, frame)?;
        }
        while self.may_take() {
            let Some(head) = input.first_chunk::<4>() else {
                return Ok(());
            };
            let head = i32::from_be_bytes(*head);
            let length = usize::try_from(head).ok().filter(|length| *length <= limit);
            let Some(length) = length else {
                let text = format!("a frame of {head} bytes is outside 0..={limit}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            };
            let room = self.server.rooms.for_request(length);
            if !self.request_place.ask(room, length) || whole_frame(input).is_none() {
                return Ok(());
            }
            input.advance(4);
            let frame = input.split_to(length).freeze();
            if length > SHORT_BYTES_MAX {
                // The rest must not keep the long one's memory.
                *input = BytesMut::from(&input[..]);
            }
            let held = self.request_place.leave();
            self.take_request(frame, held)?;
        }
        Ok(())
    }

    fn take_request(&mut self, mut frame: Bytes, held: Option<Held>) -> io::Result<()> {
        let bytes = frame.len();
        let header = RequestHeader::decode(&mut frame).map_err(io::Error::other)?;
        let request = message::Request::decode(header.op, &mut frame);
        self.server.trace.request(self.session, &header);
        self.touch();
        let server = &self.server.stats;
        server.received.fetch_add(1, Relaxed);
        server.bytes_received.add(4 + bytes as u64);
        server.outstanding.fetch_add(1, Relaxed);
        self.stats.received.fetch_add(1, Relaxed);
        self.stats.outstanding.fetch_add(1, Relaxed);
        self.stats.last_op.store(i64::from(header.op), Relaxed);
        if header.xid >= 0 {
            self.stats.last_xid.store(i64::from(header.xid), Relaxed);
        }
        match request {
            Ok(request) => self.begin_request(header, request, Frame { bytes, held }),
            Err(error) => {
                debug!(op = header.op, %error, "a request cannot be read");
                let answer = What::Answer(Err(ErrorCode::MarshallingError));
                self.wait_in_line(header.xid, 0, answer);
                Ok(())
            }
        }
    }

    /// Puts a request into the line: a write on its way to raft, everything else to wait for its turn.
    fn begin_request(
        &mut self,
        header: RequestHeader,
        request: message::Request,
        frame: Frame,
    ) -> io::Result<()> {
        let mut bytes = frame.bytes;
        let options = &self.server.options.auth;
        let what = match &request {
            message::Request::Auth(record) => {
                bytes = 0;
                self.prove(|identity, server| identity.authenticate(&server.options.auth, record))
            }
            message::Request::Sasl(token) => {
                // ZooKeeper reads what is behind null, and closes the connection over that.
                let token = token.as_ref().ok_or(io::ErrorKind::InvalidData)?;
                bytes = 0;
                self.prove(|identity, server| {
                    identity.exchange(&server.options.auth, &server.rng, token)
                })
            }
            _ if self.identity.lacks_sasl(options) => {
                self.is_ending = true;
                What::Auth(auth::Answer::needs_sasl())
            }
            _ if self.read_only && read_only::refuses(&request) => {
                What::Answer(Err(ErrorCode::NotReadOnly))
            }
            message::Request::CloseSession if self.read_only => {
                self.is_ending = true;
                What::Answer(Ok(Response::Nothing))
            }
            // Only a multi may hold it; ZooKeeper 3.6 closes the connection.
            message::Request::Check(_) => {
                let error = "check outside a multi";
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            message::Request::Sync(path) => What::Sync(
                path.clone(),
                Wait::Running(self.server.raft.submit_barrier()),
                PendingSync::begin(&self.server),
            ),
            _ => match request::operation(&request, self.server.options.extended_types) {
                Err(error) => What::Answer(Err(error)),
                Ok(None) => What::Read(request),
                Ok(Some(_)) if self.looks_waiting > 0 => {
                    self.held = Some((header, request, frame));
                    return Ok(());
                }
                Ok(Some(mut op)) => {
                    auth::withhold(&mut op, options);
                    self.server.stats.proposal_bytes.note(bytes);
                    self.is_ending = matches!(op, Op::CloseSession);
                    What::Write(
                        request::form(&request),
                        Wait::Running(self.submit(op, frame.held)),
                    )
                }
            },
        };
        // Whatever a ping calls itself, its answer is known by its number.
        let is_ping = matches!(what, What::Read(message::Request::Ping));
        self.wait_in_line(if is_ping { XID_PING } else { header.xid }, bytes, what);
        Ok(())
    }

    fn wait_in_line(&mut self, xid: i32, bytes: usize, what: What) {
        let bytes = match what {
            What::Write(..) => bytes,
            _ => bytes.saturating_mul(READ_WEIGHT),
        };
        self.pending_bytes += bytes;
        if !matches!(what, What::Write(..)) {
            self.looks_waiting += 1;
        }
        self.pending.push_back(Pending {
            xid,
            since_ms: self.server.clock.monotonic_ms(),
            bytes,
            what,
        });
    }

    fn submit(
        &mut self,
        op: Op,
        held: Option<Held>,
    ) -> oneshot::Receiver<Result<Outcome, ProposeError>> {
        self.sequence += 1;
        let request = Request {
            session: self.session,
            connection: self.id,
            sequence: self.sequence,
            now_ms: self.server.clock.wall_ms(),
            auth: self.identity.ids().clone(),
            op,
        };
        self.server.raft.submit(&request, held)
    }

    /// Answers from the front as far as answers are there.
    fn answer(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.outbox.unsent() < REPLY_BYTES_MAX {
            let front = self.pending.front_mut();
            if !front.is_some_and(|front| front.what.is_ready(context)) {
                break;
            }
            if !self.has_reply_room() {
                break;
            }
            if let Some(front) = self.pending.pop_front() {
                self.pending_bytes -= front.bytes;
                if !matches!(front.what, What::Write(..)) {
                    self.looks_waiting -= 1;
                }
                self.finish(front)?;
            }
        }
        Ok(())
    }

    /// Is there room for the reply in front? Only a long one needs any.
    fn has_reply_room(&mut self) -> bool {
        let Some(What::Read(request)) = self.pending.front().map(|front| &front.what) else {
            return true;
        };
        let bytes = self.server.replica.reply_bytes(request);
        let room = (bytes > SHORT_BYTES_MAX).then_some(&self.server.rooms.replies);
        room.is_none() || self.reply_place.ask(room, bytes)
    }

    fn finish(&mut self, front: Pending) -> io::Result<()> {
        let Pending {
            xid,
            since_ms,
            what,
            ..
        } = front;
        let latencies = match what {
            What::Write(..) => &self.server.stats.updates,
            _ => &self.server.stats.reads,
        };
        match what {
            What::Read(request) => {
                let too_long = matches!(request, message::Request::MultiRead(_))
                    && self.server.replica.reply_bytes(&request) > MULTI_READ_BYTES_MAX;
                if too_long {
                    let zxid = self.server.replica.last_zxid().0;
                    self.reply(xid, since_ms, zxid, &Err(ErrorCode::SystemError));
                    return Ok(());
                }
                let (zxid, bytes) = self.server.replica.read(self.id, xid, &request);
                self.server.stats.response_bytes.note_frame(bytes);
                self.answered(since_ms, zxid);
            }
            What::Answer(result) => {
                let zxid = self.server.replica.last_zxid().0;
                self.reply(xid, since_ms, zxid, &result);
            }
            What::Auth(answer) => {
                self.outbox.put(|out| answer.put(out, xid));
                self.answered(since_ms, 0);
            }
            What::Write(form, Wait::Done(outcome)) => {
                let outcome = outcome.map_err(io::Error::other)?;
                let zxid = outcome.zxid.0;
                let result = request::response(&form, outcome);
                // The session is over, or goes on elsewhere, or lost a write: so does this connection.
                if let Err(
                    error @ (ErrorCode::SessionExpired
                    | ErrorCode::SessionMoved
                    | ErrorCode::ConnectionLoss),
                ) = result
                {
                    return Err(io::Error::other(error));
                }
                self.reply(xid, since_ms, zxid, &result);
            }
            What::Sync(path, Wait::Done(done), pending) => {
                done.map_err(io::Error::other)?;
                drop(pending);
                let zxid = self.server.replica.last_zxid().0;
                self.reply(xid, since_ms, zxid, &Ok(Response::Path(path)));
            }
            // Only what is ready is taken from the front.
            What::Write(_, Wait::Running(_)) | What::Sync(_, Wait::Running(_), _) => {}
        }
        latencies.observe_ms(self.server.clock.monotonic_ms() - since_ms);
        Ok(())
    }

    fn reply(&self, xid: i32, since_ms: i64, zxid: i64, result: &Result<Response, ErrorCode>) {
        self.outbox.put(|out| {
            let before = out.len();
            put_reply(out, xid, zxid, result);
            self.server
                .stats
                .response_bytes
                .note_frame(out.len() - before);
        });
        self.answered(since_ms, zxid);
    }

    fn answered(&self, since_ms: i64, zxid: i64) {
        let clock = &self.server.clock;
        let latency_ms = clock.monotonic_ms() - since_ms;
        let server = &self.server.stats;
        server.outstanding.fetch_sub(1, Relaxed);
        server.sent.fetch_add(1, Relaxed);
        server.latency.note(latency_ms);
        let stats = &self.stats;
        stats.outstanding.fetch_sub(1, Relaxed);
        stats.sent.fetch_add(1, Relaxed);
        stats.latency.note(latency_ms);
        stats.last_latency_ms.store(latency_ms, Relaxed);
        stats.last_zxid.store(zxid, Relaxed);
        stats.last_response_ms.store(clock.wall_ms(), Relaxed);
    }

    /// Tells raft that the session lives, but not for every request of a busy client.
    fn touch(&mut self) {
        let now_ms = self.server.clock.monotonic_ms();
        if now_ms - self.touched_ms >= self.touch_every_ms {
            self.touched_ms = now_ms;
            if !self.read_only {
                self.server.raft.touch(self.session);
            }
        }
    }

    /// Lets the client prove something; who fails is not served any more.
    fn prove(&mut self, attempt: impl FnOnce(&mut Identity, &Server) -> auth::Answer) -> What {
        let answer = attempt(&mut self.identity, &self.server);
        self.is_ending = answer.error.is_some();
        let ids = self.identity.ids().clone();
        self.server.replica.authenticate(self.id, ids);
        What::Auth(answer)
    }
}

/// The length of the first frame, if all of it is there.
fn whole_frame(input: &BytesMut) -> Option<usize> {
    let length = usize::try_from(i32::from_be_bytes(*input.first_chunk::<4>()?)).ok()?;
    (input.len() - 4 >= length).then_some(length)
}

/// How many bytes to read next: the rest of a long frame, which has room, or some.
fn wanted_bytes(input: &BytesMut) -> usize {
    let head = input
        .first_chunk::<4>()
        .map(|head| i32::from_be_bytes(*head));
    let length = head
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(0);
    (length.saturating_add(4).saturating_sub(input.len())).max(READ_BYTES)
}

/// Resolves when the request in front can be answered.
async fn front_is_ready(pending: &mut VecDeque<Pending>) {
    std::future::poll_fn(move |context| {
        let front = pending.front_mut();
        if front.is_some_and(|front| front.what.is_ready(context)) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
