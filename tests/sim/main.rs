//! Seeded histories on simulated disks, and, with the feature `sim`, on simulated machines and a simulated network:
//! power cuts, torn writes, full disks and I/O errors, processes that die, links that are cut; and after them
//! the promises of [`invariants`].
//!
//! `SIM_SEED` (default 1) is the first seed, `SIM_ROUNDS` says how many follow each other. A failure prints the
//! command that repeats it. On the disks the same seed gives the same history, byte for byte. Among machines
//! the faults and the clients' choices follow from the seed; in which order tokio wakes tasks that are ready
//! at the same moment does not quite, so that a history may differ in detail. `SIM_LOG=tripod=debug` shows it.

#[cfg(feature = "sim")]
#[allow(dead_code, reason = "also for histories of real processes")]
#[path = "../check/mod.rs"]
mod check;
#[cfg(feature = "sim")]
mod cluster;
#[cfg(feature = "sim")]
mod ensemble;
mod invariants;
#[cfg(feature = "sim")]
mod machines;
#[cfg(not(feature = "sim"))]
mod partition_log;
#[cfg(not(feature = "sim"))]
mod raft_log;
mod seeds;

#[cfg(not(feature = "sim"))]
use seeds::Trace;

#[cfg(not(feature = "sim"))]
#[test]
fn a_partition_log_keeps_its_promises() {
    seeds::each(
        "a_partition_log_keeps_its_promises",
        150,
        partition_log::run,
    );
}

#[cfg(not(feature = "sim"))]
#[test]
fn the_raft_log_keeps_its_promises() {
    seeds::each("the_raft_log_keeps_its_promises", 150, raft_log::run);
}

#[cfg(feature = "sim")]
#[test]
fn an_ensemble_keeps_its_promises() {
    seeds::each("an_ensemble_keeps_its_promises", 10, ensemble::run);
}

#[cfg(feature = "sim")]
#[test]
fn a_cluster_keeps_its_promises() {
    seeds::each("a_cluster_keeps_its_promises", 4, cluster::run);
}

/// A simulation that could not fail would prove nothing.
#[cfg(feature = "sim")]
#[test]
fn disks_that_lie_break_an_ensembles_promises() {
    seeds::some_fails(10, ensemble::run_on_lying_disks);
}

#[cfg(not(feature = "sim"))]
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
