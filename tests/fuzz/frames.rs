//! Kafka frames: header, bounds, then the crate's decoder, every API and version that the crate has.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use tripod::kafka::{bounds, header};

use super::Fuzz;

/// Mutated default messages and noise, of one API in all its versions.
fn api<Req: Request + Default>(fuzz: &Fuzz, rounds: u64)
where
    Req::Response: Default,
{
    for round in 0..rounds {
        let versions = Req::VERSIONS;
        let span = u64::try_from(versions.max - versions.min).unwrap_or(0) + 1;
        let version = versions.min + fuzz.rng.below(span) as i16;
        let mut encoded = BytesMut::new();
        let request = round % 2 == 0;
        let _ = if request {
            Req::default().encode(&mut encoded, version)
        } else {
            Req::Response::default().encode(&mut encoded, version)
        };
        let mut body = encoded.to_vec();
        if fuzz.rng.below(4) == 0 {
            body = fuzz.bytes(64);
        }
        fuzz.mutate(&mut body);
        let mut body = Bytes::from(body);
        if request && bounds::check_request(Req::KEY, version, &body).is_ok() {
            let _ = Req::decode(&mut body, version);
        } else if !request && bounds::check_response(Req::KEY, version, &body).is_ok() {
            let _ = Req::Response::decode(&mut body, version);
        }
    }
}

macro_rules! every_api {
    ($fuzz:expr, $rounds:expr; $($request:ident)*) => { $(api::<m::$request>($fuzz, $rounds);)* };
}

#[test]
fn frames_never_panic_and_never_allocate_beyond_the_frame() {
    let fuzz = Fuzz::new("frames");
    let rounds = fuzz.rounds / 4;
    every_api!(&fuzz, rounds;
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
        DescribeGroupsRequest ListGroupsRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest
        DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest DescribeConfigsRequest
        AlterConfigsRequest DescribeLogDirsRequest CreatePartitionsRequest DeleteGroupsRequest
        ElectLeadersRequest IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest
        ListPartitionReassignmentsRequest
        OffsetDeleteRequest DescribeClusterRequest DescribeTopicPartitionsRequest
    );
}

#[test]
fn headers_never_panic() {
    let fuzz = Fuzz::new("headers");
    for _ in 0..fuzz.rounds {
        if let Ok((read, body)) = header::parse(Bytes::from(fuzz.bytes(64))) {
            let _ = bounds::check_request(read.key, read.version, &body);
        }
    }
}
