//! Machines on a simulated network, and what befalls them: a process that dies, power that fails, links that
//! are cut, hold back, or lose one direction, slow networks and slow disks. What happens, and when, follows
//! from a seed. Knows nothing of what runs on the machines.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tripod::common::clock::Clock;
use tripod::common::disk::Disk;
use tripod::common::disk::sim::{Faults, SimDisk};
use tripod::common::rng::Rng;
use tripod::common::tasks::simulated;

use crate::seeds::Trace;

/// Wall time when a simulation begins.
pub const EPOCH_MS: i64 = 1_700_000_000_000;
/// All machines go on together by so much.
const TICK: Duration = Duration::from_millis(2);
/// How long a message takes: this at least, rarely ten times as long.
const LATENCY: Duration = Duration::from_millis(2);
const LATENCY_MAX: Duration = Duration::from_millis(20);
const SLOW_LATENCY: Duration = Duration::from_millis(150);
/// How long blocking work takes.
const BLOCKING: Duration = Duration::from_millis(1);
const SLOW_BLOCKING: Duration = Duration::from_millis(120);

/// The wall time of the machine that this is called on.
pub fn clock() -> Clock {
    let elapsed = turmoil::sim_elapsed().expect("on a simulated machine");
    Clock::of_runtime(EPOCH_MS + i64::try_from(elapsed.as_millis()).expect("not for ever"))
}

/// With `SIM_LOG=tripod=debug`, what the software tells goes to standard error, with the virtual time.
pub fn log() {
    struct Virtual;
    impl tracing_subscriber::fmt::time::FormatTime for Virtual {
        fn format_time(
            &self,
            to: &mut tracing_subscriber::fmt::format::Writer<'_>,
        ) -> std::fmt::Result {
            let elapsed = turmoil::sim_elapsed().unwrap_or_default();
            write!(to, "{:>6} ms", elapsed.as_millis())
        }
    }
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
        let subscriber = subscriber.with_timer(Virtual).with_ansi(false);
        let _ = subscriber.with_writer(std::io::stderr).try_init();
    }
}

/// What may befall the machines.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// May the power of all machines fail at once?
    pub power_of_all: bool,
    /// Power fails one machine at a time, and not again before so many milliseconds have passed: what is only in
    /// memory on several machines survives that.
    pub power_pause_ms: Option<u64>,
    /// Milliseconds between two faults, at most.
    pub pause_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Until then.
    Dead(u64),
    /// Until then; nothing of it is on the network.
    Dark(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Whole,
    /// Nothing arrives; what was sent arrives when it is whole again, as TCP sends it again.
    Held,
    /// What the first one sends to the second one is lost.
    Lossy(usize, usize),
}

struct Machine {
    name: String,
    disk: SimDisk,
    life: Life,
}

/// A machine that starts has another boot id, where Linux keeps it.
fn boot(disk: &SimDisk, rng: &Rng) {
    let file = Path::new("/proc/sys/kernel/random/boot_id");
    let write = || {
        disk.create_dir_all(file.parent().unwrap_or(file))?;
        disk.replace(file, rng.uuid().to_string().as_bytes())
    };
    write().expect("a disk without faults");
}

/// Servers that have disks and may die, and clients that have neither.
pub struct Machines<'a> {
    sim: turmoil::Sim<'a>,
    servers: Vec<Machine>,
    clients: Vec<String>,
    rng: Rng,
    rules: Rules,
    now_ms: u64,
    next_fault_ms: u64,
    next_power_ms: u64,
    /// Is it a time at which power may fail?
    is_power_due: bool,
    /// Cut links, by the machines' numbers (clients follow the servers), until when.
    cuts: BTreeMap<(usize, usize), (Link, u64)>,
    /// How the links are now; whole ones are not listed.
    links: BTreeMap<(usize, usize), Link>,
    slow_network_until: u64,
    slow_disks_until: u64,
}

impl<'a> Machines<'a> {
    /// No machines yet.
    pub fn new(seed: u64, rng: Rng, rules: Rules) -> Machines<'a> {
        log();
        simulated::set_pause(BLOCKING);
        let epoch = UNIX_EPOCH + Duration::from_millis(EPOCH_MS.unsigned_abs());
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::max(epoch, UNIX_EPOCH))
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(1_000_000))
            .min_message_latency(LATENCY)
            .max_message_latency(LATENCY_MAX)
            .ephemeral_ports(20_000..=65_000)
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        Machines {
            sim,
            servers: Vec::new(),
            clients: Vec::new(),
            rng,
            rules,
            now_ms: 0,
            next_fault_ms: 0,
            next_power_ms: 0,
            is_power_due: true,
            cuts: BTreeMap::new(),
            links: BTreeMap::new(),
            slow_network_until: 0,
            slow_disks_until: 0,
        }
    }

    /// A machine with a disk, whose software starts now and whenever the machine comes back.
    pub fn server<F, Fut>(&mut self, name: String, software: F)
    where
        F: Fn(SimDisk) -> Fut + 'a,
        Fut: Future<Output = turmoil::Result> + 'static,
    {
        let disk = SimDisk::new(self.rng.fork(&name), Clock::manual(EPOCH_MS));
        boot(&disk, &self.rng);
        let own = disk.clone();
        self.sim.host(name.as_str(), move || software(own.clone()));
        self.servers.push(Machine {
            name,
            disk,
            life: Life::Running,
        });
    }

    /// A machine that nothing befalls but what befalls its links.
    pub fn client(&mut self, name: String, work: impl Future<Output = turmoil::Result> + 'static) {
        self.sim.client(name.as_str(), work);
        self.clients.push(name);
    }

    /// Virtual milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Is a server's software there?
    pub fn is_running(&self, server: usize) -> bool {
        self.servers[server].life == Life::Running
    }

    /// Lets all disks say that they have synced when they have not.
    pub fn disks_lie(&self) {
        for server in &self.servers {
            server.disk.set_faults(Faults {
                lies: true,
                ..Faults::default()
            });
        }
    }

    /// May the power of a machine fail now?
    pub fn may_lose_power(&mut self, may: bool) {
        self.is_power_due = may;
    }

    /// Goes on by one tick. An error is the end of some software that should not have ended.
    pub fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("at {} ms: {error}", self.now_ms);
        }
        self.now_ms += TICK.as_millis() as u64;
    }

    /// Faults that are due begin, and those that are over end. Says which servers died.
    pub fn befall(&mut self, trace: &mut Trace) -> Vec<usize> {
        let mut died = Vec::new();
        if self.now_ms >= self.next_fault_ms {
            self.next_fault_ms = self.now_ms + 200 + self.rng.below(self.rules.pause_ms);
            self.fault(trace, &mut died);
        }
        self.mend(trace);
        died
    }

    fn fault(&mut self, trace: &mut Trace, died: &mut Vec<usize>) {
        let server = self.rng.below(self.servers.len() as u64) as usize;
        let until = self.now_ms + 50 + self.rng.below(6_000);
        match self.rng.below(20) {
            0..5 => self.kill(server, until, trace, died),
            5..8 => {
                let pause = self.rules.power_pause_ms;
                let is_due = pause.is_none() || self.now_ms >= self.next_power_ms;
                if is_due && self.is_power_due {
                    self.next_power_ms = until + pause.unwrap_or(0);
                    self.cut_power(server, until, trace, died);
                }
            }
            8 if self.rules.power_of_all => {
                trace.note(format_args!("{}: the power of all fails", self.now_ms));
                for server in 0..self.servers.len() {
                    self.cut_power(server, until, trace, died);
                }
            }
            8 => {
                for server in 0..self.servers.len() {
                    self.kill(server, until, trace, died);
                }
            }
            9..12 => self.isolate(server, until, trace),
            12..15 => {
                let other = self.other(server);
                self.cut(server, other, Link::Held, until, trace);
            }
            15..17 => {
                let other = self.other(server);
                self.cut(server, other, Link::Lossy(server, other), until, trace);
            }
            17 => {
                trace.note(format_args!("{}: a slow network", self.now_ms));
                self.slow_network_until = until;
                self.sim.set_max_message_latency(SLOW_LATENCY);
            }
            _ => {
                trace.note(format_args!("{}: slow disks", self.now_ms));
                self.slow_disks_until = until;
                simulated::set_pause(SLOW_BLOCKING);
            }
        }
    }

    /// Another server, or a client.
    fn other(&self, server: usize) -> usize {
        let count = self.servers.len() + self.clients.len();
        let other = self.rng.below(count as u64 - 1) as usize;
        if other < server { other } else { other + 1 }
    }

    fn name(&self, number: usize) -> &str {
        match self.servers.get(number) {
            Some(server) => &server.name,
            None => &self.clients[number - self.servers.len()],
        }
    }

    fn kill(&mut self, server: usize, until: u64, trace: &mut Trace, died: &mut Vec<usize>) {
        if self.is_running(server) {
            let machine = &mut self.servers[server];
            trace.note(format_args!(
                "{}: {} is killed until {until}",
                self.now_ms, machine.name
            ));
            machine.life = Life::Dead(until);
            self.sim.crash(machine.name.as_str());
            machine.disk.kill();
            died.push(server);
        }
    }

    fn cut_power(&mut self, server: usize, until: u64, trace: &mut Trace, died: &mut Vec<usize>) {
        if self.is_running(server) {
            self.servers[server].life = Life::Dark(until);
            // Before it falls: its end must not be heard.
            self.relink();
            let machine = &mut self.servers[server];
            trace.note(format_args!(
                "{}: {} loses power until {until}",
                self.now_ms, machine.name
            ));
            self.sim.crash(machine.name.as_str());
            machine.disk.crash();
            boot(&machine.disk, &self.rng);
            died.push(server);
        }
    }

    fn isolate(&mut self, server: usize, until: u64, trace: &mut Trace) {
        for other in 0..self.servers.len() + self.clients.len() {
            if other != server {
                self.cut(server, other, Link::Held, until, trace);
            }
        }
    }

    fn cut(&mut self, one: usize, other: usize, how: Link, until: u64, trace: &mut Trace) {
        let pair = (one.min(other), one.max(other));
        if self.cuts.contains_key(&pair) {
            return;
        }
        trace.note(format_args!(
            "{}: {} and {}: {how:?} until {until}",
            self.now_ms,
            self.name(one),
            self.name(other)
        ));
        self.cuts.insert(pair, (how, until));
        self.relink();
    }

    /// Ends what is over.
    fn mend(&mut self, trace: &mut Trace) {
        let now_ms = self.now_ms;
        self.cuts.retain(|_, (_, until)| now_ms < *until);
        for server in 0..self.servers.len() {
            match self.servers[server].life {
                Life::Dead(until) | Life::Dark(until) if now_ms >= until => {
                    self.servers[server].life = Life::Running;
                    self.relink();
                    trace.note(format_args!(
                        "{now_ms}: {} starts",
                        self.servers[server].name
                    ));
                    self.sim.bounce(self.servers[server].name.as_str());
                }
                _ => {}
            }
        }
        self.relink();
        if self.slow_network_until != 0 && now_ms >= self.slow_network_until {
            self.slow_network_until = 0;
            self.sim.set_max_message_latency(LATENCY_MAX);
        }
        if self.slow_disks_until != 0 && now_ms >= self.slow_disks_until {
            self.slow_disks_until = 0;
            simulated::set_pause(BLOCKING);
        }
    }

    /// Makes the links what they should be.
    fn relink(&mut self) {
        let count = self.servers.len() + self.clients.len();
        for one in 0..count {
            for other in one + 1..count {
                let is_dark = |number: usize| {
                    let server = self.servers.get(number);
                    server.is_some_and(|server| matches!(server.life, Life::Dark(_)))
                };
                let wanted = if is_dark(one) || is_dark(other) {
                    Link::Held
                } else {
                    let cut = self.cuts.get(&(one, other));
                    cut.map_or(Link::Whole, |(how, _)| *how)
                };
                let now = self.links.get(&(one, other));
                let now = now.copied().unwrap_or(Link::Whole);
                if now != wanted {
                    self.turn(one, other, now, wanted);
                    self.links.insert((one, other), wanted);
                }
            }
        }
    }

    fn turn(&self, one: usize, other: usize, now: Link, wanted: Link) {
        let (a, b) = (self.name(one), self.name(other));
        match now {
            Link::Whole => {}
            Link::Held => self.sim.release(a, b),
            Link::Lossy(..) => self.sim.repair(a, b),
        }
        match wanted {
            Link::Whole => {}
            Link::Held => self.sim.hold(a, b),
            Link::Lossy(from, to) => {
                self.sim.partition_oneway(self.name(from), self.name(to));
            }
        }
    }

    /// Ends all that befell, at once.
    pub fn heal(&mut self, trace: &mut Trace) {
        trace.note(format_args!("{}: all is mended", self.now_ms));
        self.cuts.clear();
        self.slow_network_until = self.slow_network_until.min(1);
        self.slow_disks_until = self.slow_disks_until.min(1);
        for server in &mut self.servers {
            if let Life::Dead(until) | Life::Dark(until) = &mut server.life {
                *until = 0;
            }
        }
        self.mend(trace);
    }

    /// The power of all servers fails, and comes back.
    pub fn black_out(&mut self, trace: &mut Trace) -> Vec<usize> {
        let mut died = Vec::new();
        let until = self.now_ms + 500;
        for server in 0..self.servers.len() {
            self.cut_power(server, until, trace, &mut died);
        }
        died
    }

    /// All processes die, and start again.
    pub fn kill_all(&mut self, trace: &mut Trace) -> Vec<usize> {
        let mut died = Vec::new();
        let until = self.now_ms + 500;
        for server in 0..self.servers.len() {
            self.kill(server, until, trace, &mut died);
        }
        died
    }

    /// For faults that were begun from outside: ends those that are over.
    pub fn recover(&mut self, trace: &mut Trace) {
        self.mend(trace);
    }
}
