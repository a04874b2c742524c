//! What a leader demands of a batch before it takes it: `LogValidator` of Kafka, over a view.
//!
//! The records of a client's uncompressed batch are walked, field by field and without copying: there
//! are as many as the header says, their offset deltas are 0, 1, 2…, every length fits, nothing is left
//! over. A compressed payload is not inflated: it has to begin as its codec's do, and the header may
//! not claim more records than such a payload can hold. What is wrong deeper inside is found by those
//! who read it. Payloads are decoded only where the topic's settings ask something about records: keys
//! in a compacted topic, a limit on timestamps, another codec.

use bytes::Bytes;

use super::error::{AppendError, WITHOUT_KEY};
use super::log::Origin;
use super::options::{Options, TimestampType};
use crate::common::ids::Offset;
use crate::kafka::batch::{Batch, BatchHeader, Compression, NO_TIMESTAMP};
use crate::kafka::record::{recompress, records};

/// How far a payload may inflate where it must be looked into: well above what 1 MiB of text gives.
pub(super) const INFLATED_BYTES_MAX: usize = 64 << 20;

/// What a record takes at least: length, attributes, two deltas, key, value and header count.
const RECORD_BYTES_MIN: u64 = 7;
/// More records than any payload holds per compressed byte. Deflate shrinks to 1/1032 at best, which is
/// 147 of the smallest records; the others come nowhere near, as offset deltas differ.
const RECORDS_PER_BYTE_MAX: u64 = 256;
/// The same in bytes for raw snappy: its densest element makes 64 bytes of 3.
const SNAPPY_RATIO_MAX: u64 = 22;
/// How streams of snappy-java begin; a header of 16 bytes and a block length follow.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_BYTES_MIN: usize = 20;

/// A batch that may be appended; offsets and epoch are still to be put on it.
#[derive(Debug)]
pub(super) struct Validated {
    pub header: BatchHeader,
    pub payload: Bytes,
    /// -1 where the producer's timestamps stay.
    pub log_append_time_ms: i64,
}

fn invalid(reason: impl Into<String>) -> AppendError {
    AppendError::InvalidRecord {
        reason: reason.into(),
        record: None,
    }
}

/// Checks one batch; `bytes` are exactly that batch.
pub(super) fn validate(
    bytes: &Bytes,
    options: &Options,
    origin: Origin,
    now_ms: i64,
) -> Result<Validated, AppendError> {
    let mut batch = Batch::parse(bytes)?;
    if batch.bytes().len() != bytes.len() {
        return Err(invalid(
            "Produce requests with version 3 are required to contain exactly one record batch per partition",
        ));
    }
    let size = bytes.len();
    if size > options.max_message_bytes as usize {
        return Err(AppendError::TooLarge {
            size,
            limit: options.max_message_bytes,
        });
    }
    if size > options.segment_bytes as usize {
        return Err(AppendError::TooLargeForSegment {
            size,
            limit: options.segment_bytes,
        });
    }
    batch.check()?;
    check_header(batch.header(), origin)?;
    let codec = batch
        .header()
        .compression()
        .ok_or(AppendError::UnsupportedCompression(
            batch.header().attributes & 7,
        ))?;
    if origin == Origin::Client {
        check_payload(&batch.payload(), codec, batch.header().record_count)?;
    }
    check_records(&batch, options, now_ms)?;
    if let Some(wanted) = options.compression
        && wanted != codec
    {
        batch = recompress(&batch, wanted, INFLATED_BYTES_MAX)?;
        let size = batch.bytes().len();
        if size > options.max_message_bytes as usize || size > options.segment_bytes as usize {
            return Err(AppendError::TooLarge {
                size,
                limit: options.max_message_bytes.min(options.segment_bytes),
            });
        }
    }
    let mut header = *batch.header();
    let payload = batch.payload();
    let mut log_append_time_ms = NO_TIMESTAMP;
    if options.timestamp_type == TimestampType::LogAppendTime {
        log_append_time_ms = now_ms;
        header.set_log_append_time(now_ms);
        header.crc = header.checksum(&payload);
    }
    Ok(Validated {
        header,
        payload,
        log_append_time_ms,
    })
}

fn check_header(header: &BatchHeader, origin: Origin) -> Result<(), AppendError> {
    if origin == Origin::Client && header.base_offset != Offset(0) {
        return Err(invalid(format!(
            "The baseOffset of the record batch in the append should be 0, but it is {}",
            header.base_offset
        )));
    }
    if header.record_count <= 0 {
        return Err(invalid(format!(
            "Invalid reported count for record batch: {}",
            header.record_count
        )));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return Err(invalid(format!(
            "Inconsistent batch offset range [{}, {}] and count of records {}",
            header.base_offset,
            header.last_offset(),
            header.record_count
        )));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    if header.is_transactional() {
        return Err(AppendError::Transactional);
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch.0 < 0) {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.is_log_append_time() {
        return Err(AppendError::InvalidTimestamp {
            reason: "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."
                .to_owned(),
            record: None,
        });
    }
    Ok(())
}

/// Can `payload` be `count` records? Those that are not compressed are looked at one by one.
fn check_payload(payload: &[u8], codec: Compression, count: i32) -> Result<(), AppendError> {
    if codec == Compression::None {
        return check_plain(payload, count);
    }
    let claimed = u64::from(count.unsigned_abs());
    let sound = match codec {
        Compression::Gzip => payload.starts_with(&[0x1f, 0x8b]),
        Compression::Lz4 => payload.starts_with(&[0x04, 0x22, 0x4d, 0x18]),
        Compression::Zstd => payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        _ if payload.starts_with(XERIAL_MAGIC) => payload.len() > XERIAL_BYTES_MIN,
        _ => is_raw_snappy(payload, claimed),
    };
    if !sound {
        return Err(invalid(format!(
            "The payload of the record batch is not {}",
            codec.name()
        )));
    }
    if claimed > (payload.len() as u64).saturating_mul(RECORDS_PER_BYTE_MAX) {
        return Err(invalid(format!(
            "Invalid reported count for record batch: {count} records in {} bytes",
            payload.len()
        )));
    }
    Ok(())
}

/// Begins it as a snappy block does: the inflated length, plausible, and a literal (there is nothing yet
/// that could be copied)?
fn is_raw_snappy(payload: &[u8], count: u64) -> bool {
    let mut fields = Fields { rest: payload };
    let Some(inflated) = fields.unsigned(32) else {
        return false;
    };
    let literal = fields.rest.first().is_some_and(|tag| tag & 3 == 0);
    literal
        && inflated <= (payload.len() as u64).saturating_mul(SNAPPY_RATIO_MAX)
        && inflated >= count.saturating_mul(RECORD_BYTES_MIN)
}

fn check_plain(payload: &[u8], count: i32) -> Result<(), AppendError> {
    let mut fields = Fields { rest: payload };
    for index in 0..count {
        fields
            .record(index)
            .ok_or_else(|| AppendError::InvalidRecord {
                reason: format!("Record {index} of {count} in the record batch is malformed"),
                record: Some(index),
            })?;
    }
    if !fields.rest.is_empty() {
        return Err(invalid(
            "Incorrect declared batch size, records still remaining in file",
        ));
    }
    Ok(())
}

/// What is left to read of a payload. `None` is a field that does not fit.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn skip(&mut self, len: usize) -> Option<()> {
        self.rest = self.rest.get(len..)?;
        Some(())
    }

    fn unsigned(&mut self, bits: u32) -> Option<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        while shift < bits {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return (bits == 64 || value >> bits == 0).then_some(value);
            }
            shift += 7;
        }
        None
    }

    fn varint(&mut self) -> Option<i32> {
        let value = self.unsigned(32)? as u32;
        Some((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// A part that may be null (-1).
    fn nullable(&mut self) -> Option<()> {
        match self.varint()? {
            -1 => Some(()),
            len => self.skip(usize::try_from(len).ok()?),
        }
    }

    /// One record with the offset delta `index`.
    fn record(&mut self, index: i32) -> Option<()> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (body, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let mut body = Fields { rest: body };
        body.skip(1)?;
        body.unsigned(64)?;
        if body.varint()? != index {
            return None;
        }
        body.nullable()?;
        body.nullable()?;
        // Each header takes bytes, so a wrong count ends with them.
        for _ in 0..u32::try_from(body.varint()?).ok()? {
            let key = usize::try_from(body.varint()?).ok()?;
            body.skip(key)?;
            body.nullable()?;
        }
        body.rest.is_empty().then_some(())
    }
}

/// What the settings ask about single records.
fn check_records(batch: &Batch, options: &Options, now_ms: i64) -> Result<(), AppendError> {
    let create_time = options.timestamp_type == TimestampType::CreateTime;
    let times = create_time && options.timestamp_difference_max_ms < i64::MAX;
    if !options.compact && !times {
        return Ok(());
    }
    for (index, record) in records(batch, INFLATED_BYTES_MAX)?.enumerate() {
        let record = record?;
        let index = i32::try_from(index).ok();
        if options.compact && record.key.is_none() {
            return Err(AppendError::InvalidRecord {
                reason: WITHOUT_KEY.to_owned(),
                record: index,
            });
        }
        let off = record.timestamp.saturating_sub(now_ms).saturating_abs();
        if times && record.timestamp != NO_TIMESTAMP && off > options.timestamp_difference_max_ms {
            return Err(AppendError::InvalidTimestamp {
                reason: format!(
                    "Timestamp {} of message with offset {} is out of range. The timestamp should be within [{}, {}]",
                    record.timestamp,
                    record.offset,
                    now_ms.saturating_sub(options.timestamp_difference_max_ms),
                    now_ms.saturating_add(options.timestamp_difference_max_ms)
                ),
                record: index,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::record::BatchBuilder;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// A batch of `count` records by its header, and of `payload` in truth.
    fn batch(codec: Compression, count: i32, payload: &[u8]) -> Bytes {
        let mut header = *BatchBuilder::new(codec).build().expect("small").header();
        header.record_count = count;
        header.last_offset_delta = count - 1;
        let batch = Batch::assemble(header, payload).expect("small");
        batch.bytes().clone()
    }

    fn check(bytes: &Bytes) -> Result<Validated, AppendError> {
        validate(bytes, &Options::default(), Origin::Client, 1_000)
    }

    fn built(codec: Compression, values: &[&[u8]]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        let headers = [("h".into(), None), ("h".into(), Some("v".into()))];
        for (index, value) in values.iter().enumerate() {
            builder.append(-5 + index as i64 * 100_000, None, Some(value), &headers);
        }
        builder.build().expect("small").bytes().clone()
    }

    #[test]
    fn payloads_are_what_the_header_says() {
        // length, attributes, timestamp delta, offset delta, key (null), value (null), headers
        let first: &[u8] = &[12, 0, 0, 0, 1, 1, 0];
        let second: &[u8] = &[12, 0, 0, 2, 1, 1, 0];
        let cases: [(&str, i32, Vec<u8>, bool); 15] = [
            ("one", 1, first.to_vec(), true),
            ("two", 2, [first, second].concat(), true),
            ("2^31-1 in nothing", i32::MAX, vec![], false),
            ("1000 in one", 1_000, first.to_vec(), false),
            ("one is garbage", 1, b"garbage!!".to_vec(), false),
            ("one in nothing", 1, vec![], false),
            ("two instead of one", 1, [first, second].concat(), false),
            ("two deltas of 0", 2, [first, first].concat(), false),
            ("wrong order", 2, [second, first].concat(), false),
            ("cut", 2, [first, &second[..5]].concat(), false),
            ("length of -1", 1, vec![1], false),
            ("length too long", 1, vec![14, 0, 0, 0, 1, 1, 0], false),
            ("length too large", 1, vec![14, 0, 0, 0, 1, 1, 0, 0], false),
            (
                "value beyond the record",
                1,
                vec![12, 0, 0, 0, 1, 8, 0],
                false,
            ),
            (
                "2^31-1 headers",
                1,
                vec![20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 15],
                false,
            ),
        ];
        for (what, count, payload, good) in cases {
            match check(&batch(Compression::None, count, &payload)) {
                Ok(_) => assert!(good, "{what}"),
                Err(AppendError::InvalidRecord { .. }) => assert!(!good, "{what}"),
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    #[test]
    fn a_compressed_payload_begins_as_its_codecs_do() {
        for codec in CODECS {
            let sound = built(codec, &[b"one", &[7; 3_000], b""]);
            assert!(check(&sound).is_ok(), "{codec:?}");
            let payload = Batch::parse(&sound).expect("sound").payload();
            for (count, payload) in [
                (1, &b"garbage!!"[..]),
                (1, b""),
                (i32::MAX, b""),
                (i32::MAX, &payload),
            ] {
                let answer = check(&batch(codec, count, payload));
                assert!(
                    matches!(answer, Err(AppendError::InvalidRecord { .. })),
                    "{codec:?} {count} in {payload:?}: {answer:?}"
                );
            }
        }
    }

    #[test]
    fn dense_payloads_are_taken() {
        for codec in CODECS {
            let sound = built(codec, &[&b""[..]; 20_000]);
            assert!(check(&sound).is_ok(), "{codec:?}");
            let zeros = vec![0; 900_000];
            assert!(check(&built(codec, &[&zeros[..]])).is_ok(), "{codec:?}");
        }
        // As librdkafka writes it: a snappy block without a stream around it.
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..5_000 {
            builder.append(7, None, Some(&[0; 100]), &[]);
        }
        let plain = builder.build().expect("small").payload();
        let raw = snap::raw::Encoder::new()
            .compress_vec(&plain)
            .expect("small");
        assert!(check(&batch(Compression::Snappy, 5_000, &raw)).is_ok());
    }
}
