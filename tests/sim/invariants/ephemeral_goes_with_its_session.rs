//! Z4: no ephemeral node is without its session, in any state that a member ever has.

use tripod::coordinator::replica::Replica;

/// Looks at one member's state.
pub fn check(replica: &Replica) {
    let of_sessions: usize = replica.ephemerals().values().map(Vec::len).sum();
    assert_eq!(
        of_sessions,
        replica.counts().ephemerals,
        "ephemeral nodes of sessions, and all ephemeral nodes"
    );
}
