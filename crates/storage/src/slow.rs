//! Whether a disk keeps those waiting who rely on its syncs.
//!
//! A disk that is about to fail, or shares its machine with others, can be a thousand times slower
//! than it was and yet do everything it is told. Of every group commit that somebody relies on it is
//! known how long the first of it waited, for the commit before it too; a directory counts as slow
//! once that was long every time for a while, or nothing has been written for as long.

use std::sync::atomic::Ordering;

use millrace_model::limits::{QUICK_AFTER, SLOW_AFTER, SLOW_SYNC};
use tokio::time::Instant;

use crate::directory::{Directory, Shared};
use crate::lock;

/// How the group commits of a directory go.
#[derive(Debug, Default)]
pub(crate) struct Slowness {
    /// When the first of an unbroken row of long waits began.
    row: Option<Instant>,
    /// When the last long one was seen.
    last: Option<Instant>,
    /// How many have ended.
    ended: u64,
    /// Since when there is something to write and none has ended, and how many had.
    stuck: Option<(Instant, u64)>,
    slow: bool,
}

impl Slowness {
    /// What somebody has waited for since then is durable.
    fn synced(&mut self, since: Instant, now: Instant) {
        self.ended += 1;
        match now.saturating_duration_since(since) >= SLOW_SYNC {
            true => self.long(since, now),
            false => self.row = None,
        }
    }

    fn long(&mut self, since: Instant, now: Instant) {
        let first = *self.row.get_or_insert(since);
        self.last = Some(now);
        self.slow |= now.saturating_duration_since(first) >= SLOW_AFTER;
    }

    /// Time passes, and something waits to be written or not.
    fn look(&mut self, waits: bool, now: Instant) {
        self.stuck = match self.stuck {
            Some((at, ended)) if waits && ended == self.ended => Some((at, ended)),
            _ => waits.then_some((now, self.ended)),
        };
        let passed = |at: Instant| now.saturating_duration_since(at);
        if let Some((at, _)) = self.stuck.filter(|(at, _)| passed(*at) >= SLOW_AFTER) {
            self.long(at, now);
        }
        self.slow &= self.last.is_some_and(|last| passed(last) < QUICK_AFTER);
    }
}

impl Directory {
    /// Whether whoever relies on its syncs waits long.
    pub(crate) fn is_slow(&self) -> bool {
        lock(&self.slowness).slow
    }

    /// A group commit has ended, of which the first has waited since then.
    pub(crate) fn synced(&self, shared: &Shared, since: Instant) {
        self.note_syncs(shared, |slowness, now| slowness.synced(since, now));
    }

    /// Sees whether nothing is written any more, or nobody has waited for long.
    pub(crate) fn look_at_syncs(&self, shared: &Shared) {
        let waits = self.queued_bytes.load(Ordering::Relaxed) > 0 && !self.is_full();
        self.note_syncs(shared, |slowness, now| slowness.look(waits, now));
    }

    fn note_syncs(&self, shared: &Shared, note: impl FnOnce(&mut Slowness, Instant)) {
        let now = shared.host.clock.now();
        let (was_slow, is_slow) = {
            let mut slowness = lock(&self.slowness);
            let was_slow = slowness.slow;
            note(&mut slowness, now);
            (was_slow, slowness.slow)
        };
        if was_slow == is_slow {
            return;
        }
        let directory = self.path.display();
        let limit_ms = SLOW_SYNC.as_millis();
        if is_slow {
            tracing::warn!(%directory, limit_ms, "this disk keeps everybody waiting: others are to lead, and nobody waits for it while enough others are in sync");
        } else {
            tracing::info!(%directory, "this disk is as quick as it should be again");
        }
        shared.events.condition_changed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GAP: Duration = Duration::from_millis(5);

    /// Waits one after the other, of so many milliseconds; whether it is slow then.
    fn after(waits: &[u64]) -> bool {
        let (mut slowness, mut now) = (Slowness::default(), Instant::now());
        for wait in waits {
            let since = now;
            now += Duration::from_millis(*wait);
            slowness.synced(since, now);
            slowness.look(false, now);
            now += GAP;
        }
        slowness.slow
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_long_waits_is_slow_and_one_is_not() {
        assert!(!after(&[1, 1, 1_900, 1, 1]));
        assert!(!after(&[600; 3]));
        assert!(after(&[600; 4]));
        assert!(after(&[5_000]));
        assert!(
            !after(&[600, 600, 600, 1, 600, 600, 600]),
            "a quick one between"
        );
        assert!(!after(&[400; 20]));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_slow_until_nobody_waited_long_for_a_while() {
        let mut waits = vec![600; 4];
        waits.extend([1; 100]);
        assert!(after(&waits));
        waits.extend([100; 45]);
        assert!(!after(&waits));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_writes_nothing_any_more_is_slow() {
        let (mut slowness, now) = (Slowness::default(), Instant::now());
        slowness.look(true, now);
        slowness.synced(now, now + GAP);
        slowness.look(true, now + GAP);
        slowness.look(true, now + SLOW_AFTER);
        assert!(!slowness.slow, "one has ended meanwhile");
        slowness.look(true, now + SLOW_AFTER + GAP);
        assert!(slowness.slow);
        slowness.look(true, now + 10 * QUICK_AFTER);
        assert!(slowness.slow, "it still writes nothing");
        slowness.look(false, now + 11 * QUICK_AFTER);
        assert!(!slowness.slow, "nobody has used it since");
    }
}
