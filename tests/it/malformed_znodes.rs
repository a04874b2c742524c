//! Anybody may write into ZooKeeper: what a broker cannot read there never stops it.

use tripod::client::consumer::Start;
use tripod::client::zookeeper::{Mode, ZooKeeper};

use crate::cluster::{Cluster, Plan, numbered, wait_until};

/// Contents that no broker wrote.
fn garbage() -> Vec<Vec<u8>> {
    let deep = "[".repeat(50_000);
    let texts = [
        "",
        "null",
        "not json",
        "{",
        "{}",
        "[]",
        "1",
        "\"text\"",
        "{\"version\":1}",
        "{\"version\":99,\"partitions\":{\"0\":[1]}}",
        "{\"version\":-1,\"partitions\":[]}",
        "{\"version\":3,\"partitions\":{\"x\":[1]}}",
        "{\"version\":3,\"partitions\":{\"-1\":[1]}}",
        "{\"version\":3,\"partitions\":{\"2147483647\":[1]}}",
        "{\"version\":3,\"partitions\":{\"99999999999999999999\":[1]}}",
        "{\"version\":3,\"partitions\":{\"5\":[1]}}",
        "{\"version\":3,\"partitions\":{\"0\":[]}}",
        "{\"version\":3,\"partitions\":{\"0\":[-1]}}",
        "{\"version\":3,\"partitions\":{\"0\":[1,1]}}",
        "{\"version\":3,\"partitions\":{\"0\":[77]}}",
        "{\"version\":3,\"partitions\":{\"0\":\"1\"}}",
        "{\"version\":3,\"topic_id\":\"?\",\"partitions\":{\"0\":[1]}}",
        "{\"version\":3,\"topic_id\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"partitions\":{\"0\":[1]}}",
        "{\"version\":1,\"config\":{\"retention.ms\":[]}}",
        "{\"version\":1,\"config\":{\"retention.ms\":\"soon\",\"segment.bytes\":\"-1\"}}",
        "{\"version\":2,\"entity_path\":\"../..\"}",
        "{\"version\":1,\"partitions\":[{\"topic\":\"ok\",\"partition\":-5}]}",
        "{\"version\":1,\"partitions\":[{\"topic\":\"ok\",\"partition\":0,\"replicas\":[88]}]}",
        "{\"version\":1,\"brokerid\":-7,\"timestamp\":\"x\"}",
        "{\"version\":5,\"host\":\"\",\"port\":-1,\"endpoints\":[\"nonsense\"],\"timestamp\":\"x\"}",
        "{\"leader\":99,\"version\":1,\"isr\":[],\"leader_epoch\":-3,\"controller_epoch\":9999999999}",
        deep.as_str(),
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(vec![0xff; 64]);
    all.push(vec![0; 100_000]);
    all
}

/// Writes a node, whether it is there or not.
async fn put(zookeeper: &ZooKeeper, path: &str, data: Vec<u8>) {
    if zookeeper
        .create(path, Some(data.clone()), Mode::Persistent)
        .await
        .is_err()
    {
        // Somebody may have taken it away in between; that is fine too.
        let _ = zookeeper.set(path, data, -1).await;
    }
}

/// The broker answers, keeps records, and changes metadata.
async fn is_well(cluster: &Cluster, round: &str) {
    let client = cluster.client();
    client.leaders("ok", 2).await;
    client.put("ok", 1, &numbered(round, 1)).await;
    let name = format!("after-{round}");
    client.create(&name, 1).await;
    client.put(&name, 0, &numbered("x", 3)).await;
    client.read((&name, 0), Start::Earliest, 3).await;
    assert_eq!(cluster.nodes[0].failed_task().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_znodes_never_stops_a_broker() {
    let mut cluster = Plan::nodes(1).start().await;
    cluster.client().create("ok", 2).await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    for (index, data) in garbage().into_iter().enumerate() {
        for path in [
            format!("/brokers/topics/bad-{index}"),
            format!("/brokers/ids/{}", 100 + index),
            format!("/config/topics/bad-{index}"),
            format!("/config/brokers/{}", 100 + index),
        ] {
            put(&zookeeper, &path, data.clone()).await;
        }
        for path in [
            "/config/topics/ok",
            "/config/brokers/1",
            "/config/brokers/<default>",
            "/admin/preferred_replica_election",
            "/admin/reassign_partitions",
        ] {
            put(&zookeeper, path, data.clone()).await;
        }
        zookeeper
            .create(
                "/config/changes/config_change_",
                Some(data),
                Mode::Sequential,
            )
            .await
            .expect("created");
    }
    for (path, data) in [
        (
            "/brokers/topics/a b",
            "{\"version\":3,\"partitions\":{\"0\":[1]}}",
        ),
        (
            "/brokers/topics/..x",
            "{\"version\":3,\"partitions\":{\"0\":[1]}}",
        ),
        ("/brokers/topics/ok/partitions/x", ""),
        ("/brokers/topics/bad-4/partitions", "?"),
        ("/brokers/ids/abc", "{}"),
        ("/brokers/ids/-1", "{}"),
        ("/brokers/ids/99999999999", "{}"),
        ("/admin/delete_topics/nobody", "?"),
        ("/admin/delete_topics/a b", ""),
        ("/config/users", "?"),
        ("/config/topics/a b", "?"),
    ] {
        put(&zookeeper, path, data.into()).await;
    }
    is_well(&cluster, "running").await;
    cluster.restart().await;
    is_well(&cluster, "restarted").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_node_that_cannot_be_read_is_survived() {
    let mut cluster = Plan::nodes(1).start().await;
    cluster.client().create("ok", 2).await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    for (index, data) in garbage().into_iter().enumerate().step_by(4) {
        let _ = zookeeper.delete("/controller", -1).await;
        put(&zookeeper, "/controller", data).await;
        // Clients are served with or without a controller.
        cluster
            .client()
            .put("ok", 0, &numbered(&format!("{index}"), 2))
            .await;
    }
    let _ = zookeeper.delete("/controller", -1).await;
    wait_until("there is a controller again", || async {
        let (data, _) = zookeeper.get("/controller").await.ok()?;
        let json: serde_json::Value = serde_json::from_slice(&data).ok()?;
        (json["brokerid"] == 1).then_some(())
    })
    .await;
    is_well(&cluster, "again").await;
    cluster.stop().await;
}
