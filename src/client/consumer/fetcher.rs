//! Fetching ahead: one task per leader keeps a fetch under way while there is room for its answer.
//!
//! Every assignment of a position starts a new round; an answer of an older round is dropped, so a
//! seek or a rebalance never shows records that were fetched before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::Settings;
use super::chunk::Chunk;
use super::session::{FetchSession, Plan, Position};
use crate::client::ClientError;
use crate::client::cluster::{Cluster, Purpose};
use crate::client::connection::Connection;
use crate::client::metrics::{Consumed, Fetched};
use crate::common::ids::TopicPartition;
use crate::common::tasks::Kind;

/// From version 13 on topics are named by id.
const FETCH_VERSION_MAX: i16 = 12;
/// From version 7 on there are fetch sessions.
const SESSION_VERSION: i16 = 7;
/// Answers that may wait per partition: one being read and one in hand.
const CHUNKS_MAX: usize = 2;
/// A pause after a failed fetch.
const BACKOFF: Duration = Duration::from_millis(100);

fn topic_name(partition: &TopicPartition) -> TopicName {
    TopicName(StrBytes::from_string(partition.topic.to_string()))
}

/// Shared by a consumer and its fetching tasks.
pub(super) struct Fetcher {
    cluster: Cluster,
    /// This consumer's own connections: two that wait for records must not wait for one another.
    purpose: Purpose,
    settings: Settings,
    state: Mutex<State>,
    /// Told when there is something to read, or something to decide.
    pub ready: Arc<Notify>,
    /// Told when there may be something to fetch.
    work: Notify,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, Fetching>,
    queue: VecDeque<Arrived>,
    running: BTreeSet<i32>,
    round: u64,
    asked: u64,
    closed: bool,
    consumed: Consumed,
}

struct Fetching {
    round: u64,
    /// Where the next fetch begins; `None` while nobody knows.
    offset: Option<i64>,
    in_flight: Option<Asked>,
    waiting: usize,
}

/// A fetch under way: by this number, of this node. Another node that leads meanwhile is asked without
/// waiting for its answer, which nobody wants then.
struct Asked {
    number: u64,
    node: i32,
}

/// What one fetch asks of one partition.
struct Wanted {
    partition: TopicPartition,
    asked: u64,
    position: Position,
}

/// What a fetch brought.
pub(super) struct Arrived {
    pub partition: TopicPartition,
    pub result: Result<Chunk, ClientError>,
    round: u64,
    /// The partition's first offset, and the end of what may be read; negative where nobody says.
    ends: (i64, i64),
}

/// How far `offset` is from the end of what may be read, and from the beginning.
fn distance((first, end): (i64, i64), offset: i64) -> (Option<i64>, Option<i64>) {
    let lag = (end >= 0).then(|| end - offset);
    let lead = (first >= 0).then(|| offset - first);
    (lag, lead)
}

impl Fetcher {
    pub fn new(cluster: Cluster, settings: Settings, ready: Arc<Notify>) -> Arc<Fetcher> {
        Arc::new(Fetcher {
            purpose: Purpose::Fetch(cluster.new_owner()),
            cluster,
            settings,
            state: Mutex::new(State::default()),
            ready,
            work: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches from `offset` on; whatever was fetched before is dropped.
    pub fn start_at(&self, partition: &TopicPartition, offset: i64) {
        let mut state = self.state();
        state.round += 1;
        let fetching = Fetching {
            round: state.round,
            offset: Some(offset),
            in_flight: None,
            waiting: 0,
        };
        state.partitions.insert(partition.clone(), fetching);
        state.consumed.begun(partition);
        drop(state);
        self.work.notify_waiters();
    }

    /// Fetches no more of these.
    pub fn forget(&self, partition: &TopicPartition) {
        let mut state = self.state();
        state.partitions.remove(partition);
        state.consumed.forgotten(partition);
    }

    /// Ends all fetching.
    pub fn close(&self) {
        self.state().closed = true;
        self.work.notify_waiters();
    }

    /// What was fetched and handed out so far.
    pub fn consumed(&self) -> Consumed {
        self.state().consumed.clone()
    }

    async fn connection(&self, node: i32) -> Result<Connection, ClientError> {
        let known = self.cluster.known();
        let address = known
            .brokers
            .get(&node)
            .map(|node| node.address.clone())
            .ok_or(ClientError::Answer {
                error: ResponseError::BrokerNotAvailable,
                message: None,
            })?;
        self.cluster.connect_for(self.purpose, &address).await
    }

    /// The oldest answer that still counts.
    pub fn pop(&self) -> Option<Arrived> {
        let mut state = self.state();
        while let Some(arrived) = state.queue.pop_front() {
            if let Some(fetching) = state.partitions.get_mut(&arrived.partition)
                && fetching.round == arrived.round
            {
                fetching.waiting = fetching.waiting.saturating_sub(1);
                if let Ok(chunk) = &arrived.result {
                    let distance = distance(arrived.ends, chunk.next_offset);
                    let partition = &arrived.partition;
                    state.consumed.handed_out(partition, chunk.size());
                    state.consumed.stands(partition, distance);
                }
                drop(state);
                self.work.notify_waiters();
                return Some(arrived);
            }
        }
        None
    }

    /// Makes sure that every leader of our partitions has its task.
    pub fn ensure_running(self: &Arc<Self>) {
        let metadata = self.cluster.known();
        let mut missing = BTreeSet::new();
        {
            let mut state = self.state();
            let state = &mut *state;
            for partition in state.partitions.keys() {
                if let Some((node, _)) = metadata.leader(&partition.topic, partition.partition)
                    && state.running.insert(node.id)
                {
                    missing.insert(node.id);
                }
            }
        }
        for node in missing {
            let tasks = &self.cluster.world().tasks;
            tasks.spawn(
                "kafka-client-fetch",
                Kind::Connection,
                fetch_loop(self.clone(), node),
            );
        }
    }

    /// What may be fetched from `node` now.
    fn wanted(&self, node: i32) -> Vec<Wanted> {
        let metadata = self.cluster.known();
        let mut state = self.state();
        let state = &mut *state;
        let mut wanted = Vec::new();
        state.asked += 1;
        for (partition, fetching) in &mut state.partitions {
            let leader = metadata.leader(&partition.topic, partition.partition);
            if let Some(offset) = fetching.offset
                && let Some((leader, leader_epoch)) = leader
                && leader.id == node
                && fetching.in_flight.as_ref().is_none_or(|to| to.node != node)
                && fetching.waiting < CHUNKS_MAX
            {
                fetching.in_flight = Some(Asked {
                    number: state.asked,
                    node,
                });
                wanted.push(Wanted {
                    partition: partition.clone(),
                    asked: state.asked,
                    // Otherwise a former leader answers as any follower does, from a log that may end
                    // before what we have read.
                    position: Position {
                        offset,
                        leader_epoch,
                    },
                });
            }
        }
        wanted
    }

    fn request(&self, plan: &Plan, version: i16) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (partition, position) in &plan.named {
            let item = FetchPartition::default()
                .with_partition(partition.partition)
                .with_fetch_offset(position.offset)
                .with_current_leader_epoch(position.leader_epoch)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(self.settings.partition_bytes_max);
            match topics.last_mut() {
                Some(topic) if *topic.topic.0 == *partition.topic => topic.partitions.push(item),
                _ => topics.push(
                    FetchTopic::default()
                        .with_topic(topic_name(partition))
                        .with_partitions(vec![item]),
                ),
            }
        }
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for partition in &plan.forgotten {
            match forgotten.last_mut() {
                Some(topic) if *topic.topic.0 == *partition.topic => {
                    topic.partitions.push(partition.partition);
                }
                _ => forgotten.push(
                    ForgottenTopic::default()
                        .with_topic(topic_name(partition))
                        .with_partitions(vec![partition.partition]),
                ),
            }
        }
        let wait = i32::try_from(self.settings.max_wait.as_millis()).unwrap_or(i32::MAX);
        let mut request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(wait)
            .with_min_bytes(self.settings.bytes_min)
            .with_max_bytes(self.settings.bytes_max)
            .with_isolation_level(i8::from(self.settings.read_committed))
            .with_topics(topics);
        if version >= SESSION_VERSION {
            request = request
                .with_session_id(plan.id)
                .with_session_epoch(plan.epoch)
                .with_forgotten_topics_data(forgotten);
        }
        request
    }

    fn accept(&self, wanted: &[Wanted], answer: FetchResponse, ms: f64) {
        let throttled_ms = answer.throttle_time_ms;
        let mut found = by_partition(answer);
        let mut stale = false;
        let mut something = false;
        let mut fetched = Fetched {
            ms,
            throttled_ms,
            ..Fetched::default()
        };
        for one in wanted {
            let (partition, offset) = (&one.partition, one.position.offset);
            let data = found.remove(partition);
            let ends = data.as_ref().map_or((-1, -1), |data| self.ends(data));
            let result = data.map(|data| self.read(partition, offset, data));
            let mut state = self.state();
            let state = &mut *state;
            let Some(fetching) = state.partitions.get_mut(partition) else {
                continue;
            };
            if !fetching.answered(one.asked) {
                continue;
            }
            let result = match result {
                None => continue,
                Some(Err(error)) if moved(&error) => {
                    stale = true;
                    continue;
                }
                Some(result) => result,
            };
            if let Ok(chunk) = &result {
                let size = chunk.size();
                let topic = fetched.topics.entry(partition.topic.clone()).or_default();
                *topic = (topic.0 + size.0, topic.1 + size.1);
            }
            match &result {
                Ok(chunk) if chunk.next_offset == offset => {
                    state.consumed.stands(partition, distance(ends, offset));
                    continue;
                }
                Ok(chunk) => fetching.offset = Some(chunk.next_offset),
                // The consumer decides where to go on.
                Err(_) => fetching.offset = None,
            }
            fetching.waiting += 1;
            something = true;
            state.queue.push_back(Arrived {
                partition: partition.clone(),
                result,
                round: fetching.round,
                ends,
            });
        }
        self.state().consumed.fetched(&fetched);
        if stale {
            self.cluster.stale();
        }
        if something || stale {
            self.ready.notify_one();
        }
    }

    fn ends(&self, data: &PartitionData) -> (i64, i64) {
        let end = if self.settings.read_committed {
            data.last_stable_offset
        } else {
            data.high_watermark
        };
        (data.log_start_offset, end)
    }

    fn read(
        &self,
        partition: &TopicPartition,
        offset: i64,
        data: PartitionData,
    ) -> Result<Chunk, ClientError> {
        ClientError::check(data.error_code, None)?;
        let aborted = self.settings.read_committed.then(|| {
            let list = data.aborted_transactions.unwrap_or_default();
            list.iter()
                .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
                .collect()
        });
        Chunk::new(
            partition.clone(),
            offset,
            data.records.unwrap_or_default(),
            aborted,
            data.high_watermark,
        )
    }

    /// Nothing came: what was asked for may be asked for again.
    fn give_back(&self, wanted: &[Wanted]) {
        let mut state = self.state();
        for one in wanted {
            if let Some(fetching) = state.partitions.get_mut(&one.partition) {
                fetching.answered(one.asked);
            }
        }
    }
}

impl Fetching {
    /// The fetch with this number is over: was it the one that counts?
    fn answered(&mut self, number: u64) -> bool {
        self.in_flight.take_if(|to| to.number == number).is_some()
    }
}

fn by_partition(answer: FetchResponse) -> BTreeMap<TopicPartition, PartitionData> {
    let mut found = BTreeMap::new();
    for topic in answer.responses {
        let name: Arc<str> = topic.topic.0.as_str().into();
        for data in topic.partitions {
            let partition = TopicPartition::new(name.clone(), data.partition_index);
            found.insert(partition, data);
        }
    }
    found
}

/// The partition is to be had elsewhere, or later.
fn moved(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ResponseError::NotLeaderOrFollower
                | ResponseError::ReplicaNotAvailable
                | ResponseError::LeaderNotAvailable
                | ResponseError::KafkaStorageError
                | ResponseError::FencedLeaderEpoch
                | ResponseError::UnknownLeaderEpoch
                | ResponseError::UnknownTopicOrPartition
                | ResponseError::OffsetNotAvailable
        )
    )
}

async fn fetch_loop(fetcher: Arc<Fetcher>, node: i32) {
    let shutdown = fetcher.cluster.world().tasks.shutdown().clone();
    let mut session = FetchSession::default();
    loop {
        let work = fetcher.work.notified();
        if shutdown.is_stopping() {
            return;
        }
        if fetcher.state().closed {
            if let Err(error) = end(&fetcher, node, &session).await {
                tracing::debug!(%error, node, "a fetch session was not ended");
            }
            fetcher.cluster.release(fetcher.purpose);
            return;
        }
        let wanted = fetcher.wanted(node);
        if wanted.is_empty() {
            tokio::select! {
                () = work => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = shutdown.stopped() => return,
            }
            continue;
        }
        let clock = &fetcher.cluster.world().clock;
        let sent_us = clock.monotonic_us();
        match fetch(&fetcher, node, &mut session, &wanted).await {
            Ok(answer) => {
                let failed = ResponseError::try_from_code(answer.error_code);
                let leaders_moved = answer
                    .responses
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .any(|data| {
                        ClientError::check(data.error_code, None).is_err_and(|e| moved(&e))
                    });
                let ms = (clock.monotonic_us() - sent_us) as f64 / 1_000.0;
                fetcher.accept(&wanted, answer, ms);
                if failed.is_some() || leaders_moved {
                    tokio::time::sleep(BACKOFF).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, node, "a fetch failed");
                session.failed();
                fetcher.give_back(&wanted);
                fetcher.cluster.stale();
                fetcher.ready.notify_one();
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

async fn fetch(
    fetcher: &Fetcher,
    node: i32,
    session: &mut FetchSession,
    wanted: &[Wanted],
) -> Result<FetchResponse, ClientError> {
    let connection = fetcher.connection(node).await?;
    let version = connection.version::<FetchRequest>(FETCH_VERSION_MAX)?;
    if version < SESSION_VERSION {
        *session = FetchSession::default();
    }
    let positions = wanted
        .iter()
        .map(|one| (one.partition.clone(), one.position));
    let plan = session.next(&positions.collect());
    let request = fetcher.request(&plan, version);
    let limit = fetcher.settings.request_timeout + fetcher.settings.max_wait;
    let answer = connection.send_within(&request, version, limit).await?;
    session.answered(answer.error_code, answer.session_id);
    Ok(answer)
}

/// Lets the broker forget a session that nobody goes on with.
async fn end(fetcher: &Fetcher, node: i32, session: &FetchSession) -> Result<(), ClientError> {
    let Some(plan) = session.end() else {
        return Ok(());
    };
    let connection = fetcher.connection(node).await?;
    let version = connection.version::<FetchRequest>(FETCH_VERSION_MAX)?;
    let request = fetcher.request(&plan, version).with_max_wait_ms(0);
    connection.start(&request, version).await.map(|_| ())
}
