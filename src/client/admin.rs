//! Administration over Kafka's protocol: topics, configurations, elections, groups, offsets.
//!
//! Each call finds the broker that must answer, repeats what may be repeated until its deadline, and
//! gives plain values. A per-item error (one topic of many) is a value in the answer.

use std::time::Duration;

use super::cluster::{Cluster, Retry, Wanted};
use super::{ClientError, cluster};

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
    pub async fn metadata(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<std::sync::Arc<cluster::Metadata>, ClientError> {
        let mut retry = Retry::within(self.timeout);
        loop {
            match self.cluster.metadata(wanted).await {
                Err(error) if error.is_retriable() && retry.pause().await => {}
                result => return result,
            }
        }
    }
}
