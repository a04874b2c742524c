use super::*;
use crate::broker::testing::ids;

const LAG_MS: i64 = 100;
/// All are registered before the state was written.
const LIVE: [(BrokerId, Zxid); 3] = [
    (BrokerId(1), Zxid(1)),
    (BrokerId(2), Zxid(2)),
    (BrokerId(3), Zxid(3)),
];

fn given<'a>(epoch: i32, version: i32, replicas: &'a [BrokerId], isr: &'a [BrokerId]) -> Given<'a> {
    Given {
        epoch: LeaderEpoch(epoch),
        version,
        controller_epoch: ControllerEpoch(7),
        replicas,
        written: Zxid(50),
        live: &LIVE,
        isr,
    }
}

/// Broker 1 leads 1, 2, 3 since time 0, with a log that ends at 10.
fn leader(isr: &[i32]) -> LeaderState {
    let (replicas, isr) = (ids(&[1, 2, 3]), ids(isr));
    let given = given(5, 4, &replicas, &isr);
    LeaderState::new(BrokerId(1), LAG_MS, given, Offset(10), Offset(10), 0)
}

fn fetch(state: &mut LeaderState, id: i32, offset: i64, leader_end: i64, now_ms: i64) {
    let fetch = Fetched {
        offset: Offset(offset),
        log_start: Offset(0),
        leader_end: Offset(leader_end),
        registered: None,
        now_ms,
    };
    assert!(state.fetched(BrokerId(id), fetch).is_some());
}

fn propose(state: &mut LeaderState, end: i64, hw: i64, now_ms: i64) -> Option<Vec<i32>> {
    let proposal = state.propose(Offset(end), Offset(hw), now_ms, |_| true)?;
    Some(proposal.isr.iter().map(|id| id.0).collect())
}

fn high_watermark(state: &LeaderState, end: i64, now_ms: i64) -> Option<i64> {
    state
        .high_watermark(Offset(end), now_ms)
        .map(|offset| offset.0)
}

#[test]
fn the_high_watermark_waits_for_every_member() {
    let mut state = leader(&[1, 2, 3]);
    assert_eq!(high_watermark(&state, 12, 1), None, "nobody has asked");
    fetch(&mut state, 2, 12, 12, 1);
    assert_eq!(high_watermark(&state, 12, 1), None, "3 has not asked");
    fetch(&mut state, 3, 11, 12, 1);
    assert_eq!(high_watermark(&state, 12, 1), Some(11));
    fetch(&mut state, 3, 12, 12, 2);
    assert_eq!(high_watermark(&state, 15, 2), Some(12));
    assert_eq!(state.fetched(BrokerId(9), sample()), None, "no replica");
    // Alone in sync: its own end, except for who keeps up from outside.
    let mut state = leader(&[1]);
    assert_eq!(high_watermark(&state, 12, 1), Some(12));
    fetch(&mut state, 2, 3, 12, 1);
    assert_eq!(high_watermark(&state, 12, 1), Some(12), "2 is far behind");
    fetch(&mut state, 2, 12, 12, 2);
    assert_eq!(high_watermark(&state, 14, 50), Some(12), "2 keeps up");
    assert_eq!(high_watermark(&state, 14, 103), Some(14), "2 fell back");
}

fn sample() -> Fetched {
    Fetched {
        offset: Offset(0),
        log_start: Offset(0),
        leader_end: Offset(0),
        registered: None,
        now_ms: 0,
    }
}

#[test]
fn who_does_not_catch_up_in_the_lag_time_leaves() {
    // (fetches of 2 as (offset, leader's end, time)), leader's end, now, and whether 2 leaves.
    type Case<'a> = (&'a [(i64, i64, i64)], i64, i64, bool);
    let table: [Case<'_>; 8] = [
        (&[], 10, 100, false),
        (&[], 10, 101, true),
        // Caught up at its fetch; then nothing more was written: it may be silent for ever.
        (&[(10, 10, 5)], 10, 1_000, false),
        (&[(10, 10, 5)], 11, 105, false),
        (&[(10, 10, 5)], 11, 106, true),
        // Always behind, and at each fetch where we were at the one before.
        (&[(10, 10, 5), (10, 15, 50), (15, 20, 90)], 25, 150, false),
        (&[(10, 10, 5), (10, 15, 50), (15, 20, 90)], 25, 151, true),
        // Asks all the time and gets nowhere.
        (&[(9, 10, 5), (9, 10, 90), (9, 10, 100)], 10, 101, true),
    ];
    for (fetches, end, now_ms, leaves) in table {
        let mut state = leader(&[1, 2]);
        for (offset, end, at) in fetches {
            fetch(&mut state, 2, *offset, *end, *at);
        }
        let expected = leaves.then(|| vec![1]);
        let found = propose(&mut state, end, 10, now_ms);
        assert_eq!(found, expected, "{fetches:?} at {now_ms}");
    }
}

#[test]
fn who_has_everything_joins() {
    // High watermark, 2's end, and whether it joins; the epoch began at 10.
    for (hw, end, joins) in [
        (12, 12, true),
        (12, 13, true),
        (12, 11, false),
        (8, 9, false),
        (8, 10, true),
    ] {
        let mut state = leader(&[1]);
        fetch(&mut state, 2, end, 20, 1);
        assert_eq!(state.may_join(BrokerId(2), Offset(hw)), joins);
        let expected = joins.then(|| vec![1, 2]);
        assert_eq!(propose(&mut state, 20, hw, 1), expected, "{hw} {end}");
    }
    let mut state = leader(&[1]);
    fetch(&mut state, 2, 20, 20, 1);
    let nobody = state.propose(Offset(20), Offset(20), 1, |_| false);
    assert_eq!(nobody, None, "not registered");
    assert!(
        !state.may_join(BrokerId(3), Offset(0)),
        "3 has not asked yet"
    );
}

#[test]
fn the_high_watermark_counts_whoever_may_be_in_the_znode() {
    let mut state = leader(&[1, 2]);
    fetch(&mut state, 2, 12, 12, 1);
    fetch(&mut state, 3, 12, 12, 1);
    let proposal = state
        .propose(Offset(12), Offset(12), 1, |_| true)
        .expect("3 joins");
    assert_eq!(proposal.isr, ids(&[1, 2, 3]));
    assert_eq!((proposal.version, proposal.epoch.0), (4, 5));
    assert_eq!(proposal.controller_epoch, ControllerEpoch(7));
    assert_eq!(propose(&mut state, 12, 12, 1), None, "one at a time");
    fetch(&mut state, 2, 20, 20, 500);
    assert_eq!(
        high_watermark(&state, 20, 500),
        Some(12),
        "3 counts already"
    );
    assert_eq!(state.committed(), (ids(&[1, 2]).as_slice(), 4, Zxid(50)));

    // Unknown: still the union, and it is tried again on the same version until that is known.
    assert!(!state.settle(&proposal, Outcome::Unknown));
    assert_eq!(high_watermark(&state, 20, 500), Some(12));
    let again = state
        .propose(Offset(20), Offset(12), 500, |_| true)
        .expect("settles it");
    assert_eq!((again.version, &again.isr), (4, &ids(&[1, 2])));
    assert!(!state.settle(&again, Outcome::Stale));
    assert_eq!(
        propose(&mut state, 20, 12, 600),
        None,
        "the image has to tell"
    );
    assert_eq!(high_watermark(&state, 20, 600), Some(12));

    // The first one had been written after all.
    let (replicas, isr) = (ids(&[1, 2, 3]), ids(&[1, 2, 3]));
    let told = given(5, 5, &replicas, &isr);
    state.adopt(told, Offset(20), Offset(20), 600);
    assert_eq!(
        state.epoch_start(),
        Offset(10),
        "the same epoch began where it did"
    );
    let shrunk = state
        .propose(Offset(20), Offset(12), 600, |_| true)
        .expect("3 lags");
    assert_eq!((shrunk.version, &shrunk.isr), (5, &ids(&[1, 2])));
    assert_eq!(high_watermark(&state, 20, 600), Some(12), "not yet written");
    assert!(state.settle(&shrunk, Outcome::Written(6, Zxid(60))));
    assert_eq!(high_watermark(&state, 20, 600), Some(20));
    assert_eq!(state.committed(), (ids(&[1, 2]).as_slice(), 6, Zxid(60)));
}

#[test]
fn what_a_newer_state_has_overtaken_is_passed_over() {
    let mut state = leader(&[1, 2]);
    let proposal = state
        .propose(Offset(10), Offset(10), 200, |_| true)
        .expect("2 lags");
    let (replicas, isr) = (ids(&[1, 2, 3]), ids(&[1, 2, 3]));
    state.adopt(given(6, 5, &replicas, &isr), Offset(15), Offset(15), 200);
    assert_eq!(state.epoch_start(), Offset(15));
    assert!(!state.settle(&proposal, Outcome::Written(5, Zxid(60))));
    assert!(!state.settle(&proposal, Outcome::Stale));
    assert_eq!(state.committed(), (isr.as_slice(), 5, Zxid(50)));
    // What the same version says again (a topic's setting changed) disturbs nothing in flight.
    let proposal = state
        .propose(Offset(15), Offset(10), 500, |_| true)
        .expect("both lag");
    state.adopt(given(6, 5, &replicas, &isr), Offset(15), Offset(15), 500);
    assert!(state.settle(&proposal, Outcome::Written(6, Zxid(60))));
}

#[test]
fn a_replica_that_is_moved_away_counts_no_more() {
    let mut state = leader(&[1, 2, 3]);
    fetch(&mut state, 2, 12, 12, 1);
    fetch(&mut state, 3, 11, 12, 1);
    let (replicas, isr) = (ids(&[1, 2]), ids(&[1, 2]));
    state.adopt(given(6, 5, &replicas, &isr), Offset(12), Offset(12), 2);
    assert_eq!(high_watermark(&state, 12, 2), Some(12));
    assert_eq!(state.fetched(BrokerId(3), sample()), None);
    state.told(BrokerId(2), Offset(12));
    state.told(BrokerId(2), Offset(11));
    assert_eq!(state.fetched(BrokerId(2), sample()), Some(Offset(12)));
}

#[test]
fn a_dead_follower_holds_nothing_up_once_it_is_out_of_sync() {
    let mut state = leader(&[1, 2, 3]);
    fetch(&mut state, 2, 12, 12, 1);
    fetch(&mut state, 3, 12, 12, 1);
    let (replicas, isr, live) = (ids(&[1, 2, 3]), ids(&[1, 2, 3]), [LIVE[0], LIVE[1]]);
    let unregistered = Given {
        live: &live,
        ..given(5, 4, &replicas, &isr)
    };
    state.adopt(unregistered, Offset(12), Offset(12), 2);
    fetch(&mut state, 2, 20, 20, 2);
    assert_eq!(high_watermark(&state, 20, 2), Some(12), "in sync still");
    let isr = ids(&[1, 2]);
    let removed = Given {
        live: &live,
        ..given(6, 5, &replicas, &isr)
    };
    state.adopt(removed, Offset(20), Offset(20), 3);
    assert_eq!(high_watermark(&state, 20, 3), Some(20));
    // It comes back, and counts when it keeps up again.
    state.adopt(given(6, 5, &replicas, &isr), Offset(20), Offset(20), 4);
    assert_eq!(high_watermark(&state, 20, 4), Some(20));
    assert!(!state.may_join(BrokerId(3), Offset(0)));
    fetch(&mut state, 3, 20, 20, 5);
    assert_eq!(high_watermark(&state, 25, 5), Some(20));
}

#[test]
fn who_restarted_counts_as_unknown_and_is_vouched_for_when_it_has_shown_what_it_has() {
    let restarted = [LIVE[0], (BrokerId(2), Zxid(99)), LIVE[2]];
    let (replicas, isr) = (ids(&[1, 2, 3]), ids(&[1, 2, 3]));
    // 2 asks again from here, or not at all; and who is in the next set, where one is due.
    for (shown, expected) in [
        (None, Some(vec![1, 3])),
        (Some(9), Some(vec![1, 3])),
        (Some(12), None),
    ] {
        let mut state = leader(&[1, 2, 3]);
        fetch(&mut state, 2, 12, 12, 1);
        fetch(&mut state, 3, 12, 12, 1);
        let seen = Given {
            live: &restarted,
            ..given(5, 4, &replicas, &isr)
        };
        state.adopt(seen, Offset(12), Offset(12), 2);
        assert_eq!(high_watermark(&state, 12, 2), None, "in sync, and unknown");
        if let Some(offset) = shown {
            fetch(&mut state, 2, offset, 12, 3);
        }
        assert_eq!(propose(&mut state, 12, 12, 3), expected, "{shown:?}");
    }
}

#[test]
fn what_a_follower_asked_before_it_registered_anew_is_not_counted() {
    let mut state = leader(&[1, 2]);
    let (replicas, isr) = (ids(&[1, 2]), ids(&[1]));
    let live = [LIVE[0], (BrokerId(2), Zxid(70))];
    let again = Given {
        live: &live,
        ..given(6, 5, &replicas, &isr)
    };
    state.adopt(again, Offset(12), Offset(12), 2);
    let asked = |registered| Fetched {
        offset: Offset(12),
        leader_end: Offset(12),
        registered,
        ..sample()
    };
    assert_eq!(state.fetched(BrokerId(2), asked(Some(Zxid(20)))), None);
    assert!(!state.may_join(BrokerId(2), Offset(12)));
    // An older release says nothing.
    for registered in [Some(Zxid(70)), None] {
        assert!(state.fetched(BrokerId(2), asked(registered)).is_some());
        assert!(state.may_join(BrokerId(2), Offset(12)));
    }
}

/// As in Kafka: a leadership that begins, or an in-sync set that somebody else changed, waits for nobody outside
/// it, however lately it had everything.
#[test]
fn who_was_taken_out_with_a_new_epoch_is_not_waited_for() {
    let mut state = leader(&[1, 2, 3]);
    fetch(&mut state, 2, 10, 10, 1);
    fetch(&mut state, 3, 10, 10, 1);
    let (replicas, isr) = (ids(&[1, 2, 3]), ids(&[1, 2]));
    state.adopt(given(6, 5, &replicas, &isr), Offset(10), Offset(10), 2);
    fetch(&mut state, 2, 12, 12, 3);
    assert_eq!(high_watermark(&state, 12, 3), Some(12));
    fetch(&mut state, 3, 12, 12, 4);
    fetch(&mut state, 2, 14, 14, 5);
    assert_eq!(high_watermark(&state, 14, 5), Some(12), "it is back");
}
