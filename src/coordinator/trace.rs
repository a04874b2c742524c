//! ZooKeeper's trace mask: which kinds of messages are traced, if the log is at trace level at all.
//! `gtmk` shows it, `stmk` sets it. Here requests, pings and sessions are traced; the other
//! bits are kept and stand for nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use tracing::trace;

use crate::common::ids::SessionId;
use crate::zookeeper::message::{RequestHeader, op};

const CLIENT_REQUEST: i64 = 1 << 1;
const CLIENT_PING: i64 = 1 << 3;
const SERVER_PACKET: i64 = 1 << 4;
const SESSION: i64 = 1 << 5;
const WARNING: i64 = 1 << 8;

/// The mask of one member.
#[derive(Debug)]
pub struct TraceMask(AtomicI64);

impl Default for TraceMask {
    fn default() -> TraceMask {
        let mask = CLIENT_REQUEST | SERVER_PACKET | SESSION | WARNING;
        TraceMask(AtomicI64::new(mask))
    }
}

impl TraceMask {
    /// The mask.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces it.
    pub fn set(&self, mask: i64) {
        self.0.store(mask, Ordering::Relaxed);
        tracing::info!("Set text trace mask to {mask:#x}");
    }

    fn has(&self, bit: i64) -> bool {
        self.get() & bit != 0
    }

    /// A client's request.
    pub fn request(&self, session: SessionId, header: &RequestHeader) {
        let bit = match header.op {
            op::PING => CLIENT_PING,
            _ => CLIENT_REQUEST,
        };
        if self.has(bit) {
            trace!(
                session = format_args!("{:#x}", session.0),
                xid = header.xid,
                op = header.op,
                "request"
            );
        }
    }

    /// A session that begins, moves or ends here.
    pub fn session(&self, session: SessionId, what: &str) {
        if self.has(SESSION) {
            trace!(session = format_args!("{:#x}", session.0), "session {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_begins_as_zookeepers() {
        assert_eq!(TraceMask::default().get(), 306);
    }
}
