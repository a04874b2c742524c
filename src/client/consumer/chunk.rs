//! What one fetch brought for one partition: whole batches, and the records in them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::client::ClientError;
use crate::common::ids::TopicPartition;
use crate::kafka::batch::{Batch, batches};
use crate::kafka::record::{Record, records};

/// What a compressed batch may inflate to.
const INFLATED_MAX: usize = 256 * 1024 * 1024;

/// The records that one fetch brought for one partition, from the position that was asked for.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Which partition.
    pub partition: TopicPartition,
    /// Where reading goes on.
    pub next_offset: i64,
    /// The high watermark at that time.
    pub high_watermark: i64,
    from: i64,
    batches: Vec<Batch>,
}

impl Chunk {
    /// Reads batches out of `bytes`. Leaves out control batches, and with `aborted` (producer id and
    /// first offset of aborted transactions) what those transactions wrote.
    pub fn new(
        partition: TopicPartition,
        from: i64,
        bytes: Bytes,
        aborted: Option<Vec<(i64, i64)>>,
        high_watermark: i64,
    ) -> Result<Chunk, ClientError> {
        let mut next_offset = from;
        let mut kept = Vec::new();
        let mut aborted_ids: BTreeSet<i64> = BTreeSet::new();
        let mut aborted = aborted.unwrap_or_default();
        aborted.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        for batch in batches(bytes) {
            let batch = batch.map_err(|source| ClientError::Batch {
                partition: partition.to_string(),
                offset: next_offset,
                source: source.into(),
            })?;
            let header = *batch.header();
            let last_offset = header.last_offset().0;
            while let Some((producer, _)) = aborted.pop_if(|(_, first)| *first <= last_offset) {
                aborted_ids.insert(producer);
            }
            next_offset = next_offset.max(header.next_offset().0);
            if header.is_control() {
                // An abort marker ends the producer's aborted transaction; a commit cannot be in it.
                aborted_ids.remove(&header.producer_id.0);
                continue;
            }
            let spoilt = header.is_transactional() && aborted_ids.contains(&header.producer_id.0);
            if !spoilt && last_offset >= from {
                kept.push(batch);
            }
        }
        Ok(Chunk {
            partition,
            next_offset,
            high_watermark,
            from,
            batches: kept,
        })
    }

    /// How many bytes and records its batches have; some may lie before the position.
    pub fn size(&self) -> (usize, usize) {
        let bytes = self.batches.iter().map(|batch| batch.bytes().len()).sum();
        let records = self.batches.iter().map(|batch| batch.header().record_count);
        let records = records.map(|count| usize::try_from(count).unwrap_or(0));
        (bytes, records.sum())
    }

    /// Are there no records in it?
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The records in order, with the batch's kind of timestamp. Checksums are compared if asked for.
    pub fn records(
        &self,
        check: bool,
    ) -> impl Iterator<Item = Result<(Record, bool), ClientError>> + '_ {
        self.batches.iter().flat_map(move |batch| {
            let damaged =
                move |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Batch {
                    partition: self.partition.to_string(),
                    offset: batch.header().base_offset.0,
                    source,
                };
            let log_append_time = batch.header().is_log_append_time();
            let walk = if check {
                batch.check().map_err(|source| damaged(source.into()))
            } else {
                Ok(())
            }
            .and_then(|()| records(batch, INFLATED_MAX).map_err(|source| damaged(source.into())));
            let (walk, failure) = match walk {
                Ok(walk) => (Some(walk), None),
                Err(error) => (None, Some(Err(error))),
            };
            failure.into_iter().chain(
                walk.into_iter()
                    .flatten()
                    .map(move |record| match record {
                        Ok(record) => Ok((record, log_append_time)),
                        Err(source) => Err(damaged(source.into())),
                    })
                    .filter(|record| match record {
                        Ok((record, _)) => record.offset.0 >= self.from,
                        Err(_) => true,
                    }),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
    use crate::kafka::batch::Compression;
    use crate::kafka::record::BatchBuilder;

    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    fn batch(base: i64, producer: i64, flags: i16, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None).producer(
            ProducerId(producer),
            ProducerEpoch(0),
            0,
        );
        for value in values {
            builder.append(7, None, Some(value.as_bytes()), &[]);
        }
        let built = builder.build().expect("small");
        let mut header = *built.header();
        header.attributes |= flags;
        let built = Batch::assemble(header, &built.payload()).expect("small");
        let stamp = built.stamped(Offset(base), LeaderEpoch(0));
        [&stamp[..], &built.payload()].concat()
    }

    fn values(chunk: &Chunk) -> Vec<String> {
        chunk
            .records(true)
            .map(|record| {
                let (record, _) = record.expect("sound");
                let value = record.value.unwrap_or_default();
                format!("{}={}", record.offset, String::from_utf8_lossy(&value))
            })
            .collect()
    }

    #[test]
    fn records_before_the_position_and_a_cut_batch_are_left_out() {
        let mut bytes = batch(10, -1, 0, &["a", "b", "c"]);
        bytes.extend(&batch(13, -1, 0, &["d"])[..50]);
        let tp = TopicPartition::new("t", 0);
        let chunk = Chunk::new(tp, 11, bytes.into(), None, 20).expect("sound");
        assert_eq!(values(&chunk), ["11=b", "12=c"]);
        assert_eq!(chunk.next_offset, 13);
    }

    #[test]
    fn aborted_transactions_are_left_out_up_to_their_marker() {
        let mut bytes = Vec::new();
        bytes.extend(batch(0, 5, TRANSACTIONAL, &["aborted"]));
        bytes.extend(batch(1, 6, TRANSACTIONAL, &["other"]));
        bytes.extend(batch(2, 5, TRANSACTIONAL | CONTROL, &["marker"]));
        bytes.extend(batch(3, 5, TRANSACTIONAL, &["committed"]));
        let tp = TopicPartition::new("t", 0);
        let chunk = Chunk::new(tp.clone(), 0, bytes.clone().into(), Some(vec![(5, 0)]), 4);
        assert_eq!(values(&chunk.expect("sound")), ["1=other", "3=committed"]);
        let all = Chunk::new(tp, 0, bytes.into(), None, 4).expect("sound");
        assert_eq!(all.next_offset, 4);
        assert_eq!(values(&all), ["0=aborted", "1=other", "3=committed"]);
    }

    #[test]
    fn a_damaged_batch_is_an_error() {
        let mut bytes = batch(0, -1, 0, &["a"]);
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let tp = TopicPartition::new("t", 0);
        let chunk = Chunk::new(tp, 0, bytes.into(), None, 1).expect("the header is sound");
        assert!(chunk.records(true).any(|record| record.is_err()));
    }
}
