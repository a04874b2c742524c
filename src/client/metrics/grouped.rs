//! What a consumer counts of its membership in a group.

use super::{Measured, Of, Rows};

const GROUP: &str = "consumer-coordinator-metrics";

/// What a consumer counts of its membership in a group. Times are milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Grouped {
    /// Answers to JoinGroup that let this member in.
    pub joins: Measured,
    /// Answers to SyncGroup that brought an assignment.
    pub syncs: Measured,
    /// Answered heartbeats.
    pub heartbeats: Measured,
    /// When the last heartbeat was sent.
    pub heartbeat_at_ms: Option<i64>,
    /// Answered commits.
    pub commits: Measured,
    /// From the first JoinGroup to the assignment.
    pub rebalances: Measured,
    /// When the last of them was over.
    pub rebalanced_at_ms: Option<i64>,
    /// JoinGroup and SyncGroup that did not lead to an assignment, a first one without a member id too.
    pub failed: u64,
    /// Taking over partitions.
    pub assigned: Measured,
    /// Letting go of partitions.
    pub revoked: Measured,
}

impl Grouped {
    /// As rows, at that time and with so many partitions.
    pub fn rows(&self, rows: &mut Rows, now_ms: i64, partitions: usize) {
        let of = Of::Client;
        rows.value(GROUP, "assigned-partitions", of, partitions as f64);
        let requests = [
            (
                ["join-rate", "join-total"],
                ["join-time-avg", "join-time-max"],
                &self.joins,
            ),
            (
                ["sync-rate", "sync-total"],
                ["sync-time-avg", "sync-time-max"],
                &self.syncs,
            ),
            (
                ["commit-rate", "commit-total"],
                ["commit-latency-avg", "commit-latency-max"],
                &self.commits,
            ),
        ];
        for (totals, times, measured) in requests {
            rows.total(GROUP, totals, of, measured.count());
            rows.measured(GROUP, times, of, measured);
        }
        let heartbeats = ["heartbeat-rate", "heartbeat-total"];
        rows.total(GROUP, heartbeats, of, self.heartbeats.count());
        let max = self.heartbeats.max();
        rows.value(GROUP, "heartbeat-response-time-max", of, max);
        let latency = ["rebalance-latency-avg", "rebalance-latency-max"];
        rows.measured(GROUP, latency, of, &self.rebalances);
        let sum = self.rebalances.sum();
        rows.value(GROUP, "rebalance-latency-total", of, sum);
        let rebalances = ["rebalance-rate-per-hour", "rebalance-total"];
        rows.total_per_hour(GROUP, rebalances, self.rebalances.count());
        let failed = ["failed-rebalance-rate-per-hour", "failed-rebalance-total"];
        rows.total_per_hour(GROUP, failed, self.failed as f64);
        let ago = [
            ("last-heartbeat-seconds-ago", self.heartbeat_at_ms),
            ("last-rebalance-seconds-ago", self.rebalanced_at_ms),
        ];
        for (name, at_ms) in ago {
            let seconds = at_ms.map_or(-1, |at| (now_ms - at) / 1_000);
            rows.value(GROUP, name, of, seconds as f64);
        }
        let changes = [
            (
                [
                    "partition-assigned-latency-avg",
                    "partition-assigned-latency-max",
                ],
                self.assigned,
            ),
            (
                [
                    "partition-revoked-latency-avg",
                    "partition-revoked-latency-max",
                ],
                self.revoked,
            ),
            // Nobody is told of partitions that are lost.
            (
                ["partition-lost-latency-avg", "partition-lost-latency-max"],
                Measured::default(),
            ),
        ];
        for (names, measured) in changes {
            rows.measured(GROUP, names, of, &measured);
        }
    }
}
