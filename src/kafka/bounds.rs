//! Walks a frame by its shape before kafka-protocol decodes it.
//!
//! The crate allocates from counts on the wire: four bytes of Metadata request can ask for 150 GB and
//! end the process. Here every count and length is compared with the bytes that are really there, and
//! nothing is allocated. `shapes/shapes.txt` is data, printed by `shapes/Shapes.java` from the schemas
//! of kafka-clients; one line for each API and range of versions, in a small language that is
//! explained there. The walker interprets it where it stands.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Elements of arrays and unknown tagged fields that one frame may hold. Elements are larger in memory
/// than on the wire, so this bounds what decoding allocates (some 200 bytes each at most).
pub const ELEMENTS_MAX: usize = 500_000;

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// No shape is known for this API and version.
    #[error("no shape for API {key} v{version}")]
    Unknown {
        /// The API key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// A length or count goes beyond the end of the frame, or is negative where it may not be.
    #[error("a length at byte {position} does not fit into the frame")]
    Length {
        /// Where in the body.
        position: usize,
    },
    /// More elements than [`ELEMENTS_MAX`].
    #[error("more than {ELEMENTS_MAX} elements in one frame")]
    Elements,
    /// A tagged field's content and its size disagree.
    #[error("a tagged field at byte {position} has not the size it claims")]
    Tagged {
        /// Where in the body.
        position: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Response,
}

/// Checks a request's body (without its header). After `Ok` the crate may decode it.
pub fn check_request(key: i16, version: i16, body: &[u8]) -> Result<(), BoundsError> {
    check(Kind::Request, key, version, body)
}

/// Checks a response's body (without its header). After `Ok` the crate may decode it.
pub fn check_response(key: i16, version: i16, body: &[u8]) -> Result<(), BoundsError> {
    check(Kind::Response, key, version, body)
}

/// Checks one section of tagged fields without known tags, as headers have it. Gives its length.
pub fn check_tagged_fields(bytes: &[u8]) -> Result<usize, BoundsError> {
    let mut walk = Walk {
        bytes,
        position: 0,
        elements: 0,
    };
    walk.run(b"{}")?;
    Ok(walk.position)
}

fn check(kind: Kind, key: i16, version: i16, body: &[u8]) -> Result<(), BoundsError> {
    let shape = shapes()
        .get(&(kind, key, version))
        .ok_or(BoundsError::Unknown { key, version })?;
    Walk {
        bytes: body,
        position: 0,
        elements: 0,
    }
    .run(shape.as_bytes())
}

type Shapes = BTreeMap<(Kind, i16, i16), &'static str>;

/// The table, read once.
fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let mut shapes = Shapes::new();
        for line in include_str!("shapes/shapes.txt").lines() {
            let mut words = line.splitn(5, ' ');
            let kind = if words.next() == Some("q") {
                Kind::Request
            } else {
                Kind::Response
            };
            let mut number = || words.next().and_then(|word| word.parse::<i16>().ok());
            let (Some(key), Some(first), Some(last)) = (number(), number(), number()) else {
                continue;
            };
            let shape = words.next().unwrap_or("");
            for version in first..=last {
                shapes.insert((kind, key, version), shape);
            }
        }
        shapes
    })
}

struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
    elements: usize,
}

impl Walk<'_> {
    /// Interprets `shape` up to its end.
    fn run(&mut self, shape: &[u8]) -> Result<(), BoundsError> {
        let mut at = 0;
        while at < shape.len() {
            at = match shape[at] {
                b'0'..=b'9' => {
                    let (width, next) = number(shape, at);
                    self.skip(width)?;
                    next
                }
                b's' => self.string(at)?,
                b'b' => {
                    let length = self.i32()?;
                    self.skip_nullable(i64::from(length))?;
                    at + 1
                }
                b'S' | b'B' => {
                    let length = self.unsigned_varint()?;
                    self.skip_nullable(i64::from(length) - 1)?;
                    at + 1
                }
                b'[' | b'<' => self.array(shape, at)?,
                b'(' => {
                    let end = closing(shape, at);
                    if self.take(1)?[0] < 0x80 {
                        self.run(&shape[at + 1..end])?;
                    }
                    end + 1
                }
                b'{' => {
                    let end = closing(shape, at);
                    self.tagged(&shape[at + 1..end])?;
                    end + 1
                }
                b'v' => {
                    self.unsigned_varint()?;
                    at + 1
                }
                _ => at + 1,
            };
        }
        Ok(())
    }

    fn string(&mut self, at: usize) -> Result<usize, BoundsError> {
        let bytes = self.take(2)?;
        let length = i16::from_be_bytes([bytes[0], bytes[1]]);
        self.skip_nullable(i64::from(length))?;
        Ok(at + 1)
    }

    fn array(&mut self, shape: &[u8], at: usize) -> Result<usize, BoundsError> {
        let end = closing(shape, at);
        let count = match shape[at] {
            b'[' => i64::from(self.i32()?),
            _ => i64::from(self.unsigned_varint()?) - 1,
        };
        if count < -1 {
            return Err(BoundsError::Length {
                position: self.position,
            });
        }
        // No element is smaller than one byte, so a count above the rest of the frame is a lie.
        if count > (self.bytes.len() - self.position) as i64 {
            return Err(BoundsError::Length {
                position: self.position,
            });
        }
        for _ in 0..count.max(0) {
            self.element()?;
            self.run(&shape[at + 1..end])?;
        }
        Ok(end + 1)
    }

    fn tagged(&mut self, known: &[u8]) -> Result<(), BoundsError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let start = self.position;
            self.element()?;
            match tag_shape(known, tag) {
                Some(shape) => {
                    self.run(shape)?;
                    if self.position - start != size {
                        return Err(BoundsError::Tagged { position: start });
                    }
                }
                None => self.skip(size)?,
            }
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), BoundsError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            Err(BoundsError::Elements)
        } else {
            Ok(())
        }
    }

    fn take(&mut self, width: usize) -> Result<&[u8], BoundsError> {
        let from = self.position;
        self.skip(width)?;
        Ok(&self.bytes[from..self.position])
    }

    fn skip(&mut self, width: usize) -> Result<(), BoundsError> {
        if width > self.bytes.len() - self.position {
            return Err(BoundsError::Length {
                position: self.position,
            });
        }
        self.position += width;
        Ok(())
    }

    /// Skips what a length says; -1 is null.
    fn skip_nullable(&mut self, length: i64) -> Result<(), BoundsError> {
        if length == -1 {
            return Ok(());
        }
        let width = usize::try_from(length).map_err(|_| BoundsError::Length {
            position: self.position,
        })?;
        self.skip(width)
    }

    fn i32(&mut self) -> Result<i32, BoundsError> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// At most five bytes; what does not fit into 32 bits is refused.
    fn unsigned_varint(&mut self) -> Result<u32, BoundsError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| BoundsError::Length {
                    position: self.position,
                });
            }
        }
        Err(BoundsError::Length {
            position: self.position,
        })
    }
}

/// The number at `at` and the place after it.
fn number(shape: &[u8], at: usize) -> (usize, usize) {
    let mut value = 0;
    let mut next = at;
    while next < shape.len() && shape[next].is_ascii_digit() {
        value = value * 10 + usize::from(shape[next] - b'0');
        next += 1;
    }
    (value, next)
}

/// The place of the bracket that closes the one at `open`; the table is well formed.
fn closing(shape: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in shape.iter().enumerate().skip(open) {
        match byte {
            b'[' | b'<' | b'(' | b'{' => depth += 1,
            b']' | b'>' | b')' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    shape.len()
}

/// The shape of one known tag in `0:…;1:…;`.
fn tag_shape(known: &[u8], tag: u32) -> Option<&[u8]> {
    let mut at = 0;
    while at < known.len() {
        let (this, colon) = number(known, at);
        let start = colon + 1;
        let mut end = start;
        while end < known.len() && known[end] != b';' {
            end = match known[end] {
                b'[' | b'<' | b'(' | b'{' => closing(known, end) + 1,
                _ => end + 1,
            };
        }
        if this == tag as usize {
            return known.get(start..end);
        }
        at = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::{
        EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
    use kafka_protocol::protocol::{Decodable, Encodable};

    #[test]
    fn four_bytes_of_metadata_do_not_ask_for_gigabytes() {
        let huge = 0x7fff_ffffi32.to_be_bytes();
        for version in 0..=8 {
            assert!(check_request(3, version, &huge).is_err(), "v{version}");
        }
        for body in [
            &[0xff, 0xff, 0xff, 0xff, 0x07][..],
            &[0xff; 9],
            &[],
            &[0x02],
        ] {
            assert!(check_request(3, 12, body).is_err(), "{body:?}");
        }
        assert!(check_request(3, 0, &(-2i32).to_be_bytes()).is_err());
        assert_eq!(
            check_request(999, 0, &[]),
            Err(BoundsError::Unknown {
                key: 999,
                version: 0
            })
        );
    }

    #[test]
    fn every_version_of_the_crate_that_kafka_knows_has_a_shape() {
        let mut missing = Vec::new();
        for api in ApiKey::iter() {
            let range = api.valid_versions();
            for version in range.min..=range.max {
                for kind in [Kind::Request, Kind::Response] {
                    if !shapes().contains_key(&(kind, api as i16, version)) {
                        missing.push((api as i16, version));
                    }
                }
            }
        }
        missing.dedup();
        // Kafka 4.3 has dropped what was unstable or early access in 4.1.
        assert!(missing.iter().all(|(key, _)| *key >= 50), "{missing:?}");
    }

    #[test]
    fn what_the_crate_encodes_passes() {
        for version in 0..=13 {
            let mut body = BytesMut::new();
            MetadataRequest::default()
                .encode(&mut body, version)
                .expect("encodes");
            assert_eq!(check_request(3, version, &body), Ok(()), "v{version}");
            body.clear();
            MetadataResponse::default()
                .encode(&mut body, version)
                .expect("encodes");
            assert_eq!(check_response(3, version, &body), Ok(()), "v{version}");
        }
        for version in 4..=18 {
            let mut partition = PartitionData::default()
                .with_records(Some(Bytes::from_static(b"some bytes of records")));
            if version >= 12 {
                partition = partition.with_diverging_epoch(
                    EpochEndOffset::default().with_epoch(3).with_end_offset(9),
                );
            }
            let response = FetchResponse::default().with_responses(vec![
                FetchableTopicResponse::default().with_partitions(vec![partition; 3]),
            ]);
            let mut body = BytesMut::new();
            response.encode(&mut body, version).expect("encodes");
            assert_eq!(check_response(1, version, &body), Ok(()), "v{version}");
            for cut in 0..body.len() {
                assert!(
                    check_response(1, version, &body[..cut]).is_err(),
                    "v{version} cut {cut}"
                );
            }
        }
    }

    #[test]
    fn what_passes_can_be_decoded_without_a_panic() {
        let rng = crate::common::rng::Rng::from_seed(1);
        let mut passed = 0;
        for round in 0..200_000u64 {
            let mut body = vec![0u8; rng.below(48) as usize];
            rng.fill(&mut body);
            // Small numbers make frames that get further.
            for byte in &mut body {
                if rng.below(4) != 0 {
                    *byte &= 3;
                }
            }
            let version = (round % 14) as i16;
            if check_request(3, version, &body).is_ok() {
                passed += 1;
                let _ = MetadataRequest::decode(&mut Bytes::from(body), version);
            }
        }
        assert!(passed > 1_000, "{passed}");
    }
}
