//! The driver over a real log in memory.
