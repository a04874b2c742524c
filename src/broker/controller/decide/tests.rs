use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::broker::testing::{ids, live};
use crate::common::ids::{LeaderEpoch, Zxid};

const ID: Uuid = Uuid::from_u128(5);
const FRESH: Uuid = Uuid::from_u128(9);

fn image(alive: &[i32]) -> Image {
    let mut image = Image {
        controller_epoch: ControllerEpoch(3),
        ..Image::default()
    };
    for id in ids(alive) {
        image.brokers.insert(id, live(id));
    }
    image
}

fn mandate() -> Mandate {
    Mandate {
        epoch: ControllerEpoch(3),
        deletion_enabled: true,
        unclean: false,
        known: ids(&[0, 1, 2]).into_iter().collect(),
        fresh: BTreeSet::new(),
    }
}

fn state(leader: i32, epoch: i32, isr: &[i32]) -> PartitionState {
    PartitionState {
        leader: (leader >= 0).then_some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(epoch),
        isr: isr.iter().copied().map(BrokerId).collect(),
        controller_epoch: ControllerEpoch(2),
        version: 4,
        written: Zxid(40),
    }
}

fn partition(replicas: &[i32], state: Option<PartitionState>) -> PartitionImage {
    PartitionImage {
        replicas: replicas.iter().copied().map(BrokerId).collect(),
        state,
        ..PartitionImage::default()
    }
}

fn t(id: Uuid, partitions: Vec<PartitionImage>) -> TopicImage {
    TopicImage {
        name: "t".into(),
        id,
        partitions: (0..).zip(partitions).collect(),
        config: BTreeMap::new(),
        version: 6,
    }
}

/// One line per write: `+path data`, `=path@version data`, `-path`.
fn lines(units: &[Unit]) -> Vec<String> {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    units
        .iter()
        .map(|unit| {
            let writes = unit.0.iter().map(|write| match write {
                Write::Create { path, data } => match data {
                    Some(data) => format!("+{path} {}", text(data)),
                    None => format!("+{path}"),
                },
                Write::Set {
                    path,
                    data,
                    version,
                } => format!("={path}@{version} {}", text(data)),
                Write::Delete { path, .. } => format!("-{path}"),
            });
            writes.collect::<Vec<_>>().join(" & ")
        })
        .collect()
}

fn decided(image: &Image, mandate: &Mandate, topic: &TopicImage) -> Vec<String> {
    lines(&super::topic(image, mandate, topic, FRESH).units)
}

fn state_write(partition: i32, text: &str) -> String {
    format!("=/brokers/topics/t/partitions/{partition}/state@4 {text}")
}

#[test]
fn a_topic_of_the_old_tool_gets_an_id_and_leaders() {
    let topic = t(
        Uuid::nil(),
        vec![partition(&[1], None), partition(&[0], None)],
    );
    assert_eq!(
        decided(&image(&[0, 1]), &mandate(), &topic),
        [
            "=/brokers/topics/t@6 {\"partitions\":{\"0\":[1],\"1\":[0]},\"topic_id\":\"AAAAAAAAAAAAAAAAAAAACQ\",\"adding_replicas\":{},\"removing_replicas\":{},\"version\":3}",
            "+/brokers/topics/t/partitions & +/brokers/topics/t/partitions/0 & +/brokers/topics/t/partitions/0/state {\"controller_epoch\":3,\"leader\":1,\"version\":1,\"leader_epoch\":0,\"isr\":[1]}",
            "+/brokers/topics/t/partitions/1 & +/brokers/topics/t/partitions/1/state {\"controller_epoch\":3,\"leader\":0,\"version\":1,\"leader_epoch\":0,\"isr\":[0]}",
        ]
    );
}

#[test]
fn new_partitions_are_led_by_who_is_known_to_live() {
    let topic = t(ID, vec![partition(&[0, 1], None)]);
    let planned = |known: &[i32], fresh: &[i32]| {
        let mandate = Mandate {
            known: ids(known).into_iter().collect(),
            fresh: ids(fresh).into_iter().collect(),
            ..mandate()
        };
        let plan = super::topic(&image(&[0, 1]), &mandate, &topic, FRESH);
        (lines(&plan.units).join(" "), plan.waits)
    };
    let led = |leader| {
        let state = format!(
            r#"{{"controller_epoch":3,"leader":{leader},"version":1,"leader_epoch":0,"isr":[0,1]}}"#
        );
        let path = "/brokers/topics/t/partitions";
        (
            format!("+{path} & +{path}/0 & +{path}/0/state {state}"),
            false,
        )
    };
    assert_eq!(planned(&[0, 1], &[]), led(0));
    assert_eq!(planned(&[1], &[]), led(1), "the other is silent");
    assert_eq!(planned(&[], &[]), led(0), "so are both");
    assert_eq!(
        planned(&[1], &[0]),
        (String::new(), true),
        "it came just now"
    );
    assert_eq!(planned(&[0], &[1]), led(0));
}

#[test]
fn growth_writes_the_new_partitions_only() {
    let topic = t(
        ID,
        vec![
            partition(&[0], Some(state(0, 0, &[0]))),
            partition(&[0], None),
        ],
    );
    assert_eq!(
        decided(&image(&[0]), &mandate(), &topic),
        [
            "+/brokers/topics/t/partitions/1 & +/brokers/topics/t/partitions/1/state {\"controller_epoch\":3,\"leader\":0,\"version\":1,\"leader_epoch\":0,\"isr\":[0]}"
        ]
    );
}

#[test]
fn leaders_follow_the_living() {
    let offline = r#"{"controller_epoch":3,"leader":-1,"version":1,"leader_epoch":8,"isr":[0],"tripod_written":40}"#;
    let online = r#"{"controller_epoch":3,"leader":0,"version":1,"leader_epoch":8,"isr":[0]}"#;
    let old = || Some(state(0, 7, &[0]));
    let gone = || Some(state(-1, 7, &[0]));
    for (what, alive, before, expected) in [
        ("all is well", &[0, 1][..], old(), None),
        ("the leader died", &[1], old(), Some(offline)),
        ("the leader is still dead", &[1], gone(), None),
        ("the leader is back", &[0, 1], gone(), Some(online)),
        ("no replica ever lived", &[1], None, None),
        ("not in sync", &[0], Some(state(-1, 7, &[])), None),
    ] {
        let topic = t(ID, vec![partition(&[0], before)]);
        let expected: Vec<String> = expected.iter().map(|text| state_write(0, text)).collect();
        assert_eq!(
            decided(&image(alive), &mandate(), &topic),
            expected,
            "{what}"
        );
    }
}

#[test]
fn deletion_goes_bottom_up_and_ends_with_the_mark() {
    let mut image = image(&[0]);
    image.deleting.insert("t".into());
    let topic = t(
        ID,
        vec![
            partition(&[0], Some(state(0, 0, &[0]))),
            partition(&[9], None),
        ],
    );
    assert_eq!(
        decided(&image, &mandate(), &topic),
        [
            "-/brokers/topics/t/partitions/0/state & -/brokers/topics/t/partitions/0",
            "-/brokers/topics/t/partitions & -/brokers/topics/t & -/config/topics/t & -/admin/delete_topics/t",
        ]
    );
    image.deleting.insert("unknown".into());
    image.topics.insert("t".into(), Arc::new(topic));
    assert_eq!(
        lines(&void_deletions(&image, &mandate())),
        ["-/admin/delete_topics/unknown"]
    );
    let off = Mandate {
        deletion_enabled: false,
        ..mandate()
    };
    assert_eq!(lines(&void_deletions(&image, &off)).len(), 2);
    assert_eq!(decided(&image, &off, &image.topics["t"].clone()).len(), 0);
}

#[test]
fn a_wish_for_preferred_leaders_is_granted_and_ended() {
    let mut now = image(&[0, 1]);
    let moved = partition(&[1, 0], Some(state(0, 1, &[0, 1])));
    let lags = partition(&[1, 0], Some(state(0, 1, &[0])));
    now.topics
        .insert("t".into(), Arc::new(t(ID, vec![moved, lags])));
    let ids = [0, 1, 7].map(|index| TopicPartition::new("t", index));
    now.preferred_election = Some(ids.to_vec());
    assert_eq!(
        lines(&preferred_elections(&now, &mandate().known)),
        [
            state_write(
                0,
                r#"{"controller_epoch":3,"leader":1,"version":1,"leader_epoch":2,"isr":[0,1]}"#
            ),
            "-/admin/preferred_replica_election".to_owned(),
        ]
    );
}

#[test]
fn a_topic_may_allow_unclean_elections_or_forbid_them() {
    let dead = || partition(&[0, 1], Some(state(0, 7, &[0])));
    let now = image(&[1]);
    let offline = r#"{"controller_epoch":3,"leader":-1,"version":1,"leader_epoch":8,"isr":[0],"tripod_written":40}"#;
    let unclean = r#"{"controller_epoch":3,"leader":1,"version":1,"leader_epoch":8,"isr":[1]}"#;
    for (broker, said, expected) in [
        (false, None, offline),
        (true, None, unclean),
        (true, Some("false"), offline),
        (false, Some("true"), unclean),
        (true, Some("nonsense"), unclean),
    ] {
        let mut topic = t(ID, vec![dead()]);
        let said =
            said.map(|text: &str| ("unclean.leader.election.enable".to_owned(), text.to_owned()));
        topic.config.extend(said);
        let mandate = Mandate {
            unclean: broker,
            ..mandate()
        };
        let plan = super::topic(&now, &mandate, &topic, FRESH);
        assert_eq!(lines(&plan.units), [state_write(0, expected)]);
        assert_eq!(plan.unclean.len(), usize::from(expected == unclean));
    }
}

#[test]
fn a_move_ends_with_the_assignment_in_one_write() {
    let mut moving = partition(&[2, 0, 1], Some(state(0, 1, &[0, 1, 2])));
    moving.adding = vec![BrokerId(2)];
    moving.removing = vec![BrokerId(0)];
    let topic = t(ID, vec![moving, partition(&[0], Some(state(0, 1, &[0])))]);
    let decided = decided(&image(&[0, 1, 2]), &mandate(), &topic);
    assert_eq!(
        decided,
        [format!(
            "=/brokers/topics/t@6 {} & {}",
            r#"{"partitions":{"0":[2,1],"1":[0]},"topic_id":"AAAAAAAAAAAAAAAAAAAABQ","adding_replicas":{},"removing_replicas":{},"version":3}"#,
            state_write(
                0,
                r#"{"controller_epoch":3,"leader":2,"version":1,"leader_epoch":2,"isr":[1,2]}"#
            ),
        )]
    );
}
