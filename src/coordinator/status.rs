//! Plain values about this member, for the four-letter words and for HTTP; and the counters behind them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::ids::{MemberId, SessionId, Zxid};
use crate::common::metrics::{Counter, Gauge, Histogram};
use crate::coordinator::replica::Counts;
use crate::coordinator::tree::op::ConnectionId;

/// The version that we answer as; clients and tools parse it.
pub const VERSION: &str = "3.6.2--803c7f1a12f85978cb049af5e4ef23bd8b688715";
/// Its build date.
pub const BUILT_ON: &str = "09/04/2020 12:44 GMT";

/// `last_op` before the first request: the handshake.
pub const OP_OF_CONNECT: i32 = 0;
/// `last_op` after a reset: no operation has this code.
pub const NO_OP: i32 = i32::MIN;

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
    /// No leader is known; those are served who only read.
    ReadOnly,
}

impl Mode {
    /// As `srvr` and `mntr` spell it.
    pub fn text(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Looking => "looking",
            Mode::ReadOnly => "read-only",
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
    /// May those use it that only read?
    pub is_read_only: bool,
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
    /// On the leader: the other members that are connected.
    pub learners: usize,
    /// Of these, those that keep up.
    pub synced_followers: usize,
    /// `sync` requests of this member's clients that wait.
    pub pending_syncs: i64,
    /// What happened so far.
    pub events: Events,
    /// Latencies of everything else.
    pub reads: Spread,
    /// Latencies of writes.
    pub updates: Spread,
    /// Syncs of the log.
    pub syncs: Spread,
    /// How many watchers were told of a change that any was told of: created, deleted, changed, children.
    pub fired: [Latency; 4],
    /// How long this member knew no leader.
    pub elections: Latency,
    /// How long it took to open the log and the newest snapshot.
    pub loading: Latency,
    /// Snapshots written by this process.
    pub snapshots: Latency,
    /// Open file descriptors of the process, if known.
    pub open_files: Option<u64>,
    /// How many it may open.
    pub max_files: Option<u64>,
    /// Where clients connect.
    pub client_address: SocketAddr,
}

impl Status {
    /// Does it answer clients at all?
    pub fn is_running(&self) -> bool {
        self.is_serving || self.is_read_only
    }
}

/// Latencies in ms, or other small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Shortest.
    pub min_ms: i64,
    /// Mean, to four decimals.
    pub avg_ms: f64,
    /// Longest.
    pub max_ms: i64,
    /// How many.
    pub count: i64,
    /// Together.
    pub sum_ms: i64,
}

impl Latency {
    /// As Java prints the mean.
    pub fn avg_text(&self) -> String {
        mean_text(self.avg_ms)
    }
}

/// At least one decimal, at most four.
fn mean_text(mean: f64) -> String {
    format!("{:?}", (mean * 10_000.0).round() / 10_000.0)
}

/// How many times something happened, since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Connections beyond the limits.
    pub rejected: u64,
    /// Connections that said nothing in time.
    pub speechless: u64,
    /// Times that no leader was known.
    pub looking: u64,
    /// Connections that their clients ended.
    pub dropped: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Connections that asked for a session.
    pub handshakes: u64,
    /// Sessions that this member ended as the leader.
    pub expired: u64,
    /// Connections that asked to go on with a session.
    pub revalidated: u64,
}

impl Events {
    fn since(&self, then: &Events) -> Events {
        Events {
            rejected: self.rejected.saturating_sub(then.rejected),
            speechless: self.speechless.saturating_sub(then.speechless),
            looking: self.looking.saturating_sub(then.looking),
            dropped: self.dropped.saturating_sub(then.dropped),
            bytes_received: self.bytes_received.saturating_sub(then.bytes_received),
            handshakes: self.handshakes.saturating_sub(then.handshakes),
            expired: self.expired.saturating_sub(then.expired),
            revalidated: self.revalidated.saturating_sub(then.revalidated),
        }
    }
}

/// How durations are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Together.
    pub sum_ms: u64,
    /// Shortest.
    pub min_ms: u64,
    /// Longest.
    pub max_ms: u64,
    /// At most so long are 50, 95, 99 and 99.9 % of them.
    pub quantiles_ms: [u64; 4],
}

impl Spread {
    /// Of what a histogram has noted.
    pub fn of(histogram: &Histogram) -> Spread {
        let quantile_ms = |quantile| histogram.quantile_us(quantile) / 1000;
        Spread {
            count: histogram.count(),
            sum_ms: histogram.sum_us() / 1000,
            min_ms: quantile_ms(0.0),
            max_ms: histogram.max_us() / 1000,
            quantiles_ms: [0.5, 0.95, 0.99, 0.999].map(quantile_ms),
        }
    }

    /// The mean, as Java prints it.
    pub fn avg_text(&self) -> String {
        mean_text(self.sum_ms as f64 / self.count.max(1) as f64)
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
        let sum = self.sum.load(Relaxed);
        Latency {
            min_ms: self.min.load(Relaxed),
            avg_ms: sum as f64 / count as f64,
            max_ms: self.max.load(Relaxed),
            count,
            sum_ms: sum,
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
    /// Notes one frame's size, without its length.
    pub fn note_frame(&self, bytes: usize) {
        self.note(bytes.saturating_sub(4));
    }

    /// Notes one size.
    pub fn note(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.last.store(bytes, Relaxed);
        self.min.fetch_min(bytes, Relaxed);
        self.max.fetch_max(bytes, Relaxed);
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.last.store(-1, Relaxed);
        self.min.store(i64::MAX, Relaxed);
        self.max.store(-1, Relaxed);
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
    /// Latencies of everything else.
    pub reads: Histogram,
    /// Latencies of writes.
    pub updates: Histogram,
    /// `sync` requests that wait.
    pub pending_syncs: Gauge,
    /// Connections beyond the limits.
    pub rejected: Counter,
    /// Connections that said nothing in time.
    pub speechless: Counter,
    /// Times that no leader was known.
    pub looking: Counter,
    /// Connections that their clients ended.
    pub dropped: Counter,
    /// Bytes from clients.
    pub bytes_received: Counter,
    /// Connections that asked for a session.
    pub handshakes: Counter,
    /// Sessions that this member ended as the leader.
    pub expired: Counter,
    /// Connections that asked to go on with a session.
    pub revalidated: Counter,
    /// How long this member knew no leader, each time.
    pub elections: LatencyMeter,
    /// How long it took to open the log and the newest snapshot.
    pub loading: LatencyMeter,
    /// What had happened at the last reset.
    forgotten: Mutex<Events>,
    connections: Mutex<BTreeMap<ConnectionId, Arc<ConnectionStats>>>,
}

impl ServerStats {
    /// `srst`: counters start again.
    pub fn reset(&self) {
        self.latency.reset();
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
        self.response_bytes.reset();
        self.proposal_bytes.reset();
        self.reads.reset();
        self.updates.reset();
        self.elections.reset();
        self.loading.reset();
        let events = self.all_events();
        *self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = events;
    }

    /// What happened since the last reset.
    pub fn events(&self) -> Events {
        let forgotten = *self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.all_events().since(&forgotten)
    }

    fn all_events(&self) -> Events {
        Events {
            rejected: self.rejected.get(),
            speechless: self.speechless.get(),
            looking: self.looking.get(),
            dropped: self.dropped.get(),
            bytes_received: self.bytes_received.get(),
            handshakes: self.handshakes.get(),
            expired: self.expired.get(),
            revalidated: self.revalidated.get(),
        }
    }

    /// Notes an answered handshake. A new session is a write; one that goes on has no latency.
    pub fn note_handshake(&self, connection: &ConnectionStats, latency_ms: i64, is_new: bool) {
        for counter in [
            &self.received,
            &self.sent,
            &connection.received,
            &connection.sent,
        ] {
            counter.fetch_add(1, Relaxed);
        }
        if is_new {
            self.latency.note(latency_ms);
            self.updates.observe_ms(latency_ms);
            connection.latency.note(latency_ms);
        } else {
            self.revalidated.add(1);
        }
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
            last_op: AtomicI64::new(i64::from(OP_OF_CONNECT)),
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
        self.last_op.store(i64::from(NO_OP), Relaxed);
        self.last_xid.store(-1, Relaxed);
        self.last_zxid.store(-1, Relaxed);
        self.last_response_ms.store(0, Relaxed);
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
