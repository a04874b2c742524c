use std::collections::BTreeSet;

use super::*;
use crate::broker::image::BrokerImage;
use crate::broker::testing::{ids, led, live};

const WRITTEN: i64 = 40;

/// Brokers as (id, epoch, blank since).
fn image(brokers: &[(i32, i64, Option<i64>)]) -> Image {
    let brokers = brokers.iter().map(|(id, epoch, blank)| {
        let broker = BrokerImage {
            epoch: Zxid(*epoch),
            blank_since: blank.map(Zxid),
            ..live(BrokerId(*id))
        };
        (BrokerId(*id), broker)
    });
    Image {
        brokers: brokers.collect(),
        controller_epoch: ControllerEpoch(3),
        ..Image::default()
    }
}

fn partition(leader: i32, isr: &[i32]) -> PartitionImage {
    led(&[0, 1, 2], leader, isr, Zxid(WRITTEN))
}

/// Leader (-1 is none) and in-sync set of what follows; none where the state stays.
fn next(
    brokers: &[(i32, i64, Option<i64>)],
    unclean: bool,
    of: &PartitionImage,
) -> Option<(i32, Vec<i32>)> {
    let all = brokers.iter().map(|(id, ..)| *id).collect::<Vec<_>>();
    next_knowing(&all, brokers, unclean, of).unwrap()
}

/// The same while only these are known to be alive; an error where that has to wait.
fn next_knowing(
    known: &[i32],
    brokers: &[(i32, i64, Option<i64>)],
    unclean: bool,
    of: &PartitionImage,
) -> Result<Option<(i32, Vec<i32>)>, &'static str> {
    let state = of.state.as_ref().unwrap();
    let known = ids(known).into_iter().collect();
    let epoch = ControllerEpoch(3);
    let next = match next_state(&image(brokers), &known, epoch, unclean, of, state) {
        Following::Same => return Ok(None),
        Following::Waits => return Err("waits"),
        Following::Next(next) => next,
    };
    assert_eq!(next.state.leader_epoch, LeaderEpoch(8));
    assert_eq!(next.state.controller_epoch, ControllerEpoch(3));
    assert_eq!(next.state.version, 4);
    let leader = next.state.leader.map_or(-1, |id| id.0);
    let isr = next.state.isr.iter().map(|id| id.0).collect();
    Ok(Some((leader, isr)))
}

const OLD: i64 = 10;
const NEW: i64 = 50;

#[test]
fn leaders_and_in_sync_sets_follow_the_brokers() {
    let there = |id| (id, OLD, None);
    let again = |id| (id, NEW, None);
    let wiped = |id| (id, NEW, Some(NEW));
    let once_wiped = |id| (id, NEW, Some(OLD));
    for (what, brokers, leader, isr, expected) in [
        (
            "all is well",
            vec![there(0), there(1), there(2)],
            0,
            &[0, 1, 2][..],
            None,
        ),
        (
            "a follower out of sync is dead",
            vec![there(0), there(1)],
            0,
            &[0, 1],
            None,
        ),
        (
            "a follower died",
            vec![there(0), there(2)],
            0,
            &[0, 1, 2],
            Some((0, vec![0, 2])),
        ),
        (
            "a follower restarted",
            vec![there(0), again(1)],
            0,
            &[0, 1],
            Some((0, vec![0])),
        ),
        (
            "the leader died",
            vec![there(1), there(2)],
            0,
            &[2, 1, 0],
            Some((1, vec![2, 1])),
        ),
        (
            "the leader restarted unseen",
            vec![again(0), there(2)],
            0,
            &[0, 2],
            Some((2, vec![2])),
        ),
        (
            "the leader restarted with an empty disk",
            vec![wiped(0), there(2)],
            0,
            &[0, 2],
            Some((2, vec![2])),
        ),
        (
            "the only one in sync died",
            vec![there(1), there(2)],
            0,
            &[0],
            Some((-1, vec![0])),
        ),
        ("it is still dead", vec![there(1), there(2)], -1, &[0], None),
        (
            "it is back",
            vec![again(0), there(1)],
            -1,
            &[0],
            Some((0, vec![0])),
        ),
        (
            "it restarted unseen",
            vec![again(0), there(1)],
            0,
            &[0],
            Some((0, vec![0])),
        ),
        (
            "it is back with an empty disk",
            vec![wiped(0), there(1)],
            -1,
            &[0],
            None,
        ),
        (
            "it led and is back with an empty disk",
            vec![wiped(0), there(1)],
            0,
            &[0],
            Some((-1, vec![0])),
        ),
        (
            "it was wiped before it had this",
            vec![once_wiped(0)],
            -1,
            &[0],
            Some((0, vec![0])),
        ),
        ("all died", vec![], 0, &[0, 1], Some((-1, vec![0, 1]))),
        (
            "all restarted: the order of the assignment",
            vec![again(2), again(1)],
            -1,
            &[2, 1, 0],
            Some((1, vec![1])),
        ),
        (
            "all restarted, one wiped",
            vec![wiped(0), again(1)],
            0,
            &[0, 1],
            Some((1, vec![1])),
        ),
        (
            "nobody is in sync, a stranger wrote it",
            vec![there(0)],
            -1,
            &[],
            None,
        ),
        (
            "the leader is no replica",
            vec![there(0), there(9)],
            9,
            &[9, 0],
            Some((0, vec![0])),
        ),
        (
            "the leader is not in sync",
            vec![there(0), there(1)],
            0,
            &[1],
            Some((1, vec![1])),
        ),
    ] {
        assert_eq!(
            next(&brokers, false, &partition(leader, isr)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn nobody_is_dropped_for_a_leader_of_whom_only_the_registration_is_left() {
    let there = |id| (id, OLD, None);
    let again = |id| (id, NEW, None);
    let waits = Err("waits");
    let all = &[0, 1, 2][..];
    for (what, known, brokers, leader, isr, expected) in [
        (
            "all crashed, one is not back, its session has not ended",
            &[0, 1][..],
            vec![again(0), again(1), there(2)],
            0,
            all,
            waits.clone(),
        ),
        (
            "the same, and it led",
            &[0, 1],
            vec![again(0), there(2)],
            2,
            all,
            waits.clone(),
        ),
        (
            "it turns out to be alive",
            &[0, 1, 2],
            vec![again(0), again(1), there(2)],
            0,
            all,
            Ok(Some((2, vec![2]))),
        ),
        (
            "it turns out to be dead",
            &[0, 1],
            vec![again(0), again(1)],
            0,
            all,
            Ok(Some((0, vec![0]))),
        ),
        (
            "nothing has happened, nobody is reached yet",
            &[],
            vec![there(0), there(1), there(2)],
            0,
            all,
            Ok(None),
        ),
        (
            "the leader died: the next one is known",
            &[1, 2],
            vec![there(1), there(2)],
            0,
            all,
            Ok(Some((1, vec![1, 2]))),
        ),
        (
            "the leader died: the next one is silent, the one after is not",
            &[2],
            vec![there(1), there(2)],
            0,
            all,
            Ok(Some((2, vec![1, 2]))),
        ),
        (
            "a follower died, and the leader is silent",
            &[1],
            vec![there(0), there(1)],
            0,
            all,
            waits.clone(),
        ),
        (
            "all restarted, one is not reached yet",
            &[1],
            vec![again(0), again(1)],
            -1,
            &[0, 1],
            Ok(Some((1, vec![1]))),
        ),
        (
            "all restarted, nobody is reached yet",
            &[],
            vec![again(0), again(1)],
            -1,
            &[0, 1],
            waits.clone(),
        ),
        (
            "all died",
            &[],
            vec![],
            0,
            &[0, 1],
            Ok(Some((-1, vec![0, 1]))),
        ),
    ] {
        let of = partition(leader, isr);
        for unclean in [false, true] {
            if brokers.is_empty() && unclean {
                continue;
            }
            let found = next_knowing(known, &brokers, unclean, &of);
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[test]
fn unclean_elections_come_last_and_prefer_those_who_have_something() {
    let died = partition(0, &[0]);
    let wiped = (1, NEW, Some(NEW));
    assert_eq!(
        next(&[(1, OLD, None), (2, OLD, None)], true, &died),
        Some((1, vec![1]))
    );
    assert_eq!(
        next(&[wiped, (2, NEW, None)], true, &died),
        Some((2, vec![2]))
    );
    assert_eq!(next(&[wiped], true, &died), Some((1, vec![1])));
    assert_eq!(next(&[], true, &died), Some((-1, vec![0])));
    // Not where it can be had clean.
    assert_eq!(
        next(&[(0, NEW, None), (1, OLD, None)], true, &died),
        Some((0, vec![0]))
    );
    let now = image(&[(1, OLD, None)]);
    let known = ids(&[1]).into_iter().collect();
    let asked = unclean(&now, &known, &died).map(|state| state.leader);
    assert_eq!(asked, Ok(Some(BrokerId(1))));
    assert_eq!(
        unclean(&now, &known, &partition(1, &[1])),
        Err(NotElected::NotNeeded)
    );
    assert_eq!(
        unclean(&image(&[]), &known, &partition(-1, &[1])),
        Err(NotElected::NoEligible)
    );
    // Two are registered, and of one nothing else is known.
    let now = image(&[(1, OLD, None), (2, OLD, None)]);
    for (of, known, expected) in [
        (partition(0, &[0, 1, 2]), &[2][..], 2),
        (partition(0, &[0, 1]), &[2], 1),
    ] {
        let known = ids(known).into_iter().collect();
        let asked = unclean(&now, &known, &of).map(|state| state.leader);
        assert_eq!(asked, Ok(Some(BrokerId(expected))));
    }
}

#[test]
fn preferred_leaders_are_elected_where_that_changes_something() {
    let now = image(&[(0, OLD, None), (1, OLD, None), (2, NEW, None)]);
    for (what, of, expected) in [
        ("leads", partition(0, &[0]), Err(NotElected::NotNeeded)),
        (
            "moved",
            partition(1, &[1, 0]),
            Ok((Some(BrokerId(0)), ids(&[1, 0]))),
        ),
        (
            "lags",
            partition(1, &[1]),
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "new",
            PartitionImage {
                state: None,
                ..partition(1, &[1])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "restarted",
            PartitionImage {
                replicas: ids(&[2, 1]),
                ..partition(1, &[1, 2])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "dead",
            PartitionImage {
                replicas: ids(&[5, 1]),
                ..partition(1, &[1, 5])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
    ] {
        let known = ids(&[0, 1, 2]).into_iter().collect();
        let found = preferred(&now, &known, &of).map(|next| (next.leader, next.isr));
        assert_eq!(found, expected, "{what}");
    }
    let silent = preferred(&now, &BTreeSet::new(), &partition(1, &[1, 0]));
    assert_eq!(silent, Err(NotElected::PreferredNotAvailable));
}

#[test]
fn a_replica_that_cannot_be_used_counts_as_dead() {
    let brokers = [(0, OLD, None), (1, OLD, None), (2, OLD, None)];
    let offline = |offline: &[i32], of: PartitionImage| PartitionImage {
        offline: ids(offline),
        ..of
    };
    for (what, of, expected) in [
        (
            "the leader's",
            offline(&[0], partition(0, &[0, 1])),
            Some((1, vec![1])),
        ),
        (
            "a follower's",
            offline(&[1], partition(0, &[0, 1])),
            Some((0, vec![0])),
        ),
        (
            "one not in sync",
            offline(&[2], partition(0, &[0, 1])),
            None,
        ),
        (
            "the last one",
            offline(&[0], partition(0, &[0])),
            Some((-1, vec![0])),
        ),
        ("it is known", offline(&[0], partition(-1, &[0])), None),
    ] {
        assert_eq!(next(&brokers, false, &of), expected, "{what}");
    }
    let of = offline(&[0], partition(0, &[0]));
    assert_eq!(next(&brokers, true, &of), Some((1, vec![1])), "unclean");
    let of = PartitionImage {
        state: None,
        ..offline(&[0], partition(0, &[]))
    };
    let known = ids(&[0, 1, 2]).into_iter().collect();
    let first = first_state(&image(&brokers), &known, ControllerEpoch(3), &of).unwrap();
    assert_eq!((first.leader, first.isr), (Some(BrokerId(1)), ids(&[1, 2])));
    let of = offline(&[0], partition(1, &[0, 1]));
    assert_eq!(
        preferred(&image(&brokers), &known, &of),
        Err(NotElected::PreferredNotAvailable)
    );
}

#[test]
fn who_departs_hands_over_what_others_have() {
    let now = image(&[(0, OLD, None), (1, OLD, None), (2, NEW, None)]);
    for (what, of, expected) in [
        ("leads", partition(0, &[0, 1]), Some((1, vec![1]))),
        ("follows", partition(1, &[0, 1]), Some((1, vec![1]))),
        ("is not in sync", partition(1, &[1]), None),
        ("is alone", partition(0, &[0]), None),
        ("the other has restarted", partition(0, &[0, 2]), None),
        ("is alone without leading", partition(-1, &[0]), None),
    ] {
        let known = ids(&[0, 1]).into_iter().collect();
        let found = departed(&now, &known, &of, BrokerId(0));
        let found = found.map(|next| {
            assert_eq!(next.leader_epoch, LeaderEpoch(8));
            let isr: Vec<i32> = next.isr.iter().map(|id| id.0).collect();
            (next.leader.unwrap().0, isr)
        });
        assert_eq!(found, expected, "{what}");
    }
    // Of the other one nothing but the registration is known.
    let known = ids(&[0]).into_iter().collect();
    for leader in [0, 1] {
        let found = departed(&now, &known, &partition(leader, &[0, 1]), BrokerId(0));
        assert_eq!(found, None);
    }
}

mod model;
