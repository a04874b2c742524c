//! Fetching ahead: one task per leader keeps a fetch under way while there is room for its answer.
//!
//! Every assignment of a position starts a new round; an answer of an older round is dropped, so a
//! seek or a rebalance never shows records that were fetched before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::Settings;
use super::chunk::Chunk;
use crate::client::ClientError;
use crate::client::cluster::{Cluster, Purpose};
use crate::common::ids::TopicPartition;
use crate::common::tasks::Kind;

/// From version 13 on topics are named by id.
const FETCH_VERSION_MAX: i16 = 12;
/// Answers that may wait per partition: one being read and one in hand.
const CHUNKS_MAX: usize = 2;
/// A pause after a failed fetch.
const BACKOFF: Duration = Duration::from_millis(100);

/// Shared by a consumer and its fetching tasks.
pub(super) struct Fetcher {
    cluster: Cluster,
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
    closed: bool,
}

struct Fetching {
    round: u64,
    /// Where the next fetch begins; `None` while nobody knows.
    offset: Option<i64>,
    in_flight: bool,
    waiting: usize,
}

/// What a fetch brought.
pub(super) struct Arrived {
    pub partition: TopicPartition,
    pub result: Result<Chunk, ClientError>,
    round: u64,
}

impl Fetcher {
    pub fn new(cluster: Cluster, settings: Settings, ready: Arc<Notify>) -> Arc<Fetcher> {
        Arc::new(Fetcher {
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
            in_flight: false,
            waiting: 0,
        };
        state.partitions.insert(partition.clone(), fetching);
        drop(state);
        self.work.notify_waiters();
    }

    /// Fetches no more of these.
    pub fn forget(&self, partition: &TopicPartition) {
        self.state().partitions.remove(partition);
    }

    /// Ends all fetching.
    pub fn close(&self) {
        self.state().closed = true;
        self.work.notify_waiters();
    }

    /// The oldest answer that still counts.
    pub fn pop(&self) -> Option<Arrived> {
        let mut state = self.state();
        while let Some(arrived) = state.queue.pop_front() {
            if let Some(fetching) = state.partitions.get_mut(&arrived.partition)
                && fetching.round == arrived.round
            {
                fetching.waiting = fetching.waiting.saturating_sub(1);
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

    /// What may be fetched from `node` now: partition, round, offset.
    fn wanted(&self, node: i32) -> Vec<(TopicPartition, u64, i64)> {
        let metadata = self.cluster.known();
        let mut state = self.state();
        let mut wanted = Vec::new();
        for (partition, fetching) in &mut state.partitions {
            let led_here = metadata
                .leader(&partition.topic, partition.partition)
                .is_some_and(|(leader, _)| leader.id == node);
            if let Some(offset) = fetching.offset
                && led_here
                && !fetching.in_flight
                && fetching.waiting < CHUNKS_MAX
            {
                fetching.in_flight = true;
                wanted.push((partition.clone(), fetching.round, offset));
            }
        }
        wanted
    }

    fn request(&self, wanted: &[(TopicPartition, u64, i64)], version: i16) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (partition, _, offset) in wanted {
            let item = FetchPartition::default()
                .with_partition(partition.partition)
                .with_fetch_offset(*offset)
                .with_current_leader_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(self.settings.partition_bytes_max);
            match topics.last_mut() {
                Some(topic) if *topic.topic.0 == *partition.topic => topic.partitions.push(item),
                _ => topics.push(
                    FetchTopic::default()
                        .with_topic(TopicName(StrBytes::from_string(
                            partition.topic.to_string(),
                        )))
                        .with_partitions(vec![item]),
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
        if version >= 7 {
            // No session: what changes with every answer would have to be sent anyhow.
            request = request.with_session_id(0).with_session_epoch(-1);
        }
        request
    }

    fn accept(&self, wanted: &[(TopicPartition, u64, i64)], answer: FetchResponse) {
        let mut found: BTreeMap<TopicPartition, PartitionData> = BTreeMap::new();
        for topic in answer.responses {
            let name: Arc<str> = topic.topic.0.as_str().into();
            for data in topic.partitions {
                found.insert(
                    TopicPartition::new(name.clone(), data.partition_index),
                    data,
                );
            }
        }
        let mut stale = false;
        let mut something = false;
        for (partition, round, offset) in wanted {
            let result = found
                .remove(partition)
                .map(|data| self.read(partition, *offset, data));
            let mut state = self.state();
            let Some(fetching) = state.partitions.get_mut(partition) else {
                continue;
            };
            if fetching.round != *round {
                continue;
            }
            fetching.in_flight = false;
            let result = match result {
                None => continue,
                Some(Err(error)) if moved(&error) => {
                    stale = true;
                    continue;
                }
                Some(result) => result,
            };
            match &result {
                Ok(chunk) if chunk.next_offset == *offset => continue,
                Ok(chunk) => fetching.offset = Some(chunk.next_offset),
                // The consumer decides where to go on.
                Err(_) => fetching.offset = None,
            }
            fetching.waiting += 1;
            something = true;
            state.queue.push_back(Arrived {
                partition: partition.clone(),
                result,
                round: *round,
            });
        }
        if stale {
            self.cluster.stale();
        }
        if something || stale {
            self.ready.notify_one();
        }
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
    fn give_back(&self, wanted: &[(TopicPartition, u64, i64)]) {
        let mut state = self.state();
        for (partition, round, _) in wanted {
            if let Some(fetching) = state.partitions.get_mut(partition)
                && fetching.round == *round
            {
                fetching.in_flight = false;
            }
        }
    }
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
    loop {
        let work = fetcher.work.notified();
        if fetcher.state().closed || shutdown.is_stopping() {
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
        match fetch(&fetcher, node, &wanted).await {
            Ok(answer) => {
                let failed = ResponseError::try_from_code(answer.error_code);
                let leaders_moved = answer
                    .responses
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .any(|data| {
                        ClientError::check(data.error_code, None).is_err_and(|e| moved(&e))
                    });
                fetcher.accept(&wanted, answer);
                if failed.is_some() || leaders_moved {
                    tokio::time::sleep(BACKOFF).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, node, "a fetch failed");
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
    wanted: &[(TopicPartition, u64, i64)],
) -> Result<FetchResponse, ClientError> {
    let known = fetcher.cluster.known();
    let address = known
        .brokers
        .get(&node)
        .map(|node| node.address.clone())
        .ok_or(ClientError::Answer {
            error: ResponseError::BrokerNotAvailable,
            message: None,
        })?;
    let connection = fetcher
        .cluster
        .connect_for(Purpose::Fetch, &address)
        .await?;
    let version = connection.version::<FetchRequest>(FETCH_VERSION_MAX)?;
    let request = fetcher.request(wanted, version);
    let limit = fetcher.settings.request_timeout + fetcher.settings.max_wait;
    connection.send_within(&request, version, limit).await
}
