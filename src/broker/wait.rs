//! Waiting for a partition's progress: min_bytes of a fetch, acks=all of a produce.
//!
//! A waiter says how many bytes it still lacks; every append below the high watermark takes its size
//! off, and the append that brings it to zero wakes it, once. Nobody polls, and a waiter has one
//! deadline for all its partitions. The watch list of a partition is locked for a few instructions
//! only and is the innermost lock: nothing else is locked while it is held.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::broker::fetch_session::Key;
use crate::common::ids::Offset;

/// More than any append: wakes at once, for a change of leader or the end of a partition.
const EVERYTHING: i64 = i64::MAX / 2;

/// One request that waits.
#[derive(Debug, Default)]
pub struct Waiter {
    missing: AtomicI64,
    notify: Notify,
}

impl Waiter {
    /// A waiter that lacks `missing` bytes.
    pub fn new(missing: i64) -> Arc<Waiter> {
        Arc::new(Waiter {
            missing: AtomicI64::new(missing.clamp(1, EVERYTHING)),
            notify: Notify::new(),
        })
    }

    /// Resolves when enough has arrived; at once if it has already.
    pub async fn enough(&self) {
        self.notify.notified().await;
    }

    fn credit(&self, bytes: i64) {
        let before = self.missing.fetch_sub(bytes, Ordering::AcqRel);
        // Below zero it was woken before, and the permit is still there or was used.
        if before > 0 && before <= bytes {
            self.notify.notify_one();
        }
    }
}

/// Who watches one partition, and how far readers may see.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    visible: Offset,
    epoch: u64,
    /// Each with the offset that readers have to see before it is worth waking.
    waiters: Vec<(Arc<Waiter>, Offset)>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that readers may see up to `visible` now, after `bytes` more.
    pub fn advance(&self, visible: Offset, bytes: u64) {
        let mut watched = self.lock();
        watched.visible = visible;
        let bytes = i64::try_from(bytes).unwrap_or(EVERYTHING).min(EVERYTHING);
        for (waiter, beyond) in &watched.waiters {
            if visible > *beyond {
                waiter.credit(bytes);
            }
        }
    }

    /// Wakes everybody: the role changed, so the answers change.
    pub fn interrupt(&self, visible: Offset) {
        let mut watched = self.lock();
        watched.visible = visible;
        watched.epoch += 1;
        for (waiter, _) in &watched.waiters {
            waiter.credit(EVERYTHING);
        }
    }

    /// Counts the interruptions. Read it before the partition is looked at.
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Lets `waiter` hear of progress beyond what the caller has seen. Progress that happened since
    /// wakes it here, so nothing is missed between a look and a wait.
    pub fn watch(self: &Arc<Self>, waiter: &Arc<Waiter>, seen: Offset, epoch: u64) -> Watching {
        let mut watched = self.lock();
        if watched.visible > seen || watched.epoch != epoch {
            waiter.credit(EVERYTHING);
        }
        watched.waiters.push((waiter.clone(), Offset(i64::MIN)));
        drop(watched);
        self.watching(waiter)
    }

    /// Lets `waiter` hear of nothing but that the record at `offset` is visible, or of an interruption.
    pub fn watch_for(
        self: &Arc<Self>,
        waiter: &Arc<Waiter>,
        offset: Offset,
        epoch: u64,
    ) -> Watching {
        let mut watched = self.lock();
        if watched.visible > offset || watched.epoch != epoch {
            waiter.credit(EVERYTHING);
        }
        watched.waiters.push((waiter.clone(), offset));
        drop(watched);
        self.watching(waiter)
    }

    fn watching(self: &Arc<Self>, waiter: &Arc<Waiter>) -> Watching {
        Watching {
            watchers: self.clone(),
            waiter: waiter.clone(),
        }
    }

    /// How many wait here.
    pub fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }
}

/// The partitions of one follower's session that changed since they were looked at. Unlike a [`Waiter`] it
/// stays with its partitions between two requests, so that an idle session costs nothing for each of them.
#[derive(Debug, Default)]
pub struct Changed {
    keys: Mutex<BTreeSet<Key>>,
    notify: Notify,
}

impl Changed {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, key: &Key) {
        let mut keys = self.lock();
        if !keys.contains(key) {
            keys.insert(key.clone());
        }
        drop(keys);
        self.notify.notify_one();
    }

    /// What changed since this was asked last.
    pub fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.lock())
    }

    /// Resolves when something changes; at once if something has since this resolved last.
    pub async fn marked(&self) {
        self.notify.notified().await;
    }
}

/// The sessions that hear of every change of one partition.
#[derive(Debug, Default)]
pub struct Subscribers(Mutex<Vec<(Weak<Changed>, Key)>>);

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, Vec<(Weak<Changed>, Key)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session hears of this partition from now on, under this name. Call it before the look that
    /// later changes are compared with.
    pub fn add(&self, changed: &Arc<Changed>, key: &Key) {
        let mut all = self.lock();
        let same = |(known, name): &(Weak<Changed>, Key)| {
            std::ptr::eq(known.as_ptr(), Arc::as_ptr(changed)) && name == key
        };
        if !all.iter().any(same) {
            all.retain(|(known, _)| known.strong_count() > 0);
            all.push((Arc::downgrade(changed), key.clone()));
        }
    }

    /// Something changed.
    pub fn mark(&self) {
        for (changed, key) in self.lock().iter() {
            if let Some(changed) = changed.upgrade() {
                changed.mark(key);
            }
        }
    }
}

/// Ends the watch when it is dropped.
#[derive(Debug)]
pub struct Watching {
    watchers: Arc<Watchers>,
    waiter: Arc<Waiter>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        if let Some(index) = watched
            .waiters
            .iter()
            .position(|(waiter, _)| Arc::ptr_eq(waiter, &self.waiter))
        {
            watched.waiters.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fetch_session::TopicKey;
    use std::time::Duration;

    async fn wakes(waiter: &Waiter) -> bool {
        tokio::time::timeout(Duration::from_secs(1), waiter.enough())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_wakes_when_its_bytes_are_there_from_any_partition() {
        let (one, two) = (Arc::new(Watchers::default()), Arc::new(Watchers::default()));
        let waiter = Waiter::new(100);
        let watching = [
            one.watch(&waiter, Offset(0), 0),
            two.watch(&waiter, Offset(0), 0),
        ];
        one.advance(Offset(1), 60);
        assert!(!wakes(&waiter).await);
        two.advance(Offset(1), 40);
        assert!(wakes(&waiter).await);
        drop(watching);
        assert_eq!((one.waiting(), two.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_between_the_look_and_the_wait_is_not_missed() {
        let watchers = Arc::new(Watchers::default());
        let epoch = watchers.epoch();
        watchers.advance(Offset(5), 10);
        let waiter = Waiter::new(1_000);
        let _watching = watchers.watch(&waiter, Offset(4), epoch);
        assert!(wakes(&waiter).await);
        let waiter = Waiter::new(1_000);
        let _watching = watchers.watch(&waiter, Offset(5), epoch);
        assert!(!wakes(&waiter).await);
        watchers.interrupt(Offset(5));
        assert!(wakes(&waiter).await);
        let waiter = Waiter::new(1_000);
        let _watching = watchers.watch(&waiter, Offset(5), epoch);
        assert!(wakes(&waiter).await, "a role change since the look");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_hears_of_each_change_once_and_only_while_it_lives() {
        let key = |index| (TopicKey::Name("t".into()), index);
        let (one, two) = (Subscribers::default(), Subscribers::default());
        let changed = Arc::new(Changed::default());
        one.add(&changed, &key(1));
        two.add(&changed, &key(2));
        one.mark();
        one.mark();
        two.mark();
        changed.marked().await;
        assert_eq!(changed.take(), [key(1), key(2)].into());
        assert_eq!(changed.take(), [].into());
        let idle = tokio::time::timeout(Duration::from_secs(1), changed.marked()).await;
        assert!(idle.is_err());
        two.mark();
        changed.marked().await;
        drop(changed);
        one.mark();
        let other = Arc::new(Changed::default());
        one.add(&other, &key(1));
        assert_eq!(one.lock().len(), 1, "the one that is gone left its place");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_one_record_is_not_woken_by_those_before() {
        let watchers = Arc::new(Watchers::default());
        let waiter = Waiter::new(1);
        let _watching = watchers.watch_for(&waiter, Offset(7), 0);
        watchers.advance(Offset(7), 1_000);
        assert!(!wakes(&waiter).await, "0 to 6 are visible");
        watchers.advance(Offset(8), 1);
        assert!(wakes(&waiter).await);
        let waiter = Waiter::new(1);
        let _late = watchers.watch_for(&waiter, Offset(7), 0);
        assert!(wakes(&waiter).await, "visible already");
    }
}
