//! Quotas as ZooKeeper 3.6 has them: /zookeeper/quota/PATH/zookeeper_limits says how many nodes and bytes
//! there should be at and below PATH, zookeeper_stats beside it how many there are. Nothing is refused.
//!
//! The counts are node data, so they are in snapshots and the same on every member; they change with the
//! transaction that changes what they count, but neither version nor mzxid tells of it (`DataTree`).

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

use crate::coordinator::tree::tree::{Event, Tree, Txn};

const QUOTA_PATH: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What both nodes of a quota hold: `count=5,bytes=-1`. −1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Track {
    count: i32,
    bytes: i64,
}

impl Track {
    fn parse(data: Option<&Bytes>) -> Option<Track> {
        let text = std::str::from_utf8(data?).ok()?;
        let (count, bytes) = text.split_once(',')?;
        Some(Track {
            count: count.split_once('=')?.1.parse().ok()?,
            bytes: bytes.split_once('=')?.1.parse().ok()?,
        })
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)
    }
}

/// A quota that is exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The node that has the quota.
    pub path: String,
    /// `count` or `bytes`.
    pub what: &'static str,
    /// How much there is.
    pub found: i64,
    /// How much there should be at most.
    pub limit: i64,
}

/// The node that a limits node is about; none for any other node.
pub(super) fn limited_by(path: &str) -> Option<&str> {
    named(path, LIMITS)
}

/// The node that /zookeeper/quota/NODE/`name` is about. The root has no quota.
fn named<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let node = path.strip_prefix(QUOTA_PATH)?.strip_suffix(name)?;
    node.strip_suffix('/').filter(|node| node.starts_with('/'))
}

/// By how much a node's data grew.
pub(super) fn change(before: usize, after: usize) -> i64 {
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(after).saturating_sub(signed(before))
}

impl Tree {
    /// Counts a change at `path` where the nearest quota above is kept.
    pub(super) fn count(&mut self, txn: &mut Txn<'_>, path: &str, bytes: i64, nodes: i32) {
        let Some(limited) = self.quota_above(path).map(str::to_owned) else {
            return;
        };
        let stats_path = format!("{QUOTA_PATH}{limited}/{STATS}");
        let Some(node) = self.get(&stats_path) else {
            return;
        };
        let undo = node.before(&stats_path);
        let track = match Track::parse(node.data.as_ref()) {
            Some(known) => Track {
                count: known.count.wrapping_add(nodes),
                bytes: known.bytes.wrapping_add(bytes),
            },
            // Somebody wrote something else there.
            None => self.all_below(&limited),
        };
        txn.undo.push(undo);
        self.keep(&stats_path, track);
        let limits = self.get(&format!("{QUOTA_PATH}{limited}/{LIMITS}"));
        let Some(limits) = limits.and_then(|node| Track::parse(node.data.as_ref())) else {
            return;
        };
        for (what, found, limit) in [
            ("count", i64::from(track.count), i64::from(limits.count)),
            ("bytes", track.bytes, limits.bytes),
        ] {
            if limit > -1 && limit < found {
                txn.events.push(Event::QuotaExceeded(Excess {
                    path: limited.clone(),
                    what,
                    found,
                    limit,
                }));
            }
        }
    }

    /// A new stats node begins with what is there.
    pub(super) fn begin_count(&mut self, txn: &mut Txn<'_>, path: &str) {
        let Some(limited) = named(path, STATS) else {
            return;
        };
        let track = self.all_below(limited);
        if let Some(node) = self.get(path) {
            txn.undo.push(node.before(path));
            self.keep(path, track);
        }
    }

    /// Counts everything anew: data that a version wrote which did not count.
    pub(super) fn count_all(&mut self) {
        for limited in self.quotas.clone() {
            let track = self.all_below(&limited);
            self.keep(&format!("{QUOTA_PATH}{limited}/{STATS}"), track);
        }
    }

    /// The longest of the paths with a quota that `path` is at or below (`PathTrie.findMaxPrefix`).
    fn quota_above<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.quotas.is_empty() {
            return None;
        }
        let mut end = path.len();
        while end > 0 {
            if self.quotas.contains(&path[..end]) {
                return Some(&path[..end]);
            }
            end = path[..end].rfind('/').unwrap_or(0);
        }
        None
    }

    /// What is at and below a node.
    fn all_below(&self, path: &str) -> Track {
        let mut track = Track::default();
        let mut add = |bytes: usize| {
            track.count = track.count.wrapping_add(1);
            track.bytes = track.bytes.wrapping_add(change(0, bytes));
        };
        let Some(node) = self.get(path) else {
            return track;
        };
        add(node.data_bytes());
        let prefix = format!("{path}/");
        let from = (Bound::Excluded(prefix.clone()), Bound::Unbounded);
        for (path, node) in self.nodes.range(from) {
            if !path.starts_with(&prefix) {
                break;
            }
            add(node.data_bytes());
        }
        track
    }

    fn keep(&mut self, path: &str, track: Track) {
        let Some(node) = self.nodes.get_mut(path) else {
            return;
        };
        let before = node.data_bytes() as u64;
        node.data = Some(Bytes::from(track.to_string()));
        self.data_bytes = self.data_bytes - before + node.data_bytes() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_nodes_are_known_by_their_paths() {
        for (path, limited) in [
            ("/zookeeper/quota/a/zookeeper_limits", Some("/a")),
            ("/zookeeper/quota/a/b/zookeeper_limits", Some("/a/b")),
            ("/zookeeper/quota/zookeeper_limits", None),
            ("/zookeeper/quota/a/zookeeper_stats", None),
            ("/zookeeper/quota/a/xzookeeper_limits", None),
            ("/zookeeper/quotas/a/zookeeper_limits", None),
            ("/a/zookeeper_limits", None),
        ] {
            assert_eq!(limited_by(path), limited, "{path}");
        }
    }

    #[test]
    fn tracks_are_read_and_written() {
        let parse = |text: &'static str| Track::parse(Some(&Bytes::from_static(text.as_bytes())));
        let track = parse("count=5,bytes=-1").expect("good");
        assert_eq!((track.count, track.bytes), (5, -1));
        assert_eq!(track.to_string(), "count=5,bytes=-1");
        for text in ["", "count=5", "count=x,bytes=1", "5,6"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Track::parse(None), None);
    }
}
