//! One seeded source of random numbers for everything that needs one.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_model::Uuid;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// Random numbers; clones share one sequence.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// A sequence nobody can guess.
    pub fn from_entropy() -> Random {
        Random(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The sequence of this seed, the same at every run.
    pub fn from_seed(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        self.with(|rng| rng.next_u64())
    }

    /// A number of `range`.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn range(&self, range: std::ops::Range<u64>) -> u64 {
        self.with(|rng| rng.random_range(range))
    }

    /// A new identity.
    pub fn uuid(&self) -> Uuid {
        self.with(|rng| Uuid::from_random(|| rng.random()))
    }
}
