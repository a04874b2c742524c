//! Newtypes for the integers that must not be confused with one another.
//!
//! Bare integers live in wire structs only; each type here has just the arithmetic that makes sense.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

integer_id!(
    /// A Kafka broker's id (`broker.id`).
    BrokerId,
    i32
);
integer_id!(
    /// The position of a record in its partition.
    Offset,
    i64
);
integer_id!(
    /// Counts the leaders that a partition has had (KIP-101).
    LeaderEpoch,
    i32
);
integer_id!(
    /// Counts the controllers that a cluster has had (`/controller_epoch`).
    ControllerEpoch,
    i32
);
integer_id!(
    /// Names an idempotent or transactional producer (KIP-98).
    ProducerId,
    i64
);
integer_id!(
    /// Fences older instances of one producer (KIP-98).
    ProducerEpoch,
    i16
);
integer_id!(
    /// ZooKeeper transaction id: epoch in the high half, counter in the low half.
    Zxid,
    i64
);
integer_id!(
    /// A ZooKeeper session.
    SessionId,
    i64
);
integer_id!(
    /// A member of the coordinator ensemble: `N` of `server.N` and the text in `myid`.
    MemberId,
    u64
);

impl Add<i64> for Offset {
    type Output = Offset;
    fn add(self, records: i64) -> Offset {
        Offset(self.0 + records)
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, other: Offset) -> i64 {
        self.0 - other.0
    }
}

impl ProducerId {
    /// What a producer without idempotence puts into its batches.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl LeaderEpoch {
    /// "Unknown" or "not asked" on the wire.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name; checked with [`valid_topic_name`] wherever it comes from outside.
    pub topic: Arc<str>,
    /// The partition's index within the topic.
    pub partition: i32,
}

impl TopicPartition {
    /// Joins a topic's name and a partition index.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

/// Prints `topic-partition`, the name of the partition's directory.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The longest legal topic name, in characters.
pub const TOPIC_NAME_MAX: usize = 249;

/// Why a topic name is refused, in Kafka's own words (`org.apache.kafka.common.internals.Topic`).
pub fn valid_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is illegal, it can't be empty".into());
    }
    if name == "." || name == ".." {
        return Err("Topic name cannot be \".\" or \"..\"".into());
    }
    if name.len() > TOPIC_NAME_MAX {
        return Err(format!(
            "Topic name is illegal, it can't be longer than {TOPIC_NAME_MAX} characters, topic name: {name}"
        ));
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err(format!(
            "Topic name \"{name}\" is illegal, it contains a character other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Prints a 16-byte id as Kafka does: 22 characters of URL-safe base64 without padding.
pub fn kafka_uuid_text(id: uuid::Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = id.as_u128();
    let mut text = String::with_capacity(22);
    // 128 bits, padded with four zero bits at the right end to make 22 groups of six.
    for group in 0..22u32 {
        let six = if group == 21 {
            (value << 4) & 0x3f
        } else {
            (value >> (122 - 6 * group)) & 0x3f
        };
        text.push(char::from(ALPHABET[six as usize]));
    }
    text
}

/// Reads what [`kafka_uuid_text`] prints.
pub fn kafka_uuid_parse(text: &str) -> Option<uuid::Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut value: u128 = 0;
    for (group, byte) in text.bytes().enumerate() {
        let six = u128::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        });
        value = if group == 21 {
            (value << 2) | (six >> 4)
        } else {
            (value << 6) | six
        };
    }
    Some(uuid::Uuid::from_u128(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_uuids_read_back() {
        for value in [
            0u128,
            1,
            u128::MAX,
            0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        ] {
            let id = uuid::Uuid::from_u128(value);
            let text = kafka_uuid_text(id);
            assert_eq!(text.len(), 22);
            assert_eq!(kafka_uuid_parse(&text), Some(id));
        }
        // A value printed by Kafka: Uuid.METADATA_TOPIC_ID is new Uuid(0, 1).
        assert_eq!(
            kafka_uuid_text(uuid::Uuid::from_u128(1)),
            "AAAAAAAAAAAAAAAAAAAAAQ"
        );
        assert_eq!(kafka_uuid_parse("AAAAAAAAAAAAAAAAAAAAA!"), None);
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in [
            "a",
            "test",
            "__consumer_offsets",
            "A.b-C_9",
            &"x".repeat(249),
        ] {
            assert_eq!(valid_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\n", &"x".repeat(250)] {
            assert!(valid_topic_name(bad).is_err(), "{bad}");
        }
    }
}
