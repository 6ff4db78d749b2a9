//! Fresh seeds, one after the other, until the time is over; failures are collected.
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::child;
use crate::speed::Speed;

/// Between two lines about how far it is.
const TELL: Duration = Duration::from_secs(60);

struct Soak {
    began: Instant,
    limit: Duration,
    first: u64,
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<Vec<u64>>,
    speed: Mutex<Speed>,
    told: Mutex<Instant>,
}

/// A seed that no run before had: the time in milliseconds.
pub fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| u64::try_from(now.as_millis()).unwrap_or(1))
}

/// Runs until the time is over.
pub fn run(limit: Duration, first: Option<u64>, jobs: usize) -> ExitCode {
    let first = first.unwrap_or_else(fresh_seed);
    let soak = Soak {
        began: Instant::now(),
        limit,
        first,
        next: AtomicU64::new(first),
        done: AtomicU64::new(0),
        failed: Mutex::default(),
        speed: Mutex::default(),
        told: Mutex::new(Instant::now()),
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| soak.work());
        }
    });
    let failed = soak.failed.into_inner().unwrap_or_default();
    let (done, took) = (soak.done.into_inner(), soak.began.elapsed().as_secs());
    println!(
        "{done} seeds from {first} on in {took} s, {} failed: {failed:?}",
        failed.len()
    );
    println!("{}", soak.speed.into_inner().unwrap_or_default());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Soak {
    fn work(&self) {
        while self.began.elapsed() < self.limit {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = child::run(seed, &[]);
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(speed) = outcome.speed {
                let mut sum = self.speed.lock().expect("no worker panics");
                *sum = sum.plus(speed);
            }
            let mut failed = self.failed.lock().expect("no worker panics");
            if !outcome.sound {
                println!("{}", outcome.report);
                failed.push(seed);
            }
            let mut told = self.told.lock().expect("no worker panics");
            if told.elapsed() > TELL {
                *told = Instant::now();
                let (took, failed) = (self.began.elapsed().as_secs(), failed.len());
                println!(
                    "{done} seeds from {} on in {took} s, {failed} failed",
                    self.first
                );
            }
        }
    }
}
