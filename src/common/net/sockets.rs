//! The system's sockets. [`super`] says what they are for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::Interest;
pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
pub use tokio::net::{TcpListener, TcpStream};

use super::{Buffers, HostPort};

pub async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}

pub async fn resolve(address: &HostPort) -> io::Result<Option<IpAddr>> {
    let mut found = tokio::net::lookup_host((address.host.as_str(), address.port)).await?;
    Ok(found.next().map(|address| address.ip()))
}

pub async fn dial(address: &HostPort, buffers: Buffers) -> io::Result<TcpStream> {
    let name = (address.host.as_str(), address.port);
    if buffers == Buffers::default() {
        return TcpStream::connect(name).await;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(name).await? {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        if let Some(bytes) = buffers.send {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = buffers.receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The number of its descriptor.
pub fn descriptor(stream: &TcpStream) -> u64 {
    u64::try_from(stream.as_raw_fd()).unwrap_or(0)
}

pub fn keep_alive(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    if let Some(limit) = limit {
        let step = (limit / 5).max(Duration::from_secs(1));
        sockopt::set_tcp_keepidle(stream, step * 2)?;
        sockopt::set_tcp_keepintvl(stream, step)?;
        sockopt::set_tcp_keepcnt(stream, 3)?;
    }
    Ok(())
}

pub fn send_file(
    stream: &TcpStream,
    file: impl AsFd,
    at: &mut u64,
    count: usize,
) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || {
        rustix::fs::sendfile(stream, file, Some(at), count).map_err(io::Error::from)
    })
}
