//! Recovery has one outcome: to recover what was recovered changes nothing.

use super::Found;

/// The same directory, recovered once and once more.
pub fn check(once: &Found, twice: &Found) {
    assert_eq!(once, twice, "the second recovery found something else");
}
