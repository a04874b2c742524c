//! Consumer groups: who is a member, who owns which partition, which offsets are committed.

/// The groups that this broker coordinates.
#[derive(Debug, Default)]
pub struct Groups {}
