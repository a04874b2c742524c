//! One client connection: frame in → dispatch → response out, one request at a time, in order.
//!
//! The invariant: responses leave in the order of the requests, and what a connection holds in memory
//! is one frame and one response's envelope; records go from the file to the socket by `sendfile`. A
//! client that stops reading holds no more than that, and not for ever. Knows no API.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::broker::Broker;
use crate::broker::api::{self, Chunk};
use crate::common::disk::DiskFile;
use crate::common::net::{self, TcpStream};
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
            // Who does not read must not hold the end up.
            tokio::select! {
                biased;
                sent = send(stream, chunks, limits.idle) => sent?,
                () = stop_limit(shutdown.stopped()) => return Err(Ended::Stopping),
            }
        }
        if shutdown.is_stopping() {
            return Err(Ended::Stopping);
        }
        tokio::task::consume_budget().await;
    }
}

async fn stop_limit(stopped: impl Future<Output = ()>) {
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
        match net::send_file(stream, source, &mut at, count) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::{Disk, Open, real::RealDisk};
    use crate::common::net::HostPort;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = net::bind(&HostPort::new("127.0.0.1", 0))
            .await
            .expect("binds");
        let address = net::local_address(&listener).expect("bound");
        let address = HostPort::new("127.0.0.1", address.port());
        let dial = net::connect(&address, Duration::from_secs(5));
        let (client, accepted) = tokio::join!(dial, listener.accept());
        (client.expect("connects"), accepted.expect("accepts").0)
    }

    fn limits() -> Limits {
        Limits {
            frame_bytes_max: 1 << 20,
            idle: Duration::from_secs(10),
            memory: Arc::new(Semaphore::new(1 << 20)),
        }
    }

    /// A file without a descriptor, as in simulation.
    #[derive(Debug)]
    struct Undescribed(Arc<dyn DiskFile>);

    impl DiskFile for Undescribed {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
            self.0.write_at(parts, position)
        }
        fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
            self.0.read_at(into, position)
        }
        fn truncate(&self, len: u64) -> io::Result<()> {
            self.0.truncate(len)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    #[tokio::test]
    async fn files_go_out_the_same_by_sendfile_and_by_copy() {
        let dir = tempfile::tempdir().expect("a directory");
        let content: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
        let file = RealDisk
            .open(&dir.path().join("00000000000000000000.log"), Open::Create)
            .expect("opens");
        file.write_at(&[IoSlice::new(&content)], 0).expect("writes");
        let plain: Arc<dyn DiskFile> = Arc::new(Undescribed(file.clone()));
        for file in [file, plain] {
            let chunks = vec![
                Chunk::Bytes(Bytes::from_static(b"head")),
                Chunk::Bytes(Bytes::new()),
                Chunk::File {
                    file: file.clone(),
                    position: 7,
                    len: 4_000_000,
                },
                Chunk::Bytes(Bytes::from_static(b"between")),
                Chunk::File {
                    file: file.clone(),
                    position: 4_999_999,
                    len: 1,
                },
                Chunk::Bytes(Bytes::from_static(b"tail")),
            ];
            let mut expected = b"head".to_vec();
            expected.extend_from_slice(&content[7..4_000_007]);
            expected.extend_from_slice(b"between");
            expected.extend_from_slice(&content[4_999_999..]);
            expected.extend_from_slice(b"tail");
            let (mut client, server) = pair().await;
            let sending = async {
                let sent = send(&server, chunks, Duration::from_secs(10)).await;
                drop(server);
                sent
            };
            let mut received = Vec::new();
            let (sent, read) = tokio::join!(sending, client.read_to_end(&mut received));
            sent.expect("sent");
            read.expect("read");
            assert!(received == expected, "{} bytes", received.len());
        }
    }

    #[tokio::test]
    async fn a_region_beyond_the_file_breaks_the_connection() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealDisk
            .open(&dir.path().join("short"), Open::Create)
            .expect("opens");
        file.write_at(&[IoSlice::new(b"short")], 0).expect("writes");
        let plain: Arc<dyn DiskFile> = Arc::new(Undescribed(file.clone()));
        for file in [file, plain] {
            let (_client, server) = pair().await;
            let chunk = Chunk::File {
                file,
                position: 0,
                len: 6,
            };
            let sent = send(&server, vec![chunk], Duration::from_secs(10)).await;
            assert!(matches!(sent, Err(Ended::Io(_))));
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, server) = pair().await;
        let chunk = Chunk::Bytes(Bytes::from(vec![0; 64 << 20]));
        let sent = send(&server, vec![chunk], Duration::from_millis(50)).await;
        assert!(matches!(sent, Err(Ended::Stuck(_))));
    }

    #[tokio::test]
    async fn frames_are_cut_from_the_stream_in_order_whatever_its_pieces() {
        let (mut client, server) = pair().await;
        let sizes = [1usize, 3, 5_000, 2, 700_000, 1 << 20, 9, 70_000];
        let mut wire = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            wire.extend_from_slice(&(*size as i32).to_be_bytes());
            wire.extend(std::iter::repeat_n(index as u8, *size));
        }
        let writing = async {
            for piece in wire.chunks(99_991) {
                client.write_all(piece).await.expect("writes");
                tokio::task::yield_now().await;
            }
            client.shutdown().await.expect("ends");
        };
        let reading = async {
            let mut frames = Frames::new(limits());
            for (index, size) in sizes.iter().enumerate() {
                let frame = frames.next(&server).await.expect("reads").expect("a frame");
                assert_eq!(frame.bytes.len(), *size);
                assert!(frame.bytes.iter().all(|byte| *byte == index as u8));
                assert_eq!(frame.permit.is_some(), *size > FREE_BYTES);
            }
            assert!(frames.next(&server).await.expect("reads").is_none());
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn impossible_lengths_end_a_connection_at_once() {
        for length in [0, -1, i32::MIN, (1 << 20) + 1, i32::MAX] {
            let (mut client, server) = pair().await;
            client
                .write_all(&length.to_be_bytes())
                .await
                .expect("writes");
            let next = Frames::new(limits()).next(&server).await;
            assert!(matches!(next, Err(Ended::Length(found)) if found == length));
        }
        let (mut client, server) = pair().await;
        client.write_all(&[0, 0, 0, 9, 1]).await.expect("writes");
        drop(client);
        let next = Frames::new(limits()).next(&server).await;
        assert!(matches!(next, Err(Ended::Io(_))), "half a frame");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_header_is_not_waited_for() {
        let (mut client, server) = pair().await;
        client.write_all(&[0, 0]).await.expect("writes");
        let next = Frames::new(limits()).next(&server).await;
        assert!(matches!(next, Err(Ended::Idle(limit)) if limit == HEAD_LIMIT));
    }
}
