//! Runs for the office, and in office turns each image into writes.
//!
//! Every image is compared with the one that was decided last: only topics that changed are decided
//! anew, all of them when brokers or deletions did. Writes go out in few large multis, each with a
//! check of the controller's epoch in front; then the image catches up before anything is decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::broker::controller::decide::{self, Mandate, Unit, Write, balance};
use crate::broker::controller::election::{self, Term};
use crate::broker::image::{Image, ImageCell, znode};
use crate::broker::metrics::BrokerMetrics;
use crate::broker::peer_watch::Reached;
use crate::client::zookeeper::{Error, Mode, MultiError, Op, State, ZooKeeper};
use crate::common::clock::Clock;
use crate::common::ids::{BrokerId, Zxid};
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::config::{BrokerConfig, Config};
use crate::zookeeper::error::ErrorCode;

/// Bytes of writes in one multi; a frame of ZooKeeper ends at 1 MiB.
const MULTI_BYTES_MAX: usize = 256 << 10;
/// How long the image may take to catch up with our own writes, before it is decided from as it is.
const CATCH_UP: Duration = Duration::from_secs(5);

/// So long a broker that has registered may take to be reached, before others get what would be its own.
const FRESH: Duration = Duration::from_secs(1);

/// How long after its election a controller looks at the balance of leaders, as Kafka's.
const FIRST_BALANCE: Duration = Duration::from_secs(5);

/// The controller's part of one broker.
#[derive(Debug)]
pub struct Driver {
    /// The session that owns `/controller`.
    pub zookeeper: Arc<ZooKeeper>,
    /// What is decided from.
    pub cell: Arc<ImageCell>,
    /// The time, for `/controller`.
    pub clock: Clock,
    /// Ids of topics that have none.
    pub rng: Rng,
    /// This broker.
    pub id: BrokerId,
    /// Settings: deletion, unclean elections, balance of leaders.
    pub config: Arc<Config>,
    /// What this broker counts.
    pub metrics: Arc<BrokerMetrics>,
    /// The brokers that are there for more reasons than their registration.
    pub reached: watch::Receiver<Reached>,
}

/// What a driver remembers between two images.
#[derive(Default)]
struct Memory {
    term: Option<Term>,
    decided: Option<Arc<Image>>,
    /// The next look at the balance of leaders is due at this time.
    balance_at: Option<Instant>,
    /// It is due now.
    balance: bool,
    /// Registrations of brokers that nothing else is known of, and since when.
    silent: BTreeMap<(BrokerId, Zxid), Instant>,
    /// Something was not decided because of them.
    waits: bool,
}

impl Memory {
    /// The brokers that are there. A registration that outlived its broker ends with the session: one that
    /// stays for `limit`, twice as long, is kept by somebody alive, whom only we cannot reach.
    fn known(
        &mut self,
        image: &Image,
        own: BrokerId,
        reached: &Reached,
        now: Instant,
        limit: Duration,
    ) -> BTreeSet<BrokerId> {
        let registered = image.brokers.values();
        let (there, silent): (Vec<_>, Vec<_>) = registered
            .map(|broker| (broker.id, broker.epoch))
            .partition(|(id, epoch)| *id == own || reached.get(id) == Some(epoch));
        self.silent.retain(|key, _| silent.contains(key));
        let mut known: BTreeSet<BrokerId> = there.into_iter().map(|(id, _)| id).collect();
        for key in silent {
            let since = *self.silent.entry(key).or_insert(now);
            if now.saturating_duration_since(since) >= limit {
                known.insert(key.0);
            }
        }
        known
    }

    /// Those of the silent ones that registered a moment ago. Comes after [`Memory::known`].
    fn fresh(&self, now: Instant) -> BTreeSet<BrokerId> {
        let since = self.silent.iter();
        let fresh = since.filter(|(_, since)| now.saturating_duration_since(**since) < FRESH);
        fresh.map(|((id, _), _)| *id).collect()
    }
}

/// How a round of writes went.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Another controller counted the epoch up.
    Deposed,
    /// ZooKeeper is away.
    Away,
}

impl Driver {
    /// Runs until the shutdown. The first election ends before `elected` is told.
    pub async fn run(self, elected: tokio::sync::oneshot::Sender<()>, shutdown: Shutdown) {
        let mut memory = Memory::default();
        let mut reached = self.reached.clone();
        let mut changes = self.cell.changes();
        let mut state = self.zookeeper.state();
        let mut elected = Some(elected);
        loop {
            changes.mark_unchanged();
            state.mark_unchanged();
            reached.mark_unchanged();
            let round = self.round(&mut memory);
            tokio::select! {
                () = round => {}
                () = shutdown.stopped() => return,
            }
            if let Some(elected) = elected.take() {
                // The start may have been given up meanwhile.
                let _ = elected.send(());
            }
            let balance_at = self.balance_at(&mut memory);
            let known_at = self.known_at(&memory);
            tokio::select! {
                _ = changes.changed() => {}
                Ok(()) = reached.changed() => {}
                () = tokio::time::sleep_until(known_at.unwrap_or_else(Instant::now)), if known_at.is_some() => {}
                changed = state.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(balance_at.unwrap_or_else(Instant::now)), if balance_at.is_some() => {
                    memory.balance = true;
                    memory.balance_at = Some(Instant::now() + self.balance_interval());
                }
                () = shutdown.stopped() => return,
            }
        }
    }

    fn balance_interval(&self) -> Duration {
        let seconds = self.config.broker.leader_imbalance_check_interval_seconds;
        Duration::from_secs(u64::try_from(seconds).unwrap_or(300))
    }

    /// When the balance of leaders is looked at next: soon after an election, then by the setting.
    fn balance_at(&self, memory: &mut Memory) -> Option<Instant> {
        if !self.config.broker.auto_leader_rebalance_enable || memory.term.is_none() {
            memory.balance_at = None;
            return None;
        }
        let first = Instant::now() + FIRST_BALANCE;
        Some(*memory.balance_at.get_or_insert(first))
    }

    fn silence_limit(&self) -> Duration {
        let session = self.config.broker.zookeeper_session_timeout_ms;
        Duration::from_millis(u64::try_from(session).unwrap_or(18_000)).saturating_mul(2)
    }

    /// When what waits for a silent broker is decided without having heard of it.
    fn known_at(&self, memory: &Memory) -> Option<Instant> {
        let (limit, now) = (self.silence_limit(), Instant::now());
        let silent = memory.silent.values();
        let times = silent.flat_map(|since| [*since + FRESH, *since + limit]);
        let next = times.filter(|at| *at > now).min();
        next.filter(|_| memory.waits)
    }

    async fn round(&self, memory: &mut Memory) {
        let image = self.cell.load();
        let session = match *self.zookeeper.state().borrow() {
            State::Connected { session } => session,
            _ => return,
        };
        if memory.term.is_some_and(|term| term.session != session) {
            self.resign(memory, "its session is over");
        }
        let vacant = image.controller.is_none();
        let ours = image.controller == Some(self.id);
        if memory.term.is_some() && !vacant && !ours {
            self.resign(memory, "another broker is the controller");
        }
        let registered = image.brokers.contains_key(&self.id);
        if registered && (vacant || (ours && memory.term.is_none())) {
            let now_ms = self.clock.wall_ms();
            match election::elect(&self.zookeeper, self.id, image.controller_epoch, now_ms).await {
                Ok(term) => memory.term = term,
                Err(error) => debug!(%error, "no election without ZooKeeper"),
            }
            memory.decided = None;
            self.catch_up().await;
        }
        if let Some(term) = memory.term {
            self.govern(memory, term).await;
        }
    }

    fn resign(&self, memory: &mut Memory, reason: &str) {
        info!(broker = %self.id, reason, "no controller any more");
        *memory = Memory::default();
    }

    /// Writes what the newest image asks for, until it asks for nothing.
    async fn govern(&self, memory: &mut Memory, term: Term) {
        loop {
            let image = self.cell.load();
            let units = self.decide(memory, &image, term);
            self.clear_remains(memory, &image).await;
            self.clear_events(memory, &image).await;
            memory.decided = Some(image);
            if units.is_empty() {
                return;
            }
            let count = units.len();
            match self.write(units, term).await {
                Outcome::Done => debug!(units = count, "metadata written"),
                Outcome::Deposed => {
                    self.resign(memory, "its epoch is over");
                    return;
                }
                Outcome::Away => {
                    memory.decided = None;
                    return;
                }
            }
            self.catch_up().await;
        }
    }

    async fn catch_up(&self) {
        let mark = self.zookeeper.mark();
        if tokio::time::timeout(CATCH_UP, self.cell.seen(mark))
            .await
            .is_err()
        {
            debug!("the image lags behind");
        }
    }

    fn decide(&self, memory: &mut Memory, image: &Image, term: Term) -> Vec<Unit> {
        let before = memory.decided.clone();
        let before = before.as_deref();
        let reached = self.reached.borrow().clone();
        let (now, limit) = (Instant::now(), self.silence_limit());
        let known = memory.known(image, self.id, &reached, now, limit);
        let waited = std::mem::take(&mut memory.waits);
        let mandate = Mandate {
            epoch: term.epoch,
            deletion_enabled: self.config.broker.delete_topic_enable,
            unclean: self.effective(image).unclean_leader_election_enable,
            known: known.clone(),
            fresh: memory.fresh(now),
        };
        let everything = waited
            || before.is_none_or(|before| {
                before.brokers != image.brokers
                    || before.deleting != image.deleting
                    || before.broker_configs != image.broker_configs
                    || before.reassignment != image.reassignment
            });
        let unchanged = BTreeMap::new();
        let decided = match before {
            Some(before) if !everything => &before.topics,
            _ => &unchanged,
        };
        let mut units = Vec::new();
        for (name, topic) in &image.topics {
            let decided = decided.get(name);
            if decided.is_some_and(|decided| Arc::ptr_eq(decided, topic)) {
                continue;
            }
            let plan = decide::topic(image, &mandate, topic, self.rng.uuid());
            memory.waits |= plan.waits;
            units.extend(plan.units);
            for partition in plan.unclean {
                warn!(%partition, "unclean election: the new leader may lack acknowledged records");
                self.metrics.unclean_elections.add(1);
            }
        }
        units.extend(decide::void_deletions(image, &mandate));
        // Leaderships go to nobody who may be dead.
        let all_known = mandate.knows(image, image.brokers.keys());
        if all_known {
            units.extend(decide::preferred_elections(image, &known));
        }
        memory.waits |= !all_known && (memory.balance || image.preferred_election.is_some());
        let (rest, refused) = decide::reassignment_left(image);
        for (partition, reason) in refused {
            warn!(%partition, reason, "a wish to move replicas is refused");
        }
        units.extend(rest);
        if all_known && std::mem::take(&mut memory.balance) {
            let percentage = self.config.broker.leader_imbalance_per_broker_percentage;
            let balanced = balance::leaders(image, &known, percentage);
            if !balanced.is_empty() {
                info!(
                    partitions = balanced.len(),
                    "leaderships go to the preferred replicas"
                );
            }
            units.extend(balanced);
        }
        units
    }

    /// The broker's settings with what was set dynamically.
    fn effective(&self, image: &Image) -> BrokerConfig {
        let empty = BTreeMap::new();
        let of = |id| image.broker_configs.get(&id).unwrap_or(&empty);
        let broker = &self.config.broker;
        broker.with(of(None)).with(of(Some(self.id)))
    }

    /// What brokers tell of failed log directories is in the image; the notes go, as with Kafka.
    async fn clear_events(&self, memory: &Memory, image: &Image) {
        let before = memory.decided.as_ref();
        if before.is_some_and(|before| before.brokers == image.brokers) {
            return;
        }
        let parent = znode::LOG_DIR_EVENTS;
        let events = match self.zookeeper.children(parent).await {
            Ok(events) => events,
            Err(error) => {
                debug!(%error, "no notes of failed log directories");
                return;
            }
        };
        for event in events {
            let path = format!("{parent}/{event}");
            if let Err(error) = self.zookeeper.delete(&path, -1).await {
                debug!(path, %error, "a note of a failed log directory stays");
            }
        }
    }

    /// A topic that cannot be read is in no image; when it is marked for deletion, its nodes go.
    async fn clear_remains(&self, memory: &Memory, image: &Image) {
        let new = |name: &&Arc<str>| {
            let before = memory.decided.as_ref();
            !before.is_some_and(|before| before.deleting.contains(*name))
        };
        let strays = image
            .deleting
            .iter()
            .filter(|name| !image.topics.contains_key(*name));
        for name in strays
            .filter(new)
            .filter(|_| self.config.broker.delete_topic_enable)
        {
            for path in [znode::topic_path(name), znode::topic_config_path(name)] {
                if let Err(error) = self.zookeeper.delete_tree(&path).await {
                    debug!(path, %error, "remains of a deleted topic stay");
                }
            }
        }
    }

    /// Writes the units in their order, as few multis as fit.
    async fn write(&self, units: Vec<Unit>, term: Term) -> Outcome {
        let mut batches: Vec<Vec<Unit>> = Vec::new();
        let mut size = MULTI_BYTES_MAX;
        for unit in units {
            let bytes: usize = unit.0.iter().map(Write::size).sum();
            if size + bytes > MULTI_BYTES_MAX {
                batches.push(Vec::new());
                size = 0;
            }
            size += bytes;
            if let Some(batch) = batches.last_mut() {
                batch.push(unit);
            }
        }
        let multis = batches.iter().map(|batch| steps(batch, term));
        let answers = self.zookeeper.multi_all(multis.collect()).await;
        for (batch, answer) in batches.into_iter().zip(answers) {
            let outcome = match answer {
                Ok(_) => Outcome::Done,
                Err(error) => match verdict(&error) {
                    Some(outcome) => outcome,
                    None => self.write_one_by_one(batch, term).await,
                },
            };
            if outcome != Outcome::Done {
                return outcome;
            }
        }
        Outcome::Done
    }

    /// One unit of a batch was refused, and all others with it: each gets its own try. Containers that
    /// are there already, and nodes that are gone already, are left out of it.
    async fn write_one_by_one(&self, batch: Vec<Unit>, term: Term) -> Outcome {
        for mut unit in batch {
            while !unit.0.is_empty() {
                let answer = self
                    .zookeeper
                    .multi(steps(std::slice::from_ref(&unit), term))
                    .await;
                let Err(refused) = answer else { break };
                if let Some(outcome) = verdict(&refused) {
                    return outcome;
                }
                let culprit = refused
                    .step
                    .checked_sub(1)
                    .and_then(|step| unit.0.get(step));
                let path = culprit.map(|write| write.path().to_owned());
                let skip = match (culprit, &refused.error) {
                    (Some(Write::Create { data: None, .. }), error) => {
                        error.is(ErrorCode::NodeExists)
                    }
                    (Some(Write::Delete { path, .. }), error) if error.is(ErrorCode::NotEmpty) => {
                        self.zookeeper.delete_tree(path).await.is_ok()
                    }
                    (Some(Write::Delete { .. }), error) => error.is(ErrorCode::NoNode),
                    _ => false,
                };
                if !skip {
                    // Somebody was faster; what they wrote is on its way into the image.
                    debug!(path, error = %refused.error, "a decision came too late");
                    break;
                }
                unit.0.remove(refused.step - 1);
            }
        }
        Outcome::Done
    }
}

impl From<Write> for Op {
    fn from(write: Write) -> Op {
        match write {
            Write::Create { path, data } => Op::Create {
                path,
                data,
                mode: Mode::Persistent,
            },
            Write::Set {
                path,
                data,
                version,
            } => Op::Set {
                path,
                data,
                version,
            },
            Write::Delete { path, version } => Op::Delete { path, version },
        }
    }
}

/// A multi with the epoch's check in front.
fn steps(units: &[Unit], term: Term) -> Vec<Op> {
    let check = Op::Check {
        path: znode::CONTROLLER_EPOCH.to_owned(),
        version: term.version,
    };
    let writes = units.iter().flat_map(|unit| &unit.0);
    let writes = writes.cloned().map(Op::from);
    std::iter::once(check).chain(writes).collect()
}

/// What a failure means for the whole round; none where it is about one write.
fn verdict(error: &MultiError) -> Option<Outcome> {
    match &error.error {
        Error::Code(ErrorCode::BadVersion | ErrorCode::NoNode) if error.step == 0 => {
            Some(Outcome::Deposed)
        }
        Error::Code(_) => None,
        _ => Some(Outcome::Away),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::{ids, live};

    #[tokio::test]
    async fn a_registration_counts_when_its_broker_is_reached_or_it_outlives_two_sessions() {
        let mut image = Image::default();
        for id in ids(&[1, 2, 3]) {
            image.brokers.insert(id, live(id));
        }
        let (start, limit) = (Instant::now(), Duration::from_secs(36));
        let mut memory = Memory::default();
        let mut known = |image: &Image, reached: &[(i32, i64)], seconds| {
            let reached = reached
                .iter()
                .map(|(id, epoch)| (BrokerId(*id), Zxid(*epoch)));
            let now = start + Duration::from_secs(seconds);
            let known = memory.known(image, BrokerId(1), &reached.collect(), now, limit);
            known.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(known(&image, &[], 0), [1]);
        // One connection is to an earlier registration.
        assert_eq!(known(&image, &[(2, 1), (3, 0)], 1), [1, 2]);
        // It was lost; the other was never there.
        assert_eq!(known(&image, &[], 35), [1]);
        assert_eq!(known(&image, &[], 36), [1, 3]);
        assert_eq!(known(&image, &[], 71), [1, 2, 3]);
        // Registered anew, it is to be reached anew.
        let again = image.brokers.get_mut(&BrokerId(3)).unwrap();
        again.epoch = Zxid(9);
        assert_eq!(known(&image, &[], 72), [1, 2]);
        image.brokers.remove(&BrokerId(2));
        assert_eq!(known(&image, &[(2, 1)], 73), [1]);
    }
}
