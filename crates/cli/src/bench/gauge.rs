//! Counts and latencies of one bench, by the second for the live line and over all for the result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::pace::Window;

/// Latencies are kept in microseconds, to three digits.
const DIGITS: u8 = 3;
/// Everything longer counts as this long.
const LONGEST: Duration = Duration::from_secs(3600);

/// Latencies; percentiles in milliseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        let longest = LONGEST.as_micros() as u64;
        Latencies(Histogram::new_with_max(longest, DIGITS).expect("the bounds are constants"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn note(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    fn take(&mut self) -> Latencies {
        let taken = self.clone();
        self.0.reset();
        taken
    }

    /// Adds all of another's.
    pub fn add(&mut self, other: &Latencies) {
        self.0
            .add(&other.0)
            .expect("all have the same bounds and digits");
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latency that so many percent do not exceed.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.value_at_quantile(percent / 100.0) as f64 / 1000.0
    }

    /// The largest.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// The mean.
    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1000.0
    }
}

/// Counts of a bench, shared by all who do its work; clones share them.
#[derive(Clone)]
pub struct Gauge(Arc<Shared>);

struct Shared {
    window: Window,
    /// One for each worker, so that they do not wait for one another.
    parts: Vec<Mutex<Part>>,
    sent: AtomicU64,
    settled: AtomicU64,
    first_error: Mutex<Option<String>>,
}

#[derive(Default)]
struct Part {
    second: Latencies,
    second_records: u64,
    second_bytes: u64,
    total: Totals,
}

/// What was counted.
#[derive(Clone, Default)]
pub struct Totals {
    /// Latencies of all records of the window.
    pub latencies: Latencies,
    /// Records of the window that were acknowledged or read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records, of the window or not, that failed.
    pub failed: u64,
    /// When the last of the window was done.
    pub last: Option<Instant>,
}

/// What one second brought.
#[derive(Default)]
pub struct Second {
    /// Latencies.
    pub latencies: Latencies,
    /// Records done.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Gauge {
    /// A gauge for so many workers, which counts what falls into `window`.
    pub fn new(window: Window, workers: usize) -> Gauge {
        Gauge(Arc::new(Shared {
            window,
            parts: (0..workers).map(|_| Mutex::default()).collect(),
            sent: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            first_error: Mutex::default(),
        }))
    }

    /// What is counted.
    pub fn window(&self) -> &Window {
        &self.0.window
    }

    fn part(&self, worker: usize) -> MutexGuard<'_, Part> {
        let part = &self.0.parts[worker % self.0.parts.len()];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is handed over.
    pub fn sent(&self) {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A record is done that was meant to be sent at `intended`.
    pub fn done(&self, worker: usize, intended: Instant, bytes: u64) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(intended);
        let window = &self.0.window;
        let mut part = self.part(worker);
        part.second.note(latency);
        part.second_records += 1;
        part.second_bytes += bytes;
        if window.counts_start(intended) {
            part.total.latencies.note(latency);
        }
        if window.counts_end(intended, now) {
            part.total.records += 1;
            part.total.bytes += bytes;
            part.total.last = Some(now);
        }
        drop(part);
        self.0.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// So many records came at once, of which no latency is known.
    pub fn read(&self, worker: usize, records: u64, bytes: u64) {
        let now = Instant::now();
        let mut part = self.part(worker);
        part.second_records += records;
        part.second_bytes += bytes;
        if self.0.window.counts_end(now, now) {
            part.total.records += records;
            part.total.bytes += bytes;
            part.total.last = Some(now);
        }
    }

    /// A record has failed.
    pub fn failed(&self, worker: usize, why: &dyn std::fmt::Display) {
        self.part(worker).total.failed += 1;
        let first = self.0.first_error.lock();
        let mut first = first.unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| why.to_string());
        self.0.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// Records handed over whose fate is not known yet.
    pub fn unsettled(&self) -> u64 {
        let settled = self.0.settled.load(Ordering::Relaxed);
        self.0.sent.load(Ordering::Relaxed).saturating_sub(settled)
    }

    /// Why the first record failed.
    pub fn first_error(&self) -> Option<String> {
        let first = self.0.first_error.lock();
        first.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was done since the last call.
    pub fn second(&self) -> Second {
        let mut all = Second::default();
        for worker in 0..self.0.parts.len() {
            let mut part = self.part(worker);
            all.latencies.add(&part.second.take());
            all.records += std::mem::take(&mut part.second_records);
            all.bytes += std::mem::take(&mut part.second_bytes);
        }
        all
    }

    /// What was done in the window.
    pub fn totals(&self) -> Totals {
        let mut all = Totals::default();
        for worker in 0..self.0.parts.len() {
            let part = self.part(worker);
            all.latencies.add(&part.total.latencies);
            all.records += part.total.records;
            all.bytes += part.total.bytes;
            all.failed += part.total.failed;
            all.last = all.last.max(part.total.last);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(percent: f64, expected_ms: f64, latencies: &Latencies) {
        let found = latencies.percentile_ms(percent);
        let off = (found - expected_ms).abs() / expected_ms;
        assert!(off < 0.002, "p{percent} is {found}, not {expected_ms}");
    }

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let mut latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.note(Duration::from_millis(ms));
        }
        for (percent, ms) in [(50.0, 500.0), (95.0, 950.0), (99.0, 990.0), (99.9, 999.0)] {
            check(percent, ms, &latencies);
        }
        check(100.0, latencies.max_ms(), &latencies);
        assert_eq!(latencies.max_ms().round(), 1000.0);
    }

    #[test]
    fn only_what_falls_into_the_window_counts() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let window = Window::timed(start, Duration::from_millis(50), Duration::from_secs(3600));
        let gauge = Gauge::new(window, 2);
        while Instant::now() < at(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        for (worker, intended) in [(0, at(10)), (1, at(51)), (0, at(55))] {
            gauge.sent();
            gauge.done(worker, intended, 7);
        }
        gauge.sent();
        gauge.failed(0, &"why");
        let totals = gauge.totals();
        // A rate is of what came in the window, latencies are of what began in it.
        assert_eq!((totals.records, totals.bytes, totals.failed), (3, 21, 1));
        assert!(totals.latencies.max_ms() < 1000.0 && !totals.latencies.is_empty());
        assert_eq!(totals.latencies.0.len(), 2);
        assert_eq!(gauge.unsettled(), 0);
        assert_eq!(gauge.second().records, 3);
        assert_eq!(gauge.second().records, 0);
    }
}
