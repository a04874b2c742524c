//! Which watches the shell has left on the server: what `removewatches` may take away. Pure.

use std::collections::BTreeSet;

use crate::zookeeper::message::{EventType, watcher_type};

/// The kinds of watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Of a node's children.
    Child,
    /// Of a node's data, or of a node that is not there yet.
    Data,
    /// Stays when it fires; with or without what is below the node.
    Persistent,
}

impl Kind {
    /// The event that tells of its removal.
    fn removed(self) -> &'static str {
        match self {
            Kind::Child => "ChildWatchRemoved",
            Kind::Data => "DataWatchRemoved",
            Kind::Persistent => "PersistentWatchRemoved",
        }
    }

    fn is_meant_by(self, wanted: i32) -> bool {
        match wanted {
            watcher_type::CHILDREN => self == Kind::Child,
            watcher_type::DATA => self == Kind::Data,
            _ => true,
        }
    }
}

/// The watches of one connection.
#[derive(Debug, Default)]
pub(super) struct Watches {
    set: BTreeSet<(String, Kind)>,
}

impl Watches {
    /// A watch was left.
    pub(super) fn add(&mut self, path: &str, kind: Kind) {
        self.set.insert((path.to_owned(), kind));
    }

    /// Is any left?
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// All are gone.
    pub(super) fn clear(&mut self) {
        self.set.clear();
    }

    /// A watch fired: those that fire once are gone.
    pub(super) fn fired(&mut self, event: EventType, path: &str) {
        let (data, child) = match event {
            EventType::NodeCreated | EventType::NodeDataChanged => (true, false),
            EventType::NodeChildrenChanged => (false, true),
            EventType::NodeDeleted => (true, true),
        };
        if data {
            self.set.remove(&(path.to_owned(), Kind::Data));
        }
        if child {
            self.set.remove(&(path.to_owned(), Kind::Child));
        }
    }

    /// Is there a watch of this [`watcher_type`]?
    pub(super) fn has(&self, path: &str, wanted: i32) -> bool {
        self.set
            .iter()
            .any(|(watched, kind)| watched == path && kind.is_meant_by(wanted))
    }

    /// Takes them away; answers the events that tell of it.
    pub(super) fn remove(&mut self, path: &str, wanted: i32) -> Vec<&'static str> {
        let gone: Vec<_> = self
            .set
            .iter()
            .filter(|(watched, kind)| watched == path && kind.is_meant_by(wanted))
            .cloned()
            .collect();
        gone.into_iter()
            .map(|watch| {
                self.set.remove(&watch);
                watch.1.removed()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fired_watches_are_gone_and_persistent_ones_stay() {
        let mut watches = Watches::default();
        for kind in [Kind::Child, Kind::Data, Kind::Persistent] {
            watches.add("/a", kind);
        }
        watches.fired(EventType::NodeDataChanged, "/a");
        assert!(!watches.has("/a", watcher_type::DATA));
        assert!(watches.has("/a", watcher_type::CHILDREN));
        watches.fired(EventType::NodeDeleted, "/a");
        assert!(!watches.has("/a", watcher_type::CHILDREN));
        assert_eq!(
            watches.remove("/a", watcher_type::ANY),
            ["PersistentWatchRemoved"]
        );
        assert!(watches.is_empty());
    }
}
