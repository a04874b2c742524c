//! Seeded histories on the simulated disk: power cuts, torn writes, full disks and I/O errors, and after
//! each of them the promises of [`invariants`].
//!
//! `SIM_SEED` (default 1) is the first seed, `SIM_ROUNDS` (default 150) says how many follow each other. A
//! failure prints the command that repeats it: the same seed gives the same history, byte for byte.

mod invariants;
mod partition_log;
mod raft_log;
mod seeds;

use seeds::Trace;

#[test]
fn a_partition_log_keeps_its_promises() {
    seeds::each("a_partition_log_keeps_its_promises", partition_log::run);
}

#[test]
fn the_raft_log_keeps_its_promises() {
    seeds::each("the_raft_log_keeps_its_promises", raft_log::run);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for run in [
        partition_log::run as fn(u64, &mut Trace),
        raft_log::run as fn(u64, &mut Trace),
    ] {
        let mut hashes = Vec::new();
        for seed in [1, 2, 3, 1, 2, 3] {
            let mut trace = Trace::default();
            run(seed, &mut trace);
            hashes.push(trace.hash());
        }
        assert_eq!(hashes[..3], hashes[3..]);
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    }
}
