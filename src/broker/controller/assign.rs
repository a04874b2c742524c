//! Which broker holds which partition of a new topic: Kafka's `AdminUtils.assignReplicasToBrokers`, with
//! racks (KIP-36) where every broker has one. Pure: the two random numbers come in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::broker::image::Image;
use crate::common::ids::BrokerId;

/// The brokers that may hold replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brokers {
    /// By id.
    sorted: Vec<BrokerId>,
    /// Their racks, where all have one. Kafka refuses a cluster where only some have; here such racks
    /// are passed over, as its tools do when they are told to.
    racks: Option<BTreeMap<BrokerId, String>>,
}

impl Brokers {
    /// Everybody who is alive.
    pub fn alive(image: &Image) -> Brokers {
        let brokers = image.brokers.values();
        Brokers::new(brokers.map(|broker| (broker.id, broker.rack.clone())))
    }

    /// These, with their racks.
    pub fn new(brokers: impl IntoIterator<Item = (BrokerId, Option<String>)>) -> Brokers {
        let brokers: BTreeMap<BrokerId, Option<String>> = brokers.into_iter().collect();
        let sorted = brokers.keys().copied().collect();
        let racks = brokers.into_iter().map(|(id, rack)| Some((id, rack?)));
        Brokers {
            sorted,
            racks: racks.collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Is nobody there?
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Spreads the partitions `range`, `factor` replicas each.
    ///
    /// Leaders go around from `start`; followers are shifted by `shift`, and by one more after each
    /// round, so that the load of a dead leader is shared by all others. An impossible factor is the
    /// caller's to refuse; here it is cut to the number of brokers.
    pub fn assign(
        &self,
        range: Range<i32>,
        factor: usize,
        start: usize,
        shift: usize,
    ) -> BTreeMap<i32, Vec<BrokerId>> {
        let ring = self
            .racks
            .as_ref()
            .map_or_else(|| self.sorted.clone(), alternated);
        let count = ring.len();
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
            let factor = factor.min(count);
            let replicas = match &self.racks {
                None => around(&ring, first, shift).take(factor).collect(),
                Some(racks) => spread(&ring, racks, first, shift, factor),
            };
            assignment.insert(partition, replicas);
        }
        assignment
    }

    /// Where [`Brokers::assign`] starts when a topic grows: at the leader of its partition 0, so that
    /// the old round is continued (`AdminZkClient.createNewPartitionsAssignment`).
    pub fn growth_start(&self, partition_0: &[BrokerId]) -> usize {
        let first = partition_0.first();
        self.sorted
            .iter()
            .position(|id| first.is_some_and(|first| id >= first))
            .unwrap_or(0)
    }
}

/// The leader at `first`, and then everybody else once.
fn around(ring: &[BrokerId], first: usize, shift: usize) -> impl Iterator<Item = BrokerId> + '_ {
    let count = ring.len();
    let followers = (1..count).map(move |nth| {
        let gap = 1 + (shift + nth - 1) % (count - 1);
        ring[(first + gap) % count]
    });
    std::iter::once(ring[first]).chain(followers)
}

/// Brokers of all racks in turn.
fn alternated(racks: &BTreeMap<BrokerId, String>) -> Vec<BrokerId> {
    let mut by_rack: BTreeMap<&str, Vec<BrokerId>> = BTreeMap::new();
    for (id, rack) in racks {
        by_rack.entry(rack).or_default().push(*id);
    }
    let longest = by_rack.values().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| {
        let racks = by_rack.values();
        racks.filter_map(move |brokers| brokers.get(turn).copied())
    });
    turns.collect()
}

/// Replicas on as many racks as there are, before a rack gets a second one.
fn spread(
    ring: &[BrokerId],
    racks: &BTreeMap<BrokerId, String>,
    first: usize,
    shift: usize,
    factor: usize,
) -> Vec<BrokerId> {
    let total = racks.values().collect::<BTreeSet<_>>().len();
    let mut replicas = vec![ring[first]];
    let mut used = BTreeSet::from([&racks[&ring[first]]]);
    // Two rounds see everybody twice: in the first every rack gets one, in the second the rest.
    let others = || around(ring, first, shift * total).skip(1);
    for id in others().chain(others()).chain(others()) {
        if replicas.len() == factor {
            break;
        }
        let rack = &racks[&id];
        if !replicas.contains(&id) && (used.len() == total || !used.contains(rack)) {
            replicas.push(id);
            used.insert(rack);
        }
    }
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::ids;

    fn brokers(list: &[i32]) -> Brokers {
        Brokers::new(ids(list).into_iter().map(|id| (id, None)))
    }

    #[test]
    fn the_example_of_kafkas_own_documentation() {
        // AdminUtils' doc comment: 5 brokers, 10 partitions, 3 replicas, both numbers 0.
        let assignment = brokers(&[0, 1, 2, 3, 4]).assign(0..10, 3, 0, 0);
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
    fn racks_are_alternated_as_in_kafkas_documentation() {
        // The same comment: racks of 6 brokers, the arranged list is 0, 3, 1, 5, 4, 2.
        let racks = [
            (0, "rack1"),
            (1, "rack3"),
            (2, "rack3"),
            (3, "rack2"),
            (4, "rack2"),
            (5, "rack1"),
        ];
        let racked = racks.map(|(id, rack)| (BrokerId(id), Some(rack.to_owned())));
        let racked = Brokers::new(racked);
        assert_eq!(
            alternated(racked.racks.as_ref().unwrap()),
            ids(&[0, 3, 1, 5, 4, 2])
        );
        // And its table for 3 replicas from the beginning.
        let expected = [
            [0, 3, 1],
            [3, 1, 5],
            [1, 5, 4],
            [5, 4, 2],
            [4, 2, 0],
            [2, 0, 3],
            [0, 4, 2],
        ];
        let assignment = racked.assign(0..7, 3, 0, 0);
        for (partition, replicas) in expected.iter().enumerate() {
            let partition = i32::try_from(partition).unwrap();
            assert_eq!(assignment[&partition], ids(replicas), "{partition}");
        }
    }

    #[test]
    fn every_rack_gets_one_before_any_gets_two() {
        let racked = [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "c")];
        let racked = racked.map(|(id, rack)| (BrokerId(id), Some(rack.to_owned())));
        let all = Brokers::new(racked.clone());
        let rack = |id: &BrokerId| racked[usize::try_from(id.0).unwrap()].1.clone();
        for start in 0..5 {
            for shift in 0..5 {
                for factor in 1..=5 {
                    for replicas in all.assign(0..20, factor, start, shift).values() {
                        let distinct: BTreeSet<_> = replicas.iter().collect();
                        let racks: BTreeSet<_> = replicas.iter().map(rack).collect();
                        assert_eq!(distinct.len(), factor);
                        assert_eq!(racks.len(), factor.min(3), "{start} {shift} {replicas:?}");
                    }
                }
            }
        }
        // Racks that only some have say nothing.
        let mut some = racked.to_vec();
        some[4].1 = None;
        assert_eq!(Brokers::new(some), brokers(&[0, 1, 2, 3, 4]));
    }

    #[test]
    fn one_replica_goes_around_and_growth_goes_on_where_it_stopped() {
        let three = brokers(&[0, 1, 2]);
        let all = three.assign(0..7, 1, 2, 1);
        let leaders: Vec<i32> = all.values().map(|replicas| replicas[0].0).collect();
        assert_eq!(leaders, [2, 0, 1, 2, 0, 1, 2]);
        let start = three.growth_start(&all[&0]);
        assert_eq!(three.assign(4..7, 1, start, start)[&4], all[&4]);
        // A broker that is gone: the next higher one, or the first.
        assert_eq!(brokers(&[0, 2]).growth_start(&ids(&[1])), 1);
        assert_eq!(brokers(&[0, 2]).growth_start(&ids(&[3])), 0);
        assert_eq!(three.growth_start(&[]), 0);
    }

    #[test]
    fn nothing_is_assigned_where_nobody_is() {
        assert!(brokers(&[]).assign(0..3, 1, 0, 0).is_empty());
        assert_eq!(brokers(&[7]).assign(0..1, 3, 9, 9)[&0], ids(&[7]));
    }
}
