//! Z1 and Z6: writes have one order, their zxids', and it agrees with time.

/// An acknowledged write. Numbers of events grow with time.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// When it was asked for.
    pub invoked: u64,
    /// When it was acknowledged.
    pub returned: u64,
    /// Its transaction.
    pub zxid: i64,
}

/// No two writes are one transaction, and one that was over before another began has the lower zxid.
pub fn check(writes: &[Write]) {
    let mut by_zxid = writes.to_vec();
    by_zxid.sort_by_key(|write| write.zxid);
    for pair in by_zxid.windows(2) {
        assert!(
            pair[0].zxid < pair[1].zxid,
            "two writes have one zxid: {pair:?}"
        );
    }
    // From the highest zxid down: none of the higher ones was over before this one began.
    let mut first_over: Option<Write> = None;
    for write in by_zxid.iter().rev() {
        if let Some(higher) = first_over {
            assert!(
                higher.returned > write.invoked,
                "{higher:?} was over before {write:?} began, and has the higher zxid"
            );
        }
        if first_over.is_none_or(|first| write.returned < first.returned) {
            first_over = Some(*write);
        }
    }
}

/// A read of a node, behind a sync that began at `before`, showed the node as of `mzxid`: no write of that node
/// that was over before is newer.
pub fn check_read(writes: &[Write], before: u64, mzxid: i64, of_node: impl Fn(i64) -> bool) {
    let missed = writes
        .iter()
        .find(|write| write.returned < before && write.zxid > mzxid && of_node(write.zxid));
    assert!(
        missed.is_none(),
        "a read behind a sync saw {mzxid:#x}, and not {missed:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(invoked: u64, returned: u64, zxid: i64) -> Write {
        Write {
            invoked,
            returned,
            zxid,
        }
    }

    #[test]
    fn writes_that_overlap_may_be_in_any_order() {
        check(&[write(1, 4, 12), write(2, 3, 11), write(5, 6, 13)]);
    }

    #[test]
    #[should_panic(expected = "one zxid")]
    fn one_zxid_for_two_is_noticed() {
        check(&[write(1, 2, 11), write(3, 4, 11)]);
    }

    #[test]
    #[should_panic(expected = "was over before")]
    fn an_order_against_time_is_noticed() {
        check(&[write(1, 2, 13), write(3, 5, 12), write(4, 6, 14)]);
    }

    #[test]
    #[should_panic(expected = "behind a sync")]
    fn an_old_read_behind_a_sync_is_noticed() {
        check_read(&[write(1, 2, 13)], 3, 12, |_| true);
    }
}
