//! Produces records: batching, partitioning, acknowledgements, repetition, idempotence.
//!
//! [`Producer::send`] only puts a record into a batch; one task sends what is ready, with a bounded
//! number of requests per broker, and reports every batch exactly once. The bytes of a batch are made
//! once and are the same in every repetition, so that an idempotent repetition is recognized.

pub mod accumulator;
pub mod partitioner;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::ClientError;
use super::cluster::{Cluster, Retry, Wanted};
use super::connection::{Connection, InFlight};
use super::metrics::{Buffer, Metric, Of, Produced, Rows, Sent};
use crate::common::ids::{ProducerEpoch, ProducerId};
use crate::common::tasks::Kind;
pub use accumulator::Record;
use accumulator::{Accumulator, Appended, Identity, Leader, Limits, Pending};
pub use settings::Settings;

/// From version 13 on topics are named by id.
const PRODUCE_VERSION_MAX: i16 = 12;

/// What became of one batch.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The batch's topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// When each record was appended, in monotonic microseconds.
    pub appended_us: &'a [i64],
    /// When the answer was there.
    pub done_us: i64,
    /// The first record's offset (-1 with acks=0), or why the batch was given up.
    pub result: Result<i64, &'a ClientError>,
    batch: &'a Pending,
}

impl Delivery<'_> {
    /// The records of a batch that was given up, as far as they can be read.
    pub fn records(&self) -> Vec<crate::kafka::record::Record> {
        self.batch.records()
    }
}

/// Gets every [`Delivery`]. Runs in the sending task: be brief, do not block.
pub type Report = Box<dyn Fn(&Delivery<'_>) + Send + Sync>;

/// A producer. Clones share everything.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    started_ms: i64,
    started_wall_ms: i64,
    settings: Settings,
    report: Report,
    state: Mutex<State>,
    /// Something changed for the sending task.
    wake: Notify,
    /// Batches came back: there may be room, or nothing outstanding any more.
    room: Notify,
}

struct State {
    accumulator: Accumulator,
    nodes: BTreeMap<i32, NodeState>,
    /// Metadata is being asked for beside the sending.
    refreshing: bool,
    flushing: usize,
    /// Callers that wait for memory.
    starving: usize,
    identity: Option<Identity>,
    produced: Produced,
    /// The identity is spoilt and must be replaced once nothing is in flight.
    renew: bool,
    closed: bool,
}

#[derive(Default)]
struct NodeState {
    connection: Option<Connection>,
    dialling: bool,
    in_flight: usize,
    not_before_us: i64,
}

impl Producer {
    /// Starts a producer for `cluster`.
    pub fn new(cluster: Cluster, settings: Settings, report: Report) -> Producer {
        let limits = Limits {
            batch_bytes: settings.batch_bytes.max(1),
            linger_us: i64::try_from(settings.linger.as_micros()).unwrap_or(i64::MAX),
            buffer_bytes: settings.buffer_bytes,
            request_bytes: settings.request_bytes_max,
            compression: settings.compression,
        };
        let shared = Arc::new(Shared {
            started_ms: cluster.world().clock.monotonic_ms(),
            started_wall_ms: cluster.world().clock.wall_ms(),
            cluster,
            settings,
            report,
            state: Mutex::new(State {
                accumulator: Accumulator::new(limits),
                nodes: BTreeMap::new(),
                refreshing: false,
                flushing: 0,
                starving: 0,
                identity: None,
                produced: Produced::default(),
                renew: false,
                closed: false,
            }),
            wake: Notify::new(),
            room: Notify::new(),
        });
        let tasks = shared.cluster.world().tasks.clone();
        tasks.spawn(
            "kafka-client-produce",
            Kind::Connection,
            send_loop(shared.clone()),
        );
        Producer { shared }
    }

    /// Puts `record` into a batch. Waits for metadata and for memory, `max.block.ms` at most.
    pub async fn send(&self, record: &Record<'_>) -> Result<(), ClientError> {
        let size = size_bound(record);
        let limit = self.shared.settings.request_bytes_max;
        if size > limit {
            return Err(ClientError::RecordTooLarge { size, limit });
        }
        match self.append(record, size)? {
            Appended::Done(false) => return Ok(()),
            Appended::Done(true) => {
                self.shared.wake.notify_one();
                // Lets the sending task have its turn on a runtime of one thread.
                tokio::task::yield_now().await;
                return Ok(());
            }
            _ => {}
        }
        self.send_slowly(record, size).await
    }

    /// Sends everything that was appended and waits until it is delivered or given up.
    pub async fn flush(&self) {
        self.shared.state().flushing += 1;
        self.shared.wake.notify_one();
        loop {
            let room = self.shared.room.notified();
            if self.shared.state().accumulator.outstanding() == 0 {
                break;
            }
            room.await;
        }
        self.shared.state().flushing -= 1;
    }

    /// Flushes and stops.
    pub async fn close(&self) {
        self.flush().await;
        self.shared.state().closed = true;
        self.shared.wake.notify_one();
    }

    /// What this producer has counted so far.
    pub fn metrics(&self) -> Vec<Metric> {
        let cluster = &self.shared.cluster;
        let age_ms = cluster.world().clock.monotonic_ms() - self.shared.started_ms;
        let settings = cluster.settings();
        let mut rows = Rows::new(&settings.client_id, age_ms);
        rows.app_info(self.shared.started_wall_ms);
        let (all, node) = ("producer-metrics", "producer-node-metrics");
        settings.traffic.rows(&mut rows, all, node);
        let metadata_ms = cluster.answered_ms_ago();
        let metadata_age = metadata_ms.map_or(f64::NAN, |ms| ms as f64 / 1_000.0);
        rows.value(all, "metadata-age", Of::Client, metadata_age);
        let state = self.shared.state();
        let buffer = Buffer {
            total: self.shared.settings.buffer_bytes,
            available: state.accumulator.available(),
            waiting: state.starving,
        };
        let nodes = settings.traffic.nodes();
        state.produced.rows(&mut rows, &buffer, &nodes);
        rows.finish()
    }

    /// Monotonic microseconds, on the clock of [`Delivery`].
    pub fn now_us(&self) -> i64 {
        self.shared.now_us()
    }

    fn append(&self, record: &Record<'_>, size: usize) -> Result<Appended, ClientError> {
        let now_us = self.shared.now_us();
        let mut state = self.shared.state();
        if state.closed {
            return Err(ClientError::ClientClosed);
        }
        let rng = &self.shared.cluster.world().rng;
        let appended = state.accumulator.append(record, now_us, || rng.next_u64());
        if matches!(appended, Appended::Done(_)) {
            state.produced.appended(size);
        }
        Ok(appended)
    }

    async fn send_slowly(&self, record: &Record<'_>, size: usize) -> Result<(), ClientError> {
        let limit = self.shared.settings.max_block;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let mut retry = Retry::within(limit);
        loop {
            let room = self.shared.room.notified();
            match self.append(record, size)? {
                Appended::Done(_) => {
                    self.shared.wake.notify_one();
                    tokio::task::yield_now().await;
                    return Ok(());
                }
                Appended::Full => {
                    self.shared.wake.notify_one();
                    let starving = Starving::new(&self.shared);
                    let came = tokio::time::timeout(retry.left(), room).await;
                    drop(starving);
                    if came.is_err() {
                        self.shared.state().produced.exhausted();
                        return Err(ClientError::NoMemory { limit_ms });
                    }
                }
                Appended::UnknownPartition(count) => {
                    return Err(ClientError::NoPartition {
                        topic: record.topic.to_owned(),
                        partition: record.partition.unwrap_or(-1),
                        count,
                    });
                }
                Appended::UnknownTopic => {
                    let names = [record.topic.to_owned()];
                    match self.shared.refresh(&names).await {
                        Ok(true) => {}
                        Ok(false) => {
                            if !retry.pause().await {
                                return Err(ClientError::NoTopic {
                                    topic: record.topic.to_owned(),
                                    limit_ms,
                                });
                            }
                        }
                        Err(error) if error.is_retriable() => {
                            tracing::debug!(%error, "metadata is not to be had");
                            if !retry.pause().await {
                                return Err(ClientError::NoTopic {
                                    topic: record.topic.to_owned(),
                                    limit_ms,
                                });
                            }
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// Somebody waits for memory, for as long as this lives.
struct Starving<'a> {
    shared: &'a Shared,
    since_us: i64,
}

impl Starving<'_> {
    fn new(shared: &Shared) -> Starving<'_> {
        shared.state().starving += 1;
        Starving {
            since_us: shared.now_us(),
            shared,
        }
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        let waited_us = self.shared.now_us() - self.since_us;
        let mut state = self.shared.state();
        state.starving = state.starving.saturating_sub(1);
        state.produced.waited(waited_us);
    }
}

/// What Kafka's producer takes a record to be at most: a batch of its own with the longest prefix.
fn size_bound(record: &Record<'_>) -> usize {
    const RECORD_OVERHEAD_MAX: usize = 21;
    let number = |value: usize| {
        let bits = (usize::BITS - (value << 1).leading_zeros()).max(1);
        bits.div_ceil(7) as usize
    };
    let field = |bytes: Option<&[u8]>| bytes.map_or(1, |b| number(b.len()) + b.len());
    let headers = record
        .headers
        .iter()
        .map(|(key, value)| field(Some(key.as_ref())) + field(value.as_ref().map(AsRef::as_ref)));
    crate::kafka::batch::HEADER_BYTES
        + RECORD_OVERHEAD_MAX
        + field(record.key)
        + field(record.value)
        + number(record.headers.len())
        + headers.sum::<usize>()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> i64 {
        self.cluster.world().clock.monotonic_us()
    }

    /// Asks for metadata of `topics`; says whether the first of them can be written to.
    async fn refresh(&self, topics: &[String]) -> Result<bool, ClientError> {
        let metadata = self.cluster.metadata(Wanted::Named(topics, true)).await?;
        if let Some(refusal) = metadata.refusal(topics) {
            return Err(refusal);
        }
        let mut state = self.state();
        for (name, topic) in &metadata.topics {
            match ResponseError::try_from_code(topic.error_code) {
                None => {}
                Some(error) if error.is_retriable() => continue,
                Some(error) => {
                    return Err(ClientError::Answer {
                        error,
                        message: None,
                    });
                }
            }
            let usable: Vec<bool> = topic
                .partitions
                .iter()
                .map(|p| p.leader.is_some())
                .collect();
            if !usable.is_empty() {
                state.accumulator.set_partitions(name, &usable);
            }
        }
        Ok(topics.first().is_some_and(|name| {
            metadata
                .topics
                .get(name)
                .is_some_and(|topic| topic.error_code == 0 && !topic.partitions.is_empty())
        }))
    }

    /// Asks for metadata anew where a broker refused to be the leader, or where it is old. Sending to
    /// other leaders goes on meanwhile.
    fn refresh_stale(self: &Arc<Self>) {
        let topics = {
            let mut state = self.state();
            let topics = state.accumulator.topics();
            if state.refreshing || topics.is_empty() || !self.cluster.is_stale() {
                return;
            }
            state.refreshing = true;
            topics
        };
        let shared = self.clone();
        let tasks = &self.cluster.world().tasks;
        tasks.spawn("kafka-client-metadata", Kind::Connection, async move {
            if let Err(error) = shared.refresh(&topics).await {
                tracing::debug!(%error, "metadata is not to be had");
                tokio::time::sleep(shared.settings.retry_backoff).await;
            }
            shared.state().refreshing = false;
            shared.wake.notify_one();
        });
    }

    fn give_up(&self, batch: &Pending, error: &ClientError) {
        let count = batch.appended_us.len();
        self.state().produced.failed(&batch.topic, count);
        (self.report)(&Delivery {
            topic: &batch.topic,
            partition: batch.partition,
            appended_us: &batch.appended_us,
            done_us: self.now_us(),
            result: Err(error),
            batch,
        });
    }

    fn delivered(&self, batch: &Pending, offset: i64) {
        (self.report)(&Delivery {
            topic: &batch.topic,
            partition: batch.partition,
            appended_us: &batch.appended_us,
            done_us: self.now_us(),
            result: Ok(offset),
            batch,
        });
    }

    /// Settles one batch after its answer, or after none came.
    fn settle(&self, batch: Pending, result: Result<i64, ClientError>) {
        match result {
            Ok(offset) => {
                self.delivered(&batch, offset);
                self.state().accumulator.done(&batch);
            }
            Err(error) => {
                let now_us = self.now_us();
                let limit_us = i64::try_from(self.settings.delivery_timeout.as_micros());
                let first_us = batch.appended_us.first().copied().unwrap_or(now_us);
                let in_time = now_us - first_us < limit_us.unwrap_or(i64::MAX);
                let disordered = error.code() == Some(ResponseError::OutOfOrderSequenceNumber);
                let may = error.is_retriable() || (disordered && self.settings.idempotent);
                if may && in_time && batch.attempts < self.settings.retries {
                    let pause = i64::try_from(self.settings.retry_backoff.as_micros());
                    self.cluster.stale();
                    let mut state = self.state();
                    let count = batch.appended_us.len();
                    let (topic, partition) = (&batch.topic, batch.partition);
                    tracing::debug!(topic, partition, %error, "a batch is sent again");
                    state.produced.repeated(&batch.topic, count);
                    state.accumulator.again(batch, now_us + pause.unwrap_or(0));
                    return;
                }
                self.give_up(&batch, &error);
                let mut state = self.state();
                state.renew |= self.settings.idempotent;
                state.accumulator.done(&batch);
            }
        }
    }
}

/// A batch that leaves now, as it is counted.
fn first_sent(batch: &Pending, now_us: i64) -> Sent<'_> {
    let since_us = batch.appended_us.first().copied().unwrap_or(now_us);
    Sent {
        topic: &batch.topic,
        records: batch.appended_us.len(),
        bytes: batch.bytes().len(),
        ratio: batch.compression_ratio(),
        queued_ms: (now_us - since_us) as f64 / 1_000.0,
    }
}

async fn send_loop(shared: Arc<Shared>) {
    let shutdown = shared.cluster.world().tasks.shutdown().clone();
    loop {
        let woken = shared.wake.notified();
        if shared.state().closed || shutdown.is_stopping() {
            break;
        }
        let expired = shared.expire();
        if expired {
            shared.room.notify_waiters();
        }
        if shared.settings.idempotent
            && let Err(error) = shared.identify().await
        {
            tracing::warn!(%error, "no producer id yet");
            tokio::time::sleep(shared.settings.retry_backoff).await;
            continue;
        }
        shared.refresh_stale();
        let (wait, sent) = shared.send_ready().await;
        if sent {
            continue;
        }
        if wait.leaderless {
            let topics = shared.state().accumulator.topics();
            if let Err(error) = shared.refresh(&topics).await {
                tracing::debug!(%error, "metadata is not to be had");
            }
            tokio::time::sleep(shared.settings.retry_backoff).await;
            continue;
        }
        let pause = wait.until_us.map_or(Duration::from_secs(1), |until| {
            let us = until.saturating_sub(shared.now_us()).clamp(100, 1_000_000);
            Duration::from_micros(us.unsigned_abs())
        });
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
            () = shutdown.stopped() => break,
        }
    }
    let left = shared.state().accumulator.drain();
    for batch in &left {
        shared.give_up(batch, &ClientError::ClientClosed);
    }
    shared.room.notify_waiters();
}

impl Shared {
    /// Gives up what waited longer than `delivery.timeout.ms`.
    fn expire(&self) -> bool {
        let limit = self.settings.delivery_timeout;
        let limit_us = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        let now_us = self.now_us();
        let expired = self
            .state()
            .accumulator
            .expired(now_us.saturating_sub(limit_us));
        for batch in &expired {
            let error = ClientError::Expired {
                records: batch.appended_us.len(),
                partition: format!("{}-{}", batch.topic, batch.partition),
                waited_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            };
            self.give_up(batch, &error);
        }
        !expired.is_empty()
    }

    /// Makes sure that an idempotent producer has a name.
    async fn identify(&self) -> Result<(), ClientError> {
        {
            let state = self.state();
            let busy = state.nodes.values().any(|node| node.in_flight > 0);
            if state.identity.is_some() && (!state.renew || busy) {
                return Ok(());
            }
        }
        let connection = self.cluster.any().await?;
        let version = connection.version::<InitProducerIdRequest>(5)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = connection.send_as(&request, version).await?;
        ClientError::check(answer.error_code, None)?;
        let identity = Identity {
            id: ProducerId(answer.producer_id.0),
            epoch: ProducerEpoch(answer.producer_epoch),
        };
        let mut state = self.state();
        state.identity = Some(identity);
        state.renew = false;
        if state.accumulator.rename(identity).is_err() {
            tracing::warn!("a batch could not be renamed");
        }
        Ok(())
    }

    /// Sends one request to every leader that has something ready. Says whether any was sent.
    async fn send_ready(self: &Arc<Self>) -> (accumulator::Wait, bool) {
        let metadata = self.cluster.known();
        let now_us = self.now_us();
        let mut dial = Vec::new();
        let (taken, wait) = {
            let mut state = self.state();
            let state = &mut *state;
            if state.renew && self.settings.idempotent {
                return (accumulator::Wait::default(), false);
            }
            let dial = std::cell::RefCell::new(&mut dial);
            let nodes = &state.nodes;
            let in_flight_max = self.settings.in_flight_max;
            let leader = |topic: &str, partition: i32| {
                let Some((node, _)) = metadata.leader(topic, partition) else {
                    return Leader::Unknown;
                };
                let Some(known) = nodes.get(&node.id) else {
                    dial.borrow_mut().push(node.id);
                    return Leader::Busy;
                };
                let open = known.connection.as_ref().is_some_and(|c| !c.is_closed());
                if open && known.in_flight < in_flight_max {
                    return Leader::Ready(node.id);
                }
                if !open && !known.dialling && known.not_before_us <= now_us {
                    dial.borrow_mut().push(node.id);
                }
                Leader::Busy
            };
            let flush = state.flushing > 0;
            state
                .accumulator
                .take(now_us, flush, state.identity, leader)
        };
        for node in dial {
            self.dial(node);
        }
        let sent = !taken.is_empty();
        for (node, batches) in taken {
            self.send_request(node, batches).await;
        }
        (wait, sent)
    }

    fn dial(self: &Arc<Self>, node: i32) {
        {
            let mut state = self.state();
            let known = state.nodes.entry(node).or_default();
            if known.dialling {
                return;
            }
            known.dialling = true;
        }
        let shared = self.clone();
        let tasks = &self.cluster.world().tasks;
        tasks.spawn("kafka-client-dial", Kind::Connection, async move {
            let result = shared.cluster.broker(node).await;
            let pause = i64::try_from(shared.settings.retry_backoff.as_micros()).unwrap_or(0);
            let not_before_us = shared.now_us() + pause;
            if result.is_err() {
                // The leader may have moved: look again before dialling the same broker.
                let topics = shared.state().accumulator.topics();
                let _ = shared.refresh(&topics).await;
            }
            {
                let mut state = shared.state();
                let known = state.nodes.entry(node).or_default();
                known.dialling = false;
                known.not_before_us = not_before_us;
                known.connection = result.ok();
            }
            shared.wake.notify_one();
        });
    }

    async fn send_request(self: &Arc<Self>, node: i32, batches: Vec<Pending>) {
        let sent_us = self.now_us();
        let connection = {
            let mut state = self.state();
            let known = state.nodes.entry(node).or_default();
            known.in_flight += 1;
            let connection = known.connection.clone();
            let records = batches.iter().map(|batch| batch.appended_us.len()).sum();
            state.produced.requested(records);
            for batch in batches.iter().filter(|batch| batch.attempts == 0) {
                state.produced.sent(&first_sent(batch, sent_us));
            }
            connection
        };
        let Some(connection) = connection else {
            return self.fail_all(node, batches, || ClientError::ClientClosed);
        };
        let started = self.start(&connection, &batches).await;
        let in_flight = match started {
            Ok(Some(in_flight)) => in_flight,
            Ok(None) => {
                for batch in batches {
                    self.settle(batch, Ok(-1));
                }
                return self.landed(node);
            }
            Err(error) => {
                let address = connection.address().clone();
                tracing::debug!(%error, "a produce request was not sent");
                connection.close();
                return self.fail_all(node, batches, || ClientError::Closed {
                    address: address.clone(),
                });
            }
        };
        let shared = self.clone();
        let tasks = &self.cluster.world().tasks;
        let limit = self.settings.request_timeout;
        tasks.spawn("kafka-client-produced", Kind::Connection, async move {
            match in_flight.answer(limit).await {
                Ok(answer) => {
                    let ms = (shared.now_us() - sent_us) as f64 / 1_000.0;
                    let throttled_ms = answer.throttle_time_ms;
                    let mut state = shared.state();
                    state.produced.answered(node, ms, throttled_ms);
                    drop(state);
                    shared.settle_all(node, batches, answer);
                }
                Err(error) => {
                    tracing::debug!(%error, "a produce request failed");
                    let address = connection.address().clone();
                    shared.fail_all(node, batches, || ClientError::Closed {
                        address: address.clone(),
                    });
                }
            }
        });
    }

    async fn start(
        &self,
        connection: &Connection,
        batches: &[Pending],
    ) -> Result<Option<InFlight<ProduceRequest>>, ClientError> {
        let version = connection.version::<ProduceRequest>(PRODUCE_VERSION_MAX)?;
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for batch in batches {
            let data = PartitionProduceData::default()
                .with_index(batch.partition)
                .with_records(Some(batch.bytes()));
            match topics.last_mut() {
                Some(topic) if *topic.name.0 == *batch.topic => topic.partition_data.push(data),
                _ => topics.push(
                    TopicProduceData::default()
                        .with_name(TopicName(StrBytes::from_string(batch.topic.clone())))
                        .with_partition_data(vec![data]),
                ),
            }
        }
        let timeout_ms = i32::try_from(self.settings.request_timeout.as_millis());
        let request = ProduceRequest::default()
            .with_acks(self.settings.acks)
            .with_timeout_ms(timeout_ms.unwrap_or(i32::MAX))
            .with_topic_data(topics);
        if self.settings.acks == 0 {
            connection.start_unanswered(&request, version).await?;
            return Ok(None);
        }
        connection.start(&request, version).await.map(Some)
    }

    fn settle_all(&self, node: i32, batches: Vec<Pending>, answer: ProduceResponse) {
        for batch in batches {
            let found = answer
                .responses
                .iter()
                .filter(|topic| *topic.name.0 == *batch.topic)
                .flat_map(|topic| &topic.partition_responses)
                .find(|partition| partition.index == batch.partition);
            let result = match found {
                None => Err(ClientError::Answer {
                    error: ResponseError::UnknownServerError,
                    message: Some("the answer leaves out a partition".to_owned()),
                }),
                // The broker has the batch already: a repetition of an idempotent producer.
                Some(found)
                    if found.error_code == ResponseError::DuplicateSequenceNumber.code() =>
                {
                    Ok(found.base_offset)
                }
                Some(found) => ClientError::check(found.error_code, found.error_message.as_deref())
                    .map(|()| found.base_offset),
            };
            self.settle(batch, result);
        }
        self.landed(node);
    }

    fn fail_all(&self, node: i32, batches: Vec<Pending>, error: impl Fn() -> ClientError) {
        for batch in batches {
            self.settle(batch, Err(error()));
        }
        self.landed(node);
    }

    fn landed(&self, node: i32) {
        if let Some(known) = self.state().nodes.get_mut(&node) {
            known.in_flight = known.in_flight.saturating_sub(1);
        }
        self.room.notify_waiters();
        self.wake.notify_one();
    }
}
