//! Three whole nodes on simulated machines, each with a coordinator and a broker as `cli/halves.rs` starts them,
//! producers and a reader, and faults; then a time in which all is mended, and the promises of
//! [`crate::invariants`].

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tripod::cli::halves::{Halves, World};
use tripod::common::disk::sim::SimDisk;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;
use tripod::config::{Config, Sources, load};

use crate::check::history::{Event, What};
use crate::invariants::high_watermark_never_falls::Watermarks;
use crate::invariants::one_controller_per_epoch::Controllers;
use crate::invariants::one_leader_per_epoch::Leaders;
use crate::invariants::{acknowledged_records_stay, in_sync_is_assigned};
use crate::machines::{self, Machines, Rules};
use crate::seeds::Trace;

mod workload;

const NODES: usize = 3;
const PRODUCERS: u64 = 2;
const KAFKA_PORT: u16 = 9092;
pub const TOPIC: &str = "t";
pub const PARTITIONS: i32 = 2;
/// How long faults come, in virtual milliseconds.
const FAULTS_MS: u64 = 40_000;
/// Without faults the cluster serves, and all replicas are in sync, within this time.
const HEALED_MS: u64 = 120_000;
/// How long the clients may take for one of their phases.
const PHASE_MS: u64 = 120_000;
const LOOK_MS: u64 = 20;
/// Power fails only when all replicas have been in sync for so long.
const SETTLED_MS: u64 = 3_000;

/// A record is acknowledged when all in-sync replicas have it in memory: one machine at a time may lose its own.
const RULES: Rules = Rules {
    power_of_all: false,
    power_pause_ms: Some(20_000),
    pause_ms: 4_000,
};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They make the topic.
    Beginning,
    /// They produce and read.
    Working,
    /// They end what they have begun, and read everything back; once and once more.
    ReadingBack(u32),
    /// They end.
    Over,
}

/// What clients and judges share.
#[derive(Debug)]
pub struct Shared {
    phase: Mutex<Phase>,
    done: AtomicU32,
    events: Mutex<Vec<Event>>,
}

impl Shared {
    /// What is to be done.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// A client has done what its phase asks for.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what a client saw.
    pub fn note(&self, who: &str, what: What) {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let t = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let p = who.to_owned();
        lock(&self.events).push(Event { t, p, what });
    }

    /// The history so far.
    pub fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        lock(&self.events)
    }
}

/// A lock that a panic does not spoil.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nodes that run, for the judges.
type Seats = Arc<Mutex<Vec<Option<Arc<Halves>>>>>;

/// The name of a node's machine.
pub fn name(node: usize) -> String {
    format!("node{}", node + 1)
}

fn config(node: usize) -> Config {
    let zookeepers: Vec<String> = (0..NODES)
        .map(|node| format!("{}:2181", name(node)))
        .collect();
    let mut settings = vec![
        ("node.roles".to_owned(), "coordinator,broker".to_owned()),
        ("node.data.dir".to_owned(), "/data".to_owned()),
        ("coordinator.myid".to_owned(), (node + 1).to_string()),
        ("coordinator.clientPort".to_owned(), "2181".to_owned()),
        ("coordinator.maxClientCnxns".to_owned(), "0".to_owned()),
        ("broker.broker.id".to_owned(), node.to_string()),
        (
            "broker.listeners".to_owned(),
            format!("PLAINTEXT://0.0.0.0:{KAFKA_PORT}"),
        ),
        (
            "broker.advertised.listeners".to_owned(),
            format!("PLAINTEXT://{}:{KAFKA_PORT}", name(node)),
        ),
        ("broker.zookeeper.connect".to_owned(), zookeepers.join(",")),
        (
            "broker.zookeeper.session.timeout.ms".to_owned(),
            "6000".to_owned(),
        ),
        (
            "broker.replica.lag.time.max.ms".to_owned(),
            "6000".to_owned(),
        ),
    ];
    for member in 0..NODES {
        settings.push((
            format!("coordinator.server.{}", member + 1),
            format!("{}:2888:3888;2181", name(member)),
        ));
    }
    let sources = Sources {
        implied: settings,
        hostname: name(node),
        ..Sources::default()
    };
    match load(&sources) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}"),
    }
}

/// The software of one node's machine.
async fn node(number: usize, disk: SimDisk, rng: Rng, seats: Seats) -> turmoil::Result {
    let tasks = Tasks::new(Shutdown::new());
    let world = World {
        disk: Arc::new(disk),
        clock: machines::clock(),
        rng,
        tasks: tasks.clone(),
    };
    let halves = Arc::new(Halves::new(Arc::new(config(number))));
    let start = async {
        halves.tidy(&world).await;
        halves.prepare_broker(&world).await?;
        halves.start_coordinator(&world).await?;
        lock(&seats)[number] = Some(halves.clone());
        halves.start_broker(&world).await
    };
    tokio::select! {
        started = start => started.map_err(|error| format!("{} does not start: {error}", name(number)))?,
        failed = tasks.failed() => return Err(format!("{}: {failed:?}", name(number)).into()),
    };
    let failed = tasks.failed().await;
    Err(format!("{}: {failed:?}", name(number)).into())
}

struct Run<'a, 't> {
    machines: Machines<'a>,
    seats: Seats,
    shared: Arc<Shared>,
    leaders: Leaders,
    controllers: Controllers,
    watermarks: Watermarks,
    /// Since when all replicas are in sync.
    in_sync_since_ms: Option<u64>,
    trace: &'t mut Trace,
}

/// One history.
pub fn run(seed: u64, trace: &mut Trace) {
    let mut run = Run::new(seed, trace);
    run.until("all replicas are in sync", HEALED_MS, Run::is_whole);
    run.turn(Phase::Working);
    let end = run.machines.now_ms() + FAULTS_MS;
    while run.machines.now_ms() < end {
        let settled = run.in_sync_since_ms.map(|since| since + SETTLED_MS);
        let settled = settled.is_some_and(|settled| settled <= run.machines.now_ms());
        run.machines.may_lose_power(settled);
        let died = run.machines.befall(run.trace);
        run.died(&died);
        run.step();
    }
    run.machines.heal(run.trace);
    run.until("all replicas are in sync", HEALED_MS, Run::is_whole);
    for pass in 0..2 {
        run.turn(Phase::ReadingBack(pass));
        run.until("the clients have read back", PHASE_MS, |run| {
            run.shared.done.load(Ordering::Relaxed) == PRODUCERS as u32
        });
        // Then again, from other leaders.
        let died = run.machines.kill_all(run.trace);
        run.died(&died);
        run.until("all replicas are in sync", HEALED_MS, Run::is_whole);
    }
    run.turn(Phase::Over);
    run.until("the clients end", PHASE_MS, |run| {
        run.shared.done.load(Ordering::Relaxed) == PRODUCERS as u32
    });
    let summary = acknowledged_records_stay::check(&run.shared.events());
    run.trace.note(format_args!(
        "{summary}; {} leaderships, {} controllers",
        run.leaders.count(),
        run.controllers.count()
    ));
}

impl<'t> Run<'_, 't> {
    fn new(seed: u64, trace: &'t mut Trace) -> Run<'static, 't> {
        let rng = Rng::from_seed(seed);
        let mut machines = Machines::new(seed, rng.fork("faults"), RULES);
        let seats: Seats = Arc::new(Mutex::new(vec![None; NODES]));
        let shared = Arc::new(Shared {
            phase: Mutex::new(Phase::Beginning),
            done: AtomicU32::new(0),
            events: Mutex::default(),
        });
        for number in 0..NODES {
            let (rng, seats) = (rng.fork(&name(number)), seats.clone());
            machines.server(name(number), move |disk| {
                node(number, disk, rng.fork("life"), seats.clone())
            });
        }
        for number in 0..PRODUCERS {
            let client = format!("client{number}");
            let work = workload::run(number, rng.fork(&client), shared.clone());
            machines.client(client, work);
        }
        Run {
            machines,
            seats,
            shared,
            leaders: Leaders::default(),
            controllers: Controllers::default(),
            watermarks: Watermarks::default(),
            in_sync_since_ms: None,
            trace,
        }
    }

    fn turn(&mut self, phase: Phase) {
        self.trace
            .note(format_args!("{}: {phase:?}", self.machines.now_ms()));
        self.shared.done.store(0, Ordering::Relaxed);
        *lock(&self.shared.phase) = phase;
    }

    fn died(&mut self, nodes: &[usize]) {
        for node in nodes {
            lock(&self.seats)[*node] = None;
            self.watermarks.ended(*node);
        }
    }

    fn step(&mut self) {
        self.machines.step();
        if self.machines.now_ms().is_multiple_of(LOOK_MS) {
            self.look();
            let whole = self.is_whole();
            let now_ms = self.machines.now_ms();
            self.in_sync_since_ms = match whole {
                true => self.in_sync_since_ms.or(Some(now_ms)),
                false => None,
            };
        }
    }

    fn until(&mut self, what: &str, limit_ms: u64, done: fn(&mut Self) -> bool) {
        let end = self.machines.now_ms() + limit_ms;
        loop {
            if self.machines.now_ms().is_multiple_of(LOOK_MS) && done(self) {
                return;
            }
            assert!(self.machines.now_ms() < end, "in vain: {what}");
            self.machines.recover(self.trace);
            self.step();
        }
    }

    fn running(&self) -> Vec<(usize, Arc<Halves>)> {
        let seats = lock(&self.seats);
        let seats = seats.iter().enumerate();
        seats
            .filter_map(|(number, halves)| Some((number, halves.clone()?)))
            .collect()
    }

    /// Judges what every node holds now.
    fn look(&mut self) {
        for (number, halves) in self.running() {
            if let Some(server) = halves.server() {
                let json = |path: &str| json(server.replica.data(path).as_deref());
                let epoch = server.replica.data("/controller_epoch");
                let epoch =
                    epoch.and_then(|text| String::from_utf8(text.to_vec()).ok()?.parse().ok());
                if let (Some(office), Some(epoch)) = (json("/controller"), epoch) {
                    self.controllers.governs(epoch, &office["brokerid"]);
                }
                let topic = json(&format!("/brokers/topics/{TOPIC}"));
                for partition in 0..PARTITIONS {
                    let (Some(topic), Some(state)) = (&topic, json(&state_path(partition))) else {
                        continue;
                    };
                    let replicas = &topic["partitions"][partition.to_string()];
                    in_sync_is_assigned::check(partition, &state["isr"], replicas);
                    let epoch = state["leader_epoch"].as_i64().expect("a number");
                    let leader = state["leader"].as_i64().expect("a number");
                    if leader >= 0 {
                        self.leaders.leads(partition, epoch, leader);
                    }
                }
            }
            let Some(broker) = halves.broker() else {
                continue;
            };
            for partition in 0..PARTITIONS {
                let Some(replica) = broker.replicas.get(TOPIC, partition) else {
                    continue;
                };
                let role = replica.role();
                if role.leading {
                    let epoch = i64::from(role.leader_epoch.0);
                    self.leaders.leads(partition, epoch, i64::from(broker.id.0));
                    let (high, end) = (replica.high_watermark().0, replica.log_end_offset().0);
                    self.watermarks.saw(number, partition, epoch, high, end);
                }
            }
        }
    }

    /// Do all nodes serve, and are all replicas in sync?
    fn is_whole(&mut self) -> bool {
        let running = self.running();
        running.len() == NODES
            && running.iter().all(|(_, halves)| {
                let Some(server) = halves.server() else {
                    return false;
                };
                halves.broker().is_some()
                    && server.raft.serving()
                    && (0..PARTITIONS).all(|partition| {
                        let state = json(server.replica.data(&state_path(partition)).as_deref());
                        state.is_some_and(|state| {
                            let isr = state["isr"].as_array().map_or(0, Vec::len);
                            isr == NODES && state["leader"].as_i64() >= Some(0)
                        })
                    })
            })
    }
}

fn json(data: Option<&[u8]>) -> Option<Value> {
    serde_json::from_slice(data?).ok()
}

fn state_path(partition: i32) -> String {
    let path = Path::new("/brokers/topics").join(TOPIC).join("partitions");
    let path = path.join(partition.to_string()).join("state");
    path.to_str().expect("text").to_owned()
}
