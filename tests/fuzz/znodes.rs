//! Znodes as strangers write them: the image skips what it cannot read.

use tripod::broker::image::znode;
use tripod::common::ids::{BrokerId, Zxid};

use super::Fuzz;

const SAMPLES: &[&str] = &[
    r#"{"partitions":{"0":[1,2]},"topic_id":"Qk0gQk0gQk0gQk0gQk0gQg","adding_replicas":{},"removing_replicas":{},"version":3}"#,
    r#"{"controller_epoch":1,"leader":2,"version":1,"leader_epoch":2,"isr":[2,3]}"#,
    r#"{"version":1,"config":{"retention.ms":"1"}}"#,
    r#"{"version":1,"brokerid":1,"timestamp":"1600000000000"}"#,
    r#"{"version":1,"broker":1,"block_start":"0","block_end":"999"}"#,
    r#"{"version":1,"partitions":[{"topic":"t1","partition":0}]}"#,
    r#"{"version":"1","id":"AAAAAAAAAAAAAAAAAAAAAA"}"#,
    r#"{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":["PLAINTEXT://h:9092"],"jmx_port":-1,"port":9092,"host":"h","version":5,"timestamp":"1"}"#,
    "12",
];

#[test]
fn malformed_znodes_are_skipped() {
    let fuzz = Fuzz::new("znodes");
    for _ in 0..fuzz.rounds {
        let sample = SAMPLES[fuzz.rng.below(SAMPLES.len() as u64) as usize];
        let mut data = sample.as_bytes().to_vec();
        fuzz.mutate(&mut data);
        let _ = znode::TopicZnode::decode(&data);
        let _ = znode::decode_state(&data, 0);
        let _ = znode::decode_config(&data);
        let _ = znode::decode_controller(&data);
        let _ = znode::decode_controller_epoch(&data);
        let _ = znode::decode_cluster_id(&data);
        let _ = znode::decode_producer_ids(&data);
        let _ = znode::decode_preferred_election(&data);
        let _ = znode::decode_broker(BrokerId(1), &data, Zxid(1));
        let _ = znode::place(&String::from_utf8_lossy(&data));
        let _ = znode::place(&format!(
            "/brokers/topics/{}",
            String::from_utf8_lossy(&fuzz.bytes(20))
        ));
    }
}
