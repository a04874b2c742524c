//! Who waits for which change: one-shot, persistent and recursive watches. Pure.
//!
//! Watches belong to a connection and are gone with it. One change tells one connection once, however
//! many of its watches match.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::tree::op::ConnectionId;
use crate::zookeeper::message::EventType;
use crate::zookeeper::path;

/// One connection may hold this many; beyond it, it is a leak and not a client.
pub const WATCHES_PER_CONNECTION_MAX: usize = 1 << 18;

/// What kind of watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKind {
    /// Left by getData and exists: created, deleted, data changed; fires once.
    Data,
    /// Left by getChildren: children changed, deleted; fires once.
    Child,
    /// addWatch mode 0: everything about the node, until it is removed.
    Persistent,
    /// addWatch mode 1: the node and everything below it, but no children events.
    Recursive,
}

/// All watches of one member.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: BTreeMap<WatchKind, BTreeMap<String, BTreeSet<ConnectionId>>>,
    by_connection: BTreeMap<ConnectionId, BTreeSet<(WatchKind, String)>>,
}

impl Watches {
    /// Arms a watch; says no if this connection has too many.
    pub fn add(&mut self, connection: ConnectionId, kind: WatchKind, path: &str) -> bool {
        let own = self.by_connection.entry(connection).or_default();
        if own.len() >= WATCHES_PER_CONNECTION_MAX {
            return false;
        }
        if own.insert((kind, path.to_owned())) {
            let paths = self.by_path.entry(kind).or_default();
            paths.entry(path.to_owned()).or_default().insert(connection);
        }
        true
    }

    /// Whom to tell of a change. One-shot watches that match are gone afterwards.
    pub fn fire(&mut self, event: EventType, changed: &str) -> BTreeSet<ConnectionId> {
        let mut told = BTreeSet::new();
        if matches!(
            event,
            EventType::NodeDeleted | EventType::NodeChildrenChanged
        ) {
            told.extend(self.take(WatchKind::Child, changed));
        }
        if event != EventType::NodeChildrenChanged {
            told.extend(self.take(WatchKind::Data, changed));
            if let Some(recursive) = self.by_path.get(&WatchKind::Recursive)
                && !recursive.is_empty()
            {
                let mut at = Some(changed);
                while let Some(ancestor) = at {
                    told.extend(recursive.get(ancestor).into_iter().flatten());
                    at = path::parent(ancestor).filter(|_| ancestor != "/");
                }
            }
        }
        if let Some(persistent) = self.by_path.get(&WatchKind::Persistent) {
            told.extend(persistent.get(changed).into_iter().flatten());
        }
        told
    }

    fn take(&mut self, kind: WatchKind, path: &str) -> BTreeSet<ConnectionId> {
        let taken = self
            .by_path
            .get_mut(&kind)
            .and_then(|paths| paths.remove(path))
            .unwrap_or_default();
        for connection in &taken {
            if let Some(own) = self.by_connection.get_mut(connection) {
                own.remove(&(kind, path.to_owned()));
            }
        }
        taken
    }

    /// Does this connection have such a watch?
    pub fn has(&self, connection: ConnectionId, kind: WatchKind, path: &str) -> bool {
        self.by_path
            .get(&kind)
            .and_then(|paths| paths.get(path))
            .is_some_and(|connections| connections.contains(&connection))
    }

    /// Removes one watch; says whether it was there.
    pub fn remove(&mut self, connection: ConnectionId, kind: WatchKind, path: &str) -> bool {
        let was_there = self
            .by_connection
            .get_mut(&connection)
            .is_some_and(|own| own.remove(&(kind, path.to_owned())));
        if was_there {
            self.forget(connection, kind, path);
        }
        was_there
    }

    /// Removes all watches of a connection.
    pub fn drop_connection(&mut self, connection: ConnectionId) {
        for (kind, path) in self.by_connection.remove(&connection).unwrap_or_default() {
            self.forget(connection, kind, &path);
        }
    }

    fn forget(&mut self, connection: ConnectionId, kind: WatchKind, path: &str) {
        if let Some(paths) = self.by_path.get_mut(&kind)
            && let Some(connections) = paths.get_mut(path)
        {
            connections.remove(&connection);
            if connections.is_empty() {
                paths.remove(path);
            }
        }
    }

    /// How many watches there are. One that stays is both a data and a child watch in ZooKeeper.
    pub fn count(&self) -> usize {
        let all = self.by_connection.values().flatten();
        all.map(|(kind, _)| match kind {
            WatchKind::Data | WatchKind::Child => 1,
            WatchKind::Persistent | WatchKind::Recursive => 2,
        })
        .sum()
    }

    /// What the words call watches: those of data, also if they stay.
    pub fn of_data(&self) -> BTreeMap<ConnectionId, BTreeSet<&str>> {
        let mut found: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for (connection, watches) in &self.by_connection {
            for (_, path) in watches.iter().filter(|(kind, _)| *kind != WatchKind::Child) {
                found.entry(*connection).or_default().insert(path);
            }
        }
        found
    }

    /// What `wchs` counts: connections, paths and watches.
    pub fn summary(&self) -> (usize, usize, usize) {
        let found = self.of_data();
        let paths: BTreeSet<_> = found.values().flatten().collect();
        (
            found.len(),
            paths.len(),
            found.values().map(BTreeSet::len).sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventType::*;
    use WatchKind::*;

    const ME: ConnectionId = ConnectionId(1);
    const YOU: ConnectionId = ConnectionId(2);

    #[test]
    fn who_is_told_of_what() {
        for (kind, at, event, changed, told, stays) in [
            (Data, "/a", NodeCreated, "/a", true, false),
            (Data, "/a", NodeDataChanged, "/a", true, false),
            (Data, "/a", NodeDeleted, "/a", true, false),
            (Data, "/a", NodeChildrenChanged, "/a", false, true),
            (Data, "/a", NodeCreated, "/a/b", false, true),
            (Child, "/a", NodeChildrenChanged, "/a", true, false),
            (Child, "/a", NodeDeleted, "/a", true, false),
            (Child, "/a", NodeDataChanged, "/a", false, true),
            (Persistent, "/a", NodeDataChanged, "/a", true, true),
            (Persistent, "/a", NodeChildrenChanged, "/a", true, true),
            (Persistent, "/a", NodeCreated, "/a/b", false, true),
            (Recursive, "/a", NodeCreated, "/a/b/c", true, true),
            (Recursive, "/", NodeDeleted, "/a/b", true, true),
            (Recursive, "/a", NodeChildrenChanged, "/a", false, true),
            (Recursive, "/a", NodeCreated, "/ab", false, true),
        ] {
            let mut watches = Watches::default();
            watches.add(ME, kind, at);
            let row = format!("{kind:?} {at} {event:?} {changed}");
            assert_eq!(watches.fire(event, changed).contains(&ME), told, "{row}");
            assert_eq!(watches.has(ME, kind, at), stays, "{row}");
        }
    }

    #[test]
    fn a_delete_tells_each_connection_once() {
        let mut watches = Watches::default();
        for kind in [Data, Child, Persistent, Recursive] {
            watches.add(ME, kind, "/a");
        }
        watches.add(YOU, Child, "/a");
        let told: Vec<_> = watches.fire(NodeDeleted, "/a").into_iter().collect();
        assert_eq!(told, [ME, YOU]);
        assert_eq!(watches.count(), 4, "two that stay");
        assert_eq!(watches.summary(), (1, 1, 1));
    }

    #[test]
    fn watches_go_with_their_connection() {
        let mut watches = Watches::default();
        watches.add(ME, Data, "/a");
        watches.add(YOU, Data, "/a");
        watches.add(ME, Data, "/b");
        assert_eq!(watches.summary(), (2, 2, 3));
        assert!(watches.remove(ME, Data, "/b"));
        assert!(!watches.remove(ME, Data, "/b"));
        watches.drop_connection(ME);
        assert_eq!(watches.summary(), (1, 1, 1));
        assert_eq!(watches.count(), 1);
    }
}
