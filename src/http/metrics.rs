//! `/metrics`: Prometheus' text, in the names that existing dashboards ask for.
//!
//! Pure. Four vocabularies: those of the JMX exporter (this broker), of kafka_exporter (the cluster), of
//! ZooKeeper's own Prometheus provider, and `tripod_` for what nobody else has. What describes the whole cluster comes from the controller
//! alone, and what describes a partition's or a group's offsets from the one broker that leads it, so
//! that a sum over all nodes counts nothing twice.

use crate::broker::status::{BrokerStatus, PartitionStatus, Traffic};
use crate::common::metrics::Page;
use crate::http::{CoordinatorView, ProcessFigures, Sources};

/// The whole page.
pub fn page(sources: &Sources) -> String {
    let mut page = Page::new();
    if let Some(broker) = &sources.broker {
        let status = broker();
        topic_metrics(&mut page, &status);
        replica_manager(&mut page, &status);
        partitions(&mut page, &status);
        requests(&mut page, &status);
        if status.is_controller() {
            cluster(&mut page, &status);
        }
        offsets(&mut page, &status);
        groups(&mut page, &status);
        syncs(&mut page, "log", &status.log_syncs);
    }
    if let Some(coordinator) = &sources.coordinator {
        raft(&mut page, &coordinator());
    }
    if let Some(process) = &sources.process {
        let figures = process();
        if let (Some(_), Some(share)) = (&sources.broker, figures.idle_share) {
            idle(&mut page, share);
        }
        process_figures(&mut page, &figures);
    }
    page.into_text()
}

/// Kafka's name for a measure, what it is, and where it is counted.
type Measured = (&'static str, &'static str, fn(&Traffic) -> u64);

const TRAFFIC: [Measured; 7] = [
    ("messagesin", "Records appended by clients", |t| {
        t.messages_in.get()
    }),
    ("bytesin", "Bytes appended by clients", |t| t.bytes_in.get()),
    ("bytesout", "Bytes fetched by clients", |t| {
        t.bytes_out.get()
    }),
    (
        "totalproducerequests",
        "Produce requests per partition",
        |t| t.total_produce_requests.get(),
    ),
    ("totalfetchrequests", "Fetch requests per partition", |t| {
        t.total_fetch_requests.get()
    }),
    (
        "failedproducerequests",
        "Failed produce requests per partition",
        |t| t.failed_produce_requests.get(),
    ),
    (
        "failedfetchrequests",
        "Failed fetch requests per partition",
        |t| t.failed_fetch_requests.get(),
    ),
];

/// Without a label the broker's total, with one the topic's, as the JMX exporter has them.
fn topic_metrics(page: &mut Page, status: &BrokerStatus) {
    let full = |name: &str| format!("kafka_server_brokertopicmetrics_{name}_total");
    for (name, help, value) in TRAFFIC {
        let name = full(name);
        let all = value(&status.metrics.traffic);
        page.sample(&name, "counter", help, &[], all);
        for (topic, traffic) in &status.topics {
            let labels = [("topic", &**topic)];
            page.sample(&name, "counter", help, &labels, value(traffic));
        }
    }
    let replication = [
        (
            "replicationbytesin",
            "Bytes fetched from leaders",
            status.metrics.replication_bytes_in.get(),
        ),
        (
            "replicationbytesout",
            "Bytes fetched by followers",
            status.metrics.replication_bytes_out.get(),
        ),
    ];
    for (name, help, value) in replication {
        page.sample(&full(name), "counter", help, &[], value);
    }
}

fn replica_manager(page: &mut Page, status: &BrokerStatus) {
    let here = || status.partitions.iter().filter(|p| p.local.is_some());
    let mut gauge = |name: &str, help: &str, value: usize| {
        page.sample(
            &format!("kafka_server_replicamanager_{name}"),
            "gauge",
            help,
            &[],
            value,
        );
    };
    gauge("leadercount", "Partitions led here", status.led().count());
    gauge("partitioncount", "Replicas here", here().count());
    gauge(
        "underreplicatedpartitions",
        "Partitions led here with a replica out of sync",
        status.led().filter(|p| p.is_under_replicated()).count(),
    );
    gauge(
        "underminisrpartitioncount",
        "Partitions led here below min.insync.replicas",
        status.led().filter(|p| p.is_under_min_isr()).count(),
    );
    let counters = [
        (
            "isrshrinks",
            "In-sync sets made smaller",
            status.metrics.isr_shrinks.get(),
        ),
        (
            "isrexpands",
            "In-sync sets made larger",
            status.metrics.isr_expands.get(),
        ),
    ];
    for (name, help, value) in counters {
        page.sample(
            &format!("kafka_server_replicamanager_{name}_total"),
            "counter",
            help,
            &[],
            value,
        );
    }
    log_dirs(page, status);
    controller(page, status);
}

fn log_dirs(page: &mut Page, status: &BrokerStatus) {
    let offline = status.log_dirs.iter().filter(|(_, why)| why.is_some());
    page.sample(
        "kafka_server_replicamanager_offlinereplicacount",
        "gauge",
        "Replicas here whose logs cannot be used",
        &[],
        status.offline.len(),
    );
    page.sample(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "gauge",
        "Log directories that are offline",
        &[],
        offline.count(),
    );
    for (dir, why) in &status.log_dirs {
        page.sample(
            "kafka_log_logmanager_logdirectoryoffline",
            "gauge",
            "Is the log directory offline?",
            &[("logdirectory", dir.as_str())],
            u8::from(why.is_some()),
        );
    }
}

fn controller(page: &mut Page, status: &BrokerStatus) {
    let controller = status.is_controller();
    let offline = status
        .partitions
        .iter()
        .filter(|p| p.leader.is_none())
        .count();
    page.sample(
        "kafka_controller_kafkacontroller_activecontrollercount",
        "gauge",
        "Is this broker the controller?",
        &[],
        u8::from(controller),
    );
    page.sample(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "gauge",
        "Partitions without a leader, from the controller",
        &[],
        if controller { offline } else { 0 },
    );
    page.sample(
        "kafka_controller_controllerstats_uncleanleaderelections_total",
        "counter",
        "Leaders chosen outside the in-sync set",
        &[],
        status.metrics.unclean_elections.get(),
    );
}

/// Calls `each` with every chosen partition and its labels.
fn each_partition<'a>(
    partitions: impl Iterator<Item = &'a PartitionStatus>,
    mut each: impl FnMut(&PartitionStatus, &[(&str, &str)]),
) {
    for status in partitions {
        let index = status.partition.partition.to_string();
        each(
            status,
            &[("topic", &status.partition.topic), ("partition", &index)],
        );
    }
}

fn partitions(page: &mut Page, status: &BrokerStatus) {
    type Measure = (&'static str, &'static str, fn(&PartitionStatus) -> i64);
    const LED: [Measure; 3] = [
        (
            "kafka_cluster_partition_underminisr",
            "Is it below min.insync.replicas?",
            |p| i64::from(p.is_under_min_isr()),
        ),
        (
            "kafka_cluster_partition_atminisr",
            "Is it exactly at min.insync.replicas?",
            |p| i64::from(i64::try_from(p.isr.len()) == Ok(i64::from(p.min_isr))),
        ),
        (
            "kafka_cluster_partition_replicascount",
            "Its replicas",
            |p| i64::try_from(p.replicas.len()).unwrap_or(0),
        ),
    ];
    for (name, help, value) in LED {
        let led = status
            .partitions
            .iter()
            .filter(|p| p.leader == Some(status.id));
        each_partition(led, |p, labels| {
            page.sample(name, "gauge", help, labels, value(p))
        });
    }
    each_partition(status.partitions.iter(), |p, labels| {
        if let Some(local) = p.local {
            page.sample(
                "kafka_log_log_size",
                "gauge",
                "Bytes of the replica here",
                labels,
                local.size_bytes,
            );
        }
    });
}

fn requests(page: &mut Page, status: &BrokerStatus) {
    for (listener, count) in &status.connections {
        let labels = [("listener", listener.as_str())];
        page.sample(
            "kafka_server_socket_server_metrics_connection_count",
            "gauge",
            "Open connections",
            &labels,
            count,
        );
    }
    const NAME: &str = "kafka_network_requestmetrics_totaltimems";
    const HELP: &str = "Milliseconds from a request to its response";
    for (request, histogram) in status.metrics.requests.kinds() {
        for quantile in ["0.5", "0.75", "0.95", "0.99", "0.999"] {
            let us = histogram.quantile_us(quantile.parse().unwrap_or(0.5));
            let labels = [("request", request), ("quantile", quantile)];
            page.sample(NAME, "summary", HELP, &labels, us as f64 / 1000.0);
        }
        let ms = histogram.sum_us() as f64 / 1000.0;
        page.part(&format!("{NAME}_sum"), &[("request", request)], ms);
        page.part(
            &format!("{NAME}_count"),
            &[("request", request)],
            histogram.count(),
        );
    }
}

/// kafka_exporter's view of the cluster, from the controller alone.
fn cluster(page: &mut Page, status: &BrokerStatus) {
    page.sample(
        "kafka_brokers",
        "gauge",
        "Number of brokers in the cluster",
        &[],
        status.brokers.len(),
    );
    for (id, address) in &status.brokers {
        let id = id.to_string();
        let labels = [("address", address.as_str()), ("id", &id)];
        page.sample(
            "kafka_broker_info",
            "gauge",
            "A broker and its address",
            &labels,
            1,
        );
    }
    let mut topics: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for partition in &status.partitions {
        *topics.entry(&partition.partition.topic).or_default() += 1;
    }
    for (topic, count) in topics {
        page.sample(
            "kafka_topic_partitions",
            "gauge",
            "Number of partitions of the topic",
            &[("topic", topic)],
            count,
        );
    }
    type Measure = (&'static str, &'static str, fn(&PartitionStatus) -> i64);
    const MEASURES: [Measure; 5] = [
        ("in_sync_replica", "Number of in-sync replicas", |p| {
            i64::try_from(p.isr.len()).unwrap_or(0)
        }),
        ("leader", "The leader's broker id", |p| {
            p.leader.map_or(-1, |leader| i64::from(leader.0))
        }),
        (
            "leader_is_preferred",
            "1 if the preferred replica leads",
            |p| i64::from(p.leader.is_some() && p.leader == p.replicas.first().copied()),
        ),
        ("replicas", "Number of replicas", |p| {
            i64::try_from(p.replicas.len()).unwrap_or(0)
        }),
        (
            "under_replicated_partition",
            "1 if a replica is out of sync",
            |p| i64::from(p.is_under_replicated()),
        ),
    ];
    for (name, help, value) in MEASURES {
        let name = format!("kafka_topic_partition_{name}");
        each_partition(status.partitions.iter(), |p, labels| {
            page.sample(&name, "gauge", help, labels, value(p))
        });
    }
}

/// Offsets of the partitions that are led here.
fn offsets(page: &mut Page, status: &BrokerStatus) {
    for oldest in [false, true] {
        let (name, help) = if oldest {
            (
                "kafka_topic_partition_oldest_offset",
                "First offset of the partition",
            )
        } else {
            (
                "kafka_topic_partition_current_offset",
                "Next offset of the partition",
            )
        };
        let led = status
            .partitions
            .iter()
            .filter(|p| p.leader == Some(status.id));
        each_partition(led, |p, labels| {
            if let Some(local) = p.local {
                let offset = if oldest {
                    local.log_start_offset
                } else {
                    local.high_watermark
                };
                page.sample(name, "gauge", help, labels, offset);
            }
        });
    }
}

/// The groups that are coordinated here.
fn groups(page: &mut Page, status: &BrokerStatus) {
    for lag in [false, true] {
        let (name, help) = if lag {
            (
                "kafka_consumergroup_lag",
                "Records that the group has not consumed",
            )
        } else {
            (
                "kafka_consumergroup_current_offset",
                "The group's committed offset",
            )
        };
        for group in &status.groups {
            for (partition, committed, end) in &group.offsets {
                let value = if lag {
                    end.map(|end| (end - committed).max(0))
                } else {
                    Some(*committed)
                };
                let Some(value) = value else { continue };
                let index = partition.partition.to_string();
                let labels = [
                    ("consumergroup", group.group_id.as_str()),
                    ("topic", &partition.topic),
                    ("partition", &index),
                ];
                page.sample(name, "gauge", help, &labels, value);
            }
        }
    }
    group_sums(page, status);
}

/// The same per topic, and the members.
fn group_sums(page: &mut Page, status: &BrokerStatus) {
    for lag in [false, true] {
        let (name, help) = if lag {
            (
                "kafka_consumergroup_lag_sum",
                "Records of the topic that the group has not consumed",
            )
        } else {
            (
                "kafka_consumergroup_current_offset_sum",
                "The group's committed offsets of the topic, added up",
            )
        };
        for group in &status.groups {
            let mut topics: std::collections::BTreeMap<&str, Option<i64>> =
                std::collections::BTreeMap::new();
            for (partition, committed, end) in &group.offsets {
                let value = if lag {
                    end.map(|end| (end - committed).max(0))
                } else {
                    Some(*committed)
                };
                let sum = topics.entry(&partition.topic).or_insert(Some(0));
                // A sum of which a part is unknown is not told: it would read as "less lag".
                *sum = sum.zip(value).map(|(sum, value)| sum.saturating_add(value));
            }
            for (topic, sum) in topics {
                if let Some(sum) = sum {
                    let labels = [("consumergroup", group.group_id.as_str()), ("topic", topic)];
                    page.sample(name, "gauge", help, &labels, sum);
                }
            }
        }
    }
    for group in &status.groups {
        let labels = [("consumergroup", group.group_id.as_str())];
        page.sample(
            "kafka_consumergroup_members",
            "gauge",
            "Members of the group",
            &labels,
            group.members,
        );
    }
}

fn raft(page: &mut Page, view: &CoordinatorView) {
    let leads = view.leader == Some(view.id);
    let gauges = [
        (
            "is_leader",
            "Does this member lead the coordinators?",
            u64::from(leads),
        ),
        (
            "has_leader",
            "Is a leader known?",
            u64::from(view.leader.is_some()),
        ),
        ("term", "Raft's term", view.term),
        (
            "last_log_index",
            "The last entry in the log",
            view.last_log_index,
        ),
        (
            "applied_index",
            "The last entry in the tree",
            view.applied_index,
        ),
        (
            "apply_lag",
            "Entries in the log that are not applied here",
            view.last_log_index.saturating_sub(view.applied_index),
        ),
        ("members", "Members of the ensemble", view.members as u64),
        (
            "joining",
            "Members that have come back without their data and do not count yet",
            view.joining.len() as u64,
        ),
    ];
    for (name, help, value) in gauges {
        page.sample(&format!("tripod_raft_{name}"), "gauge", help, &[], value);
    }
    page.sample(
        "tripod_coordinator_sessions",
        "gauge",
        "Sessions of the ensemble",
        &[],
        view.sessions,
    );
    syncs(page, "raft", &view.syncs);
    zookeeper(page, view);
}

/// The figures of `mntr`, as ZooKeeper's `PrometheusMetricsProvider` names them.
fn zookeeper(page: &mut Page, view: &CoordinatorView) {
    for figure in &view.figures {
        let labels: &[(&str, &str)] = match figure.quantile {
            Some(quantile) => &[("quantile", quantile)],
            None => &[],
        };
        page.describe(&figure.name, figure.kind, "ZooKeeper's figure of this name");
        page.part(
            &format!("{}{}", figure.name, figure.part),
            labels,
            figure.value,
        );
    }
}

fn syncs(page: &mut Page, what: &str, syncs: &crate::broker::status::SyncFigures) {
    let name = format!("tripod_{what}_fsync_seconds");
    page.summary(
        &name,
        "Syncs to disk",
        syncs.sum_us as f64 / 1e6,
        syncs.count,
    );
    page.sample(
        &format!("{name}_max"),
        "gauge",
        "The longest sync",
        &[],
        syncs.max_us as f64 / 1e6,
    );
}

/// Sockets and requests are served by the same workers, so that both names tell the same.
fn idle(page: &mut Page, share: f64) {
    let help =
        "Share of the last minute, 0 to 1, in which the workers of sockets and requests were idle";
    for name in [
        "kafka_network_socketserver_networkprocessoravgidle_percent",
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    ] {
        page.sample(name, "gauge", help, &[], share);
    }
}

fn process_figures(page: &mut Page, figures: &ProcessFigures) {
    page.sample(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        &[],
        figures.cpu_seconds,
    );
    page.sample(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors.",
        &[],
        figures.open_fds,
    );
    page.sample(
        "process_max_fds",
        "gauge",
        "Maximum number of open file descriptors.",
        &[],
        figures.max_fds,
    );
    page.sample(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        &[],
        figures.resident_bytes,
    );
    page.sample(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        &[],
        figures.start_seconds,
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::status::{BrokerMetrics, GroupLag, LocalReplica};
    use crate::common::ids::{BrokerId, TopicPartition};
    use crate::http::Figure;

    fn status(id: i32) -> BrokerStatus {
        let partition = |index: i32, leader: i32| PartitionStatus {
            partition: TopicPartition::new("test", index),
            leader: Some(BrokerId(leader)),
            replicas: vec![BrokerId(leader), BrokerId(9)],
            isr: vec![BrokerId(leader)],
            min_isr: 1,
            local: (leader == id).then_some(LocalReplica {
                log_start_offset: 1,
                log_end_offset: 12,
                high_watermark: 10,
                size_bytes: 999,
            }),
        };
        let metrics = BrokerMetrics::default();
        metrics.requests.observe_us(0, "Produce", 0);
        metrics.requests.observe_us(3, "Metadata", 1_000);
        let traffic = Traffic::default();
        traffic.bytes_in.add(77);
        BrokerStatus {
            id: BrokerId(id),
            metrics: Arc::new(metrics),
            topics: [("test".into(), Arc::new(traffic))].into(),
            connections: vec![("PLAINTEXT".into(), 3)],
            connected: true,
            registered: true,
            controller: Some(BrokerId(0)),
            brokers: vec![
                (BrokerId(0), "node1:9092".into()),
                (BrokerId(1), "node2:9092".into()),
            ],
            partitions: vec![partition(0, 0), partition(1, 1)],
            groups: vec![GroupLag {
                group_id: "g".into(),
                members: 2,
                offsets: vec![
                    (TopicPartition::new("test", 0), 4, Some(10)),
                    (TopicPartition::new("test", 1), 4, None),
                ],
            }],
            ..BrokerStatus::default()
        }
    }

    fn figure(
        name: &str,
        kind: &'static str,
        part: &'static str,
        quantile: Option<&'static str>,
        value: f64,
    ) -> Figure {
        Figure {
            name: name.to_owned(),
            kind,
            part,
            quantile,
            value,
        }
    }

    fn page_of(id: i32) -> String {
        let sources = Sources {
            broker: Some(Arc::new(move || status(id))),
            coordinator: Some(Arc::new(|| CoordinatorView {
                leader: Some(1),
                id: 1,
                last_log_index: 7,
                applied_index: 5,
                figures: vec![
                    figure("znode_count", "gauge", "", None, 5.0),
                    figure("readlatency", "summary", "_count", None, 7.0),
                    figure("readlatency", "summary", "", Some("0.5"), 1.5),
                ],
                ..CoordinatorView::default()
            })),
            process: Some(Arc::new(|| ProcessFigures {
                idle_share: Some(0.25),
                ..ProcessFigures::default()
            })),
            ..Sources::default()
        };
        page(&sources)
    }

    #[test]
    fn dashboards_find_their_names() {
        let text = page_of(0);
        for line in [
            "kafka_server_brokertopicmetrics_messagesin_total 0",
            "kafka_server_replicamanager_leadercount 1",
            "kafka_server_replicamanager_underreplicatedpartitions 1",
            "kafka_controller_kafkacontroller_activecontrollercount 1",
            "kafka_cluster_partition_atminisr{topic=\"test\",partition=\"0\"} 1",
            "kafka_log_log_size{topic=\"test\",partition=\"0\"} 999",
            "kafka_network_requestmetrics_totaltimems{request=\"Produce\",quantile=\"0.99\"} 0",
            "kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 1",
            "kafka_network_requestmetrics_totaltimems_sum{request=\"Metadata\"} 1",
            "kafka_server_brokertopicmetrics_bytesin_total{topic=\"test\"} 77",
            "kafka_server_brokertopicmetrics_bytesin_total 0",
            "kafka_server_brokertopicmetrics_replicationbytesin_total 0",
            "kafka_server_replicamanager_isrshrinks_total 0",
            "kafka_controller_controllerstats_uncleanleaderelections_total 0",
            "kafka_server_socket_server_metrics_connection_count{listener=\"PLAINTEXT\"} 3",
            "tripod_log_fsync_seconds_count 0",
            "kafka_brokers 2",
            "kafka_broker_info{address=\"node2:9092\",id=\"1\"} 1",
            "kafka_topic_partitions{topic=\"test\"} 2",
            "kafka_topic_partition_current_offset{topic=\"test\",partition=\"0\"} 10",
            "kafka_topic_partition_oldest_offset{topic=\"test\",partition=\"0\"} 1",
            "kafka_topic_partition_leader{topic=\"test\",partition=\"1\"} 1",
            "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"test\",partition=\"0\"} 6",
            "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"test\"} 8",
            "kafka_consumergroup_members{consumergroup=\"g\"} 2",
            "znode_count 5",
            "# TYPE znode_count gauge",
            "# TYPE readlatency summary",
            "readlatency{quantile=\"0.5\"} 1.5",
            "readlatency_count 7",
            "tripod_raft_is_leader 1",
            "tripod_raft_apply_lag 2",
            "process_open_fds 0",
            "kafka_network_socketserver_networkprocessoravgidle_percent 0.25",
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent 0.25",
            "# TYPE tripod_raft_fsync_seconds summary",
            "tripod_raft_fsync_seconds_sum 0",
            "kafka_log_logmanager_offlinelogdirectorycount 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(!text.contains("kafka_consumergroup_lag_sum{"));
    }

    #[test]
    fn what_is_the_clusters_comes_from_the_controller_alone() {
        let text = page_of(1);
        assert!(!text.contains("kafka_brokers"));
        assert!(!text.contains("kafka_topic_partition_leader"));
        assert!(
            text.contains(
                "kafka_topic_partition_current_offset{topic=\"test\",partition=\"1\"} 10"
            )
        );
        assert!(
            !text.contains("kafka_topic_partition_current_offset{topic=\"test\",partition=\"0\"}")
        );
    }

    #[test]
    fn the_samples_of_a_name_stand_together() {
        let text = page_of(0);
        let mut closed = std::collections::BTreeSet::new();
        let mut open = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            let parts = ["_sum", "_count"].map(|part| name.strip_suffix(part));
            let summary = parts.into_iter().flatten().find(|base| {
                let kind = format!("# TYPE {base} summary");
                text.lines().any(|line| line == kind)
            });
            let family = summary.unwrap_or(name);
            if family != open {
                assert!(closed.insert(family.to_owned()), "{family} comes twice");
                open = family.to_owned();
            }
        }
    }
}
