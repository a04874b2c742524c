//! Z1: a zxid names one state: all members that have applied the same transactions are equal, whenever they do.

use std::collections::BTreeMap;

/// The states that were seen.
#[derive(Debug, Default)]
pub struct States {
    digests: BTreeMap<i64, (u64, usize)>,
    last: BTreeMap<usize, i64>,
}

impl States {
    /// Was this member not seen at this zxid before?
    pub fn is_new(&self, member: usize, zxid: i64) -> bool {
        self.last.get(&member) != Some(&zxid)
    }

    /// A member's state.
    pub fn saw(&mut self, member: usize, zxid: i64, digest: u64) {
        self.last.insert(member, zxid);
        let (known, by) = *self.digests.entry(zxid).or_insert((digest, member));
        assert_eq!(
            known, digest,
            "members {by} and {member} differ at zxid {zxid:#x}"
        );
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.digests.len()
    }
}

#[test]
#[should_panic(expected = "members 0 and 1 differ")]
fn a_member_that_differs_is_noticed() {
    let mut states = States::default();
    states.saw(0, 7, 70);
    states.saw(0, 8, 80);
    states.saw(1, 7, 70);
    states.saw(1, 8, 81);
}
