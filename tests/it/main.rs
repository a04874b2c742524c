//! Both halves in one process, over their real protocols.
//!
//! * `cluster` — the harness: a coordinator and brokers on ports that the system chooses.
//! * `znodes` — what brokers make of znodes: their own, a tool's, a stranger's.

mod cluster;
mod znodes;
