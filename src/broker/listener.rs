//! Binds the broker's listeners and accepts connections, within limits.
//!
//! [`bind`] comes before registration, so that a port that the system chose can be advertised;
//! [`Bound::serve`] comes when the broker can answer. A connection over a limit is refused here; after
//! that it belongs to [`super::connection`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::broker::connection::{self, Limits, MEMORY_UNIT, Peer};
use crate::common::flood::Flood;
use crate::common::metrics::Gauge;
use crate::common::net::{self, Descriptors, HostPort, Peers, TcpListener, TcpStream};
use crate::common::tasks::Kind;

/// How long to wait when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What all frames that are being received or served may take together, at least one of the largest.
const REQUEST_MEMORY_BYTES: usize = 256 << 20;

/// The limits of all listeners, under Kafka's names.
#[derive(Clone, Debug)]
pub struct Options {
    /// `max.connections`: above it, clients wait to be accepted.
    pub connections_max: usize,
    /// `max.connections.per.ip`: above it, they are closed at once.
    pub connections_per_ip_max: usize,
    /// `max.connections.per.ip.overrides`
    pub connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `connections.max.idle.ms`
    pub idle: Duration,
    /// `socket.request.max.bytes`
    pub frame_bytes_max: usize,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener {name} cannot listen on {address} (listeners)")]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// Where it should be.
    pub address: HostPort,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Listeners that are bound and do not accept yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<(Arc<str>, TcpListener, SocketAddr)>,
}

/// Binds each `(name, address)`; port 0 lets the system choose.
pub async fn bind(listeners: &[(String, HostPort)]) -> Result<Bound, BindError> {
    let mut bound = Vec::with_capacity(listeners.len());
    for (name, address) in listeners {
        let failed = |source| BindError {
            name: name.clone(),
            address: address.clone(),
            source,
        };
        let listener = net::bind(address).await.map_err(failed)?;
        let local = net::local_address(&listener).map_err(failed)?;
        bound.push((Arc::from(name.as_str()), listener, local));
    }
    Ok(Bound { listeners: bound })
}

impl Bound {
    /// The address of each listener, with the port that it really has.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.listeners
            .iter()
            .map(|(name, _, address)| (name.to_string(), *address))
            .collect()
    }

    /// Accepts connections until the broker's shutdown signal, in tasks of the broker.
    pub fn serve(self, broker: &Arc<Broker>, options: &Options) {
        let gate = Arc::new(Gate::new(options));
        for (name, listener, address) in self.listeners {
            info!(listener = %name, %address, "listening for clients");
            let (tasks, broker, gate) = (broker.tasks.clone(), broker.clone(), gate.clone());
            tasks.spawn("listener", Kind::Essential, async move {
                accept(&broker, &gate, &name, listener).await;
            });
        }
    }
}

/// What all listeners share: who is connected, and the limits.
#[derive(Debug)]
struct Gate {
    connections: Arc<Semaphore>,
    per_ip_max: usize,
    per_ip_overrides: BTreeMap<IpAddr, usize>,
    per_ip: Mutex<BTreeMap<IpAddr, usize>>,
    limits: Limits,
    descriptors: Descriptors,
    next_number: AtomicU64,
}

impl Gate {
    fn new(options: &Options) -> Gate {
        let memory = REQUEST_MEMORY_BYTES.max(options.frame_bytes_max) / MEMORY_UNIT + 1;
        Gate {
            connections: Arc::new(Semaphore::new(
                options.connections_max.min(Semaphore::MAX_PERMITS),
            )),
            per_ip_max: options.connections_per_ip_max,
            per_ip_overrides: options.connections_per_ip_overrides.clone(),
            per_ip: Mutex::default(),
            limits: Limits {
                frame_bytes_max: options.frame_bytes_max,
                idle: options.idle,
                memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
            },
            descriptors: Descriptors::of_process(Peers::Kafka),
            next_number: AtomicU64::new(1),
        }
    }

    /// Counts one more connection of an address; `None` where it has enough.
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Entered> {
        let ip = ip.to_canonical();
        let max = *self.per_ip_overrides.get(&ip).unwrap_or(&self.per_ip_max);
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_ip.entry(ip).or_insert(0);
        if *count >= max {
            if *count == 0 {
                per_ip.remove(&ip);
            }
            return None;
        }
        *count += 1;
        Some(Entered {
            gate: self.clone(),
            ip,
        })
    }
}

/// A counted connection; uncounted when it is dropped, also by a panic.
#[derive(Debug)]
struct Entered {
    gate: Arc<Gate>,
    ip: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut per_ip = self
            .gate
            .per_ip
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.ip);
            }
        }
    }
}

/// A listener's gauge of open connections; falls when it is dropped.
struct Open(Arc<Gauge>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

async fn accept(broker: &Arc<Broker>, gate: &Arc<Gate>, name: &Arc<str>, listener: TcpListener) {
    let shutdown = broker.tasks.shutdown().clone();
    let mut stopped = std::pin::pin!(shutdown.stopped());
    let connected = broker.metrics.connections.of(name);
    let (failing, refusing, keeping) = (Flood::default(), Flood::default(), Flood::default());
    loop {
        let next = async {
            let permit = gate.connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stopped.as_mut() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if of_one_connection(&error) => continue,
            Err(error) => {
                if let Some(untold) = failing.tell(broker.clock.monotonic_ms()) {
                    warn!(listener = %name, %error, untold, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let open = usize::try_from(connected.get()).unwrap_or(0);
        if !gate.descriptors.spare(&stream, open) {
            if let Some(untold) = keeping.tell(broker.clock.monotonic_ms()) {
                warn!(
                    listener = %name, peer = %address, untold, "{}", net::KEPT
                );
            }
            continue;
        }
        let Some(entered) = gate.enter(address.ip()) else {
            if let Some(untold) = refusing.tell(broker.clock.monotonic_ms()) {
                warn!(listener = %name, peer = %address, untold, "too many connections from this address");
            }
            continue;
        };
        prepare(&stream);
        let peer = Peer {
            address,
            listener: name.clone(),
            number: gate.next_number.fetch_add(1, Ordering::Relaxed),
        };
        let (broker, limits) = (broker.clone(), gate.limits.clone());
        connected.add(1);
        let open = Open(connected.clone());
        let tasks = broker.tasks.clone();
        tasks.spawn("connection", Kind::Connection, async move {
            let _counted = (permit, entered, open);
            connection::serve(&broker, stream, &peer, &limits).await;
        });
    }
}

/// Small answers go out at once, and a peer that vanished is noticed. Neither is worth a connection.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = net::keep_alive(stream, None) {
        tracing::debug!(%error, "SO_KEEPALIVE");
    }
}

/// An error of the connection that was about to be accepted, not of the listener.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
