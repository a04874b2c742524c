//! Consumer groups: which there are, who is in them, what they have committed.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Admin;
use super::topic::by_topic;
use crate::client::ClientError;
use crate::client::cluster::{Cluster, Wanted};
use crate::client::connection::Connection;
use crate::common::ids::TopicPartition;
use crate::kafka::subscription::Assignment;

/// From version 10 on topics are named by id.
const OFFSET_FETCH_VERSION_MAX: i16 = 9;
/// The same.
const OFFSET_COMMIT_VERSION_MAX: i16 = 9;

/// What every call about a group begins with, and where it ends when nobody can be reached.
const FIND_COORDINATOR: &str = "findCoordinator";

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub id: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// Its state; empty before ListGroups v4.
    pub state: String,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub id: String,
    /// `Stable`, `Empty`, `Dead`, …
    pub state: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: String,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The coordinator's id and address.
    pub coordinator: (i32, String),
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it comes from, as `/10.0.0.1`.
    pub host: String,
    /// Its partitions.
    pub assignment: Vec<TopicPartition>,
}

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// The committer's note.
    pub metadata: String,
}

impl Admin {
    /// All groups of all brokers, in the states asked for (all if none are).
    pub async fn list_groups(&self, states: &[String]) -> Result<Vec<ListedGroup>, ClientError> {
        let metadata = self.metadata(Wanted::Named(&[], false)).await?;
        let mut groups = BTreeMap::new();
        for id in metadata.brokers.keys() {
            let listed = self
                .retrying("listConsumerGroups", || async {
                    let connection = self.cluster().broker(*id).await?;
                    let version = connection.version::<ListGroupsRequest>(i16::MAX)?;
                    let mut request = ListGroupsRequest::default();
                    if version >= 4 {
                        let states = states.iter().map(|s| StrBytes::from_string(s.clone()));
                        request = request.with_states_filter(states.collect());
                    } else if !states.is_empty() {
                        return Err(ClientError::Unsupported {
                            address: connection.address().clone(),
                            api: "ListGroups",
                            version: Some(4),
                        });
                    }
                    let answer = connection.send_as(&request, version).await?;
                    ClientError::check(answer.error_code, None)?;
                    Ok(answer.groups)
                })
                .await?;
            for group in listed {
                let group = ListedGroup {
                    id: group.group_id.0.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    state: group.group_state.to_string(),
                };
                groups.insert(group.id.clone(), group);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// Describes one group, asked of its coordinator.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, ClientError> {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![GroupId(StrBytes::from_string(group.to_owned()))]);
        self.retrying(FIND_COORDINATOR, || async {
            if self.cluster().known().brokers.is_empty() {
                self.cluster().metadata(Wanted::Named(&[], false)).await?;
            }
            let connection = coordinator(self.cluster(), group).await?;
            let version = connection.version::<DescribeGroupsRequest>(5)?;
            let answer = connection.send_as(&request, version).await?;
            let described = answer
                .groups
                .into_iter()
                .next()
                .ok_or(ClientError::Answer {
                    error: ResponseError::GroupIdNotFound,
                    message: None,
                })?;
            checked(
                self.cluster(),
                group,
                described.error_code,
                described.error_message.as_deref(),
            )?;
            let address = connection.address();
            let known = self.cluster().known();
            let node = known
                .brokers
                .values()
                .find(|node| node.address == *address)
                .map_or(-1, |node| node.id);
            let members = described.members.into_iter().map(|member| GroupMember {
                id: member.member_id.to_string(),
                instance_id: member.group_instance_id.map(|id| id.to_string()),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                // A member that has not got its assignment yet has an empty blob.
                assignment: Assignment::decode(&member.member_assignment)
                    .map(|assignment| assignment.partitions)
                    .unwrap_or_default(),
            });
            Ok(DescribedGroup {
                id: group.to_owned(),
                state: described.group_state.to_string(),
                protocol_type: described.protocol_type.to_string(),
                protocol: described.protocol_data.to_string(),
                members: members.collect(),
                coordinator: (node, address.to_string()),
            })
        })
        .await
    }

    /// What `group` has committed: for `partitions`, or for all it ever read.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.retrying(FIND_COORDINATOR, || {
            fetch_offsets(self.cluster(), group, partitions)
        })
        .await
    }
}

impl Admin {
    /// Sets what `group`, which must have no members, has committed.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), ClientError> {
        let topics = by_topic(offsets.keys());
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                let id = TopicPartition::new(topic, partition);
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offsets.get(&id).copied().unwrap_or(-1))
                    .with_committed_metadata(Some(StrBytes::new()))
            });
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partitions(partitions.collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        self.retrying(FIND_COORDINATOR, || async {
            let connection = coordinator(self.cluster(), group).await?;
            let version = connection.version::<OffsetCommitRequest>(OFFSET_COMMIT_VERSION_MAX)?;
            let answer = connection.send_as(&request, version).await?;
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.try_for_each(|found| checked(self.cluster(), group, found.error_code, None))
        })
        .await
    }

    /// Deletes a group that has no members.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest::default()
            .with_groups_names(vec![GroupId(StrBytes::from_string(group.to_owned()))]);
        self.retrying(FIND_COORDINATOR, || async {
            let connection = coordinator(self.cluster(), group).await?;
            let answer = connection.send(&request).await?;
            let mut results = answer.results.iter();
            results.try_for_each(|found| checked(self.cluster(), group, found.error_code, None))
        })
        .await
    }

    /// Deletes what `group` has committed for `partitions`.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                OffsetDeleteRequestPartition::default().with_partition_index(partition)
            });
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partitions(partitions.collect())
        });
        let request = OffsetDeleteRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_topics(topics.collect());
        self.retrying(FIND_COORDINATOR, || async {
            let connection = coordinator(self.cluster(), group).await?;
            let answer = connection.send(&request).await?;
            checked(self.cluster(), group, answer.error_code, None)?;
            let mut outcome = BTreeMap::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let id = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                    outcome.insert(id, ClientError::check(partition.error_code, None));
                }
            }
            Ok(outcome)
        })
        .await
    }
}

/// The coordinator of `group`; one that cannot be reached is asked for anew.
async fn coordinator(cluster: &Cluster, group: &str) -> Result<Connection, ClientError> {
    match cluster.coordinator(group).await {
        Err(error @ ClientError::Connect { .. }) => {
            cluster.forget_coordinator(group);
            Err(error)
        }
        result => result,
    }
}

/// An error code of a coordinator's; forgets a coordinator that is none.
fn checked(
    cluster: &Cluster,
    group: &str,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    let gone = [
        ResponseError::NotCoordinator.code(),
        ResponseError::CoordinatorNotAvailable.code(),
    ];
    if gone.contains(&code) {
        cluster.forget_coordinator(group);
    }
    ClientError::check(code, message)
}

/// One OffsetFetch.
pub(crate) async fn fetch_offsets(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let connection = coordinator(cluster, group).await?;
    let version = connection.version::<OffsetFetchRequest>(OFFSET_FETCH_VERSION_MAX)?;
    let id = GroupId(StrBytes::from_string(group.to_owned()));
    let topics = partitions.map(by_topic);
    let name = |topic: &str| TopicName(StrBytes::from_string(topic.to_owned()));
    let request = if version >= 8 {
        let topics = topics.map(|topics| {
            let list = topics.into_iter().map(|(topic, partitions)| {
                OffsetFetchRequestTopics::default()
                    .with_name(name(topic))
                    .with_partition_indexes(partitions)
            });
            list.collect()
        });
        let mut wanted = OffsetFetchRequestGroup::default()
            .with_group_id(id)
            .with_topics(topics);
        if version >= 9 {
            wanted = wanted.with_member_epoch(-1);
        }
        OffsetFetchRequest::default().with_groups(vec![wanted])
    } else {
        let topics = topics.map(|topics| {
            let list = topics.into_iter().map(|(topic, partitions)| {
                OffsetFetchRequestTopic::default()
                    .with_name(name(topic))
                    .with_partition_indexes(partitions)
            });
            list.collect()
        });
        OffsetFetchRequest::default()
            .with_group_id(id)
            .with_topics(topics)
    };
    let answer = match connection.send_as(&request, version).await {
        Ok(answer) => answer,
        Err(error) => {
            cluster.forget_coordinator(group);
            return Err(error);
        }
    };
    let group_code = answer.groups.first().map_or(0, |found| found.error_code);
    checked(cluster, group, answer.error_code.max(group_code), None)?;
    read_offsets(answer)
}

fn read_offsets(
    answer: OffsetFetchResponse,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let old = answer.topics.into_iter().flat_map(|topic| {
        let name = topic.name.0;
        topic.partitions.into_iter().map(move |partition| {
            let metadata = partition.metadata.map(|text| text.to_string());
            (
                TopicPartition::new(name.as_str(), partition.partition_index),
                (partition.committed_offset, partition.committed_leader_epoch),
                metadata,
                partition.error_code,
            )
        })
    });
    let groups = answer.groups.into_iter().flat_map(|group| group.topics);
    let new = groups.flat_map(|topic| {
        let name = topic.name.0;
        topic.partitions.into_iter().map(move |partition| {
            let metadata = partition.metadata.map(|text| text.to_string());
            (
                TopicPartition::new(name.as_str(), partition.partition_index),
                (partition.committed_offset, partition.committed_leader_epoch),
                metadata,
                partition.error_code,
            )
        })
    });
    let mut offsets = BTreeMap::new();
    for (partition, (offset, leader_epoch), metadata, code) in old.chain(new) {
        ClientError::check(code, None)?;
        // -1 stands for "nothing committed".
        if offset >= 0 {
            offsets.insert(
                partition,
                CommittedOffset {
                    offset,
                    leader_epoch,
                    metadata: metadata.unwrap_or_default(),
                },
            );
        }
    }
    Ok(offsets)
}
