//! How far the loading of the logs is, for those who wait for a broker that starts.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::info;

use crate::common::clock::Clock;

/// So often the log says how far it is.
const TOLD_EVERY_MS: i64 = 5_000;

/// How many logs there are to load, and how many are. Directories are counted as they are opened.
#[derive(Debug, Default)]
pub struct Loading {
    loaded: AtomicUsize,
    total: AtomicUsize,
}

impl Loading {
    /// Logs that are loaded, and all of them; none before there is one.
    pub fn now(&self) -> Option<(usize, usize)> {
        let total = self.total.load(Ordering::Acquire);
        (total > 0).then(|| (self.loaded.load(Ordering::Acquire).min(total), total))
    }

    /// A directory of so many logs is next.
    pub(super) fn begin<'a>(
        &'a self,
        dir: &'a Path,
        total: usize,
        clean: bool,
        clock: &'a Clock,
    ) -> OneDir<'a> {
        self.total.fetch_add(total, Ordering::AcqRel);
        info!(?dir, logs = total, after_clean_stop = clean, "loading logs");
        let begun_ms = clock.monotonic_ms();
        OneDir {
            all: self,
            dir,
            loaded: 0,
            total,
            clock,
            begun_ms,
            told_ms: begun_ms,
        }
    }
}

/// How far one directory is.
pub(super) struct OneDir<'a> {
    all: &'a Loading,
    dir: &'a Path,
    loaded: usize,
    total: usize,
    clock: &'a Clock,
    begun_ms: i64,
    told_ms: i64,
}

impl OneDir<'_> {
    /// One more log is loaded, or set aside.
    pub(super) fn one_more(&mut self) {
        self.loaded += 1;
        self.all.loaded.fetch_add(1, Ordering::AcqRel);
        let now = self.clock.monotonic_ms();
        if now.saturating_sub(self.told_ms) >= TOLD_EVERY_MS {
            self.told_ms = now;
            info!(dir = ?self.dir, loaded = self.loaded, of = self.total, "loading logs");
        }
    }

    /// It is done.
    pub(super) fn end(self) {
        let ms = self.clock.monotonic_ms().saturating_sub(self.begun_ms);
        info!(dir = ?self.dir, logs = self.loaded, ms, "loaded logs");
    }
}
