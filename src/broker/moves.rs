//! Replicas that move between the log directories of this broker (AlterReplicaLogDirs): one task copies
//! all of them, in turns, within the bound on their bytes per second.
//!
//! What is moving is known by its future log, so that a start goes on where the last one ended.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;
use tracing::{error, info};

use crate::broker::partition::{MoveError, Partition};
use crate::broker::replicas::Replicas;
use crate::common::ids::TopicPartition;
use crate::common::shutdown::Shutdown;
use crate::common::tasks;
use crate::log::Log;
use crate::log::dir::{Place, future_name_fits};

/// How often it is looked whether more may be copied.
const THROTTLE_LOOK: Duration = Duration::from_millis(100);

/// After a turn that found nothing it could copy.
const SOON: Duration = Duration::from_millis(10);

/// The partitions that are moving.
#[derive(Debug, Default)]
pub struct Moves {
    on_their_way: Mutex<BTreeSet<TopicPartition>>,
    wake: Notify,
}

impl Moves {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<TopicPartition>> {
        self.on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a future log for this partition.
    pub fn begin(&self, id: &TopicPartition) {
        self.lock().insert(id.clone());
        self.wake.notify_one();
    }

    fn end(&self, id: &TopicPartition) {
        self.lock().remove(id);
    }

    /// The next one behind `last`, in a circle.
    fn next(&self, last: Option<&TopicPartition>) -> Option<TopicPartition> {
        let all = self.lock();
        let behind = last.and_then(|last| all.iter().find(|id| *id > last));
        behind.or(all.first()).cloned()
    }
}

/// What became of a move in its turn.
enum Turn {
    Copied(usize),
    Over,
}

impl Replicas {
    /// Begins to move a replica into a directory, or ends another move of it. Blocks.
    ///
    /// The errors are Kafka's: `LOG_DIR_NOT_FOUND`, `KAFKA_STORAGE_ERROR`, `INVALID_TOPIC_EXCEPTION`, and
    /// `REPLICA_NOT_AVAILABLE` where there is no such replica yet; it will be made there if it comes.
    pub fn move_to(&self, id: &TopicPartition, dir: &Path) -> Result<(), ResponseError> {
        if !future_name_fits(id) {
            return Err(ResponseError::InvalidTopicException);
        }
        let _applying = self.hold();
        match self.dirs().place_of(dir) {
            Place::Unknown => return Err(ResponseError::LogDirNotFound),
            Place::Offline => return Err(ResponseError::KafkaStorageError),
            Place::Online => {}
        }
        let partition = match self.replica(&id.topic, id.partition) {
            Ok(partition) => partition,
            Err(ResponseError::NotLeaderOrFollower) => {
                self.dirs().prefer(id, dir);
                return Err(ResponseError::ReplicaNotAvailable);
            }
            Err(error) => return Err(error),
        };
        let future = self.dirs().future(id);
        if future.is_some_and(|future| future.dir().parent() != Some(dir)) {
            self.moves().end(id);
            let dropped = self.dirs().drop_future(id);
            dropped.map_err(|error| self.failed(id, &error))?;
            info!(partition = %id, "the move to another directory is called off");
        }
        let current = partition.log();
        if current.dir().parent() == Some(dir) || self.dirs().future(id).is_some() {
            return Ok(());
        }
        let options = (*current.options()).clone();
        let made = self.dirs().make_future(id, dir, options);
        made.map_err(|error| self.failed(id, &error))?;
        info!(partition = %id, ?dir, "the replica moves to another directory");
        self.moves().begin(id);
        Ok(())
    }

    fn failed(
        &self,
        id: &TopicPartition,
        error: &(dyn std::error::Error + 'static),
    ) -> ResponseError {
        error!(partition = %id, error, "the replica does not move to another directory");
        ResponseError::KafkaStorageError
    }

    /// One read's worth of one move. Blocks.
    fn take_turn(&self, id: &TopicPartition) -> Turn {
        let turn = self.turn(id);
        let _applying = self.hold();
        let gone = self.get(&id.topic, id.partition).is_none();
        if gone || self.dirs().future(id).is_none() {
            self.moves().end(id);
        }
        turn
    }

    fn turn(&self, id: &TopicPartition) -> Turn {
        let here = self.get(&id.topic, id.partition);
        let (Some(partition), Some(future)) = (here, self.dirs().future(id)) else {
            return Turn::Over;
        };
        match self.advance(&partition, &future) {
            Ok(Some(bytes)) => Turn::Copied(bytes),
            Ok(None) => {
                let dir = partition.log().dir().to_owned();
                info!(partition = %id, ?dir, "the replica has moved to another directory");
                Turn::Over
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                error!(
                    partition = %id, error,
                    "the replica does not move any further; the next start tries again"
                );
                self.dirs().forget_future(id);
                Turn::Over
            }
        }
    }

    /// How many bytes were copied; none when the move is done, or was called off.
    fn advance(
        &self,
        partition: &Partition,
        future: &Arc<Log>,
    ) -> Result<Option<usize>, MoveError> {
        let id = partition.id();
        let bytes_max = usize::try_from(self.replica_fetch_max_bytes()).unwrap_or(0);
        let kept = self.dirs().keep_cuts(std::slice::from_ref(future));
        kept.map_err(|error| MoveError::Write(error.into()))?;
        let copied = partition.copy_to(future, bytes_max)?;
        if !copied.all {
            return Ok(Some(copied.bytes));
        }
        // Most of it is synced before writers have to wait for the rest.
        let synced = future.flush(future.log_end_offset());
        synced.map_err(|error| MoveError::Write(error.into()))?;
        let _applying = self.hold();
        let same = self
            .dirs()
            .future(id)
            .is_some_and(|now| Arc::ptr_eq(&now, future));
        let here = self.get(&id.topic, id.partition);
        if !same || !here.is_some_and(|here| std::ptr::eq(&*here, partition)) {
            return Ok(None);
        }
        let replace = || self.dirs().replace_with_future(id);
        let done = partition.take_over(future, bytes_max, replace)?;
        Ok((!done).then_some(copied.bytes))
    }
}

/// Copies until the shutdown.
pub async fn run(replicas: Arc<Replicas>, shutdown: Shutdown) {
    let mut last = None;
    loop {
        let Some(id) = replicas.moves().next(last.as_ref()) else {
            tokio::select! {
                () = replicas.moves().wake.notified() => continue,
                () = shutdown.stopped() => return,
            }
        };
        let throttle = &replicas.throttles().alter_log_dirs;
        if throttle.is_exceeded(replicas.clock().monotonic_ms()) {
            tokio::select! {
                () = tokio::time::sleep(THROTTLE_LOOK) => continue,
                () = shutdown.stopped() => return,
            }
        }
        if shutdown.is_stopping() {
            return;
        }
        let (turn, of) = (replicas.clone(), id.clone());
        match tasks::blocking(move || turn.take_turn(&of)).await {
            Turn::Copied(0) => tokio::time::sleep(SOON).await,
            Turn::Copied(bytes) => throttle.record(replicas.clock().monotonic_ms(), bytes as u64),
            Turn::Over => {}
        }
        last = Some(id);
    }
}
