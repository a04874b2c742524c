//! Plain values about this member, for the four-letter words and for HTTP; and the counters behind them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::ids::{MemberId, SessionId, Zxid};
use crate::coordinator::replica::Counts;
use crate::coordinator::tree::op::ConnectionId;

/// The version that we answer as; clients and tools parse it.
pub const VERSION: &str = "3.6.2--803c7f1a12f85978cb049af5e4ef23bd8b688715";
/// Its build date.
pub const BUILT_ON: &str = "09/04/2020 12:44 GMT";

/// What this member is in its ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The only member.
    Standalone,
    /// It orders the writes.
    Leader,
    /// It follows.
    Follower,
    /// No leader is known; nothing is served.
    Looking,
}

impl Mode {
    /// As `srvr` and `mntr` spell it.
    pub fn text(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Looking => "looking",
        }
    }
}

/// Everything that `mntr`, `srvr` and the console show.
#[derive(Clone, Debug)]
pub struct Status {
    /// This member.
    pub member: MemberId,
    /// Its place.
    pub mode: Mode,
    /// May clients use it?
    pub is_serving: bool,
    /// Who leads, if it is known.
    pub leader: Option<MemberId>,
    /// What it waits for, by name, while it does not serve.
    pub waits_for: Option<String>,
    /// How many members the ensemble has.
    pub members: usize,
    /// The last transaction applied here.
    pub last_zxid: Zxid,
    /// Sizes of the tree.
    pub counts: Counts,
    /// Requests not answered yet.
    pub outstanding: i64,
    /// Connections with a session.
    pub connections: usize,
    /// Request latencies.
    pub latency: Latency,
    /// Frames from clients.
    pub packets_received: u64,
    /// Frames to clients.
    pub packets_sent: u64,
    /// Milliseconds since the start.
    pub uptime_ms: i64,
    /// Milliseconds that it has led.
    pub leading_ms: Option<i64>,
    /// Sizes of replies: last, min, max; −1 before the first.
    pub response_bytes: [i64; 3],
    /// Sizes of proposals: last, min, max; −1 before the first.
    pub proposal_bytes: [i64; 3],
    /// Open file descriptors of the process, if known.
    pub open_files: Option<u64>,
    /// How many it may open.
    pub max_files: Option<u64>,
    /// Where clients connect.
    pub client_address: SocketAddr,
}

/// Latencies in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Shortest.
    pub min_ms: i64,
    /// Mean, to four decimals.
    pub avg_ms: f64,
    /// Longest.
    pub max_ms: i64,
}

impl Latency {
    /// As Java prints the mean: at least one decimal, at most four.
    pub fn avg_text(&self) -> String {
        format!("{:?}", (self.avg_ms * 10_000.0).round() / 10_000.0)
    }
}

/// Counts latencies; one for the server, one for each connection.
#[derive(Debug)]
pub struct LatencyMeter {
    count: AtomicI64,
    sum: AtomicI64,
    min: AtomicI64,
    max: AtomicI64,
}

impl Default for LatencyMeter {
    fn default() -> Self {
        LatencyMeter {
            count: AtomicI64::new(0),
            sum: AtomicI64::new(0),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(0),
        }
    }
}

impl LatencyMeter {
    /// Notes one request.
    pub fn note(&self, ms: i64) {
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(ms, Relaxed);
        self.min.fetch_min(ms, Relaxed);
        self.max.fetch_max(ms, Relaxed);
    }

    /// What was noted.
    pub fn read(&self) -> Latency {
        let count = self.count.load(Relaxed);
        if count == 0 {
            return Latency::default();
        }
        Latency {
            min_ms: self.min.load(Relaxed),
            avg_ms: self.sum.load(Relaxed) as f64 / count as f64,
            max_ms: self.max.load(Relaxed),
        }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.count.store(0, Relaxed);
        self.sum.store(0, Relaxed);
        self.min.store(i64::MAX, Relaxed);
        self.max.store(0, Relaxed);
    }
}

/// Last, smallest and largest of something.
#[derive(Debug)]
pub struct SizeMeter {
    last: AtomicI64,
    min: AtomicI64,
    max: AtomicI64,
}

impl Default for SizeMeter {
    fn default() -> Self {
        SizeMeter {
            last: AtomicI64::new(-1),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(-1),
        }
    }
}

impl SizeMeter {
    /// Notes one size.
    pub fn note(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.last.store(bytes, Relaxed);
        self.min.fetch_min(bytes, Relaxed);
        self.max.fetch_max(bytes, Relaxed);
    }

    /// Last, min, max; −1 before the first.
    pub fn read(&self) -> [i64; 3] {
        let min = self.min.load(Relaxed);
        [
            self.last.load(Relaxed),
            if min == i64::MAX { -1 } else { min },
            self.max.load(Relaxed),
        ]
    }
}

/// What the server counts.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Request latencies.
    pub latency: LatencyMeter,
    /// Frames from clients.
    pub received: AtomicU64,
    /// Frames to clients.
    pub sent: AtomicU64,
    /// Requests not answered yet.
    pub outstanding: AtomicI64,
    /// Sizes of replies.
    pub response_bytes: SizeMeter,
    /// Sizes of writes handed to raft.
    pub proposal_bytes: SizeMeter,
    connections: Mutex<BTreeMap<ConnectionId, Arc<ConnectionStats>>>,
}

impl ServerStats {
    /// `srst`: counters start again.
    pub fn reset(&self) {
        self.latency.reset();
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
    }

    /// Notes a new connection.
    pub fn connected(&self, id: ConnectionId, stats: Arc<ConnectionStats>) {
        self.lock().insert(id, stats);
    }

    /// Forgets a connection.
    pub fn disconnected(&self, id: ConnectionId) {
        self.lock().remove(&id);
    }

    /// All connections with a session.
    pub fn connections(&self) -> Vec<Arc<ConnectionStats>> {
        self.lock().values().cloned().collect()
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<ConnectionStats>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one connection counts; `cons` shows it.
#[derive(Debug)]
pub struct ConnectionStats {
    /// The client.
    pub peer: SocketAddr,
    /// Its session.
    pub session: SessionId,
    /// Negotiated, in ms.
    pub timeout_ms: i32,
    /// Wall clock, ms.
    pub established_ms: i64,
    /// Frames from it.
    pub received: AtomicU64,
    /// Frames to it.
    pub sent: AtomicU64,
    /// Requests not answered yet.
    pub outstanding: AtomicI64,
    /// The last operation's code.
    pub last_op: AtomicI64,
    /// The last request's xid.
    pub last_xid: AtomicI64,
    /// The last reply's zxid.
    pub last_zxid: AtomicI64,
    /// When the last reply was made, wall clock, ms.
    pub last_response_ms: AtomicI64,
    /// The last latency, ms.
    pub last_latency_ms: AtomicI64,
    /// All latencies.
    pub latency: LatencyMeter,
}

impl ConnectionStats {
    /// Nothing counted yet.
    pub fn new(
        peer: SocketAddr,
        session: SessionId,
        timeout_ms: i32,
        established_ms: i64,
    ) -> ConnectionStats {
        ConnectionStats {
            peer,
            session,
            timeout_ms,
            established_ms,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            outstanding: AtomicI64::new(0),
            last_op: AtomicI64::new(0),
            last_xid: AtomicI64::new(0),
            last_zxid: AtomicI64::new(-1),
            last_response_ms: AtomicI64::new(0),
            last_latency_ms: AtomicI64::new(0),
            latency: LatencyMeter::default(),
        }
    }

    /// `crst`: counters start again.
    pub fn reset(&self) {
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
        self.last_latency_ms.store(0, Relaxed);
        self.latency.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_look_like_javas() {
        let meter = LatencyMeter::default();
        assert_eq!(meter.read().avg_text(), "0.0");
        for ms in [1, 2, 2] {
            meter.note(ms);
        }
        let read = meter.read();
        assert_eq!(
            (read.min_ms, read.avg_text().as_str(), read.max_ms),
            (1, "1.6667", 2)
        );
    }
}
