//! `auto.leader.rebalance.enable`: leaderships go back to the preferred replicas by and by. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::controller::decide::{Unit, leader, reassign, set_state};
use crate::broker::image::Image;
use crate::common::ids::BrokerId;

/// Elects the preferred replicas of every broker that lacks more than `percentage` of the leaderships that
/// are meant for it. Nothing happens while replicas are being moved, as in Kafka.
pub fn leaders(image: &Image, known: &BTreeSet<BrokerId>, percentage: i32) -> Vec<Unit> {
    let topics = image.topics.values();
    let topics = topics.filter(|topic| !image.deleting.contains(&topic.name));
    let mut brokers: BTreeMap<BrokerId, (usize, Vec<_>)> = BTreeMap::new();
    for topic in topics {
        for (index, partition) in &topic.partitions {
            if reassign::is_moving(partition) {
                return Vec::new();
            }
            let Some(first) = partition.replicas.first() else {
                continue;
            };
            let (total, missing) = brokers.entry(*first).or_default();
            *total += 1;
            let state = partition.state.as_ref();
            if let Some(state) = state.filter(|state| state.leader != Some(*first)) {
                missing.push((topic, *index, partition, state));
            }
        }
    }
    let limit = f64::from(percentage) / 100.0;
    let mut units = Vec::new();
    for (total, missing) in brokers.into_values() {
        // Counts of partitions are far below what a double holds exactly.
        let ratio = missing.len() as f64 / total as f64;
        if ratio <= limit {
            continue;
        }
        for (topic, index, partition, before) in missing {
            if let Ok(next) = leader::preferred(image, known, partition) {
                units.push(Unit(vec![set_state(&topic.name, index, before, &next)]));
            }
        }
    }
    units
}
