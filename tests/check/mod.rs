//! Judges of histories. They know nothing of tripod: a history is lines of JSON, and anybody's will do.

pub mod history;
pub mod queue;
pub mod znodes;
