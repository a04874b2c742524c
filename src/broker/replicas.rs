//! All partitions that this broker leads or follows, by name.

use std::collections::BTreeMap;
use std::sync::RwLock;

/// The partitions of this broker.
#[derive(Debug, Default)]
pub struct Replicas {
    #[allow(dead_code, reason = "filled by the data plane")]
    partitions: RwLock<BTreeMap<String, ()>>,
}
