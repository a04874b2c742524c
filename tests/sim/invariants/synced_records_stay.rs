//! Q1 for one replica: a record that was synced is there for ever, whatever happens to the machine.

use super::Found;

/// `synced` records from offset 0 on had been reported as synced.
pub fn check(found: &Found, promised: &[String], synced: usize) {
    assert!(
        found.records.len() >= synced,
        "{} records of {synced} that were synced are left",
        found.records.len()
    );
    for (offset, value) in promised[..synced].iter().enumerate() {
        assert_eq!(
            &found.records[offset].1, value,
            "the synced record at offset {offset} is another one"
        );
    }
}
