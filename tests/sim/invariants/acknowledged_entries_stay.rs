//! Z-durability of one member: an entry that the log store reported durable is there after every crash,
//! with nothing missing before it, until it is truncated or purged by order.

use std::collections::BTreeMap;

/// `found` are the entries after opening, `certain` those that had to be there, `possible` those whose
/// append was given up without an answer. Values stand for contents.
pub fn check(
    found: &BTreeMap<u64, u64>,
    certain: &BTreeMap<u64, u64>,
    possible: &[(u64, u64)],
    purged: Option<u64>,
) {
    let kept = certain
        .iter()
        .filter(|(index, _)| purged.is_none_or(|purged| **index > purged));
    for (index, value) in kept {
        assert_eq!(
            found.get(index),
            Some(value),
            "the acknowledged entry {index}"
        );
    }
    for (index, value) in found {
        assert!(
            certain.get(index) == Some(value) || possible.contains(&(*index, *value)),
            "entry {index} was never written like this"
        );
    }
    let first = purged.map_or(0, |purged| purged + 1);
    assert!(
        found.keys().copied().eq(first..first + found.len() as u64),
        "entries have gaps: {:?} after {purged:?}",
        found.keys()
    );
}
