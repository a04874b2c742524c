//! DescribeLogDirs (35): where the logs lie and how big they are.
//!
//! Versions 1-4. v4 adds the volume's free bytes; its total is not known here (-1). A replica that moves
//! is named twice, where it is and, as a future one, where it goes. A directory that failed is named with
//! KAFKA_STORAGE_ERROR.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Route};
use crate::broker::Broker;
use crate::broker::partition::Partition;
use crate::broker::replicas::Replicas;

/// The route.
pub const ROUTE: Route = crate::route!(DescribeLogDirs, DescribeLogDirsRequest, 1..=4, handle);

/// The partitions that are asked for; none means all.
type Wanted = Option<BTreeSet<(String, i32)>>;

async fn handle(
    broker: &Broker,
    context: &Context,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let wanted: Wanted = request.topics.map(|topics| {
        let named = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic.to_string(), *partition))
        });
        named.collect()
    });
    let replicas = broker.replicas.clone();
    let version = context.version;
    // Free space is asked of the file system, which may be slow.
    let results = crate::common::tasks::blocking(move || {
        let failed = replicas.dirs().failed();
        let partitions = replicas.all();
        let mut results = Vec::new();
        let mut paths: BTreeSet<PathBuf> = replicas.dirs().paths().into_iter().collect();
        paths.extend(failed.iter().map(|(path, _)| path.clone()));
        for path in paths {
            results.push(if failed.iter().any(|(dir, _)| *dir == path) {
                named(&path).with_error_code(ResponseError::KafkaStorageError.code())
            } else {
                let free = replicas.free_bytes(&path);
                describe(&path, (&replicas, &partitions), &wanted, version, free)
            });
        }
        results
    })
    .await;
    DescribeLogDirsResponse::default().with_results(results)
}

fn named(path: &Path) -> DescribeLogDirsResult {
    let text = path.to_string_lossy().into_owned();
    DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(text))
}

fn describe(
    path: &Path,
    (replicas, partitions): (&Replicas, &[Arc<Partition>]),
    wanted: &Wanted,
    version: i16,
    free: Option<u64>,
) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let id = partition.id();
        let asked = wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&(id.topic.to_string(), id.partition)));
        if !asked {
            continue;
        }
        let log = partition.log();
        let future = replicas.dirs().future(id);
        let lag = partition.high_watermark() - partition.log_end_offset();
        let future = future.map(|log| (partition.future_lag(&log), true, log));
        let found = [Some((lag.max(0), false, log)), future];
        let here = found.into_iter().flatten();
        for (lag, is_future, log) in here.filter(|(.., log)| log.dir().parent() == Some(path)) {
            let size = log.status().size_bytes;
            topics.entry(id.topic.clone()).or_default().push(
                DescribeLogDirsPartition::default()
                    .with_partition_index(id.partition)
                    .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX))
                    .with_offset_lag(lag)
                    .with_is_future_key(is_future),
            );
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_string())))
            .with_partitions(partitions)
    });
    let result = named(path).with_topics(topics.collect());
    match free.and_then(|free| i64::try_from(free).ok()) {
        Some(free) if version >= 4 => result.with_usable_bytes(free),
        _ => result,
    }
}
