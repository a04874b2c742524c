//! The faults, each over the same load, each judged at the end (reliability: Q1 to Q6, A1, D2).

use std::time::Duration;

use tokio::sync::Mutex;
use tripod::common::rng::Rng;

use crate::check::history::{self, What};
use crate::check::queue;
use crate::nodes::Nodes;
use crate::workload::{PARTITIONS, Workload};

/// Tests with processes run one at a time: two cores are what there is.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long a fault is left to work before it is mended.
const LEFT_ALONE: Duration = Duration::from_secs(2);

struct Run {
    nodes: Nodes,
    workload: Workload,
    name: &'static str,
}

impl Run {
    async fn start(name: &'static str) -> Run {
        // TRIPOD_CHAOS_LOG=tripod=debug shows what the clients do.
        if let Ok(filter) = std::env::var("TRIPOD_CHAOS_LOG") {
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
            let _ = subscriber.with_writer(std::io::stderr).try_init();
        }
        let nodes = Nodes::start(&[("replica.lag.time.max.ms", "10000")]).await;
        let workload = Workload::start(nodes.bootstrap(), 2, 150).await;
        Run {
            nodes,
            workload,
            name,
        }
    }

    /// Ends the load, lets the cluster heal, reads everything twice, with a rolling restart between.
    async fn judge(mut self) {
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
        let alarms = self.nodes.alarms();
        assert!(alarms.is_empty(), "{}: {alarms:#?}", self.name);
    }

    async fn kill_and_return(&mut self, index: usize) {
        self.workload.fault(&format!("kill -9 of node {index}"));
        self.nodes.kill(index);
        tokio::time::sleep(LEFT_ALONE).await;
        self.workload.goes_on().await;
        self.workload.fault(&format!("start of node {index}"));
        self.nodes.spawn(index);
        self.nodes.ready(index).await;
        self.workload.healed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_each_leader_in_turn() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::start("kill -9 of each leader").await;
    for partition in 0..PARTITIONS {
        let leader = run.workload.leader(partition).await;
        run.kill_and_return(leader).await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_and_an_immediate_restart() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::start("kill -9, at once back").await;
    for _ in 0..3 {
        let leader = run.workload.leader(0).await;
        run.workload
            .fault(&format!("kill -9 of node {leader}, and start"));
        run.nodes.kill(leader);
        run.nodes.spawn(leader);
        run.nodes.ready(leader).await;
        run.workload.goes_on().await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_all_at_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::start("kill -9 of all").await;
    for _ in 0..3 {
        run.workload.fault("kill -9 of all");
        for index in 0..3 {
            run.nodes.kill(index);
        }
        for index in 0..3 {
            run.nodes.spawn(index);
        }
        for index in 0..3 {
            run.nodes.ready(index).await;
        }
        run.workload.goes_on().await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_does_not_acknowledge_from_the_past() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::start("SIGSTOP of a leader").await;
    for seconds in [1, 25] {
        let leader = run.workload.leader(0).await;
        run.workload
            .fault(&format!("pause of node {leader} for {seconds} s"));
        run.nodes.pause(leader);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        run.nodes.resume(leader);
        run.workload.goes_on().await;
        run.nodes.ready(leader).await;
        run.workload.healed().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_request() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut run = Run::start("rolling restart").await;
    for index in 0..3 {
        run.workload.fault(&format!("SIGTERM of node {index}"));
        run.nodes.stop(index).await;
        run.nodes.spawn(index);
        run.nodes.ready(index).await;
        run.workload.healed().await;
    }
    let events = run.workload.recorder.events();
    let given_up = events
        .iter()
        .filter(|event| matches!(event.what, What::Err { .. }));
    assert_eq!(given_up.count(), 0);
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_from_a_seed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("TRIPOD_CHAOS_SEED").unwrap_or_else(|| Rng::from_os().next_u64());
    let seconds = number("TRIPOD_CHAOS_SECONDS").unwrap_or(20);
    println!("TRIPOD_CHAOS_SEED={seed} TRIPOD_CHAOS_SECONDS={seconds}");
    let rng = Rng::from_seed(seed);
    let mut run = Run::start("faults from a seed").await;
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while tokio::time::Instant::now() < end {
        let index = usize::try_from(rng.next_u64() % 3).expect("small");
        match rng.next_u64() % 4 {
            0 => run.kill_and_return(index).await,
            1 => {
                run.workload
                    .fault(&format!("kill -9 of node {index}, and start"));
                run.nodes.kill(index);
                run.nodes.spawn(index);
                run.nodes.ready(index).await;
            }
            2 => {
                let pause = Duration::from_millis(100 + rng.next_u64() % 3_000);
                run.workload
                    .fault(&format!("pause of node {index} for {pause:?}"));
                run.nodes.pause(index);
                tokio::time::sleep(pause).await;
                run.nodes.resume(index);
            }
            _ => {
                run.workload.fault(&format!("SIGTERM of node {index}"));
                run.nodes.stop(index).await;
                run.nodes.spawn(index);
                run.nodes.ready(index).await;
            }
        }
        run.workload.goes_on().await;
    }
    run.judge().await;
}
