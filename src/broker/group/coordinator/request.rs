//! What the group APIs ask of the coordinator, one method each. Handlers translate; this decides which
//! group is meant, whether it is here, and waits for what the group answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tracing::info;

use crate::broker::group::classic::{
    Answer, Event, Group, Identity, Join, Joined, State, Sync, Synced,
};
use crate::broker::group::coordinator::{
    Cell, Change, GROUPS_MAX, Groups, Inner, METADATA_BYTES_MAX, OFFSETS_TOPIC, Shared,
    commit_error, partition_for,
};
use crate::broker::group::offsets::Offsets;
use crate::broker::group::record::{CommittedOffset, Key, STRING_BYTES_MAX};
use crate::common::ids::{Offset, TopicPartition};

/// A member id is the client's id and a UUID, and has to fit into a record.
const CLIENT_ID_BYTES_MAX: usize = STRING_BYTES_MAX - 64;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The group's id.
    pub group_id: Arc<str>,
    /// Empty for none.
    pub protocol_type: Arc<str>,
    /// Where it stands.
    pub state: State,
}

/// A group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Where it stands.
    pub state: State,
    /// Empty for none.
    pub protocol_type: Arc<str>,
    /// Empty unless the group is stable.
    pub protocol: Arc<str>,
    /// Everybody.
    pub members: Vec<DescribedMember>,
}

/// A member, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id`
    pub instance_id: Option<Arc<str>>,
    /// The client's name.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// Its metadata; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was given; empty unless the group is stable.
    pub assignment: Bytes,
}

impl Groups {
    /// JoinGroup: waits until the group has its next generation. An error comes with the member id to
    /// answer.
    pub async fn join(
        &self,
        group_id: &str,
        mut join: Join,
    ) -> Result<Joined, (ResponseError, Arc<str>)> {
        let id = join.member_id.clone();
        let refused = |error| (error, id.clone());
        check_group_id(group_id, false).map_err(refused)?;
        self.check_join(&join).map_err(refused)?;
        let create = join.member_id.is_empty();
        let found = self.0.find(group_id, create).map_err(refused)?;
        let cell = found.ok_or_else(|| refused(ResponseError::UnknownMemberId))?;
        let name = join.instance_id.as_deref().unwrap_or(&join.client_id);
        join.new_member_id = format!("{}-{}", cut(name), self.0.rng.uuid()).into();
        let receiver = {
            let mut inner = cell.lock();
            let given: usize = join.protocols.iter().map(|(_, data)| data.len()).sum();
            if inner.group.metadata_bytes().saturating_add(given) > METADATA_BYTES_MAX {
                return Err(refused(ResponseError::GroupMaxSizeReached));
            }
            self.0
                .ask(&cell, &mut inner, |waiter| Event::Join(waiter, join))
        };
        self.0.drop_if_blank(&cell);
        match receiver.await {
            Ok(Answer::Joined(joined)) => Ok(joined),
            Ok(Answer::JoinRefused(error, id)) => Err((error, id)),
            Ok(_) | Err(_) => Err(refused(ResponseError::CoordinatorNotAvailable)),
        }
    }

    fn check_join(&self, join: &Join) -> Result<(), ResponseError> {
        let options = &self.0.options;
        let range = options.session_timeout_min_ms..=options.session_timeout_max_ms;
        let fits = |text: &str| text.len() <= CLIENT_ID_BYTES_MAX;
        if !range.contains(&join.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if !join.protocols.iter().all(|(name, _)| fits(name))
            || !fits(&join.protocol_type)
            || !join.instance_id.as_deref().is_none_or(fits)
        {
            return Err(ResponseError::InvalidRequest);
        }
        Ok(())
    }

    /// SyncGroup: waits for the leader's assignment.
    pub async fn sync(&self, group_id: &str, sync: Sync) -> Result<Synced, ResponseError> {
        check_group_id(group_id, false)?;
        let found = self.0.find(group_id, false).map_err(|error| match error {
            // The rebalance that was under way is lost. Old clients do not expect "loading" here.
            ResponseError::CoordinatorLoadInProgress => ResponseError::RebalanceInProgress,
            error => error,
        })?;
        let cell = found.ok_or(ResponseError::UnknownMemberId)?;
        let receiver = {
            let mut inner = cell.lock();
            let given: usize = sync.assignments.values().map(Bytes::len).sum();
            if given > METADATA_BYTES_MAX {
                return Err(ResponseError::InvalidRequest);
            }
            self.0
                .ask(&cell, &mut inner, |waiter| Event::Sync(waiter, sync))
        };
        match receiver.await {
            Ok(Answer::Synced(result)) => result,
            Ok(_) | Err(_) => Err(ResponseError::NotCoordinator),
        }
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, group_id: &str, identity: Identity) -> Result<(), ResponseError> {
        check_group_id(group_id, false)?;
        let found = match self.0.find(group_id, false) {
            // Whether the member is right will be seen when the group is there.
            Err(ResponseError::CoordinatorLoadInProgress) => return Ok(()),
            found => found?,
        };
        let cell = found.ok_or(ResponseError::UnknownMemberId)?;
        let receiver = {
            let mut inner = cell.lock();
            self.0.ask(&cell, &mut inner, |waiter| {
                Event::Heartbeat(waiter, identity)
            })
        };
        match receiver.await {
            Ok(Answer::Heartbeat(result)) => result,
            Ok(_) | Err(_) => Err(ResponseError::NotCoordinator),
        }
    }

    /// LeaveGroup: an error per leaver, in their order.
    pub async fn leave(
        &self,
        group_id: &str,
        leavers: Vec<(Arc<str>, Option<Arc<str>>)>,
    ) -> Result<Vec<Option<ResponseError>>, ResponseError> {
        check_group_id(group_id, false)?;
        let Some(cell) = self.0.find(group_id, false)? else {
            return Ok(vec![Some(ResponseError::UnknownMemberId); leavers.len()]);
        };
        let receiver = {
            let mut inner = cell.lock();
            self.0
                .ask(&cell, &mut inner, |waiter| Event::Leave(waiter, leavers))
        };
        self.0.drop_if_blank(&cell);
        match receiver.await {
            Ok(Answer::Left(result)) => result,
            Ok(_) | Err(_) => Err(ResponseError::NotCoordinator),
        }
    }

    /// OffsetCommit, for partitions that were found good: one outcome for all. They are durable when
    /// this returns. A generation of a group that is not known is `GROUP_ID_NOT_FOUND`.
    pub async fn commit(
        &self,
        group_id: &str,
        identity: Identity,
        commits: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), ResponseError> {
        check_group_id(group_id, true)?;
        let create = identity.generation < 0;
        let found = self.0.find(group_id, create)?;
        let cell = found.ok_or(ResponseError::GroupIdNotFound)?;
        let begun = self.0.begin_commit(&cell, &identity, &commits);
        let Some((partition, last)) = begun.inspect_err(|_| self.0.drop_if_blank(&cell))? else {
            self.0.drop_if_blank(&cell);
            return Ok(());
        };
        let done = move |inner: &mut Inner, result: Result<(), ResponseError>| {
            let record = result.is_ok().then_some(last);
            inner.offsets.finish(commits, record);
            result
        };
        let result = self.0.replicated(&cell, partition, last, done).await?;
        result.map_err(commit_error)
    }

    /// The longest metadata of a committed offset.
    pub fn offset_metadata_bytes_max(&self) -> usize {
        usize::try_from(self.0.options.offset_metadata_bytes_max).unwrap_or(0)
    }

    /// OffsetFetch: the offsets of some partitions, or of all that have one. A partition without one is
    /// left out.
    pub fn fetch_offsets(
        &self,
        group_id: &str,
        wanted: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ResponseError> {
        check_group_id(group_id, true)?;
        let Some(cell) = self.0.find(group_id, false)? else {
            return Ok(BTreeMap::new());
        };
        let inner = cell.lock();
        let own = |(id, value): (&TopicPartition, &CommittedOffset)| (id.clone(), value.clone());
        Ok(match wanted {
            None => inner.offsets.iter().map(own).collect(),
            Some(wanted) => {
                let get = |id| inner.offsets.get(id).map(|value| own((id, value)));
                wanted.iter().filter_map(get).collect()
            }
        })
    }

    /// ListGroups: every group here. False: some are still being loaded.
    pub fn list(&self) -> (Vec<Listed>, bool) {
        let one = |cell: &Arc<Cell>| {
            let inner = cell.lock();
            let protocol_type = inner.group.protocol_type().cloned();
            Listed {
                group_id: cell.id.clone(),
                protocol_type: protocol_type.unwrap_or_default(),
                state: inner.group.state(),
            }
        };
        let mut groups: Vec<_> = self.0.cells().iter().map(one).collect();
        groups.retain(|group| group.state != State::Dead);
        (groups, self.loading() == 0)
    }

    /// DescribeGroups: none if there is no such group.
    pub fn describe(&self, group_id: &str) -> Result<Option<Described>, ResponseError> {
        check_group_id(group_id, true)?;
        let Some(cell) = self.0.find(group_id, false)? else {
            return Ok(None);
        };
        let inner = cell.lock();
        let group = &inner.group;
        let stable = group.state() == State::Stable;
        let protocol = group
            .protocol_name()
            .filter(|_| stable)
            .cloned()
            .unwrap_or_default();
        let one = |member: &super::classic::Member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        };
        Ok(Some(Described {
            state: group.state(),
            protocol_type: group.protocol_type().cloned().unwrap_or_default(),
            members: group.members().map(one).collect(),
            protocol,
        }))
    }

    /// DeleteGroups, one of them.
    pub async fn delete(&self, group_id: &str) -> Result<(), ResponseError> {
        check_group_id(group_id, true)?;
        let found = self.0.find(group_id, false)?;
        let cell = found.ok_or(ResponseError::GroupIdNotFound)?;
        let (count, appended) = {
            let mut inner = cell.lock();
            match inner.group.state() {
                State::Empty => {}
                State::Dead => return Err(ResponseError::GroupIdNotFound),
                _ => return Err(ResponseError::NonEmptyGroup),
            }
            let offsets = inner.offsets.partitions();
            let mut tombstones: Vec<Change> = Vec::with_capacity(offsets.len() + 1);
            for id in &offsets {
                tombstones.push((Key::Offset(cell.id.clone(), id.clone()), None));
            }
            tombstones.push((Key::Group(cell.id.clone()), None));
            let mut last = None;
            // The group's own tombstone comes last: until it is written, the group is whole.
            for chunk in tombstones.chunks(TOMBSTONES_PER_BATCH) {
                last = Some(self.0.append(&cell, chunk).map_err(commit_error)?);
            }
            inner.group.delete();
            (offsets.len(), last)
        };
        self.0.forget(&cell);
        info!(group = ?cell.id, offsets = count, "a group was deleted");
        let Some((partition, appended)) = appended else {
            return Ok(());
        };
        let last = appended.last_offset;
        let result = self
            .0
            .replicated(&cell, partition, last, |_, result| result);
        result.await?.map_err(commit_error)
    }

    /// OffsetDelete: one code for the group, or the topics that must keep their offsets because members
    /// subscribe to them.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Option<ResponseError>>, ResponseError> {
        check_group_id(group_id, false)?;
        let found = self.0.find(group_id, false)?;
        let cell = found.ok_or(ResponseError::GroupIdNotFound)?;
        let (errors, gone) = {
            let inner = cell.lock();
            let group = &inner.group;
            let consumer = group
                .protocol_type()
                .is_some_and(|kind| &**kind == "consumer");
            let subscribed = |id: &TopicPartition| {
                let read = group.is_subscribed(&id.topic);
                read.then_some(ResponseError::GroupSubscribedToTopic)
            };
            let errors: Vec<_> = match group.state() {
                State::Dead => return Err(ResponseError::GroupIdNotFound),
                State::Empty => vec![None; partitions.len()],
                _ if consumer => partitions.iter().map(subscribed).collect(),
                _ => return Err(ResponseError::NonEmptyGroup),
            };
            let known = |id: &TopicPartition| inner.offsets.get(id).is_some();
            let free = partitions
                .into_iter()
                .zip(&errors)
                .filter(|(_, error)| error.is_none());
            let gone: Vec<_> = free.map(|(id, _)| id).filter(known).collect();
            (errors, gone)
        };
        self.0.remove_offsets(&cell, gone).await?;
        // With its last offset an empty group goes, as in Kafka.
        self.0.drop_if_idle(&cell).await?;
        Ok(errors)
    }
}

/// Tombstones of one batch; each is a few hundred bytes at most.
const TOMBSTONES_PER_BATCH: usize = 1_000;

impl Shared {
    /// Finds a group that this broker coordinates. `NOT_COORDINATOR` if it is another broker's.
    pub(super) fn find(
        &self,
        group_id: &str,
        create: bool,
    ) -> Result<Option<Arc<Cell>>, ResponseError> {
        let image = self.image.load();
        let topic = image
            .topic(OFFSETS_TOPIC)
            .ok_or(ResponseError::NotCoordinator)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = partition_for(group_id, partitions);
        {
            let shards = self.shards();
            let shard = shards
                .get(&partition)
                .ok_or(ResponseError::NotCoordinator)?;
            let groups = shard.groups.as_ref();
            let groups = groups.ok_or(ResponseError::CoordinatorLoadInProgress)?;
            let found = groups.get(group_id).cloned();
            if found.is_some() || !create {
                return Ok(found);
            }
        }
        let mut shards = self.shards_mut();
        let full = shards.values().filter_map(|shard| shard.groups.as_ref());
        if full.map(BTreeMap::len).sum::<usize>() >= GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let shard = shards
            .get_mut(&partition)
            .ok_or(ResponseError::NotCoordinator)?;
        let epoch = shard.epoch;
        let groups = shard.groups.as_mut();
        let groups = groups.ok_or(ResponseError::CoordinatorLoadInProgress)?;
        let id: Arc<str> = group_id.into();
        let group = Group::new(self.limits);
        let new = || {
            Arc::new(Cell::new(
                id.clone(),
                partition,
                epoch,
                group,
                Offsets::default(),
            ))
        };
        Ok(Some(groups.entry(id.clone()).or_insert_with(new).clone()))
    }

    /// Gives a request to a group; the answer comes through the channel.
    fn ask(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        event: impl FnOnce(u64) -> Event,
    ) -> oneshot::Receiver<Answer> {
        let waiter = self.next_waiter();
        let (sender, receiver) = oneshot::channel();
        inner.waiters.insert(waiter, sender);
        self.step(cell, inner, event(waiter));
        receiver
    }

    /// Checks and appends a commit. None where there is nothing to write.
    #[allow(clippy::type_complexity, reason = "a partition and an offset in it")]
    fn begin_commit(
        &self,
        cell: &Cell,
        identity: &Identity,
        commits: &[(TopicPartition, CommittedOffset)],
    ) -> Result<Option<(Arc<crate::broker::partition::Partition>, Offset)>, ResponseError> {
        let mut inner = cell.lock();
        inner.group.check_commit(self.now(), identity)?;
        if commits.is_empty() {
            return Ok(None);
        }
        if !inner.offsets.has_room_for(commits.len()) {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        let mut changes: Vec<Change> = Vec::with_capacity(commits.len());
        for (id, value) in commits {
            let value = value
                .encode()
                .map_err(|_| ResponseError::OffsetMetadataTooLarge)?;
            changes.push((Key::Offset(cell.id.clone(), id.clone()), Some(value)));
        }
        let (partition, appended) = self.append(cell, &changes).map_err(commit_error)?;
        inner
            .offsets
            .begin(commits.iter().map(|(id, _)| id.clone()));
        Ok(Some((partition, appended.last_offset)))
    }
}

/// Group management needs a name; offsets can be kept under the empty one, as in Kafka.
fn check_group_id(group_id: &str, empty: bool) -> Result<(), ResponseError> {
    if group_id.len() > STRING_BYTES_MAX || (group_id.is_empty() && !empty) {
        return Err(ResponseError::InvalidGroupId);
    }
    Ok(())
}

fn cut(name: &str) -> &str {
    let end = name.floor_char_boundary(CLIENT_ID_BYTES_MAX);
    &name[..end]
}
