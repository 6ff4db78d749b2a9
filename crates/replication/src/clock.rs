//! Time that this process really ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_host::Clock;
use tokio::time::Instant;

use crate::core::Moment;

/// Counts time as long as a beat comes regularly: a process that was stopped for ten seconds must
/// not conclude that all others were silent for ten seconds.
pub(crate) struct ActiveClock {
    clock: Clock,
    start: Instant,
    longest_gap_us: u64,
    beat_us: AtomicU64,
    lost_us: AtomicU64,
}

impl ActiveClock {
    pub(crate) fn new(clock: Clock, beat_every: Duration) -> ActiveClock {
        ActiveClock {
            start: clock.now(),
            clock,
            longest_gap_us: micros(beat_every * 3),
            beat_us: AtomicU64::new(0),
            lost_us: AtomicU64::new(0),
        }
    }

    fn raw_us(&self) -> u64 {
        micros(self.clock.now().duration_since(self.start))
    }

    fn latest_us(&self) -> u64 {
        self.beat_us.load(Ordering::Acquire) + self.longest_gap_us
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        let ran = self.raw_us().min(self.latest_us());
        Moment::from_micros(ran.saturating_sub(self.lost_us.load(Ordering::Acquire)))
    }

    /// The regular beat.
    pub(crate) fn beat(&self) {
        let raw = self.raw_us();
        let lost = raw.saturating_sub(self.latest_us());
        self.lost_us.fetch_add(lost, Ordering::AcqRel);
        self.beat_us.store(raw, Ordering::Release);
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_ran_does_not_count() {
        let clock = ActiveClock::new(Clock::real(), Duration::from_millis(100));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            clock.beat();
        }
        assert_eq!(clock.now(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now(), Duration::from_millis(1300));
        clock.beat();
        assert_eq!(clock.now(), Duration::from_millis(1300));
    }
}
