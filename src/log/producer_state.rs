//! What a log remembers of idempotent producers: the last five batches of each, and the snapshot file.
//!
//! Pure. [`ProducerState::check`] decides whether a batch is new, a repetition or out of order;
//! [`ProducerState::update`] notes one that is in the log. The rules are those of Kafka's
//! `ProducerAppendInfo`.

use std::collections::{BTreeMap, VecDeque};

use super::error::AppendError;
use crate::common::ids::{Offset, ProducerEpoch, ProducerId};
use crate::kafka::batch::{BatchHeader, NO_SEQUENCE, add_sequence};

/// The file name's ending.
pub(super) const SNAPSHOT_SUFFIX: &str = "snapshot";
/// Batches that are remembered of each producer: as many as a client may have in flight.
const BATCHES_MAX: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;
/// Where the bytes begin that the snapshot's checksum covers.
const SNAPSHOT_CRC_FROM: usize = 6;

/// One producer, for DescribeProducers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStatus {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence number, or -1.
    pub last_sequence: i32,
    /// The last record's offset, or -1.
    pub last_offset: Offset,
    /// The last batch's timestamp.
    pub last_timestamp: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchNote {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: i64,
}

impl BatchNote {
    fn first_sequence(&self) -> i32 {
        add_sequence(self.last_sequence, -self.offset_delta)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    batches: VecDeque<BatchNote>,
    last_timestamp: i64,
    /// Kept for the snapshot's sake; set by transactions only.
    coordinator_epoch: i32,
    current_txn_first_offset: i64,
}

impl Producer {
    fn last_sequence(&self) -> i32 {
        self.batches
            .back()
            .map_or(NO_SEQUENCE, |note| note.last_sequence)
    }
}

/// A batch that may be appended, or is in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    Duplicate {
        first_offset: Offset,
        last_offset: Offset,
        timestamp: i64,
    },
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProducerState {
    producers: BTreeMap<ProducerId, Producer>,
}

impl ProducerState {
    /// May this batch be appended?
    pub(super) fn check(&self, batch: &BatchHeader) -> Result<Verdict, AppendError> {
        if !batch.has_producer_id() {
            return Ok(Verdict::New);
        }
        // Nothing is known of it, perhaps any more: then every first sequence number is accepted.
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Ok(Verdict::New);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: batch.producer_id,
                epoch: batch.producer_epoch,
                current: producer.epoch,
            });
        }
        let out_of_order = || AppendError::OutOfOrderSequence {
            producer_id: batch.producer_id,
            sequence: batch.base_sequence,
            last: producer.last_sequence(),
        };
        if batch.producer_epoch > producer.epoch {
            return if batch.base_sequence == 0 {
                Ok(Verdict::New)
            } else {
                Err(out_of_order())
            };
        }
        let same = producer.batches.iter().find(|note| {
            note.first_sequence() == batch.base_sequence
                && note.last_sequence == batch.last_sequence()
        });
        if let Some(note) = same {
            return Ok(Verdict::Duplicate {
                first_offset: note.last_offset + -i64::from(note.offset_delta),
                last_offset: note.last_offset,
                timestamp: note.timestamp,
            });
        }
        if batch.base_sequence == add_sequence(producer.last_sequence(), 1) {
            Ok(Verdict::New)
        } else {
            Err(out_of_order())
        }
    }

    /// Notes a batch that is in the log. No checks: what is in the log was accepted.
    pub(super) fn update(&mut self, batch: &BatchHeader) {
        if !batch.has_producer_id() {
            return;
        }
        let producer = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.producer_epoch,
                batches: VecDeque::new(),
                last_timestamp: batch.max_timestamp,
                coordinator_epoch: -1,
                current_txn_first_offset: -1,
            });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = batch.max_timestamp;
        if batch.is_control() {
            return;
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(BatchNote {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
    }

    /// Forgets producers that have been idle for too long.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.current_txn_first_offset >= 0
                || now_ms.saturating_sub(producer.last_timestamp) < expiration_ms
        });
    }

    pub(super) fn clear(&mut self) {
        self.producers.clear();
    }

    pub(super) fn status(&self) -> Vec<ProducerStatus> {
        let status = self.producers.iter().map(|(id, producer)| ProducerStatus {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_offset: producer
                .batches
                .back()
                .map_or(Offset(-1), |note| note.last_offset),
            last_timestamp: producer.last_timestamp,
        });
        status.collect()
    }

    /// The snapshot file's content.
    pub(super) fn encode(&self) -> Vec<u8> {
        let size = SNAPSHOT_HEADER_BYTES + SNAPSHOT_ENTRY_BYTES * self.producers.len();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        // More than two billion producers do not fit into memory.
        bytes.extend_from_slice(&(self.producers.len() as i32).to_be_bytes());
        for (id, producer) in &self.producers {
            let last = producer.batches.back().copied().unwrap_or(BatchNote {
                last_sequence: NO_SEQUENCE,
                last_offset: Offset(-1),
                offset_delta: 0,
                timestamp: producer.last_timestamp,
            });
            bytes.extend_from_slice(&id.0.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.0.to_be_bytes());
            bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&last.last_offset.0.to_be_bytes());
            bytes.extend_from_slice(&last.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.current_txn_first_offset.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[SNAPSHOT_CRC_FROM..]);
        bytes[2..SNAPSHOT_CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a snapshot file's content; `None` when it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<ProducerState> {
        let (head, entries) = bytes.split_first_chunk::<SNAPSHOT_HEADER_BYTES>()?;
        let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = *head;
        let count = usize::try_from(i32::from_be_bytes([n0, n1, n2, n3])).ok()?;
        if i16::from_be_bytes([v0, v1]) != SNAPSHOT_VERSION
            || u32::from_be_bytes([c0, c1, c2, c3]) != crc32c::crc32c(&bytes[SNAPSHOT_CRC_FROM..])
            || entries.len() != count.checked_mul(SNAPSHOT_ENTRY_BYTES)?
        {
            return None;
        }
        let mut state = ProducerState::default();
        for entry in entries.chunks_exact(SNAPSHOT_ENTRY_BYTES) {
            let (id, producer) = decode_entry(entry)?;
            state.producers.insert(id, producer);
        }
        Some(state)
    }
}

fn decode_entry(mut entry: &[u8]) -> Option<(ProducerId, Producer)> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (field, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*field)
    }
    let bytes = &mut entry;
    let id = ProducerId(i64::from_be_bytes(take(bytes)?));
    let epoch = ProducerEpoch(i16::from_be_bytes(take(bytes)?));
    let last_sequence = i32::from_be_bytes(take(bytes)?);
    let last_offset = Offset(i64::from_be_bytes(take(bytes)?));
    let offset_delta = i32::from_be_bytes(take(bytes)?);
    let last_timestamp = i64::from_be_bytes(take(bytes)?);
    let coordinator_epoch = i32::from_be_bytes(take(bytes)?);
    let current_txn_first_offset = i64::from_be_bytes(take(bytes)?);
    let mut batches = VecDeque::new();
    if last_offset.0 >= 0 {
        batches.push_back(BatchNote {
            last_sequence,
            last_offset,
            offset_delta: offset_delta.max(0),
            timestamp: last_timestamp,
        });
    }
    Some((
        id,
        Producer {
            epoch,
            batches,
            last_timestamp,
            coordinator_epoch,
            current_txn_first_offset,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::batch::Compression;
    use crate::kafka::record::BatchBuilder;

    fn batch(epoch: i16, sequence: i32, records: i32, offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None).producer(
            ProducerId(7),
            ProducerEpoch(epoch),
            sequence,
        );
        for _ in 0..records {
            builder.append(1_000, None, Some(b"v"), &[]);
        }
        let mut header = *builder.build().expect("small").header();
        header.base_offset = Offset(offset);
        header
    }

    #[test]
    fn duplicates_gaps_and_epochs() {
        let mut state = ProducerState::default();
        let is_new = |state: &ProducerState, batch: &BatchHeader| {
            matches!(state.check(batch), Ok(Verdict::New))
        };
        // Unknown: any first sequence number.
        assert!(is_new(&state, &batch(0, 50, 2, 0)));
        for at in 0..6 {
            let next = batch(0, at * 2, 2, i64::from(at) * 2);
            assert!(is_new(&state, &next), "{at}");
            state.update(&next);
        }
        // The last five are remembered, the first is not any more.
        assert_eq!(
            state.check(&batch(0, 2, 2, 0)).expect("known"),
            Verdict::Duplicate {
                first_offset: Offset(2),
                last_offset: Offset(3),
                timestamp: 1_000
            }
        );
        for (sequence, records) in [(0, 2), (13, 2), (10, 1), (14, 1), (11, 1)] {
            assert!(
                matches!(
                    state.check(&batch(0, sequence, records, 0)),
                    Err(AppendError::OutOfOrderSequence { last: 11, .. })
                ),
                "{sequence}"
            );
        }
        assert!(is_new(&state, &batch(0, 12, 3, 12)));
        // A new epoch starts at 0, and the old one is fenced then.
        assert!(matches!(
            state.check(&batch(1, 12, 1, 0)),
            Err(AppendError::OutOfOrderSequence { .. })
        ));
        let newer = batch(1, 0, 1, 12);
        assert!(is_new(&state, &newer));
        state.update(&newer);
        assert!(matches!(
            state.check(&batch(0, 12, 1, 0)),
            Err(AppendError::InvalidProducerEpoch { .. })
        ));
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let mut state = ProducerState::default();
        state.update(&batch(0, i32::MAX - 1, 2, 0));
        assert!(matches!(state.check(&batch(0, 0, 1, 2)), Ok(Verdict::New)));
        state.update(&batch(0, 0, 1, 2));
        let across = batch(0, i32::MAX - 1, 2, 0);
        assert!(matches!(
            state.check(&across),
            Ok(Verdict::Duplicate {
                first_offset: Offset(0),
                ..
            })
        ));
    }

    #[test]
    fn snapshots_read_back_and_damage_is_seen() {
        let mut state = ProducerState::default();
        assert_eq!(state.encode().len(), 10, "an empty snapshot has ten bytes");
        state.update(&batch(3, 0, 4, 10));
        let bytes = state.encode();
        assert_eq!(bytes.len(), 56);
        assert_eq!(ProducerState::decode(&bytes), Some(state));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(ProducerState::decode(&bad), None, "{at}");
            assert_eq!(ProducerState::decode(&bytes[..at]), None, "{at}");
        }
    }

    #[test]
    fn idle_producers_are_forgotten() {
        let mut state = ProducerState::default();
        state.update(&batch(0, 0, 1, 0));
        state.expire(1_999, 1_000);
        assert_eq!(state.status().len(), 1);
        state.expire(2_000, 1_000);
        assert!(state.status().is_empty());
    }
}
