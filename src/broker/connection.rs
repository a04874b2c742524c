//! One client connection: frame in → dispatch → response out, one request at a time, in order.
//!
//! The invariant: responses leave in the order of the requests, and what a connection holds in memory
//! is one frame and one response's envelope; records go from the file to the socket by `sendfile`. A
//! client that stops reading holds no more than that, and not for ever. Knows no API.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::broker::Broker;
use crate::broker::api::{self, Chunk};
use crate::common::disk::DiskFile;
use crate::common::net::TcpStream;
use crate::common::shutdown::Shutdown;

/// A connection has to send its first frame's length within this time, and any later length that it
/// has begun.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A frame that has begun has to go on within this time.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// How long a request that is being served may go on after the signal to stop.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// What a frame reserves before its bytes are there. Untouched pages cost nothing; a lie costs this.
const RESERVE_MAX: usize = 1 << 20;
/// What is read where nothing is known of the next frame.
const READ_MIN: usize = 4 << 10;
/// Chunks of one vectored write.
const SLICES_MAX: usize = 32;
/// What is read at once where `sendfile` does not work.
const COPY_BYTES: usize = 64 << 10;
/// Frames up to this size are not counted in [`Limits::memory`].
const FREE_BYTES: usize = 64 << 10;
/// The unit of [`Limits::memory`].
pub const MEMORY_UNIT: usize = 1 << 10;

/// What every connection of a broker is bound by.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `socket.request.max.bytes`
    pub frame_bytes_max: usize,
    /// `connections.max.idle.ms`: for a client that sends nothing, and for one that reads nothing.
    pub idle: Duration,
    /// Bytes that all large frames together may hold, in units of [`MEMORY_UNIT`].
    pub memory: Arc<Semaphore>,
}

/// Who is connected.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// The listener that it came in by.
    pub listener: Arc<str>,
    /// Numbers this broker's connections.
    pub number: u64,
}

/// Why a connection ends, other than by the client's wish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// A length at or below zero, or above the limit.
    #[error("a frame of {0} bytes")]
    Length(i32),
    /// Nothing came for too long.
    #[error("nothing was received for {0:?}")]
    Idle(Duration),
    /// The client does not read its responses.
    #[error("nothing was taken for {0:?}")]
    Stuck(Duration),
    /// The request is not one that can be answered.
    #[error("{0}")]
    Request(#[from] api::Closed),
    /// The socket, or the file that was being sent.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The broker stops.
    #[error("the broker stops")]
    Stopping,
}

/// Serves a connection until it ends. The socket is closed when this returns.
pub(crate) async fn serve(broker: &Broker, stream: TcpStream, peer: &Peer, limits: &Limits) {
    let shutdown = broker.tasks.shutdown().clone();
    match exchange(broker, &stream, peer, limits, &shutdown).await {
        Ok(()) => debug!(connection = peer.number, peer = %peer.address, "closed by the client"),
        Err(ended) => {
            debug!(connection = peer.number, peer = %peer.address, reason = %ended, "closed");
        }
    }
}

async fn exchange(
    broker: &Broker,
    stream: &TcpStream,
    peer: &Peer,
    limits: &Limits,
    shutdown: &Shutdown,
) -> Result<(), Ended> {
    let mut frames = Frames::new(limits.clone());
    let mut stopped = std::pin::pin!(shutdown.stopped());
    loop {
        let next = tokio::select! {
            biased;
            next = frames.next(stream) => next?,
            () = stopped.as_mut() => return Err(Ended::Stopping),
        };
        let Some(frame) = next else {
            return Ok(());
        };
        let response = tokio::select! {
            biased;
            response = api::dispatch(broker, peer, frame.bytes) => response?,
            () = stop_limit(stopped.as_mut()) => return Err(Ended::Stopping),
        };
        drop(frame.permit);
        if let Some(chunks) = response {
            send(stream, chunks, limits.idle).await?;
        }
        if shutdown.is_stopping() {
            return Err(Ended::Stopping);
        }
        tokio::task::consume_budget().await;
    }
}

async fn stop_limit(stopped: Pin<&mut impl Future<Output = ()>>) {
    stopped.await;
    tokio::time::sleep(STOP_LIMIT).await;
}

/// One request's bytes, and its share of the memory that all requests may take.
struct Frame {
    bytes: Bytes,
    permit: Option<OwnedSemaphorePermit>,
}

/// Cuts the stream into frames. Small frames are cut from one buffer, so that a pipelining client costs
/// one read for many; a big one is read into a buffer of its own size.
struct Frames {
    buffer: BytesMut,
    limits: Limits,
    /// Size of the last frame, the best guess for the next.
    last: usize,
    begun: bool,
}

impl Frames {
    fn new(limits: Limits) -> Frames {
        Frames {
            buffer: BytesMut::new(),
            limits,
            last: 0,
            begun: false,
        }
    }

    /// The next frame; `None` when the client has closed before it began one.
    async fn next(&mut self, stream: &TcpStream) -> Result<Option<Frame>, Ended> {
        while self.buffer.len() < 4 {
            let wanted = (self.last + 4).clamp(READ_MIN, RESERVE_MAX);
            let limit = match (self.buffer.is_empty(), self.begun) {
                (true, true) => self.limits.idle,
                _ => HEAD_LIMIT,
            };
            if !self.fill(stream, wanted, limit).await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(Ended::Io(io::ErrorKind::UnexpectedEof.into())),
                };
            }
        }
        self.begun = true;
        let length = (&self.buffer[..4]).get_i32();
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size > 0 && *size <= self.limits.frame_bytes_max)
            .ok_or(Ended::Length(length))?;
        self.buffer.advance(4);
        let permit = self.permit(size).await?;
        while self.buffer.len() < size {
            let missing = size - self.buffer.len();
            // Memory grows with what was received: at most double of it, from a bounded start.
            let wanted = missing.min(self.buffer.len().max(RESERVE_MAX));
            if !self.fill(stream, wanted, BODY_LIMIT).await? {
                return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.last = size;
        let bytes = self.buffer.split_to(size).freeze();
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer; a busy one gets its next by one allocation.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame { bytes, permit }))
    }

    /// Waits until all requests together leave room for this one.
    async fn permit(&self, size: usize) -> Result<Option<OwnedSemaphorePermit>, Ended> {
        if size <= FREE_BYTES {
            return Ok(None);
        }
        let units = u32::try_from(size.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let wait = self.limits.memory.clone().acquire_many_owned(units);
        match tokio::time::timeout(self.limits.idle, wait).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) => Err(Ended::Stopping),
            Err(_) => Err(Ended::Idle(self.limits.idle)),
        }
    }

    /// Reads once, at most `wanted` bytes; false at the end of the stream.
    async fn fill(
        &mut self,
        stream: &TcpStream,
        wanted: usize,
        limit: Duration,
    ) -> Result<bool, Ended> {
        loop {
            self.buffer.reserve(wanted);
            match stream.try_read_buf(&mut (&mut self.buffer).limit(wanted)) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.buffer.is_empty() {
                        self.buffer = BytesMut::new();
                    }
                    tokio::time::timeout(limit, stream.readable())
                        .await
                        .map_err(|_| Ended::Idle(limit))??;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Sends all chunks, in order. Each step has to make progress within `limit`.
pub(crate) async fn send(
    stream: &TcpStream,
    chunks: Vec<Chunk>,
    limit: Duration,
) -> Result<(), Ended> {
    let mut run: Vec<Bytes> = Vec::with_capacity(chunks.len().min(SLICES_MAX));
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(bytes) => {
                if run.len() == SLICES_MAX {
                    send_bytes(stream, &mut run, limit).await?;
                }
                run.push(bytes);
            }
            Chunk::File {
                file,
                position,
                len,
            } => {
                send_bytes(stream, &mut run, limit).await?;
                send_file(stream, file.as_ref(), position, len, limit).await?;
            }
        }
    }
    send_bytes(stream, &mut run, limit).await
}

/// Sends and empties `run`, as few writes as possible.
async fn send_bytes(
    stream: &TcpStream,
    run: &mut Vec<Bytes>,
    limit: Duration,
) -> Result<(), Ended> {
    run.retain(|bytes| !bytes.is_empty());
    while !run.is_empty() {
        let slices: [IoSlice<'_>; SLICES_MAX] =
            std::array::from_fn(|index| IoSlice::new(run.get(index).map_or(&[], |bytes| bytes)));
        let used = run.len().min(SLICES_MAX);
        match stream.try_write_vectored(&slices[..used]) {
            Ok(mut written) => {
                run.retain_mut(|bytes| {
                    let here = written.min(bytes.len());
                    bytes.advance(here);
                    written -= here;
                    !bytes.is_empty()
                });
            }
            Err(error) => wait_writable(stream, error, limit).await?,
        }
    }
    Ok(())
}

/// Sends a region of a file, by `sendfile` where file and kernel can.
async fn send_file(
    stream: &TcpStream,
    file: &dyn DiskFile,
    position: u64,
    len: u64,
    limit: Duration,
) -> Result<(), Ended> {
    let end = position.saturating_add(len);
    let mut at = position;
    let Some(source) = file.as_file() else {
        return copy_file(stream, file, at, end, limit).await;
    };
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        let sent = stream.try_io(Interest::WRITABLE, || {
            rustix::fs::sendfile(stream, source, Some(&mut at), count).map_err(io::Error::from)
        });
        match sent {
            // The file is shorter than its region: the client has to see a broken connection.
            Ok(0) => return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) if not_supported(&error) => {
                return copy_file(stream, file, at, end, limit).await;
            }
            Err(error) => wait_writable(stream, error, limit).await?,
        }
    }
    Ok(())
}

/// Is it that this file system has no `sendfile`?
fn not_supported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Sends a region of a file by reading it piece by piece.
async fn copy_file(
    stream: &TcpStream,
    file: &dyn DiskFile,
    mut at: u64,
    end: u64,
    limit: Duration,
) -> Result<(), Ended> {
    let mut run = Vec::with_capacity(1);
    while at < end {
        let piece = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(COPY_BYTES);
        let mut bytes = vec![0; piece];
        file.read_exact_at(&mut bytes, at)?;
        at += piece as u64;
        run.push(Bytes::from(bytes));
        send_bytes(stream, &mut run, limit).await?;
    }
    Ok(())
}

/// After a write that did not work: waits where it would have blocked, fails otherwise.
async fn wait_writable(stream: &TcpStream, error: io::Error, limit: Duration) -> Result<(), Ended> {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            tokio::time::timeout(limit, stream.writable())
                .await
                .map_err(|_| Ended::Stuck(limit))??;
            Ok(())
        }
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error.into()),
    }
}
