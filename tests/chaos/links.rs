//! The faults of the network: links cut both ways and one way, silently. Judged as the others are.

use std::time::Duration;

use crate::network::{Network, inside};
use crate::run::{ONE_AT_A_TIME, Run};

/// The two nodes that are not `node`.
fn others(node: usize) -> [usize; 2] {
    [(node + 1) % 3, (node + 2) % 3]
}

/// Links, one way each: from, to.
type Links = Vec<(usize, usize)>;

struct Cluster {
    network: Network,
    run: Run,
}

impl Cluster {
    async fn start(name: &'static str) -> Cluster {
        let network = Network::new();
        let run = Run::start(name, network.places(), &[]).await;
        Cluster { network, run }
    }

    fn cut(&self, what: &str, links: &Links) {
        self.run.workload.fault(&format!("{what}: {links:?} cut"));
        for (from, to) in links {
            self.network.cut(*from, *to);
        }
    }

    async fn mend(&self, links: &Links) {
        self.run.workload.fault(&format!("{links:?} mended"));
        for (from, to) in links {
            self.network.mend(*from, *to);
        }
        self.run.workload.healed().await;
    }

    /// Cuts the links that belong to the leader of partition 0; others take the partition over meanwhile.
    async fn leader_loses(&self, what: &str, links: impl Fn(usize) -> Links) {
        let links = links(self.run.workload.leader(0).await);
        self.cut(what, &links);
        for partition in 0..3 {
            self.run.workload.partition_goes_on(partition).await;
        }
        self.mend(&links).await;
    }
}

fn all_of(node: usize) -> Links {
    others(node)
        .into_iter()
        .flat_map(|other| [(node, other), (other, node)])
        .collect()
}

fn from(node: usize) -> Links {
    others(node).map(|other| (node, other)).to_vec()
}

fn to(node: usize) -> Links {
    others(node).map(|other| (other, node)).to_vec()
}

/// The bridge: one node sees both others, which do not see each other.
fn to_one_other(node: usize) -> Links {
    let [other, _] = others(node);
    vec![(node, other), (other, node)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_both_ways_acknowledges_nothing_that_is_lost() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if inside("links::a_leader_cut_off_both_ways_acknowledges_nothing_that_is_lost").await {
        let cluster = Cluster::start("a leader cut off").await;
        cluster.leader_loses("a leader alone", all_of).await;
        cluster.leader_loses("a bridge", to_one_other).await;
        cluster.run.judge().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_hears_or_only_speaks_keeps_the_promises() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if inside("links::a_leader_that_only_hears_or_only_speaks_keeps_the_promises").await {
        let cluster = Cluster::start("one-way links").await;
        cluster.leader_loses("a leader only hears", from).await;
        cluster.leader_loses("a leader only speaks", to).await;
        cluster.run.judge().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_cut_from_a_seed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if inside("links::links_cut_from_a_seed").await {
        let (rng, end) = crate::run::from_a_seed();
        let cluster = Cluster::start("links from a seed").await;
        while tokio::time::Instant::now() < end {
            let cut = |_: &(usize, usize)| rng.next_u64().is_multiple_of(3);
            let every = (0..3).flat_map(|node| others(node).map(|other| (node, other)));
            let links: Links = every.filter(cut).collect();
            cluster.cut("by chance", &links);
            let pause = Duration::from_millis(100 + rng.next_u64() % 8_000);
            tokio::time::sleep(pause).await;
            cluster.mend(&links).await;
            cluster.run.workload.goes_on().await;
        }
        cluster.run.judge().await;
    }
}
