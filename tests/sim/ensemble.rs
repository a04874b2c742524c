//! Three members of an ensemble on simulated machines, clients that write and read, and faults; then a time in
//! which all is mended, and the promises of [`crate::invariants`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tripod::common::disk::sim::SimDisk;
use tripod::common::disk::told;
use tripod::common::ids::MemberId;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;
use tripod::coordinator::raft::Role;
use tripod::coordinator::server::Server;
use tripod::coordinator::{Coordinator, Member, Options, World};

use crate::invariants::one_leader_per_term::Leaders;
use crate::invariants::one_state_per_zxid::States;
use crate::invariants::{ephemeral_goes_with_its_session, zxid_is_the_order};
use crate::machines::{self, Machines, Rules};
use crate::seeds::Trace;

mod client;

const MEMBERS: usize = 3;
const CLIENTS: u32 = 3;
const CLIENT_PORT: u16 = 2181;
const QUORUM_PORT: u16 = 2888;
/// How long faults come, in virtual milliseconds.
const FAULTS_MS: u64 = 30_000;
/// Without faults the ensemble serves, and its members are equal, within this time.
const HEALED_MS: u64 = 30_000;
/// How long the clients may take to read back what they wrote.
const READ_BACK_MS: u64 = 60_000;
/// How often the members are looked at.
const LOOK_MS: u64 = 20;

const RULES: Rules = Rules {
    power_of_all: true,
    power_pause_ms: None,
    pause_ms: 2_000,
};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They write and read.
    Working,
    /// They read back what they wrote.
    ReadingBack(u32),
    /// They end.
    Over,
}

/// What clients and judges share.
#[derive(Debug)]
pub struct Shared {
    phase: Mutex<Phase>,
    /// Numbers what happens in the order in which it happens.
    order: AtomicU64,
    /// Clients that have read back.
    done: AtomicU32,
    /// Acknowledged writes.
    pub writes: Mutex<Vec<zxid_is_the_order::Write>>,
    /// What each node's data was at each of its versions.
    pub versions: Mutex<BTreeMap<(String, i64), Vec<u8>>>,
    /// Operations that had an outcome, and those that had none.
    pub known: AtomicU32,
    pub unknown: AtomicU32,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            phase: Mutex::new(Phase::Working),
            order: AtomicU64::new(0),
            done: AtomicU32::new(0),
            writes: Mutex::default(),
            versions: Mutex::default(),
            known: AtomicU32::new(0),
            unknown: AtomicU32::new(0),
        }
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    /// What is to be done.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }
}

/// A lock that a panic does not spoil.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running members, for the judges.
type Seats = Arc<Mutex<Vec<Option<Arc<Server>>>>>;

fn name(member: usize) -> String {
    format!("node{}", member + 1)
}

fn options(member: usize) -> Options {
    let id = |member: usize| MemberId(member as u64 + 1);
    let everywhere = |port| HostPort::new("0.0.0.0", port);
    let members = (0..MEMBERS).map(|member| {
        let at = |port| HostPort::new(name(member), port);
        let addresses = Member {
            quorum: at(QUORUM_PORT),
            election: at(3888),
            client: None,
        };
        (id(member), addresses)
    });
    Options {
        member: id(member),
        members: members.collect(),
        tick_time_ms: 1_000,
        min_session_timeout_ms: 2_000,
        max_session_timeout_ms: 20_000,
        max_client_cnxns: 0,
        quorum_listen: everywhere(QUORUM_PORT),
        // So that members come back to a log that begins behind a snapshot.
        snapshot_count: 150,
        ..Options::standalone(PathBuf::from("/data"), everywhere(CLIENT_PORT))
    }
}

/// The software of one member's machine.
async fn member(number: usize, disk: SimDisk, rng: Rng, seats: Seats) -> turmoil::Result {
    let tasks = Tasks::new(Shutdown::new());
    let world = World {
        disk: Arc::new(disk),
        clock: machines::clock(),
        rng,
        tasks: tasks.clone(),
    };
    let coordinator = Coordinator::start(options(number), world).await;
    let coordinator = coordinator
        .map_err(|error| format!("{} does not start: {}", name(number), told(&error)))?;
    lock(&seats)[number] = Some(coordinator.server());
    let failed = tasks.failed().await;
    Err(format!("{}: {failed:?}", name(number)).into())
}

struct Run<'a, 't> {
    machines: Machines<'a>,
    seats: Seats,
    shared: Arc<Shared>,
    leaders: Leaders,
    states: States,
    trace: &'t mut Trace,
}

/// One history.
pub fn run(seed: u64, trace: &mut Trace) {
    let mut run = Run::new(seed, trace, RULES);
    run.work(FAULTS_MS);
    run.judge(1);
    // Power fails everywhere: what was there is there.
    let died = run.machines.black_out(run.trace);
    run.died(&died);
    run.judge(2);
    *lock(&run.shared.phase) = Phase::Over;
    run.until("the clients end", READ_BACK_MS, |run| {
        run.shared.done.load(Ordering::Relaxed) == CLIENTS
    });
    let (known, unknown) = (&run.shared.known, &run.shared.unknown);
    run.trace.note(format_args!(
        "{} operations, {} of unknown outcome",
        known.load(Ordering::Relaxed),
        unknown.load(Ordering::Relaxed)
    ));
    // Otherwise the rest proved nothing.
    assert!(
        known.load(Ordering::Relaxed) > 50,
        "hardly anything was done"
    );
}

/// The same with disks that lie about syncs, and power that fails: promises have to break.
pub fn run_on_lying_disks(seed: u64, trace: &mut Trace) {
    let mut run = Run::new(seed, trace, RULES);
    run.machines.disks_lie();
    run.work(10_000);
    let died = run.machines.black_out(run.trace);
    run.died(&died);
    run.judge(1);
}

impl<'t> Run<'_, 't> {
    fn new(seed: u64, trace: &'t mut Trace, rules: Rules) -> Run<'static, 't> {
        let rng = Rng::from_seed(seed);
        let mut machines = Machines::new(seed, rng.fork("faults"), rules);
        let seats: Seats = Arc::new(Mutex::new(vec![None; MEMBERS]));
        let shared = Arc::new(Shared::new());
        for number in 0..MEMBERS {
            let (rng, seats) = (rng.fork(&name(number)), seats.clone());
            machines.server(name(number), move |disk| {
                member(number, disk, rng.fork("life"), seats.clone())
            });
        }
        for number in 0..CLIENTS {
            let client_name = format!("client{number}");
            let work = client::run(number, rng.fork(&client_name), shared.clone());
            machines.client(client_name, work);
        }
        Run {
            machines,
            seats,
            shared,
            leaders: Leaders::default(),
            states: States::default(),
            trace,
        }
    }

    /// Lets the clients work while faults come.
    fn work(&mut self, faults_ms: u64) {
        self.until("the ensemble serves", HEALED_MS, Run::serve);
        let end = self.machines.now_ms() + faults_ms;
        while self.machines.now_ms() < end {
            let died = self.machines.befall(self.trace);
            self.died(&died);
            self.step();
        }
    }

    fn died(&mut self, members: &[usize]) {
        for member in members {
            lock(&self.seats)[*member] = None;
        }
    }

    fn step(&mut self) {
        self.machines.step();
        if self.machines.now_ms().is_multiple_of(LOOK_MS) {
            self.look();
        }
    }

    /// Judges what the members are now.
    fn look(&mut self) {
        for (number, server) in lock(&self.seats).iter().enumerate() {
            let Some(server) = server else { continue };
            let (role, term) = *server.raft.role_changes().borrow();
            if role == Role::Leader {
                self.leaders.leads(term, number);
            }
            let zxid = server.replica.last_zxid().0;
            if self.states.is_new(number, zxid) {
                self.states.saw(number, zxid, server.replica.digest());
                ephemeral_goes_with_its_session::check(&server.replica);
            }
        }
    }

    /// Do all members serve, with one state?
    fn serve(&mut self) -> bool {
        let seats = lock(&self.seats);
        let serving = seats.iter().flatten();
        let serving = serving.filter(|server| server.raft.serving());
        let states: Vec<(i64, u64)> = serving
            .map(|server| (server.replica.last_zxid().0, server.replica.digest()))
            .collect();
        states.len() == MEMBERS && states.iter().all(|state| *state == states[0])
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

    /// Mends everything; the members agree, and all that was promised is there.
    fn judge(&mut self, round: u32) {
        self.machines.heal(self.trace);
        self.until("all members serve", HEALED_MS, |run| {
            let seats = lock(&run.seats);
            let serving = seats.iter().flatten();
            serving.filter(|server| server.raft.serving()).count() == MEMBERS
        });
        self.shared.done.store(0, Ordering::Relaxed);
        *lock(&self.shared.phase) = Phase::ReadingBack(round);
        self.until("the clients have read back", READ_BACK_MS, |run| {
            run.shared.done.load(Ordering::Relaxed) == CLIENTS
        });
        self.until("the members are equal", HEALED_MS, Run::serve);
        self.shared.done.store(0, Ordering::Relaxed);
        zxid_is_the_order::check(&lock(&self.shared.writes));
        self.trace.note(format_args!(
            "{}: round {round} is judged, {} states of {} terms were seen",
            self.machines.now_ms(),
            self.states.count(),
            self.leaders.count()
        ));
    }
}
