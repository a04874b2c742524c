//! What goes over a client's connections, and how their tasks spend their time.
//!
//! Kafka's clients have one thread that waits in a selector for all connections. Here every connection
//! has a task that reads and one that writes: a wake-up of one of them counts as a select, what it does
//! until it waits again as I/O. Times are summed over these tasks, ratios are parts of the sum.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::{Of, Rows};
use crate::common::clock::Clock;
use crate::common::net::HostPort;

/// The name of a broker that nobody has named.
const NAMELESS: i32 = -1;

/// What goes over a client's connections.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: AtomicU64,
    closed: AtomicU64,
    asked: AtomicU64,
    settled: AtomicU64,
    polls: AtomicU64,
    busy_us: AtomicU64,
    idle_us: AtomicU64,
    /// How often [`Names`] has changed.
    renamed: AtomicU64,
    names: Mutex<Names>,
}

/// Whose counts those of an address are. There are as many as brokers have been met.
#[derive(Debug, Default)]
struct Names {
    ids: BTreeMap<HostPort, i32>,
    nodes: BTreeMap<i32, Arc<NodeTraffic>>,
}

/// What goes to one broker and comes from it.
#[derive(Debug, Default)]
struct NodeTraffic {
    requests: AtomicU64,
    request_bytes_max: AtomicU64,
    bytes_out: AtomicU64,
    responses: AtomicU64,
    bytes_in: AtomicU64,
}

/// [`NodeTraffic`] as it is at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    request_bytes_max: u64,
    bytes_out: u64,
    responses: u64,
    bytes_in: u64,
}

impl Traffic {
    /// A connection came about.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended.
    pub fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A request waits for its answer.
    pub fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// So many requests wait no more.
    pub fn settled(&self, requests: usize) {
        self.settled.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// From now on these addresses are counted under these names.
    pub fn name<'a>(&self, addresses: impl Iterator<Item = (&'a HostPort, i32)>) {
        let mut names = self.names();
        let mut changed = false;
        for (address, id) in addresses {
            if names.ids.get(address) != Some(&id) {
                names.ids.insert(address.clone(), id);
                changed = true;
            }
        }
        if changed {
            self.renamed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, address: &HostPort) -> Arc<NodeTraffic> {
        let mut names = self.names();
        let id = names.ids.get(address).copied().unwrap_or(NAMELESS);
        names.nodes.entry(id).or_default().clone()
    }

    /// The brokers that there was any traffic with.
    pub fn nodes(&self) -> Vec<i32> {
        self.names().nodes.keys().copied().collect()
    }

    /// As rows: those of all connections under `group`, those of each broker under `node_group`.
    pub fn rows(&self, rows: &mut Rows, group: &'static str, node_group: &'static str) {
        let mut all = Counts::default();
        for (id, node) in &self.names().nodes {
            let counts = node.counts();
            counts.rows(rows, node_group, Of::Node(*id));
            all.add(&counts);
        }
        all.rows(rows, group, Of::Client);
        let io = (all.requests + all.responses) as f64;
        let names = ["network-io-rate", "network-io-total"];
        rows.total(group, names, Of::Client, io);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (opened, closed) = (read(&self.opened), read(&self.closed));
        let names = ["connection-creation-rate", "connection-creation-total"];
        rows.total(group, names, Of::Client, opened as f64);
        let names = ["connection-close-rate", "connection-close-total"];
        rows.total(group, names, Of::Client, closed as f64);
        let open = opened.saturating_sub(closed) as f64;
        rows.value(group, "connection-count", Of::Client, open);
        let in_flight = read(&self.asked).saturating_sub(read(&self.settled)) as f64;
        rows.value(group, "requests-in-flight", Of::Client, in_flight);
        self.time(rows, group);
        no_authentication(rows, group);
    }

    fn time(&self, rows: &mut Rows, group: &'static str) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let (polls, busy, idle) = (read(&self.polls), read(&self.busy_us), read(&self.idle_us));
        rows.total(group, ["select-rate", "select-total"], Of::Client, polls);
        let lived = (busy + idle).max(1.0);
        let times = [
            ("io-ratio", "io-time-ns-avg", "iotime-total", busy),
            (
                "io-wait-ratio",
                "io-wait-time-ns-avg",
                "io-waittime-total",
                idle,
            ),
        ];
        for (ratio, average, total, us) in times {
            rows.value(group, ratio, Of::Client, us / lived);
            rows.value(group, average, Of::Client, us * 1_000.0 / polls);
            rows.value(group, total, Of::Client, us * 1_000.0);
        }
    }
}

/// These clients speak without TLS and SASL only: nobody has authenticated or failed to.
fn no_authentication(rows: &mut Rows, group: &'static str) {
    let kinds = [
        ["failed-authentication-rate", "failed-authentication-total"],
        [
            "failed-reauthentication-rate",
            "failed-reauthentication-total",
        ],
        [
            "successful-authentication-rate",
            "successful-authentication-total",
        ],
        [
            "successful-reauthentication-rate",
            "successful-reauthentication-total",
        ],
    ];
    for names in kinds {
        rows.total(group, names, Of::Client, 0.0);
    }
    let without = "successful-authentication-no-reauth-total";
    rows.value(group, without, Of::Client, 0.0);
    let latency = [
        "reauthentication-latency-avg",
        "reauthentication-latency-max",
    ];
    rows.measured(group, latency, Of::Client, &Default::default());
}

impl NodeTraffic {
    fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            request_bytes_max: read(&self.request_bytes_max),
            bytes_out: read(&self.bytes_out),
            responses: read(&self.responses),
            bytes_in: read(&self.bytes_in),
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.requests += other.requests;
        self.request_bytes_max = self.request_bytes_max.max(other.request_bytes_max);
        self.bytes_out += other.bytes_out;
        self.responses += other.responses;
        self.bytes_in += other.bytes_in;
    }

    fn rows(&self, rows: &mut Rows, group: &'static str, of: Of<'_>) {
        let totals = [
            (["request-rate", "request-total"], self.requests),
            (["response-rate", "response-total"], self.responses),
            (
                ["outgoing-byte-rate", "outgoing-byte-total"],
                self.bytes_out,
            ),
            (["incoming-byte-rate", "incoming-byte-total"], self.bytes_in),
        ];
        for (names, value) in totals {
            rows.total(group, names, of, value as f64);
        }
        let average = self.bytes_out as f64 / self.requests as f64;
        rows.value(group, "request-size-avg", of, average);
        let max = match self.requests {
            0 => f64::NAN,
            _ => self.request_bytes_max as f64,
        };
        rows.value(group, "request-size-max", of, max);
    }
}

/// Counts for one task of one connection. A broker that we did not know when we dialled it is counted
/// under its own name as soon as we hear it.
#[derive(Debug)]
pub struct Meter {
    traffic: Arc<Traffic>,
    address: HostPort,
    renamed: u64,
    node: Arc<NodeTraffic>,
}

impl Meter {
    /// For a connection to that address.
    pub fn new(traffic: Arc<Traffic>, address: HostPort) -> Meter {
        Meter {
            renamed: traffic.renamed.load(Ordering::Relaxed),
            node: traffic.node(&address),
            traffic,
            address,
        }
    }

    /// A request was written.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        let node = self.node();
        node.requests.fetch_add(1, Ordering::Relaxed);
        node.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        node.request_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    /// An answer was read.
    pub fn received(&mut self, bytes: usize) {
        let node = self.node();
        node.responses.fetch_add(1, Ordering::Relaxed);
        node.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn node(&mut self) -> &NodeTraffic {
        let renamed = self.traffic.renamed.load(Ordering::Relaxed);
        if renamed != self.renamed {
            self.renamed = renamed;
            self.node = self.traffic.node(&self.address);
        }
        &self.node
    }
}

/// A task of a connection, with a look at the clock before and after whatever it does.
pub struct Timed<F> {
    task: Pin<Box<F>>,
    traffic: Arc<Traffic>,
    clock: Clock,
    waits_since_us: i64,
}

impl<F: Future> Timed<F> {
    /// Counts for `traffic` how `task` spends its time.
    pub fn new(task: F, traffic: Arc<Traffic>, clock: Clock) -> Timed<F> {
        Timed {
            task: Box::pin(task),
            traffic,
            waits_since_us: clock.monotonic_us(),
            clock,
        }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let woken_us = self.clock.monotonic_us();
        let polled = self.task.as_mut().poll(context);
        let done_us = self.clock.monotonic_us();
        let add = |counter: &AtomicU64, us: i64| {
            counter.fetch_add(u64::try_from(us).unwrap_or(0), Ordering::Relaxed);
        };
        add(&self.traffic.idle_us, woken_us - self.waits_since_us);
        add(&self.traffic.busy_us, done_us - woken_us);
        self.traffic.polls.fetch_add(1, Ordering::Relaxed);
        self.waits_since_us = done_us;
        polled
    }
}
