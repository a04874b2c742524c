//! A member never forgets a vote that it has given: it could vote twice in one term.

/// Terms: what is read, what was reported saved, and what was tried last.
pub fn check(found: u64, saved: u64, tried: u64) {
    assert!(
        found >= saved,
        "the vote of term {saved} is back at {found}"
    );
    assert!(found <= tried, "a vote of term {found}, which nobody gave");
}
