//! The digest of one node, as ZooKeeper 3.6 calculates it (`DigestCalculator`); a tree's is the sum of
//! them, so it follows each change at small cost. The word `hash` shows it: members that show different
//! ones for a zxid are not the same.

use crate::coordinator::tree::tree::{Node, NodeKind};

/// What is below /zookeeper does not count.
const OWN_NODES: &str = "/zookeeper/";
/// `EphemeralType.CONTAINER_EPHEMERAL_OWNER`.
const CONTAINER_OWNER: i64 = i64::MIN;
/// `EphemeralType.TTL`: stands in front of the TTL.
const TTL_OWNER: i64 = 0xff00_0000_0000_0000_u64.cast_signed();

/// The digest of a node.
pub(super) fn of(path: &str, node: &Node) -> u64 {
    if path.starts_with(OWN_NODES) {
        return 0;
    }
    let mut crc = flate2::Crc::new();
    // The root has an empty name, too.
    crc.update(if path == "/" { "" } else { path }.as_bytes());
    crc.update(node.data.as_deref().unwrap_or_default());
    let zxids = [node.czxid, node.mzxid, node.pzxid].map(|zxid| zxid.0);
    let mut stat = [0; 60];
    let longs = zxids.into_iter().chain([node.ctime_ms, node.mtime_ms]);
    for (place, long) in stat[..40].chunks_exact_mut(8).zip(longs) {
        place.copy_from_slice(&long.to_be_bytes());
    }
    let ints = [node.version, node.creates, node.aversion];
    for (place, int) in stat[40..52].chunks_exact_mut(4).zip(ints) {
        place.copy_from_slice(&int.to_be_bytes());
    }
    stat[52..].copy_from_slice(&owner(node.kind).to_be_bytes());
    crc.update(&stat);
    u64::from(crc.sum())
}

/// What ZooKeeper keeps as a node's `ephemeralOwner`.
fn owner(kind: NodeKind) -> i64 {
    match kind {
        NodeKind::Persistent => 0,
        NodeKind::Ephemeral(session) => session.0,
        NodeKind::Container => CONTAINER_OWNER,
        NodeKind::Ttl(ttl_ms) => TTL_OWNER | ttl_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::ids::SessionId;

    #[test]
    fn owners_are_zookeepers() {
        for (kind, expected) in [
            (NodeKind::Persistent, 0),
            (NodeKind::Ephemeral(SessionId(7)), 7),
            (NodeKind::Container, 0x8000_0000_0000_0000),
            (NodeKind::Ttl(5000), 0xff00_0000_0000_1388),
        ] {
            assert_eq!(owner(kind).cast_unsigned(), expected);
        }
    }
}
