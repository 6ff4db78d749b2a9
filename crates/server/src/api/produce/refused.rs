//! Batches of idempotent producers that were refused, so that none behind them is appended first.
//!
//! A producer has several batches under way. When the first is refused (this broker does not lead
//! yet, too few replicas are in sync, it does not know the topic yet) and the partition's log knows
//! nothing of the producer, the next would be taken: a log without a memory takes any sequence,
//! since topics are made anew and producers are forgotten after a while. The first would then be out
//! of order for ever, and clients count it as written: librdkafka takes the acknowledgement of the
//! second for both. Kafka leaves this open but for transactions (`VerificationStateEntry`, the
//! lowest sequence seen).
//!
//! So the lowest sequence that was refused is remembered here for a minute, by producer, epoch and
//! partition as the client named it, and consulted where the log knows nothing of the producer. What
//! comes before its turn is answered NOT_LEADER_OR_FOLLOWER. All clients send such a batch again, in
//! its order; OUT_OF_ORDER_SEQUENCE_NUMBER would make librdkafka begin a new producer epoch, in which
//! batches of other partitions that may have been written already are written once more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_host::Clock;
use millrace_model::limits::{MAX_REFUSED_BATCHES, REFUSED_BATCH_SPAN};
use millrace_model::{ProducerEpoch, ProducerId, Sequence, TopicId};
use millrace_protocol::batch::BatchHeader;
use tokio::time::Instant;

/// Where a batch belongs in the order of an idempotent producer.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    name: &'a str,
    id: TopicId,
    index: i32,
    producer: ProducerId,
    epoch: ProducerEpoch,
    first: Sequence,
}

impl<'a> Turn<'a> {
    /// The turn of a batch for a partition of a topic as the request names it; none without
    /// idempotence.
    pub fn of(name: &'a str, id: TopicId, index: i32, header: &BatchHeader) -> Option<Turn<'a>> {
        header.has_producer_id().then_some(Turn {
            name,
            id,
            index,
            producer: header.producer_id,
            epoch: header.producer_epoch,
            first: header.base_sequence,
        })
    }

    fn key(&self) -> Key {
        // Names come from clients, of any length and also of topics that do not exist. Those of one
        // producer that share a hash would only wait for each other.
        let mut hasher = DefaultHasher::new();
        (self.name, self.id.0.0).hash(&mut hasher);
        (self.producer, self.epoch, self.index, hasher.finish())
    }
}

/// The last number stands for the topic.
type Key = (ProducerId, ProducerEpoch, i32, u64);

/// The lowest sequence that was refused of each producer and partition.
#[derive(Default)]
pub struct RefusedBatches {
    /// Whether there may be any: most brokers never refuse.
    any: AtomicBool,
    lowest: Mutex<Lowest>,
}

/// Two halves, of which the older is forgotten in one go.
#[derive(Default)]
struct Lowest {
    young: BTreeMap<Key, Sequence>,
    old: BTreeMap<Key, Sequence>,
    /// When the young half was begun.
    since: Option<Instant>,
}

impl RefusedBatches {
    /// A batch was refused.
    pub fn refused(&self, turn: &Turn<'_>, clock: &Clock) {
        let mut lowest = self.lock();
        lowest.age(clock.now());
        lowest.note(turn.key(), turn.first);
        self.any.store(true, Ordering::Release);
    }

    /// A batch was appended: it and what comes after it no longer wait for it.
    pub fn appended(&self, turn: &Turn<'_>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut lowest = self.lock();
        let key = turn.key();
        if lowest
            .get(&key)
            .is_some_and(|refused| !is_after(refused, turn.first))
        {
            lowest.young.remove(&key);
            lowest.old.remove(&key);
        }
    }

    /// Whether a batch that comes before this one was refused, and was not appended since.
    pub fn stand_before(&self, turn: &Turn<'_>, clock: &Clock) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut lowest = self.lock();
        lowest.age(clock.now());
        self.any.store(!lowest.is_empty(), Ordering::Release);
        let refused = lowest.get(&turn.key());
        refused.is_some_and(|refused| is_after(turn.first, refused))
    }

    fn lock(&self) -> MutexGuard<'_, Lowest> {
        self.lowest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lowest {
    fn get(&self, key: &Key) -> Option<Sequence> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    fn note(&mut self, key: Key, first: Sequence) {
        let known = self.get(&key);
        let lowest = known.filter(|known| is_after(first, *known));
        if self.young.len() >= MAX_REFUSED_BATCHES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, lowest.unwrap_or(first));
    }

    fn age(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age < REFUSED_BATCH_SPAN {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= REFUSED_BATCH_SPAN * 2 {
            self.old.clear();
        }
        self.since = Some(now);
    }
}

/// Whether a sequence comes after another one, where sequences wrap.
fn is_after(sequence: Sequence, other: Sequence) -> bool {
    let distance = sequence.get().wrapping_sub(other.get()) & i32::MAX;
    0 < distance && distance < 1 << 30
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn turn(producer: i64, first: i32) -> Turn<'static> {
        Turn {
            name: "t",
            id: TopicId::default(),
            index: 0,
            producer: ProducerId(producer),
            epoch: ProducerEpoch(0),
            first: Sequence(first),
        }
    }

    fn memory() -> (RefusedBatches, Clock) {
        (RefusedBatches::default(), Clock::real())
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_batch_stands_before_those_behind_it() {
        let (batches, clock) = memory();
        let waits = |first| batches.stand_before(&turn(1, first), &clock);
        assert!(!waits(5), "nothing was refused");
        batches.refused(&turn(1, 5), &clock);
        batches.refused(&turn(1, 9), &clock);
        assert_eq!([0, 5, 6, 9].map(waits), [false, false, true, true]);
        let other = Turn {
            index: 1,
            ..turn(1, 6)
        };
        assert!(!batches.stand_before(&other, &clock), "another partition");
        let other = Turn {
            epoch: ProducerEpoch(1),
            ..turn(1, 6)
        };
        assert!(!batches.stand_before(&other, &clock), "a new epoch");
        batches.appended(&turn(1, 0));
        assert!(waits(9), "what was appended comes before what was refused");
        batches.appended(&turn(1, 5));
        assert!(!waits(9));
    }

    #[tokio::test(start_paused = true)]
    async fn sequences_wrap() {
        let (batches, clock) = memory();
        batches.refused(&turn(1, i32::MAX - 2), &clock);
        let waits = |first| batches.stand_before(&turn(1, first), &clock);
        assert_eq!(
            [i32::MAX - 9, i32::MAX, 0, 7].map(waits),
            [false, true, true, true]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_forgotten_after_a_while() {
        let (batches, clock) = memory();
        batches.refused(&turn(1, 5), &clock);
        tokio::time::advance(REFUSED_BATCH_SPAN - Duration::from_secs(1)).await;
        batches.refused(&turn(2, 5), &clock);
        let waits = |producer| batches.stand_before(&turn(producer, 6), &clock);
        assert!(waits(1) && waits(2));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(waits(1) && waits(2));
        tokio::time::advance(REFUSED_BATCH_SPAN).await;
        assert!(!waits(1) && !waits(2));
        assert!(
            !batches.any.load(Ordering::Acquire),
            "appends look no further"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_is_bounded() {
        let (batches, clock) = memory();
        let most = i64::try_from(MAX_REFUSED_BATCHES).unwrap();
        for producer in 0..3 * most {
            batches.refused(&turn(producer, 5), &clock);
        }
        let lowest = batches.lock();
        assert!(lowest.young.len() + lowest.old.len() <= MAX_REFUSED_BATCHES);
        drop(lowest);
        assert!(batches.stand_before(&turn(3 * most - 1, 6), &clock));
        assert!(!batches.stand_before(&turn(0, 6), &clock));
    }
}
