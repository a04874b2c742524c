//! Runs a history for each seed, and keeps what happened for the one that fails.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Steps that are printed of a history that failed.
const STEPS_SHOWN: usize = 40;

/// What happened, as a hash of all and the text of the last steps.
pub struct Trace {
    hash: u64,
    last: VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            last: VecDeque::new(),
        }
    }
}

impl Trace {
    /// Notes a step.
    pub fn note(&mut self, step: fmt::Arguments<'_>) {
        let text = step.to_string();
        for byte in text.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.last.len() == STEPS_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// Equal for equal histories.
    #[cfg(not(feature = "sim"))]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Runs the history of every seed.
pub fn each(test: &str, rounds: u64, run: fn(u64, &mut Trace)) {
    let number = |name: &str, default: u64| {
        let said = std::env::var(name).ok();
        said.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (first, rounds) = (number("SIM_SEED", 1), number("SIM_ROUNDS", rounds));
    let features = if cfg!(feature = "sim") {
        "--features sim "
    } else {
        ""
    };
    for seed in first..first.saturating_add(rounds) {
        let mut trace = Trace::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &mut trace)));
        if let Err(panic) = outcome {
            for step in &trace.last {
                eprintln!("  {step}");
            }
            eprintln!(
                "seed {seed} failed; repeat it with\n  SIM_SEED={seed} SIM_ROUNDS=1 cargo test {features}--test sim -- {test}"
            );
            resume_unwind(panic);
        }
    }
}

/// Runs histories until one fails, which has to be.
#[cfg(feature = "sim")]
pub fn some_fails(rounds: u64, run: fn(u64, &mut Trace)) {
    let fails = |seed| {
        let mut trace = Trace::default();
        catch_unwind(AssertUnwindSafe(|| run(seed, &mut trace))).is_err()
    };
    assert!((1..=rounds).any(fails), "none of {rounds} histories failed");
}
