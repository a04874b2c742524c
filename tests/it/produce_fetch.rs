//! Records in and out: acknowledgements, codecs, positions, idempotence, limits, long polls.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tripod::client::admin::OffsetSpec;
use tripod::client::consumer::{self, Consumer, Start};
use tripod::client::producer::Settings;
use tripod::common::clock::Clock;
use tripod::common::ids::{ProducerEpoch, ProducerId, TopicPartition};
use tripod::kafka::batch::Compression;
use tripod::kafka::record::BatchBuilder;

use crate::cluster::{Client, DEADLINE, Plan, numbered, wait_until};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn values(found: &[(i64, String)]) -> Vec<String> {
    found.iter().map(|(_, value)| value.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acks_and_codec_brings_every_record_in_order() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    for compression in CODECS {
        let name = format!("codec-{}", compression.name());
        client.create(&name, 3).await;
        for (partition, acks) in [(0, 0), (1, 1), (2, -1)] {
            let sent = numbered(&format!("消息 {acks}"), 500);
            let settings = Settings {
                acks,
                compression,
                ..Settings::default()
            };
            client
                .produce(settings, (&name, partition), &sent)
                .await
                .expect("delivered");
            let found = client
                .read((&name, partition), Start::Earliest, sent.len())
                .await;
            assert_eq!(values(&found), sent, "{name} {partition}");
            assert!(found.iter().map(|(offset, _)| *offset).eq(0..500));
            let end = client.offset(&name, partition, OffsetSpec::Latest).await;
            assert_eq!(end.expect("known").offset, 500);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_starts_at_an_offset_or_a_time() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 1).await;
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..10i64 {
        builder.append(1_000 + index * 100, None, Some(b"x"), &[]);
    }
    let batch = builder.build().expect("small").bytes().clone();
    assert_eq!(produce(&client, "t", batch).await, (0, 0));
    for (timestamp, offset) in [
        (0, 0),
        (1_000, 0),
        (1_001, 1),
        (1_850, 9),
        (1_900, 9),
        (1_901, -1),
    ] {
        let found = client
            .offset("t", 0, OffsetSpec::Timestamp(timestamp))
            .await
            .expect("answered");
        assert_eq!(found.offset, offset, "at {timestamp}");
    }
    let found = client.read(("t", 0), Start::Offset(7), 3).await;
    assert!(found.iter().map(|(offset, _)| *offset).eq(7..10));
    let earliest = client.offset("t", 0, OffsetSpec::Earliest).await;
    assert_eq!(earliest.expect("known").offset, 0);
    // Beyond the end is not a place: the consumer begins where it was told to.
    let found = client.read(("t", 0), Start::Offset(99), 1).await;
    assert_eq!(found[0].0, 0);
    cluster.stop().await;
}

/// Produces one batch by hand: error code and base offset.
async fn produce(client: &Client, topic: &str, batch: Bytes) -> (i16, i64) {
    client.leaders(topic, 1).await;
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partition_data(vec![
                    PartitionProduceData::default()
                        .with_index(0)
                        .with_records(Some(batch)),
                ]),
        ]);
    let connection = client.cluster.broker(1).await.expect("a connection");
    let answer = connection.send_as(&request, 9).await.expect("an answer");
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn idempotent((id, epoch): (i64, i16), sequence: i32, records: usize) -> Bytes {
    // Long idle producers are forgotten, by the time of their records.
    let now_ms = Clock::real().wall_ms();
    let mut builder = BatchBuilder::new(Compression::None).producer(
        ProducerId(id),
        ProducerEpoch(epoch),
        sequence,
    );
    for index in 0..records {
        let value = format!("{}", sequence as usize + index);
        builder.append(now_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("small").bytes().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_and_gaps_are_detected_also_after_a_restart() {
    let mut cluster = Plan::nodes(1).start().await;
    let mut client = cluster.client();
    client.create("t", 1).await;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);
    let connection = client.cluster.any().await.expect("a connection");
    let answer = connection.send_as(&request, 4).await.expect("an answer");
    assert_eq!(answer.error_code, 0);
    let id = (answer.producer_id.0, answer.producer_epoch);

    let gap = ResponseError::OutOfOrderSequenceNumber.code();
    assert_eq!(produce(&client, "t", idempotent(id, 0, 3)).await, (0, 0));
    assert_eq!(produce(&client, "t", idempotent(id, 3, 2)).await, (0, 3));
    assert_eq!(produce(&client, "t", idempotent(id, 0, 3)).await, (0, 0));
    assert_eq!(produce(&client, "t", idempotent(id, 3, 2)).await, (0, 3));
    assert_eq!(produce(&client, "t", idempotent(id, 6, 1)).await.0, gap);

    cluster.restart().await;
    client = cluster.client();
    assert_eq!(produce(&client, "t", idempotent(id, 3, 2)).await, (0, 3));
    assert_eq!(produce(&client, "t", idempotent(id, 6, 1)).await.0, gap);
    assert_eq!(produce(&client, "t", idempotent(id, 5, 1)).await, (0, 5));
    let newer = (id.0, id.1 + 1);
    assert_eq!(produce(&client, "t", idempotent(newer, 0, 1)).await, (0, 6));
    let fenced = ResponseError::InvalidProducerEpoch.code();
    assert_eq!(produce(&client, "t", idempotent(id, 6, 1)).await.0, fenced);

    let found = client.read(("t", 0), Start::Earliest, 7).await;
    assert_eq!(values(&found), ["0", "1", "2", "3", "4", "5", "0"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_idempotent_producer_delivers_each_record_once() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 1).await;
    let settings = Settings {
        acks: -1,
        idempotent: true,
        batch_bytes: 200,
        ..Settings::default()
    };
    let sent = numbered("once", 2_000);
    client
        .produce(settings, ("t", 0), &sent)
        .await
        .expect("delivered");
    let found = client.read(("t", 0), Start::Earliest, sent.len()).await;
    assert_eq!(values(&found), sent);
    let end = client.offset("t", 0, OffsetSpec::Latest).await;
    assert_eq!(end.expect("known").offset, 2_000);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_larger_than_the_topic_takes_is_refused_and_leaves_nothing() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client
        .create_with("small", 1, &[("max.message.bytes", "1000")])
        .await;
    for (size, fits) in [(800, true), (1_000, false), (500_000, false)] {
        let result = client
            .produce(Settings::default(), ("small", 0), &["x".repeat(size)])
            .await;
        assert_eq!(result.is_ok(), fits, "{size}: {result:?}");
    }
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, Some(&[b'x'; 1_000]), &[]);
    let batch = builder.build().expect("small").bytes().clone();
    let (code, _) = produce(&client, "small", batch).await;
    assert_eq!(code, ResponseError::MessageTooLarge.code());
    let end = client.offset("small", 0, OffsetSpec::Latest).await;
    assert_eq!(end.expect("known").offset, 1);
    cluster.stop().await;
}

/// As Kafka's consumer does: it tells the error, keeps its position, and asks again when polled again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_goes_on_after_an_error() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("late", 1).await;
    let settings = consumer::Settings {
        reset: consumer::Reset::None,
        auto_commit: false,
        ..consumer::Settings::default()
    };
    let mut consumer = Consumer::new(client.cluster.clone(), settings, None);
    let id = TopicPartition::new("late", 0);
    consumer.assign(vec![(id, Start::Offset(2))]);
    for _ in 0..2 {
        let told = consumer.poll(DEADLINE).await.expect_err("there is nothing");
        assert_eq!(told.code(), Some(ResponseError::OffsetOutOfRange));
    }
    let sent = numbered("late", 4);
    let produced = client.produce(Settings::default(), ("late", 0), &sent);
    produced.await.expect("delivered");
    let mut found = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while found.len() < 2 {
        assert!(Instant::now() < deadline, "{found:?}");
        // The last answer of before may still be on its way.
        if let Ok(Some(chunk)) = consumer.poll(Duration::from_millis(500)).await {
            let records = chunk.records(true).map(|record| record.expect("whole").0);
            found.extend(records.map(|record| record.offset.0));
        }
    }
    assert_eq!(found, [2, 3]);
    consumer.close().await.expect("closes");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_when_a_record_comes() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 1).await;
    let request = FetchRequest::default()
        .with_max_wait_ms(2 * DEADLINE.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![
                    FetchPartition::default()
                        .with_partition(0)
                        .with_partition_max_bytes(1 << 20),
                ]),
        ]);
    let connection = client.cluster.broker(1).await.expect("a connection");
    let waiting = connection.start(&request, 11).await.expect("sent");
    let started = Instant::now();
    let other = cluster.client();
    let (answer, _) = tokio::join!(waiting.answer(DEADLINE), async {
        // The other connection is served while this one waits.
        wait_until("the fetch is under way", || async {
            other.metadata("t").await.ok().map(|_| ())
        })
        .await;
        other.put("t", 0, &numbered("wake", 1)).await
    });
    let answer = answer.expect("an answer");
    assert!(started.elapsed() < DEADLINE);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
    assert!(!partition.records.as_ref().expect("records").is_empty());

    // With nothing to come, it ends when its time is over.
    let brief = request.clone().with_max_wait_ms(100);
    let mut brief = brief;
    brief.topics[0].partitions[0].fetch_offset = 1;
    let answer = connection
        .send_within(&brief, 11, Duration::from_secs(30))
        .await
        .expect("an answer");
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    assert!(partition.records.as_ref().is_none_or(Bytes::is_empty));
    cluster.stop().await;
}
