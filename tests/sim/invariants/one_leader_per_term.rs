//! A term has one leader at most.

use std::collections::BTreeMap;

/// Who was seen to lead.
#[derive(Debug, Default)]
pub struct Leaders(BTreeMap<u64, usize>);

impl Leaders {
    /// A member leads in a term.
    pub fn leads(&mut self, term: u64, member: usize) {
        let known = *self.0.entry(term).or_insert(member);
        assert_eq!(known, member, "two members lead in term {term}");
    }

    /// How many terms had a leader.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[test]
#[should_panic(expected = "lead in term 4")]
fn a_second_leader_is_noticed() {
    let mut leaders = Leaders::default();
    leaders.leads(3, 0);
    leaders.leads(4, 1);
    leaders.leads(4, 0);
}
