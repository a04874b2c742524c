//! All logs under `log.dirs`: load, lock, create, delete, checkpoint; a directory fails alone.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Log, LogError, Options};
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::ids::{BrokerId, Offset, TopicPartition};

/// Who the directories belong to, as `meta.properties` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `broker.id`.
    pub broker_id: BrokerId,
    /// `cluster.id`.
    pub cluster_id: String,
}

/// Why directories can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The directory is another broker's. Nothing was written.
    #[error(
        "{} belongs to broker {} of cluster {:?}; this is broker {} of cluster {:?}",
        path.display(), found.broker_id, found.cluster_id, ours.broker_id, ours.cluster_id
    )]
    Foreign {
        /// The log directory.
        path: PathBuf,
        /// What its `meta.properties` says.
        found: Identity,
        /// Who we are.
        ours: Identity,
    },
    /// Another process holds the lock.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The log directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A file beside the logs does not read.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A partition that is there already.
    #[error("{0} exists already")]
    Exists(TopicPartition),
    /// A partition that is not there.
    #[error("{0} does not exist")]
    Missing(TopicPartition),
    /// A topic name that may not become a path.
    #[error("{0}")]
    TopicName(String),
    /// No directory is usable.
    #[error("no log directory is usable")]
    NoneLeft,
    /// The disk failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// All logs of a broker.
#[derive(Debug)]
pub struct Dirs {}

impl Dirs {
    /// What the first readable `meta.properties` says; none in new directories.
    pub fn identity(_disk: &dyn Disk, _dirs: &[PathBuf]) -> Result<Option<Identity>, DirError> {
        Err(DirError::NoneLeft)
    }

    /// Locks the directories, checks whose they are and opens every log. `options` gives a topic's
    /// settings. A directory that fails is reported by [`Dirs::failed`]; it is an error only when none
    /// is left, or when one is another broker's.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _dirs: &[PathBuf],
        _identity: Identity,
        _options: &dyn Fn(&str) -> Options,
        _clock: Clock,
    ) -> Result<Dirs, DirError> {
        Err(DirError::NoneLeft)
    }

    /// Directories that are offline, and why.
    pub fn failed(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }
    /// A log.
    pub fn get(&self, _id: &TopicPartition) -> Option<Arc<Log>> {
        None
    }
    /// All logs.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        Vec::new()
    }
    /// The high watermark that was checkpointed before the start.
    pub fn high_watermark(&self, _id: &TopicPartition) -> Option<Offset> {
        None
    }
    /// The topic's id as `partition.metadata` has it.
    pub fn topic_id(&self, _id: &TopicPartition) -> Option<uuid::Uuid> {
        None
    }
    /// Makes an empty log in the directory that has the fewest.
    pub fn create(
        &self,
        id: &TopicPartition,
        _topic_id: Option<uuid::Uuid>,
        _options: Options,
    ) -> Result<Arc<Log>, DirError> {
        Err(DirError::Missing(id.clone()))
    }
    /// Gives a log up: closed and renamed now, removed after `file.delete.delay.ms`.
    pub fn delete(&self, id: &TopicPartition) -> Result<(), DirError> {
        Err(DirError::Missing(id.clone()))
    }
    /// Writes recovery points, log start offsets and the high watermarks that `high_watermark` knows.
    pub fn checkpoint(
        &self,
        _high_watermark: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Result<(), DirError> {
        Err(DirError::NoneLeft)
    }
    /// Background work that is due: syncs of rolled segments and `flush.ms`, removal of what was given
    /// up, expiry of producers. Call it every second or so on a blocking thread.
    pub fn maintain(&self) {}
    /// Clean stop: closes all logs, writes the checkpoints and the clean shutdown marker.
    pub fn close(
        &self,
        _high_watermark: &dyn Fn(&TopicPartition) -> Option<Offset>,
    ) -> Result<(), DirError> {
        Err(DirError::NoneLeft)
    }
}
