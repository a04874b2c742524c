//! The network seam: TCP sockets and `host:port` pairs.
//!
//! Everything that listens or dials goes through here, so that a simulated network can take its place: with
//! the feature `sim` the sockets are those of [`mod@sockets`]'s other file, and nothing else is different.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

#[cfg_attr(feature = "sim", path = "net/simulated.rs")]
mod sockets;

pub use sockets::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};

/// A host name or address with a port, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 addresses without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl HostPort {
    /// Joins a host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> HostPort {
        HostPort {
            host: host.into(),
            port,
        }
    }

    /// Reads `host:port`, or `host` alone with `default_port`. `[v6]:port` is understood.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest
                .split_once(']')
                .ok_or_else(|| format!("'{text}' lacks a ']'"))?;
            if !rest.is_empty() && !rest.starts_with(':') {
                return Err(format!("'{text}' is not [address]:port"));
            }
            (host, rest.strip_prefix(':'))
        } else {
            match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            Some(port) => port
                .parse()
                .map_err(|_| format!("'{port}' in '{text}' is no port (0-65535)"))?,
            None => default_port.ok_or_else(|| format!("'{text}' is not host:port"))?,
        };
        // What is left with a colon is an address, or has one part too many: node1:2181:99.
        if host.contains(':') && !is_v6(host) {
            return Err(format!("'{text}' is not host:port"));
        }
        // The letters of Kafka's own pattern for addresses.
        let legal = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
        if !host.chars().all(legal) {
            return Err(format!("'{host}' in '{text}' is no host name"));
        }
        Ok(HostPort {
            host: host.to_owned(),
            port,
        })
    }

    /// Reads a list separated by commas; empty items are skipped.
    pub fn parse_list(text: &str, default_port: Option<u16>) -> Result<Vec<HostPort>, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| HostPort::parse(item, default_port))
            .collect()
    }
}

/// An IPv6 address, perhaps with a zone.
fn is_v6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

impl FromStr for HostPort {
    type Err = String;
    fn from_str(text: &str) -> Result<HostPort, String> {
        HostPort::parse(text, None)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Listens on `address`; an empty host or `0.0.0.0` means every interface.
pub async fn bind(address: &HostPort) -> io::Result<TcpListener> {
    let host = if address.host.is_empty() {
        "0.0.0.0"
    } else {
        &address.host
    };
    let bound = sockets::listen(host, address.port).await;
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(
            error.kind(),
            format!("{error}: something listens there already; stop it, or choose another port"),
        ),
        io::ErrorKind::AddrNotAvailable => io::Error::new(
            error.kind(),
            format!("{error}: {host} is no address of this machine"),
        ),
        _ => error,
    })
}

/// Who accepted a connection: what is left of the open files is kept for some longer than for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Kafka's clients and other brokers.
    Kafka,
    /// ZooKeeper's clients, brokers among them, which cannot do without.
    ZooKeeper,
    /// Probes, and the other members.
    Members,
}

/// What to log about connections that [`Descriptors::spare`] does not let in.
pub const KEPT: &str =
    "connections are refused: what is left of the open files (ulimit -n) is kept for logs";

/// How many of the process's descriptors connections may take, so that logs and stores find some.
///
/// One budget for all listeners, without a common count: the system gives the lowest number that is free,
/// so that connections never take those above a bound.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// Descriptors from this number on are not for these connections; `None` without a limit.
    bound: Option<u64>,
    /// A listener with fewer connections takes more whatever their number: logs may hold all below.
    few: usize,
}

impl Descriptors {
    /// Within the limit of this process, as it is now.
    pub fn of_process(peers: Peers) -> Descriptors {
        Descriptors::within(getrlimit(Resource::Nofile).current, peers)
    }

    fn within(limit: Option<u64>, peers: Peers) -> Descriptors {
        Descriptors {
            bound: limit.map(|limit| bound(limit, peers)),
            few: usize::try_from(limit.unwrap_or(0) / 16).unwrap_or(0),
        }
    }

    /// Does this connection, which comes to `open` others of its listener, leave enough to logs?
    pub fn spare(&self, stream: &TcpStream, open: usize) -> bool {
        let number = sockets::descriptor(stream);
        open < self.few || self.bound.is_none_or(|bound| number < bound)
    }
}

/// A quarter is kept from ZooKeeper's clients, and 128 at least, where that is not more than half; a little
/// more from Kafka's, a little less from members.
fn bound(limit: u64, peers: Peers) -> u64 {
    let kept = (limit / 4).max(128).min(limit / 2);
    match peers {
        Peers::Kafka => limit - kept - kept / 4,
        Peers::ZooKeeper => limit - kept,
        Peers::Members => limit - kept + (kept / 8).min(16),
    }
}

/// The sizes of a socket's buffers; `None` leaves one to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// For what is sent.
    pub send: Option<u32>,
    /// For what is received.
    pub receive: Option<u32>,
}

/// The first address of a name.
pub async fn resolve(address: &HostPort) -> io::Result<std::net::IpAddr> {
    let first = sockets::resolve(address).await?;
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// Dials `address` and turns Nagle's algorithm off. Every address of the name is tried.
pub async fn connect(address: &HostPort, limit: Duration) -> io::Result<TcpStream> {
    connect_with(address, limit, Buffers::default()).await
}

/// [`connect`] with socket buffers of these sizes, which count only if they are set before dialling.
pub async fn connect_with(
    address: &HostPort,
    limit: Duration,
    buffers: Buffers,
) -> io::Result<TcpStream> {
    let dial = sockets::dial(address, buffers);
    let stream = tokio::time::timeout(limit, dial).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection to {address} in {limit:?}"),
        )
    })??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Lets a connection on which nothing is said fail within about `limit` of the other machine's end: one that
/// lost power or its network closes nothing. Without a limit the system says when.
pub fn keep_alive(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    sockets::keep_alive(stream, limit)
}

/// Sends what it can of a file's region, from `at` on, which moves; nothing passes through this process.
/// `WouldBlock` where the socket takes nothing now, and an error that says so where that cannot be done.
pub fn send_file(
    stream: &TcpStream,
    file: impl AsFd,
    at: &mut u64,
    count: usize,
) -> io::Result<usize> {
    sockets::send_file(stream, file, at, count)
}

/// The address a listener got, for ports chosen by the system.
pub fn local_address(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_descriptors_is_kept_for_logs() {
        for (limit, kafka, zookeeper, members) in [
            (0, 0, 0, 0),
            (20, 8, 10, 11),
            (100, 38, 50, 56),
            (256, 96, 128, 144),
            (512, 352, 384, 400),
            (1_024, 704, 768, 784),
            (1_000_000, 687_500, 750_000, 750_016),
        ] {
            let bounds = [Peers::Kafka, Peers::ZooKeeper, Peers::Members];
            let bounds = bounds.map(|peers| bound(limit, peers));
            assert_eq!(bounds, [kafka, zookeeper, members], "{limit}");
        }
    }

    #[tokio::test]
    async fn a_connection_above_the_share_is_refused_unless_there_are_few() {
        let listener = bind(&HostPort::new("127.0.0.1", 0)).await.expect("a port");
        let port = local_address(&listener).expect("bound").port();
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.expect("connects");
        let spare = |limit, open| Descriptors::within(limit, Peers::Kafka).spare(&stream, open);
        assert!(spare(None, 1_000_000));
        assert!(spare(Some(1_000_000), 100_000));
        // 0 to 2 are taken by every process.
        assert!(!spare(Some(5), 0));
        let held = Descriptors {
            bound: Some(3),
            few: 2,
        };
        assert!(held.spare(&stream, 1) && !held.spare(&stream, 2));
    }

    #[test]
    fn host_and_port_are_told_apart() {
        assert_eq!(
            HostPort::parse("node1:9092", None),
            Ok(HostPort::new("node1", 9092))
        );
        assert_eq!(
            HostPort::parse("node1", Some(2181)),
            Ok(HostPort::new("node1", 2181))
        );
        assert_eq!(
            HostPort::parse("[::1]:9092", None),
            Ok(HostPort::new("::1", 9092))
        );
        assert_eq!(HostPort::parse(":9092", None), Ok(HostPort::new("", 9092)));
        assert_eq!(HostPort::new("::1", 1).to_string(), "[::1]:1");
        assert!(HostPort::parse("node1", None).is_err());
        assert_eq!(
            HostPort::parse("fe80::1%eth0:9092", None),
            Ok(HostPort::new("fe80::1%eth0", 9092))
        );
        for bad in [
            "node1:x",
            "node1:2181:99",
            "[::1]9092",
            "[::1",
            "a b:1",
            "a/b:1",
            "1:2:3",
        ] {
            assert!(HostPort::parse(bad, Some(1)).is_err(), "{bad}");
        }
        assert_eq!(
            HostPort::parse_list("a:1,,b:2,", None).map(|list| list.len()),
            Ok(2)
        );
    }
}
