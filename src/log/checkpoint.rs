//! The small text files next to the logs: offsets by partition, `meta.properties`,
//! `partition.metadata`. Only text here; [`super::dir`] reads and writes the files.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::dir::Identity;
use crate::common::ids::{
    BrokerId, Offset, TopicPartition, kafka_uuid_parse, kafka_uuid_text, valid_topic_name,
};

/// Offsets up to which data is on stable storage.
pub(super) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// High watermarks.
pub(super) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// First offsets of logs that lost records to deletion.
pub(super) const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// How far Kafka's cleaner came; kept as it is, made empty when missing, as Kafka does.
pub(super) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Whose directory this is.
pub(super) const META_PROPERTIES: &str = "meta.properties";
/// A partition directory's file with the topic's id.
pub(super) const PARTITION_METADATA: &str = "partition.metadata";

/// A checkpoint's content.
pub(super) type Offsets = BTreeMap<TopicPartition, Offset>;

/// Writes a checkpoint.
pub(super) fn encode_offsets(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (id, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", id.topic, id.partition);
    }
    text
}

/// Reads a checkpoint; `None` when it is damaged. Kafka makes empty files, and reads them as empty.
pub(super) fn decode_offsets(text: &str) -> Option<Offsets> {
    if text.is_empty() {
        return Some(Offsets::new());
    }
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut offsets = Offsets::new();
    for line in lines.by_ref().take(count) {
        let mut words = line.split(' ');
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || valid_topic_name(topic).is_err() {
            return None;
        }
        let partition: i32 = partition.parse().ok().filter(|index| *index >= 0)?;
        let offset: i64 = offset.parse().ok().filter(|offset| *offset >= 0)?;
        offsets.insert(TopicPartition::new(topic, partition), Offset(offset));
    }
    (offsets.len() == count && lines.next().is_none()).then_some(offsets)
}

/// Writes `meta.properties` in version 0, as Kafka 2.8 with ZooKeeper does.
pub(super) fn encode_identity(identity: &Identity) -> String {
    format!(
        "#\n#tripod\nbroker.id={}\nversion=0\ncluster.id={}\n",
        identity.broker_id, identity.cluster_id
    )
}

/// Reads `meta.properties`, or says what is wrong with it.
pub(super) fn decode_identity(text: &str) -> Result<Identity, String> {
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        if let Some((key, value)) = line.split_once(['=', ':']) {
            values.insert(key.trim(), value.trim());
        }
    }
    let version = values.get("version").copied();
    if version != Some("0") {
        return Err(format!(
            "version is {}, only 0 (Kafka with ZooKeeper) is supported",
            version.map_or("missing".to_owned(), |version| format!("{version:?}"))
        ));
    }
    let broker_id = values.get("broker.id").ok_or("broker.id is missing")?;
    let broker_id = broker_id
        .parse()
        .map_err(|_| format!("broker.id is {broker_id:?}, not a number"))?;
    let cluster_id = values.get("cluster.id").ok_or("cluster.id is missing")?;
    Ok(Identity {
        broker_id: BrokerId(broker_id),
        cluster_id: (*cluster_id).to_owned(),
    })
}

/// Writes `partition.metadata`.
pub(super) fn encode_topic_id(topic_id: uuid::Uuid) -> String {
    format!("version: 0\ntopic_id: {}", kafka_uuid_text(topic_id))
}

/// Reads `partition.metadata`; `None` when it is damaged.
pub(super) fn decode_topic_id(text: &str) -> Option<uuid::Uuid> {
    let mut lines = text.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    kafka_uuid_parse(lines.next()?.strip_prefix("topic_id: ")?.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_back_and_damage_is_seen() {
        let mut offsets = Offsets::new();
        offsets.insert(TopicPartition::new("b", 10), Offset(7));
        offsets.insert(TopicPartition::new("a.x", 0), Offset(i64::MAX));
        let text = encode_offsets(&offsets);
        assert_eq!(text, format!("0\n2\na.x 0 {}\nb 10 7\n", i64::MAX));
        assert_eq!(decode_offsets(&text), Some(offsets));
        for bad in [
            "0",
            "1\n0\n",
            "0\n1\n",
            "0\n1\na 0\n",
            "0\n1\na 0 1 2\n",
            "0\n1\na/b 0 1\n",
            "0\n1\na -1 1\n",
            "0\n1\na 0 -1\n",
            "0\n0\na 0 1\n",
            "0\nx\n",
            "\u{0}\u{0}",
        ] {
            assert_eq!(decode_offsets(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn identities_read_back() {
        let ours = Identity {
            broker_id: BrokerId(2),
            cluster_id: "oLG0M4tcQ0u5Wn6KEHbvZg".into(),
        };
        assert_eq!(decode_identity(&encode_identity(&ours)), Ok(ours.clone()));
        // As a genuine 2.8.0 broker wrote it.
        let kafkas = "#\n#Sun Nov 22 15:00:00 UTC 2026\nbroker.id=2\nversion=0\ncluster.id=oLG0M4tcQ0u5Wn6KEHbvZg\n";
        assert_eq!(decode_identity(kafkas), Ok(ours));
        for bad in [
            "",
            "version=1\nnode.id=1\n",
            "version=0\nbroker.id=x\ncluster.id=y\n",
            "version=0\nbroker.id=1\n",
        ] {
            assert!(decode_identity(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn topic_ids_read_back() {
        let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let text = encode_topic_id(id);
        assert_eq!(text.len(), 43);
        assert_eq!(decode_topic_id(&text), Some(id));
        assert_eq!(
            decode_topic_id("version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"),
            None
        );
        assert_eq!(decode_topic_id("version: 0\ntopic_id: x"), None);
    }
}
