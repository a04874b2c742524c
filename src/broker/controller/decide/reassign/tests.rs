use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::broker::image::{Reassignment, TopicImage};
use crate::broker::testing::{ids, led, live};
use crate::common::ids::{ControllerEpoch, Zxid};

fn image(alive: &[i32]) -> Image {
    let brokers = ids(alive).into_iter().map(|id| (id, live(id)));
    Image {
        brokers: brokers.collect(),
        controller_epoch: ControllerEpoch(3),
        ..Image::default()
    }
}

fn partition(replicas: &[i32], leader: i32, isr: &[i32]) -> PartitionImage {
    led(replicas, leader, isr, Zxid(40))
}

fn moving(partition: PartitionImage, adding: &[i32], removing: &[i32]) -> PartitionImage {
    PartitionImage {
        adding: ids(adding),
        removing: ids(removing),
        ..partition
    }
}

/// Replicas, added, removed; and the leader (-1 is none) and in-sync set that are written with them.
type Seen = ([Vec<i32>; 3], Option<(i32, Vec<i32>)>);

fn seen((next, state): Step) -> Seen {
    let plain = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
    let state = state.map(|state| (state.leader.map_or(-1, |id| id.0), plain(&state.isr)));
    let lists = [&next.replicas, &next.adding, &next.removing].map(|ids| plain(ids));
    (lists, state)
}

#[test]
fn a_move_adds_first_and_removes_at_the_end() {
    let now = image(&[0, 1, 2, 3]);
    let before = partition(&[0, 1], 0, &[0, 1]);
    let (begun, state) = begin(&now, &before, &ids(&[2, 1]));
    assert_eq!(
        seen((begun.clone(), state)),
        ([vec![2, 1, 0], vec![2], vec![0]], None)
    );
    assert_eq!(step(&now, "t", 0, &begun), None, "2 is not in sync yet");
    let caught_up = PartitionImage {
        state: partition(&[], 0, &[0, 1, 2]).state,
        ..begun.clone()
    };
    let ended = step(&now, "t", 0, &caught_up).map(seen);
    assert_eq!(
        ended,
        Some(([vec![2, 1], vec![], vec![]], Some((2, vec![1, 2]))))
    );
    // A leader that stays goes on.
    let other = PartitionImage {
        state: partition(&[], 1, &[0, 1, 2]).state,
        ..begun
    };
    assert_eq!(
        step(&now, "t", 0, &other).map(seen).unwrap().1,
        Some((1, vec![1, 2]))
    );
    // In sync, and dead.
    assert_eq!(step(&image(&[0, 1]), "t", 0, &caught_up), None);
    // Nothing moves.
    assert_eq!(step(&now, "t", 0, &before), None);
}

#[test]
fn a_move_can_be_replaced_and_cancelled() {
    let now = image(&[0, 1, 2, 3]);
    for (what, of, wanted, expected) in [
        (
            "another target while 2 is empty",
            moving(partition(&[2, 1, 0], 0, &[0, 1]), &[2], &[0]),
            Some(&[3, 1][..]),
            ([vec![3, 1, 0], vec![3], vec![0]], None),
        ),
        (
            "another target while 2 leads",
            moving(partition(&[2, 1, 0], 2, &[0, 1, 2]), &[2], &[0]),
            Some(&[3, 1]),
            ([vec![3, 1, 0], vec![3], vec![0]], Some((1, vec![0, 1]))),
        ),
        (
            "cancelled",
            moving(partition(&[2, 1, 0], 0, &[0, 1]), &[2], &[0]),
            None,
            ([vec![1, 0], vec![], vec![]], None),
        ),
        (
            "cancelled while 2 is in sync",
            moving(partition(&[2, 1, 0], 0, &[0, 1, 2]), &[2], &[0]),
            None,
            ([vec![1, 0], vec![], vec![]], Some((0, vec![0, 1]))),
        ),
        (
            "cancelled while only 2 is in sync: it stays until another is",
            moving(partition(&[2, 1, 0], 2, &[2]), &[2], &[0]),
            None,
            ([vec![1, 0, 2], vec![], vec![2]], None),
        ),
        (
            "cancelled while all others in sync are dead",
            moving(partition(&[2, 1, 9], 2, &[2, 9]), &[2], &[9]),
            None,
            ([vec![1, 9, 2], vec![], vec![2]], None),
        ),
    ] {
        let found = match wanted {
            Some(wanted) => begin(&now, &of, &ids(wanted)),
            None => cancel(&now, &of).unwrap(),
        };
        assert_eq!(seen(found), expected, "{what}");
    }
    assert_eq!(cancel(&now, &partition(&[0, 1], 0, &[0, 1])), None);
}

#[test]
fn bad_targets_are_refused_in_kafkas_words() {
    let now = image(&[0, 1]);
    let of = partition(&[0, 7], 0, &[0]);
    for (wanted, expected) in [
        (
            &[][..],
            Some("Empty replica list specified in partition reassignment."),
        ),
        (
            &[1, 1],
            Some("Duplicate replica ids in partition reassignment replica list: List(1, 1)"),
        ),
        (&[-1], Some("Invalid broker id in replica list: List(-1)")),
        (
            &[1, 8],
            Some(
                "Replica assignment has brokers that are not alive. Replica list: List(1, 8), live broker list: Set(0, 1)",
            ),
        ),
        // Who holds it already may be dead.
        (&[1, 7], None),
    ] {
        assert_eq!(refusal(&now, &of, &ids(wanted)).as_deref(), expected);
    }
}

#[test]
fn wishes_of_the_old_tool_are_begun_and_struck_out() {
    let mut now = image(&[0, 1, 2]);
    let topic = TopicImage {
        name: "t".into(),
        id: uuid::Uuid::from_u128(1),
        partitions: [
            (0, partition(&[0], 0, &[0])),
            (1, moving(partition(&[2, 0], 0, &[0]), &[2], &[0])),
            (2, partition(&[1], 1, &[1])),
        ]
        .into(),
        config: BTreeMap::new(),
        version: 0,
    };
    now.topics.insert("t".into(), Arc::new(topic));
    let wish = |index, replicas: &[i32]| (TopicPartition::new("t", index), ids(replicas));
    now.reassignment = Some(Reassignment {
        partitions: vec![
            wish(0, &[1]),
            wish(1, &[2]),
            wish(2, &[1]),
            wish(3, &[1]),
            wish(2, &[9]),
        ],
        version: 5,
    });
    let step_of = |index| step(&now, "t", index, &now.topics["t"].partitions[&index]).map(seen);
    assert_eq!(step_of(0), Some(([vec![1, 0], vec![1], vec![0]], None)));
    assert_eq!(step_of(1), None, "it is being done");
    assert_eq!(step_of(2), None, "it is done");
    let left = remaining(&now).unwrap();
    assert_eq!(
        (left.partitions, left.version),
        (vec![wish(0, &[1]), wish(1, &[2])], 5)
    );
    let refused: Vec<i32> = left.refused.iter().map(|(id, _)| id.partition).collect();
    assert_eq!(refused, [3, 2]);
    // Nothing to strike out.
    now.reassignment.as_mut().unwrap().partitions.truncate(2);
    assert_eq!(remaining(&now), None);
    // Nothing wanted at all: the znode goes.
    now.reassignment.as_mut().unwrap().partitions.clear();
    assert!(remaining(&now).unwrap().partitions.is_empty());
}
