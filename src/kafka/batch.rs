//! Record batches of message format v2, as views: nothing is decoded, nothing is copied.
//!
//! A batch is a header of 61 bytes and an opaque payload. The checksum begins behind base offset and
//! leader epoch, so a broker stamps both without touching it. May not look at records: that is
//! [`super::record`].

use bytes::Bytes;

use crate::common::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the batch's own length field does not count: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The only message format that is spoken here.
pub const MAGIC: i8 = 2;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;
/// "No sequence": the batch is not idempotent.
pub const NO_SEQUENCE: i32 = -1;

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The buffer ends inside the batch.
    #[error("batch ends after {have} of {want} bytes")]
    Short {
        /// Bytes there.
        have: usize,
        /// Bytes the batch claims.
        want: u64,
    },
    /// The length field is below that of an empty batch.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// Not message format v2.
    #[error("magic {0} is not supported")]
    Magic(i8),
    /// The checksum does not match.
    #[error("checksum is {computed:#010x}, the batch says {stored:#010x}")]
    Checksum {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Offsets run backwards or out of range.
    #[error("base offset {base_offset} with last offset delta {last_offset_delta} is impossible")]
    Offsets {
        /// The first record's offset.
        base_offset: Offset,
        /// The last record's, relative to it.
        last_offset_delta: i32,
    },
}

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in xerial's framing.
    Snappy,
    /// The LZ4 frame format, independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// By the number in a batch's attributes.
    pub fn from_id(id: i16) -> Option<Compression> {
        Some(match id {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// The number in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The name in configurations and tools.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// By the name in configurations and tools; `uncompressed` is the broker's word for `none`.
    pub fn from_name(name: &str) -> Option<Compression> {
        Some(match name {
            "none" | "uncompressed" => Compression::None,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return None,
        })
    }
}

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to.
    pub base_timestamp: i64,
    /// The largest timestamp.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl BatchHeader {
    /// Reads a header. The bytes after it need not be there; see [`BatchHeader::size`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // Magic comes first: of an older format, nothing else would be read right.
        if let Some(&magic) = bytes.get(16)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Short {
                have: bytes.len(),
                want: HEADER_BYTES as u64,
            });
        };
        let header = BatchHeader {
            base_offset: Offset(i64::from_be_bytes(array(head, 0))),
            batch_length: i32::from_be_bytes(array(head, 8)),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(array(head, 12))),
            crc: u32::from_be_bytes(array(head, CRC_AT)),
            attributes: i16::from_be_bytes(array(head, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(head, 23)),
            base_timestamp: i64::from_be_bytes(array(head, 27)),
            max_timestamp: i64::from_be_bytes(array(head, 35)),
            producer_id: ProducerId(i64::from_be_bytes(array(head, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(array(head, 51))),
            base_sequence: i32::from_be_bytes(array(head, 53)),
            record_count: i32::from_be_bytes(array(head, 57)),
        };
        if header.batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        let last = (header.base_offset.0).checked_add(i64::from(header.last_offset_delta));
        if header.base_offset.0 < 0 || header.last_offset_delta < 0 || last.is_none() {
            return Err(BatchError::Offsets {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
            });
        }
        Ok(header)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.base_offset.0.to_be_bytes());
        put(8, &self.batch_length.to_be_bytes());
        put(12, &self.partition_leader_epoch.0.to_be_bytes());
        put(16, &MAGIC.to_be_bytes());
        put(CRC_AT, &self.crc.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(35, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.0.to_be_bytes());
        put(51, &self.producer_epoch.0.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        bytes
    }

    /// The checksum that belongs to this header and `payload`.
    pub fn checksum(&self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.encode()[ATTRIBUTES_AT..]), payload)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        // `parse` refuses negative lengths; a header made by hand gets a size of its overhead.
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset of the first record behind the batch. Saturates, so that no input can overflow it.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The codec; `None` when its number is not known.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id(self.attributes & COMPRESSION_MASK)
    }

    /// Changes the codec. The checksum is the caller's business.
    pub fn set_compression(&mut self, compression: Compression) {
        self.attributes = (self.attributes & !COMPRESSION_MASK) | compression.id();
    }

    /// Did the broker, not the producer, choose the timestamp?
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Makes `now_ms` the timestamp of every record. The checksum is the caller's business.
    pub fn set_log_append_time(&mut self, now_ms: i64) {
        self.attributes |= LOG_APPEND_TIME;
        self.max_timestamp = now_ms;
    }

    /// Part of a transaction?
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// A marker rather than data?
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// From an idempotent producer?
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The last record's sequence number; numbers wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence + n`, in the ring 0..=`i32::MAX`.
pub fn add_sequence(sequence: i32, n: i32) -> i32 {
    ((i64::from(sequence) + i64::from(n)).rem_euclid(1 << 31)) as i32
}

/// One whole batch in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch at the front of `bytes`; what follows it is not part of the view.
    pub fn parse(bytes: &Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if bytes.len() < header.size() {
            return Err(BatchError::Short {
                have: bytes.len(),
                want: header.size() as u64,
            });
        }
        Ok(Batch {
            header,
            bytes: bytes.slice(..header.size()),
        })
    }

    /// Puts a new header before a payload: length and checksum are set right.
    pub fn assemble(mut header: BatchHeader, payload: &[u8]) -> Result<Batch, BatchError> {
        let length = HEADER_BYTES - LOG_OVERHEAD + payload.len();
        header.batch_length = i32::try_from(length).map_err(|_| BatchError::Length(i32::MAX))?;
        header.crc = header.checksum(payload);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(payload);
        Ok(Batch {
            header,
            bytes: bytes.into(),
        })
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, as they are on the wire.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// Compares the checksum with the bytes.
    pub fn check(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed != self.header.crc {
            return Err(BatchError::Checksum {
                stored: self.header.crc,
                computed,
            });
        }
        Ok(())
    }

    /// The same batch at another place: 61 bytes that replace the header, checksum untouched.
    pub fn stamped(&self, base_offset: Offset, epoch: LeaderEpoch) -> [u8; HEADER_BYTES] {
        let mut bytes = self.header.encode();
        bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        bytes
    }
}

/// Walks the batches of a buffer. A last batch that is cut off, as in a fetch response, ends the walk
/// without an error; anything else that is not a batch is an error and ends it too.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

/// The batches in `bytes`, in order.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

impl Batches {
    /// What has not been walked yet: after the end, the bytes of a batch cut off.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::parse(&self.rest) {
            Ok(batch) => {
                self.rest = self.rest.slice(batch.bytes.len()..);
                Some(Ok(batch))
            }
            Err(BatchError::Short { .. }) => None,
            Err(error) => {
                self.rest = Bytes::new();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record "k"/"v1" from kafka-console-producer.sh 2.8.0 would look like this; written out by
    /// hand from the format's definition.
    fn one_record() -> Bytes {
        let payload = [0x12, 0, 0, 0, 0x02, b'k', 0x04, b'v', b'1', 0];
        let header = BatchHeader {
            base_offset: Offset(0),
            batch_length: 0,
            partition_leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 1_600_000_000_000,
            max_timestamp: 1_600_000_000_000,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: NO_SEQUENCE,
            record_count: 1,
        };
        Batch::assemble(header, &payload)
            .expect("small")
            .bytes()
            .clone()
    }

    #[test]
    fn headers_read_back_and_stamping_keeps_the_checksum() {
        let batch = Batch::parse(&one_record()).expect("whole");
        batch.check().expect("checksum");
        assert_eq!(batch.bytes().len(), 71);
        assert_eq!(batch.header().encode(), batch.bytes()[..HEADER_BYTES]);
        let head = batch.stamped(Offset(77), LeaderEpoch(5));
        let mut moved = head.to_vec();
        moved.extend_from_slice(&batch.payload());
        let moved = Batch::parse(&moved.into()).expect("whole");
        moved.check().expect("checksum still right");
        assert_eq!(moved.header().last_offset(), Offset(77));
        assert_eq!(moved.header().partition_leader_epoch, LeaderEpoch(5));
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = one_record();
        let with = |at: usize, field: &[u8]| {
            let mut bytes = good.to_vec();
            bytes[at..at + field.len()].copy_from_slice(field);
            Batch::parse(&bytes.into())
        };
        assert_eq!(with(16, &[1]), Err(BatchError::Magic(1)));
        for length in [-1i32, 0, 48, i32::MIN] {
            assert_eq!(
                with(8, &length.to_be_bytes()),
                Err(BatchError::Length(length))
            );
        }
        assert!(matches!(
            with(8, &i32::MAX.to_be_bytes()),
            Err(BatchError::Short { .. })
        ));
        assert!(matches!(
            with(23, &(-1i32).to_be_bytes()),
            Err(BatchError::Offsets { .. })
        ));
        assert!(matches!(
            with(0, &i64::MIN.to_be_bytes()),
            Err(BatchError::Offsets { .. })
        ));
        let flipped = with(70, &[1]).expect("structure is right");
        assert!(matches!(flipped.check(), Err(BatchError::Checksum { .. })));
        for len in 0..good.len() {
            assert!(Batch::parse(&good.slice(..len)).is_err(), "{len}");
        }
    }

    #[test]
    fn a_walk_ends_quietly_at_a_batch_cut_off_and_loudly_at_garbage() {
        let mut two = one_record().to_vec();
        two.extend_from_slice(&one_record());
        let mut walk = batches(two[..100].to_vec().into());
        assert!(walk.next().is_some_and(|batch| batch.is_ok()));
        assert!(walk.next().is_none());
        assert_eq!(walk.rest().len(), 29);
        two[71 + 16] = 0;
        let results: Vec<bool> = batches(two.into()).map(|batch| batch.is_ok()).collect();
        assert_eq!(results, [true, false]);
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
        assert_eq!(add_sequence(0, -1), i32::MAX);
        assert_eq!(add_sequence(5, 2), 7);
    }
}
