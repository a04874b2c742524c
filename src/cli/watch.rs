//! Signals and the limit of a stop, watched by a thread of their own: whatever the node's workers are
//! stuck in, a signal is heard and the process ends in time. The one place of `process::exit`.
//!
//! The first signal asks for a clean stop, a later one for an end. Signals that come together are one:
//! timeout(1) sends its signal to the process and then to its group, a terminal to whoever is in front.

use std::time::Duration;

use tokio::runtime::Builder;
use tracing::{error, info};

use super::logging;
use super::signals::Signals;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::{self, Tasks};

/// The exit code of a stop that took too long, as timeout(1) has it.
pub const OVERRUN: u8 = 124;
/// How long an end at once may take before the process is ended from here.
const AT_ONCE_LIMIT: Duration = Duration::from_secs(1);

/// Signals that come within this after the first are the same wish.
const TOGETHER: Duration = Duration::from_secs(1);

/// What the watching thread and the node tell each other. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    /// A signal came: stop in order.
    pub asked: Shutdown,
    /// Another one came: end.
    pub at_once: Shutdown,
    /// The stop has begun, for whatever reason: its limit runs.
    pub begun: Shutdown,
    /// The limit, `node.stop.timeout.ms`.
    pub limit: Duration,
    /// Every task of the nodes is one of these or of their children.
    pub tasks: Tasks,
    over: Shutdown,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.stop();
    }
}

impl Watch {
    /// Starts watching. `Err` is the message for standard error.
    pub fn start(signals: Signals, limit: Duration) -> Result<Watch, String> {
        let failed = |error: std::io::Error| format!("signals cannot be watched: {error}");
        let watch = Watch {
            asked: Shutdown::new(),
            at_once: Shutdown::new(),
            begun: Shutdown::new(),
            limit,
            tasks: Tasks::new(Shutdown::new()),
            over: Shutdown::new(),
        };
        let watching = Watching {
            asked: watch.asked.clone(),
            at_once: watch.at_once.clone(),
            begun: watch.begun.clone(),
            limit,
            tasks: watch.tasks.clone(),
            over: watch.over.clone(),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        tasks::thread("tripod watch", move || {
            runtime.block_on(watching.run(signals));
        })
        .map_err(failed)?;
        Ok(watch)
    }
}

/// The thread's side.
struct Watching {
    asked: Shutdown,
    at_once: Shutdown,
    begun: Shutdown,
    limit: Duration,
    tasks: Tasks,
    over: Shutdown,
}

impl Watching {
    async fn run(self, mut signals: Signals) {
        tokio::select! {
            () = signals.next() => {
                info!("stopping");
                self.asked.stop();
            }
            () = self.begun.stopped() => {}
            () = self.over.stopped() => return,
        }
        let asked_at = tokio::time::Instant::now();
        let later = async {
            loop {
                signals.next().await;
                if asked_at.elapsed() >= TOGETHER {
                    return;
                }
            }
        };
        tokio::select! {
            () = later => {}
            () = tokio::time::sleep(self.limit) => {
                end(&overrun(&self.tasks, self.limit), OVERRUN);
            }
            () = self.over.stopped() => return,
        }
        self.at_once.stop();
        tokio::select! {
            () = tokio::time::sleep(AT_ONCE_LIMIT) => end(STOPPED_AT_ONCE, 1),
            () = self.over.stopped() => {}
        }
    }
}

/// What a later signal leads to.
pub const STOPPED_AT_ONCE: &str = "stopped at once, as asked by another signal";

/// What to say of a stop that took longer than `limit`, while its phases still run.
pub fn overrun(tasks: &Tasks, limit: Duration) -> String {
    format!(
        "the stop was not done within node.stop.timeout.ms={}; what was left: {}",
        limit.as_millis(),
        tasks.left()
    )
}

fn end(text: &str, code: u8) -> ! {
    error!("{text}");
    logging::complain(text);
    logging::finish();
    std::process::exit(i32::from(code));
}
