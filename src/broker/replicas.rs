//! All partitions that this broker leads or follows, by name.
//!
//! Opened from the log directories at the start; afterwards each new image is given to
//! [`Replicas::apply`], which is the only thing that creates, re-roles and drops partitions. What was
//! deleted or moved away while this broker was away is dropped with the first image.
//!
//! Locks: `applying` for the length of an apply, and inside it, briefly, the map's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::broker::fetch_session::FetchSessions;
use crate::broker::image::{Image, ImageCell, TopicImage};
use crate::broker::isr_changes::IsrChanges;
use crate::broker::moves::{self, Moves};
use crate::broker::partition::{Partition, Role};
use crate::broker::throttle::{Meter, Throttled, Throttles};
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition, Zxid};
use crate::common::tasks::{self, Kind, Tasks};
use crate::config::{BrokerConfig, Config, TopicConfig};
use crate::kafka::batch::Compression;
use crate::log;
use crate::log::dir::{DirError, Dirs, Identity, Loading, NewLog};

/// How often due work on logs is looked for.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);

/// The partitions of this broker.
#[derive(Debug)]
pub struct Replicas {
    id: BrokerId,
    config: Arc<Config>,
    clock: Clock,
    disk: Arc<dyn Disk>,
    dirs: Arc<Dirs>,
    image: Arc<ImageCell>,
    partitions: RwLock<Partitions>,
    applying: Mutex<Applied>,
    /// Stale logs have been looked for.
    swept: AtomicBool,
    /// Something failed in the last apply that may work when it is tried again.
    unfinished: AtomicBool,
    fetch_sessions: Mutex<FetchSessions>,
    isr_changes: Arc<IsrChanges>,
    throttles: Arc<Throttles>,
    moves: Moves,
    /// The first registration of this process: states from before speak of another one.
    registered: AtomicI64,
    /// A log directory failed for good.
    lost_dir: Notify,
}

#[derive(Debug, Default)]
struct Partitions {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Arc<Partition>>>,
    /// Given to this broker, and their logs cannot be used: why.
    offline: BTreeMap<TopicPartition, String>,
    /// Those of them that nothing but a restart may mend.
    lasting: BTreeSet<TopicPartition>,
}

/// Was an image applied since the start? What the first one names was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied(bool);

/// A replica that an image gives to this broker and that is not here yet.
struct New {
    wanted: NewLog,
    role: Role,
}

/// What an image changed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Partitions that this broker leads from now on, or leads under a new epoch.
    pub elected: Vec<(TopicPartition, LeaderEpoch)>,
    /// Partitions that this broker led and leads no more; deleted ones are in here, too.
    pub resigned: Vec<TopicPartition>,
    /// Partitions whose log was given up: deleted, or moved to other brokers.
    pub deleted: Vec<TopicPartition>,
    /// Partitions that the image gives to this broker and whose log cannot be used.
    pub failed: Vec<TopicPartition>,
}

impl Replicas {
    /// Locks the log directories and recovers every log in them. Nothing is led before the first
    /// [`Replicas::apply`]. Blocks, possibly long.
    pub fn open(
        config: Arc<Config>,
        cluster_id: &str,
        image: Arc<ImageCell>,
        disk: Arc<dyn Disk>,
        clock: Clock,
        loading: &Loading,
    ) -> Result<Replicas, DirError> {
        let identity = Identity {
            broker_id: config.broker_id,
            cluster_id: cluster_id.to_owned(),
        };
        let options = |_topic: &str| log_options(&config.broker, &config.broker.topic_defaults());
        let dirs = Dirs::open(
            disk.clone(),
            &config.log_dirs,
            identity,
            &options,
            clock.clone(),
            loading,
        )?;
        let slots = usize::try_from(config.broker.max_incremental_fetch_session_cache_slots);
        Ok(Replicas {
            id: config.broker_id,
            clock,
            disk,
            dirs: Arc::new(dirs),
            image,
            partitions: RwLock::default(),
            applying: Mutex::default(),
            swept: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            fetch_sessions: Mutex::new(FetchSessions::new(slots.unwrap_or(0))),
            isr_changes: Arc::new(IsrChanges::new(config.broker.replica_lag_time_max_ms)),
            throttles: Arc::new(throttles(&config.broker)),
            moves: Moves::default(),
            registered: AtomicI64::new(0),
            lost_dir: Notify::new(),
            config,
        })
    }

    fn partitions(&self) -> RwLockReadGuard<'_, Partitions> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition, if this broker has a replica of it.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.partitions()
            .topics
            .get(topic)?
            .get(&partition)
            .cloned()
    }

    /// The partition, if this broker leads it. Otherwise `UNKNOWN_TOPIC_OR_PARTITION`,
    /// `NOT_LEADER_OR_FOLLOWER`, or `KAFKA_STORAGE_ERROR` where its log cannot be used.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ResponseError> {
        match self.get(topic, partition) {
            Some(found) if found.is_leader() => Ok(found),
            Some(_) => Err(ResponseError::NotLeaderOrFollower),
            None => Err(self.absence(topic, partition)),
        }
    }

    /// The partition, if this broker leads or follows it; errors as of [`Replicas::leader`].
    pub fn replica(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ResponseError> {
        let found = self.get(topic, partition);
        found.ok_or_else(|| self.absence(topic, partition))
    }

    fn absence(&self, topic: &str, partition: i32) -> ResponseError {
        let id = TopicPartition::new(topic, partition);
        if self.partitions().offline.contains_key(&id) {
            ResponseError::KafkaStorageError
        } else if self.image.load().partition(topic, partition).is_some() {
            ResponseError::NotLeaderOrFollower
        } else {
            ResponseError::UnknownTopicOrPartition
        }
    }

    /// Every partition here, ordered by name.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions();
        let topics = partitions.topics.values();
        topics.flat_map(|topic| topic.values().cloned()).collect()
    }

    /// Partitions that were given to this broker and whose logs cannot be used, and why.
    pub fn offline(&self) -> BTreeMap<TopicPartition, String> {
        self.partitions().offline.clone()
    }

    /// Those of [`Replicas::offline`] that stay so until a restart: others had better lead them.
    pub fn lasting_offline(&self) -> BTreeSet<TopicPartition> {
        self.partitions().lasting.clone()
    }

    /// The directories below the logs.
    pub fn dirs(&self) -> &Arc<Dirs> {
        &self.dirs
    }

    /// Bytes that may still be written below `path`, where the disk says it. Blocks.
    pub fn free_bytes(&self, path: &Path) -> Option<u64> {
        self.disk.free_bytes(path).ok()
    }

    /// The in-sync sets that leaders here want changed.
    pub fn isr_changes(&self) -> &Arc<IsrChanges> {
        &self.isr_changes
    }

    /// The bounds on what replication moves.
    pub fn throttles(&self) -> &Arc<Throttles> {
        &self.throttles
    }

    /// The replicas that move between directories.
    pub(super) fn moves(&self) -> &Moves {
        &self.moves
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Bytes of one partition that are moved at once.
    pub(super) fn replica_fetch_max_bytes(&self) -> i32 {
        self.config.broker.replica_fetch_max_bytes
    }

    /// No partition comes or goes, or changes its log, while this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, Applied> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch sessions of this broker's clients. Lock nothing else meanwhile.
    pub fn fetch_sessions(&self) -> MutexGuard<'_, FetchSessions> {
        self.fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what runs here agree with `image`: opens or creates logs, takes and gives up
    /// leaderships, applies changed topic settings, drops what is gone.
    ///
    /// Blocks on the disk: call it with [`crate::common::tasks::blocking`], one call at a time.
    pub fn apply(&self, image: &Image) -> Changes {
        let mut applied = self.hold();
        let mut changes = Changes::default();
        if image.brokers.is_empty() {
            // Not even this broker is in it: no image to give up data for.
            return changes;
        }
        self.unfinished.store(false, Ordering::Relaxed);
        self.drop_lost(&mut changes);
        let broker = self.effective(image);
        let throttles = &self.throttles;
        throttles
            .leader
            .set(broker.leader_replication_throttled_rate);
        throttles
            .follower
            .set(broker.follower_replication_throttled_rate);
        let between_dirs = broker.replica_alter_log_dirs_io_max_bytes_per_second;
        throttles.alter_log_dirs.set(between_dirs);
        self.drop_gone(image, &mut changes);
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep(image);
        }
        let mut new = Vec::new();
        for (name, topic) in &image.topics {
            if !image.deleting.contains(name) {
                self.apply_topic(topic, image, &broker, &mut new, &mut changes);
            }
        }
        // What is here already does not wait for files to be made.
        self.take_in(new, *applied, &mut changes);
        *applied = Applied(true);
        changes
    }

    /// This broker has registered, before the first [`Replicas::apply`]: it leads nothing by a state from
    /// before, even where an image shows no registration of it.
    pub fn registered(&self, epoch: Zxid) {
        self.registered.store(epoch.0, Ordering::Relaxed);
    }

    /// What [`Replicas::registered`] was told.
    pub fn registration(&self) -> Zxid {
        Zxid(self.registered.load(Ordering::Relaxed))
    }

    /// Since when this broker is who it is: its registration, or while that is away, its first one.
    fn since(&self, image: &Image) -> Zxid {
        let own = image.brokers.get(&self.id).map(|own| own.epoch);
        own.unwrap_or_default().max(self.registration())
    }

    /// Is there something that failed in the last apply, and may work in another one of the same image?
    pub fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Resolves when a log directory failed for good: another apply of the same image is needed.
    pub async fn dir_is_lost(&self) {
        self.lost_dir.notified().await;
    }

    /// Stops leading everything: this broker may not be the leader any more, as far as it knows. The
    /// next apply takes up what is still (or again) its own.
    pub fn resign_all(&self) -> Changes {
        let _applying = self.hold();
        let mut changes = Changes::default();
        for partition in self.all() {
            let role = partition.role();
            if role.leading {
                let follower = Role {
                    leading: false,
                    ..(*role).clone()
                };
                // Only becoming leader touches the disk.
                let _ = partition.become_role(follower);
                changes.resigned.push(partition.id().clone());
            }
        }
        changes
    }

    /// The broker's settings with what was set dynamically.
    fn effective(&self, image: &Image) -> BrokerConfig {
        let empty = BTreeMap::new();
        let all = image.broker_configs.get(&None).unwrap_or(&empty);
        let own = image.broker_configs.get(&Some(self.id)).unwrap_or(&empty);
        if all.is_empty() && own.is_empty() {
            return self.config.broker.clone();
        }
        self.config.broker.with(all).with(own)
    }

    /// Gives up what was here and is not this broker's any more.
    fn drop_gone(&self, image: &Image, changes: &mut Changes) {
        for partition in self.all() {
            if !self.is_kept(image, partition.id(), partition.topic_id()) {
                self.drop_partition(&partition, changes);
            }
        }
        for id in self.offline().into_keys() {
            let topic_id = self.dirs.topic_id(&id).unwrap_or_default();
            if !self.is_kept(image, &id, topic_id) {
                self.give_up(&id);
                let mut partitions = self
                    .partitions
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                partitions.offline.remove(&id);
                partitions.lasting.remove(&id);
            }
        }
    }

    /// Stops using what lies in directories that failed. It stays given to this broker, offline.
    fn drop_lost(&self, changes: &mut Changes) {
        for id in self.dirs.set_aside_failed() {
            if let Some(partition) = self.get(&id.topic, id.partition) {
                self.leave(&partition, changes);
            }
        }
    }

    fn is_kept(&self, image: &Image, id: &TopicPartition, topic_id: uuid::Uuid) -> bool {
        image.topic(&id.topic).is_some_and(|topic| {
            !image.deleting.contains(&id.topic)
                && (topic_id.is_nil() || topic.id.is_nil() || topic_id == topic.id)
                && topic
                    .partitions
                    .get(&id.partition)
                    .is_some_and(|placed| placed.replicas.contains(&self.id))
        })
    }

    fn give_up(&self, id: &TopicPartition) {
        match self.dirs.delete(id) {
            Ok(()) => info!(partition = %id, "log given up"),
            // It never came to be, or its directory is offline.
            Err(DirError::Missing(_)) => {}
            Err(error) => error!(partition = %id, %error, "the log cannot be given up"),
        }
    }

    /// Gives up logs of topics that were deleted, and of partitions that went to other brokers, while this
    /// broker was away. The first image is whole; a topic that it cannot read is no deleted one.
    fn sweep(&self, image: &Image) {
        let logs = self.dirs.logs();
        let stale: Vec<&TopicPartition> = logs
            .iter()
            .map(|log| log.id())
            .filter(|id| match image.topic(&id.topic) {
                None => !image.unreadable.contains(&id.topic),
                Some(topic) => topic
                    .partitions
                    .get(&id.partition)
                    .is_none_or(|placed| !placed.replicas.contains(&self.id)),
            })
            .collect();
        if image.topics.is_empty() && !stale.is_empty() {
            // More likely the coordinator lost its data than somebody deleted everything.
            warn!(
                logs = stale.len(),
                "the cluster has no topics at all: the logs here are left alone"
            );
            return;
        }
        for id in stale {
            match self.dirs.delete(id) {
                Ok(()) => info!(partition = %id, "log given up: it is this broker's no more"),
                Err(error) => error!(partition = %id, %error, "the log cannot be given up"),
            }
        }
    }

    fn drop_partition(&self, partition: &Partition, changes: &mut Changes) {
        self.leave(partition, changes);
        self.give_up(partition.id());
        changes.deleted.push(partition.id().clone());
    }

    /// Neither leads nor follows it any more.
    fn leave(&self, partition: &Partition, changes: &mut Changes) {
        let id = partition.id();
        {
            let mut partitions = self
                .partitions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(topic) = partitions.topics.get_mut(&id.topic) {
                topic.remove(&id.partition);
                if topic.is_empty() {
                    partitions.topics.remove(&id.topic);
                }
            }
        }
        if partition.is_leader() {
            changes.resigned.push(id.clone());
        }
        partition.retire();
    }

    /// Roles for the replicas that are here; the others go to `new`.
    fn apply_topic(
        &self,
        topic: &TopicImage,
        image: &Image,
        broker: &BrokerConfig,
        new: &mut Vec<New>,
        changes: &mut Changes,
    ) {
        let mut config = None;
        for (index, placed) in &topic.partitions {
            let Some(state) = &placed.state else {
                continue;
            };
            if !placed.replicas.contains(&self.id) {
                continue;
            }
            let (config, options, throttled) = config.get_or_insert_with(|| {
                let config = TopicConfig::resolve(broker, &topic.config);
                let options = log_options(broker, &config);
                let throttled = [
                    &config.leader_replication_throttled_replicas,
                    &config.follower_replication_throttled_replicas,
                ];
                let throttled = throttled.map(|listed| Throttled::parse(listed, self.id));
                (config, options, throttled)
            });
            // Who is not in sync lacks records, whatever the state says of the leader; and a state from
            // before our registration speaks of our predecessor.
            let leading = state.leader == Some(self.id)
                && state.isr.contains(&self.id)
                && self.since(image) <= state.written;
            let role = Role {
                leading,
                // Of our predecessor nobody follows, and we follow nobody until there is another leader: a
                // consumer that still takes us for the leader would believe what our log lacks.
                leader: state.leader.filter(|id| leading || *id != self.id),
                leader_epoch: state.leader_epoch,
                live: {
                    let since = |id: &BrokerId| Some((*id, image.brokers.get(id)?.epoch));
                    let live = placed.replicas.iter();
                    let live = live.filter(|id| !placed.offline.contains(id));
                    live.filter_map(since).collect()
                },
                replicas: placed.replicas.clone(),
                isr: state.isr.clone(),
                state_version: state.version,
                state_written: state.written,
                controller_epoch: state.controller_epoch,
                min_insync_replicas: usize::try_from(config.min_insync_replicas).unwrap_or(1),
                throttled_as_leader: throttled[0].covers(*index),
                throttled_as_follower: throttled[1].covers(*index),
            };
            if let Some(found) = self.get(&topic.name, *index) {
                if *found.log().options() != *options {
                    found.log().set_options(options.clone());
                    if let Some(future) = self.dirs.future(found.id()) {
                        future.set_options(options.clone());
                    }
                }
                self.take_role(&found, role, changes);
                continue;
            }
            let wanted = NewLog {
                id: TopicPartition::new(topic.name.clone(), *index),
                topic_id: Some(topic.id).filter(|id| !id.is_nil()),
                options: options.clone(),
            };
            new.push(New { wanted, role });
        }
    }

    /// Opens the logs of new replicas, or makes them, all at once; then their roles.
    fn take_in(&self, new: Vec<New>, applied: Applied, changes: &mut Changes) {
        let mut opened = Vec::with_capacity(new.len());
        let mut missing = Vec::new();
        for New { wanted, role } in new {
            let here = self.open_log(&wanted, applied);
            let (id, topic_id) = (wanted.id.clone(), wanted.topic_id.unwrap_or_default());
            if let Ok(None) = &here {
                missing.push(wanted);
            }
            opened.push((id, topic_id, role, here));
        }
        let mut created = self.dirs.create_all(missing).into_iter();
        for (id, topic_id, role, here) in opened {
            let log = match here {
                Ok(Some(log)) => Ok(log),
                Ok(None) => created.next().expect("a result for every log"),
                Err(error) => Err(error),
            };
            match self.enter(&id, topic_id, log) {
                Some(partition) => self.take_role(&partition, role, changes),
                None => changes.failed.push(id),
            }
        }
    }

    fn take_role(&self, partition: &Arc<Partition>, role: Role, changes: &mut Changes) {
        let (before, id) = (partition.role(), partition.id());
        let (leading, epoch) = (role.leading, role.leader_epoch);
        if let Err(error) = partition.become_role(role) {
            partition.tell_failure(&error, "cannot take its role");
            if error.is_out_of_descriptors() {
                self.unfinished.store(true, Ordering::Relaxed);
            }
            changes.failed.push(id.clone());
            return;
        }
        if leading && (!before.leading || before.leader_epoch != epoch) {
            info!(partition = %id, leader_epoch = %epoch, "leading");
            changes.elected.push((id.clone(), epoch));
        } else if before.leading && !leading {
            info!(partition = %id, leader_epoch = %epoch, "leading no more");
            changes.resigned.push(id.clone());
        }
    }

    /// Makes a partition of its log, where there is one.
    fn enter(
        &self,
        id: &TopicPartition,
        topic_id: uuid::Uuid,
        log: Result<Arc<log::Log>, DirError>,
    ) -> Option<Arc<Partition>> {
        let mut partitions = self
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match log {
            Ok(log) => {
                let high_watermark = self.dirs.high_watermark(id);
                partitions.offline.remove(id);
                partitions.lasting.remove(id);
                let topic = partitions.topics.entry(id.topic.clone()).or_default();
                let other = topic.values().next();
                let traffic = other.map_or_else(Arc::default, |other| other.traffic().clone());
                let partition = Partition::new(
                    log,
                    topic_id,
                    high_watermark,
                    traffic,
                    self.isr_changes.clone(),
                );
                let partition = Arc::new(partition);
                topic.insert(id.partition, partition.clone());
                if self.dirs.future(id).is_some() {
                    self.moves.begin(id);
                }
                Some(partition)
            }
            Err(error) => {
                if error.may_pass() && self.dirs.may_take_logs() {
                    self.unfinished.store(true, Ordering::Relaxed);
                }
                if !error.may_pass() {
                    partitions.lasting.insert(id.clone());
                }
                let known = partitions.offline.insert(id.clone(), error.to_string());
                // A log that is damaged was told when its directory was opened.
                if known.is_none() && self.dirs.find(id).is_ok() {
                    error!(partition = %id, error = &error as &dyn std::error::Error, "no log");
                }
                None
            }
        }
    }

    /// The log that is on disk already, if it is of the same topic.
    fn open_log(
        &self,
        wanted: &NewLog,
        applied: Applied,
    ) -> Result<Option<Arc<log::Log>>, DirError> {
        let id = &wanted.id;
        let found = self.dirs.topic_id(id);
        if found.is_some() && wanted.topic_id.is_some() && found != wanted.topic_id {
            // The topic was deleted and made again while this broker was away.
            warn!(partition = %id, "the log is of a deleted topic of the same name");
            self.dirs.delete(id)?;
            return Ok(None);
        }
        if let Some(log) = self.dirs.find(id)? {
            log.set_options(wanted.options.clone());
            return Ok(Some(log));
        }
        let may_be_old = applied == Applied(false) || self.partitions().offline.contains_key(id);
        match self.dirs.unopened() {
            // An empty log in another directory would pass for the one with the records.
            Some(dir) if may_be_old => Err(DirError::Offline {
                id: id.clone(),
                reason: format!("its log may lie in {}, which is offline", dir.display()),
            }),
            _ => Ok(None),
        }
    }

    /// Starts the task that looks after the logs: due syncs, retention, checkpoints.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let moving = moves::run(self.clone(), tasks.shutdown().clone());
        tasks.spawn("replica mover", Kind::Essential, moving);
        let replicas = self.clone();
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("log maintenance", Kind::Essential, async move {
            let mut due = Due::new(&replicas.config.broker, replicas.clock.monotonic_ms());
            loop {
                tokio::select! {
                    () = tokio::time::sleep(MAINTENANCE_PERIOD) => {}
                    () = shutdown.stopped() => return,
                }
                let (retention, checkpoint) = due.take(replicas.clock.monotonic_ms());
                let replicas = replicas.clone();
                tasks::blocking(move || replicas.maintain(retention, checkpoint)).await;
            }
        });
    }

    fn maintain(&self, retention: bool, checkpoint: bool) {
        self.dirs.maintain();
        if self.dirs.has_lost_logs() {
            self.lost_dir.notify_one();
        }
        if retention {
            let now_ms = self.clock.wall_ms();
            for partition in self.all() {
                let high_watermark = partition.high_watermark();
                if let Err(error) = partition.log().apply_retention(now_ms, high_watermark) {
                    error!(partition = %partition.id(), %error, "retention");
                }
            }
        }
        if checkpoint {
            // A directory that fails is told by the directories, once.
            let _ = self.dirs.checkpoint(&|id| self.checkpointed(id));
        }
    }

    fn checkpointed(&self, id: &TopicPartition) -> Option<Offset> {
        self.get(&id.topic, id.partition)
            .map(|partition| partition.high_watermark())
    }

    /// The clean stop: leads nothing more, closes all logs. Call it when no request runs. Blocks.
    pub fn close(&self) -> Result<(), DirError> {
        self.resign_all();
        self.dirs.close(&|id| self.checkpointed(id))
    }
}

/// What of the maintenance is due, by the settings' intervals.
#[derive(Debug)]
struct Due {
    retention: (i64, i64),
    checkpoint: (i64, i64),
}

impl Due {
    fn new(broker: &BrokerConfig, now_ms: i64) -> Due {
        Due {
            retention: (broker.log_retention_check_interval_ms, now_ms),
            checkpoint: (broker.replica_high_watermark_checkpoint_interval_ms, now_ms),
        }
    }

    fn take(&mut self, now_ms: i64) -> (bool, bool) {
        let one = |due: &mut (i64, i64)| {
            let is = now_ms - due.1 >= due.0;
            if is {
                due.1 = now_ms;
            }
            is
        };
        (one(&mut self.retention), one(&mut self.checkpoint))
    }
}

fn throttles(broker: &BrokerConfig) -> Throttles {
    let meter = |samples: i32, seconds: i32| {
        let samples = usize::try_from(samples).unwrap_or(1);
        Meter::new(samples, i64::from(seconds) * 1_000)
    };
    Throttles::new(
        &meter(
            broker.replication_quota_window_num,
            broker.replication_quota_window_size_seconds,
        ),
        meter(
            broker.alter_log_dirs_replication_quota_window_num,
            broker.alter_log_dirs_replication_quota_window_size_seconds,
        ),
    )
}

/// What the log engine is told of a topic's settings.
pub fn log_options(broker: &BrokerConfig, topic: &TopicConfig) -> log::Options {
    let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
    log::Options {
        segment_bytes: unsigned(topic.segment_bytes),
        segment_ms: topic.segment_ms,
        segment_index_bytes: unsigned(topic.segment_index_bytes),
        index_interval_bytes: unsigned(topic.index_interval_bytes),
        max_message_bytes: unsigned(topic.max_message_bytes),
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        flush_messages: topic.flush_messages,
        flush_ms: topic.flush_ms,
        timestamp_type: match topic.message_timestamp_type.as_str() {
            "LogAppendTime" => log::TimestampType::LogAppendTime,
            _ => log::TimestampType::CreateTime,
        },
        timestamp_difference_max_ms: topic.message_timestamp_difference_max_ms,
        file_delete_delay_ms: topic.file_delete_delay_ms,
        producer_id_expiration_ms: i64::from(broker.producer_id_expiration_ms),
        compression: Compression::from_name(&topic.compression_type),
        delete: topic.deletes(),
        compact: topic.compacts(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::partition::{Isolation, Origin};
    use crate::broker::testing::{apply, batch, broker, broker_on, topic};

    fn ids(ids: &[TopicPartition]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    fn led_by(mut topic: TopicImage, leader: i32) -> TopicImage {
        for placed in topic.partitions.values_mut() {
            placed.replicas.push(BrokerId(2));
            if let Some(state) = &mut placed.state {
                state.leader = Some(BrokerId(leader));
            }
        }
        topic
    }

    #[tokio::test]
    async fn an_image_makes_leaders_and_unmakes_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![]);
        let changes = apply(&broker, vec![topic("a", 2, 0), topic("b", 1, 5)]);
        let elected: Vec<_> = changes
            .elected
            .iter()
            .map(|(id, epoch)| (id.to_string(), epoch.0))
            .collect();
        let expected = [("a-0", 0), ("a-1", 0), ("b-0", 5)];
        assert_eq!(elected, expected.map(|(id, epoch)| (id.to_owned(), epoch)));
        assert_eq!(
            apply(&broker, vec![topic("a", 2, 0), topic("b", 1, 5)]),
            Changes::default(),
            "the same again changes nothing"
        );
        let changes = apply(&broker, vec![led_by(topic("a", 2, 1), 2), topic("b", 1, 6)]);
        assert_eq!(ids(&changes.resigned), ["a-0", "a-1"]);
        assert_eq!(changes.elected.len(), 1, "b under a new epoch");
        let refused = broker.replicas.leader("a", 0).map(|_| ());
        assert_eq!(refused, Err(ResponseError::NotLeaderOrFollower));
        let changes = apply(&broker, vec![topic("b", 1, 6)]);
        assert_eq!(ids(&changes.deleted), ["a-0", "a-1"]);
        assert_eq!(changes.resigned, vec![]);
        let refused = broker.replicas.leader("a", 0).map(|_| ());
        assert_eq!(refused, Err(ResponseError::UnknownTopicOrPartition));
        let changes = broker.replicas.resign_all();
        assert_eq!(ids(&changes.resigned), ["b-0"]);
        assert_eq!(apply(&broker, vec![topic("b", 1, 6)]).elected.len(), 1);
    }

    /// Breaks the first segment of a log that has several, and takes its indexes away.
    fn damage(dir: &Path) {
        let file = dir.join("00000000000000000000.log");
        let mut bytes = std::fs::read(&file).expect("reads");
        bytes[16] ^= 0xff;
        std::fs::write(&file, bytes).expect("writes");
        for suffix in ["index", "timeindex"] {
            std::fs::remove_file(file.with_extension(suffix)).expect("removed");
        }
    }

    #[tokio::test]
    async fn a_damaged_log_is_a_storage_error_for_its_partition_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        {
            let broker = broker(dir.path(), vec![topic("a", 2, 0)]);
            for index in 0..2 {
                let partition = broker.replicas.leader("a", index).expect("leads");
                for _ in 0..2 {
                    partition
                        .append(batch(&[b"x"]), Origin::Client, None)
                        .expect("appends");
                    partition.log().roll().expect("rolls");
                }
            }
            broker.replicas.close().expect("closes");
        }
        damage(&dir.path().join("a-1"));
        let broker = broker(dir.path(), vec![topic("a", 2, 1)]);
        assert!(broker.replicas.leader("a", 0).is_ok());
        let refused = || broker.replicas.leader("a", 1).map(|_| ());
        assert_eq!(refused(), Err(ResponseError::KafkaStorageError));
        let offline = broker.replicas.offline();
        let reason = &offline[&TopicPartition::new("a", 1)];
        assert!(reason.contains("00000000000000000000.log"), "{reason}");
        let status = crate::broker::status::of(&broker);
        assert_eq!((status.offline.len(), status.pending), (1, vec![]));

        assert_eq!(ids(&apply(&broker, vec![topic("a", 2, 2)]).failed), ["a-1"]);
        assert_eq!(refused(), Err(ResponseError::KafkaStorageError));
        apply(&broker, vec![]);
        assert_eq!(refused(), Err(ResponseError::UnknownTopicOrPartition));
        apply(&broker, vec![topic("a", 2, 0)]);
        let anew = broker.replicas.leader("a", 1).expect("a new topic's");
        assert_eq!(anew.log_end_offset(), Offset(0));
    }

    #[tokio::test]
    async fn logs_of_a_directory_that_does_not_open_are_not_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
        std::fs::write(&bad, "no directory").expect("writes");
        let broker = broker_on(vec![bad, good], vec![topic("a", 1, 0)]);
        let refused = broker.replicas.leader("a", 0).map(|_| ());
        assert_eq!(refused, Err(ResponseError::KafkaStorageError));
        apply(&broker, vec![topic("a", 1, 0), topic("b", 1, 0)]);
        let refused = broker.replicas.leader("a", 0).map(|_| ());
        assert_eq!(refused, Err(ResponseError::KafkaStorageError));
        assert!(broker.replicas.leader("b", 0).is_ok(), "b is new");
        let dirs = crate::broker::status::of(&broker).log_dirs;
        assert!(dirs[0].1.is_some() && dirs[1].1.is_none(), "{dirs:?}");
    }

    #[tokio::test]
    async fn an_image_without_brokers_gives_up_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![topic("a", 1, 0)]);
        assert_eq!(broker.replicas.apply(&Image::default()), Changes::default());
        assert!(broker.replicas.leader("a", 0).is_ok());
    }

    #[tokio::test]
    async fn records_outlive_a_restart_and_not_a_topic_of_the_same_name() {
        let dir = tempfile::tempdir().expect("a directory");
        {
            let broker = broker(dir.path(), vec![topic("a", 1, 0)]);
            let partition = broker.replicas.leader("a", 0).expect("leads");
            let appended = partition.append(batch(&[b"x", b"y"]), Origin::Client, None);
            assert_eq!(appended.map(|appended| appended.last_offset), Ok(Offset(1)));
            broker.replicas.close().expect("closes");
            let refused = partition.append(batch(&[b"z"]), Origin::Client, None);
            assert!(refused.is_err(), "closed");
        }
        {
            let broker = broker(dir.path(), vec![topic("a", 1, 1)]);
            let partition = broker.replicas.leader("a", 0).expect("leads");
            assert_eq!(partition.high_watermark(), Offset(2));
            let read = partition.read(Offset(0), 1 << 20, Isolation::HighWatermark, true);
            assert!(read.is_ok_and(|read| read.region.is_some()));
            broker.replicas.close().expect("closes");
        }
        let mut other = topic("a", 1, 0);
        other.id = uuid::Uuid::from_u128(12345);
        let broker = broker(dir.path(), vec![other]);
        let partition = broker.replicas.leader("a", 0).expect("leads");
        assert_eq!(partition.log_end_offset(), Offset(0));
    }

    #[tokio::test]
    async fn a_topics_settings_reach_its_running_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![topic("a", 1, 0)]);
        let log = broker.replicas.get("a", 0).expect("here").log().clone();
        assert_eq!(log.options().max_message_bytes, 1_048_588);
        let mut changed = topic("a", 1, 0);
        let settings = [
            ("max.message.bytes", "1000"),
            ("retention.ms", "5"),
            ("compression.type", "zstd"),
            ("min.insync.replicas", "2"),
        ];
        changed.config = settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(apply(&broker, vec![changed]), Changes::default());
        let options = log.options();
        assert_eq!(options.max_message_bytes, 1_000);
        assert_eq!(options.retention_ms, 5);
        assert_eq!(options.compression, Some(Compression::Zstd));
        let partition = broker.replicas.get("a", 0).expect("here");
        assert!(!partition.enough_in_sync());
    }

    #[tokio::test]
    async fn only_the_elected_epoch_appends_and_waiters_learn_of_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = broker(dir.path(), vec![topic("a", 1, 3)]);
        let partition = broker.replicas.leader("a", 0).expect("leads");
        let append = |epoch| {
            let appended = partition.append(batch(&[b"x"]), Origin::Coordinator, epoch);
            appended.map_err(ResponseError::from)
        };
        let stale = append(Some(LeaderEpoch(2)));
        assert_eq!(stale, Err(ResponseError::NotLeaderOrFollower));
        let appended = append(Some(LeaderEpoch(3))).expect("appends");
        let limit = Duration::from_secs(10);
        assert_eq!(
            partition.replicated(appended.last_offset, limit).await,
            Ok(())
        );
        let beyond = partition
            .replicated(Offset(9), Duration::from_millis(10))
            .await;
        assert_eq!(beyond, Err(ResponseError::RequestTimedOut));
        let waiting = partition.replicated(Offset(9), limit);
        let losing = async {
            while partition.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            apply(&broker, vec![led_by(topic("a", 1, 4), 2)])
        };
        let (waited, changes) = tokio::join!(waiting, losing);
        assert_eq!(waited, Err(ResponseError::NotLeaderOrFollower));
        assert_eq!(ids(&changes.resigned), ["a-0"]);
    }
}
