//! Encodes a Fetch response around its records, which stay in their files.
//!
//! Pure. The crate would copy the records into one buffer; this writes everything else and leaves a
//! [`Chunk::File`] where a region goes. With the regions read in, the bytes are those of the crate, in
//! every version: a test compares them.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{
    FetchableTopicResponse, NodeEndpoint, PartitionData,
};
use kafka_protocol::protocol::Encodable;

use crate::broker::api::Chunk;
use crate::broker::partition::Region;

/// Versions from which on the response is flexible.
const FLEXIBLE: i16 = 12;

/// One partition's records.
#[derive(Clone, Debug)]
pub enum Records {
    /// Read into memory: nothing, or so little that one write is cheaper.
    Bytes(Bytes),
    /// Sent from the file.
    File(Region),
}

impl Records {
    /// How many bytes go out.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(region) => region.len,
        }
    }
}

/// Encodes `response`, whose `records` fields are not looked at: `records` has them, in the order of
/// the partitions.
pub fn encode(
    version: i16,
    response: &FetchResponse,
    records: Vec<Records>,
) -> Result<Vec<Chunk>, anyhow::Error> {
    let mut writer = Writer {
        version,
        bytes: BytesMut::with_capacity(64 + 96 * records.len()),
        chunks: Vec::new(),
    };
    let mut records = records.into_iter();
    writer.bytes.put_i32(response.throttle_time_ms);
    if version >= 7 {
        writer.bytes.put_i16(response.error_code);
        writer.bytes.put_i32(response.session_id);
    }
    writer.count(response.responses.len());
    for topic in &response.responses {
        writer.topic(topic, &mut records)?;
    }
    if version >= FLEXIBLE {
        writer.endpoints(&response.node_endpoints)?;
    }
    writer.cut();
    Ok(writer.chunks)
}

struct Writer {
    version: i16,
    bytes: BytesMut,
    chunks: Vec<Chunk>,
}

impl Writer {
    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE
    }

    /// What was written so far becomes a chunk.
    fn cut(&mut self) {
        if !self.bytes.is_empty() {
            self.chunks.push(Chunk::Bytes(self.bytes.split().freeze()));
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// A length or count; compact ones are one more, so that null is 0.
    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        if self.flexible() {
            self.varint(length as u32 + 1);
        } else {
            self.bytes.put_i32(length);
        }
    }

    fn count(&mut self, count: usize) {
        self.length(count);
    }

    fn no_tags(&mut self) {
        if self.flexible() {
            self.bytes.put_u8(0);
        }
    }

    fn topic(
        &mut self,
        topic: &FetchableTopicResponse,
        records: &mut impl Iterator<Item = Records>,
    ) -> Result<(), anyhow::Error> {
        if self.version >= 13 {
            self.bytes.put_slice(topic.topic_id.as_bytes());
        } else {
            if self.flexible() {
                self.length(topic.topic.len());
            } else {
                self.bytes
                    .put_i16(i16::try_from(topic.topic.len()).unwrap_or(i16::MAX));
            }
            self.bytes.put_slice(topic.topic.as_bytes());
        }
        self.count(topic.partitions.len());
        for partition in &topic.partitions {
            let records = records.next().unwrap_or(Records::Bytes(Bytes::new()));
            self.partition(partition, records)?;
        }
        self.no_tags();
        Ok(())
    }

    fn partition(
        &mut self,
        partition: &PartitionData,
        records: Records,
    ) -> Result<(), anyhow::Error> {
        self.bytes.put_i32(partition.partition_index);
        self.bytes.put_i16(partition.error_code);
        self.bytes.put_i64(partition.high_watermark);
        self.bytes.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.bytes.put_i64(partition.log_start_offset);
        }
        match &partition.aborted_transactions {
            None if self.flexible() => self.bytes.put_u8(0),
            None => self.bytes.put_i32(-1),
            Some(aborted) => {
                self.count(aborted.len());
                for transaction in aborted {
                    transaction.encode(&mut self.bytes, self.version)?;
                }
            }
        }
        if self.version >= 11 {
            self.bytes.put_i32(partition.preferred_read_replica.0);
        }
        self.length(records.len());
        match records {
            Records::Bytes(bytes) => self.bytes.put_slice(&bytes),
            Records::File(region) => {
                self.cut();
                self.chunks.push(Chunk::File {
                    file: region.file,
                    position: region.position,
                    len: region.len as u64,
                });
            }
        }
        if self.flexible() {
            self.partition_tags(partition)?;
        }
        Ok(())
    }

    fn partition_tags(&mut self, partition: &PartitionData) -> Result<(), anyhow::Error> {
        let diverging = partition.diverging_epoch != Default::default();
        let leader = partition.current_leader != Default::default();
        self.varint(u32::from(diverging) + u32::from(leader));
        if diverging {
            self.tagged(0, &partition.diverging_epoch)?;
        }
        if leader {
            self.tagged(1, &partition.current_leader)?;
        }
        Ok(())
    }

    fn tagged(&mut self, tag: u32, value: &impl Encodable) -> Result<(), anyhow::Error> {
        let size = value.compute_size(self.version)?;
        self.varint(tag);
        self.varint(u32::try_from(size)?);
        value.encode(&mut self.bytes, self.version)
    }

    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<(), anyhow::Error> {
        if self.version < 16 || endpoints.is_empty() {
            self.bytes.put_u8(0);
            return Ok(());
        }
        let mut array = Writer {
            version: self.version,
            bytes: BytesMut::new(),
            chunks: Vec::new(),
        };
        array.count(endpoints.len());
        for endpoint in endpoints {
            endpoint.encode(&mut array.bytes, self.version)?;
        }
        self.varint(1);
        self.varint(0);
        self.varint(u32::try_from(array.bytes.len())?);
        self.bytes.put_slice(&array.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch,
    };
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::StrBytes;

    fn partition(version: i16, index: i32, records: &[u8]) -> PartitionData {
        let mut partition = PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(1 << 40)
            .with_last_stable_offset(77)
            .with_log_start_offset(5)
            .with_aborted_transactions(match index {
                0 => None,
                1 => Some(vec![]),
                _ => Some(vec![
                    AbortedTransaction::default()
                        .with_producer_id(9.into())
                        .with_first_offset(3),
                ]),
            })
            .with_records(Some(Bytes::copy_from_slice(records)));
        if version >= 11 && index == 2 {
            partition.preferred_read_replica = BrokerId(2);
        }
        if version >= 12 && index == 1 {
            partition.error_code = 74;
            partition.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(300))
                .with_leader_epoch(8);
        }
        if version >= 12 && index == 3 {
            partition.diverging_epoch = EpochEndOffset::default()
                .with_epoch(4)
                .with_end_offset(1000);
        }
        partition
    }

    fn response(version: i16, sizes: &[usize]) -> FetchResponse {
        let mut response = FetchResponse::default().with_throttle_time_ms(3);
        if version >= 7 {
            response.error_code = 70;
            response.session_id = 0x0102_0304;
        }
        let mut topic = FetchableTopicResponse::default();
        if version >= 13 {
            topic.topic_id = uuid::Uuid::from_u128(0x0a0b_0c0d << 64 | 1);
        } else {
            topic.topic = TopicName(StrBytes::from_string("t".repeat(200)));
        }
        for (index, size) in sizes.iter().enumerate() {
            let records: Vec<u8> = (0..*size).map(|byte| byte as u8).collect();
            topic
                .partitions
                .push(partition(version, index as i32, &records));
        }
        response.responses = vec![topic.clone(), FetchableTopicResponse::default(), topic];
        if version >= 16 {
            response.node_endpoints = vec![
                NodeEndpoint::default()
                    .with_node_id(BrokerId(1))
                    .with_host(StrBytes::from_static_str("node1"))
                    .with_port(9092)
                    .with_rack(Some(StrBytes::from_static_str("r"))),
            ];
        }
        response
    }

    fn inlined(version: i16, response: &FetchResponse) -> Vec<u8> {
        let records = response.responses.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|one| Records::Bytes(one.records.clone().unwrap_or_default()))
        });
        let chunks = encode(version, response, records.collect()).expect("encodes");
        let mut bytes = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Bytes(part) => bytes.extend_from_slice(&part),
                Chunk::File { .. } => panic!("no file was given"),
            }
        }
        bytes
    }

    #[test]
    fn the_envelope_is_the_crates_byte_for_byte_in_every_version() {
        for version in 4..=18 {
            for sizes in [vec![], vec![0], vec![1, 0, 126, 127, 128, 16_383, 16_384]] {
                let response = response(version, &sizes);
                let mut expected = BytesMut::new();
                response.encode(&mut expected, version).expect("encodes");
                assert_eq!(
                    inlined(version, &response),
                    &expected[..],
                    "v{version} {sizes:?}"
                );
            }
            let many = vec![0; 200];
            let response = response(version, &many);
            let mut expected = BytesMut::new();
            response.encode(&mut expected, version).expect("encodes");
            assert_eq!(inlined(version, &response), &expected[..], "v{version}");
        }
    }
}
