//! Records inside a batch: for tools, internal topics and the rare topic whose records a broker must
//! see. Produce and fetch never come here.
//!
//! Headers stay a list of pairs: a key may occur twice, and user data is never put together again
//! from a map.

use std::ops::Range;

use bytes::Bytes;

use super::batch::{
    Batch, BatchError, BatchHeader, Compression, HEADER_BYTES, NO_SEQUENCE, NO_TIMESTAMP,
};
use super::compression::{CompressionError, compress, decompress};
use crate::common::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Why a batch's records can't be read or built.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The codec's number is not known.
    #[error("compression type {0} is not known")]
    Codec(i16),
    /// The payload does not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record's fields do not fit its bytes.
    #[error("record {index} of the batch at offset {base_offset} is malformed: {what}")]
    Malformed {
        /// The batch.
        base_offset: Offset,
        /// The record's place in it.
        index: i32,
        /// The field that does not fit.
        what: &'static str,
    },
    /// The batch would be larger than the format can say.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// One header of a record: key and value.
pub type Header = (Bytes, Option<Bytes>);

/// One record. Its parts share the batch's buffer, or that of the decompressed payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// The producer's sequence number, or -1.
    pub sequence: i32,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers, in order, repeated keys and all.
    pub headers: Vec<Header>,
}

/// The records of a batch; a compressed payload may inflate to `limit` bytes.
pub fn records(batch: &Batch, limit: usize) -> Result<Records, RecordError> {
    let header = *batch.header();
    let codec = header
        .compression()
        .ok_or(RecordError::Codec(header.attributes & 7))?;
    let payload = match codec {
        Compression::None => batch.payload(),
        codec => decompress(codec, &batch.payload(), limit)?.into(),
    };
    Ok(Records {
        header,
        payload,
        at: 0,
        index: 0,
    })
}

/// Iterates over the records of one batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
    at: usize,
    index: i32,
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count {
            let trailing = self.at < self.payload.len();
            self.at = self.payload.len();
            return trailing.then(|| Err(self.malformed("bytes behind the last record")));
        }
        let result = self.read().map_err(|what| self.malformed(what));
        match result {
            Ok(_) => self.index += 1,
            Err(_) => {
                self.index = self.header.record_count;
                self.at = self.payload.len();
            }
        }
        Some(result)
    }
}

impl Records {
    fn malformed(&self, what: &'static str) -> RecordError {
        RecordError::Malformed {
            base_offset: self.header.base_offset,
            index: self.index,
            what,
        }
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let mut body = Cursor {
            bytes: &self.payload,
            at: self.at,
            end: self.payload.len(),
        };
        let length = body.length("length")?.ok_or("length")?;
        body.end = body.at + length;
        body.take(1, "attributes")?;
        let timestamp_delta = body.varlong("timestamp delta")?;
        let offset_delta = body.varint("offset delta")?;
        if !(0..=self.header.last_offset_delta).contains(&offset_delta) {
            return Err("offset delta");
        }
        let key = body.bytes("key")?;
        let value = body.bytes("value")?;
        let count = body.varint("header count")?;
        let count = usize::try_from(count).map_err(|_| "header count")?;
        // A header takes two bytes at least, so this bounds what is reserved.
        if count > (body.end - body.at) / 2 {
            return Err("header count");
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = body.bytes("header key")?.ok_or("header key")?;
            headers.push((key, body.bytes("header value")?));
        }
        if body.at != body.end {
            return Err("length");
        }
        self.at = body.end;
        let header = &self.header;
        Ok(Record {
            offset: header.base_offset + i64::from(offset_delta),
            timestamp: if header.is_log_append_time() {
                header.max_timestamp
            } else {
                header.base_timestamp.wrapping_add(timestamp_delta)
            },
            sequence: if header.base_sequence == NO_SEQUENCE {
                NO_SEQUENCE
            } else {
                super::batch::add_sequence(header.base_sequence, offset_delta)
            },
            key,
            value,
            headers,
        })
    }
}

/// Reads fields from a part of a shared buffer.
struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<Range<usize>, &'static str> {
        if len > self.end - self.at {
            return Err(what);
        }
        let range = self.at..self.at + len;
        self.at = range.end;
        Ok(range)
    }

    fn unsigned(&mut self, bits: u32, what: &'static str) -> Result<u64, &'static str> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let at = self.take(1, what)?.start;
            let byte = self.bytes[at];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if bits < 64 && value >> bits != 0 {
                    Err(what)
                } else {
                    Ok(value)
                };
            }
            shift += 7;
            if shift >= bits {
                return Err(what);
            }
        }
    }

    fn varlong(&mut self, what: &'static str) -> Result<i64, &'static str> {
        let value = self.unsigned(64, what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn varint(&mut self, what: &'static str) -> Result<i32, &'static str> {
        let value = self.unsigned(32, what)? as u32;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// A length that fits what is left; -1 is none.
    fn length(&mut self, what: &'static str) -> Result<Option<usize>, &'static str> {
        let length = self.varint(what)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| what)?;
        (length <= self.end - self.at)
            .then_some(Some(length))
            .ok_or(what)
    }

    fn bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, &'static str> {
        Ok(match self.length(what)? {
            None => None,
            Some(length) => Some(self.bytes.slice(self.take(length, what)?)),
        })
    }
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// The most bytes that a varint or varlong takes.
const VARLONG_MAX: usize = 10;

/// Builds one batch of our own records, record by record.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    header: BatchHeader,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch at base offset 0 without a producer.
    pub fn new(compression: Compression) -> BatchBuilder {
        let mut header = BatchHeader {
            base_offset: Offset(0),
            batch_length: 0,
            partition_leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        };
        header.set_compression(compression);
        BatchBuilder {
            compression,
            header,
            payload: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Makes the batch an idempotent producer's.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Adds a record.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> &mut Self {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = timestamp;
        }
        header.max_timestamp = header.max_timestamp.max(timestamp);
        header.last_offset_delta += 1;
        header.record_count += 1;
        let body = &mut self.scratch;
        body.clear();
        body.push(0);
        put_varlong(body, timestamp.wrapping_sub(header.base_timestamp));
        put_varlong(body, i64::from(header.last_offset_delta));
        put_bytes(body, key);
        put_bytes(body, value);
        put_varlong(body, headers.len() as i64);
        for (key, value) in headers {
            put_bytes(body, Some(key));
            put_bytes(body, value.as_deref());
        }
        put_varlong(&mut self.payload, body.len() as i64);
        self.payload.extend_from_slice(body);
        self
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.header.record_count
    }

    /// Bytes of the batch so far, before compression.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// An upper bound of what a record adds to [`BatchBuilder::size`].
    pub fn size_of(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
        let part = |bytes: Option<&[u8]>| VARLONG_MAX + bytes.map_or(0, <[u8]>::len);
        let headers: usize = headers
            .iter()
            .map(|(key, value)| part(Some(key)) + part(value.as_deref()))
            .sum();
        1 + 4 * VARLONG_MAX + part(key) + part(value) + headers
    }

    /// The batch, compressed and with its checksum.
    pub fn build(self) -> Result<Batch, RecordError> {
        if self.compression == Compression::None {
            return Ok(Batch::assemble(self.header, &self.payload)?);
        }
        let payload = compress(self.compression, &self.payload)?;
        Ok(Batch::assemble(self.header, &payload)?)
    }
}

/// The same records under another codec: they are moved raw, never decoded and put together again.
pub fn recompress(batch: &Batch, codec: Compression, limit: usize) -> Result<Batch, RecordError> {
    let mut header = *batch.header();
    let from = header
        .compression()
        .ok_or(RecordError::Codec(header.attributes & 7))?;
    if from == codec {
        return Ok(batch.clone());
    }
    let plain = decompress(from, &batch.payload(), limit)?;
    header.set_compression(codec);
    if codec == Compression::None {
        return Ok(Batch::assemble(header, &plain)?);
    }
    Ok(Batch::assemble(header, &compress(codec, &plain)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(compression: Compression) -> Batch {
        let twice: Vec<Header> = vec![
            ("k".into(), Some("a".into())),
            ("k".into(), Some("b".into())),
            ("n".into(), None),
        ];
        let mut builder =
            BatchBuilder::new(compression).producer(ProducerId(9), ProducerEpoch(1), i32::MAX);
        builder
            .append(1_000, Some(b"key"), Some(b"value"), &twice)
            .append(900, None, Some(&[7; 300]), &[])
            .append(2_000, Some(b""), None, &[]);
        builder.build().expect("small")
    }

    #[test]
    fn records_read_back_under_every_codec() {
        for id in 0..5 {
            let codec = Compression::from_id(id).expect("known");
            let batch = sample(codec);
            batch.check().expect("checksum");
            assert_eq!(batch.header().base_timestamp, 1_000);
            assert_eq!(batch.header().max_timestamp, 2_000);
            assert_eq!(batch.header().record_count, 3);
            let read: Vec<Record> = records(&batch, 1_000)
                .expect("inflates")
                .collect::<Result<_, _>>()
                .expect("well formed");
            assert_eq!(read[0].headers.len(), 3);
            assert_eq!(read[0].headers[1], ("k".into(), Some("b".into())));
            assert_eq!(read[0].headers[2].1, None);
            assert_eq!(read[1].timestamp, 900);
            assert_eq!(read[1].key, None);
            assert_eq!(read[2].key, Some(Bytes::new()));
            assert_eq!(read[2].value, None);
            let sequences: Vec<i32> = read.iter().map(|record| record.sequence).collect();
            assert_eq!(sequences, [i32::MAX, 0, 1]);
            for to in 0..5 {
                let to = Compression::from_id(to).expect("known");
                let moved = recompress(&batch, to, 1_000).expect("fits");
                moved.check().expect("checksum");
                let again: Vec<Record> = records(&moved, 1_000)
                    .expect("inflates")
                    .collect::<Result<_, _>>()
                    .expect("well formed");
                assert_eq!(again, read);
            }
        }
    }

    /// A record as the format's definition spells it (one record "k" -> "v1", no headers).
    #[test]
    fn the_builder_writes_kafkas_bytes() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(5, Some(b"k"), Some(b"v1"), &[]);
        let batch = builder.build().expect("small");
        assert_eq!(
            batch.payload()[..],
            [0x12, 0, 0, 0, 0x02, b'k', 0x04, b'v', b'1', 0]
        );
    }

    #[test]
    fn malformed_records_are_errors_and_the_walk_ends() {
        let good = sample(Compression::None);
        let payload = good.payload();
        for at in 0..payload.len() {
            for value in [0u8, 0x7f, 0x80, 0xff] {
                let mut bytes = payload.to_vec();
                bytes[at] = value;
                let batch = Batch::assemble(*good.header(), &bytes).expect("small");
                let walk = records(&batch, 1_000).expect("not compressed");
                assert!(walk.count() <= 4);
            }
            let cut = Batch::assemble(*good.header(), &payload[..at]).expect("small");
            let errors = records(&cut, 1_000)
                .expect("not compressed")
                .filter(Result::is_err)
                .count();
            assert_eq!(errors, 1, "cut at {at}");
        }
        let mut trailing = payload.to_vec();
        trailing.push(0);
        let batch = Batch::assemble(*good.header(), &trailing).expect("small");
        let results: Vec<_> = records(&batch, 1_000).expect("not compressed").collect();
        assert_eq!(results.len(), 4);
        assert!(results[3].is_err());
    }
}
