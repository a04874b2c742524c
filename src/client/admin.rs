//! Administration over Kafka's protocol: topics, configurations, elections, groups, offsets.
//!
//! Each call finds the broker that must answer, repeats what may be repeated until its deadline, and
//! gives plain values. A per-item error (one topic of many) is a value in the answer.

mod group;
mod topic;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::ClientError;
use super::cluster::{Cluster, Metadata, Retry, Wanted};
pub use group::{CommittedOffset, DescribedGroup, GroupMember, ListedGroup};
pub use topic::{
    ConfigEntry, ElectionType, ListedOffset, NewTopic, OffsetSpec, Reassignment, Resource,
};

/// `default.api.timeout.ms` of Kafka's admin client.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Administers one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
    timeout: Duration,
}

impl Admin {
    /// Administers `cluster` with Kafka's default timeout.
    pub fn new(cluster: Cluster) -> Admin {
        Admin {
            cluster,
            timeout: TIMEOUT,
        }
    }

    /// Gives up after `timeout` per call.
    pub fn with_timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// The cluster that is administered.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Everything that Metadata says about `wanted`.
    pub async fn metadata(&self, wanted: Wanted<'_>) -> Result<Arc<Metadata>, ClientError> {
        self.retrying("listNodes", || self.cluster.metadata(wanted))
            .await
    }

    /// The names of all topics, internal ones included if asked for; sorted.
    pub async fn topic_names(&self, internal: bool) -> Result<Vec<String>, ClientError> {
        let metadata = self
            .retrying("listTopics", || self.cluster.metadata(Wanted::All))
            .await?;
        Ok(metadata
            .topics
            .iter()
            .filter(|(_, topic)| internal || !topic.internal)
            .map(|(name, _)| name.clone())
            .collect())
    }

    /// The timeout as requests carry it.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Repeats `attempt` while its failure may pass, until the deadline.
    async fn retrying<T, F>(
        &self,
        call: &'static str,
        attempt: impl Fn() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut retry = Retry::within(self.timeout);
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !worth_repeating(&error) {
                return Err(error);
            }
            if !retry.pause().await {
                return Err(match error {
                    ClientError::Connect { .. } => ClientError::NoBroker {
                        call,
                        at_ms: self.cluster.world().clock.wall_ms(),
                        source: Some(Box::new(error)),
                    },
                    other => other,
                });
            }
        }
    }
}

/// Retriable, unless waiting seldom helps: a topic that is not there will not come.
fn worth_repeating(error: &ClientError) -> bool {
    let hopeless = [
        ResponseError::UnknownTopicOrPartition,
        ResponseError::CorruptMessage,
    ];
    error.is_retriable() && !error.code().is_some_and(|code| hopeless.contains(&code))
}
