//! Records on their way into batches: for each partition the batches not sent yet, of which the
//! last takes further records.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::Clock;
use millrace_model::Timestamp;
use millrace_protocol::batch::{BatchBuilder, RecordHeader};
use millrace_protocol::compression::CompressionError;
use tokio::time::Instant;

use super::lane::Numbers;
use super::{Done, ProducerOptions, ToSend};
use crate::TopicView;

/// What a record takes in a batch beside its key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// A partition that was ever written to, by the order in which they came up.
pub(super) type Slot = usize;

/// Where a record goes.
pub(super) enum Target<'a> {
    /// Into this partition.
    Partition(i32),
    /// Into any of this topic's; batches stay whole, so the partition changes now and then.
    Any(&'a TopicView),
}

/// When a partition's oldest batch may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// There is none.
    Empty,
    /// Now.
    Ready,
    /// Then, unless it fills up before.
    At(Instant),
}

/// The batches not sent yet, of all partitions.
pub(super) struct Accumulator {
    options: ProducerOptions,
    topics: BTreeMap<Arc<str>, Topic>,
    slots: Vec<Queue>,
    waiting: BTreeSet<Slot>,
    /// Where a topic's turn begins, so that many producers do not all begin with partition 0.
    first_turn: usize,
}

struct Topic {
    name: Arc<str>,
    slots: BTreeMap<i32, Slot>,
    /// The place of the partition that takes records without a key, and bytes it has got.
    turn: usize,
    turn_bytes: usize,
}

struct Queue {
    topic: Arc<str>,
    partition: i32,
    batches: VecDeque<Gathered>,
}

/// A batch before it is built.
pub(super) struct Gathered {
    builder: BatchBuilder,
    dones: Vec<Done>,
    cost: usize,
    since: Instant,
}

/// A batch as it is sent.
pub(super) struct Built {
    pub(super) bytes: Bytes,
    pub(super) dones: Vec<Done>,
    pub(super) cost: usize,
}

/// Bytes a record takes in a batch, at most.
pub(super) fn record_bytes(record: &ToSend) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| name.len() + len(value) + 10);
    len(&record.key) + len(&record.value) + headers.sum::<usize>() + RECORD_OVERHEAD_BYTES
}

impl Accumulator {
    pub(super) fn new(options: ProducerOptions, first_turn: usize) -> Accumulator {
        Accumulator {
            options,
            topics: BTreeMap::new(),
            slots: Vec::new(),
            waiting: BTreeSet::new(),
            first_turn,
        }
    }

    /// Adds a record that holds `cost` bytes of memory. True when there is now something to send
    /// or to linger for that was not there before.
    pub(super) fn append(
        &mut self,
        topic: &str,
        target: Target<'_>,
        record: &ToSend,
        cost: usize,
        done: Done,
        clock: &Clock,
    ) -> bool {
        let bytes = record_bytes(record);
        let slot = self.slot(topic, target, bytes);
        let queue = &mut self.slots[slot];
        let batch_bytes = self.options.batch_bytes;
        let fits = |open: &Gathered| open.builder.size() + bytes <= batch_bytes;
        let fresh = !queue.batches.back().is_some_and(fits);
        if fresh {
            queue.batches.push_back(Gathered {
                builder: BatchBuilder::compressed(self.options.compression),
                dones: Vec::new(),
                cost: 0,
                since: clock.now(),
            });
            self.waiting.insert(slot);
        }
        let open = queue.batches.back_mut().expect("one was just added");
        open.push(record, record.timestamp.unwrap_or_else(|| clock.wall()));
        open.cost += cost;
        open.dones.push(done);
        fresh || open.builder.size() >= batch_bytes
    }

    fn slot(&mut self, topic: &str, target: Target<'_>, bytes: usize) -> Slot {
        if !self.topics.contains_key(topic) {
            let name: Arc<str> = topic.into();
            let fresh = Topic {
                name: name.clone(),
                slots: BTreeMap::new(),
                turn: self.first_turn,
                turn_bytes: 0,
            };
            self.topics.insert(name, fresh);
        }
        let topic = self.topics.get_mut(topic).expect("it was just put there");
        let partition = match target {
            Target::Partition(partition) => partition,
            Target::Any(view) => topic.next_turn(view, bytes, self.options.batch_bytes),
        };
        *topic.slots.entry(partition).or_insert_with(|| {
            self.slots.push(Queue {
                topic: topic.name.clone(),
                partition,
                batches: VecDeque::new(),
            });
            self.slots.len() - 1
        })
    }

    /// The partitions that have batches.
    pub(super) fn waiting(&self) -> &BTreeSet<Slot> {
        &self.waiting
    }

    /// Topic and number of a partition.
    pub(super) fn place(&self, slot: Slot) -> (&Arc<str>, i32) {
        let queue = &self.slots[slot];
        (&queue.topic, queue.partition)
    }

    /// When a partition's oldest batch may go; at once when there is a `hurry`.
    pub(super) fn readiness(&self, slot: Slot, now: Instant, hurry: bool) -> Readiness {
        let batches = &self.slots[slot].batches;
        let Some(head) = batches.front() else {
            return Readiness::Empty;
        };
        let lingers_until = head.since + self.options.linger;
        let is_full = batches.len() > 1 || head.builder.size() >= self.options.batch_bytes;
        if hurry || is_full || lingers_until <= now {
            Readiness::Ready
        } else {
            Readiness::At(lingers_until)
        }
    }

    /// When a partition's oldest batch is given up.
    pub(super) fn deadline(&self, slot: Slot) -> Option<Instant> {
        let head = self.slots[slot].batches.front()?;
        Some(head.deadline(self.options.delivery_limit))
    }

    /// Bytes of a partition's oldest batch, before compression.
    pub(super) fn head_bytes(&self, slot: Slot) -> usize {
        let head = self.slots[slot].batches.front();
        head.map_or(0, |head| head.builder.size())
    }

    /// Takes a partition's oldest batch.
    pub(super) fn take(&mut self, slot: Slot) -> Option<Gathered> {
        let batches = &mut self.slots[slot].batches;
        let head = batches.pop_front();
        if batches.is_empty() {
            self.waiting.remove(&slot);
        }
        head
    }
}

impl Topic {
    /// The partition that takes the next record without a key: the same one until it has got a
    /// batch's worth, then the next that has a leader (KIP-794).
    fn next_turn(&mut self, view: &TopicView, bytes: usize, batch_bytes: usize) -> i32 {
        let count = view.partitions.len().max(1);
        if self.turn_bytes + bytes > batch_bytes && self.turn_bytes > 0 {
            let has_leader = |place: usize| {
                let partition = view.partitions.get(place % count);
                partition.is_some_and(|partition| partition.leader.is_some())
            };
            let next = (self.turn + 1..=self.turn + count).find(|place| has_leader(*place));
            self.turn = next.unwrap_or(self.turn + 1) % count;
            self.turn_bytes = 0;
        }
        self.turn_bytes += bytes;
        let chosen = view.partitions.get(self.turn % count);
        chosen.map_or(0, |partition| partition.index)
    }
}

impl Gathered {
    fn push(&mut self, record: &ToSend, timestamp: Timestamp) {
        let headers: Vec<RecordHeader<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader {
                key: key.as_bytes(),
                value: value.as_deref(),
            })
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        self.builder.push(timestamp, key, value, &headers);
    }

    /// How many records it has.
    pub(super) fn count(&self) -> i32 {
        i32::try_from(self.dones.len()).expect("memory bounds the records of a batch")
    }

    /// When it is given up.
    pub(super) fn deadline(&self, delivery_limit: Duration) -> Instant {
        self.since + delivery_limit
    }

    /// The batch with these numbers; where it cannot be built, whom to tell.
    pub(super) fn build(
        mut self,
        numbers: Option<Numbers>,
    ) -> Result<Built, (CompressionError, Built)> {
        if let Some(numbers) = numbers {
            self.builder.number(numbers.id, numbers.epoch, numbers.base);
        }
        let (dones, cost) = (self.dones, self.cost);
        let built = |bytes| Built { bytes, dones, cost };
        match self.builder.build() {
            Ok(bytes) => Ok(built(bytes.freeze())),
            Err(error) => Err((error, built(Bytes::new()))),
        }
    }

    /// Whom to tell that it was never sent.
    pub(super) fn into_unsent(self) -> Built {
        Built {
            bytes: Bytes::new(),
            dones: self.dones,
            cost: self.cost,
        }
    }
}
