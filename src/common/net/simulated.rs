//! Simulated sockets: turmoil's, with the parts of tokio's interface that turmoil's lack.
//!
//! What turmoil does otherwise than a network is mended here: it refuses who dials over a link that is cut,
//! where a network says nothing. There are no buffers of a chosen size, no descriptors and no `sendfile`.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net;
pub use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Buffers, HostPort};

/// What one read or write takes at most.
const PIECE_BYTES: usize = 64 << 10;

/// A listening socket.
pub struct TcpListener(net::TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpListener")
            .field(&self.0.local_addr().ok())
            .finish()
    }
}

impl TcpListener {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = self.0.accept().await?;
        Ok((TcpStream(Mutex::new(stream)), address))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection. Turmoil's is only read by who has it alone; this one is read by reference, too.
#[derive(Debug)]
pub struct TcpStream(Mutex<net::TcpStream>);

impl TcpStream {
    fn lock(&self) -> MutexGuard<'_, net::TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(self: Pin<&mut Self>) -> Pin<&mut net::TcpStream> {
        let stream = self.get_mut().0.get_mut();
        Pin::new(stream.unwrap_or_else(PoisonError::into_inner))
    }

    /// There is no delay to turn off.
    pub fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    /// Its two directions.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = self.0.into_inner();
        stream.unwrap_or_else(PoisonError::into_inner).into_split()
    }

    /// Who is at the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().peer_addr()
    }

    /// Waits until there is something to read, or the end.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut byte = [0];
            let peeked = self.lock().poll_peek(context, &mut ReadBuf::new(&mut byte));
            peeked.map_ok(|_| ())
        })
        .await
    }

    /// Reads what is there.
    pub fn try_read_buf(&self, into: &mut impl BufMut) -> io::Result<usize> {
        let mut piece = vec![0; into.remaining_mut().min(PIECE_BYTES)];
        let mut read = ReadBuf::new(&mut piece);
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut *self.lock()).poll_read(&mut context, &mut read) {
            Poll::Ready(Ok(())) => {
                into.put_slice(read.filled());
                Ok(read.filled().len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits until something can be written.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let stream = self.lock();
            let writable = pin!(stream.writable());
            writable.poll(context)
        })
        .await
    }

    /// Writes what can be written now.
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied());
        let piece: Vec<u8> = bytes.take(PIECE_BYTES).collect();
        self.lock().try_write(&piece)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.own().poll_read(context, into)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.own().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.own().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.own().poll_shutdown(context)
    }
}

pub async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    net::TcpListener::bind((host, port)).await.map(TcpListener)
}

pub async fn resolve(address: &HostPort) -> io::Result<Option<IpAddr>> {
    let mut found = net::lookup_host((address.host.as_str(), address.port)).await?;
    Ok(found.next().map(|address| address.ip()))
}

pub async fn dial(address: &HostPort, _: Buffers) -> io::Result<TcpStream> {
    let dialling = net::TcpStream::connect((address.host.as_str(), address.port));
    let mut dialling = pin!(tokio::task::unconstrained(dialling));
    let mut is_first = true;
    let mut is_lost = false;
    let stream = poll_fn(|context| {
        if is_lost {
            return Poll::Pending;
        }
        match dialling.as_mut().poll(context) {
            // Nobody can have heard it yet: it was dropped on the way. Who dials waits until he gives up.
            Poll::Ready(Err(error))
                if is_first && error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                is_lost = true;
                Poll::Pending
            }
            polled => {
                is_first = false;
                polled
            }
        }
    });
    stream.await.map(|stream| TcpStream(Mutex::new(stream)))
}

/// No limit on descriptors is reached.
pub fn descriptor(_: &TcpStream) -> u64 {
    0
}

/// A machine that falls silent is noticed by what asks it.
pub fn keep_alive(_: &TcpStream, _: Option<Duration>) -> io::Result<()> {
    Ok(())
}

/// What files there are have no descriptor.
pub fn send_file(_: &TcpStream, _: impl AsFd, _: &mut u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
