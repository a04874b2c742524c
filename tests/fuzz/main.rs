//! Seeded loops over everything that reads bytes from outside: nothing may panic, hang, or allocate beyond the
//! frame. The whole process runs under an address-space limit, so an allocation from a length on the wire ends it.
//!
//! `FUZZ_ROUNDS` (default 20000 a loop) and `FUZZ_SEED` (default 1) change the length and the seed; a failure
//! names both. A crash that is found becomes a test of its own beside the code that it broke.

use std::sync::Once;

use tripod::common::rng::Rng;

mod batches;
mod configuration;
mod frames;
mod jute;
mod znodes;

/// The address space of this process: threads' stacks and the test binary included.
const MEMORY_LIMIT: u64 = 2 << 30;

/// The generator of one loop, and how often it shall run.
struct Fuzz {
    rng: Rng,
    rounds: u64,
}

impl Fuzz {
    fn new(name: &str) -> Fuzz {
        static LIMIT: Once = Once::new();
        LIMIT.call_once(|| {
            let limit = rustix::process::Rlimit {
                current: Some(MEMORY_LIMIT),
                maximum: rustix::process::getrlimit(rustix::process::Resource::As).maximum,
            };
            rustix::process::setrlimit(rustix::process::Resource::As, limit)
                .expect("a lower limit");
        });
        let number = |name: &str, default: u64| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let (seed, rounds) = (number("FUZZ_SEED", 1), number("FUZZ_ROUNDS", 20_000));
        eprintln!("{name}: FUZZ_SEED={seed} FUZZ_ROUNDS={rounds}");
        Fuzz {
            rng: Rng::from_seed(seed),
            rounds,
        }
    }

    /// Bytes that look like lengths, counts and text more often than noise does.
    fn bytes(&self, longest: u64) -> Vec<u8> {
        let mut bytes = vec![0u8; self.rng.below(longest + 1) as usize];
        self.rng.fill(&mut bytes);
        let style = self.rng.below(4);
        for byte in &mut bytes {
            match style {
                0 => *byte &= 3,
                1 if self.rng.below(3) > 0 => *byte = 0,
                2 if self.rng.below(3) > 0 => *byte = b' ' + *byte % 95,
                _ => {}
            }
        }
        bytes
    }

    /// Flips, cuts, repeats or overwrites a few places; lengths become extreme values now and then.
    fn mutate(&self, bytes: &mut Vec<u8>) {
        const EXTREMES: [[u8; 4]; 6] = [
            [0x7f, 0xff, 0xff, 0xff],
            [0x80, 0, 0, 0],
            [0xff, 0xff, 0xff, 0xff],
            [0, 0, 0, 0],
            [0xff, 0xff, 0xff, 0x7f],
            [0x03, 0x39, 0x00, 0x00],
        ];
        for _ in 0..=self.rng.below(3) {
            if bytes.is_empty() {
                bytes.extend(self.bytes(16));
                continue;
            }
            let at = self.rng.below(bytes.len() as u64) as usize;
            match self.rng.below(6) {
                0 => bytes[at] ^= 1 << self.rng.below(8),
                1 => bytes[at] = self.rng.next_u64() as u8,
                2 => bytes.truncate(at),
                3 => {
                    let extreme = EXTREMES[self.rng.below(EXTREMES.len() as u64) as usize];
                    for (byte, new) in bytes[at..].iter_mut().zip(extreme) {
                        *byte = new;
                    }
                }
                4 => {
                    let end = (at + self.rng.below(16) as usize).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.extend(self.bytes(8)),
            }
        }
    }
}
