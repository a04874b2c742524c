//! One line of the log for many events of a kind: what strangers can cause must not fill a disk.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How often the log tells of one kind of event.
const INTERVAL_MS: i64 = 10_000;

/// Decides which of many like events is told.
#[derive(Debug)]
pub struct Flood {
    next_ms: AtomicI64,
    untold: AtomicU64,
}

impl Default for Flood {
    fn default() -> Flood {
        Flood {
            next_ms: AtomicI64::new(i64::MIN),
            untold: AtomicU64::new(0),
        }
    }
}

impl Flood {
    /// One more event, at monotonic `now_ms`. `Some` where it is to be told, with how many before it
    /// were not.
    pub fn tell(&self, now_ms: i64) -> Option<u64> {
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let due = now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(
                    next_ms,
                    now_ms.saturating_add(INTERVAL_MS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if due {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_one_per_interval_with_a_count() {
        let flood = Flood::default();
        assert_eq!(flood.tell(5), Some(0));
        for now in [5, 6, 10_004] {
            assert_eq!(flood.tell(now), None);
        }
        assert_eq!(flood.tell(10_005), Some(3));
        assert_eq!(flood.tell(10_006), None);
        assert_eq!(flood.tell(90_000), Some(1));
    }
}
