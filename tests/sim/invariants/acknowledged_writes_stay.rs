//! Z1 and D1: what was acknowledged is there, and a write without an outcome happened at once or never.
//!
//! The nodes have one writer, which does one thing after the other. A request that lost its connection takes
//! effect before the next one of its session, or not at all: the next one comes from another connection.

use std::collections::{BTreeMap, BTreeSet};

/// What each node may hold; `None` is no node. A node that is not listed was never made.
#[derive(Debug, Default)]
pub struct Owned(BTreeMap<String, BTreeSet<Option<Vec<u8>>>>);

impl Owned {
    fn possible(&mut self, path: &str) -> &mut BTreeSet<Option<Vec<u8>>> {
        self.0
            .entry(path.to_owned())
            .or_insert_with(|| BTreeSet::from([None]))
    }

    /// A create was acknowledged.
    pub fn made(&mut self, path: &str, value: Vec<u8>) {
        self.is_missing(path);
        self.0
            .insert(path.to_owned(), BTreeSet::from([Some(value)]));
    }

    /// A set was acknowledged.
    pub fn set(&mut self, path: &str, value: Vec<u8>) {
        self.exists(path);
        self.0
            .insert(path.to_owned(), BTreeSet::from([Some(value)]));
    }

    /// A delete was acknowledged.
    pub fn deleted(&mut self, path: &str) {
        self.exists(path);
        self.0.insert(path.to_owned(), BTreeSet::from([None]));
    }

    /// A create has no outcome.
    pub fn perhaps_made(&mut self, path: &str, value: Vec<u8>) {
        let possible = self.possible(path);
        if possible.contains(&None) {
            possible.insert(Some(value));
        }
    }

    /// A set, or a delete, has no outcome.
    pub fn perhaps_changed(&mut self, path: &str, value: Option<Vec<u8>>) {
        let possible = self.possible(path);
        if possible.iter().any(Option::is_some) {
            possible.insert(value);
        }
    }

    /// The node was found missing.
    pub fn is_missing(&mut self, path: &str) {
        let possible = self.possible(path);
        assert!(
            possible.contains(&None),
            "{path} is missing, and should be one of {}",
            texts(possible)
        );
        possible.retain(Option::is_none);
    }

    /// The node was found.
    pub fn exists(&mut self, path: &str) {
        let possible = self.possible(path);
        possible.retain(Option::is_some);
        assert!(!possible.is_empty(), "{path} is there, and should not be");
    }

    /// The node was read.
    pub fn found(&mut self, path: &str, data: &[u8]) {
        let possible = self.possible(path);
        let found = Some(data.to_vec());
        assert!(
            possible.contains(&found),
            "{path} holds {:?}, and should hold one of {}",
            String::from_utf8_lossy(data),
            texts(possible)
        );
        possible.retain(|state| *state == found);
    }
}

fn texts(possible: &BTreeSet<Option<Vec<u8>>>) -> String {
    let texts = possible.iter().map(|state| match state {
        Some(data) => String::from_utf8_lossy(data).into_owned(),
        None => "no node".to_owned(),
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Owned {
        let mut owned = Owned::default();
        owned.made("/n", b"1".to_vec());
        owned.set("/n", b"2".to_vec());
        owned
    }

    #[test]
    fn an_outcome_that_is_not_known_is_settled_by_a_read() {
        let mut owned = written();
        owned.perhaps_changed("/n", Some(b"3".to_vec()));
        owned.perhaps_changed("/n", None);
        owned.perhaps_made("/n", b"4".to_vec());
        owned.found("/n", b"4");
        assert_eq!(owned.0["/n"].len(), 1);
    }

    #[test]
    #[should_panic(expected = "should hold one of 2")]
    fn an_older_value_is_noticed() {
        written().found("/n", b"1");
    }

    #[test]
    #[should_panic(expected = "is missing")]
    fn a_lost_node_is_noticed() {
        written().is_missing("/n");
    }

    #[test]
    #[should_panic(expected = "should not be")]
    fn a_node_that_comes_back_is_noticed() {
        let mut owned = written();
        owned.deleted("/n");
        owned.exists("/n");
    }

    #[test]
    #[should_panic(expected = "should hold one of 3")]
    fn a_write_that_happens_late_is_noticed() {
        let mut owned = written();
        owned.perhaps_changed("/n", Some(b"late".to_vec()));
        owned.set("/n", b"3".to_vec());
        owned.found("/n", b"late");
    }
}
