//! An offset has one value: what is read under it is what was acknowledged under it, never something that
//! was refused, torn, or meant for another place.

use super::Found;

/// `written` are the values that were acknowledged, by offset.
pub fn check(found: &Found, written: &[String]) {
    assert!(
        found.records.len() <= written.len(),
        "{} records, and only {} were acknowledged",
        found.records.len(),
        written.len()
    );
    for ((offset, value), expected) in found.records.iter().zip(written) {
        assert_eq!(value, expected, "at offset {offset}");
    }
}
