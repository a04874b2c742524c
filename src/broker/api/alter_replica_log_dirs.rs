//! AlterReplicaLogDirs (34): replicas of this broker move to other directories of it.
//!
//! Versions 1-2. The answer says that the moves have begun; DescribeLogDirs tells how far they are.

use std::path::PathBuf;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::{Context, Route};
use crate::broker::Broker;
use crate::common::ids::TopicPartition;
use crate::common::tasks;

/// The route.
pub const ROUTE: Route = crate::route!(
    AlterReplicaLogDirs,
    AlterReplicaLogDirsRequest,
    1..=2,
    handle
);

async fn handle(
    broker: &Broker,
    _context: &Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let replicas = broker.replicas.clone();
    let results = tasks::blocking(move || {
        let mut results = Vec::new();
        for dir in request.dirs {
            let path = PathBuf::from(dir.path.as_str());
            for topic in dir.topics {
                let partitions = topic.partitions.iter().map(|index| {
                    let id = TopicPartition::new(topic.name.as_str(), *index);
                    let code = match replicas.move_to(&id, &path) {
                        Ok(()) => 0,
                        Err(error) => error.code(),
                    };
                    AlterReplicaLogDirPartitionResult::default()
                        .with_partition_index(*index)
                        .with_error_code(code)
                });
                let partitions = partitions.collect();
                results.push(
                    AlterReplicaLogDirTopicResult::default()
                        .with_topic_name(topic.name)
                        .with_partitions(partitions),
                );
            }
        }
        results
    })
    .await;
    AlterReplicaLogDirsResponse::default().with_results(results)
}
