//! The controller: the one broker that owns `/controller` and decides who leads what.
//!
//! [`decide`] and [`assign`] are pure; [`election`] takes and loses the office; [`driver`] turns each
//! image into multis of guarded writes. The controller tells nobody anything: it writes znodes, and
//! every broker's image sees them.

pub mod assign;
pub mod decide;
pub mod driver;
pub mod election;
