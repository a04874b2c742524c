//! The consumer protocol: what members of a group say of themselves in JoinGroup, and what the leader
//! tells them in SyncGroup. Kafka's brokers do not look inside; other members do.
//!
//! Both blobs come from strangers: every length is checked against the bytes that are there.

use std::str;

use bytes::{BufMut, Bytes, BytesMut};

use crate::common::ids::TopicPartition;

/// Why a blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// It ends too early, or a length in it is impossible.
    #[error("the consumer protocol's blob does not hold what it announces")]
    Malformed,
    /// It has a version below zero.
    #[error("version {0} of the consumer protocol is impossible")]
    Version(i16),
}

/// What a member brings to a rebalance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it reads.
    pub topics: Vec<String>,
    /// The assignor's own business.
    pub user_data: Option<Bytes>,
    /// What it still reads (cooperative assignors; version 1).
    pub owned: Vec<TopicPartition>,
}

/// What a member gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its partitions.
    pub partitions: Vec<TopicPartition>,
    /// The assignor's own business.
    pub user_data: Option<Bytes>,
}

/// The version that Kafka 2.8's consumers write; later ones only add to it.
const VERSION: i16 = 1;

impl Subscription {
    /// The blob, in version 1.
    pub fn encode(&self) -> Bytes {
        let mut blob = BytesMut::new();
        blob.put_i16(VERSION);
        put_count(&mut blob, self.topics.len());
        for topic in &self.topics {
            put_string(&mut blob, topic);
        }
        put_bytes(&mut blob, self.user_data.as_ref());
        put_partitions(&mut blob, &self.owned);
        blob.freeze()
    }

    /// Reads a blob of any version.
    pub fn decode(blob: &Bytes) -> Result<Subscription, SubscriptionError> {
        let mut reader = Reader { rest: blob.clone() };
        let version = reader.version()?;
        let count = reader.count(2)?;
        let mut topics = Vec::new();
        for _ in 0..count {
            topics.push(reader.string()?);
        }
        let user_data = reader.bytes()?;
        let owned = if version >= 1 {
            reader.partitions()?
        } else {
            Vec::new()
        };
        Ok(Subscription {
            topics,
            user_data,
            owned,
        })
    }
}

impl Assignment {
    /// The blob, in version 1.
    pub fn encode(&self) -> Bytes {
        let mut blob = BytesMut::new();
        blob.put_i16(VERSION);
        put_partitions(&mut blob, &self.partitions);
        put_bytes(&mut blob, self.user_data.as_ref());
        blob.freeze()
    }

    /// Reads a blob of any version; an empty one is an empty assignment.
    pub fn decode(blob: &Bytes) -> Result<Assignment, SubscriptionError> {
        if blob.is_empty() {
            return Ok(Assignment::default());
        }
        let mut reader = Reader { rest: blob.clone() };
        reader.version()?;
        Ok(Assignment {
            partitions: reader.partitions()?,
            user_data: reader.bytes()?,
        })
    }
}

/// What the sticky assignor remembers: the last assignment and its generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickyUserData {
    /// The last assignment.
    pub partitions: Vec<TopicPartition>,
    /// The generation that it is from; -1 if unknown.
    pub generation: i32,
}

impl StickyUserData {
    /// The blob, in the assignor's version 1 (which is not marked as such).
    pub fn encode(&self) -> Bytes {
        let mut blob = BytesMut::new();
        put_partitions(&mut blob, &self.partitions);
        blob.put_i32(self.generation);
        blob.freeze()
    }

    /// Reads a blob of version 0 or 1.
    pub fn decode(blob: &Bytes) -> Result<StickyUserData, SubscriptionError> {
        let mut reader = Reader { rest: blob.clone() };
        let partitions = reader.partitions()?;
        let generation = reader.i32().unwrap_or(-1);
        Ok(StickyUserData {
            partitions,
            generation,
        })
    }
}

/// The topics of a `ConsumerProtocolSubscription`, of any version; none if the bytes are not one.
pub fn topics(subscription: &[u8]) -> Option<Vec<&str>> {
    let (version, rest) = subscription.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    // Each name has at least its length in front.
    let mut topics = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, tail) = tail.split_at_checked(len)?;
        topics.push(str::from_utf8(name).ok()?);
        rest = tail;
    }
    Some(topics)
}

fn put_count(blob: &mut BytesMut, count: usize) {
    blob.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_string(blob: &mut BytesMut, text: &str) {
    // Topic names have 249 characters at most.
    blob.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    blob.put_slice(text.as_bytes());
}

fn put_bytes(blob: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => blob.put_i32(-1),
        Some(bytes) => {
            put_count(blob, bytes.len());
            blob.put_slice(bytes);
        }
    }
}

/// Partitions grouped by topic, in the order in which topics appear.
fn put_partitions(blob: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
    for partition in partitions {
        match topics
            .iter_mut()
            .find(|(topic, _)| *topic == &*partition.topic)
        {
            Some((_, list)) => list.push(partition.partition),
            None => topics.push((&partition.topic, vec![partition.partition])),
        }
    }
    put_count(blob, topics.len());
    for (topic, list) in topics {
        put_string(blob, topic);
        put_count(blob, list.len());
        for partition in list {
            blob.put_i32(partition);
        }
    }
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes, SubscriptionError> {
        if length > self.rest.len() {
            return Err(SubscriptionError::Malformed);
        }
        Ok(self.rest.split_to(length))
    }

    fn i16(&mut self) -> Result<i16, SubscriptionError> {
        let bytes = self.take(2)?;
        bytes
            .first_chunk()
            .map(|bytes| i16::from_be_bytes(*bytes))
            .ok_or(SubscriptionError::Malformed)
    }

    fn i32(&mut self) -> Result<i32, SubscriptionError> {
        let bytes = self.take(4)?;
        bytes
            .first_chunk()
            .map(|bytes| i32::from_be_bytes(*bytes))
            .ok_or(SubscriptionError::Malformed)
    }

    fn version(&mut self) -> Result<i16, SubscriptionError> {
        match self.i16()? {
            version if version < 0 => Err(SubscriptionError::Version(version)),
            version => Ok(version),
        }
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Result<usize, SubscriptionError> {
        let count = usize::try_from(self.i32()?).map_err(|_| SubscriptionError::Malformed)?;
        if count > self.rest.len() / least {
            return Err(SubscriptionError::Malformed);
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String, SubscriptionError> {
        let length = usize::try_from(self.i16()?).map_err(|_| SubscriptionError::Malformed)?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| SubscriptionError::Malformed)
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, SubscriptionError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| SubscriptionError::Malformed)?;
                self.take(length).map(Some)
            }
        }
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, SubscriptionError> {
        let topics = self.count(6)?;
        let mut partitions = Vec::new();
        for _ in 0..topics {
            let topic: std::sync::Arc<str> = self.string()?.into();
            for _ in 0..self.count(4)? {
                partitions.push(TopicPartition::new(topic.clone(), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    #[test]
    fn blobs_have_kafkas_bytes() {
        let subscription = Subscription {
            topics: vec!["ab".to_owned()],
            user_data: None,
            owned: vec![tp("ab", 1)],
        };
        let expected = [
            0, 1, 0, 0, 0, 1, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 2, b'a',
            b'b', 0, 0, 0, 1, 0, 0, 0, 1,
        ];
        assert_eq!(subscription.encode()[..], expected);
        assert_eq!(
            Subscription::decode(&Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            Ok(Subscription {
                user_data: Some(Bytes::new()),
                ..Subscription::default()
            })
        );
        let assignment = Assignment {
            partitions: vec![tp("a", 0), tp("b", 7), tp("a", 2)],
            user_data: Some(Bytes::from_static(b"x")),
        };
        let read = Assignment::decode(&assignment.encode()).expect("ours");
        assert_eq!(read.partitions, [tp("a", 0), tp("a", 2), tp("b", 7)]);
        let sticky = StickyUserData {
            partitions: vec![tp("a", 0)],
            generation: 5,
        };
        assert_eq!(StickyUserData::decode(&sticky.encode()), Ok(sticky));
    }

    #[test]
    fn cut_and_spoilt_blobs_are_errors_and_never_panic() {
        let good = Subscription {
            topics: vec!["topic".to_owned(); 3],
            user_data: Some(Bytes::from_static(b"data")),
            owned: vec![tp("topic", 1), tp("other", 2)],
        }
        .encode();
        for end in 0..good.len() {
            assert!(
                Subscription::decode(&good.slice(..end)).is_err(),
                "cut at {end}"
            );
        }
        for at in 0..good.len() {
            for value in [0u8, 0x7f, 0x80, 0xff] {
                let mut bytes = good.to_vec();
                bytes[at] = value;
                let blob = Bytes::from(bytes);
                let _ = Subscription::decode(&blob);
                let _ = Assignment::decode(&blob);
                let _ = StickyUserData::decode(&blob);
            }
        }
    }

    #[test]
    fn topics_are_found_in_every_version_and_nowhere_else() {
        // Version 1, two topics, null user data, no owned partitions.
        let good = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(topics(good), Some(vec!["a", "bc"]));
        assert_eq!(topics(b"\0\x63\0\0\0\0"), Some(vec![]));
        for bad in [
            &b""[..],
            b"\xff\xff\0\0\0\0",
            b"\0\0\x7f\xff\xff\xff",
            b"\0\0\xff\xff\xff\xff",
            b"\0\0\0\0\0\x01\0\x05a",
            b"\0\0\0\0\0\x01\xff\xffa",
            b"\0\0\0\0\0\x01\0\x01\xff",
        ] {
            assert_eq!(topics(bad), None, "{bad:?}");
        }
    }
}
