//! Q1 to Q6: nothing that was acknowledged is lost, repeated or moved; offsets are dense; a reader skips nothing.
//! The judge is that of the histories of real processes.

use crate::check::history::Event;
use crate::check::queue;

/// Judges a whole history; says how much there was in it.
pub fn check(events: &[Event]) -> String {
    let verdict = queue::judge(events);
    let first: Vec<_> = verdict.breaches.iter().take(20).collect();
    assert!(
        first.is_empty(),
        "{} breaches: {first:#?}",
        verdict.breaches.len()
    );
    // Otherwise it proved nothing.
    assert!(
        verdict.acknowledged > 100,
        "hardly anything was acknowledged"
    );
    assert_eq!(
        verdict.received.min(verdict.acknowledged),
        verdict.acknowledged
    );
    format!(
        "{} sent, {} acknowledged, {} unknown, {} received",
        verdict.sent, verdict.acknowledged, verdict.unknown, verdict.received
    )
}
