//! `/livez` and `/readyz`: is the process alive, and what does this node still wait for?
//!
//! Pure. Liveness never asks for a quorum: restarting a node does not bring its peers back.

use serde_json::{Value, json};

use crate::broker::status::{BrokerStatus, PartitionStatus};
use crate::common::ids::TopicPartition;
use crate::http::{CoordinatorView, Sources};

/// How many waiting partitions are named.
const NAMED_MAX: usize = 5;

/// Is this node of use?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What stands between it and being ready; empty when it is.
    pub waits_for: Vec<String>,
    /// What is wrong here although the node is of use.
    pub warnings: Vec<String>,
}

/// Looks at both halves.
pub fn readiness(sources: &Sources) -> Readiness {
    let mut readiness = Readiness::default();
    if let Some(coordinator) = &sources.coordinator {
        let view = coordinator();
        coordinator_waits(&view, &mut readiness.waits_for);
        let others = view.joining.iter().filter(|member| **member != view.id);
        readiness.warnings.extend(others.map(|member| {
            format!("coordinator {member} has come back without its data, and does not count yet")
        }));
    }
    if let Some(broker) = &sources.broker {
        let status = broker();
        broker_waits(&status, &mut readiness.waits_for);
        broker_warnings(&status, &mut readiness.warnings);
    }
    readiness
}

fn coordinator_waits(view: &CoordinatorView, waits: &mut Vec<String>) {
    if let Some(missing) = view.waits_for.as_ref().filter(|_| !view.serving) {
        waits.push(format!("the coordinator does not serve: {missing}"));
    } else if view.leader.is_none() {
        waits.push(format!(
            "the coordinator sees no leader: a quorum is {} of {} members",
            view.members / 2 + 1,
            view.members.max(1)
        ));
    } else if !view.serving {
        waits.push("the coordinator does not serve clients yet".to_owned());
    }
}

fn broker_waits(status: &BrokerStatus, waits: &mut Vec<String>) {
    if let Some((loaded, total)) = status.loading {
        waits.push(match loaded < total {
            true => format!("loading logs: {loaded} of {total}"),
            false => "the broker has loaded its logs and joins the cluster".to_owned(),
        });
    } else if !status.connected {
        waits.push("the broker has no ZooKeeper session".to_owned());
    } else if !status.registered {
        waits.push(format!(
            "broker {} is not registered under /brokers/ids",
            status.id
        ));
    } else if status.controller.is_none() {
        waits.push("there is no controller".to_owned());
    }
    if !status.pending.is_empty() {
        waits.push(format!(
            "{} replicas are neither led nor followed: {}",
            status.pending.len(),
            named(&status.pending)
        ));
    }
    for (dir, reason) in &status.log_dirs {
        if let Some(reason) = reason {
            waits.push(format!("the log directory {dir} is offline: {reason}"));
        }
    }
}

/// Keeping all other partitions from their clients would not mend any of this.
fn broker_warnings(status: &BrokerStatus, warnings: &mut Vec<String>) {
    let mut warn = |what: &str, partitions: Vec<TopicPartition>| {
        if !partitions.is_empty() {
            let (count, names) = (partitions.len(), named(&partitions));
            warnings.push(format!("{count} partitions {what}: {names}"));
        }
    };
    let offline = status.offline.iter().map(|(id, _)| id.clone());
    warn("are offline here", offline.collect());
    let here = status.partitions.iter();
    let here = here.filter(|one| one.replicas.contains(&status.id));
    let (led_by, unled): (Vec<_>, Vec<_>) = here.partition(|one| one.leader.is_some());
    let there = |id| status.brokers.iter().any(|(broker, _)| *broker == id);
    let astray = led_by.iter().filter(|one| !one.leader.is_some_and(there));
    let name = |one: &&PartitionStatus| one.partition.clone();
    warn(
        "with a replica here have no leader",
        unled.iter().map(name).collect(),
    );
    warn(
        "with a replica here are led by a broker that is not there",
        astray.map(name).collect(),
    );
    let led = |is: fn(&PartitionStatus) -> bool| {
        let those = status.led().filter(|one| is(one));
        those.map(|one| one.partition.clone()).collect()
    };
    let under_replicated = led(PartitionStatus::is_under_replicated);
    warn("led here are under-replicated", under_replicated);
    let under_min_isr = led(PartitionStatus::is_under_min_isr);
    warn(
        "led here refuse acks=all, below min.insync.replicas",
        under_min_isr,
    );
    for (id, what) in status.lost.iter().take(NAMED_MAX) {
        warnings.push(format!("records of {id} are gone: {what}"));
    }
    for (id, start) in status.ignored_starts.iter().take(NAMED_MAX) {
        warnings.push(format!(
            "the checkpoint's log start offset {start} of {id} lay beyond its log and was ignored: records \
             that were deleted may be back"
        ));
    }
    let more = status.lost.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        warnings.push(format!("records of {more} more partitions are gone"));
    }
}

fn named(partitions: &[TopicPartition]) -> String {
    let shown = partitions.iter().take(NAMED_MAX);
    let mut names: Vec<String> = shown.map(ToString::to_string).collect();
    if partitions.len() > NAMED_MAX {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// The answer as JSON.
pub fn ready_json(readiness: &Readiness) -> Value {
    let Readiness {
        waits_for,
        warnings,
    } = readiness;
    json!({"ready": waits_for.is_empty(), "waits_for": waits_for, "warnings": warnings})
}

/// The answer as text: what is waited for in the first line, then one line for each warning.
pub fn ready_text(readiness: &Readiness) -> String {
    let mut text = if readiness.waits_for.is_empty() {
        "ready\n".to_owned()
    } else {
        format!("not ready: {}\n", readiness.waits_for.join("; "))
    };
    for warning in &readiness.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::common::ids::BrokerId;

    fn sources(view: Option<CoordinatorView>, status: Option<BrokerStatus>) -> Sources {
        let mut sources = Sources::default();
        if let Some(view) = view {
            sources.coordinator = Some(Arc::new(move || view.clone()));
        }
        if let Some(status) = status {
            sources.broker = Some(Arc::new(move || status.clone()));
        }
        sources
    }

    #[test]
    fn a_node_says_what_it_waits_for() {
        let view = CoordinatorView {
            members: 3,
            ..CoordinatorView::default()
        };
        let status = BrokerStatus::default();
        assert_eq!(
            readiness(&sources(Some(view.clone()), Some(status.clone()))).waits_for,
            [
                "the coordinator sees no leader: a quorum is 2 of 3 members",
                "the broker has no ZooKeeper session",
            ]
        );
        let named = CoordinatorView {
            waits_for: Some("a quorum is 2 of 3 members; missing: member 3".to_owned()),
            ..view.clone()
        };
        assert_eq!(
            readiness(&sources(Some(named), None)).waits_for,
            ["the coordinator does not serve: a quorum is 2 of 3 members; missing: member 3"]
        );
        let view = CoordinatorView {
            leader: Some(2),
            serving: true,
            ..view
        };
        let mut status = serving();
        let ready = readiness(&sources(Some(view.clone()), Some(status.clone())));
        assert_eq!(ready, Readiness::default());
        let joining = CoordinatorView {
            joining: vec![3],
            ..view
        };
        let ready = readiness(&sources(Some(joining), None));
        assert_eq!(ready.waits_for, [""; 0]);
        assert_eq!(
            ready.warnings,
            ["coordinator 3 has come back without its data, and does not count yet"]
        );
        status.pending = (0..7).map(|p| TopicPartition::new("t", p)).collect();
        assert_eq!(
            ready_text(&readiness(&sources(None, Some(status)))),
            "not ready: 7 replicas are neither led nor followed: t-0, t-1, t-2, t-3, t-4, …\n"
        );
        assert_eq!(readiness(&Sources::default()), Readiness::default());

        let loading = |loading| {
            let status = BrokerStatus {
                loading,
                ..BrokerStatus::default()
            };
            readiness(&sources(None, Some(status))).waits_for
        };
        assert_eq!(loading(Some((3, 10))), ["loading logs: 3 of 10"]);
        assert_eq!(
            loading(Some((10, 10))),
            ["the broker has loaded its logs and joins the cluster"]
        );
    }

    fn serving() -> BrokerStatus {
        BrokerStatus {
            id: BrokerId(1),
            connected: true,
            registered: true,
            controller: Some(BrokerId(1)),
            brokers: [1, 2].map(|id| (BrokerId(id), String::new())).into(),
            ..BrokerStatus::default()
        }
    }

    #[test]
    fn what_replication_lacks_is_a_warning_of_the_leader_and_no_reason_to_be_unready() {
        let partition = |index, leader, isr: &[i32]| {
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
            PartitionStatus {
                partition: TopicPartition::new("t", index),
                leader: (leader >= 0).then_some(BrokerId(leader)),
                replicas: ids(&[1, 2, 3]),
                isr: ids(isr),
                min_isr: 2,
                local: None,
            }
        };
        let mut status = serving();
        let told =
            |status: &BrokerStatus| ready_text(&readiness(&sources(None, Some(status.clone()))));
        status.partitions = vec![
            partition(0, 1, &[1, 2, 3]),
            // Another broker's to tell.
            partition(1, 2, &[2]),
        ];
        assert_eq!(told(&status), "ready\n");
        status.partitions.push(partition(2, 1, &[3, 1]));
        assert_eq!(
            told(&status),
            "ready\nwarning: 1 partitions led here are under-replicated: t-2\n"
        );
        status.partitions.push(partition(3, 1, &[1]));
        assert_eq!(
            told(&status),
            "ready\nwarning: 2 partitions led here are under-replicated: t-2, t-3\n\
             warning: 1 partitions led here refuse acks=all, below min.insync.replicas: t-3\n"
        );
        let elsewhere = PartitionStatus {
            replicas: vec![BrokerId(2)],
            ..partition(6, -1, &[2])
        };
        status.partitions = vec![partition(4, -1, &[3]), partition(5, 3, &[3]), elsewhere];
        assert_eq!(
            told(&status),
            "ready\nwarning: 1 partitions with a replica here have no leader: t-4\n\
             warning: 1 partitions with a replica here are led by a broker that is not there: t-5\n"
        );
    }

    #[test]
    fn lost_records_are_told_of_some_partitions_and_counted_of_the_rest() {
        let lost = |count: i32| {
            let mut status = serving();
            let of = |index| (TopicPartition::new("t", index), "7 offsets".to_owned());
            status.lost = (0..count).map(of).collect();
            readiness(&sources(None, Some(status)))
        };
        assert_eq!(lost(1).warnings, ["records of t-0 are gone: 7 offsets"]);
        assert_eq!(lost(5).warnings.len(), 5);
        let warnings = lost(7).warnings;
        assert_eq!(warnings[4], "records of t-4 are gone: 7 offsets");
        assert_eq!(warnings[5..], ["records of 2 more partitions are gone"]);
        assert_eq!(lost(7).waits_for, [""; 0]);
    }

    #[test]
    fn a_full_directory_is_waited_for_and_an_offline_partition_is_told() {
        let mut status = BrokerStatus {
            offline: vec![(TopicPartition::new("t", 3), "damaged".to_owned())],
            log_dirs: vec![("/a".to_owned(), None), ("/b".to_owned(), None)],
            ..serving()
        };
        let found = readiness(&sources(None, Some(status.clone())));
        assert_eq!(
            ready_text(&found),
            "ready\nwarning: 1 partitions are offline here: t-3\n"
        );
        assert_eq!(
            ready_json(&found)["warnings"][0],
            "1 partitions are offline here: t-3"
        );
        status.log_dirs[1].1 = Some("appending: no space left".to_owned());
        assert_eq!(
            ready_text(&readiness(&sources(None, Some(status)))),
            "not ready: the log directory /b is offline: appending: no space left\n\
             warning: 1 partitions are offline here: t-3\n"
        );
    }
}
