use super::*;
use crate::common::rng::Rng;

const GOLDEN: &str = include_str!("../../../../tests/golden/znodes-kafka-2.8.tsv");

fn golden(path: &str) -> &'static [u8] {
    let line = GOLDEN
        .lines()
        .find_map(|line| line.split_once('\t').filter(|(at, _)| *at == path));
    line.unwrap_or_else(|| panic!("{path} is not recorded"))
        .1
        .as_bytes()
}

#[test]
fn what_kafka_wrote_is_what_we_would_write() {
    let topic = TopicZnode::decode(golden("/brokers/topics/t1")).unwrap();
    assert_eq!(topic.partitions[&1], [3, 1, 2].map(BrokerId));
    assert_eq!(topic.encode(), golden("/brokers/topics/t1"));
    let moving = TopicZnode::decode(golden("/brokers/topics/t2")).unwrap();
    assert_eq!(moving.adding[&0], [BrokerId(3)]);
    assert_eq!(moving.removing[&0], [BrokerId(2)]);
    assert_eq!(moving.encode(), golden("/brokers/topics/t2"));

    let path = "/brokers/topics/t1/partitions/0/state";
    let state = decode_state(golden(path), 2).unwrap();
    assert_eq!((state.leader, state.version), (Some(BrokerId(2)), 2));
    assert_eq!(state.leader_epoch, LeaderEpoch(2));
    assert_eq!(encode_state(&state), golden(path));

    for path in ["/config/topics/t1", "/config/brokers/<default>"] {
        assert_eq!(
            encode_config(&decode_config(golden(path)).unwrap()),
            golden(path)
        );
    }
    assert_eq!(
        encode_config_change("topics/t1"),
        golden("/config/changes/config_change_0000000000")
    );
    assert_eq!(decode_controller(golden("/controller")), Ok(BrokerId(1)));
    assert_eq!(
        encode_controller(BrokerId(1), 1_795_352_211_614),
        golden("/controller")
    );
    assert_eq!(
        decode_controller_epoch(golden("/controller_epoch")),
        Ok(ControllerEpoch(1))
    );
    let id = decode_cluster_id(golden("/cluster/id")).unwrap();
    assert_eq!(encode_cluster_id(&id), golden("/cluster/id"));
    assert_eq!(encode_feature(), golden("/feature"));
    assert_eq!(
        decode_producer_ids(golden("/latest_producer_id_block")),
        Ok(Some(2999))
    );
    assert_eq!(
        encode_producer_ids(BrokerId(3), 2000, 2999),
        golden("/latest_producer_id_block")
    );
    assert_eq!(
        decode_preferred_election(golden("/admin/preferred_replica_election")),
        Ok(vec![TopicPartition::new("t1", 0)])
    );
}

#[test]
fn brokers_are_read_and_written_as_kafka_does() {
    let data = golden("/brokers/ids/1");
    let broker = decode_broker(BrokerId(1), data, Zxid(7)).unwrap();
    assert_eq!(broker.endpoints["PLAINTEXT"], HostPort::new("node1", 9092));
    assert_eq!(broker.security["PLAINTEXT"], "PLAINTEXT");
    let listener = (
        "PLAINTEXT".to_owned(),
        "PLAINTEXT".to_owned(),
        HostPort::new("node1", 9092),
    );
    assert_eq!(
        encode_broker(
            &[listener],
            None,
            Losses::default(),
            &BTreeMap::new(),
            1_795_352_209_790
        ),
        data
    );
    let offline = BTreeMap::from([("t".to_owned(), BTreeSet::from([0, 3]))]);
    let said = encode_broker(&[], None, Losses::default(), &offline, 5);
    let text = String::from_utf8(said).unwrap();
    assert!(
        text.contains(r#""tripod_offline_replicas":{"t":[0,3]}"#),
        "{text}"
    );
    let old =
        br#"{"version":1,"host":"h","port":9093,"tripod_offline_replicas":{"t":[0,3,"x"],"u":7}}"#;
    assert_eq!(
        decode_broker(BrokerId(0), old, Zxid(1)).unwrap().offline,
        offline
    );
    // Version 1, as ancient brokers wrote it.
    let old = br#"{"version":1,"host":"h","port":9093,"jmx_port":-1}"#;
    let broker = decode_broker(BrokerId(0), old, Zxid(1)).unwrap();
    assert_eq!(broker.endpoints["PLAINTEXT"], HostPort::new("h", 9093));
    // Host and port are empty where no listener is plaintext.
    let tls = [("X".into(), "SSL".into(), HostPort::new("::1", 1))];
    let text = String::from_utf8(encode_broker(
        &tls,
        Some("r1"),
        Losses::default(),
        &BTreeMap::new(),
        5,
    ))
    .unwrap();
    assert!(text.contains(r#""endpoints":["X://[::1]:1"]"#), "{text}");
    assert!(text.contains(r#""port":-1,"host":null"#), "{text}");
    assert!(text.ends_with(r#""rack":"r1"}"#), "{text}");
    let back = decode_broker(BrokerId(0), text.as_bytes(), Zxid(1)).unwrap();
    assert_eq!(back.security["X"], "SSL");
}

#[test]
fn a_topic_of_the_old_tool_has_no_id() {
    let znode = TopicZnode::decode(br#"{"version":2,"partitions":{"0":[1]}}"#).unwrap();
    assert_eq!(znode.id, None);
    assert_eq!(znode.partitions[&0], [BrokerId(1)]);
}

#[test]
fn malformed_payloads_are_refused_by_name() {
    for (data, wrong) in [
        (&b""[..], Malformed::NotAnObject),
        (b"[]", Malformed::NotAnObject),
        (b"{}", Malformed::Field("partitions")),
        (br#"{"partitions":[]}"#, Malformed::Field("partitions")),
        (
            br#"{"partitions":{"-1":[0]}}"#,
            Malformed::Field("partitions"),
        ),
        (
            br#"{"partitions":{"01":[0]}}"#,
            Malformed::Field("partitions"),
        ),
        (
            br#"{"partitions":{"9999999999":[0]}}"#,
            Malformed::Field("partitions"),
        ),
        (
            br#"{"partitions":{"0":[-1]}}"#,
            Malformed::Field("partitions"),
        ),
        (
            br#"{"partitions":{"0":[99999999999]}}"#,
            Malformed::Field("partitions"),
        ),
        (
            br#"{"partitions":{},"topic_id":7}"#,
            Malformed::Field("topic_id"),
        ),
    ] {
        let text = String::from_utf8_lossy(data);
        assert_eq!(TopicZnode::decode(data), Err(wrong), "{text}");
    }
    assert_eq!(
        decode_state(br#"{"leader":1e99,"isr":[]}"#, 0),
        Err(Malformed::Field("leader"))
    );
    assert_eq!(decode_controller_epoch(b"-1").ok(), None);
    assert_eq!(decode_config(b""), Ok(BTreeMap::new()));
}

#[test]
fn places_have_one_path_each() {
    for path in [
        "/brokers/ids/0",
        "/brokers/topics/t",
        "/brokers/topics/t/partitions/10/state",
        "/config/topics/t",
        "/config/brokers/<default>",
        "/config/brokers/3",
        "/admin/delete_topics/t",
        "/admin/preferred_replica_election",
        "/admin/reassign_partitions",
        "/controller",
        "/controller_epoch",
    ] {
        assert_eq!(place(path).map(|place| place.path()).as_deref(), Some(path));
    }
    for path in [
        "",
        "/",
        "controller",
        "/controller/x",
        "/brokers/ids",
        "/brokers/ids/01",
        "/brokers/ids/-1",
        "/brokers/ids/99999999999",
        "/brokers/topics/a b",
        "/brokers/topics/t/partitions",
        "/brokers/topics/t/partitions/0",
        "/brokers/topics/t/partitions/0/state/x",
        "/brokers/topics/t/partitions/+1/state",
        "/config/brokers/0/x",
        "/config/users/u",
    ] {
        assert_eq!(place(path), None, "{path}");
    }
}

/// Bytes of any kind, and recorded payloads with a few bytes changed, never make a reader panic.
#[test]
fn any_bytes_in_any_znode_are_survived() {
    let rng = Rng::from_seed(20_260_101);
    let recorded: Vec<&[u8]> = GOLDEN
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once('\t')?.1.as_bytes()))
        .collect();
    for round in 0..20_000u64 {
        let mut data = if round % 4 == 0 {
            let mut bytes = vec![0; usize::try_from(rng.below(64)).unwrap()];
            rng.fill(&mut bytes);
            bytes
        } else {
            let at = usize::try_from(rng.below(recorded.len() as u64)).unwrap();
            recorded[at].to_vec()
        };
        for _ in 0..rng.below(4) {
            if !data.is_empty() {
                let at = usize::try_from(rng.below(data.len() as u64)).unwrap();
                let alphabet = b"0123456789-{}[]\",:.eE\0\xff";
                data[at] = alphabet[usize::try_from(rng.below(alphabet.len() as u64)).unwrap()];
            }
        }
        let _ = TopicZnode::decode(&data).map(|znode| znode.encode());
        let _ = decode_state(&data, 0).map(|state| encode_state(&state));
        let _ = decode_config(&data).map(|config| encode_config(&config));
        let _ = decode_broker(BrokerId(0), &data, Zxid(0));
        let _ = decode_controller(&data);
        let _ = decode_controller_epoch(&data);
        let _ = decode_cluster_id(&data);
        let _ = decode_producer_ids(&data);
        let _ = decode_preferred_election(&data);
        let _ = place(&String::from_utf8_lossy(&data));
    }
    // Deep nesting ends in an error, not in a full stack.
    let deep = "[".repeat(100_000);
    assert!(TopicZnode::decode(deep.as_bytes()).is_err());
}
