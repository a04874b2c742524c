//! Consumes records: assigned partitions or a group's, from committed or chosen offsets.
//!
//! Everything happens in [`Consumer::poll`], except fetching ahead and heartbeats, which have tasks of
//! their own. Dropping a `poll` half way loses nothing: the next one goes on.

mod chunk;
mod fetcher;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::Notify;

use super::ClientError;
use super::admin::{Admin, OffsetSpec};
use super::cluster::{Cluster, Retry, Wanted};
use super::group::{self, Membership};
use super::metrics::{Grouped, Measured, Metric, Rows};
use crate::common::ids::TopicPartition;
pub use chunk::Chunk;
use fetcher::Fetcher;

/// How often a subscribed topic that is not there is looked for.
const MISSING_TOPIC_MS: i64 = 1_000;

/// Where to begin when there is no committed offset (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// With the first record.
    Earliest,
    /// With the next record to come.
    Latest,
    /// Not at all.
    None,
}

/// Where an assigned partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the committed offset, or where [`Reset`] says.
    Committed,
    /// With the first record.
    Earliest,
    /// With the next record to come.
    Latest,
    /// Here.
    Offset(i64),
}

/// How a consumer behaves; the defaults are Kafka 2.8's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `auto.offset.reset`.
    pub reset: Reset,
    /// `isolation.level=read_committed`.
    pub read_committed: bool,
    /// `enable.auto.commit`.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Duration,
    /// `fetch.min.bytes`.
    pub bytes_min: i32,
    /// `fetch.max.bytes`.
    pub bytes_max: i32,
    /// `max.partition.fetch.bytes`.
    pub partition_bytes_max: i32,
    /// `fetch.max.wait.ms`.
    pub max_wait: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `allow.auto.create.topics`.
    pub auto_create: bool,
    /// `default.api.timeout.ms`.
    pub api_timeout: Duration,
    /// `exclude.internal.topics`, for patterns.
    pub exclude_internal: bool,
    /// `check.crcs`: are damaged batches noticed by their checksum?
    pub check_crcs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            reset: Reset::Latest,
            read_committed: false,
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            bytes_min: 1,
            bytes_max: 52_428_800,
            partition_bytes_max: 1_048_576,
            max_wait: Duration::from_millis(500),
            request_timeout: Duration::from_secs(30),
            auto_create: true,
            api_timeout: Duration::from_secs(60),
            exclude_internal: true,
            check_crcs: true,
        }
    }
}

/// What a consumer reads.
#[derive(Debug)]
enum Interest {
    Nothing,
    Partitions,
    Topics(Vec<String>),
    Pattern(regex_lite::Regex),
}

/// A consumer. Has one owner.
pub struct Consumer {
    cluster: Cluster,
    settings: Settings,
    interest: Interest,
    membership: Option<Membership>,
    fetcher: Arc<Fetcher>,
    ready: Arc<Notify>,
    /// The next offset to hand out; `None` while nobody knows.
    positions: BTreeMap<TopicPartition, Option<i64>>,
    /// Where to begin, where it was asked for.
    seeks: BTreeMap<TopicPartition, OffsetSpec>,
    committed_ms: i64,
    looked_ms: i64,
    /// Partition counts at the last rebalance, to notice new ones.
    counts: BTreeMap<String, usize>,
    joining_since_ms: Option<i64>,
    joined_ms: i64,
    started_ms: i64,
    /// Milliseconds that it took to take over partitions, and to let go of them.
    assigned: Measured,
    revoked: Measured,
}

impl Consumer {
    /// A consumer that reads nothing yet; with `group` it can subscribe and commit.
    pub fn new(cluster: Cluster, settings: Settings, group: Option<group::Settings>) -> Consumer {
        let ready = Arc::new(Notify::new());
        let membership = group.map(|g| Membership::new(cluster.clone(), g, ready.clone()));
        let now_ms = cluster.world().clock.monotonic_ms();
        Consumer {
            fetcher: Fetcher::new(cluster.clone(), settings.clone(), ready.clone()),
            cluster,
            settings,
            interest: Interest::Nothing,
            membership,
            ready,
            positions: BTreeMap::new(),
            seeks: BTreeMap::new(),
            committed_ms: now_ms,
            looked_ms: now_ms,
            counts: BTreeMap::new(),
            joining_since_ms: None,
            joined_ms: 0,
            started_ms: now_ms,
            assigned: Measured::default(),
            revoked: Measured::default(),
        }
    }

    /// Reads these partitions, whatever the group does.
    pub fn assign(&mut self, partitions: Vec<(TopicPartition, Start)>) {
        self.interest = Interest::Partitions;
        for (partition, start) in partitions {
            self.positions.insert(partition.clone(), None);
            match start {
                Start::Committed => {}
                Start::Earliest => {
                    self.seeks.insert(partition, OffsetSpec::Earliest);
                }
                Start::Latest => {
                    self.seeks.insert(partition, OffsetSpec::Latest);
                }
                Start::Offset(offset) => self.seek(&partition, offset),
            }
        }
    }

    /// Reads topics, sharing their partitions with the group.
    pub fn subscribe(&mut self, topics: Vec<String>) {
        self.interest = Interest::Topics(topics);
        self.joining_since_ms = Some(self.now_ms());
    }

    /// Reads every topic whose whole name matches.
    pub fn subscribe_pattern(&mut self, pattern: regex_lite::Regex) {
        self.interest = Interest::Pattern(pattern);
        self.joining_since_ms = Some(self.now_ms());
    }

    /// The partitions that this consumer has now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    /// Time spent in rebalances so far.
    pub fn rebalance_ms(&self) -> i64 {
        self.joined_ms
    }

    /// What this consumer has counted so far, without what goes over its connections: Kafka's tool
    /// asks a consumer that is closed, and has forgotten them.
    pub fn metrics(&self) -> Vec<Metric> {
        let settings = self.cluster.settings();
        let mut rows = Rows::new(&settings.client_id, self.now_ms() - self.started_ms);
        self.fetcher.consumed().rows(&mut rows);
        let membership = self.membership.as_ref();
        let mut grouped = membership.map_or_else(Grouped::default, Membership::counted);
        grouped.assigned = self.assigned;
        grouped.revoked = self.revoked;
        grouped.rows(&mut rows, self.now_ms(), self.positions.len());
        rows.finish()
    }

    /// Goes on at `offset`.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(position) = self.positions.get_mut(partition) {
            *position = Some(offset);
            self.fetcher.start_at(partition, offset);
        }
    }

    /// Goes on where a failed fetch began. What failed may be over when the application asks again; otherwise
    /// it is told again, as it is by Kafka's own consumer.
    fn ask_again(&self, partition: &TopicPartition) {
        if let Some(Some(offset)) = self.positions.get(partition) {
            self.fetcher.start_at(partition, *offset);
        }
    }

    /// Waits up to `limit` for records of one partition.
    pub async fn poll(&mut self, limit: Duration) -> Result<Option<Chunk>, ClientError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            self.keep_membership().await?;
            self.keep_leaders().await?;
            self.keep_positions(deadline).await?;
            self.keep_committed().await?;
            self.fetcher.ensure_running();
            while let Some(arrived) = self.fetcher.pop() {
                match arrived.result {
                    Ok(chunk) => {
                        let next = Some(chunk.next_offset);
                        self.positions.insert(arrived.partition, next);
                        if !chunk.is_empty() {
                            return Ok(Some(chunk));
                        }
                    }
                    Err(error) if error.code() == Some(ResponseError::OffsetOutOfRange) => {
                        if self.settings.reset == Reset::None {
                            self.ask_again(&arrived.partition);
                            return Err(error);
                        }
                        self.positions.insert(arrived.partition.clone(), None);
                        self.seeks.insert(arrived.partition, self.reset_spec());
                    }
                    Err(error) => {
                        self.ask_again(&arrived.partition);
                        return Err(error);
                    }
                }
            }
            let undecided = self.positions.values().any(Option::is_none);
            if undecided && tokio::time::Instant::now() < deadline {
                continue;
            }
            let ready = self.ready.clone();
            // Looks around now and then even if nothing happens.
            let nap = deadline.min(tokio::time::Instant::now() + Duration::from_secs(1));
            if tokio::time::timeout_at(nap, ready.notified())
                .await
                .is_err()
                && tokio::time::Instant::now() >= deadline
            {
                return Ok(None);
            }
        }
    }

    /// Commits what was handed out.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        let offsets = self
            .positions
            .iter()
            .filter_map(|(partition, offset)| Some((partition.clone(), (*offset)?)))
            .collect();
        membership.commit(&offsets).await?;
        self.committed_ms = self.now_ms();
        Ok(())
    }

    /// Commits if it commits by itself, and leaves the group. Nothing but counting is of use then.
    pub async fn close(&mut self) -> Result<(), ClientError> {
        self.fetcher.close();
        let committed = if self.settings.auto_commit {
            self.commit().await
        } else {
            Ok(())
        };
        if let Some(membership) = &self.membership
            && !matches!(self.interest, Interest::Partitions | Interest::Nothing)
        {
            let began_us = self.cluster.world().clock.monotonic_us();
            self.positions.clear();
            self.revoked.add(self.ms_since(began_us));
            membership.leave().await;
        }
        self.interest = Interest::Nothing;
        committed
    }

    fn now_ms(&self) -> i64 {
        self.cluster.world().clock.monotonic_ms()
    }

    fn ms_since(&self, began_us: i64) -> f64 {
        (self.cluster.world().clock.monotonic_us() - began_us) as f64 / 1_000.0
    }

    fn reset_spec(&self) -> OffsetSpec {
        match self.settings.reset {
            Reset::Earliest => OffsetSpec::Earliest,
            Reset::Latest | Reset::None => OffsetSpec::Latest,
        }
    }

    /// Joins the group if that is due, and takes over what it gets.
    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        if matches!(self.interest, Interest::Partitions | Interest::Nothing) {
            return Ok(());
        }
        self.look_for_partitions().await?;
        loop {
            let Some(membership) = &self.membership else {
                return Err(ClientError::Answer {
                    error: ResponseError::InvalidGroupId,
                    message: None,
                });
            };
            if !membership.must_join() {
                return Ok(());
            }
            let cooperative = membership.settings().is_cooperative();
            if self.joining_since_ms.is_none() {
                self.joining_since_ms = Some(self.now_ms());
            }
            if self.settings.auto_commit && !self.positions.is_empty() {
                // What cannot be committed any more will be read again by its next owner.
                if let Err(error) = self.commit().await {
                    tracing::debug!(%error, "no commit before the rebalance");
                }
            }
            if !cooperative {
                self.take_over(Vec::new());
            }
            let topics = self.topics().await?;
            if self.counts.is_empty() {
                // Topics that nobody may read are told now, not after the group's first wait.
                self.remember_counts(&topics).await?;
            }
            let owned = self.assignment();
            let Some(membership) = &self.membership else {
                return Ok(());
            };
            let joined = membership.join(&topics, &owned).await?;
            let lost = owned.iter().any(|old| !joined.partitions.contains(old));
            if cooperative && lost {
                // What was given up can be given to somebody else now.
                membership.rejoin();
            }
            self.take_over(joined.partitions);
            self.remember_counts(&topics).await?;
            if let Some(since) = self.joining_since_ms.take() {
                self.joined_ms += self.now_ms() - since;
            }
        }
    }

    /// Replaces the assignment; what stays keeps its position.
    fn take_over(&mut self, partitions: Vec<TopicPartition>) {
        let new: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let before = self.positions.len();
        let began_us = self.cluster.world().clock.monotonic_us();
        for old in self.positions.keys() {
            if !new.contains(old) {
                self.fetcher.forget(old);
            }
        }
        self.positions.retain(|old, _| new.contains(old));
        let kept = self.positions.len();
        if kept < before {
            self.revoked.add(self.ms_since(began_us));
        }
        let began_us = self.cluster.world().clock.monotonic_us();
        for partition in new {
            self.positions.entry(partition).or_insert(None);
        }
        if self.positions.len() > kept {
            self.assigned.add(self.ms_since(began_us));
        }
    }

    /// The topics to subscribe to now.
    async fn topics(&self) -> Result<Vec<String>, ClientError> {
        match &self.interest {
            Interest::Topics(topics) => Ok(topics.clone()),
            Interest::Pattern(pattern) => {
                let metadata = self.retrying(Wanted::All).await?;
                let topics = metadata.topics.iter();
                Ok(topics
                    .filter(|(_, topic)| !(topic.internal && self.settings.exclude_internal))
                    .filter(|(name, _)| pattern.is_match(name))
                    .map(|(name, _)| name.clone())
                    .collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn remember_counts(&mut self, topics: &[String]) -> Result<(), ClientError> {
        let wanted = Wanted::Named(topics, self.settings.auto_create);
        let metadata = self.retrying(wanted).await?;
        let count = |name: &String| metadata.topics.get(name).map_or(0, |t| t.partitions.len());
        self.counts = topics.iter().map(|n| (n.clone(), count(n))).collect();
        self.looked_ms = self.now_ms();
        Ok(())
    }

    /// Now and then: are there new topics or partitions to share? Soon, if a topic was not there.
    async fn look_for_partitions(&mut self) -> Result<(), ClientError> {
        let incomplete = self.counts.values().any(|count| *count == 0);
        let age_ms = if incomplete {
            MISSING_TOPIC_MS
        } else {
            self.cluster.metadata_age_ms()
        };
        if self.now_ms() - self.looked_ms < age_ms {
            return Ok(());
        }
        let topics = self.topics().await?;
        let before = std::mem::take(&mut self.counts);
        self.remember_counts(&topics).await?;
        let changed = self
            .counts
            .iter()
            .any(|(name, count)| *count > 0 && before.get(name) != Some(count));
        if changed && let Some(membership) = &self.membership {
            membership.rejoin();
        }
        Ok(())
    }

    /// Asks for metadata if a partition has no leader that we know of.
    async fn keep_leaders(&mut self) -> Result<(), ClientError> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let mut topics: Vec<String> = self
            .positions
            .keys()
            .map(|partition| partition.topic.to_string())
            .collect();
        topics.dedup();
        match self.cluster.fresh(&topics, self.settings.auto_create).await {
            Ok(metadata) => metadata.refusal(&topics).map_or(Ok(()), Err),
            Err(error) if error.is_retriable() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Finds out where to begin, for partitions that have no position yet.
    async fn keep_positions(&mut self, deadline: tokio::time::Instant) -> Result<(), ClientError> {
        let unknown: Vec<TopicPartition> = self
            .positions
            .iter()
            .filter(|(_, offset)| offset.is_none())
            .map(|(partition, _)| partition.clone())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut wanted = BTreeMap::new();
        let mut asked = Vec::new();
        for partition in unknown {
            match self.seeks.get(&partition) {
                Some(spec) => {
                    wanted.insert(partition, *spec);
                }
                None => asked.push(partition),
            }
        }
        for (partition, offset) in self.committed(&asked).await? {
            self.begin(&partition, offset);
        }
        asked.retain(|partition| self.positions.get(partition) == Some(&None));
        if self.settings.reset == Reset::None && !asked.is_empty() {
            let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
            return Err(ClientError::NoOffset {
                partitions: names.join(", "),
            });
        }
        let spec = self.reset_spec();
        wanted.extend(asked.into_iter().map(|partition| (partition, spec)));
        if wanted.is_empty() {
            return Ok(());
        }
        self.look_up(wanted, deadline).await
    }

    async fn look_up(
        &mut self,
        wanted: BTreeMap<TopicPartition, OffsetSpec>,
        deadline: tokio::time::Instant,
    ) -> Result<(), ClientError> {
        let admin = self.admin();
        let mut later = false;
        for (partition, found) in admin
            .list_offsets(&wanted, self.settings.read_committed)
            .await?
        {
            match found {
                Ok(listed) => self.begin(&partition, listed.offset),
                Err(error)
                    if error.is_retriable() || error.code().is_some_and(|c| c.is_retriable()) =>
                {
                    later = true;
                }
                Err(error) => return Err(error),
            }
        }
        if later {
            self.cluster.stale();
            let pause = tokio::time::Instant::now() + Duration::from_millis(100);
            tokio::time::sleep_until(pause.min(deadline)).await;
        }
        Ok(())
    }

    fn admin(&self) -> Admin {
        Admin::new(self.cluster.clone()).with_timeout(self.settings.api_timeout)
    }

    fn begin(&mut self, partition: &TopicPartition, offset: i64) {
        self.seeks.remove(partition);
        self.seek(partition, offset);
    }

    async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, i64)>, ClientError> {
        let Some(membership) = &self.membership else {
            return Ok(Vec::new());
        };
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let admin = self.admin();
        let group = &membership.settings().group_id;
        let offsets = admin.group_offsets(group, Some(partitions)).await?;
        Ok(offsets
            .into_iter()
            .map(|(partition, committed)| (partition, committed.offset))
            .collect())
    }

    /// Commits by itself if that is due.
    async fn keep_committed(&mut self) -> Result<(), ClientError> {
        let interval = i64::try_from(self.settings.auto_commit_interval.as_millis());
        let due = self.now_ms() - self.committed_ms >= interval.unwrap_or(i64::MAX);
        if !self.settings.auto_commit || self.membership.is_none() || !due {
            return Ok(());
        }
        self.committed_ms = self.now_ms();
        match self.commit().await {
            Err(error) if error.code() == Some(ResponseError::RebalanceInProgress) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "an automatic commit failed");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn retrying(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<Arc<super::cluster::Metadata>, ClientError> {
        let mut retry = Retry::within(self.settings.request_timeout);
        loop {
            match self.cluster.metadata(wanted).await {
                Err(error) if error.is_retriable() && retry.pause().await => {}
                Ok(metadata) => {
                    let refusal = match wanted {
                        Wanted::Named(names, _) => metadata.refusal(names),
                        Wanted::All => None,
                    };
                    return refusal.map_or(Ok(metadata), Err);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
