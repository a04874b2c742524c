//! Offsets follow each other without a gap, from the log's start to its end.

use super::Found;

/// Reads nothing but what was found.
pub fn check(found: &Found) {
    let offsets = found.records.iter().map(|(offset, _)| *offset);
    assert!(
        offsets.eq(found.log_start_offset..found.log_end_offset),
        "offsets from {} to {} have gaps: {:?}",
        found.log_start_offset,
        found.log_end_offset,
        found.records.iter().map(|r| r.0).collect::<Vec<_>>()
    );
}
