//! tokio's runtime, as openraft uses it, with our limit for calls to other members.
//!
//! openraft 0.9 gives up on a call after a heartbeat's or an election's time, and knows no other limit. On
//! a disk that syncs slower than that no vote would ever arrive in time, and no election would end. How
//! long a call may take has to do with disks; whether the other side is there, its link knows. This may
//! not do more than pass on; but that a task of openraft panicked it tells, which openraft does not:
//! with its core or one replication gone a member looks alive and does nothing.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use openraft::async_runtime::AsyncOneshotSendExt;
use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};

use crate::common::tasks::Tasks;

/// How long a call may take. A link that has gone silent ends its calls long before.
const CALL_LIMIT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Who is told that a task panicked. What it starts has the same.
    static WATCHED: Tasks;
}

/// Runs the start of a core so that a panic of it, or of any task it ever starts, ends the process.
pub async fn watched<F: Future>(tasks: Tasks, start: F) -> F::Output {
    WATCHED.scope(tasks, start).await
}

/// Dropped by a panic it tells it.
struct OnPanic(Tasks);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why =
                "the coordinator cannot go on: a part of raft has panicked; the log says where";
            self.0.fail("raft core", why.to_owned());
        }
    }
}

/// What openraft runs on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = Teller<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match WATCHED.try_with(Tasks::clone) {
            Err(_) => TokioRuntime::spawn(future),
            Ok(tasks) => TokioRuntime::spawn(WATCHED.scope(tasks.clone(), async move {
                let on_panic = OnPanic(tasks);
                let output = future.await;
                drop(on_panic);
                output
            })),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration.max(CALL_LIMIT), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        let (sender, receiver) = TokioRuntime::oneshot();
        (Teller(sender), receiver)
    }
}

/// Tells whoever still listens. Nobody listens for the outcome of a write, which openraft would warn of.
pub struct Teller<T: OptionalSend>(<TokioRuntime as AsyncRuntime>::OneshotSender<T>);

impl<T: OptionalSend> fmt::Debug for Teller<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl<T: OptionalSend> AsyncOneshotSendExt<T> for Teller<T> {
    fn send(self, value: T) -> Result<(), T> {
        drop(AsyncOneshotSendExt::send(self.0, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::shutdown::Shutdown;

    #[tokio::test]
    async fn a_panic_of_a_task_that_a_task_started_is_told() {
        let tasks = Tasks::new(Shutdown::new());
        let outer = async {
            Runtime::spawn(async { Runtime::spawn(async { panic!("on purpose") }).await }).await
        };
        let inner: Result<(), _> = watched(tasks.clone(), outer).await.expect("it waits");
        let error = inner.expect_err("it panicked");
        assert!(Runtime::is_panic(&error), "openraft sees it, too");
        assert_eq!(tasks.failed().await.task, "raft core");
        Runtime::spawn(async {}).await.expect("with nobody to tell");
    }
}
