//! Every task is named, owned and joined.
//!
//! A panic in a connection task ends that connection; a panic in an essential task ends the process
//! (through [`Tasks::failed`]), because a half-dead node is worse than a restarted one. A bare
//! `tokio::spawn` anywhere else is a tidy failure.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, error_span, info};

use crate::common::shutdown::Shutdown;

/// What the death of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Serves one client or one errand: a panic ends it alone.
    Connection,
    /// The node is not whole without it: a panic stops the node.
    Essential,
}

/// A set of tasks that stop together.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
    family: Arc<Family>,
}

/// What a set shares with its children.
#[derive(Debug)]
struct Family {
    failure: watch::Sender<Option<Failed>>,
    left: Mutex<Left>,
}

/// An essential task that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its name.
    pub task: &'static str,
    /// Why, and what to do, for people; nothing of a panic, which the log tells.
    pub why: Option<String>,
}

/// What has begun and not ended.
#[derive(Debug, Default)]
struct Left {
    /// The names of tasks, with how many there are of each.
    tasks: BTreeMap<&'static str, usize>,
    /// The phases of a stop, in the order of their begin.
    phases: BTreeMap<u64, String>,
    next_phase: u64,
}

impl Family {
    /// The first failure is the one to tell: others follow from it.
    fn fail(&self, task: &'static str, why: Option<String>) {
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(Failed { task, why });
            is_first
        });
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted task; uncounted when it is dropped.
struct Counted(Arc<Family>, &'static str);

impl Counted {
    fn new(family: &Arc<Family>, name: &'static str) -> Counted {
        *family.left().tasks.entry(name).or_insert(0) += 1;
        Counted(family.clone(), name)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut left = self.0.left();
        if let Some(count) = left.tasks.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                left.tasks.remove(self.1);
            }
        }
    }
}

/// A phase of a stop; it ends when this is dropped.
#[derive(Debug)]
pub struct Phase(Arc<Family>, u64);

impl Drop for Phase {
    fn drop(&mut self) {
        self.0.left().phases.remove(&self.1);
    }
}

impl Tasks {
    /// An empty set; its tasks watch `shutdown`.
    pub fn new(shutdown: Shutdown) -> Tasks {
        Tasks {
            tracker: TaskTracker::new(),
            shutdown,
            family: Arc::new(Family {
                failure: watch::Sender::new(None),
                left: Mutex::default(),
            }),
        }
    }

    /// The signal that these tasks watch.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// A set of its own that still reports failures here. It is joined apart, and stops with this one.
    pub fn child(&self) -> Tasks {
        Tasks {
            tracker: TaskTracker::new(),
            shutdown: self.shutdown.child(),
            family: self.family.clone(),
        }
    }

    /// Starts a task. It has to end by itself soon after the shutdown signal.
    pub fn spawn<F>(&self, name: &'static str, kind: Kind, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let counted = Counted::new(&self.family, name);
        let guarded = async move {
            let caught = CatchUnwind(Box::pin(task)).await;
            if caught.is_err() {
                error!(task = name, "a task panicked");
                if kind == Kind::Essential {
                    counted.0.fail(name, None);
                }
            }
            drop(counted);
        };
        self.tracker
            .spawn(guarded.instrument(error_span!("task", task = name)));
    }

    /// Says that the essential task `name` cannot go on, without a panic, and why.
    pub fn fail(&self, name: &'static str, why: String) {
        self.family.fail(name, Some(why));
    }

    /// Resolves with the first essential task that failed or panicked, if one ever does.
    pub async fn failed(&self) -> Failed {
        let mut failures = self.family.failure.subscribe();
        let failed = failures.wait_for(Option::is_some).await;
        match failed.ok().and_then(|failed| failed.clone()) {
            Some(failed) => failed,
            None => std::future::pending().await,
        }
    }

    /// How many tasks still run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Begins a phase of a stop, to be named by [`Tasks::left`] until it ends.
    pub fn phase(&self, name: String) -> Phase {
        info!("{name}");
        let mut left = self.family.left();
        let number = left.next_phase;
        left.next_phase += 1;
        left.phases.insert(number, name);
        Phase(self.family.clone(), number)
    }

    /// The phases and tasks, also of parents and children, that have not ended, for people.
    pub fn left(&self) -> String {
        let left = self.family.left();
        let phases = left.phases.values().cloned();
        let tasks = left.tasks.iter();
        let tasks = tasks.map(|(name, count)| format!("{count} x task '{name}'"));
        let all: Vec<String> = phases.chain(tasks).collect();
        if all.is_empty() {
            "nothing".to_owned()
        } else {
            all.join(", ")
        }
    }

    /// Gives the signal and waits for every task, at most `limit`. Says whether all ended.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.shutdown.stop();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// Starts a thread that nobody joins: for what has to go on whatever the node's own threads are stuck in,
/// and may be cut off by the end of the process.
pub fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs work that is known to panic on what it cannot read; the caller tells the failure in its own words.
pub fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = CAUGHT.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    result
}

/// Is this thread inside [`caught`]? For the panic hook, which then has nothing to tell.
pub fn is_caught() -> bool {
    CAUGHT.get()
}

/// Runs blocking work (an fsync, a directory walk) off the async threads.
///
/// A panic inside is passed on to the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match start_blocking(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being dropped cancels blocking work.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(not(feature = "sim"))]
use tokio::task::spawn_blocking as start_blocking;

/// In a simulation there is one thread. What would have another one is a task there, and takes its time first.
#[cfg(feature = "sim")]
#[allow(
    clippy::disallowed_methods,
    reason = "whoever waits for it joins it, as he would a thread"
)]
fn start_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    if !is_simulated() {
        return tokio::task::spawn_blocking(work);
    }
    let pause = simulated::pause();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        work()
    })
}

/// What a simulation sets.
#[cfg(feature = "sim")]
pub mod simulated {
    use super::{Cell, Duration};

    thread_local! {
        static PAUSE: Cell<Duration> = const { Cell::new(Duration::from_millis(1)) };
    }

    /// How long blocking work takes from now on, on every simulated machine of this thread.
    pub fn set_pause(pause: Duration) {
        PAUSE.set(pause);
    }

    pub(super) fn pause() -> Duration {
        PAUSE.get()
    }
}

/// Is this a simulation, where all has to happen on one thread?
fn is_simulated() -> bool {
    #[cfg(feature = "sim")]
    return turmoil::in_simulation();
    #[cfg(not(feature = "sim"))]
    false
}

/// Does blocking `work` for every item, on up to `threads` threads at once, and gives the results in
/// the items' order. For work that mostly waits for the disk: syncs that run at once share their cost.
///
/// Blocks until all is done; a panic inside is passed on to the caller.
pub fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 || is_simulated() {
        return items.into_iter().map(work).collect();
    }
    let queue = Mutex::new(items.into_iter().enumerate());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        let mut done = Vec::new();
        while let Some((index, item)) = take() {
            done.push((index, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        // Where the system has no thread left, the others do its share.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| {
                let builder = std::thread::Builder::new();
                builder.spawn_scoped(scope, drain).ok()
            })
            .collect();
        let mut done = drain();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

struct CatchUnwind<F>(std::pin::Pin<Box<F>>);

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, ()>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_side_by_side_keeps_the_order_of_its_items() {
        for threads in [0, 1, 3, 50] {
            let doubled = side_by_side((0..20).collect(), threads, |item: i32| item * 2);
            let expected: Vec<i32> = (0..20).map(|item| item * 2).collect();
            assert_eq!(doubled, expected, "{threads} threads");
        }
        assert!(side_by_side(Vec::new(), 4, |item: i32| item).is_empty());
    }

    #[tokio::test]
    async fn a_panicking_connection_ends_alone_and_an_essential_task_is_reported() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("connection", Kind::Connection, async {
            panic!("on purpose")
        });
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
        tasks.spawn("essential", Kind::Essential, async { panic!("on purpose") });
        let panicked = Failed {
            task: "essential",
            why: None,
        };
        assert_eq!(tasks.failed().await, panicked);
        tasks.child().fail("another", "later".to_owned());
        assert_eq!(tasks.failed().await, panicked, "the first one is told");
        assert!(tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn what_is_left_is_named_and_counted_over_the_whole_family() {
        let tasks = Tasks::new(Shutdown::new());
        assert_eq!(tasks.left(), "nothing");
        let (child, sibling) = (tasks.child(), tasks.child());
        for _ in 0..2 {
            let done = child.shutdown().clone();
            child.spawn("listener", Kind::Connection, async move {
                done.stopped().await;
            });
        }
        let phase = sibling.phase("closing logs".into());
        assert_eq!(tasks.left(), "closing logs, 2 x task 'listener'");
        drop(phase);
        assert!(child.stop(Duration::from_secs(5)).await);
        assert_eq!(sibling.left(), "nothing");
    }

    #[test]
    fn a_panic_that_is_caught_is_known_as_such() {
        assert!(!is_caught());
        assert_eq!(caught(is_caught).ok(), Some(true));
        assert!(caught(|| panic!("on purpose")).is_err());
        assert!(!is_caught());
    }
}
