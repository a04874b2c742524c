//! [`Store`](super::Store) as one append-only file over the disk seam, for simulation.
