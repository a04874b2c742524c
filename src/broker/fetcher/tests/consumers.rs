//! Consumers that read from followers (KIP-392), also from such as are behind or out of the in-sync set.

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::*;
use crate::kafka::batch::batches;

/// An ordinary consumer, and one that debugs; Kafka 2.8 treats both alike.
const CONSUMERS: [i32; 2] = [-1, -2];

struct Ask<'a> {
    version: i16,
    replica: i32,
    rack: &'a str,
    epoch: i32,
    offset: i64,
    wait_ms: i32,
}

/// What a consumer from nowhere in particular asks.
const PLAIN: Ask<'_> = Ask {
    version: 12,
    replica: -1,
    rack: "",
    epoch: -1,
    offset: 0,
    wait_ms: 0,
};

#[derive(Debug, PartialEq, Eq)]
struct Told {
    error: i16,
    preferred: i32,
    high_watermark: i64,
    /// Behind the records that came; where none came, what was asked for.
    next: i64,
}

/// No error, nobody else to ask.
fn told(high_watermark: i64, next: i64) -> Told {
    Told {
        error: 0,
        preferred: -1,
        high_watermark,
        next,
    }
}

fn refused(error: ResponseError) -> Told {
    Told {
        error: error.code(),
        ..told(-1, -1)
    }
}

async fn fetch(client: &mut Client, ask: &Ask<'_>) -> Told {
    let partition = FetchPartition::default()
        .with_fetch_offset(ask.offset)
        .with_current_leader_epoch(ask.epoch)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(ask.replica.into())
        .with_max_wait_ms(ask.wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
        .with_rack_id(StrBytes::from_string(ask.rack.to_owned()));
    let answer = client.call(ask.version, &request).await;
    assert_eq!(answer.error_code, 0);
    let data = &answer.responses[0].partitions[0];
    let came = batches(data.records.clone().unwrap_or_default());
    let last = came.map(|batch| batch.expect("whole").header().next_offset().0);
    let next = last.last().unwrap_or(ask.offset);
    Told {
        error: data.error_code,
        preferred: data.preferred_read_replica.0,
        high_watermark: data.high_watermark,
        next: if data.error_code == 0 { next } else { -1 },
    }
}

/// All have what lies below 2, and know it. 3 has stopped, and the leader has more.
async fn third_is_behind() -> (Three, Offset) {
    let three = Three::start(1).await;
    three.append(1, 0, &[b"a", b"b"]);
    until("all have it", || three.ends(0) == [(2, 2); 3]).await;
    three.brokers[2].fetchers.stop();
    // What 3 asked for before may still be answered.
    three.append(1, 0, &[b"c"]);
    until("2 has it", || three.at(2, 0).log_end_offset() == Offset(3)).await;
    let end = three.append(1, 0, &[b"d"]) + 1;
    until("2 has it", || three.at(2, 0).log_end_offset() == end).await;
    (three, end)
}

impl Three {
    /// 3 lags, and is in sync no more: nobody waits for it.
    fn leave_third_behind(&mut self) {
        self.clock.advance_ms(30_001);
        self.change(1, 1, &[1, 2]);
        self.tell(&[1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_shows_nothing_above_the_high_watermark() {
    let (three, end) = third_is_behind().await;
    let visible = three.at(2, 0).high_watermark();
    assert!(visible < end, "3 is in sync and lacks the last");
    let (visible, end) = (visible.0, end.0);
    let mut client = three.client(2).await;
    for replica in CONSUMERS {
        let mut at = async |offset| {
            let ask = Ask {
                replica,
                offset,
                ..PLAIN
            };
            fetch(&mut client, &ask).await
        };
        assert_eq!(at(0).await, told(visible, visible), "{replica}");
        for offset in visible..=end {
            assert_eq!(at(offset).await, told(visible, offset), "nothing yet");
        }
        let beyond = refused(ResponseError::OffsetOutOfRange);
        assert_eq!(at(end + 1).await, beyond, "it has not got so far");
    }
    // Clients before v11 and brokers are to ask the leader.
    let elsewhere = refused(ResponseError::NotLeaderOrFollower);
    for (replica, version) in [(-1, 10), (-2, 10), (3, 12)] {
        let ask = Ask {
            version,
            replica,
            ..PLAIN
        };
        assert_eq!(fetch(&mut client, &ask).await, elsewhere, "{replica}");
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_at_a_follower_waits_for_its_high_watermark() {
    let (mut three, end) = third_is_behind().await;
    let visible = three.at(2, 0).high_watermark().0;
    let mut client = three.client(2).await;
    let ask = Ask {
        offset: visible,
        wait_ms: 15_000,
        ..PLAIN
    };
    let change = async {
        let follower = three.at(2, 0);
        until("it waits", || follower.waiting() > 0).await;
        three.leave_third_behind();
    };
    let (found, ()) = tokio::join!(fetch(&mut client, &ask), change);
    assert_eq!(found, told(end.0, end.0));
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_to_a_follower_that_lacks_what_they_ask_for() {
    let (mut three, end) = third_is_behind().await;
    let behind = three.at(3, 0).log_end_offset().0;
    let leader = &mut three.client(1).await;
    let at = |offset| Ask {
        rack: "rack-3",
        offset,
        ..PLAIN
    };
    let visible = three.at(1, 0).high_watermark().0;
    let sent = Told {
        preferred: 3,
        ..told(visible, 0)
    };
    assert_eq!(
        fetch(leader, &at(0)).await,
        sent,
        "in sync, and it has that"
    );

    // In sync no more: the leader reads out itself, whatever 3 has.
    three.leave_third_behind();
    let end = end.0;
    until("all of it is visible", || {
        three.ends(0)[..2] == [(end, end), (end, end)]
    })
    .await;
    assert_eq!(fetch(leader, &at(0)).await, told(end, end));
    assert_eq!(fetch(leader, &at(behind)).await, told(end, end));

    // Who reads at 3 all the same gets what 3 knows to be visible, and is sent away from what it lacks.
    let known = three.at(3, 0).high_watermark().0;
    let mut third = three.client(3).await;
    assert_eq!(fetch(&mut third, &at(0)).await, told(known, known));
    let beyond = refused(ResponseError::OffsetOutOfRange);
    assert_eq!(fetch(&mut third, &at(end)).await, beyond);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_fences_consumers_of_other_epochs_and_tells_who_waits_of_a_new_leader() {
    let mut three = Three::start(1).await;
    three.append(1, 0, &[b"a"]);
    until("all have it", || three.ends(0) == [(1, 1); 3]).await;
    three.change(1, 2, &[1, 2, 3]);
    three.tell(&[1, 2, 3]);
    let mut client = three.client(2).await;
    for (epoch, expected) in [
        (1, refused(ResponseError::FencedLeaderEpoch)),
        (2, told(1, 1)),
        (3, refused(ResponseError::UnknownLeaderEpoch)),
    ] {
        let ask = Ask { epoch, ..PLAIN };
        assert_eq!(fetch(&mut client, &ask).await, expected, "{epoch}");
    }
    let ask = Ask {
        epoch: 2,
        offset: 1,
        wait_ms: 15_000,
        ..PLAIN
    };
    let change = async {
        let follower = three.at(2, 0);
        until("it waits", || follower.waiting() > 0).await;
        three.change(3, 3, &[1, 2, 3]);
        three.tell(&[1, 2, 3]);
    };
    let (found, ()) = tokio::join!(fetch(&mut client, &ask), change);
    assert_eq!(found, refused(ResponseError::FencedLeaderEpoch));

    // A partition without a leader is nobody's to read.
    three.change(-1, 4, &[1, 2, 3]);
    three.tell(&[2]);
    let mut client = three.client(2).await;
    let found = fetch(&mut client, &PLAIN).await;
    assert_eq!(found, refused(ResponseError::NotLeaderOrFollower));
    three.stop().await;
}
