//! Health, metrics and ZooKeeper's admin commands, asked over a socket.

use tripod::client::consumer::Start;

use crate::cluster::{Plan, http_get, numbered, wait_until};

/// What existing dashboards ask for (names only): every family of the JMX exporter's that is promised.
const METRICS: [&str; 38] = [
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "kafka_server_brokertopicmetrics_replicationbytesin_total",
    "kafka_server_brokertopicmetrics_replicationbytesout_total",
    "kafka_server_replicamanager_leadercount",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_server_replicamanager_underminisrpartitioncount",
    "kafka_server_replicamanager_isrshrinks_total",
    "kafka_server_replicamanager_isrexpands_total",
    "kafka_server_replicamanager_offlinereplicacount",
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_controller_controllerstats_uncleanleaderelections_total",
    "kafka_cluster_partition_underminisr",
    "kafka_cluster_partition_atminisr",
    "kafka_cluster_partition_replicascount",
    "kafka_log_log_size",
    "kafka_log_logmanager_offlinelogdirectorycount",
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "kafka_server_socket_server_metrics_connection_count",
    "kafka_network_requestmetrics_totaltimems",
    "kafka_network_requestmetrics_totaltimems_count",
    "tripod_raft_fsync_seconds_sum",
    "znode_count",
    "num_alive_connections",
    "fsynctime_sum",
    "updatelatency",
    "process_open_fds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_its_health_its_figures_and_its_words() {
    let mut cluster = Plan::nodes(1).start().await;
    let address = cluster.nodes[0].http.clone();
    let client = cluster.client();
    client.create("t", 2).await;
    client.put("t", 0, &numbered("x", 10)).await;
    client.read(("t", 0), Start::Earliest, 10).await;

    assert_eq!(http_get(&address, "/livez").await.expect("answered").0, 200);
    wait_until("the node is ready", || async {
        let (status, _) = http_get(&address, "/readyz").await.ok()?;
        (status == 200).then_some(())
    })
    .await;

    let (status, metrics) = http_get(&address, "/metrics").await.expect("answered");
    assert_eq!(status, 200);
    let missing: Vec<&str> = METRICS
        .into_iter()
        .filter(|name| {
            !metrics.lines().any(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
        })
        .collect();
    assert!(missing.is_empty(), "missing {missing:?} in:\n{metrics}");
    for name in [
        "kafka_network_socketserver_networkprocessoravgidle_percent ",
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent ",
    ] {
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
        let share = values.next().and_then(|value| value.parse::<f64>().ok());
        // Something was served, and much more time went by than that took.
        assert!(
            share.is_some_and(|share| share > 0.0 && share < 1.0),
            "{name}{share:?}"
        );
    }
    for line in [
        "kafka_server_brokertopicmetrics_messagesin_total 10",
        "kafka_topic_partitions{topic=\"t\"} 2",
        "kafka_topic_partition_current_offset{topic=\"t\",partition=\"0\"} 10",
        "kafka_controller_kafkacontroller_activecontrollercount 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }

    for command in [
        "ruok",
        "stat",
        "monitor",
        "configuration",
        "cons",
        "dump",
        "hash",
        "gtmk",
        "lsnp",
        "voting_view",
        "wchs",
        "wchc",
        "wchp",
        "zabstate",
        "envi",
        "dirs",
        "isro",
        "obsr",
        "sysp",
        "stmk?traceMask=306",
    ] {
        let path = format!("/commands/{command}");
        let (status, body) = http_get(&address, &path).await.expect("answered");
        assert_eq!(status, 200, "{command}: {body}");
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert!(json["error"].is_null(), "{command}: {body}");
    }
    for path in ["/", "/nothing", "/commands/nothing", "/../etc/passwd"] {
        let (status, _) = http_get(&address, path).await.expect("answered");
        assert!([200, 404].contains(&status), "{path}: {status}");
    }

    // A broker that goes is not ready; the process is alive all the same.
    cluster.nodes[0].stop_broker().await;
    let (status, body) = http_get(&address, "/readyz").await.expect("answered");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("broker"), "{body}");
    assert_eq!(http_get(&address, "/livez").await.expect("answered").0, 200);
    cluster.stop().await;
}
