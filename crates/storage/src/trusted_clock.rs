//! The wall clock as far as it is believed when records are deleted by their age.
//!
//! A wall clock may jump: a wrong time server, a guest that slept. Records deleted by a clock that
//! was wrong do not come back, and records kept too long cost only space. So a clock that runs ahead
//! of the time that has passed is not followed, until it has stood by what it says for a day; one
//! that goes back is followed at once.

use std::time::Duration;

use millrace_model::Timestamp;
use tokio::time::Instant;

/// How far the wall clock may move ahead at once and be believed: time servers correct less, and
/// that much too early harms nobody.
const TOLERATED: Duration = Duration::from_secs(60);

/// How long a clock that jumped ahead must go on from there to be believed.
const PROBATION: Duration = Duration::from_secs(24 * 3600);

/// Where the believed time stands.
#[derive(Debug, Default)]
pub(crate) struct TrustedClock {
    /// The largest time believed, and when that was.
    line: Option<(Timestamp, Instant)>,
    ahead_since: Option<Instant>,
}

impl TrustedClock {
    /// The time to delete by, given what both clocks say. To be called every few seconds.
    pub(crate) fn read(&mut self, wall: Timestamp, now: Instant) -> Timestamp {
        let line = match self.line {
            None => wall,
            Some((line, at)) => {
                let expected = line.after(now.saturating_duration_since(at));
                self.judge(wall, expected, now)
            }
        };
        self.line = Some((line, now));
        line.min(wall)
    }

    fn judge(&mut self, wall: Timestamp, expected: Timestamp, now: Instant) -> Timestamp {
        if wall <= expected.after(TOLERATED) {
            self.ahead_since = None;
            return expected.max(wall);
        }
        let since = *self.ahead_since.get_or_insert_with(|| {
            let ahead_ms = wall.get().saturating_sub(expected.get());
            tracing::warn!(
                ahead_ms,
                "the clock jumped ahead; nothing is deleted by it for a day"
            );
            now
        });
        if now.saturating_duration_since(since) < PROBATION {
            return expected;
        }
        tracing::warn!("the clock is believed again");
        self.ahead_since = None;
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Reads at so many milliseconds of time passed and shows what is believed.
    fn read(clock: &mut TrustedClock, start: Instant, passed: i64, wall: i64) -> i64 {
        let now = start + Duration::from_millis(passed.unsigned_abs());
        clock.read(Timestamp(wall), now).get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_ahead_is_not_believed_for_a_day() {
        let (mut clock, start) = (TrustedClock::default(), Instant::now());
        assert_eq!(read(&mut clock, start, 0, 1_000), 1_000);
        assert_eq!(read(&mut clock, start, 500, 1_600), 1_600);
        assert_eq!(read(&mut clock, start, 1_500, 2_600 + HOUR), 2_600);
        assert_eq!(read(&mut clock, start, 2_500, 3_600 + HOUR), 3_600);
        let day = 24 * HOUR;
        assert_eq!(
            read(&mut clock, start, 1_400 + day, 2_500 + HOUR + day),
            2_500 + day
        );
        assert_eq!(
            read(&mut clock, start, 1_600 + day, 2_700 + HOUR + day),
            2_700 + HOUR + day
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_back_and_returns_is_followed() {
        let (mut clock, start) = (TrustedClock::default(), Instant::now());
        assert_eq!(read(&mut clock, start, 0, 2 * HOUR), 2 * HOUR);
        assert_eq!(read(&mut clock, start, 1_000, HOUR), HOUR);
        assert_eq!(
            read(&mut clock, start, 2_000, 2 * HOUR + 2_000),
            2 * HOUR + 2_000
        );
    }
}
