//! `/livez` and `/readyz`: is the process alive, and what does this node still wait for?
//!
//! Pure. Liveness never asks for a quorum: restarting a node does not bring its peers back.

use serde_json::{Value, json};

use crate::broker::status::BrokerStatus;
use crate::http::{CoordinatorView, Sources};

/// How many waiting partitions are named.
const NAMED_MAX: usize = 5;

/// What stands between this node and being ready; empty when it is.
pub fn waits_for(sources: &Sources) -> Vec<String> {
    let mut waits = Vec::new();
    if let Some(coordinator) = &sources.coordinator {
        coordinator_waits(&coordinator(), &mut waits);
    }
    if let Some(broker) = &sources.broker {
        broker_waits(&broker(), &mut waits);
    }
    waits
}

fn coordinator_waits(view: &CoordinatorView, waits: &mut Vec<String>) {
    if view.leader.is_none() {
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
        let mut names: Vec<String> = status
            .pending
            .iter()
            .take(NAMED_MAX)
            .map(ToString::to_string)
            .collect();
        if status.pending.len() > NAMED_MAX {
            names.push("…".to_owned());
        }
        waits.push(format!(
            "{} replicas are neither led nor followed: {}",
            status.pending.len(),
            names.join(", ")
        ));
    }
}

/// The answer as JSON.
pub fn ready_json(waits: &[String]) -> Value {
    json!({"ready": waits.is_empty(), "waits_for": waits})
}

/// The answer as text, one line.
pub fn ready_text(waits: &[String]) -> String {
    if waits.is_empty() {
        "ready\n".to_owned()
    } else {
        format!("not ready: {}\n", waits.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::common::ids::{BrokerId, TopicPartition};

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
            waits_for(&sources(Some(view.clone()), Some(status.clone()))),
            [
                "the coordinator sees no leader: a quorum is 2 of 3 members",
                "the broker has no ZooKeeper session",
            ]
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
        assert!(waits_for(&sources(Some(view), Some(status.clone()))).is_empty());
        status.pending = (0..7).map(|p| TopicPartition::new("t", p)).collect();
        let waits = waits_for(&sources(None, Some(status)));
        assert_eq!(
            ready_text(&waits),
            "not ready: 7 replicas are neither led nor followed: t-0, t-1, t-2, t-3, t-4, …\n"
        );
        assert!(waits_for(&Sources::default()).is_empty());
    }
}
