//! A partition has one leader per epoch at most: by every member's znodes, and by what every broker believes.

use std::collections::BTreeMap;

/// Who was seen to lead.
#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<(i32, i64), i64>);

impl Leaders {
    /// A broker leads a partition.
    pub fn leads(&mut self, partition: i32, epoch: i64, broker: i64) {
        let known = *self.0.entry((partition, epoch)).or_insert(broker);
        assert_eq!(
            known, broker,
            "two brokers lead partition {partition} in epoch {epoch}"
        );
    }

    /// How many leaderships there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[test]
#[should_panic(expected = "lead partition 0 in epoch 4")]
fn a_second_leader_is_noticed() {
    let mut leaders = Leaders::default();
    leaders.leads(0, 3, 1);
    leaders.leads(1, 4, 1);
    leaders.leads(0, 4, 1);
    leaders.leads(0, 4, 2);
}
