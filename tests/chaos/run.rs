//! One run: a cluster under load, and the verdict on its history.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tripod::common::rng::Rng;

use crate::check::history;
use crate::check::queue;
use crate::nodes::{Nodes, Place};
use crate::workload::{PARTITIONS, Workload};

/// Tests with processes run one at a time: two cores are what there is.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long a fault is left to work before it is mended.
const LEFT_ALONE: Duration = Duration::from_secs(2);

/// A cluster under load.
pub struct Run {
    pub nodes: Nodes,
    pub workload: Workload,
    name: &'static str,
    expected: Vec<&'static str>,
}

/// Beside which every run has the usual settings.
pub type Settings = &'static [(&'static str, &'static str)];

impl Run {
    /// Three nodes on this machine's loopback.
    pub async fn local(name: &'static str) -> Run {
        Run::start(name, [(); 3].map(|()| Place::local()), &[]).await
    }

    /// Three nodes, each in its place, with settings below `broker:`, and the load.
    pub async fn start(name: &'static str, places: [Place; 3], settings: Settings) -> Run {
        // TRIPOD_CHAOS_LOG=tripod=debug shows what the clients do.
        if let Ok(filter) = std::env::var("TRIPOD_CHAOS_LOG") {
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
            let _ = subscriber.with_writer(std::io::stderr).try_init();
        }
        let settings = [&[("replica.lag.time.max.ms", "10000")], settings].concat();
        let nodes = Nodes::start(places, &settings).await;
        let workload = Workload::start(nodes.bootstrap(), 2, 150).await;
        Run {
            nodes,
            workload,
            name,
            expected: Vec::new(),
        }
    }

    /// A line of the log that a person must look at, and that belongs to the fault: it has to be there.
    pub fn expect(&mut self, line: &'static str) {
        self.expected.push(line);
    }

    /// Ends the load, lets the cluster heal, reads everything twice, with a rolling restart between.
    pub async fn judge(mut self) {
        self.workload.healed().await;
        self.workload.finish().await;
        self.workload.read_back(0).await;
        for index in 0..3 {
            self.nodes.stop(index).await;
            self.nodes.spawn(index);
            self.nodes.ready(index).await;
        }
        self.workload.read_back(1).await;
        let events = self.workload.recorder.events();
        let verdict = queue::judge(&events);
        let gaps = history::longest_gaps(&events);
        let gaps: Vec<_> = gaps.values().map(|(gap, _)| gap / 1_000_000).collect();
        println!(
            "{}: {} sent, {} acknowledged, {} unknown, {} received, longest gaps {gaps:?} ms",
            self.name, verdict.sent, verdict.acknowledged, verdict.unknown, verdict.received
        );
        assert_eq!(gaps.len(), PARTITIONS as usize, "every partition took part");
        if !verdict.breaches.is_empty() {
            let dir = self.nodes.keep().expect("a directory");
            let file = std::fs::File::create(dir.join("history.jsonl")).expect("created");
            history::write(&events, std::io::BufWriter::new(file)).expect("written");
            let first: Vec<_> = verdict.breaches.iter().take(20).collect();
            panic!(
                "{}: {} breaches, kept in {}: {first:#?}",
                self.name,
                verdict.breaches.len(),
                dir.display()
            );
        }
        let mut alarms = self.nodes.alarms();
        for expected in &self.expected {
            let before = alarms.len();
            alarms.retain(|line| !line.contains(expected));
            assert!(alarms.len() < before, "{}: not said: {expected}", self.name);
        }
        assert!(alarms.is_empty(), "{}: {alarms:#?}", self.name);
    }

    /// A node that ended starts again, and is in sync everywhere.
    pub async fn returns(&mut self, index: usize) {
        self.nodes.spawn(index);
        self.nodes.ready(index).await;
        self.workload.healed().await;
    }

    /// kill -9; the others go on; it comes back.
    pub async fn kill_and_return(&mut self, index: usize) {
        self.workload.fault(&format!("kill -9 of node {index}"));
        self.nodes.kill(index);
        tokio::time::sleep(LEFT_ALONE).await;
        self.workload.goes_on().await;
        self.workload.fault(&format!("start of node {index}"));
        self.returns(index).await;
    }
}

/// Chance for a run, and when it is over: `TRIPOD_CHAOS_SEED`, `TRIPOD_CHAOS_SECONDS`.
pub fn from_a_seed() -> (Rng, Instant) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("TRIPOD_CHAOS_SEED").unwrap_or_else(|| Rng::from_os().next_u64());
    let seconds = number("TRIPOD_CHAOS_SECONDS").unwrap_or(20);
    println!("TRIPOD_CHAOS_SEED={seed} TRIPOD_CHAOS_SECONDS={seconds}");
    let end = Instant::now() + Duration::from_secs(seconds);
    (Rng::from_seed(seed), end)
}
