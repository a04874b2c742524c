//! What one connection still has to send: replies and watch events in their order, as wire bytes.
//!
//! Whoever holds the replica's lock may append, so an event lies in front of every reply that shows
//! its change. Bounded: a client that does not read its events is cut off.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::zookeeper::message::{EventType, put_event};

/// Unsent bytes beyond which events end the connection. A reply does not count, however long it is.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Bytes to send, and whether to go on after them.
#[derive(Debug, Default)]
pub struct Outbox {
    unsent: Mutex<Unsent>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Unsent {
    bytes: BytesMut,
    /// How many of them are events.
    event_bytes: usize,
    is_closed: bool,
}

impl Outbox {
    /// Appends reply bytes. The caller is the connection itself, which sends them soon: no wake.
    pub fn put(&self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.lock().bytes);
    }

    /// Appends a watch event and wakes the connection.
    pub fn event(&self, kind: EventType, path: &str) {
        let mut unsent = self.lock();
        if unsent.event_bytes > EVENT_BYTES_MAX {
            unsent.is_closed = true;
        } else {
            let before = unsent.bytes.len();
            put_event(&mut unsent.bytes, kind, path);
            unsent.event_bytes += unsent.bytes.len() - before;
        }
        drop(unsent);
        self.wake.notify_one();
    }

    /// Ends the connection after what is unsent.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// How many bytes are unsent.
    pub fn unsent(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Was it closed?
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes what is unsent, and the memory that it lies in.
    pub fn take(&self) -> BytesMut {
        let mut unsent = self.lock();
        unsent.event_bytes = 0;
        std::mem::take(&mut unsent.bytes)
    }

    /// Resolves when somebody else appended or closed.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
