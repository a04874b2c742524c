//! Wall and monotonic time: real, a runtime's, or set by hand.
//!
//! Decisions take `now` as a value; only drivers hold a [`Clock`]. Sleeping is `tokio::time`, which
//! can be paused; this is the only file that asks the machine what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real {
        started: Instant,
    },
    /// tokio's time, which a simulation stops and moves.
    Runtime {
        started: tokio::time::Instant,
        started_wall_ms: i64,
    },
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    wall_ms: AtomicI64,
    monotonic_us: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn real() -> Clock {
        Clock(Source::Real {
            started: Instant::now(),
        })
    }

    /// A clock that goes as tokio's time does, from `wall_ms` on: with the tasks of a runtime that is paused
    /// or simulated.
    pub fn of_runtime(wall_ms: i64) -> Clock {
        Clock(Source::Runtime {
            started: tokio::time::Instant::now(),
            started_wall_ms: wall_ms,
        })
    }

    /// A clock that stands still at `wall_ms` until it is moved.
    pub fn manual(wall_ms: i64) -> Clock {
        Clock(Source::Manual(Arc::new(Hands {
            wall_ms: AtomicI64::new(wall_ms),
            monotonic_us: AtomicI64::new(0),
        })))
    }

    /// Milliseconds since 1970. May jump; for timestamps and retention, never for timeouts.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn wall_ms(&self) -> i64 {
        match &self.0 {
            Source::Real { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
                }),
            Source::Runtime {
                started_wall_ms, ..
            } => started_wall_ms + self.monotonic_ms(),
            Source::Manual(hands) => hands.wall_ms.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since this clock was made. Never jumps; for timeouts and leases.
    pub fn monotonic_ms(&self) -> i64 {
        self.monotonic_us() / 1_000
    }

    /// Microseconds since this clock was made; for measuring.
    pub fn monotonic_us(&self) -> i64 {
        match &self.0 {
            Source::Real { started } => {
                i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX)
            }
            Source::Runtime { started, .. } => {
                i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX)
            }
            Source::Manual(hands) => hands.monotonic_us.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock forward, both hands. Does nothing to the others.
    pub fn advance_ms(&self, ms: i64) {
        if let Source::Manual(hands) = &self.0 {
            hands.wall_ms.fetch_add(ms, Ordering::Relaxed);
            hands.monotonic_us.fetch_add(ms * 1_000, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_runtimes_clock_goes_with_its_tasks() {
        let clock = Clock::of_runtime(1_000);
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!((clock.monotonic_ms(), clock.wall_ms()), (250, 1_250));
        clock.advance_ms(50);
        assert_eq!(clock.monotonic_ms(), 250);
    }
}
