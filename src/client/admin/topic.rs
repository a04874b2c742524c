//! Topics, their configurations, leaders and offsets.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Admin;
use crate::client::ClientError;
use crate::client::cluster::Wanted;
use crate::common::ids::TopicPartition;

/// A topic to create.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` is the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas; `None` is the broker's default.
    pub replication_factor: Option<i16>,
    /// Replicas of each partition; if any are given the two numbers above are not sent.
    pub assignment: Vec<Vec<i32>>,
    /// Its own settings.
    pub configs: Vec<(String, String)>,
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic's.
    Topic(String),
    /// A broker's; `None` is the default of all brokers.
    Broker(Option<i32>),
}

/// One setting as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none if it is secret.
    pub value: Option<String>,
    /// Where the value comes from: 1 topic, 2 and 3 dynamic broker, 4 static broker, 5 default.
    pub source: i8,
    /// Is it secret?
    pub sensitive: bool,
    /// Can it not be changed?
    pub read_only: bool,
    /// Where else it could come from, in order of precedence: name, value, source.
    pub synonyms: Vec<(String, Option<String>, i8)>,
}

impl ConfigEntry {
    /// Is it Kafka's own default?
    pub fn is_default(&self) -> bool {
        self.source == 5
    }
}

/// How a leader is elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any live replica, records lost or not.
    Unclean,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first there is.
    Earliest,
    /// The one after the last.
    Latest,
    /// The first record at or after this time.
    Timestamp(i64),
}

/// What ListOffsets answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 if no record is that young.
    pub offset: i64,
    /// The record's timestamp, or -1.
    pub timestamp: i64,
    /// The leader epoch, or -1.
    pub leader_epoch: i32,
}

/// A reassignment under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas meanwhile.
    pub replicas: Vec<i32>,
    /// Those to come.
    pub adding: Vec<i32>,
    /// Those to go.
    pub removing: Vec<i32>,
}

fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(text: &str) -> TopicName {
    TopicName(name(text))
}

/// Partitions grouped by topic, as requests have them.
pub(super) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(&partition.topic)
            .or_default()
            .push(partition.partition);
    }
    topics
}

impl Admin {
    /// Creates a topic.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let assignments: Vec<_> = topic
            .assignment
            .iter()
            .zip(0i32..)
            .map(|(replicas, index)| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(index)
                    .with_broker_ids(replicas.iter().map(|id| (*id).into()).collect())
            })
            .collect();
        let configs = topic.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(name(key))
                .with_value(Some(name(value)))
        });
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(vec![
                CreatableTopic::default()
                    .with_name(topic_name(&topic.name))
                    .with_num_partitions(topic.partitions.unwrap_or(-1))
                    .with_replication_factor(topic.replication_factor.unwrap_or(-1))
                    .with_assignments(assignments)
                    .with_configs(configs.collect()),
            ]);
        self.retrying("createTopics", || async {
            let controller = self.cluster().controller().await?;
            let answer = controller.send(&request).await?;
            answer.topics.iter().try_for_each(|topic| {
                ClientError::check(topic.error_code, topic.error_message.as_deref())
            })
        })
        .await
    }

    /// Deletes topics; stops at the first that cannot be deleted.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<(), ClientError> {
        self.retrying("deleteTopics", || async {
            let controller = self.cluster().controller().await?;
            let version = controller.version::<DeleteTopicsRequest>(i16::MAX)?;
            let request = DeleteTopicsRequest::default().with_timeout_ms(self.timeout_ms());
            let request = if version >= 6 {
                request.with_topics(
                    topics
                        .iter()
                        .map(|topic| DeleteTopicState::default().with_name(Some(topic_name(topic))))
                        .collect(),
                )
            } else {
                request.with_topic_names(topics.iter().map(|topic| topic_name(topic)).collect())
            };
            let answer = controller.send_as(&request, version).await?;
            answer.responses.iter().try_for_each(|topic| {
                ClientError::check(topic.error_code, topic.error_message.as_deref())
            })
        })
        .await
    }

    /// Gives topics more partitions: the new total, and the replicas of the new ones if chosen.
    pub async fn create_partitions(
        &self,
        topics: &[(String, i32, Vec<Vec<i32>>)],
    ) -> Result<(), ClientError> {
        let list = topics.iter().map(|(topic, count, assignments)| {
            let chosen = assignments.iter().map(|replicas| {
                CreatePartitionsAssignment::default()
                    .with_broker_ids(replicas.iter().map(|id| (*id).into()).collect())
            });
            CreatePartitionsTopic::default()
                .with_name(topic_name(topic))
                .with_count(*count)
                .with_assignments((!assignments.is_empty()).then(|| chosen.collect()))
        });
        let request = CreatePartitionsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(list.collect());
        self.retrying("createPartitions", || async {
            let controller = self.cluster().controller().await?;
            let answer = controller.send(&request).await?;
            answer.results.iter().try_for_each(|topic| {
                ClientError::check(topic.error_code, topic.error_message.as_deref())
            })
        })
        .await
    }

    /// All settings of one resource.
    pub async fn describe_configs(
        &self,
        resource: &Resource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = DescribeConfigsRequest::default()
            .with_include_synonyms(true)
            .with_resources(vec![
                DescribeConfigsResource::default()
                    .with_resource_type(resource.code())
                    .with_resource_name(name(&resource.name()))
                    .with_configuration_keys(None),
            ]);
        self.retrying("describeConfigs", || async {
            let connection = match resource {
                Resource::Broker(Some(id)) => self.cluster().broker(*id).await?,
                _ => self.cluster().any().await?,
            };
            let answer = connection.send(&request).await?;
            let mut entries = Vec::new();
            for result in answer.results {
                ClientError::check(result.error_code, result.error_message.as_deref())?;
                entries.extend(result.configs.into_iter().map(|config| {
                    ConfigEntry {
                        name: config.name.to_string(),
                        value: config.value.map(|value| value.to_string()),
                        source: config.config_source,
                        sensitive: config.is_sensitive,
                        read_only: config.read_only,
                        synonyms: config
                            .synonyms
                            .into_iter()
                            .map(|synonym| {
                                let value = synonym.value.map(|value| value.to_string());
                                (synonym.name.to_string(), value, synonym.source)
                            })
                            .collect(),
                    }
                }));
            }
            Ok(entries)
        })
        .await
    }

    /// Sets (`Some`) and unsets (`None`) settings of one resource.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        let configs = changes.iter().map(|(key, value)| {
            AlterableConfig::default()
                .with_name(name(key))
                .with_config_operation(i8::from(value.is_none()))
                .with_value(value.as_deref().map(name))
        });
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
            AlterConfigsResource::default()
                .with_resource_type(resource.code())
                .with_resource_name(name(&resource.name()))
                .with_configs(configs.collect()),
        ]);
        self.retrying("incrementalAlterConfigs", || async {
            let connection = match resource {
                Resource::Broker(Some(id)) => self.cluster().broker(*id).await?,
                _ => self.cluster().any().await?,
            };
            let answer = connection.send(&request).await?;
            answer.responses.iter().try_for_each(|result| {
                ClientError::check(result.error_code, result.error_message.as_deref())
            })
        })
        .await
    }

    /// Elects leaders, of all partitions if `partitions` is `None`. Gives each partition's outcome.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        let topics = partitions.map(|partitions| {
            by_topic(partitions)
                .into_iter()
                .map(|(topic, partitions)| {
                    TopicPartitions::default()
                        .with_topic(topic_name(topic))
                        .with_partitions(partitions)
                })
                .collect()
        });
        let request = ElectLeadersRequest::default()
            .with_election_type(i8::from(election == ElectionType::Unclean))
            .with_timeout_ms(self.timeout_ms())
            .with_topic_partitions(topics);
        self.retrying("electLeaders", || async {
            let controller = self.cluster().controller().await?;
            let answer = controller.send(&request).await?;
            ClientError::check(answer.error_code, None)?;
            let mut outcome = BTreeMap::new();
            for topic in answer.replica_election_results {
                for partition in topic.partition_result {
                    let result = ClientError::check(
                        partition.error_code,
                        partition.error_message.as_deref(),
                    );
                    let id = TopicPartition::new(topic.topic.0.as_str(), partition.partition_id);
                    outcome.insert(id, result);
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Offsets of partitions, each asked of its leader.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        read_committed: bool,
    ) -> Result<BTreeMap<TopicPartition, Result<ListedOffset, ClientError>>, ClientError> {
        let mut topics: Vec<String> = wanted.keys().map(|tp| tp.topic.to_string()).collect();
        topics.dedup();
        self.retrying("listOffsets", || async {
            let metadata = self
                .cluster()
                .metadata(Wanted::Named(&topics, false))
                .await?;
            let mut by_leader: BTreeMap<i32, Vec<&TopicPartition>> = BTreeMap::new();
            let mut outcome = BTreeMap::new();
            for partition in wanted.keys() {
                match metadata.leader(&partition.topic, partition.partition) {
                    Some((leader, _)) => by_leader.entry(leader.id).or_default().push(partition),
                    None => {
                        let error = ClientError::Answer {
                            error: ResponseError::LeaderNotAvailable,
                            message: None,
                        };
                        outcome.insert(partition.clone(), Err(error));
                    }
                }
            }
            for (leader, partitions) in by_leader {
                let request = offsets_request(wanted, &partitions, read_committed);
                let connection = self.cluster().broker(leader).await?;
                let version = connection.version::<ListOffsetsRequest>(i16::MAX)?;
                let request = if version < 2 {
                    request.with_isolation_level(0)
                } else {
                    request
                };
                let answer = connection.send_as(&request, version).await?;
                for topic in answer.topics {
                    for partition in topic.partitions {
                        let id =
                            TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
                        let listed = ListedOffset {
                            offset: partition.offset,
                            timestamp: partition.timestamp,
                            leader_epoch: partition.leader_epoch,
                        };
                        let result = ClientError::check(partition.error_code, None);
                        outcome.insert(id, result.map(|()| listed));
                    }
                }
            }
            Ok(outcome)
        })
        .await
    }

    /// Reassignments under way among `partitions`.
    pub async fn reassignments(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, ClientError> {
        let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
            ListPartitionReassignmentsTopics::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions)
        });
        let request = ListPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(Some(topics.collect()));
        self.retrying("listPartitionReassignments", || async {
            let controller = self.cluster().controller().await?;
            let answer = controller.send(&request).await?;
            ClientError::check(answer.error_code, answer.error_message.as_deref())?;
            let mut found = BTreeMap::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let ids = |list: &[kafka_protocol::messages::BrokerId]| {
                        list.iter().map(|id| id.0).collect()
                    };
                    found.insert(
                        TopicPartition::new(topic.name.0.as_str(), partition.partition_index),
                        Reassignment {
                            replicas: ids(&partition.replicas),
                            adding: ids(&partition.adding_replicas),
                            removing: ids(&partition.removing_replicas),
                        },
                    );
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Resource {
    fn code(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            Resource::Topic(topic) => topic.clone(),
            Resource::Broker(id) => id.map_or_else(String::new, |id| id.to_string()),
        }
    }
}

impl OffsetSpec {
    /// The timestamp that stands for it on the wire.
    pub fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::Earliest => -2,
            OffsetSpec::Latest => -1,
            OffsetSpec::Timestamp(timestamp) => timestamp,
        }
    }
}

fn offsets_request(
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    partitions: &[&TopicPartition],
    read_committed: bool,
) -> ListOffsetsRequest {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for partition in partitions {
        let spec = wanted
            .get(*partition)
            .copied()
            .unwrap_or(OffsetSpec::Latest);
        let item = ListOffsetsPartition::default()
            .with_partition_index(partition.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(spec.timestamp());
        match topics.last_mut() {
            Some(topic) if *topic.name.0 == *partition.topic => topic.partitions.push(item),
            _ => topics.push(
                ListOffsetsTopic::default()
                    .with_name(topic_name(&partition.topic))
                    .with_partitions(vec![item]),
            ),
        }
    }
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(i8::from(read_committed))
        .with_topics(topics)
}
