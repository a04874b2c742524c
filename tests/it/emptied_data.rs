//! A coordinator whose directory was emptied joins as new: nothing that was acknowledged is lost, and it counts.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tripod::client;
use tripod::client::zookeeper::{Mode, Options, ZooKeeper};
use tripod::common::clock::Clock;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use crate::cluster::{DEADLINE, http_get, wait_until};
use crate::older_data::{Node, leader, three};

async fn connect(servers: Vec<u16>, world: &client::World) -> Arc<ZooKeeper> {
    let servers = servers.into_iter();
    let options = Options {
        servers: servers
            .map(|port| HostPort::new("127.0.0.1", port))
            .collect(),
        chroot: String::new(),
        session_timeout: Duration::from_secs(30),
        connection_timeout: Some(DEADLINE),
    };
    let (zookeeper, _events) = ZooKeeper::connect(options, world).await.expect("a session");
    zookeeper
}

/// Writes until so many more writes were acknowledged. One that got no answer is written again; so it may
/// be there twice, but never not at all.
async fn write(zookeeper: &ZooKeeper, acknowledged: &mut Vec<String>, count: usize) {
    let until = acknowledged.len() + count;
    while acknowledged.len() < until {
        let made = wait_until("a write is acknowledged", || async {
            let made = zookeeper.create("/written-", None, Mode::Sequential);
            made.await.ok()
        });
        let name = made.await;
        acknowledged.push(name.trim_start_matches('/').to_owned());
    }
}

async fn has_all(node: &Node, world: &client::World, acknowledged: &[String]) {
    let zookeeper = connect(vec![node.zookeeper], world).await;
    zookeeper.sync("/").await.expect("in touch");
    let children = zookeeper.children("/").await.expect("listed");
    for name in acknowledged {
        assert!(children.contains(name), "{name} is lost: {children:?}");
    }
}

/// Waits until nobody joins any more, as the member that leads sees it.
async fn none_joins(nodes: &[Node]) {
    wait_until("nobody joins any more", || async {
        for node in nodes {
            let (_, page) = http_get(&node.http, "/metrics").await.ok()?;
            if !page.lines().any(|line| line == "tripod_raft_joining 0") {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_whose_directory_was_emptied_joins_as_new_and_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = three(dir.path());
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        node.ready().await;
    }
    let tasks = Tasks::new(Shutdown::new());
    let world = client::World {
        clock: Clock::real(),
        rng: Rng::from_os(),
        tasks: tasks.clone(),
    };
    let all = nodes.iter().map(|node| node.zookeeper).collect();
    let zookeeper = connect(all, &world).await;
    let mut acknowledged = Vec::new();
    write(&zookeeper, &mut acknowledged, 20).await;
    // A follower, and then the leader.
    for round in 0..2 {
        let leads = leader(&nodes).await;
        let emptied = if round == 0 { (leads + 1) % 3 } else { leads };
        nodes[emptied].kill();
        fs::remove_dir_all(nodes[emptied].coordinator()).expect("removed");
        write(&zookeeper, &mut acknowledged, 10).await;
        nodes[emptied].start();
        nodes[emptied].ready().await;
        none_joins(&nodes).await;
        has_all(&nodes[emptied], &world, &acknowledged).await;
        // With one of the others away it is one of the two that are needed.
        for away in [(emptied + 1) % 3, (emptied + 2) % 3] {
            nodes[away].kill();
            write(&zookeeper, &mut acknowledged, 5).await;
            nodes[away].start();
            nodes[away].ready().await;
        }
        for node in &nodes {
            has_all(node, &world, &acknowledged).await;
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        let said = node.said();
        assert!(!said.contains("panicked"), "node {index}: {said}");
    }
    tasks.stop(DEADLINE).await;
}
