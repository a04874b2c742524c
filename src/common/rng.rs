//! Seeded randomness; the only place that asks the operating system for entropy.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A source of random values. Clones share one stream; [`Rng::fork`] starts another.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// Seeded by the operating system: unpredictable, fit for session passwords.
    pub fn from_os() -> Rng {
        Rng(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The same stream for the same seed, for tests and simulation.
    pub fn from_seed(seed: u64) -> Rng {
        Rng(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A generator of its own whose stream depends on this one and on `name`.
    pub fn fork(&self, name: &str) -> Rng {
        let salt = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::from_seed(self.next_u64() ^ salt)
    }

    /// The next 64 random bits.
    pub fn next_u64(&self) -> u64 {
        self.with(RngCore::next_u64)
    }

    /// A value in `0..bound`; 0 where `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The bias of a modulo is below 2^-32 for every bound that we use.
        if bound == 0 {
            0
        } else {
            self.next_u64() % bound
        }
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(bytes));
    }

    /// A random version 4 UUID. Never one whose text begins with '-', as Kafka's `Uuid.randomUuid`.
    pub fn uuid(&self) -> uuid::Uuid {
        loop {
            let mut bytes = [0u8; 16];
            self.fill(&mut bytes);
            let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
            if !crate::common::ids::kafka_uuid_text(id).starts_with('-') {
                return id;
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut StdRng) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
