//! The consumer protocol's blobs inside JoinGroup, as far as a broker looks into them: which topics a
//! member subscribes to. Bounded by the bytes that are really there; anything odd reads as "unknown".

use std::str;

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

#[cfg(test)]
mod tests {
    use super::*;

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
