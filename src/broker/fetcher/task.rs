//! The task that follows one leader: asks, waits, hands on what came, and pauses what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};
use uuid::Uuid;

use super::exchange::{self, FETCH_VERSION_MAX, millis};
use super::session::{Asked, Session};
use super::{Assigned, Deps, Place};
use crate::broker::partition::Partition;
use crate::client::ClientError;
use crate::client::connection::Connection;
use crate::common::ids::{LeaderEpoch, TopicPartition};
use crate::common::shutdown::Shutdown;
use crate::log::{self, Log};

/// The first pause of a partition or connection that failed; each further one is twice as long, up to
/// `replica.fetch.backoff.ms`.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A request that waits at the leader is given up for new partitions, but not one that is about to be
/// answered.
const GRACE: Duration = Duration::from_millis(10);

/// How often it is looked whether what is throttled may go on, where nothing else is asked for.
const THROTTLE_LOOK: Duration = Duration::from_millis(100);
/// The pause of a partition whose log has no room; it ends when the log is tried again.
const HALTED_PAUSE: Duration = Duration::from_millis(log::HALT_MS.unsigned_abs());
/// The end of a pause up to this length does not wait for the answer about other partitions.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// A partition that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) partition: Arc<Partition>,
    pub(super) asked: Asked,
    pause: Option<(Instant, Duration)>,
    /// Its log takes nothing any more.
    pub(super) failed: bool,
    /// It had everything below the leader's high watermark when it was last answered.
    pub(super) caught_up: bool,
}

impl Followed {
    /// What is to be asked next, from where the log is now.
    pub(super) fn refresh(&mut self) {
        if let Some(epoch) = self.partition.following() {
            self.asked = asked(&self.partition, self.asked.topic_id, epoch);
        }
    }

    pub(super) fn goes_well(&mut self) {
        self.pause = None;
    }

    /// May it be asked for now? Requests name topics by id: without one it has to wait for it.
    fn is_ready(&self, now: Instant) -> bool {
        !self.failed
            && !self.asked.topic_id.is_nil()
            && self.pause.is_none_or(|(until, _)| until <= now)
    }

    /// Does it wait while the bound is exceeded?
    fn is_bounded(&self) -> bool {
        !self.caught_up && self.partition.role().throttled_as_follower
    }

    pub(super) fn pause(&mut self, max: Duration) {
        let longer = match self.pause {
            None => FIRST_PAUSE,
            Some((_, last)) => last * 2,
        };
        let next = match self.partition.log().is_halted() {
            true => HALTED_PAUSE,
            false => longer.min(max.max(Duration::from_millis(1))),
        };
        self.pause = Some((Instant::now() + next, next));
    }
}

fn asked(partition: &Partition, topic_id: Uuid, epoch: LeaderEpoch) -> Asked {
    Asked {
        topic_id,
        offset: partition.log_end_offset(),
        log_start: partition.log_start_offset(),
        epoch,
        last_epoch: partition.last_epoch(),
    }
}

/// One leader's follower.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) deps: Deps,
    pub(super) place: Place,
    assigned: watch::Receiver<Assigned>,
    stop: Shutdown,
    pub(super) followed: BTreeMap<TopicPartition, Followed>,
    pub(super) session: Session,
    /// Whose wishes may differ from what the session has, those that have to wait among them.
    pub(super) touched: BTreeSet<TopicPartition>,
    /// Everybody's may.
    all_touched: bool,
    /// Logs that were cut, until the checkpoints know it.
    pub(super) cut: Vec<Arc<Log>>,
    pub(super) connection: Option<Connection>,
    /// The pause after the last failure of the connection.
    pause: Option<Duration>,
}

/// What a request is made of.
enum Plan {
    All(BTreeMap<TopicPartition, Asked>),
    Changes(BTreeMap<TopicPartition, Option<Asked>>),
}

enum Round {
    Answered(FetchResponse),
    Interrupted,
}

impl Task {
    pub(super) fn new(
        deps: Deps,
        place: Place,
        assigned: watch::Receiver<Assigned>,
        stop: Shutdown,
    ) -> Task {
        Task {
            deps,
            place,
            assigned,
            stop,
            followed: BTreeMap::new(),
            session: Session::default(),
            touched: BTreeSet::new(),
            all_touched: true,
            cut: Vec::new(),
            connection: None,
            pause: None,
        }
    }

    pub(super) async fn run(mut self) {
        self.adopt();
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = self.step() => {}
                () = stop.stopped() => break,
            }
        }
        if let Some(connection) = self.connection {
            connection.close();
        }
    }

    /// One request and its answer, or one wait.
    async fn step(&mut self) {
        if self.assigned.has_changed().unwrap_or(false) {
            self.adopt();
        }
        let Some(plan) = self.plan(Instant::now()) else {
            self.idle().await;
            return;
        };
        match self.round(plan).await {
            Ok(Round::Answered(response)) => {
                if self.pause.take().is_some() {
                    info!(leader = %self.place.0, "fetching again");
                }
                self.take(response).await;
            }
            Ok(Round::Interrupted) => self.hang_up(),
            Err(error) => {
                self.hang_up();
                self.failed(error).await;
            }
        }
    }

    fn hang_up(&mut self) {
        self.session.reset();
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    async fn failed(&mut self, error: Option<ClientError>) {
        let pause = match self.pause {
            None => FIRST_PAUSE,
            Some(last) => last * 2,
        };
        let pause = pause.min(self.backoff()).max(Duration::from_millis(1));
        if self.pause.replace(pause).is_none() {
            let reason = error.map_or_else(|| "it is not registered".to_owned(), |e| e.to_string());
            info!(leader = %self.place.0, reason, "cannot fetch from the leader");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = self.assigned.changed() => {
                self.assigned.mark_changed();
                if changed.is_err() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    pub(super) fn backoff(&self) -> Duration {
        millis(self.deps.config.broker.replica_fetch_backoff_ms)
    }

    /// Has too much come for what is throttled?
    fn is_throttled(&self) -> bool {
        let now_ms = self.deps.world.clock.monotonic_ms();
        self.deps.throttles.follower.is_exceeded(now_ms)
    }

    /// Waits until there is something to ask for: a new image, or the end of a pause.
    async fn idle(&mut self) {
        let pause = self.next_pause_ends(Duration::MAX);
        let bounded = self.is_throttled();
        tokio::select! {
            () = pause => {}
            () = tokio::time::sleep(THROTTLE_LOOK), if bounded => {}
            changed = self.assigned.changed() => {
                self.assigned.mark_changed();
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Resolves when the first pause ends, of those that are at most so long.
    fn next_pause_ends(&self, longest: Duration) -> impl Future<Output = ()> + use<> {
        let now = Instant::now();
        // Who pauses is among them.
        let touched = self.touched.iter().filter_map(|id| self.followed.get(id));
        let pauses = touched.filter(|one| !one.failed);
        let pauses = pauses.filter_map(|one| one.pause);
        let next = pauses
            .filter(|(until, pause)| *until > now && *pause <= longest)
            .map(|(until, _)| until)
            .min();
        async move {
            match next {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes in what is to be followed now. Says whether there is something new to ask for.
    fn adopt(&mut self) -> bool {
        let assigned = self.assigned.borrow_and_update().clone();
        let leader = self.place.0;
        let image = self.deps.image.load();
        let mut news = false;
        let mut followed = BTreeMap::new();
        for (id, partition) in assigned.iter() {
            let role = partition.role();
            if role.leading || role.leader != Some(leader) {
                continue;
            }
            let epoch = role.leader_epoch;
            // A topic may get its id after its replicas were made.
            let topic_id = image.topic(&id.topic).map_or(Uuid::nil(), |topic| topic.id);
            let known = self
                .followed
                .remove(id)
                .filter(|known| std::sync::Arc::ptr_eq(&known.partition, partition));
            let mut one = known.unwrap_or_else(|| Followed {
                partition: partition.clone(),
                asked: Asked {
                    epoch: LeaderEpoch::NONE,
                    ..asked(partition, topic_id, epoch)
                },
                pause: None,
                failed: false,
                caught_up: false,
            });
            if one.partition.log().is_halted() {
                // What cannot be written must not come into the in-sync set for having nothing to write.
                one.pause(Duration::ZERO);
            } else {
                // A pause is for what the image may have changed.
                news |= one.pause.take().is_some();
            }
            if (one.asked.epoch, one.asked.topic_id) != (epoch, topic_id) {
                one.asked = asked(partition, topic_id, epoch);
                one.failed = false;
                news = true;
            }
            followed.insert(id.clone(), one);
        }
        self.followed = followed;
        self.all_touched = true;
        news
    }

    /// What to ask for next; none where nothing can be asked for.
    fn plan(&mut self, now: Instant) -> Option<Plan> {
        let connected = self.connection.as_ref().is_some_and(|one| !one.is_closed());
        if self.all_touched || self.session.is_new() || !connected {
            let wanted = self.wanted(now);
            // Where nothing is asked the session stays as it is.
            self.all_touched = wanted.is_empty();
            return (!wanted.is_empty()).then_some(Plan::All(wanted));
        }
        let exceeded = self.is_throttled();
        let mut changes = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        for id in std::mem::take(&mut self.touched) {
            let one = self.followed.get(&id);
            let ready = one.filter(|one| one.is_ready(now) && !(exceeded && one.is_bounded()));
            if ready.is_none() && one.is_some_and(|one| !one.failed) {
                waiting.insert(id.clone());
            }
            changes.insert(id, ready.map(|one| one.asked));
        }
        self.touched = waiting;
        if self.session.size_after(&changes) == 0 {
            self.all_touched = true;
            return None;
        }
        Some(Plan::Changes(changes))
    }

    /// Everything that can be asked for; who has to wait is touched.
    fn wanted(&mut self, now: Instant) -> BTreeMap<TopicPartition, Asked> {
        let exceeded = self.is_throttled();
        let mut wanted = BTreeMap::new();
        self.touched.clear();
        for (id, one) in &self.followed {
            if one.is_ready(now) && !(exceeded && one.is_bounded()) {
                wanted.insert(id.clone(), one.asked);
            } else if !one.failed {
                self.touched.insert(id.clone());
            }
        }
        wanted
    }

    async fn round(&mut self, plan: Plan) -> Result<Round, Option<ClientError>> {
        let connection = match self.connection.take().filter(|one| !one.is_closed()) {
            Some(connection) => connection,
            None => {
                self.session.reset();
                exchange::connect(&self.deps, self.place)
                    .await?
                    .ok_or(None)?
            }
        };
        self.connection = Some(connection.clone());
        let version = connection.version::<FetchRequest>(FETCH_VERSION_MAX)?;
        let request = match plan {
            Plan::Changes(changes) if !self.session.is_new() => self.session.advance(changes),
            Plan::Changes(_) => {
                let wanted = self.wanted(Instant::now());
                self.session.next(wanted)
            }
            Plan::All(wanted) => self.session.next(wanted),
        };
        let request = exchange::fetch_request(&self.deps, request, version);
        let broker = &self.deps.config.broker;
        let limit =
            millis(broker.replica_fetch_wait_max_ms) + millis(broker.replica_socket_timeout_ms);
        let answer = connection.start(&request, version).await?.answer(limit);
        let mut answer = std::pin::pin!(answer);
        let mut pause = std::pin::pin!(self.next_pause_ends(SHORT_PAUSE));
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => return Ok(Round::Answered(answered?)),
                () = &mut pause => {
                    return match tokio::time::timeout(GRACE, &mut answer).await {
                        Ok(answered) => Ok(Round::Answered(answered?)),
                        Err(_) => Ok(Round::Interrupted),
                    };
                }
                changed = self.assigned.changed() => {
                    if changed.is_err() {
                        return Ok(Round::Answered(answer.await?));
                    }
                    if self.adopt() {
                        let soon = tokio::time::timeout(GRACE, &mut answer).await;
                        return match soon {
                            Ok(answered) => Ok(Round::Answered(answered?)),
                            Err(_) => Ok(Round::Interrupted),
                        };
                    }
                }
            }
        }
    }

    async fn take(&mut self, response: FetchResponse) {
        let error = ResponseError::try_from_code(response.error_code);
        if let Some(error) = error {
            debug!(leader = %self.place.0, ?error, "the fetch is refused");
        }
        if !self.session.answered(error, response.session_id) {
            if error != Some(ResponseError::FetchSessionIdNotFound)
                && error != Some(ResponseError::InvalidFetchSessionEpoch)
            {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            return;
        }
        self.take_topics(response).await;
    }
}
