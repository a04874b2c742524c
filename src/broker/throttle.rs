//! How much replication may move: the bounds on bytes per second that reassignments are given (KIP-73).
//!
//! Kafka's rule, as of `ReplicationQuotaManager`: what throttled replicas moved is measured over some
//! samples (`replication.quota.window.*`), and while the rate is above the bound, throttled replicas that
//! are not in sync wait. Nothing is cut to size, so one answer may overshoot; the rate of a longer time
//! does not. Pure but for the locks: the time comes in as an argument.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common::ids::BrokerId;

/// Samples of bytes; the rate over those that are not too old.
#[derive(Clone, Debug)]
pub struct Meter {
    samples_max: usize,
    sample_ms: i64,
    /// When each sample began, and its bytes.
    samples: VecDeque<(i64, u64)>,
}

impl Meter {
    /// A rate over `samples_max` samples of `sample_ms` each.
    pub fn new(samples_max: usize, sample_ms: i64) -> Meter {
        Meter {
            samples_max: samples_max.max(1),
            sample_ms: sample_ms.max(1),
            samples: VecDeque::new(),
        }
    }

    fn purge(&mut self, now_ms: i64) {
        let samples = i64::try_from(self.samples_max).unwrap_or(i64::MAX);
        let age_max = samples.saturating_mul(self.sample_ms);
        while self
            .samples
            .front()
            .is_some_and(|(begun, _)| now_ms.saturating_sub(*begun) >= age_max)
        {
            self.samples.pop_front();
        }
    }

    /// So many bytes were moved now.
    pub fn record(&mut self, now_ms: i64, bytes: u64) {
        self.purge(now_ms);
        match self.samples.back_mut() {
            Some((begun, sum)) if now_ms.saturating_sub(*begun) < self.sample_ms => {
                *sum = sum.saturating_add(bytes);
            }
            _ => self.samples.push_back((now_ms, bytes)),
        }
    }

    /// Bytes per second since the oldest sample began, and not less than over one sample's length.
    pub fn rate(&mut self, now_ms: i64) -> f64 {
        self.purge(now_ms);
        let Some((begun, _)) = self.samples.front() else {
            return 0.0;
        };
        let elapsed_ms = now_ms.saturating_sub(*begun).max(self.sample_ms);
        let bytes: u64 = self
            .samples
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes));
        bytes as f64 * 1_000.0 / elapsed_ms as f64
    }
}

/// A bound, and what was moved under it.
#[derive(Debug)]
pub struct Throttle(Mutex<Bounded>);

#[derive(Debug)]
struct Bounded {
    bytes_per_second: i64,
    meter: Meter,
}

impl Throttle {
    /// Without a bound yet.
    pub fn new(meter: Meter) -> Throttle {
        Throttle(Mutex::new(Bounded {
            bytes_per_second: i64::MAX,
            meter,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Bounded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another bound; it counts at once, also for what was moved before.
    pub fn set(&self, bytes_per_second: i64) {
        self.lock().bytes_per_second = bytes_per_second;
    }

    /// So many bytes of throttled replicas were moved now.
    pub fn record(&self, now_ms: i64, bytes: u64) {
        self.lock().meter.record(now_ms, bytes);
    }

    /// Is the rate above the bound?
    pub fn is_exceeded(&self, now_ms: i64) -> bool {
        let mut bounded = self.lock();
        bounded.bytes_per_second != i64::MAX
            && bounded.meter.rate(now_ms) > bounded.bytes_per_second as f64
    }
}

/// The bounds of one broker.
#[derive(Debug)]
pub struct Throttles {
    /// On what is sent to followers: `leader.replication.throttled.rate`.
    pub leader: Throttle,
    /// On what is fetched from leaders: `follower.replication.throttled.rate`.
    pub follower: Throttle,
    /// On what moves between directories: `replica.alter.log.dirs.io.max.bytes.per.second`.
    pub alter_log_dirs: Throttle,
}

impl Throttles {
    /// No bounds yet; traffic between brokers is measured alike on both sides.
    pub fn new(replication: &Meter, alter_log_dirs: Meter) -> Throttles {
        Throttles {
            leader: Throttle::new(replication.clone()),
            follower: Throttle::new(replication.clone()),
            alter_log_dirs: Throttle::new(alter_log_dirs),
        }
    }
}

/// Which of a topic's replicas on one broker are throttled: `*`, or `partition:broker` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Throttled {
    /// All of them.
    All,
    /// Those of these partitions.
    Partitions(BTreeSet<i32>),
}

impl Throttled {
    /// Reads the value of `(leader|follower).replication.throttled.replicas`.
    pub fn parse(replicas: &[String], broker: BrokerId) -> Throttled {
        if let [all] = replicas
            && all == "*"
        {
            return Throttled::All;
        }
        let own = |replica: &String| {
            let (partition, of) = replica.split_once(':')?;
            let of: i32 = of.trim().parse().ok()?;
            let partition = partition.trim().parse().ok()?;
            (of == broker.0).then_some(partition)
        };
        Throttled::Partitions(replicas.iter().filter_map(own).collect())
    }

    /// Is this partition's replica among them?
    pub fn covers(&self, partition: i32) -> bool {
        match self {
            Throttled::All => true,
            Throttled::Partitions(partitions) => partitions.contains(&partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(11, 1_000)
    }

    #[test]
    fn the_rate_is_over_the_samples_that_are_left() {
        let mut meter = meter();
        assert_eq!(meter.rate(0), 0.0);
        meter.record(0, 1_000);
        assert_eq!(meter.rate(0), 1_000.0, "over one sample at least");
        assert_eq!(meter.rate(999), 1_000.0);
        assert_eq!(meter.rate(2_000), 500.0);
        meter.record(2_000, 3_000);
        assert_eq!(meter.rate(2_000), 2_000.0);
        // The first sample is eleven samples old: the second alone is left.
        assert_eq!(meter.rate(10_999), 4_000.0 * 1_000.0 / 10_999.0);
        assert_eq!(meter.rate(11_000), 3_000.0 * 1_000.0 / 9_000.0);
        assert_eq!(meter.rate(13_000), 0.0);
    }

    #[test]
    fn a_bound_holds_over_time_whatever_the_sizes() {
        for (bound, answer) in [(1_000, 100), (1_000, 5_000), (1_000_000, 10_000_000)] {
            let throttle = Throttle::new(meter());
            throttle.set(bound);
            let (mut now_ms, mut moved) = (0, 0);
            while now_ms < 60_000 {
                if !throttle.is_exceeded(now_ms) {
                    throttle.record(now_ms, answer);
                    moved += answer;
                }
                now_ms += 50;
            }
            let most = bound as u64 * 60 + 2 * answer;
            assert!(moved <= most, "{bound} {answer}: {moved}");
            assert!(moved * 10 >= most * 6, "{bound} {answer}: only {moved}");
        }
    }

    #[test]
    fn bounds_change_at_once() {
        let throttle = Throttle::new(meter());
        throttle.record(0, 1 << 40);
        assert!(!throttle.is_exceeded(0), "without a bound");
        throttle.set(1_000);
        assert!(throttle.is_exceeded(0));
        throttle.set(i64::MAX);
        assert!(!throttle.is_exceeded(0));
        throttle.set(0);
        assert!(throttle.is_exceeded(0));
        assert!(!throttle.is_exceeded(11_000), "nothing is moved any more");
    }

    #[test]
    fn replicas_are_named_by_partition_and_broker() {
        let texts = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        let some = |partitions: &[i32]| Throttled::Partitions(partitions.iter().copied().collect());
        let table = [
            ("*", Throttled::All),
            ("", some(&[])),
            ("0:1,1:2,5:1", some(&[0, 5])),
            ("0:2", some(&[])),
        ];
        for (text, expected) in table {
            assert_eq!(
                Throttled::parse(&texts(text), BrokerId(1)),
                expected,
                "{text}"
            );
        }
        assert!(Throttled::All.covers(9));
        assert!(some(&[5]).covers(5) && !some(&[5]).covers(1));
    }
}
