//! [`Disk`](super::Disk) in memory, with crashes and faults on demand.
