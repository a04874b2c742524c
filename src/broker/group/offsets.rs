//! The offsets that one group has committed, as they are known to be in the log, and when they lapse.
//!
//! Pure. The invariant: what can be fetched here was acknowledged, or is at least as new; commits that are
//! still on their way to the replicas cannot be seen. Whether somebody may commit is the group's business
//! ([`super::classic::Group::check_commit`]).

use std::collections::BTreeMap;

use crate::broker::group::classic::{Group, State};
use crate::broker::group::record::CommittedOffset;
use crate::common::ids::{Offset, TopicPartition};

/// The most partitions that one group may have committed offsets for.
pub const PARTITIONS_MAX: usize = 200_000;

/// A group's committed offsets.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    committed: BTreeMap<TopicPartition, Committed>,
    /// Commits that were appended and are not replicated yet, counted by partition.
    pending: BTreeMap<TopicPartition, usize>,
}

#[derive(Clone, Debug)]
struct Committed {
    value: CommittedOffset,
    /// Where its record is. A later record wins, in whatever order the acknowledgements come.
    record: Offset,
}

impl Offsets {
    /// A commit was appended.
    pub fn begin(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            *self.pending.entry(partition).or_default() += 1;
        }
    }

    /// A commit that was begun is durable at `record`, or (none) failed.
    pub fn finish(
        &mut self,
        commits: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
        record: Option<Offset>,
    ) {
        for (partition, value) in commits {
            if let Some(count) = self.pending.get_mut(&partition) {
                *count -= 1;
                if *count == 0 {
                    self.pending.remove(&partition);
                }
            }
            if let Some(record) = record {
                self.put(partition, value, record);
            }
        }
    }

    /// Takes over what a record says; older records than the one that is known have no effect.
    pub fn put(&mut self, partition: TopicPartition, value: CommittedOffset, record: Offset) {
        match self.committed.get(&partition) {
            Some(known) if known.record > record => {}
            _ => {
                self.committed
                    .insert(partition, Committed { value, record });
            }
        }
    }

    /// Forgets a partition.
    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.committed.remove(partition).is_some()
    }

    /// The offset of one partition.
    pub fn get(&self, partition: &TopicPartition) -> Option<&CommittedOffset> {
        self.committed.get(partition).map(|found| &found.value)
    }

    /// All of them, ordered by partition.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        self.committed.iter().map(|(id, found)| (id, &found.value))
    }

    /// How many partitions have a committed offset.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// Is there nothing committed and nothing on its way?
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Has it room for that many partitions more?
    pub fn has_room_for(&self, partitions: usize) -> bool {
        let taken = self.committed.len() + self.pending.len();
        taken.saturating_add(partitions) <= PARTITIONS_MAX
    }

    /// Every partition that a tombstone is needed for when the group goes.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut all: Vec<_> = self.committed.keys().cloned().collect();
        let unknown = |id: &&TopicPartition| !self.committed.contains_key(*id);
        all.extend(self.pending.keys().filter(unknown).cloned());
        all
    }

    /// The partitions of some topics.
    pub fn of_topics(&self, gone: impl Fn(&str) -> bool) -> Vec<TopicPartition> {
        let all = self.partitions().into_iter();
        all.filter(|id| gone(&id.topic)).collect()
    }

    /// Which offsets have lapsed (KIP-211): a group that lost its members keeps its offsets for the
    /// retention from that moment; a consumer that assigns to itself, from each commit; a living group
    /// only loses topics that it subscribes to no more.
    pub fn expired(
        &self,
        group: &Group,
        now_wall_ms: i64,
        retention_ms: i64,
    ) -> Vec<TopicPartition> {
        let consumer = group
            .protocol_type()
            .is_some_and(|kind| &**kind == "consumer");
        let lapsed = |id: &TopicPartition, value: &CommittedOffset| {
            let since = match (group.protocol_type(), group.state()) {
                (Some(_), State::Empty) => {
                    let emptied = group.state_since_wall_ms();
                    emptied.map_or(value.commit_timestamp_ms, |at| {
                        at.max(value.commit_timestamp_ms)
                    })
                }
                (Some(_), State::Stable) if consumer && !group.is_subscribed(&id.topic) => {
                    value.commit_timestamp_ms
                }
                (None, _) => value.commit_timestamp_ms,
                _ => return false,
            };
            match value.expire_timestamp_ms {
                Some(expires) => now_wall_ms >= expires,
                None => now_wall_ms.saturating_sub(since) >= retention_ms,
            }
        };
        let idle = self
            .iter()
            .filter(|(id, _)| !self.pending.contains_key(*id));
        idle.filter(|(id, value)| lapsed(id, value))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::group::classic::{Limits, Now};
    use crate::broker::group::record::{GroupMetadata, MemberMetadata};
    use crate::common::ids::LeaderEpoch;

    fn at(
        offset: i64,
        commit_timestamp_ms: i64,
        expire_timestamp_ms: Option<i64>,
    ) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: "".into(),
            commit_timestamp_ms,
            expire_timestamp_ms,
        }
    }

    fn group(
        protocol_type: &str,
        emptied: Option<i64>,
        subscription: Option<&'static [u8]>,
    ) -> Group {
        let limits = Limits {
            members_max: 10,
            initial_rebalance_delay_ms: 0,
        };
        let member = |subscription: &'static [u8]| MemberMetadata {
            member_id: "m".into(),
            subscription: subscription.into(),
            ..MemberMetadata::default()
        };
        let stored = GroupMetadata {
            protocol_type: protocol_type.into(),
            generation: 1,
            protocol: subscription.map(|_| "range".into()),
            current_state_timestamp_ms: emptied,
            members: subscription.map(member).into_iter().collect(),
            ..GroupMetadata::default()
        };
        Group::load(limits, Now::default(), stored)
    }

    #[test]
    fn a_later_record_wins_whatever_the_order_of_acknowledgements() {
        let id = TopicPartition::new("t", 0);
        let mut offsets = Offsets::default();
        offsets.begin([id.clone()]);
        offsets.begin([id.clone()]);
        assert!(!offsets.is_empty() && offsets.get(&id).is_none());
        offsets.finish([(id.clone(), at(7, 2, None))], Some(Offset(11)));
        offsets.finish([(id.clone(), at(5, 1, None))], Some(Offset(10)));
        assert_eq!(offsets.get(&id), Some(&at(7, 2, None)));
        offsets.begin([id.clone()]);
        offsets.finish([(id.clone(), at(9, 3, None))], None);
        assert_eq!(offsets.get(&id), Some(&at(7, 2, None)));
        assert_eq!(offsets.partitions(), vec![id]);
    }

    #[test]
    fn offsets_lapse_as_kip_211_has_it() {
        const T: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        const OTHER: &[u8] = b"\0\0\0\0\0\x01\0\x01u\xff\xff\xff\xff";
        // (group, commit, expires, now, lapsed) with a retention of 100 ms.
        let table = [
            (
                group("consumer", Some(1000), None),
                at(1, 10, None),
                1099,
                false,
            ),
            (
                group("consumer", Some(1000), None),
                at(1, 10, None),
                1100,
                true,
            ),
            (group("consumer", None, None), at(1, 10, None), 110, true),
            (group("", Some(1000), None), at(1, 10, None), 109, false),
            (group("", Some(1000), None), at(1, 10, None), 110, true),
            (
                group("consumer", Some(0), Some(T)),
                at(1, 10, None),
                9999,
                false,
            ),
            (
                group("consumer", Some(0), Some(OTHER)),
                at(1, 10, None),
                109,
                false,
            ),
            (
                group("consumer", Some(0), Some(OTHER)),
                at(1, 10, None),
                110,
                true,
            ),
            (
                group("consumer", Some(0), Some(b"odd")),
                at(1, 10, None),
                9999,
                false,
            ),
            (
                group("connect", Some(0), Some(OTHER)),
                at(1, 10, None),
                9999,
                false,
            ),
            (group("", None, None), at(1, 10, Some(50)), 49, false),
            (group("", None, None), at(1, 10, Some(50)), 50, true),
            (group("", None, None), at(1, 10, Some(5000)), 4999, false),
        ];
        for (row, (group, value, now, lapsed)) in table.into_iter().enumerate() {
            let id = TopicPartition::new("t", 0);
            let mut offsets = Offsets::default();
            offsets.put(id.clone(), value, Offset(0));
            let expired = offsets.expired(&group, now, 100);
            assert_eq!(!expired.is_empty(), lapsed, "row {row}");
            offsets.begin([id]);
            assert_eq!(
                offsets.expired(&group, now, 100),
                vec![],
                "row {row}, pending"
            );
        }
    }
}
