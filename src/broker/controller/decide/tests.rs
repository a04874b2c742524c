use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::broker::image::BrokerImage;

const ID: Uuid = Uuid::from_u128(5);
const FRESH: Uuid = Uuid::from_u128(9);

fn image(alive: &[i32]) -> Image {
    let mut image = Image {
        controller_epoch: ControllerEpoch(3),
        ..Image::default()
    };
    for id in alive {
        let broker = BrokerImage {
            id: BrokerId(*id),
            epoch: Zxid(1),
            endpoints: BTreeMap::new(),
            security: BTreeMap::new(),
            rack: None,
        };
        image.brokers.insert(BrokerId(*id), broker);
    }
    image
}

fn mandate() -> Mandate {
    Mandate {
        epoch: ControllerEpoch(3),
        restarted: BTreeSet::new(),
        deletion_enabled: true,
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
    lines(&super::topic(image, mandate, topic, FRESH))
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
    let offline = r#"{"controller_epoch":3,"leader":-1,"version":1,"leader_epoch":8,"isr":[0]}"#;
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
fn a_leader_that_restarted_unseen_leads_under_a_new_epoch() {
    let mut mandate = mandate();
    mandate.restarted.insert(BrokerId(0));
    let topic = t(ID, vec![partition(&[0], Some(state(0, 7, &[0])))]);
    assert_eq!(
        decided(&image(&[0]), &mandate, &topic),
        [state_write(
            0,
            r#"{"controller_epoch":3,"leader":0,"version":1,"leader_epoch":8,"isr":[0]}"#
        )]
    );
}

#[test]
fn several_replicas_stay_offline_until_there_is_replication() {
    let topic = t(
        ID,
        vec![
            partition(&[0, 1], None),
            partition(&[0, 1], Some(state(0, 7, &[0, 1]))),
            partition(&[0, 1], Some(state(-1, 7, &[0, 1]))),
        ],
    );
    assert_eq!(
        decided(&image(&[0, 1]), &mandate(), &topic),
        [state_write(
            1,
            r#"{"controller_epoch":3,"leader":-1,"version":1,"leader_epoch":8,"isr":[0,1]}"#
        )]
    );
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
fn preferred_leaders_are_elected_where_that_changes_something() {
    let now = image(&[0, 1]);
    for (what, partition, expected) in [
        (
            "leads",
            partition(&[0], Some(state(0, 1, &[0]))),
            Err(NotElected::NotNeeded),
        ),
        (
            "moved",
            partition(&[1], Some(state(0, 1, &[0, 1]))),
            Ok((Some(BrokerId(1)), 2)),
        ),
        (
            "dead",
            partition(&[5], Some(state(0, 1, &[5]))),
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "lags",
            partition(&[1], Some(state(0, 1, &[0]))),
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "new",
            partition(&[1], None),
            Err(NotElected::PreferredNotAvailable),
        ),
    ] {
        let found = preferred(&now, &partition).map(|(_, next)| (next.leader, next.leader_epoch.0));
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(
        unclean(&partition(&[0], Some(state(0, 1, &[0])))),
        NotElected::NotNeeded
    );
    assert_eq!(
        unclean(&partition(&[0], Some(state(-1, 1, &[0])))),
        NotElected::NoEligible
    );
}
