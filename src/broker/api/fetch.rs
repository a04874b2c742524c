//! Fetch (1): reads partitions, waits until there is enough to read.
//!
//! Versions 4-18. v7 sessions, v9 leader epochs, v11 racks and reads from followers (KIP-392), v12 diverging epochs and the current leader, v13 topic ids, v15 the replica's state, v16
//! the leader's address, v17/18 what only replicas send. Records go out from the file, see
//! [`envelope`].
//!
//! A follower (a replica id of 0 or more) reads to the log's end and waits for that; each look at the log
//! on its behalf tells the leader how far it is. One that was sent an older high watermark than the
//! leader's is answered at once, so that it learns of it without another record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use self::envelope::Records;
use super::{BadRequest, Context, Reply, Route};
use crate::broker::Broker;
use crate::broker::fetch_session::{Begun, Follower, Key, NO_SESSION, Shown, TopicKey, Wanted};
use crate::broker::image::Image;
use crate::broker::metrics::Traffic;
use crate::broker::partition::{Isolation, Partition, PartitionRead, WatchEpoch};
use crate::broker::wait::{Changed, Waiter};
use crate::common::ids::{BrokerId as FollowerId, LeaderEpoch, Offset, Zxid};

mod envelope;
mod preferred;

/// The route.
pub const ROUTE: Route = Route {
    key: 1,
    name: "Fetch",
    min: 4,
    max: 18,
    handle: |broker, context, body| Box::pin(handle(broker, context, body)),
};

/// Regions up to this size are copied into the response: one write instead of two and a `sendfile`.
const INLINE_BYTES: usize = 16 << 10;
/// How often all partitions of a follower's session are looked at, if not a quarter of
/// `replica.lag.time.max.ms` is less. In between those are that tell of a change.
const LOOK_AT_ALL_MS: i64 = 5_000;

async fn handle(broker: &Broker, context: &Context, body: Bytes) -> Result<Reply, BadRequest> {
    let request: FetchRequest = super::decode(ROUTE.name, context.version, body)?;
    let begun = begin(broker, context.version, &request);
    let (wanted, session) = match begun {
        Begun::Refused(error) => {
            let response = FetchResponse::default().with_error_code(error.code());
            return reply(context.version, &response, Vec::new());
        }
        Begun::Sessionless(wanted) => (wanted, Session::None),
        Begun::Full(wanted) => (wanted, Session::New),
        Begun::Incremental(wanted) => (wanted, Session::Known(request.session_id)),
    };
    let mut query = Query::new(broker, context, &request);
    drop(request);
    query.changed = query.replica.and_then(|_| session.changed(broker));
    let looked = match (&session, query.changed.clone()) {
        (Session::Known(id), Some(changed)) => {
            follow_changes(broker, &query, (*id, &changed), wanted).await
        }
        _ => look_until_enough(broker, &query, wanted).await,
    };
    respond(broker, context, &query, session, looked)
}

/// What becomes of the client's session.
enum Session {
    None,
    New,
    Known(i32),
}

impl Session {
    /// What the partitions of a follower's session tell of.
    fn changed(&self, broker: &Broker) -> Option<Arc<Changed>> {
        match self {
            Session::None => None,
            Session::New => Some(Arc::default()),
            Session::Known(id) => broker.replicas.fetch_sessions().changed(*id),
        }
    }
}

fn begin(broker: &Broker, version: i16, request: &FetchRequest) -> Begun {
    let by_id = version >= 13;
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let name = topic_key(by_id, &topic.topic, topic.topic_id);
        for partition in &topic.partitions {
            wanted.push((
                (name.clone(), partition.partition),
                Wanted {
                    offset: partition.fetch_offset,
                    bytes_max: partition.partition_max_bytes,
                    leader_epoch: partition.current_leader_epoch,
                    last_fetched_epoch: partition.last_fetched_epoch,
                    log_start_offset: partition.log_start_offset,
                },
            ));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name = topic_key(by_id, &topic.topic, topic.topic_id);
        let partitions = topic.partitions.iter();
        forgotten.extend(partitions.map(|partition| (name.clone(), *partition)));
    }
    broker.replicas.fetch_sessions().begin(
        broker.clock.monotonic_ms(),
        (request.session_id, request.session_epoch),
        by_id,
        wanted,
        &forgotten,
    )
}

fn topic_key(by_id: bool, name: &TopicName, id: uuid::Uuid) -> TopicKey {
    if by_id {
        TopicKey::Id(id)
    } else {
        TopicKey::Name(Arc::from(name.as_str()))
    }
}

/// What the whole request asks for.
struct Query {
    bytes_min: usize,
    bytes_max: usize,
    wait: Duration,
    isolation: Isolation,
    /// The follower that asks, if one does.
    replica: Option<FollowerId>,
    /// The registration of that follower, where it says one (KIP-903).
    registered: Option<Zxid>,
    /// The consumer's rack, where this broker sends consumers to replicas in their own.
    rack: Option<String>,
    /// Where the request came in.
    listener: Arc<str>,
    version: i16,
    /// Of a follower's session: who hears of changes.
    changed: Option<Arc<Changed>>,
}

impl Query {
    fn new(broker: &Broker, context: &Context, request: &FetchRequest) -> Query {
        let version = context.version;
        let bytes = |value: i32| usize::try_from(value).unwrap_or(0);
        let bytes_max = bytes(request.max_bytes).min(bytes(broker.config.broker.fetch_max_bytes));
        let replica = if version >= 15 {
            request.replica_state.replica_id
        } else {
            request.replica_id
        };
        Query {
            bytes_min: bytes(request.min_bytes).min(bytes_max),
            bytes_max,
            wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            isolation: match (replica.0, request.isolation_level) {
                (0.., _) => Isolation::LogEnd,
                (_, 1) => Isolation::LastStable,
                _ => Isolation::HighWatermark,
            },
            replica: (replica.0 >= 0).then_some(FollowerId(replica.0)),
            registered: Some(Zxid(request.replica_state.replica_epoch)).filter(|epoch| epoch.0 > 0),
            rack: Some(request.rack_id.to_string())
                .filter(|rack| !rack.is_empty() && broker.config.broker.sends_to_racks()),
            listener: context.listener.clone(),
            version,
            changed: None,
        }
    }
}

/// One partition, as it was found.
struct Looked {
    key: Key,
    wanted: Wanted,
    /// The topic's name, where it is known.
    topic: Option<Arc<str>>,
    partition: Option<(Arc<Partition>, WatchEpoch)>,
    found: Result<Found, ResponseError>,
    /// The follower that asks does not know the newest high watermark.
    untold: bool,
    /// This broker leads the partition.
    led: bool,
}

enum Found {
    Records(PartitionRead, Records),
    /// The client's log leaves ours behind this epoch and offset.
    Diverging(LeaderEpoch, Offset),
    /// The consumer had better ask that follower.
    Elsewhere(PartitionRead, FollowerId),
}

impl Looked {
    fn bytes(&self) -> usize {
        match &self.found {
            Ok(Found::Records(_, records)) => records.len(),
            _ => 0,
        }
    }

    /// Does this follower have everything, know that it has, and count as in sync?
    fn is_clean(&self, follower: FollowerId) -> bool {
        let (Ok(Found::Records(read, records)), Some((partition, _))) =
            (&self.found, &self.partition)
        else {
            return false;
        };
        records.len() == 0
            && !self.untold
            && self.wanted.offset == read.log_end_offset.0
            && partition.role().isr.contains(&follower)
    }

    fn is_urgent(&self) -> bool {
        self.untold || !matches!(self.found, Ok(Found::Records(..)))
    }
}

/// Looks, and as long as there is too little and time is left, waits for progress and looks again.
async fn look_until_enough(
    broker: &Broker,
    query: &Query,
    wanted: Vec<(Key, Wanted)>,
) -> Vec<Looked> {
    let looked = look(broker, query, &wanted);
    let enough = |looked: &[Looked]| {
        let bytes: usize = looked.iter().map(Looked::bytes).sum();
        bytes >= query.bytes_min || looked.is_empty() || looked.iter().any(Looked::is_urgent)
    };
    if query.wait.is_zero() || enough(&looked) {
        return looked;
    }
    let mut looked = looked;
    let mut deadline = std::pin::pin!(tokio::time::sleep(query.wait));
    loop {
        let have: usize = looked.iter().map(Looked::bytes).sum();
        let missing = query.bytes_min.saturating_sub(have);
        let waiter = Waiter::new(i64::try_from(missing).unwrap_or(i64::MAX));
        let watching: Vec<_> = looked
            .iter()
            .filter_map(|one| {
                let (partition, epoch) = one.partition.as_ref()?;
                let Ok(Found::Records(read, _)) = &one.found else {
                    return None;
                };
                Some(match query.replica {
                    None => (partition.watch(&waiter, read.high_watermark, *epoch), None),
                    Some(_) => {
                        let [end, high_watermark] = partition.watch_end(&waiter, read, *epoch);
                        (end, Some(high_watermark))
                    }
                })
            })
            .collect();
        // What was found may be much, and is read again anyway.
        let led: Vec<bool> = looked.iter().map(|one| one.led).collect();
        drop(looked);
        let late = tokio::select! {
            () = waiter.enough() => false,
            () = deadline.as_mut() => true,
        };
        drop(watching);
        looked = look(broker, query, &wanted);
        for (one, led) in looked.iter_mut().zip(led) {
            if led && !one.led && one.found.is_ok() {
                // A follower could serve it, too, but whoever waits here waits for the leader.
                one.found = Err(ResponseError::NotLeaderOrFollower);
            }
        }
        if late || enough(&looked) {
            return looked;
        }
    }
}

/// [`look_until_enough`] for a follower's session: of its partitions those are looked at that have changed,
/// or that the follower does not have all of.
async fn follow_changes(
    broker: &Broker,
    query: &Query,
    (id, changed): (i32, &Changed),
    wanted: Vec<(Key, Wanted)>,
) -> Vec<Looked> {
    let mut wanted = wanted;
    let mut looked = look(broker, query, &wanted);
    let mut deadline = std::pin::pin!(tokio::time::sleep(query.wait));
    let mut late = query.wait.is_zero();
    loop {
        let bytes: usize = looked.iter().map(Looked::bytes).sum();
        if late || bytes >= query.bytes_min || looked.iter().any(Looked::is_urgent) {
            return looked;
        }
        drop(looked);
        late = tokio::select! {
            () = changed.marked() => false,
            () = deadline.as_mut() => true,
        };
        let now_ms = broker.clock.monotonic_ms();
        let due = broker.replicas.fetch_sessions().due(now_ms, id);
        wanted = due.unwrap_or(wanted);
        looked = look(broker, query, &wanted);
    }
}

fn look(broker: &Broker, query: &Query, wanted: &[(Key, Wanted)]) -> Vec<Looked> {
    let image = broker.image.load();
    let mut left = query.bytes_max;
    let mut first = true;
    wanted
        .iter()
        .map(|(key, wanted)| {
            let topic = match &key.0 {
                TopicKey::Name(name) => Some(name.clone()),
                TopicKey::Id(id) => image.topic_names.get(id).cloned(),
            };
            let mut looked = Looked {
                key: key.clone(),
                wanted: *wanted,
                topic,
                partition: None,
                found: Err(ResponseError::UnknownTopicId),
                untold: false,
                led: false,
            };
            look_at(broker, query, (left, first), &mut looked);
            let bytes = looked.bytes();
            left = left.saturating_sub(bytes);
            first &= bytes == 0;
            looked
        })
        .collect()
}

/// Reads one partition, within what the ones before it left over.
fn look_at(broker: &Broker, query: &Query, (left, first): (usize, bool), looked: &mut Looked) {
    let Some(topic) = &looked.topic else {
        return;
    };
    // From v11 on a consumer says with its rack that it can read from followers.
    let found = if query.replica.is_none() && query.version >= 11 {
        broker.replicas.replica(topic, looked.key.1)
    } else {
        broker.replicas.leader(topic, looked.key.1)
    };
    let partition = match found {
        Ok(partition) => partition,
        Err(error) => {
            looked.found = Err(error);
            return;
        }
    };
    let epoch = partition.watch_epoch();
    if let Some(changed) = &query.changed {
        partition.subscribe(changed, &looked.key);
    }
    looked.led = partition.is_leader();
    let held_back = query
        .replica
        .is_some_and(|follower| is_held_back(broker, &partition, follower));
    let (left, first) = if held_back { (0, false) } else { (left, first) };
    looked.found = find(&partition, query, &looked.key.0, looked.wanted, left, first);
    if let Some(follower) = query.replica {
        note_follower(&partition, (follower, query.registered), looked);
    }
    if let Some(rack) = &query.rack
        && partition.is_leader()
    {
        send_elsewhere(broker, &partition, (rack, &query.listener), looked);
    }
    looked.partition = Some((partition, epoch));
}

/// Does this follower have to wait for its records? Only one that is not in sync: acks=all would wait for
/// the others.
fn is_held_back(broker: &Broker, partition: &Partition, follower: FollowerId) -> bool {
    let role = partition.role();
    let throttle = &broker.replicas.throttles().leader;
    role.throttled_as_leader
        && !role.isr.contains(&follower)
        && throttle.is_exceeded(broker.clock.monotonic_ms())
}

/// Names the follower in the consumer's rack instead of the records, where there is one.
fn send_elsewhere(
    broker: &Broker,
    partition: &Partition,
    (rack, listener): (&str, &str),
    looked: &mut Looked,
) {
    let Ok(Found::Records(read, _)) = &looked.found else {
        return;
    };
    let holders = partition.holders(Offset(looked.wanted.offset));
    let image = broker.image.load();
    if let Some(id) = preferred::follower_for(rack, broker.id, &holders, listener, &image) {
        let read = PartitionRead {
            region: None,
            ..read.clone()
        };
        looked.found = Ok(Found::Elsewhere(read, id));
    }
}

/// The follower has everything below what it asks for. A read that failed or found its log to be another
/// one says nothing of that.
fn note_follower(partition: &Partition, follower: (FollowerId, Option<Zxid>), looked: &mut Looked) {
    let Ok(Found::Records(read, _)) = &mut looked.found else {
        return;
    };
    let at = (
        Offset(looked.wanted.offset),
        Offset(looked.wanted.log_start_offset),
    );
    match partition.fetched_by(follower, at, read.log_end_offset) {
        Ok(told) => {
            // Its own progress may just have moved it.
            read.high_watermark = partition.high_watermark();
            looked.untold = read.high_watermark > told;
        }
        // Whoever names the epoch that we lead under knows an assignment that we do not know yet.
        Err(ResponseError::UnknownLeaderEpoch) if looked.wanted.leader_epoch < 0 => {
            looked.found = Err(ResponseError::NotLeaderOrFollower);
        }
        Err(error) => looked.found = Err(error),
    }
}

fn find(
    partition: &Partition,
    query: &Query,
    topic: &TopicKey,
    wanted: Wanted,
    left: usize,
    first: bool,
) -> Result<Found, ResponseError> {
    if let TopicKey::Id(id) = topic
        && !partition.topic_id().is_nil()
        && partition.topic_id() != *id
    {
        return Err(ResponseError::InconsistentTopicId);
    }
    partition.check_epoch(wanted.leader_epoch)?;
    if query.version >= 12 && wanted.last_fetched_epoch >= 0 {
        let last = LeaderEpoch(wanted.last_fetched_epoch);
        let (epoch, end) = partition.end_offset_for_epoch(last);
        if epoch.0 < 0 || end.0 < 0 {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if epoch < last || end.0 < wanted.offset {
            return Ok(Found::Diverging(epoch, end));
        }
    }
    let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(0).min(left);
    let read = partition.read(
        Offset(wanted.offset),
        bytes_max as u64,
        query.isolation,
        first,
    )?;
    let records = match &read.region {
        None => Records::Bytes(Bytes::new()),
        Some(region) if region.len <= INLINE_BYTES => match region.read() {
            Ok(bytes) => Records::Bytes(bytes),
            Err(error) => {
                partition.tell_failure(&error, "read failed");
                return Err(ResponseError::KafkaStorageError);
            }
        },
        Some(region) => Records::File(region.clone()),
    };
    Ok(Found::Records(read, records))
}

fn respond(
    broker: &Broker,
    context: &Context,
    query: &Query,
    session: Session,
    looked: Vec<Looked>,
) -> Result<Reply, BadRequest> {
    let included = settle(broker, query, &session, &looked);
    let image = broker.image.load();
    let mut response = FetchResponse::default().with_session_id(included.session_id);
    let mut records = Vec::with_capacity(looked.len());
    let mut last: Option<TopicKey> = None;
    for one in &looked {
        match query.replica {
            None => {
                count(&broker.metrics.traffic, one);
                if let Some((partition, _)) = &one.partition {
                    count(partition.traffic(), one);
                }
            }
            Some(follower) => {
                let bytes = one.bytes() as u64;
                broker.metrics.replication_bytes_out.add(bytes);
                note_throttled(broker, one, bytes);
                if let (Some((partition, _)), Ok(Found::Records(read, _))) =
                    (&one.partition, &one.found)
                    && one.untold
                {
                    partition.told(follower, read.high_watermark);
                }
            }
        }
    }
    for (one, include) in looked.into_iter().zip(included.partitions) {
        if !include {
            continue;
        }
        if last.as_ref() != Some(&one.key.0) {
            response.responses.push(topic_response(&one.key.0));
            last = Some(one.key.0.clone());
        }
        let (data, found) = partition_response(&image, context, one, &mut response);
        if let Some(topic) = response.responses.last_mut() {
            topic.partitions.push(data);
        }
        records.push(found);
    }
    reply(context.version, &response, records)
}

/// What throttled replicas are sent counts, also for those in sync: as in Kafka, they only never wait.
fn note_throttled(broker: &Broker, one: &Looked, bytes: u64) {
    let throttled = |(partition, _): &(Arc<Partition>, _)| partition.role().throttled_as_leader;
    if bytes > 0 && one.partition.as_ref().is_some_and(throttled) {
        let throttle = &broker.replicas.throttles().leader;
        throttle.record(broker.clock.monotonic_ms(), bytes);
    }
}

fn count(traffic: &Traffic, one: &Looked) {
    traffic.total_fetch_requests.add(1);
    traffic.bytes_out.add(one.bytes() as u64);
    traffic
        .failed_fetch_requests
        .add(u64::from(one.found.is_err()));
}

/// Which partitions are answered, under which session.
struct Included {
    session_id: i32,
    partitions: Vec<bool>,
}

/// Tells the session what was found. A new one is made here, once it is known what to remember.
fn settle(broker: &Broker, query: &Query, session: &Session, looked: &[Looked]) -> Included {
    let all = |session_id| Included {
        session_id,
        partitions: vec![true; looked.len()],
    };
    match session {
        Session::None => all(NO_SESSION),
        Session::New => {
            let answered = looked
                .iter()
                .map(|one| (one.key.clone(), one.wanted, shown(one)));
            let id = broker.replicas.fetch_sessions().create(
                broker.clock.monotonic_ms(),
                query.version >= 13,
                follower(broker, query),
                answered,
                || (broker.rng.next_u64() >> 33) as i32,
            );
            all(id)
        }
        Session::Known(id) => {
            let mut sessions = broker.replicas.fetch_sessions();
            let partitions = looked
                .iter()
                .map(|one| {
                    if query.replica.is_some_and(|follower| one.is_clean(follower)) {
                        sessions.is_clean(*id, &one.key);
                    }
                    sessions.show(*id, &one.key, shown(one))
                })
                .collect();
            Included {
                session_id: *id,
                partitions,
            }
        }
    }
}

/// The follower that begins a session, if one does.
fn follower(broker: &Broker, query: &Query) -> Option<Follower> {
    let lag_max_ms = broker.config.broker.replica_lag_time_max_ms;
    Some(Follower {
        changed: query.changed.clone()?,
        every_ms: LOOK_AT_ALL_MS.min(lag_max_ms / 4),
    })
}

fn shown(one: &Looked) -> Shown {
    match &one.found {
        Ok(Found::Records(read, records)) => Shown {
            high_watermark: read.high_watermark.0,
            log_start_offset: read.log_start_offset.0,
            news: records.len() > 0,
            failed: false,
        },
        Ok(Found::Diverging(..) | Found::Elsewhere(..)) => Shown {
            high_watermark: -1,
            log_start_offset: -1,
            news: true,
            failed: false,
        },
        Err(_) => Shown {
            high_watermark: -1,
            log_start_offset: -1,
            news: false,
            failed: true,
        },
    }
}

fn topic_response(key: &TopicKey) -> FetchableTopicResponse {
    let response = FetchableTopicResponse::default();
    match key {
        TopicKey::Name(name) => {
            response.with_topic(TopicName(StrBytes::from_string(name.to_string())))
        }
        TopicKey::Id(id) => response.with_topic_id(*id),
    }
}

fn partition_response(
    image: &Image,
    context: &Context,
    one: Looked,
    response: &mut FetchResponse,
) -> (PartitionData, Records) {
    let data = PartitionData::default()
        .with_partition_index(one.key.1)
        .with_high_watermark(-1)
        .with_aborted_transactions(None);
    let nothing = Records::Bytes(Bytes::new());
    match one.found {
        Ok(Found::Records(read, records)) => (offsets(data, read), records),
        Ok(Found::Elsewhere(read, follower)) => {
            let id = BrokerId(follower.0);
            (offsets(data, read).with_preferred_read_replica(id), nothing)
        }
        Ok(Found::Diverging(epoch, end)) => {
            let diverging = EpochEndOffset::default()
                .with_epoch(epoch.0)
                .with_end_offset(end.0);
            (data.with_diverging_epoch(diverging), nothing)
        }
        Err(error) => {
            let mut data = data.with_error_code(error.code());
            let moved = matches!(
                error,
                ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch
            );
            if moved && context.version >= 12 {
                let topic = one.topic.as_deref().unwrap_or_default();
                point_to_leader(image, context, (topic, one.key.1), &mut data, response);
            }
            (data, nothing)
        }
    }
}

fn offsets(data: PartitionData, read: PartitionRead) -> PartitionData {
    data.with_high_watermark(read.high_watermark.0)
        .with_last_stable_offset(read.last_stable_offset.0)
        .with_log_start_offset(read.log_start_offset.0)
        .with_aborted_transactions(read.aborted.map(|aborted| {
            let aborted = aborted.into_iter().map(|one| {
                AbortedTransaction::default()
                    .with_producer_id(one.producer_id.0.into())
                    .with_first_offset(one.first_offset.0)
            });
            aborted.collect()
        }))
}

/// Tells the client where the leader is, so that it needs no Metadata request (KIP-951).
fn point_to_leader(
    image: &Image,
    context: &Context,
    (topic, partition): (&str, i32),
    data: &mut PartitionData,
    response: &mut FetchResponse,
) {
    let Some(leader) = image.leader_hint(topic, partition, &context.listener) else {
        return;
    };
    let id = BrokerId(leader.id.0);
    data.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(id)
        .with_leader_epoch(leader.epoch.0);
    let nodes = &mut response.node_endpoints;
    let known = nodes.iter().any(|node| node.node_id == id);
    if let (true, false, Some((address, rack))) = (context.version >= 16, known, leader.node) {
        nodes.push(
            NodeEndpoint::default()
                .with_node_id(id)
                .with_host(StrBytes::from_string(address.host.clone()))
                .with_port(i32::from(address.port))
                .with_rack(rack.map(|rack| StrBytes::from_string(rack.to_owned()))),
        );
    }
}

fn reply(
    version: i16,
    response: &FetchResponse,
    records: Vec<Records>,
) -> Result<Reply, BadRequest> {
    envelope::encode(version, response, records)
        .map(Reply::Body)
        .map_err(|error| BadRequest {
            api: ROUTE.name,
            version,
            reason: error.to_string(),
        })
}
