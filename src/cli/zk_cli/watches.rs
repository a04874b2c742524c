//! Which watches the shell has left on the server: what `removewatches` may take away. Pure.

use std::collections::BTreeSet;

use crate::zookeeper::message::{
    EventType, Request, SetWatches2Request, SetWatchesRequest, watcher_type,
};

/// How many bytes of paths one request may hold; the Java client's bound.
const SET_WATCHES_BYTES_MAX: usize = 128 * 1024;

/// The kinds of watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Of a node's children.
    Child,
    /// Of a node's data.
    Data,
    /// Of a node that is not there yet.
    Exist,
    /// Stays when it fires.
    Persistent,
    /// Stays, and tells of what is below the node too.
    Recursive,
}

impl Kind {
    /// The event that tells of its removal.
    fn removed(self) -> &'static str {
        match self {
            Kind::Child => "ChildWatchRemoved",
            Kind::Data | Kind::Exist => "DataWatchRemoved",
            Kind::Persistent | Kind::Recursive => "PersistentWatchRemoved",
        }
    }

    fn is_meant_by(self, wanted: i32) -> bool {
        match wanted {
            watcher_type::CHILDREN => self == Kind::Child,
            watcher_type::DATA => matches!(self, Kind::Data | Kind::Exist),
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

    /// What sets them again on a new connection, in requests of a size that a server takes. Without
    /// persistent watches it is the request that servers before 3.6 know, too.
    pub(super) fn again(&self, seen_zxid: i64, rooted: impl Fn(&str) -> String) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut record = empty(seen_zxid);
        let mut bytes = 0;
        for (path, kind) in &self.set {
            let path = rooted(path);
            bytes += path.len() + 4;
            match kind {
                Kind::Child => record.child.push(path),
                Kind::Data => record.data.push(path),
                Kind::Exist => record.exist.push(path),
                Kind::Persistent => record.persistent.push(path),
                Kind::Recursive => record.persistent_recursive.push(path),
            }
            if bytes > SET_WATCHES_BYTES_MAX {
                requests.push(request(std::mem::replace(&mut record, empty(seen_zxid))));
                bytes = 0;
            }
        }
        if bytes > 0 {
            requests.push(request(record));
        }
        requests
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
            self.set.remove(&(path.to_owned(), Kind::Exist));
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

fn empty(relative_zxid: i64) -> SetWatches2Request {
    SetWatches2Request {
        relative_zxid,
        data: Vec::new(),
        exist: Vec::new(),
        child: Vec::new(),
        persistent: Vec::new(),
        persistent_recursive: Vec::new(),
    }
}

fn request(record: SetWatches2Request) -> Request {
    if record.persistent.is_empty() && record.persistent_recursive.is_empty() {
        Request::SetWatches(SetWatchesRequest {
            relative_zxid: record.relative_zxid,
            data: record.data,
            exist: record.exist,
            child: record.child,
        })
    } else {
        Request::SetWatches2(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_set_again_in_the_oldest_words_that_do() {
        let mut watches = Watches::default();
        assert!(watches.again(7, str::to_owned).is_empty());
        watches.add("/d", Kind::Data);
        watches.add("/e", Kind::Exist);
        watches.add("/c", Kind::Child);
        let rooted = |path: &str| format!("/root{path}");
        let Some(Request::SetWatches(old)) = watches.again(7, rooted).pop() else {
            panic!("not setWatches");
        };
        assert_eq!((old.relative_zxid, old.data), (7, vec!["/root/d".into()]));
        assert_eq!(old.exist, ["/root/e"]);
        assert_eq!(old.child, ["/root/c"]);
        watches.add("/p", Kind::Persistent);
        watches.add("/r", Kind::Recursive);
        let Some(Request::SetWatches2(new)) = watches.again(8, rooted).pop() else {
            panic!("not setWatches2");
        };
        assert_eq!(new.persistent, ["/root/p"]);
        assert_eq!(new.persistent_recursive, ["/root/r"]);
        for n in 0..3 {
            watches.add(&format!("/{n}{}", "x".repeat(100_000)), Kind::Data);
        }
        assert_eq!(watches.again(9, rooted).len(), 2);
    }

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
        assert_eq!(watches.again(1, str::to_owned), []);
    }
}
