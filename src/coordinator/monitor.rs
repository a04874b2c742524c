//! `mntr`: figures by name, in the names and the order of ZooKeeper 3.6.2.
//!
//! The order is that of its hash tables, so it is kept as lists. Every gauge is there. Of the counters
//! and summaries behind them those are left out whose thing does not exist here: the stages of its
//! request pipeline (`prep_`, `sync_`, `commit_proc`, `session_queue`, `outstanding_changes`, `stale_`
//! requests, throttling), its way to bring followers up to date (`snap_count`, `diff_count`, `learner_`,
//! `inflight_`, `quorum_ack_`, `propagation_`: `/metrics` shows raft's lag), response caches, Netty,
//! TLS, SASL between members, dead watchers, revalidations between members, JVM pauses, writes by namespace,
//! and what was loaded at start beyond its time. A zero for them would say that they are measured.

use crate::coordinator::status::{BUILT_ON, Latency, Mode, Spread, Status, VERSION};

/// A leader's gauges.
const LEADER_GAUGES: [&str; 31] = [
    "ephemerals_count",
    "num_alive_connections",
    "avg_latency",
    "min_proposal_size",
    "outstanding_requests",
    "znode_count",
    "global_sessions",
    "last_client_response_size",
    "packets_sent",
    "packets_received",
    "max_proposal_size",
    "max_client_response_size",
    "synced_followers",
    "connection_drop_probability",
    "watch_count",
    "synced_non_voting_followers",
    "synced_observers",
    "min_latency",
    "max_file_descriptor_count",
    "approximate_data_size",
    "open_file_descriptor_count",
    "last_proposal_size",
    "pending_syncs",
    "leader_uptime",
    "local_sessions",
    "uptime",
    "max_latency",
    "outstanding_tls_handshake",
    "learners",
    "min_client_response_size",
    "quorum_size",
];

/// The gauges of a follower; those of a standalone server are the same without the last.
const OTHER_GAUGES: [&str; 22] = [
    "ephemerals_count",
    "min_latency",
    "avg_latency",
    "num_alive_connections",
    "max_file_descriptor_count",
    "outstanding_requests",
    "approximate_data_size",
    "znode_count",
    "open_file_descriptor_count",
    "global_sessions",
    "local_sessions",
    "uptime",
    "last_client_response_size",
    "max_latency",
    "packets_sent",
    "outstanding_tls_handshake",
    "packets_received",
    "max_client_response_size",
    "connection_drop_probability",
    "watch_count",
    "min_client_response_size",
    "quorum_size",
];

/// The rows of `mntr` without their `zk_`; the HTTP command `monitor` shows the same.
pub fn rows(status: &Status) -> Vec<(String, String)> {
    let peer_state = match status.mode {
        Mode::Standalone | Mode::ReadOnly => None,
        Mode::Leader => Some("leading - broadcast"),
        Mode::Follower => Some("following - broadcast"),
        Mode::Looking => Some("looking"),
    };
    let mut rows = vec![
        (
            "version".to_owned(),
            format!("{VERSION}, built on {BUILT_ON}"),
        ),
        ("server_state".to_owned(), status.mode.text().to_owned()),
    ];
    rows.extend(peer_state.map(|state| ("peer_state".to_owned(), state.to_owned())));
    let gauges: &[&str] = match status.mode {
        Mode::Leader => &LEADER_GAUGES,
        Mode::Standalone | Mode::ReadOnly => &OTHER_GAUGES[..OTHER_GAUGES.len() - 1],
        Mode::Follower | Mode::Looking => &OTHER_GAUGES,
    };
    let gauges = gauges
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), gauge(status, name)?)));
    rows.extend(gauges);
    let counts = &status.events;
    rows.extend(
        [
            ("connection_rejected", counts.rejected),
            ("sessionless_connections_expired", counts.speechless),
            ("looking_count", counts.looking),
            ("connection_drop_count", counts.dropped),
            ("bytes_received_count", counts.bytes_received),
            ("connection_request_count", counts.handshakes),
            ("connection_revalidate_count", counts.revalidated),
            ("stale_sessions_expired", counts.expired),
        ]
        .map(|(name, count)| (name.to_owned(), count.to_string())),
    );
    let [created, deleted, changed, children] = &status.fired;
    plain_summary(&mut rows, "node_created_watch_count", created);
    plain_summary(&mut rows, "node_deleted_watch_count", deleted);
    summary(&mut rows, "fsynctime", &status.syncs, false);
    plain_summary(&mut rows, "snapshottime", &status.snapshots);
    plain_summary(&mut rows, "dbinittime", &status.loading);
    plain_summary(&mut rows, "election_time", &status.elections);
    plain_summary(&mut rows, "node_children_watch_count", children);
    plain_summary(&mut rows, "node_changed_watch_count", changed);
    summary(&mut rows, "updatelatency", &status.updates, true);
    summary(&mut rows, "readlatency", &status.reads, true);
    rows
}

/// One gauge; none if the system does not tell it.
fn gauge(status: &Status, name: &str) -> Option<String> {
    let [response_last, response_min, response_max] = status.response_bytes;
    let [proposal_last, proposal_min, proposal_max] = status.proposal_bytes;
    let latency = &status.latency;
    let counts = &status.counts;
    Some(match name {
        "avg_latency" => latency.avg_text(),
        "min_latency" => latency.min_ms.to_string(),
        "max_latency" => latency.max_ms.to_string(),
        "connection_drop_probability" => "0.0".to_owned(),
        "ephemerals_count" => counts.ephemerals.to_string(),
        "znode_count" => counts.nodes.to_string(),
        "global_sessions" => counts.sessions.to_string(),
        "watch_count" => counts.watches.to_string(),
        "approximate_data_size" => counts.data_bytes.to_string(),
        "num_alive_connections" => status.connections.to_string(),
        "outstanding_requests" => status.outstanding.to_string(),
        "packets_received" => status.packets_received.to_string(),
        "packets_sent" => status.packets_sent.to_string(),
        "uptime" => status.uptime_ms.to_string(),
        "leader_uptime" => status.leading_ms.unwrap_or(0).to_string(),
        "last_client_response_size" => response_last.to_string(),
        "min_client_response_size" => response_min.to_string(),
        "max_client_response_size" => response_max.to_string(),
        "last_proposal_size" => proposal_last.to_string(),
        "min_proposal_size" => proposal_min.to_string(),
        "max_proposal_size" => proposal_max.to_string(),
        "open_file_descriptor_count" => status.open_files?.to_string(),
        "max_file_descriptor_count" => status.max_files?.to_string(),
        "quorum_size" => status.members.to_string(),
        "learners" => status.learners.to_string(),
        "synced_followers" => status.synced_followers.to_string(),
        "pending_syncs" => status.pending_syncs.to_string(),
        // Neither local sessions nor observers nor TLS: there really are none.
        _ => "0".to_owned(),
    })
}

fn plain_summary(rows: &mut Vec<(String, String)>, name: &str, numbers: &Latency) {
    for (what, value) in [
        ("avg", numbers.avg_text()),
        ("min", numbers.min_ms.to_string()),
        ("max", numbers.max_ms.to_string()),
        ("cnt", numbers.count.to_string()),
        ("sum", numbers.sum_ms.to_string()),
    ] {
        rows.push((format!("{what}_{name}"), value));
    }
}

/// Those that only rise.
const COUNTERS: [&str; 8] = [
    "connection_rejected",
    "sessionless_connections_expired",
    "looking_count",
    "connection_drop_count",
    "bytes_received_count",
    "connection_request_count",
    "connection_revalidate_count",
    "stale_sessions_expired",
];

/// One sample for Prometheus.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// ZooKeeper's name.
    pub name: String,
    /// `gauge`, `counter` or `summary`.
    pub kind: &'static str,
    /// Which part of a summary, behind its name.
    pub part: &'static str,
    /// Which quantile of a summary.
    pub quantile: Option<&'static str>,
    /// The value.
    pub value: f64,
}

/// The same as [`rows`], as ZooKeeper's Prometheus provider has them: a summary is its count, its sum and
/// its quantiles.
pub fn figures(status: &Status) -> Vec<Figure> {
    let rows = rows(status);
    let is_summary = |name: &str| rows.iter().any(|(key, _)| *key == format!("cnt_{name}"));
    let figure = |(key, value): &(String, String)| {
        let value = value.parse::<f64>().ok()?;
        let (what, name) = key.split_once('_').unwrap_or_default();
        if !is_summary(name) {
            let is_counter = COUNTERS.contains(&key.as_str());
            return Some(Figure {
                name: key.clone(),
                kind: if is_counter { "counter" } else { "gauge" },
                part: "",
                quantile: None,
                value,
            });
        }
        let (part, quantile) = match what {
            "cnt" => ("_count", None),
            "sum" => ("_sum", None),
            "p50" => ("", Some("0.5")),
            "p99" => ("", Some("0.99")),
            _ => return None,
        };
        Some(Figure {
            name: name.to_owned(),
            kind: "summary",
            part,
            quantile,
            value,
        })
    };
    rows.iter().filter_map(figure).collect()
}

fn summary(rows: &mut Vec<(String, String)>, name: &str, spread: &Spread, has_quantiles: bool) {
    let mut row = |what: &str, value: String| rows.push((format!("{what}_{name}"), value));
    row("avg", spread.avg_text());
    row("min", spread.min_ms.to_string());
    row("max", spread.max_ms.to_string());
    row("cnt", spread.count.to_string());
    row("sum", spread.sum_ms.to_string());
    if has_quantiles {
        for (what, value) in ["p50", "p95", "p99", "p999"]
            .iter()
            .zip(spread.quantiles_ms)
        {
            row(what, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::metrics::Histogram;

    #[test]
    fn durations_are_spread_as_summaries() {
        let histogram = Histogram::default();
        for ms in [0, 2, 2, 7] {
            histogram.observe_us(ms * 1000);
        }
        let mut rows = Vec::new();
        summary(&mut rows, "readlatency", &Spread::of(&histogram), true);
        let text: Vec<String> = rows.iter().map(|(k, v)| format!("{k} {v}")).collect();
        assert_eq!(
            text,
            [
                "avg_readlatency 2.75",
                "min_readlatency 0",
                "max_readlatency 7",
                "cnt_readlatency 4",
                "sum_readlatency 11",
                "p50_readlatency 2",
                "p95_readlatency 7",
                "p99_readlatency 7",
                "p999_readlatency 7"
            ]
        );
        rows.clear();
        histogram.reset();
        summary(&mut rows, "fsynctime", &Spread::of(&histogram), false);
        assert_eq!(rows[0], ("avg_fsynctime".to_owned(), "0.0".to_owned()));
        assert_eq!(
            rows[1..].iter().filter(|(_, value)| value == "0").count(),
            4
        );
    }
}
