//! Start and stop are features: nothing leaks, and what was acknowledged stays.

use std::net::TcpListener;

use tokio::runtime::Handle;
use tripod::client::consumer::Start;
use tripod::common::net::HostPort;

use crate::cluster::{Plan, numbered, wait_until};

const TIMES: usize = 20;

async fn assert_free(ports: &[HostPort]) {
    for address in ports {
        wait_until(&format!("{address} is free again"), || async {
            TcpListener::bind((address.host.as_str(), address.port)).ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clean_stops_leak_nothing_and_lose_nothing() {
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut cluster = Plan::nodes(1).start().await;
    let ports = {
        let node = &cluster.nodes[0];
        [
            node.kafka.clone(),
            node.zookeeper.clone(),
            node.http.clone(),
        ]
    };
    cluster.client().create("t", 2).await;
    let mut sent = Vec::new();
    let mut tasks_running = None;
    for round in 0..TIMES {
        let client = cluster.client();
        client.leaders("t", 2).await;
        let values = numbered(&format!("round {round}"), 10);
        client.put("t", 0, &values).await;
        sent.extend(values);
        cluster.stop().await;
        wait_until("every task of the runtime has ended", || async {
            let alive = Handle::current().metrics().num_alive_tasks();
            (alive == tasks_before).then_some(())
        })
        .await;
        assert_free(&ports).await;
        cluster.start().await;
        // Descriptors are the process's and other tests open some; tasks are this runtime's alone.
        let alive = Handle::current().metrics().num_alive_tasks();
        assert!(alive > tasks_before);
        let usual = *tasks_running.get_or_insert(alive);
        assert!(
            alive <= usual + 10,
            "{alive} tasks in round {round}, {usual} in the first"
        );
    }
    let found = cluster
        .client()
        .read(("t", 0), Start::Earliest, sent.len())
        .await;
    assert!(
        found
            .iter()
            .map(|(offset, _)| *offset)
            .eq(0..sent.len() as i64)
    );
    let found: Vec<String> = found.into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, sent);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_coordinators_start_and_stop_together() {
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut cluster = Plan::coordinators(3).start().await;
    for round in 0..TIMES / 4 {
        let (zookeeper, _events) = cluster.zookeeper().await;
        let mode = tripod::client::zookeeper::Mode::Persistent;
        zookeeper
            .create(&format!("/round-{round}"), None, mode)
            .await
            .expect("created");
        drop(zookeeper);
        cluster.stop().await;
        wait_until("every task of the runtime has ended", || async {
            let alive = Handle::current().metrics().num_alive_tasks();
            (alive == tasks_before).then_some(())
        })
        .await;
        cluster.start().await;
    }
    let (zookeeper, _events) = cluster.zookeeper().await;
    zookeeper.sync("/").await.expect("in touch");
    let mut children = zookeeper.children("/").await.expect("listed");
    children.retain(|name| name.starts_with("round-"));
    assert_eq!(children.len(), TIMES / 4);
    cluster.stop().await;
}
