//! Which Kafka cluster a node's broker joined last, in a file of its coordinator's directory.
//!
//! Only ZooKeeper knows the cluster for sure, and the ZooKeeper of a node with both halves writes to its
//! disk as soon as it runs. By this file a node given another cluster's log directories is refused before
//! that. A file that is missing or damaged says nothing: the broker asks ZooKeeper anyway.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::common::disk::Disk;
use crate::common::sealed;
use crate::config::Config;

const FILE_NAME: &str = "joined-cluster";
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// `/cluster/id`.
    pub cluster_id: String,
    /// Where it was found: `zookeeper.connect`. Elsewhere there may be another cluster.
    pub zookeeper: String,
}

impl Joined {
    /// The broker of this node is in the cluster `cluster_id`.
    pub fn new(config: &Config, cluster_id: &str) -> Joined {
        Joined {
            cluster_id: cluster_id.to_owned(),
            zookeeper: zookeeper(config),
        }
    }

    /// Where the file lies.
    pub fn path(config: &Config) -> PathBuf {
        config.coordinator_dir.join(FILE_NAME)
    }

    /// What was noted for the ZooKeeper that is configured now. Blocks.
    pub fn read(disk: &dyn Disk, config: &Config) -> Option<Joined> {
        let noted = read(disk, &Joined::path(config))?;
        (noted.zookeeper == zookeeper(config)).then_some(noted)
    }

    /// Notes it, unless it is there already. Blocks.
    pub fn write(&self, disk: &dyn Disk, config: &Config) -> io::Result<()> {
        let path = Joined::path(config);
        if read(disk, &path).as_ref() == Some(self) {
            return Ok(());
        }
        let bytes = sealed::seal(self).ok_or(io::ErrorKind::InvalidData)?;
        disk.replace(&path, &bytes)
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Option<Joined> {
    sealed::unseal(&disk.read(path, FILE_BYTES_MAX).ok()?)
}

fn zookeeper(config: &Config) -> String {
    let servers = config.zookeeper.servers.iter().map(ToString::to_string);
    let servers: Vec<String> = servers.collect();
    format!("{}{}", servers.join(","), config.zookeeper.chroot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;
    use crate::common::net::HostPort;

    #[test]
    fn what_was_noted_holds_for_its_zookeeper_alone_and_damage_says_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::defaults();
        config.coordinator_dir = dir.path().to_owned();
        config.zookeeper.servers = vec![HostPort::new("node1", 2181)];
        assert_eq!(Joined::read(&RealDisk, &config), None);
        let joined = Joined::new(&config, "one");
        joined.write(&RealDisk, &config).expect("writable");
        assert_eq!(Joined::read(&RealDisk, &config), Some(joined.clone()));
        config.zookeeper.chroot = "/kafka".to_owned();
        assert_eq!(Joined::read(&RealDisk, &config), None);
        let below = Joined::new(&config, "two");
        below.write(&RealDisk, &config).expect("writable");
        assert_eq!(Joined::read(&RealDisk, &config), Some(below.clone()));
        std::fs::write(Joined::path(&config), b"garbage").expect("writable");
        assert_eq!(Joined::read(&RealDisk, &config), None);
        below.write(&RealDisk, &config).expect("replaced");
        assert_eq!(Joined::read(&RealDisk, &config), Some(below));
    }
}
