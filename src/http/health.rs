//! `/livez` and `/readyz`: is the process alive, and what does this node still wait for?
//!
//! Pure. Liveness never asks for a quorum: restarting a node does not bring its peers back.

use serde_json::{Value, json};

use crate::broker::status::BrokerStatus;
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
        coordinator_waits(&coordinator(), &mut readiness.waits_for);
    }
    if let Some(broker) = &sources.broker {
        let status = broker();
        broker_waits(&status, &mut readiness.waits_for);
        // Keeping all other partitions from their clients would not bring these back.
        if !status.offline.is_empty() {
            let offline: Vec<_> = status.offline.iter().map(|(id, _)| id.clone()).collect();
            let (count, names) = (offline.len(), named(&offline));
            let warning = format!("{count} partitions are offline here: {names}");
            readiness.warnings.push(warning);
        }
        for (id, what) in status.lost.iter().take(NAMED_MAX) {
            let warning = format!("records of {id} are gone: {what}");
            readiness.warnings.push(warning);
        }
        if let Some(more) = status.lost.len().checked_sub(NAMED_MAX + 1) {
            let warning = format!("records of {} more partitions are gone", more + 1);
            readiness.warnings.push(warning);
        }
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
    if !status.connected {
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
        let mut status = BrokerStatus {
            connected: true,
            registered: true,
            controller: Some(BrokerId(1)),
            ..status
        };
        let ready = readiness(&sources(Some(view), Some(status.clone())));
        assert_eq!(ready, Readiness::default());
        status.pending = (0..7).map(|p| TopicPartition::new("t", p)).collect();
        assert_eq!(
            ready_text(&readiness(&sources(None, Some(status)))),
            "not ready: 7 replicas are neither led nor followed: t-0, t-1, t-2, t-3, t-4, …\n"
        );
        assert_eq!(readiness(&Sources::default()), Readiness::default());
    }

    #[test]
    fn a_full_directory_is_waited_for_and_an_offline_partition_is_told() {
        let mut status = BrokerStatus {
            connected: true,
            registered: true,
            controller: Some(BrokerId(1)),
            offline: vec![(TopicPartition::new("t", 3), "damaged".to_owned())],
            log_dirs: vec![("/a".to_owned(), None), ("/b".to_owned(), None)],
            ..BrokerStatus::default()
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
