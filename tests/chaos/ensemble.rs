//! The faults of an ensemble, under sessions at work, each judged at the end (reliability: Z1 to Z6, D1).

use std::time::Duration;

use tripod::common::rng::Rng;

use crate::check::znodes;
use crate::network::{Network, inside};
use crate::nodes::{Nodes, Place};
use crate::run::{ONE_AT_A_TIME, from_a_seed};
use crate::sessions::Sessions;

const CLIENTS: u64 = 4;
/// For what is left of a fault after its last line, an election above all.
const SLACK_MS: u64 = 10_000;

struct Ensemble {
    name: &'static str,
    nodes: Nodes,
    sessions: Sessions,
}

impl Ensemble {
    async fn start(name: &'static str, places: [Place; 3], rng: &Rng) -> Ensemble {
        let nodes = Nodes::start(places, &[]).await;
        let servers = (0..3).map(|index| nodes.zookeeper(index)).collect();
        let sessions = Sessions::start(servers, CLIENTS, rng).await;
        Ensemble {
            name,
            nodes,
            sessions,
        }
    }

    /// Ends the load, sees all sessions end, looks at every member, restarts them one by one, and looks again.
    async fn judge(mut self) {
        self.sessions.goes_on().await;
        self.sessions.finish().await;
        self.sessions.all_expire().await;
        self.sessions.look(0).await;
        for index in 0..3 {
            self.nodes.stop(index).await;
            self.nodes.spawn(index);
            self.nodes.ready(index).await;
        }
        self.sessions.look(1).await;
        let events = self.sessions.recorder.events();
        let verdict = znodes::judge(&events, SLACK_MS);
        println!(
            "{}: {} writes, {} reads, {} events, {} calls without an answer",
            self.name, verdict.writes, verdict.reads, verdict.events, verdict.unknown
        );
        assert!(verdict.events > 0, "watches took part");
        if !verdict.breaches.is_empty() {
            let dir = self.nodes.keep().expect("a directory");
            let file = std::fs::File::create(dir.join("history.jsonl")).expect("created");
            znodes::write(&events, std::io::BufWriter::new(file)).expect("written");
            let first: Vec<_> = verdict.breaches.iter().take(20).collect();
            let (count, name) = (verdict.breaches.len(), self.name);
            panic!(
                "{name}: {count} breaches, kept in {}: {first:#?}",
                dir.display()
            );
        }
        let alarms = self.nodes.alarms();
        assert!(alarms.is_empty(), "{}: {alarms:#?}", self.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_beside_kills_and_pauses_from_a_seed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rng, end) = from_a_seed();
    let places = [(); 3].map(|()| Place::local());
    let mut run = Ensemble::start("sessions beside kills and pauses", places, &rng).await;
    while tokio::time::Instant::now() < end {
        let index = usize::try_from(rng.below(3)).expect("small");
        match rng.below(3) {
            0 => {
                run.sessions.fault(&format!("kill -9 of node {index}"));
                run.nodes.kill(index);
                run.sessions.goes_on().await;
                run.nodes.spawn(index);
                run.nodes.ready(index).await;
            }
            1 => {
                run.sessions.fault("kill -9 of all");
                for index in 0..3 {
                    run.nodes.kill(index);
                }
                for index in 0..3 {
                    run.nodes.spawn(index);
                }
                for index in 0..3 {
                    run.nodes.ready(index).await;
                }
            }
            _ => {
                let pause = Duration::from_millis(100 + rng.below(3_000));
                run.sessions
                    .fault(&format!("pause of node {index} for {pause:?}"));
                run.nodes.pause(index);
                tokio::time::sleep(pause).await;
                run.nodes.resume(index);
            }
        }
        run.sessions.goes_on().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_beside_members_cut_off() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if inside("ensemble::sessions_beside_members_cut_off").await {
        let rng = Rng::from_os();
        let network = Network::new();
        let mut run =
            Ensemble::start("sessions beside members cut off", network.places(), &rng).await;
        for node in 0..3 {
            let links: Vec<_> = [1, 2]
                .into_iter()
                .flat_map(|step| {
                    let other = (node + step) % 3;
                    [(node, other), (other, node)]
                })
                .collect();
            run.sessions.fault(&format!("{links:?} cut"));
            for (from, to) in &links {
                network.cut(*from, *to);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            run.sessions.goes_on().await;
            for (from, to) in &links {
                network.mend(*from, *to);
            }
            run.nodes.ready(node).await;
            run.sessions.goes_on().await;
        }
        run.judge().await;
    }
}
