//! Membership in a classic consumer group: joining, synchronizing, heartbeats, commits, leaving.
//!
//! A task sends heartbeats while the membership is stable and notes what they tell; whoever owns the
//! [`Membership`] joins again when [`Membership::must_join`] says so. Who gets what is decided in
//! [`assignor`], by the member that the coordinator names leader.

pub mod assignor;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::ClientError;
use super::cluster::{Cluster, Purpose, Retry, Wanted};
use super::connection::Connection;
use super::metrics::{Grouped, Measured};
use crate::common::ids::TopicPartition;
use crate::common::tasks::Kind;
use crate::kafka::subscription::{Assignment, StickyUserData, Subscription};
use assignor::{Assignor, Member, Plan};

const PROTOCOL_TYPE: &str = "consumer";
/// From version 10 on topics are named by id.
const COMMIT_VERSION_MAX: i16 = 9;
/// How long joining goes on while no coordinator is to be had.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(60);

/// How a member behaves; the defaults are Kafka 2.8's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `group.id`.
    pub group_id: String,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
    /// `session.timeout.ms`.
    pub session_timeout: Duration,
    /// `max.poll.interval.ms`, which is how long a rebalance waits for this member.
    pub rebalance_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `partition.assignment.strategy`, the preferred one first.
    pub assignors: Vec<Assignor>,
}

impl Settings {
    /// The defaults for a group.
    pub fn new(group_id: impl Into<String>) -> Settings {
        Settings {
            group_id: group_id.into(),
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            assignors: vec![Assignor::Range],
        }
    }

    /// Do members keep what they own during a rebalance?
    pub fn is_cooperative(&self) -> bool {
        self.assignors
            .iter()
            .all(|assignor| assignor.is_cooperative())
    }
}

/// What a rebalance came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The assignor that the group agreed on.
    pub assignor: String,
    /// This member's partitions.
    pub partitions: Vec<TopicPartition>,
}

/// One membership. Not shared: its owner joins, its task sends heartbeats.
pub struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    /// This member's own connection: a rebalance that waits for others must not hold up those others.
    purpose: Purpose,
    settings: Settings,
    state: Mutex<State>,
    /// Told when a rebalance begins.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    member_id: String,
    generation: i32,
    /// Heartbeats are sent.
    stable: bool,
    must_join: bool,
    left: bool,
    failed: Option<ResponseError>,
    /// What the sticky assignor is told next time.
    last: Vec<TopicPartition>,
    counted: Grouped,
}

/// What to do after an error code.
enum Next {
    /// Try again at once.
    Again,
    /// Try again after a pause.
    Later,
    /// Give up.
    Fail(ClientError),
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl Membership {
    /// A membership that has not begun yet. `changed` is told when a rebalance begins.
    pub fn new(cluster: Cluster, settings: Settings, changed: Arc<Notify>) -> Membership {
        let purpose = Purpose::Member(cluster.new_owner());
        let shared = Arc::new(Shared {
            cluster,
            purpose,
            settings,
            state: Mutex::new(State {
                generation: -1,
                must_join: true,
                ..State::default()
            }),
            changed,
        });
        let tasks = shared.cluster.world().tasks.clone();
        tasks.spawn(
            "kafka-client-heartbeat",
            Kind::Connection,
            heartbeat_loop(shared.clone()),
        );
        Membership { shared }
    }

    /// How this member behaves.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Is it time to join (again)?
    pub fn must_join(&self) -> bool {
        self.shared.state().must_join
    }

    /// What was counted of this membership.
    pub fn counted(&self) -> Grouped {
        self.shared.state().counted.clone()
    }

    /// Asks for a rebalance: partitions were added, or more are to be had.
    pub fn rejoin(&self) {
        let mut state = self.shared.state();
        state.must_join = true;
        state.stable = false;
    }

    /// Joins, decides if this member leads, and gets its partitions. Waits for the other members.
    pub async fn join(
        &self,
        topics: &[String],
        owned: &[TopicPartition],
    ) -> Result<Joined, ClientError> {
        let mut retry = Retry::within(COORDINATOR_PATIENCE);
        let began_us = self.shared.now_us();
        loop {
            if let Some(error) = self.shared.state().failed {
                return Err(ClientError::Answer {
                    error,
                    message: None,
                });
            }
            let attempted = match self.shared.coordinator().await {
                Ok(connection) => {
                    let attempted = self.attempt(&connection, topics, owned).await;
                    self.shared.state().counted.failed += u64::from(attempted.is_err());
                    attempted
                }
                Err(error) => Err(error),
            };
            let error = match attempted {
                Ok(joined) => {
                    let now_us = self.shared.now_us();
                    let mut state = self.shared.state();
                    let ms = (now_us - began_us) as f64 / 1_000.0;
                    state.counted.rebalances.add(ms);
                    state.counted.rebalanced_at_ms = Some(now_us / 1_000);
                    state.stable = true;
                    state.must_join = false;
                    state.last = joined.partitions.clone();
                    return Ok(joined);
                }
                Err(error) => error,
            };
            match self.shared.after(error) {
                Next::Again => {}
                Next::Later => {
                    if !retry.pause().await {
                        return Err(ClientError::Answer {
                            error: ResponseError::CoordinatorNotAvailable,
                            message: None,
                        });
                    }
                }
                Next::Fail(error) => return Err(error),
            }
        }
    }

    /// Commits the next offsets to read.
    pub async fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut retry = Retry::within(self.shared.settings.session_timeout);
        loop {
            match self.shared.commit(offsets).await {
                Ok(()) => return Ok(()),
                Err(error) => match self.shared.after(error) {
                    Next::Later => {
                        if !retry.pause().await {
                            return Err(ClientError::Answer {
                                error: ResponseError::CoordinatorNotAvailable,
                                message: None,
                            });
                        }
                    }
                    // The offsets belong to a generation that is over.
                    Next::Again => {
                        return Err(ClientError::Answer {
                            error: ResponseError::RebalanceInProgress,
                            message: None,
                        });
                    }
                    Next::Fail(error) => return Err(error),
                },
            }
        }
    }

    /// Leaves the group, unless this member is static: those come back.
    pub async fn leave(&self) {
        let (member_id, was_member) = {
            let mut state = self.shared.state();
            state.left = true;
            state.stable = false;
            (state.member_id.clone(), !state.member_id.is_empty())
        };
        if !was_member || self.shared.settings.instance_id.is_some() {
            return;
        }
        if let Err(error) = self.shared.leave(&member_id).await {
            tracing::debug!(%error, "leaving the group failed");
        }
    }

    async fn attempt(
        &self,
        connection: &Connection,
        topics: &[String],
        owned: &[TopicPartition],
    ) -> Result<Joined, ClientError> {
        let shared = &self.shared;
        let version = connection.version::<JoinGroupRequest>(i16::MAX)?;
        let request = shared.join_request(topics, owned, version);
        // The coordinator answers when every member has joined or was given up.
        let limit = shared.settings.rebalance_timeout + Duration::from_secs(5);
        let sent_us = shared.now_us();
        let answer = connection.send_within(&request, version, limit).await?;
        if answer.error_code == ResponseError::MemberIdRequired.code() {
            shared.state().member_id = answer.member_id.to_string();
        }
        ClientError::check(answer.error_code, None)?;
        shared.count(sent_us, |counted| &mut counted.joins);
        {
            let mut state = shared.state();
            state.member_id = answer.member_id.to_string();
            state.generation = answer.generation_id;
        }
        let assignor = answer
            .protocol_name
            .as_ref()
            .map(|name| name.to_string())
            .unwrap_or_default();
        let leads = answer.leader == answer.member_id;
        let plan = if leads && !answer.skip_assignment {
            shared.decide(&assignor, &answer).await?
        } else {
            Plan::new()
        };
        let version = connection.version::<SyncGroupRequest>(i16::MAX)?;
        let mut request = shared.sync_request(plan, &assignor, version);
        request.generation_id = answer.generation_id;
        request.member_id = answer.member_id.clone();
        let sent_us = shared.now_us();
        let synced = connection.send_within(&request, version, limit).await?;
        ClientError::check(synced.error_code, None)?;
        shared.count(sent_us, |counted| &mut counted.syncs);
        let partitions = Assignment::decode(&synced.assignment)
            .map_err(|source| ClientError::Malformed {
                address: connection.address().clone(),
                api: "SyncGroup",
                version,
                source: source.into(),
            })?
            .partitions;
        Ok(Joined {
            generation: answer.generation_id,
            assignor,
            partitions,
        })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.state().left = true;
        self.shared.cluster.release(self.shared.purpose);
    }
}

impl Shared {
    /// Without the member and the generation.
    fn sync_request(&self, plan: Plan, assignor: &str, version: i16) -> SyncGroupRequest {
        let assignments = plan.into_iter().map(|(id, partitions)| {
            let assignment = Assignment {
                partitions,
                user_data: None,
            };
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(id))
                .with_assignment(assignment.encode())
        });
        let mut request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_assignments(assignments.collect());
        if version >= 3 {
            request = request.with_group_instance_id(self.instance_id());
        }
        if version >= 5 {
            request = request
                .with_protocol_type(Some(text(PROTOCOL_TYPE)))
                .with_protocol_name(Some(text(assignor)));
        }
        request
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> i64 {
        self.cluster.world().clock.monotonic_us()
    }

    /// Counts an answer to a request that was sent then.
    fn count(&self, sent_us: i64, what: impl FnOnce(&mut Grouped) -> &mut Measured) {
        let ms = (self.now_us() - sent_us) as f64 / 1_000.0;
        what(&mut self.state().counted).add(ms);
    }

    async fn coordinator(&self) -> Result<Connection, ClientError> {
        let group = &self.settings.group_id;
        self.cluster.coordinator_for(self.purpose, group).await
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.settings.group_id))
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.settings.instance_id.as_deref().map(text)
    }

    fn join_request(
        &self,
        topics: &[String],
        owned: &[TopicPartition],
        version: i16,
    ) -> JoinGroupRequest {
        let (member_id, generation, last) = {
            let state = self.state();
            (
                state.member_id.clone(),
                state.generation,
                state.last.clone(),
            )
        };
        let protocols = self.settings.assignors.iter().map(|assignor| {
            let user_data = (*assignor == Assignor::Sticky && !last.is_empty()).then(|| {
                StickyUserData {
                    partitions: last.clone(),
                    generation,
                }
                .encode()
            });
            let subscription = Subscription {
                topics: topics.to_vec(),
                user_data,
                owned: owned.to_vec(),
            };
            JoinGroupRequestProtocol::default()
                .with_name(text(assignor.name()))
                .with_metadata(subscription.encode())
        });
        let mut request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(millis(self.settings.session_timeout))
            .with_member_id(text(&member_id))
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(protocols.collect());
        if version >= 1 {
            request = request.with_rebalance_timeout_ms(millis(self.settings.rebalance_timeout));
        }
        if version >= 5 {
            request = request.with_group_instance_id(self.instance_id());
        }
        request
    }

    /// Decides for everybody, as the leader.
    async fn decide(
        &self,
        assignor: &str,
        answer: &JoinGroupResponse,
    ) -> Result<Plan, ClientError> {
        let chosen = Assignor::from_name(assignor).ok_or(ClientError::Answer {
            error: ResponseError::InconsistentGroupProtocol,
            message: None,
        })?;
        let members: Vec<Member> = answer
            .members
            .iter()
            .map(|member| {
                let id = member.member_id.to_string();
                let instance_id = member.group_instance_id.as_ref().map(|id| id.to_string());
                read_member(chosen, id, instance_id, &member.metadata)
            })
            .collect();
        let topics: BTreeSet<String> = members
            .iter()
            .flat_map(|member| member.topics.iter().cloned())
            .collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let metadata = self.cluster.metadata(Wanted::Named(&topics, true)).await?;
        let counts = topics
            .into_iter()
            .filter_map(|topic| {
                let count = metadata.topics.get(&topic)?.partitions.len();
                (count > 0).then_some((topic, count))
            })
            .collect();
        Ok(chosen.assign(&members, &counts))
    }

    async fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version::<OffsetCommitRequest>(COMMIT_VERSION_MAX)?;
        let (member_id, generation) = {
            let state = self.state();
            (state.member_id.clone(), state.generation)
        };
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (partition, offset) in offsets {
            let mut item = OffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()));
            if version >= 6 {
                item = item.with_committed_leader_epoch(-1);
            }
            match topics.last_mut() {
                Some(topic) if *topic.name.0 == *partition.topic => topic.partitions.push(item),
                _ => topics.push(
                    OffsetCommitRequestTopic::default()
                        .with_name(TopicName(text(&partition.topic)))
                        .with_partitions(vec![item]),
                ),
            }
        }
        let mut request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&member_id))
            .with_topics(topics);
        if version >= 7 {
            request = request.with_group_instance_id(self.instance_id());
        }
        let sent_us = self.now_us();
        let answer = connection.send_as(&request, version).await?;
        self.count(sent_us, |counted| &mut counted.commits);
        answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .try_for_each(|partition| ClientError::check(partition.error_code, None))
    }

    async fn heartbeat(&self) -> Result<(), ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version::<HeartbeatRequest>(i16::MAX)?;
        let (member_id, generation) = {
            let state = self.state();
            (state.member_id.clone(), state.generation)
        };
        let mut request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(generation)
            .with_member_id(text(&member_id));
        if version >= 3 {
            request = request.with_group_instance_id(self.instance_id());
        }
        let limit = self.settings.session_timeout;
        let sent_us = self.now_us();
        self.state().counted.heartbeat_at_ms = Some(sent_us / 1_000);
        let answer = connection.send_within(&request, version, limit).await?;
        self.count(sent_us, |counted| &mut counted.heartbeats);
        ClientError::check(answer.error_code, None)
    }

    async fn leave(&self, member_id: &str) -> Result<(), ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version::<LeaveGroupRequest>(i16::MAX)?;
        let request = LeaveGroupRequest::default().with_group_id(self.group_id());
        let request = if version >= 3 {
            request.with_members(vec![
                MemberIdentity::default().with_member_id(text(member_id)),
            ])
        } else {
            request.with_member_id(text(member_id))
        };
        let answer = connection
            .send_within(&request, version, Duration::from_secs(5))
            .await?;
        ClientError::check(answer.error_code, None)
    }

    /// Notes what an error means for the membership, and says what to do.
    fn after(&self, error: ClientError) -> Next {
        let group = &self.settings.group_id;
        let mut state = self.state();
        match error.code() {
            Some(ResponseError::MemberIdRequired) => Next::Again,
            Some(ResponseError::UnknownMemberId) => {
                state.member_id.clear();
                state.generation = -1;
                state.must_join = true;
                Next::Again
            }
            Some(ResponseError::IllegalGeneration) => {
                state.generation = -1;
                state.must_join = true;
                Next::Again
            }
            Some(ResponseError::RebalanceInProgress) => {
                state.must_join = true;
                Next::Again
            }
            Some(
                ResponseError::NotCoordinator
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::CoordinatorLoadInProgress,
            ) => {
                self.cluster.forget_coordinator(group);
                Next::Later
            }
            Some(code @ ResponseError::FencedInstanceId) => {
                state.failed = Some(code);
                Next::Fail(error)
            }
            Some(code) if code.is_retriable() => Next::Later,
            Some(_) => Next::Fail(error),
            None if error.is_retriable() => {
                self.cluster.forget_coordinator(group);
                Next::Later
            }
            None => Next::Fail(error),
        }
    }
}

/// What a member said of itself; one that cannot be understood gets nothing.
fn read_member(
    assignor: Assignor,
    id: String,
    instance_id: Option<String>,
    metadata: &Bytes,
) -> Member {
    let subscription = Subscription::decode(metadata).unwrap_or_default();
    let mut owned = subscription.owned;
    let mut generation = None;
    if assignor == Assignor::Sticky {
        let last = subscription
            .user_data
            .as_ref()
            .and_then(|data| StickyUserData::decode(data).ok());
        owned = last
            .as_ref()
            .map(|last| last.partitions.clone())
            .unwrap_or_default();
        generation = last.map(|last| last.generation);
    }
    Member {
        id,
        instance_id,
        topics: subscription.topics,
        owned,
        generation,
    }
}

async fn heartbeat_loop(shared: Arc<Shared>) {
    let shutdown = shared.cluster.world().tasks.shutdown().clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.settings.heartbeat_interval) => {}
            () = shutdown.stopped() => return,
        }
        {
            let state = shared.state();
            if state.left {
                return;
            }
            if !state.stable {
                continue;
            }
        }
        let Err(error) = shared.heartbeat().await else {
            continue;
        };
        tracing::debug!(%error, "a heartbeat was not accepted");
        // A join may have begun meanwhile, and knows better.
        if !shared.state().stable {
            continue;
        }
        shared.after(error);
        let must_join = {
            let mut state = shared.state();
            if state.must_join || state.failed.is_some() {
                state.stable = false;
                state.must_join = true;
            }
            state.must_join
        };
        if must_join {
            shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_blob_is_read_as_its_assignor_wants_it() {
        let last = vec![TopicPartition::new("t", 1)];
        let subscription = Subscription {
            topics: vec!["t".to_owned()],
            user_data: Some(
                StickyUserData {
                    partitions: last.clone(),
                    generation: 4,
                }
                .encode(),
            ),
            owned: vec![TopicPartition::new("t", 0)],
        };
        let blob = subscription.encode();
        let sticky = read_member(Assignor::Sticky, "m".to_owned(), None, &blob);
        assert_eq!((sticky.owned, sticky.generation), (last, Some(4)));
        let other = read_member(Assignor::CooperativeSticky, "m".to_owned(), None, &blob);
        assert_eq!(other.owned, subscription.owned);
        assert_eq!(other.generation, None);
        let odd = Bytes::from_static(b"\xff");
        let odd = read_member(Assignor::Range, "m".to_owned(), None, &odd);
        assert_eq!(odd.topics, Vec::<String>::new());
    }
}
