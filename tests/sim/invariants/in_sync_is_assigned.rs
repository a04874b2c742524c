//! The in-sync replicas of a partition are some of its assigned ones, and never none.

use serde_json::Value;

/// A partition's state and its assignment, as one member has them at one moment.
pub fn check(partition: i32, isr: &Value, replicas: &Value) {
    let (Some(in_sync), Some(assigned)) = (isr.as_array(), replicas.as_array()) else {
        panic!("partition {partition}: {isr} of {replicas}");
    };
    assert!(
        !in_sync.is_empty() && in_sync.iter().all(|id| assigned.contains(id)),
        "partition {partition}: {isr} are in sync, of {replicas}"
    );
}

#[test]
#[should_panic(expected = "are in sync")]
fn a_stranger_is_noticed() {
    let replicas = serde_json::json!([0, 1, 2]);
    check(0, &serde_json::json!([2, 0]), &replicas);
    check(0, &serde_json::json!([2, 3]), &replicas);
}
