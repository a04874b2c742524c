use super::*;
use crate::common::clock::Clock;
use crate::common::net::HostPort;
use std::sync::Arc;

/// What a genuine 2.8.0 tool prints with `--print-metrics` after a run with one broker and one topic of
/// one partition, without the values.
const PRODUCER: &str = include_str!("../../../tests/golden/kafka-2.8-producer-metrics.txt");
const CONSUMER: &str = include_str!("../../../tests/golden/kafka-2.8-consumer-metrics.txt");

fn names(rows: &[Metric]) -> Vec<String> {
    let mut names: Vec<String> = rows
        .iter()
        .map(|row| {
            let tags = row.tags.iter().map(|(tag, value)| format!("{tag}={value}"));
            let tags = tags.collect::<Vec<_>>().join(", ");
            format!("{}:{}:{{{tags}}}", row.group, row.name)
        })
        .collect();
    names.sort();
    names
}

fn number(rows: &[Metric], group: &str, name: &str, tags: usize) -> f64 {
    let mut found = rows
        .iter()
        .filter(|row| row.group == group && row.name == name && row.tags.len() == tags);
    match found.next().map(|row| &row.value) {
        Some(Value::Number(number)) => *number,
        other => panic!("{group}:{name} is {other:?}"),
    }
}

/// A producer that has sent four records in one request, whose second broker it knew by its address.
fn producer() -> Vec<Metric> {
    let address = HostPort::new("a", 1);
    let traffic = Arc::new(Traffic::default());
    traffic.name([(&address, -1)].into_iter());
    traffic.opened();
    let mut meter = Meter::new(traffic.clone(), address.clone());
    meter.sent(50);
    meter.received(500);
    traffic.name([(&address, 1)].into_iter());
    traffic.asked();
    traffic.asked();
    meter.sent(450);
    meter.received(100);
    traffic.settled(1);
    let mut produced = Produced::default();
    for bytes in [80, 100] {
        produced.appended(bytes);
    }
    for (records, bytes, ratio) in [(3, 300, 0.5), (1, 100, 1.0)] {
        produced.sent(&Sent {
            topic: "t",
            records,
            bytes,
            ratio,
            queued_ms: 7.0,
        });
    }
    produced.requested(4);
    produced.answered(1, 5.0, 0);
    produced.failed("t", 1);
    produced.waited(500_000);
    let mut rows = Rows::new("producer-1", 2_000);
    rows.app_info(1_000);
    traffic.rows(&mut rows, "producer-metrics", "producer-node-metrics");
    rows.value("producer-metrics", "metadata-age", Of::Client, 0.0);
    let buffer = Buffer {
        total: 1_000,
        available: 900,
        waiting: 0,
    };
    produced.rows(&mut rows, &buffer, &traffic.nodes());
    rows.finish()
}

#[test]
fn a_producers_rows_are_those_of_the_genuine_one() {
    let rows = producer();
    assert_eq!(names(&rows), PRODUCER.lines().collect::<Vec<_>>());
    let (all, node, topic) = (
        "producer-metrics",
        "producer-node-metrics",
        "producer-topic-metrics",
    );
    let expected = [
        (all, "record-send-total", 1, 4.0),
        (all, "record-send-rate", 1, 4.0 / 32.0),
        (all, "record-error-total", 1, 1.0),
        (all, "record-size-avg", 1, 90.0),
        (all, "batch-size-avg", 1, 200.0),
        (all, "batch-size-max", 1, 300.0),
        (all, "compression-rate-avg", 1, 0.75),
        (all, "connection-count", 1, 1.0),
        (all, "requests-in-flight", 1, 1.0),
        (all, "outgoing-byte-total", 1, 500.0),
        (all, "request-size-max", 1, 450.0),
        (all, "network-io-total", 1, 4.0),
        (all, "bufferpool-wait-ratio", 1, 0.25),
        (all, "bufferpool-wait-time-total", 1, 5e8),
        (all, "successful-authentication-total", 1, 0.0),
        // The broker as it was known when it was dialled comes first.
        (node, "outgoing-byte-total", 2, 50.0),
        (node, "request-size-avg", 2, 50.0),
        (topic, "byte-total", 2, 400.0),
        ("kafka-metrics-count", "count", 1, rows.len() as f64),
    ];
    for (group, name, tags, expected) in expected {
        assert_eq!(number(&rows, group, name, tags), expected, "{group}:{name}");
    }
    let unmeasured = [
        (all, "reauthentication-latency-avg", 1),
        (all, "io-time-ns-avg", 1),
        (node, "request-latency-max", 2),
    ];
    for (group, name, tags) in unmeasured {
        assert!(number(&rows, group, name, tags).is_nan(), "{group}:{name}");
    }
}

#[test]
fn a_consumers_rows_are_those_of_the_genuine_one() {
    let partition = TopicPartition::new("t", 0);
    let mut consumed = Consumed::default();
    consumed.begun(&partition);
    for bytes in [100, 300] {
        consumed.fetched(&Fetched {
            topics: [(partition.topic.clone(), (bytes, 2))].into(),
            ms: 4.0,
            throttled_ms: 0,
        });
    }
    for (lag, lead) in [(8, 2), (3, 7)] {
        consumed.handed_out(&partition, (100, 2));
        consumed.stands(&partition, (Some(lag), Some(lead)));
    }
    let mut grouped = Grouped::default();
    grouped.rebalances.add(30.0);
    grouped.rebalanced_at_ms = Some(4_000);
    let mut rows = Rows::new("consumer-g-1", 36_000);
    consumed.rows(&mut rows);
    grouped.rows(&mut rows, 6_500, 1);
    let rows = rows.finish();
    assert_eq!(names(&rows), CONSUMER.lines().collect::<Vec<_>>());
    let (fetch, group) = (
        "consumer-fetch-manager-metrics",
        "consumer-coordinator-metrics",
    );
    let expected = [
        (fetch, "fetch-size-avg", 1, 200.0),
        (fetch, "fetch-size-max", 2, 300.0),
        (fetch, "bytes-consumed-total", 2, 200.0),
        (fetch, "records-lag-max", 1, 8.0),
        (fetch, "records-lead-min", 1, 2.0),
        (fetch, "records-lag", 3, 3.0),
        (fetch, "records-lag-avg", 3, 5.5),
        (fetch, "records-lead", 3, 7.0),
        (group, "rebalance-rate-per-hour", 1, 100.0),
        (group, "last-rebalance-seconds-ago", 1, 2.0),
        (group, "last-heartbeat-seconds-ago", 1, -1.0),
    ];
    for (group, name, tags, expected) in expected {
        assert_eq!(number(&rows, group, name, tags), expected, "{group}:{name}");
    }
    consumed.forgotten(&partition);
    let mut rows = Rows::new("consumer-g-1", 1_000);
    consumed.rows(&mut rows);
    let left = rows.finish();
    assert!(left.iter().all(|row| row.tags.len() < 3), "{left:?}");
}

#[test]
fn nothing_measured_is_not_a_number() {
    let none = Measured::default();
    for value in [none.average(), none.min(), none.max(), none.last()] {
        assert!(value.is_nan());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connections_tasks_tell_how_they_spend_their_time() {
    let traffic = Arc::new(Traffic::default());
    let clock = Clock::manual(0);
    let inner = clock.clone();
    let task = async move {
        inner.advance_ms(3);
        tokio::task::yield_now().await;
        inner.advance_ms(1);
    };
    let timed = Timed::new(task, traffic.clone(), clock.clone());
    clock.advance_ms(12);
    timed.await;
    let mut rows = Rows::new("c", 1_000);
    traffic.rows(&mut rows, "producer-metrics", "producer-node-metrics");
    let rows = rows.finish();
    let expected = [
        ("select-total", 2.0),
        ("iotime-total", 4e6),
        ("io-time-ns-avg", 2e6),
        ("io-ratio", 0.25),
        ("io-waittime-total", 12e6),
        ("io-wait-ratio", 0.75),
    ];
    for (name, expected) in expected {
        let value = number(&rows, "producer-metrics", name, 1);
        assert_eq!(value, expected, "{name}");
    }
}
