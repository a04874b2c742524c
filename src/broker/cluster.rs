//! Changes to the cluster's metadata, written to ZooKeeper on behalf of a request.

/// The way to the cluster's metadata.
#[derive(Debug, Default)]
pub struct Cluster {}
