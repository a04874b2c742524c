//! The data plane through a real socket: what a client sends, and what it gets.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeLogDirsRequest, FetchRequest, FetchResponse,
    ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::broker::testing::{Client, apply, batch, broker, listen, topic};

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn produce(version: i16, acks: i16, id: Uuid, partition: i32, records: Bytes) -> ProduceRequest {
    let mut data = TopicProduceData::default().with_partition_data(vec![
        PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(records)),
    ]);
    if version >= 13 {
        data.topic_id = id;
    } else {
        data.name = name("t");
    }
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1_000)
        .with_topic_data(vec![data])
}

fn fetch(version: i16, id: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let mut wanted = FetchTopic::default().with_partitions(vec![
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20),
    ]);
    if version >= 13 {
        wanted.topic_id = id;
    } else {
        wanted.topic = name("t");
    }
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(vec![wanted]);
    if version >= 7 {
        request.with_session_epoch(-1)
    } else {
        request
    }
}

fn records(response: &FetchResponse) -> Bytes {
    response.responses[0].partitions[0]
        .records
        .clone()
        .unwrap_or_default()
}

#[tokio::test]
async fn what_is_produced_is_fetched_in_every_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let topic = topic("t", 1, 0);
    let id = topic.id;
    let broker = broker(dir.path(), vec![topic]);
    let mut client = Client::connect(listen(&broker).await).await;
    // One batch that is copied into the response and one that goes out by sendfile.
    let (small, big) = (batch(&[b"a", b"b"]), batch(&[&[7u8; 100_000]]));
    for version in 3..=13 {
        for (records, count) in [(&small, 2), (&big, 1)] {
            let base = broker
                .replicas
                .leader("t", 0)
                .expect("leads")
                .log_end_offset();
            let request = produce(version, -1, id, 0, records.clone());
            let response = client.call(version, &request).await;
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!((answer.error_code, answer.base_offset), (0, base.0));
            let end = broker
                .replicas
                .leader("t", 0)
                .expect("leads")
                .log_end_offset();
            assert_eq!(end - base, count);
        }
    }
    let end = 11 * 3;
    for version in 4..=18 {
        let response = client.call(version, &fetch(version, id, 0, 0)).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(
            (data.error_code, data.high_watermark),
            (0, end),
            "v{version}"
        );
        let bytes = records(&response);
        assert!(
            bytes.len() > 900_000 && bytes.len() <= 1 << 20,
            "{}",
            bytes.len()
        );
        assert_eq!(
            bytes[21..small.len()],
            small[21..],
            "the payload is as it came"
        );
        let response = client.call(version, &fetch(version, id, 0, end - 3)).await;
        let bytes = records(&response);
        assert_eq!(bytes.len(), small.len() + big.len());
        assert_eq!(bytes[..8], (end - 3).to_be_bytes(), "offsets are stamped");
        let mut request = fetch(version, id, 0, end);
        let response = client.call(version, &request).await;
        assert!(records(&response).is_empty());
        assert_eq!(
            response.responses[0].partitions[0].aborted_transactions,
            None
        );
        request.isolation_level = 1;
        let response = client.call(version, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.aborted_transactions, Some(vec![]));
        assert_eq!(data.last_stable_offset, end);
        let response = client.call(version, &fetch(version, id, 0, end + 1)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, 1);
    }
    assert_eq!(broker.metrics.traffic.messages_in.get(), 33);
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_in_order_and_acks_0_gets_no_frame() {
    let dir = tempfile::tempdir().expect("a directory");
    let topic = topic("t", 1, 0);
    let id = topic.id;
    let broker = broker(dir.path(), vec![topic]);
    let address = listen(&broker).await;
    let mut client = Client::connect(address).await;
    let records = batch(&[b"a"]);
    for _ in 0..10 {
        client.send(9, &produce(9, 0, id, 0, records.clone())).await;
    }
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(client.send(9, &produce(9, 1, id, 0, records.clone())).await);
        sent.push(client.send(12, &fetch(12, id, 0, 0)).await);
    }
    for (index, correlation_id) in sent.into_iter().enumerate() {
        if index % 2 == 0 {
            let (received, response) = client.receive::<ProduceRequest>(9).await;
            assert_eq!(received, correlation_id);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.base_offset, 10 + index as i64 / 2);
        } else {
            let (received, _) = client.receive::<FetchRequest>(12).await;
            assert_eq!(received, correlation_id);
        }
    }
    // With acks=0 the only way to say that it failed is to close.
    client.send(9, &produce(9, 0, id, 5, records)).await;
    assert!(client.frame().await.is_none());
}

#[tokio::test]
async fn refusals_have_kafkas_codes_and_leave_nothing_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let topic = topic("t", 1, 3);
    let id = topic.id;
    let broker = broker(dir.path(), vec![topic]);
    let mut client = Client::connect(listen(&broker).await).await;
    let good = batch(&[b"a"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("bytes") ^= 1;
    let huge = batch(&[&vec![0; 2 << 20]]);
    let table = [
        (1, 0, Bytes::from(flipped), ResponseError::CorruptMessage),
        (1, 0, huge, ResponseError::MessageTooLarge),
        (1, 0, Bytes::new(), ResponseError::InvalidRecord),
        (1, 1, good.clone(), ResponseError::UnknownTopicOrPartition),
        (2, 0, good.clone(), ResponseError::InvalidRequiredAcks),
    ];
    for (acks, partition, records, error) in table {
        let response = client
            .call(9, &produce(9, acks, id, partition, records))
            .await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, error.code(), "{error}");
        assert_eq!(answer.base_offset, -1);
        // As 2.8.0: the code's own sentence does, where no record is to blame.
        let told = answer.error_message.is_some();
        assert_eq!(told, error == ResponseError::InvalidRecord, "{error}");
    }
    let response = client
        .call(13, &produce(13, 1, Uuid::from_u128(5), 0, good))
        .await;
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, ResponseError::UnknownTopicId.code());
    let partition = broker.replicas.leader("t", 0).expect("leads");
    assert_eq!(partition.log_end_offset().0, 0);
    for (epoch, error) in [(2, 74), (3, 0), (4, 75)] {
        let mut request = fetch(12, id, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = client.call(12, &request).await;
        assert_eq!(response.responses[0].partitions[0].error_code, error);
    }
    let mut request = fetch(12, id, 0, 0);
    request.replica_id = 2.into();
    let response = client.call(12, &request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 6);
}

#[tokio::test]
async fn a_waiting_fetch_wakes_on_the_append_and_a_lost_leadership() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 1, 0).id;
    let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
    let address = listen(&broker).await;
    let (mut consumer, mut producer) = (
        Client::connect(address).await,
        Client::connect(address).await,
    );
    let partition = broker.replicas.leader("t", 0).expect("leads");
    let waiting = async |count: usize| {
        let all = async {
            while partition.waiting() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await
    };
    let mut request = fetch(12, id, 0, 0);
    request.max_wait_ms = 3_600_000;
    consumer.send(12, &request).await;
    waiting(1).await.expect("waits");
    producer
        .call(9, &produce(9, 1, id, 0, batch(&[b"a"])))
        .await;
    let (_, response) = consumer.receive::<FetchRequest>(12).await;
    assert!(!records(&response).is_empty());
    request.topics[0].partitions[0].fetch_offset = 1;
    consumer.send(12, &request).await;
    waiting(1).await.expect("waits");
    let mut moved = topic("t", 1, 1);
    for placed in moved.partitions.values_mut() {
        placed.replicas.push(crate::common::ids::BrokerId(2));
        if let Some(state) = &mut placed.state {
            state.leader = Some(crate::common::ids::BrokerId(2));
        }
    }
    apply(&broker, vec![moved]);
    let (_, response) = consumer.receive::<FetchRequest>(12).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ResponseError::NotLeaderOrFollower.code());
    assert_eq!(data.current_leader.leader_id.0, 2);
    assert_eq!(partition.waiting(), 0);
    // What does not come is waited for until the deadline, and no longer.
    apply(&broker, vec![topic("t", 1, 2)]);
    request.max_wait_ms = 50;
    let response = consumer.call(12, &request).await;
    assert!(records(&response).is_empty());
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
}

/// A state from before the broker's restart names it as the leader; its log may have lost its end since.
#[tokio::test]
async fn what_a_predecessor_led_is_not_read_until_there_is_a_leader_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut before = topic("t", 1, 3);
    for placed in before.partitions.values_mut() {
        let state = placed.state.as_mut().expect("there");
        state.written = crate::common::ids::Zxid(0);
    }
    let id = before.id;
    let broker = broker(dir.path(), vec![before]);
    let mut consumer = Client::connect(listen(&broker).await).await;
    for (version, epoch, offset) in [(10, 3, 0), (11, -1, 5), (11, 3, 5), (12, 3, 0), (12, 3, 5)] {
        let mut request = fetch(version, id, 0, offset);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = consumer.call(version, &request).await;
        assert_eq!(
            response.responses[0].partitions[0].error_code,
            ResponseError::NotLeaderOrFollower.code(),
            "v{version}, epoch {epoch}, offset {offset}"
        );
    }
    apply(&broker, vec![topic("t", 1, 4)]);
    let response = consumer.call(12, &fetch(12, id, 0, 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
}

#[tokio::test]
async fn an_incremental_session_shows_only_what_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 2, 0).id;
    let broker = broker(dir.path(), vec![topic("t", 2, 0)]);
    let mut client = Client::connect(listen(&broker).await).await;
    let mut first = fetch(13, id, 0, 0).with_session_epoch(0);
    first.topics.push(fetch(13, id, 1, 0).topics.remove(0));
    let response = client.call(13, &first).await;
    assert!(response.session_id > 0);
    let mut next = FetchRequest::default()
        .with_session_id(response.session_id)
        .with_session_epoch(1)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20);
    assert_eq!(client.call(13, &next).await.responses, vec![]);
    client.call(9, &produce(9, 1, id, 1, batch(&[b"a"]))).await;
    next.session_epoch = 2;
    let response = client.call(13, &next).await;
    assert_eq!(response.responses.len(), 1);
    assert_eq!(response.responses[0].partitions.len(), 1);
    assert_eq!(response.responses[0].partitions[0].partition_index, 1);
    assert!(!records(&response).is_empty());
    next.session_epoch = 3;
    next.forgotten_topics_data = vec![
        ForgottenTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![1]),
    ];
    assert_eq!(client.call(13, &next).await.responses, vec![]);
    next.session_epoch = 3;
    let response = client.call(13, &next).await;
    assert_eq!(response.error_code, 71);
}

#[tokio::test]
async fn offsets_are_found_by_name_and_by_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 1, 0).id;
    let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
    let mut client = Client::connect(listen(&broker).await).await;
    client
        .call(9, &produce(9, 1, id, 0, batch(&[b"a", b"b", b"c"])))
        .await;
    let base = 1_700_000_000_000i64;
    let table = [
        (1, -1, (3, -1, 0)),
        (1, -2, (0, -1, 0)),
        (7, -3, (2, base + 2, 0)),
        (8, -4, (0, -1, 0)),
        (9, -5, (-1, -1, 0)),
        (1, base + 1, (1, base + 1, 0)),
        (1, base + 3, (-1, -1, 0)),
        (6, -3, (-1, -1, 35)),
        (6, -9, (-1, -1, 35)),
    ];
    for version in 1..=10 {
        for (from, timestamp, expected) in table {
            if version < from || (timestamp == -3 && (from == 6) != (version == 6)) {
                continue;
            }
            let request = ListOffsetsRequest::default().with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(name("t"))
                    .with_partitions(vec![
                        ListOffsetsPartition::default().with_timestamp(timestamp),
                    ]),
            ]);
            let response = client.call(version, &request).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!(
                (found.offset, found.timestamp, found.error_code),
                expected,
                "v{version} {timestamp}"
            );
        }
    }
}

#[tokio::test]
async fn metadata_names_brokers_topics_and_leaders_in_every_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 2, 4).id;
    let broker = broker(dir.path(), vec![topic("t", 2, 4)]);
    let mut client = Client::connect(listen(&broker).await).await;
    for version in 0..=13 {
        let mut request = MetadataRequest::default();
        request.topics = if version == 0 { Some(vec![]) } else { None };
        let response = client.call(version, &request).await;
        assert_eq!(response.brokers[0].host.as_str(), "node1");
        assert_eq!(response.topics.len(), 1);
        let partition = &response.topics[0].partitions[1];
        assert_eq!((partition.error_code, partition.leader_id.0), (0, 1));
        if version >= 7 {
            assert_eq!(partition.leader_epoch, 4);
        }
        let ask = |text: &str| MetadataRequestTopic::default().with_name(Some(name(text)));
        request.topics = Some(vec![ask("t"), ask("t"), ask("no"), ask("b/d")]);
        if version >= 12 {
            let by_id = MetadataRequestTopic::default().with_name(None);
            let topics = request.topics.as_mut().expect("some");
            topics.push(by_id.clone().with_topic_id(id));
            topics.push(by_id.with_topic_id(Uuid::from_u128(77)));
        }
        if version >= 4 {
            request.allow_auto_topic_creation = false;
        }
        let response = client.call(version, &request).await;
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        let expected: &[i16] = if version >= 12 {
            &[0, 3, 17, 0, 100]
        } else {
            &[0, 3, 17]
        };
        if version >= 4 {
            assert_eq!(codes, expected, "v{version}");
        }
    }
}

#[tokio::test]
async fn log_dirs_are_described() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 1, 0).id;
    let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
    let mut client = Client::connect(listen(&broker).await).await;
    let records = batch(&[b"a"]);
    client.call(9, &produce(9, 1, id, 0, records.clone())).await;
    for version in 1..=4 {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let response = client.call(version, &request).await;
        assert_eq!(response.results.len(), 1);
        assert_eq!(
            response.results[0].log_dir.as_str(),
            dir.path().to_string_lossy()
        );
        let partition = &response.results[0].topics[0].partitions[0];
        assert_eq!(partition.partition_size, records.len() as i64);
    }
}

#[tokio::test]
async fn garbage_ends_a_connection_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
    let address = listen(&broker).await;
    let mut header = vec![0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    header.extend_from_slice(&i32::MAX.to_be_bytes());
    let frames: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 40],
        vec![0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        vec![0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        vec![0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff],
        vec![0, 1, 0, 19, 0, 0, 0, 1, 0xff, 0xff, 0],
        vec![0, 3, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff],
        // The four bytes that ask the decoder for 150 GB.
        header,
    ];
    for frame in frames {
        let mut client = Client::connect(address).await;
        let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&frame);
        client.stream.write_all(&bytes).await.expect("sends");
        assert!(client.frame().await.is_none(), "{frame:?}");
    }
    // ApiVersions in a version of the future is answered so that everybody can read it.
    let mut client = Client::connect(address).await;
    let future = [0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0];
    client.stream.write_all(&future).await.expect("sends");
    let mut frame = client.frame().await.expect("an answer");
    assert_eq!(frame.split_to(4), &7i32.to_be_bytes()[..]);
    let response = ApiVersionsResponse::decode(&mut frame, 0).expect("v0");
    assert_eq!(response.error_code, 35);
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("franz-go"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    let response = client.call(3, &request).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(response.api_keys.len(), super::ROUTES.len());
    let response = client.call(4, &ApiVersionsRequest::default()).await;
    assert_eq!((response.error_code, response.api_keys.len()), (42, 0));
}

#[tokio::test]
async fn a_stopping_broker_lets_its_connections_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let id = topic("t", 1, 0).id;
    let broker = broker(dir.path(), vec![topic("t", 1, 0)]);
    let address = listen(&broker).await;
    let mut idle = Client::connect(address).await;
    let mut waiting = Client::connect(address).await;
    let mut request = fetch(12, id, 0, 0);
    request.max_wait_ms = 3_600_000;
    waiting.send(12, &request).await;
    assert!(broker.tasks.stop(Duration::from_secs(10)).await);
    assert!(idle.frame().await.is_none());
    assert!(waiting.frame().await.is_none());
    assert_eq!(broker.metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_does_not_hold_the_end_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let topic = topic("t", 1, 0);
    let id = topic.id;
    let broker = broker(dir.path(), vec![topic]);
    let mut client = Client::connect(listen(&broker).await).await;
    let request = produce(9, -1, id, 0, batch(&[&[7u8; 1_000_000]]));
    client.call(9, &request).await;
    // More than the sockets hold.
    for _ in 0..60 {
        client.send(11, &fetch(11, id, 0, 0)).await;
    }
    client.receive::<FetchRequest>(11).await;
    assert!(broker.tasks.stop(Duration::from_secs(5)).await);
}
