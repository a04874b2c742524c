//! What groups write to `__consumer_offsets`, in Kafka's own format, so that its tools read ours and a
//! broker reads what another one wrote.
//!
//! Keys: version 0 or 1 is a committed offset, 2 is a group. Values: offsets are written as version 3 (1
//! where they carry an expiry), groups as version 3; all versions up to 4 are read. A null value deletes.
//! Pure; reading never trusts a length. See `OffsetCommitValue.json` and `GroupMetadataValue.json` of Kafka.

use std::str;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::common::ids::{LeaderEpoch, TopicPartition};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE: i16 = 3;
/// From this version on, values are in the flexible encoding (compact lengths, tagged fields).
const FLEXIBLE_VALUE: i16 = 4;

/// The longest string that fits into these records.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Bytes that are not such a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the value does.
    #[error("the record ends early, at byte {0}")]
    Short(usize),
    /// A length or count that cannot be.
    #[error("length {0} is impossible")]
    Length(i64),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
    /// A version of the key or the value that is not known here.
    #[error("version {0} is unknown")]
    Version(i16),
}

/// A string that does not fit into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a string or a list is too long for a record")]
pub struct TooLong;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The offset that a group committed for a partition.
    Offset(Arc<str>, TopicPartition),
    /// A group's members and generation.
    Group(Arc<str>),
    /// A kind of record that later brokers write (KIP-848, KIP-932); not ours to judge.
    Other(i16),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The epoch of the record before it, where the client knew it.
    pub leader_epoch: LeaderEpoch,
    /// The client's own words.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it lapses, where an old client asked for that.
    pub expire_timestamp_ms: Option<i64>,
}

/// A group as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty for none.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol of this generation.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Option<Arc<str>>,
    /// When the group became what it is.
    pub current_state_timestamp_ms: Option<i64>,
    /// Everybody.
    pub members: Vec<MemberMetadata>,
}

/// A member as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id`
    pub instance_id: Option<Arc<str>>,
    /// The client's name.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// `rebalance.timeout.ms`
    pub rebalance_timeout_ms: i32,
    /// `session.timeout.ms`
    pub session_timeout_ms: i32,
    /// Its metadata for the group's protocol.
    pub subscription: Bytes,
    /// What it was given.
    pub assignment: Bytes,
}

impl Key {
    /// The key's bytes.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        let mut out = BytesMut::new();
        match self {
            Key::Offset(group, partition) => {
                out.put_i16(OFFSET_KEY);
                put_string(&mut out, group)?;
                put_string(&mut out, &partition.topic)?;
                out.put_i32(partition.partition);
            }
            Key::Group(group) => {
                out.put_i16(GROUP_KEY);
                put_string(&mut out, group)?;
            }
            Key::Other(version) => out.put_i16(*version),
        }
        Ok(out.freeze())
    }

    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<Key, Malformed> {
        let mut from = Reader::new(bytes);
        match from.i16()? {
            0 | OFFSET_KEY => {
                let group = from.string()?;
                let topic = from.string()?;
                Ok(Key::Offset(group, TopicPartition::new(topic, from.i32()?)))
            }
            GROUP_KEY => Ok(Key::Group(from.string()?)),
            version if version > GROUP_KEY => Ok(Key::Other(version)),
            version => Err(Malformed::Version(version)),
        }
    }
}

impl CommittedOffset {
    /// The value's bytes.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        let mut out = BytesMut::new();
        // Only version 1 can say when an offset lapses; Kafka gives up the leader epoch for it, too.
        if let Some(expire_timestamp_ms) = self.expire_timestamp_ms {
            out.put_i16(OFFSET_VALUE_WITH_EXPIRY);
            out.put_i64(self.offset);
            put_string(&mut out, &self.metadata)?;
            out.put_i64(self.commit_timestamp_ms);
            out.put_i64(expire_timestamp_ms);
        } else {
            out.put_i16(OFFSET_VALUE);
            out.put_i64(self.offset);
            out.put_i32(self.leader_epoch.0);
            put_string(&mut out, &self.metadata)?;
            out.put_i64(self.commit_timestamp_ms);
        }
        Ok(out.freeze())
    }

    /// Reads a value of any version.
    pub fn decode(bytes: &[u8]) -> Result<CommittedOffset, Malformed> {
        let mut from = Reader::new(bytes);
        let version = from.i16()?;
        if !(0..=FLEXIBLE_VALUE).contains(&version) {
            return Err(Malformed::Version(version));
        }
        from.flexible = version >= FLEXIBLE_VALUE;
        let offset = from.i64()?;
        let leader_epoch = LeaderEpoch(if version >= 3 { from.i32()? } else { -1 });
        let metadata = from.string()?;
        let commit_timestamp_ms = from.i64()?;
        let expires = if version == OFFSET_VALUE_WITH_EXPIRY {
            Some(from.i64()?).filter(|at| *at >= 0)
        } else {
            None
        };
        Ok(CommittedOffset {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: expires,
        })
    }
}

impl GroupMetadata {
    /// The value's bytes.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        let mut out = BytesMut::new();
        out.put_i16(GROUP_VALUE);
        put_string(&mut out, &self.protocol_type)?;
        out.put_i32(self.generation);
        put_nullable(&mut out, self.protocol.as_deref())?;
        put_nullable(&mut out, self.leader.as_deref())?;
        out.put_i64(self.current_state_timestamp_ms.unwrap_or(-1));
        out.put_i32(i32::try_from(self.members.len()).map_err(|_| TooLong)?);
        for member in &self.members {
            put_string(&mut out, &member.member_id)?;
            put_nullable(&mut out, member.instance_id.as_deref())?;
            put_string(&mut out, &member.client_id)?;
            put_string(&mut out, &member.client_host)?;
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription)?;
            put_bytes(&mut out, &member.assignment)?;
        }
        Ok(out.freeze())
    }

    /// Reads a value of any version.
    pub fn decode(bytes: &[u8]) -> Result<GroupMetadata, Malformed> {
        let mut from = Reader::new(bytes);
        let version = from.i16()?;
        if !(0..=FLEXIBLE_VALUE).contains(&version) {
            return Err(Malformed::Version(version));
        }
        from.flexible = version >= FLEXIBLE_VALUE;
        let mut group = GroupMetadata {
            protocol_type: from.string()?,
            generation: from.i32()?,
            protocol: from.nullable()?,
            leader: from.nullable()?,
            ..GroupMetadata::default()
        };
        if version >= 2 {
            group.current_state_timestamp_ms = Some(from.i64()?).filter(|at| *at >= 0);
        }
        // Grows with the bytes that are read, never with the count that is claimed.
        for _ in 0..from.count()? {
            group.members.push(from.member(version)?);
        }
        Ok(group)
    }
}

fn put_string(out: &mut BytesMut, text: &str) -> Result<(), TooLong> {
    out.put_i16(i16::try_from(text.len()).map_err(|_| TooLong)?);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) -> Result<(), TooLong> {
    match text {
        Some(text) => put_string(out, text),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), TooLong> {
    out.put_i32(i32::try_from(bytes.len()).map_err(|_| TooLong)?);
    out.put_slice(bytes);
    Ok(())
}

/// Reads primitives, each checked against the bytes that are there.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            bytes,
            position: 0,
            flexible: false,
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..len).ok_or(Malformed::Short(self.bytes.len()))?;
        self.position += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value)
                    .map_err(|_| Malformed::Length(i64::try_from(value).unwrap_or(i64::MAX)));
            }
        }
        Err(Malformed::Length(i64::MAX))
    }

    /// A length or a count: none for null.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, Malformed> {
        let length = if self.flexible {
            i64::from(self.varint()?) - 1
        } else if wide {
            i64::from(self.i32()?)
        } else {
            i64::from(self.i16()?)
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length)
                .map(Some)
                .map_err(|_| Malformed::Length(length)),
        }
    }

    fn nullable(&mut self) -> Result<Option<Arc<str>>, Malformed> {
        let Some(len) = self.length(false)? else {
            return Ok(None);
        };
        let text = str::from_utf8(self.take(len)?).map_err(|_| Malformed::Text)?;
        Ok(Some(Arc::from(text)))
    }

    fn string(&mut self) -> Result<Arc<str>, Malformed> {
        self.nullable()?.ok_or(Malformed::Length(-1))
    }

    fn blob(&mut self) -> Result<Bytes, Malformed> {
        let len = self.length(true)?.ok_or(Malformed::Length(-1))?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        self.length(true)?.ok_or(Malformed::Length(-1))
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }

    fn member(&mut self, version: i16) -> Result<MemberMetadata, Malformed> {
        let member_id = self.string()?;
        let instance_id = if version >= 3 { self.nullable()? } else { None };
        let client_id = self.string()?;
        let client_host = self.string()?;
        let rebalance_timeout_ms = if version >= 1 {
            Some(self.i32()?)
        } else {
            None
        };
        let session_timeout_ms = self.i32()?;
        let member = MemberMetadata {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: self.blob()?,
            assignment: self.blob()?,
        };
        if self.flexible {
            self.tags()?;
        }
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// Recorded from `__consumer_offsets-43` of Apache Kafka 2.8.0 after its console consumer had read a
    /// topic of two partitions as a static member of the group "golden", and had gone.
    const GROUP_KEY_BYTES: &str = "00020006676f6c64656e";
    const STABLE: &str = "00030008636f6e73756d657200000001000572616e67650029696e73742d30353464303861392d34333737\
        2d343637372d393832312d333065396565353838376434000001a204069737000000010029696e73742d30\
        353464303861392d343337372d343637372d393832312d3330653965653538383764340004696e73740014\
        636f6e73756d65722d676f6c64656e2d696e7374000a2f3132372e302e302e31000493e000002710000000\
        11000100000001000174ffffffff0000000000000019000100000001000174000000020000000000000001\
        ffffffff";
    const EMPTY: &str = "00030008636f6e73756d657200000002ffffffff000001a20406bfb100000000";
    const OFFSET_KEY_BYTES: &str = "00010006676f6c64656e00017400000001";
    const OFFSET: &str = "00030000000000000005000000000000000001a204069898";
    const NO_EPOCH: &str = "00030000000000000000ffffffff0000000001a204069898";

    fn stable() -> GroupMetadata {
        let id: Arc<str> = "inst-054d08a9-4377-4677-9821-30e9ee5887d4".into();
        GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 1,
            protocol: Some("range".into()),
            leader: Some(id.clone()),
            current_state_timestamp_ms: Some(1_795_363_870_519),
            members: vec![MemberMetadata {
                member_id: id,
                instance_id: Some("inst".into()),
                client_id: "consumer-golden-inst".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 10_000,
                subscription: hex("000100000001000174ffffffff00000000"),
                assignment: hex("000100000001000174000000020000000000000001ffffffff"),
            }],
        }
    }

    fn offset() -> CommittedOffset {
        CommittedOffset {
            offset: 5,
            leader_epoch: LeaderEpoch(0),
            metadata: "".into(),
            commit_timestamp_ms: 1_795_363_870_872,
            expire_timestamp_ms: None,
        }
    }

    #[test]
    fn what_kafka_wrote_is_what_we_write() {
        let group = Key::Group("golden".into());
        assert_eq!(group.encode(), Ok(hex(GROUP_KEY_BYTES)));
        assert_eq!(Key::decode(&hex(GROUP_KEY_BYTES)), Ok(group));
        assert_eq!(GroupMetadata::decode(&hex(STABLE)), Ok(stable()));
        assert_eq!(stable().encode(), Ok(hex(STABLE)));
        let empty = GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 2,
            current_state_timestamp_ms: Some(1_795_363_880_881),
            ..GroupMetadata::default()
        };
        assert_eq!(GroupMetadata::decode(&hex(EMPTY)), Ok(empty.clone()));
        assert_eq!(empty.encode(), Ok(hex(EMPTY)));
        let key = Key::Offset("golden".into(), TopicPartition::new("t", 1));
        assert_eq!(key.encode(), Ok(hex(OFFSET_KEY_BYTES)));
        assert_eq!(Key::decode(&hex(OFFSET_KEY_BYTES)), Ok(key));
        assert_eq!(CommittedOffset::decode(&hex(OFFSET)), Ok(offset()));
        assert_eq!(offset().encode(), Ok(hex(OFFSET)));
        let no_epoch = CommittedOffset {
            offset: 0,
            leader_epoch: LeaderEpoch::NONE,
            ..offset()
        };
        assert_eq!(no_epoch.encode(), Ok(hex(NO_EPOCH)));
    }

    /// By Kafka's message definitions.
    #[test]
    fn other_versions_are_read() {
        let base = "0000000000000005";
        let (metadata, at) = ("0000", "000001a204069898");
        let none = CommittedOffset {
            leader_epoch: LeaderEpoch::NONE,
            ..offset()
        };
        let expires = CommittedOffset {
            expire_timestamp_ms: Some(7),
            ..none.clone()
        };
        let later = "0000000000000007";
        let never = "ffffffffffffffff";
        let table = [
            (format!("0000{base}{metadata}{at}"), &none),
            (format!("0001{base}{metadata}{at}{later}"), &expires),
            (format!("0001{base}{metadata}{at}{never}"), &none),
            (format!("0002{base}{metadata}{at}"), &none),
            (format!("0004{base}0000000001{at}00"), &offset()),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                CommittedOffset::decode(&hex(&bytes)).as_ref(),
                Ok(expected),
                "{bytes}"
            );
        }
        assert_eq!(
            expires.encode().map(|bytes| bytes.len()),
            Ok(2 + 8 + 2 + 8 + 8)
        );

        let member = MemberMetadata {
            member_id: "m".into(),
            client_id: "c".into(),
            client_host: "h".into(),
            rebalance_timeout_ms: 9,
            session_timeout_ms: 9,
            subscription: hex("01"),
            assignment: hex("02"),
            ..MemberMetadata::default()
        };
        let group = |at| GroupMetadata {
            protocol_type: "k".into(),
            generation: 1,
            protocol: Some("p".into()),
            leader: Some("m".into()),
            current_state_timestamp_ms: at,
            members: vec![member.clone()],
        };
        let head = "00016b00000001000170 00016d";
        let who = "00016d 000163 000168";
        let blobs = "0000000101 0000000102";
        let table = [
            (format!("0000{head} 00000001 {who} 00000009 {blobs}"), group(None)),
            (format!("0001{head} 00000001 {who} 00000009 00000009 {blobs}"), group(None)),
            (format!("0002{head} 0000000000000005 00000001 {who} 00000009 00000009 {blobs}"), group(Some(5))),
            (
                "0004 026b 00000001 0270 026d 0000000000000005 02 026d 00 0263 0268 00000009 00000009 0201 0202 00 00"
                    .to_owned(),
                group(Some(5)),
            ),
        ];
        for (bytes, expected) in table {
            let found = GroupMetadata::decode(&hex(&bytes.replace(' ', "")));
            assert_eq!(found, Ok(expected), "{bytes}");
        }
        assert_eq!(Key::decode(&hex("0003000167")), Ok(Key::Other(3)));
        let old = Key::Offset("g".into(), TopicPartition::new("t", 2));
        assert_eq!(Key::decode(&hex("000000016700017400000002")), Ok(old));
    }

    #[test]
    fn damaged_records_are_refused_whatever_is_wrong() {
        for whole in [STABLE, EMPTY, OFFSET] {
            let whole = hex(whole);
            for end in 0..whole.len() {
                let part = &whole[..end];
                if whole.len() == hex(OFFSET).len() {
                    assert!(CommittedOffset::decode(part).is_err());
                } else {
                    assert!(GroupMetadata::decode(part).is_err(), "{end}");
                }
            }
        }
        let rng = crate::common::rng::Rng::from_seed(7);
        for _ in 0..20_000 {
            let mut bytes = hex(STABLE).to_vec();
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            bytes[1] = rng.below(6) as u8;
            let _ = GroupMetadata::decode(&bytes);
            let _ = CommittedOffset::decode(&bytes);
            let _ = Key::decode(&bytes);
        }
        assert_eq!(Key::decode(&hex("ffff")), Err(Malformed::Version(-1)));
        assert_eq!(
            CommittedOffset::decode(&hex("0005")),
            Err(Malformed::Version(5))
        );
        assert!(
            Key::Group("x".repeat(40_000).as_str().into())
                .encode()
                .is_err()
        );
    }
}
