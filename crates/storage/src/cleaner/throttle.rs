//! Keeps compaction from taking more of the disks than it was granted
//! (`log.cleaner.io.max.bytes.per.second`).

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock;
use crate::settings::CleanerOptions;

/// A pause that is shorter is saved up.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// What the tasks have used up.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When what was moved so far has been paid for.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Waits as long as so many bytes cost.
    pub(crate) async fn pause(&self, bytes: u64, options: &CleanerOptions, now: Instant) {
        if let Some(until) = self.charge(bytes, options.max_bytes_per_second, now) {
            tokio::time::sleep_until(until).await;
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn charge(&self, bytes: u64, rate: f64, now: Instant) -> Option<Instant> {
        let cost = Duration::try_from_secs_f64(bytes as f64 / rate.max(1.0)).ok()?;
        let mut paid = lock(&self.paid);
        let until = paid.unwrap_or(now).max(now) + cost;
        *paid = Some(until);
        (until.saturating_duration_since(now) >= SHORTEST_PAUSE).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_share_the_rate() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let options = CleanerOptions {
            max_bytes_per_second: 1_000.0,
            ..CleanerOptions::default()
        };
        for _ in 0..10 {
            throttle.pause(500, &options, Instant::now()).await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let free = CleanerOptions::default();
        throttle.pause(u64::MAX, &free, Instant::now()).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
