//! Epoch -> first offset (KIP-101), with its checkpoint file.
//!
//! The list is pure; [`LeaderEpochs::encode`] and [`LeaderEpochs::decode`] are the file. What the file
//! lacks is found in the batches again, so it is synced with the log and not at each change.

use std::fmt::Write;

use crate::common::ids::{LeaderEpoch, Offset};

/// The file's name.
pub(super) const FILE: &str = "leader-epoch-checkpoint";

/// The epochs of one log; both numbers rise from entry to entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// An epoch begins. `true` when that changed the list.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0 || start.0 < 0 {
            return false;
        }
        if self.latest().is_some_and(|latest| epoch <= latest) {
            return false;
        }
        // An epoch in which nothing was written makes place.
        self.entries.retain(|entry| entry.1 < start);
        self.entries.push((epoch, start));
        true
    }

    /// The newest epoch.
    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The epoch in which `offset` was or will be written.
    pub(super) fn epoch_for(&self, offset: Offset) -> Option<LeaderEpoch> {
        let count = self.entries.partition_point(|entry| entry.1 <= offset);
        Some(self.entries.get(count.checked_sub(1)?)?.0)
    }

    /// The largest known epoch that is not above `epoch`, and where it ends. (-1, -1) if `epoch` is
    /// unknown or newer than all.
    pub(super) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> (LeaderEpoch, Offset) {
        if epoch.0 >= 0 && self.latest() == Some(epoch) {
            return (epoch, log_end_offset);
        }
        let above = self.entries.partition_point(|entry| entry.0 <= epoch);
        let Some(&(_, end)) = self.entries.get(above).filter(|_| epoch.0 >= 0) else {
            return (LeaderEpoch::NONE, Offset(-1));
        };
        let floor = above.checked_sub(1).and_then(|at| self.entries.get(at));
        (floor.map_or(epoch, |entry| entry.0), end)
    }

    /// The log ends at `end` now. `true` when that changed the list.
    pub(super) fn truncate_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.1 < end);
        before != self.entries.len()
    }

    /// The log begins at `start` now. `true` when that changed the list.
    pub(super) fn truncate_start(&mut self, start: Offset) -> bool {
        let below = self.entries.partition_point(|entry| entry.1 <= start);
        let Some(floor) = below.checked_sub(1) else {
            return false;
        };
        if floor == 0 && self.entries[0].1 == start {
            return false;
        }
        self.entries.drain(..floor);
        self.entries[0].1 = start;
        true
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The file's content.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            let _ = writeln!(text, "{epoch} {start}");
        }
        text
    }

    /// Reads the file's content; `None` when it is damaged.
    pub(super) fn decode(text: &str) -> Option<LeaderEpochs> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = LeaderEpochs::default();
        for line in lines.by_ref().take(count) {
            let (epoch, start) = line.split_once(' ')?;
            let epoch = LeaderEpoch(epoch.parse().ok().filter(|epoch| *epoch >= 0)?);
            let start = Offset(start.parse().ok().filter(|start| *start >= 0)?);
            if let Some(last) = epochs.entries.last()
                && (last.0 >= epoch || last.1 > start)
            {
                return None;
            }
            epochs.entries.push((epoch, start));
        }
        (epochs.entries.len() == count && lines.next().is_none()).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs {
            entries: entries
                .iter()
                .map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start)))
                .collect(),
        }
    }

    /// The cases of Kafka's LeaderEpochFileCacheTest.
    #[test]
    fn end_offsets_follow_kip_101() {
        let log = epochs(&[(2, 10), (3, 20), (5, 30)]);
        for (asked, epoch, offset) in [
            (5, 5, 99),
            (3, 3, 30),
            (4, 3, 30),
            (2, 2, 20),
            (1, 1, 10),
            (6, -1, -1),
            (-1, -1, -1),
        ] {
            assert_eq!(
                log.end_offset_for(LeaderEpoch(asked), Offset(99)),
                (LeaderEpoch(epoch), Offset(offset)),
                "{asked}"
            );
        }
        let none = LeaderEpochs::default();
        assert_eq!(
            none.end_offset_for(LeaderEpoch(0), Offset(9)),
            (LeaderEpoch::NONE, Offset(-1))
        );
    }

    #[test]
    fn epochs_are_assigned_and_truncated() {
        let mut log = LeaderEpochs::default();
        assert!(log.assign(LeaderEpoch(0), Offset(0)));
        assert!(!log.assign(LeaderEpoch(0), Offset(5)));
        assert!(log.assign(LeaderEpoch(1), Offset(5)));
        assert!(log.assign(LeaderEpoch(2), Offset(5)));
        assert_eq!(log, epochs(&[(0, 0), (2, 5)]));
        assert!(!log.assign(LeaderEpoch(1), Offset(9)));
        assert_eq!(log.epoch_for(Offset(4)), Some(LeaderEpoch(0)));
        assert_eq!(log.epoch_for(Offset(5)), Some(LeaderEpoch(2)));
        assert!(log.truncate_start(Offset(3)));
        assert_eq!(log, epochs(&[(0, 3), (2, 5)]));
        assert!(log.truncate_start(Offset(7)));
        assert_eq!(log, epochs(&[(2, 7)]));
        assert!(!log.truncate_start(Offset(7)));
        assert!(log.truncate_end(Offset(7)));
        assert!(log.is_empty());
    }

    #[test]
    fn the_file_reads_back_and_damage_is_seen() {
        let log = epochs(&[(0, 0), (4, 17)]);
        assert_eq!(log.encode(), "0\n2\n0 0\n4 17\n");
        assert_eq!(LeaderEpochs::decode(&log.encode()), Some(log));
        for bad in [
            "",
            "1\n0\n",
            "0\n",
            "0\n2\n0 0\n",
            "0\n1\n0 0\n1 2\n",
            "0\n1\nx 0\n",
            "0\n1\n0\n",
            "0\n2\n4 0\n0 17\n",
            "0\n1\n-4 0\n",
            "0\n99999999999999999999\n",
        ] {
            assert_eq!(LeaderEpochs::decode(bad), None, "{bad:?}");
        }
    }
}
