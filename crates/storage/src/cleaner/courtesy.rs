//! Lets those who append go first: compaction that never pauses keeps a core, the page cache and the
//! journal of the file system busy, and where cores are few every append waits behind it.
//!
//! While anybody appends, a task works a quarter of the time, in small pieces; otherwise all of it.
//! A quarter it has in any case, so that it comes to an end.

use std::time::Duration;

use tokio::time::Instant;

/// So long after an append more of them are expected.
const LINGER: Duration = Duration::from_millis(100);

/// What is done between two pauses, as a rule.
const BITE_BYTES: u64 = 128 << 10;

/// The pause after a piece of work, as a multiple of what that took.
const PAUSE: u32 = 3;

/// A shorter pause is saved up.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// A piece of work that took very long, on a disk that was stuck, is not followed by a pause that
/// is longer still.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What one task knows of those who append.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    seen: u64,
    busy_until: Option<Instant>,
    owed: Duration,
}

impl Courtesy {
    /// How much to do at once, where `most` may be done.
    pub(super) fn bite(&self, most: u64, now: Instant) -> u64 {
        match self.is_due(now) {
            true => most.min(BITE_BYTES),
            false => most,
        }
    }

    /// Whether anybody appends.
    fn is_due(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// How long to pause after a piece of work that took so long; `writes` is how often anything
    /// was written so far.
    pub(super) fn pause(&mut self, took: Duration, writes: u64, now: Instant) -> Option<Duration> {
        if writes != self.seen {
            self.seen = writes;
            self.busy_until = Some(now + LINGER);
        }
        if !self.is_due(now) {
            self.owed = Duration::ZERO;
            return None;
        }
        self.owed = (self.owed + took * PAUSE).min(LONGEST_PAUSE);
        let due = self.owed >= SHORTEST_PAUSE;
        due.then(|| std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_pauses_only_while_others_write() {
        let (mut courtesy, start) = (Courtesy::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let (short, long) = (Duration::from_micros(200), Duration::from_millis(2));
        assert_eq!(courtesy.pause(long, 0, at(0)), None);
        assert_eq!(courtesy.bite(1 << 20, at(0)), 1 << 20);
        assert_eq!(courtesy.pause(long, 1, at(1)), Some(long * 3));
        assert_eq!(courtesy.bite(1 << 20, at(1)), BITE_BYTES);
        assert_eq!(courtesy.bite(700, at(1)), 700);
        assert_eq!(courtesy.pause(short, 1, at(8)), None);
        assert_eq!(courtesy.pause(short, 1, at(9)), Some(short * 6));
        let stuck = Duration::from_secs(60);
        assert_eq!(courtesy.pause(stuck, 2, at(50)), Some(LONGEST_PAUSE));
        assert_eq!(courtesy.pause(long, 2, at(149)), Some(long * 3));
        assert_eq!(courtesy.pause(long, 2, at(150)), None);
    }
}
