//! Which broker holds which partition of a new topic: Kafka's `AdminUtils.assignReplicasToBrokers`
//! for brokers without racks. Pure: the two random numbers come in.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::common::ids::BrokerId;

/// Spreads the partitions `range` over `brokers` (ordered, without duplicates), `factor` replicas each.
///
/// Leaders go around from `start`; followers are shifted by `shift`, and by one more after each
/// round, so that the load of a dead leader is shared by all others. An impossible factor is the
/// caller's to refuse; here it is cut to the number of brokers.
pub fn assign(
    brokers: &[BrokerId],
    range: Range<i32>,
    factor: usize,
    start: usize,
    shift: usize,
) -> BTreeMap<i32, Vec<BrokerId>> {
    let count = brokers.len();
    let mut assignment = BTreeMap::new();
    if count == 0 {
        return assignment;
    }
    let mut shift = shift % count;
    for partition in range {
        let index = usize::try_from(partition).unwrap_or(0);
        if index > 0 && index % count == 0 {
            shift += 1;
        }
        let first = (index + start) % count;
        let followers = (1..factor.min(count)).map(|nth| {
            let gap = 1 + (shift + nth - 1) % (count - 1);
            brokers[(first + gap) % count]
        });
        let replicas = std::iter::once(brokers[first]).chain(followers).collect();
        assignment.insert(partition, replicas);
    }
    assignment
}

/// Where [`assign`] starts when a topic grows: at the leader of its partition 0, so that the old
/// round is continued (`AdminZkClient.createNewPartitionsAssignment`).
pub fn growth_start(brokers: &[BrokerId], partition_0: &[BrokerId]) -> usize {
    let first = partition_0.first();
    brokers
        .iter()
        .position(|id| first.is_some_and(|first| id >= first))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId).collect()
    }

    #[test]
    fn the_example_of_kafkas_own_documentation() {
        // AdminUtils' doc comment: 5 brokers, 10 partitions, 3 replicas, both numbers 0.
        let assignment = assign(&ids(&[0, 1, 2, 3, 4]), 0..10, 3, 0, 0);
        let expected = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        for (partition, replicas) in expected.iter().enumerate() {
            let partition = i32::try_from(partition).unwrap();
            assert_eq!(assignment[&partition], ids(replicas), "{partition}");
        }
    }

    #[test]
    fn one_replica_goes_around_and_growth_goes_on_where_it_stopped() {
        let brokers = ids(&[0, 1, 2]);
        let all = assign(&brokers, 0..7, 1, 2, 1);
        let leaders: Vec<i32> = all.values().map(|replicas| replicas[0].0).collect();
        assert_eq!(leaders, [2, 0, 1, 2, 0, 1, 2]);
        let start = growth_start(&brokers, &all[&0]);
        assert_eq!(assign(&brokers, 4..7, 1, start, start)[&4], all[&4]);
        // A broker that is gone: the next higher one, or the first.
        assert_eq!(growth_start(&ids(&[0, 2]), &ids(&[1])), 1);
        assert_eq!(growth_start(&ids(&[0, 2]), &ids(&[3])), 0);
        assert_eq!(growth_start(&brokers, &[]), 0);
    }

    #[test]
    fn nothing_is_assigned_where_nobody_is() {
        assert!(assign(&[], 0..3, 1, 0, 0).is_empty());
        assert_eq!(assign(&ids(&[7]), 0..1, 3, 9, 9)[&0], ids(&[7]));
    }
}
