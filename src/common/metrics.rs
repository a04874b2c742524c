//! Counters, gauges and histograms that cost one atomic operation, and Prometheus' text format.
//!
//! Who measures owns the value; the HTTP half gathers them into a [`Page`] when it is asked.

use std::collections::VecDeque;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// Replaces the value.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a [`Histogram`]: two for each power of two of microseconds, up to about 36 minutes.
const BUCKETS: usize = 64;

/// Durations in microseconds, kept in exponential buckets; quantiles are right within 50 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_us: AtomicU64::new(0),
            max_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Notes one duration.
    pub fn observe_us(&self, us: u64) {
        self.buckets[Self::bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    /// Notes one duration in milliseconds; a negative one is none.
    pub fn observe_ms(&self, ms: i64) {
        self.observe_us(u64::try_from(ms).unwrap_or(0).saturating_mul(1000));
    }

    /// Forgets everything.
    pub fn reset(&self) {
        for number in self.buckets.iter().chain([&self.sum_us, &self.max_us]) {
            number.store(0, Ordering::Relaxed);
        }
    }

    /// How many durations were noted.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// All durations together.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    /// The longest duration.
    pub fn max_us(&self) -> u64 {
        self.max_us.load(Ordering::Relaxed)
    }

    /// An upper bound of the `quantile` (0 to 1), in microseconds; 0 when nothing was noted.
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        let count = self.count();
        let wanted = (count as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if count > 0 && seen >= wanted {
                return Self::upper_us(index).min(self.max_us());
            }
        }
        0
    }

    fn bucket(us: u64) -> usize {
        if us < 2 {
            return us as usize;
        }
        let power = us.ilog2() as usize;
        let half = ((us >> (power - 1)) & 1) as usize;
        (power * 2 + half).min(BUCKETS - 1)
    }

    fn upper_us(index: usize) -> u64 {
        match index {
            0 | 1 => index as u64,
            _ => {
                let (power, half) = (index / 2, (index % 2) as u64);
                (1u64 << power) + (half + 1) * (1u64 << (power - 1)) - 1
            }
        }
    }
}

/// What share of the last minute somebody was idle, from a counter of their busy time.
///
/// Nobody samples it: each look is remembered, and the answer reaches back to the newest one that is a
/// minute old; where nobody looked for longer, to the last.
#[derive(Clone, Debug)]
pub struct IdleShare {
    looks: VecDeque<Look>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    now_us: u64,
    busy_us: u64,
}

/// How far an [`IdleShare`] reaches back.
const WINDOW_US: u64 = 60_000_000;
/// Looks that are closer than this count as one.
const LOOK_APART_US: u64 = 1_000_000;

impl IdleShare {
    /// Begins now.
    pub fn new(now_us: u64, busy_us: u64) -> IdleShare {
        IdleShare {
            looks: VecDeque::from([Look { now_us, busy_us }]),
        }
    }

    /// The share, from 0 to 1, of `workers` that were busy for `busy_us` in all.
    pub fn look(&mut self, now_us: u64, busy_us: u64, workers: usize) -> f64 {
        let old = |look: &Look| now_us.saturating_sub(look.now_us) >= WINDOW_US;
        while self.looks.get(1).is_some_and(old) {
            self.looks.pop_front();
        }
        let from = self.looks.front().copied().unwrap_or_default();
        let newest = self.looks.back().copied().unwrap_or_default();
        if now_us.saturating_sub(newest.now_us) >= LOOK_APART_US {
            self.looks.push_back(Look { now_us, busy_us });
        }
        let available = now_us.saturating_sub(from.now_us) as f64 * workers as f64;
        if available == 0.0 {
            return 1.0;
        }
        let busy = busy_us.saturating_sub(from.busy_us) as f64;
        (1.0 - busy / available).clamp(0.0, 1.0)
    }
}

/// One answer in Prometheus' text format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    described: std::collections::BTreeSet<String>,
}

impl Page {
    /// An empty page.
    pub fn new() -> Page {
        Page::default()
    }

    /// Adds one sample. `kind` is `counter`, `gauge` or `summary`; samples of one name stay together
    /// if the caller adds them together.
    pub fn sample(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.describe(name, kind, help);
        self.part(name, labels, value);
    }

    /// Says what a name means, before its first sample.
    pub fn describe(&mut self, name: &str, kind: &str, help: &str) {
        if self.described.insert(name.to_owned()) {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    /// Adds a summary without quantiles.
    pub fn summary(&mut self, name: &str, help: &str, sum: impl Display, count: u64) {
        self.described.insert(name.to_owned());
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} summary");
        self.part(&format!("{name}_sum"), &[], sum);
        self.part(&format!("{name}_count"), &[], count);
    }

    /// Adds a line that belongs to the sample before it: a summary's `_sum` or `_count`.
    pub fn part(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let escaped = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_bound_what_was_seen() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.observe_us(us);
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.max_us(), 1000);
        let median = histogram.quantile_us(0.5);
        assert!((500..=750).contains(&median), "{median}");
        assert_eq!(histogram.quantile_us(1.0), 1000);
        for us in [0, 1, 2, 3, 4, 1 << 20, u64::MAX] {
            assert!(
                Histogram::upper_us(Histogram::bucket(us)) >= us.min((1 << 32) - 1),
                "{us}"
            );
        }
    }

    #[test]
    fn the_idle_share_is_that_of_the_last_minute() {
        const S: u64 = 1_000_000;
        let mut idle = IdleShare::new(5 * S, S);
        let mut shares = Vec::new();
        // Seconds since the start, busy seconds of two workers.
        for (at, busy) in [
            (0, 0),
            (10, 5),
            (20, 25),
            (20, 25),
            (70, 25),
            (130, 25),
            (1_130, 525),
            (1_131, 9_999),
        ] {
            shares.push(idle.look((5 + at) * S, (1 + busy) * S, 2));
        }
        let tenths = shares.iter().map(|share| (share * 100.0).round() as i64);
        assert_eq!(
            tenths.collect::<Vec<_>>(),
            [100, 75, 38, 38, 83, 100, 75, 0]
        );
    }

    #[test]
    fn a_summary_has_its_type_and_its_two_samples() {
        let mut page = Page::new();
        page.summary("sync_seconds", "Syncs", 1.5, 3);
        assert_eq!(
            page.into_text(),
            "# HELP sync_seconds Syncs\n# TYPE sync_seconds summary\n\
             sync_seconds_sum 1.5\nsync_seconds_count 3\n"
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::new();
        page.sample("up", "gauge", "Is it up?", &[("topic", "a\"b\\c\nd")], 1);
        page.sample("up", "gauge", "Is it up?", &[], 0);
        assert_eq!(
            page.into_text(),
            "# HELP up Is it up?\n# TYPE up gauge\nup{topic=\"a\\\"b\\\\c\\nd\"} 1\nup 0\n"
        );
    }
}
