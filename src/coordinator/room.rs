//! Bytes that the connections of one member may have in memory together.
//!
//! Whoever needs some waits in line, first come first served, and what is in line is bounded by not
//! reading the socket. Short requests have a room of their own: a flood of long ones must not keep them,
//! or the pings behind them, waiting. Nothing here does I/O.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests and replies of at most so many bytes are short.
pub const SHORT_BYTES_MAX: usize = 64 << 10;
/// Requests that are so short are bounded by their number alone; pings are.
pub const TINY_BYTES_MAX: usize = 128;
/// Long requests, from before their bytes are read until they are applied.
const LONG_REQUEST_BYTES: usize = 8 << 20;
/// The same for short ones.
const SHORT_REQUEST_BYTES: usize = 8 << 20;
/// Long replies, from before they are made until they are sent.
const LONG_REPLY_BYTES: usize = 8 << 20;

/// Some bytes of a room. Dropping gives them back.
pub type Held = OwnedSemaphorePermit;

/// A number of bytes that many share.
#[derive(Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
    wanted: AtomicUsize,
}

impl Room {
    fn new(bytes: usize) -> Room {
        Room {
            free: Arc::new(Semaphore::new(bytes)),
            bytes,
            wanted: AtomicUsize::new(0),
        }
    }

    /// What `bytes` count as: something larger than the whole room takes all of it.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX)
    }

    /// Does anybody wait?
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// Bytes that somebody holds.
    pub fn held(&self) -> usize {
        self.bytes - self.free.available_permits().min(self.bytes)
    }
}

/// Counts one that waits, however it ends.
struct Wanted(Arc<Room>);

impl Wanted {
    fn new(room: &Arc<Room>) -> Wanted {
        room.wanted.fetch_add(1, Relaxed);
        Wanted(room.clone())
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Relaxed);
    }
}

/// The rooms of one member.
#[derive(Clone, Debug)]
pub struct Rooms {
    short: Arc<Room>,
    long: Arc<Room>,
    /// For long replies; short ones are bounded by what each connection may have unsent.
    pub replies: Arc<Room>,
}

impl Default for Rooms {
    fn default() -> Rooms {
        Rooms {
            short: Arc::new(Room::new(SHORT_REQUEST_BYTES)),
            long: Arc::new(Room::new(LONG_REQUEST_BYTES)),
            replies: Arc::new(Room::new(LONG_REPLY_BYTES)),
        }
    }
}

impl Rooms {
    /// Where a request of `bytes` bytes has to find room; `None` if it needs none.
    pub fn for_request(&self, bytes: usize) -> Option<&Arc<Room>> {
        let room = if bytes > SHORT_BYTES_MAX {
            &self.long
        } else {
            &self.short
        };
        (bytes > TINY_BYTES_MAX).then_some(room)
    }

    /// Bytes of requests that are being read or wait for raft.
    pub fn request_bytes(&self) -> usize {
        self.short.held() + self.long.held()
    }
}

/// One connection's place in a room, or in the line before it. It keeps its place in the line while the
/// connection does other things.
#[derive(Default)]
pub enum Place {
    /// Nothing was asked for.
    #[default]
    None,
    /// In line.
    Waiting(
        Arc<Room>,
        Pin<Box<dyn Future<Output = Option<Held>> + Send + Sync>>,
    ),
    /// Inside. `None`: it needs no room.
    Inside(Option<(Arc<Room>, Held)>),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::None => "None",
            Place::Waiting(..) => "Waiting",
            Place::Inside(_) => "Inside",
        })
    }
}

impl Place {
    /// Asks for `bytes` of `room`, unless it was asked before. Says whether they are there.
    pub fn ask(&mut self, room: Option<&Arc<Room>>, bytes: usize) -> bool {
        if matches!(self, Place::None) {
            let Some(room) = room else {
                *self = Place::Inside(None);
                return true;
            };
            let share = room.share(bytes);
            *self = match room.free.clone().try_acquire_many_owned(share) {
                Ok(held) => Place::Inside(Some((room.clone(), held))),
                Err(_) => {
                    let wanted = Wanted::new(room);
                    let wait = async move {
                        let free = wanted.0.free.clone();
                        // A room is never closed.
                        free.acquire_many_owned(share).await.ok()
                    };
                    Place::Waiting(room.clone(), Box::pin(wait))
                }
            };
        }
        self.is_inside()
    }

    /// Is it in line?
    pub fn is_waiting(&self) -> bool {
        matches!(self, Place::Waiting(..))
    }

    /// Is it inside?
    pub fn is_inside(&self) -> bool {
        matches!(self, Place::Inside(_))
    }

    /// Is it inside a room that somebody else waits for?
    pub fn is_envied(&self) -> bool {
        matches!(self, Place::Inside(Some((room, _))) if room.is_wanted())
    }

    /// Resolves when it is inside; at once unless it is in line.
    pub async fn inside(&mut self) {
        if let Place::Waiting(room, wait) = self {
            let held = wait.await;
            *self = Place::Inside(held.map(|held| (room.clone(), held)));
        }
    }

    /// Leaves, and hands over what it held.
    pub fn leave(&mut self) -> Option<Held> {
        match std::mem::take(self) {
            Place::Inside(Some((_, held))) => Some(held),
            Place::None | Place::Waiting(..) | Place::Inside(None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_came_first_is_inside_first_and_short_ones_do_not_wait_for_long_ones() {
        let rooms = Rooms::default();
        let long = rooms.for_request(SHORT_BYTES_MAX + 1).cloned();
        let (mut first, mut second, mut third) = (Place::None, Place::None, Place::None);
        // Larger than everything is all of it.
        assert!(first.ask(long.as_ref(), usize::MAX));
        assert_eq!(rooms.request_bytes(), LONG_REQUEST_BYTES);
        assert!(!first.is_envied());
        assert!(!second.ask(long.as_ref(), LONG_REQUEST_BYTES));
        assert!(!third.ask(long.as_ref(), 1));
        assert!(first.is_envied() && second.is_waiting() && third.is_waiting());
        let mut short = Place::None;
        assert!(short.ask(rooms.for_request(SHORT_BYTES_MAX), SHORT_BYTES_MAX));
        assert!(Place::None.ask(rooms.for_request(TINY_BYTES_MAX), TINY_BYTES_MAX));
        drop(first.leave());
        second.inside().await;
        assert!(second.is_envied() && third.is_waiting());
        // One that goes away leaves the line.
        drop(third);
        assert!(!second.is_envied());
        drop((second, short));
        assert_eq!(rooms.request_bytes(), 0);
    }
}
