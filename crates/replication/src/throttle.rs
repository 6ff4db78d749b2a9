//! Limits on what goes to followers that are not in sync (KIP-73).
//!
//! Kafka's followers fetch, so it limits both ends by themselves. Here leaders send, and keep both
//! limits where the bytes leave: their own, and their share of what a follower broker may receive.
//! What is over a limit waits in its session, while everything else goes on; no live follower, no
//! acknowledgement and no other partition waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_model::BrokerId;
use tokio::time::Instant;

use crate::options::{Throttled, Throttles};

/// What was not used may be made up for by so much time's worth, not more.
const BURST: Duration = Duration::from_millis(250);

/// What waits is sent again once there is room for so much time's worth: wake-ups cost too.
const QUANTUM: Duration = Duration::from_millis(50);

/// A batch goes whole, however small the limit; who waits for that waits no longer than this. (Ten
/// of Kafka's windows of a second, over which it averages.)
const LONGEST_DEBT: Duration = Duration::from_secs(10);

/// No wait is shorter than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Of which limits the traffic to one follower of one partition is part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    leading: bool,
    follower: Option<BrokerId>,
}

impl Limited {
    /// The limits that hold for a follower that is not in sync; `None` where none does.
    pub(crate) fn of(throttled: &Throttled, follower: BrokerId) -> Option<Limited> {
        let limited = Limited {
            leading: throttled.leading,
            follower: throttled.followers.contains(&follower).then_some(follower),
        };
        (limited.leading || limited.follower.is_some()).then_some(limited)
    }
}

/// The limits of this broker and what has been used of them.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<Limits>);

#[derive(Default)]
struct Limits {
    asked: Throttles,
    leading: Option<Bucket>,
    followers: BTreeMap<BrokerId, Bucket>,
}

impl Throttle {
    /// Other limits hold from now on. False where they are those that held before.
    pub(crate) fn set(&self, asked: Throttles, now: Instant) -> bool {
        let mut limits = self.lock();
        if limits.asked == asked {
            return false;
        }
        let Limits {
            leading, followers, ..
        } = &mut *limits;
        let keep = |old: Option<Bucket>, rate: u64| match old {
            Some(old) if old.rate == rate => old,
            _ => Bucket::new(rate, now),
        };
        *leading = asked.leading.map(|rate| keep(leading.take(), rate));
        let mut old = std::mem::take(followers);
        let kept = asked.followers.iter();
        *followers = kept
            .map(|(id, rate)| (*id, keep(old.remove(id), *rate)))
            .collect();
        limits.asked = asked;
        true
    }

    /// How many bytes may leave.
    ///
    /// # Errors
    /// When to ask again, if none may.
    pub(crate) fn room(&self, limited: Limited, now: Instant) -> Result<u64, Instant> {
        let mut limits = self.lock();
        let rooms = limits
            .buckets(limited)
            .map(|bucket| bucket.room(now))
            .collect::<Vec<_>>();
        let until = rooms.iter().filter_map(|room| room.err()).max();
        match until {
            Some(until) => Err(until),
            None => Ok(rooms.into_iter().flatten().min().unwrap_or(u64::MAX)),
        }
    }

    /// So many bytes have left.
    pub(crate) fn spend(&self, limited: Limited, bytes: usize, now: Instant) {
        let mut limits = self.lock();
        limits
            .buckets(limited)
            .for_each(|bucket| bucket.spend(bytes, now));
    }

    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits {
    fn buckets(&mut self, limited: Limited) -> impl Iterator<Item = &mut Bucket> {
        let leading = self.leading.as_mut().filter(|_| limited.leading);
        let follower = limited.follower.and_then(|id| self.followers.get_mut(&id));
        leading.into_iter().chain(follower)
    }
}

/// One limit. It fills by the clock and is emptied by what leaves, into debt if need be.
#[derive(Debug)]
struct Bucket {
    /// Bytes a second; at least one, so that a limit of nothing does not stop a follower for good.
    rate: u64,
    /// In bytes times nanoseconds, so that nothing is lost by rounding.
    balance: i128,
    at: Instant,
}

const SECOND: i128 = 1_000_000_000;

/// Stands for all that is larger, so that nothing overflows.
const LARGE: i128 = i64::MAX as i128;

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).map_or(LARGE, |nanos| nanos.min(LARGE))
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Bucket {
        Bucket {
            rate,
            balance: 0,
            at: now,
        }
    }

    /// So much time's worth.
    fn worth(&self, time: Duration) -> i128 {
        nanoseconds(time) * i128::from(self.rate.max(1))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let full = self.worth(BURST);
        self.balance = (self.balance + self.worth(passed)).min(full);
        self.at = now;
    }

    fn room(&mut self, now: Instant) -> Result<u64, Instant> {
        self.refill(now);
        let lacking = self.worth(QUANTUM) - self.balance;
        if lacking <= 0 {
            let bytes = self.balance / SECOND;
            return Ok(u64::try_from(bytes).unwrap_or(u64::MAX).max(1));
        }
        let wait = lacking / i128::from(self.rate.max(1));
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        Err(now + wait.max(SHORTEST_WAIT))
    }

    fn spend(&mut self, bytes: usize, now: Instant) {
        self.refill(now);
        let cost = i128::try_from(bytes).map_or(LARGE, |bytes| bytes.min(LARGE)) * SECOND;
        self.balance = (self.balance - cost).max(-self.worth(LONGEST_DEBT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOWER: BrokerId = BrokerId(2);

    fn limited(leading: bool, follower: bool) -> Limited {
        let throttled = Throttled {
            leading,
            followers: if follower { vec![FOLLOWER] } else { Vec::new() },
        };
        Limited::of(&throttled, FOLLOWER).unwrap()
    }

    fn throttle(leading: Option<u64>, follower: Option<u64>) -> (Throttle, Instant) {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let asked = Throttles {
            leading,
            followers: follower.map(|rate| (FOLLOWER, rate)).into_iter().collect(),
        };
        assert!(throttle.set(asked.clone(), now));
        assert!(!throttle.set(asked, now));
        (throttle, now)
    }

    /// Sends as much as it may, in batches of `batch` bytes; returns how much that was.
    fn send_for(throttle: &Throttle, limited: Limited, begin: Instant, span: Duration) -> u64 {
        const BATCH: u64 = 1000;
        let (mut sent, mut now) = (0, begin);
        while now < begin + span {
            match throttle.room(limited, now) {
                Ok(room) => {
                    let bytes = room.div_ceil(BATCH) * BATCH;
                    sent += bytes;
                    throttle.spend(limited, usize::try_from(bytes).unwrap(), now);
                }
                Err(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        sent
    }

    #[test]
    fn no_more_leaves_than_a_limit_lets_and_not_much_less() {
        let span = Duration::from_secs(20);
        for (leading, follower, expected) in [
            (Some(100_000), None, 2_000_000),
            (None, Some(50_000), 1_000_000),
            (Some(100_000), Some(30_000), 600_000),
            (Some(30_000), Some(100_000), 600_000),
        ] {
            let (throttle, now) = throttle(leading, follower);
            let sent = send_for(&throttle, limited(true, true), now, span);
            let slack = expected / 20;
            assert!(
                (expected - slack..expected + slack).contains(&sent),
                "{sent}"
            );
        }
    }

    #[test]
    fn what_a_limit_does_not_name_is_free_of_it() {
        let (throttle, now) = throttle(Some(10), None);
        assert_eq!(throttle.room(limited(false, true), now), Ok(u64::MAX));
        assert!(throttle.room(limited(true, false), now).is_err());
        assert_eq!(Limited::of(&Throttled::default(), FOLLOWER), None);
    }

    #[test]
    fn an_idle_limit_saves_up_little() {
        let (throttle, now) = throttle(Some(1_000_000), None);
        let later = now + Duration::from_secs(3600);
        assert_eq!(throttle.room(limited(true, true), later), Ok(250_000));
    }

    #[test]
    fn the_smallest_limit_lets_a_batch_pass_in_ten_seconds() {
        let (throttle, now) = throttle(Some(0), None);
        throttle.spend(limited(true, true), 1 << 20, now);
        let until = throttle.room(limited(true, true), now).unwrap_err();
        assert!(until <= now + Duration::from_secs(11));
        assert_eq!(throttle.room(limited(true, true), until), Ok(1));
    }

    #[test]
    fn a_limit_that_is_lifted_holds_nothing_back() {
        let (throttle, now) = throttle(Some(1), Some(1));
        assert!(throttle.room(limited(true, true), now).is_err());
        assert!(throttle.set(Throttles::default(), now));
        assert_eq!(throttle.room(limited(true, true), now), Ok(u64::MAX));
    }
}
