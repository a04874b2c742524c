//! Q5: while a broker leads, what it has shown to consumers stays shown; and it shows nothing that is not there.

use std::collections::BTreeMap;

/// The last high watermarks of leaders, by node and partition, with the epoch.
#[derive(Debug, Default)]
pub struct Watermarks(BTreeMap<(usize, i32), (i64, i64)>);

impl Watermarks {
    /// A leader's high watermark and the end of its log.
    pub fn saw(&mut self, node: usize, partition: i32, epoch: i64, high: i64, end: i64) {
        assert!(
            high <= end,
            "partition {partition}: the high watermark {high} is beyond the end {end}"
        );
        let before = self.0.insert((node, partition), (epoch, high));
        assert!(
            before.is_none_or(|(of, before)| of != epoch || before <= high),
            "partition {partition}: the high watermark fell from {before:?} to {high}"
        );
    }

    /// A node's process ended.
    pub fn ended(&mut self, node: usize) {
        self.0.retain(|(of, _), _| *of != node);
    }
}

#[test]
#[should_panic(expected = "fell from")]
fn a_fall_is_noticed() {
    let mut watermarks = Watermarks::default();
    watermarks.saw(0, 0, 1, 9, 9);
    // A new epoch learns its own; another node has its own.
    watermarks.saw(0, 0, 2, 8, 9);
    watermarks.saw(1, 0, 2, 7, 9);
    watermarks.saw(0, 0, 2, 7, 9);
}
