//! What a log remembers of idempotent producers (Kafka classes `ProducerStateManager`,
//! `ProducerStateEntry`, `ProducerAppendInfo`; KIP-98).
//!
//! A leader checks each batch against the last five of its producer: a batch seen before is
//! answered with its first offset again, one that leaves a gap or comes from an older instance is
//! refused. Followers and recovery only note what they see.

mod snapshot;

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_model::limits::REMEMBERED_BATCHES;
use millrace_model::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::batch::Header;
use crate::error::AppendError;

pub(crate) use snapshot::{MAX_SNAPSHOT_BYTES, decode, encode};

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) last_sequence: Sequence,
    pub(crate) last_offset: Offset,
    /// Last offset minus first offset.
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: Timestamp,
}

impl Remembered {
    fn first_sequence(&self) -> Sequence {
        let last = i64::from(self.last_sequence.get());
        let first = last - i64::from(self.offset_delta);
        let wrapped = if first < 0 { first + (1 << 31) } else { first };
        Sequence(i32::try_from(wrapped).unwrap_or(0))
    }

    pub(crate) fn first_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Newest last; the first `remembered` places count.
    batches: [Remembered; REMEMBERED_BATCHES],
    remembered: usize,
    pub(crate) last_timestamp: Timestamp,
    /// Epoch of the transaction coordinator that wrote the newest marker, -1 if none did.
    pub(crate) coordinator_epoch: i32,
    /// First offset of the open transaction.
    pub(crate) transaction_start: Option<Offset>,
}

const NO_BATCH: Remembered = Remembered {
    last_sequence: Sequence::NONE,
    last_offset: Offset(-1),
    offset_delta: 0,
    timestamp: Timestamp::NONE,
};

impl Producer {
    fn new(epoch: ProducerEpoch) -> Producer {
        Producer {
            epoch,
            batches: [NO_BATCH; REMEMBERED_BATCHES],
            remembered: 0,
            last_timestamp: Timestamp::NONE,
            coordinator_epoch: -1,
            transaction_start: None,
        }
    }

    pub(crate) fn batches(&self) -> &[Remembered] {
        &self.batches[..self.remembered]
    }

    fn remember(&mut self, batch: Remembered) {
        if self.remembered == REMEMBERED_BATCHES {
            self.batches.rotate_left(1);
            self.remembered -= 1;
        }
        self.batches[self.remembered] = batch;
        self.remembered += 1;
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.remembered = 0;
        }
    }

    /// The newest sequence, `NONE` if the current instance has written nothing.
    pub(crate) fn last_sequence(&self) -> Sequence {
        self.batches()
            .last()
            .map_or(Sequence::NONE, |batch| batch.last_sequence)
    }

    fn duplicate_of(&self, header: &Header) -> Option<Remembered> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let same = |batch: &&Remembered| {
            batch.first_sequence() == header.base_sequence
                && batch.last_sequence == header.last_sequence()
        };
        self.batches().iter().find(same).copied()
    }
}

/// A producer as DescribeProducers shows it (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// The producer.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Its newest sequence, -1 if none is known.
    pub last_sequence: Sequence,
    /// When it last wrote, by the records' time.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator of its newest transaction marker, -1 if there was none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// What a leader decides about a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new and in order.
    Append,
    /// It was appended before.
    Duplicate(Remembered),
}

/// The producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

impl Producers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ProducerId, &Producer)> {
        self.by_id.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn knows(&self, id: ProducerId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    fn insert(&mut self, id: ProducerId, producer: Producer) {
        self.by_id.insert(id, producer);
    }

    pub(crate) fn describe(&self) -> Vec<ProducerInfo> {
        let describe = |(id, producer): (&ProducerId, &Producer)| ProducerInfo {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start,
        };
        self.by_id.iter().map(describe).collect()
    }

    /// Judges a batch that a client wants to append (Kafka methods
    /// `UnifiedLog.analyzeAndValidateProducerState`, `ProducerAppendInfo.checkSequence`).
    pub(crate) fn check(
        &self,
        header: &Header,
        partition: PartitionId,
    ) -> Result<Verdict, AppendError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if let Some(batch) = producer.duplicate_of(header) {
            return Ok(Verdict::Duplicate(batch));
        }
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        if epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch(format!(
                "Epoch of producer {id} in {partition} is {epoch}, which is smaller than the \
                 last seen epoch {}",
                producer.epoch
            )));
        }
        let first = header.base_sequence;
        if epoch > producer.epoch {
            if first == Sequence(0) || producer.epoch == ProducerEpoch::NONE {
                return Ok(Verdict::Append);
            }
            return Err(AppendError::OutOfOrderSequence(format!(
                "Invalid sequence number for new epoch of producer {id} in partition \
                 {partition}: {epoch} (request epoch), {first} (seq. number), {} (current \
                 producer epoch)",
                producer.epoch
            )));
        }
        let last = producer.last_sequence();
        if i64::from(first.get()) == i64::from(last.get()) + 1
            || (first == Sequence(0) && last == Sequence(i32::MAX))
        {
            return Ok(Verdict::Append);
        }
        Err(AppendError::OutOfOrderSequence(format!(
            "Out of order sequence number for producer {id} in partition {partition}: {first} \
             (incoming seq. number), {last} (current end sequence number)"
        )))
    }

    /// Notes a batch that is in the log, `header` with its final offsets. `marker` is the
    /// coordinator epoch of a transaction marker.
    pub(crate) fn note(&mut self, header: &Header, marker: Option<i32>) {
        if !header.has_producer_id() {
            return;
        }
        let producer = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.set_epoch(header.producer_epoch);
        if header.is_control() {
            if let Some(coordinator_epoch) = marker {
                producer.coordinator_epoch = coordinator_epoch;
                producer.transaction_start = None;
                producer.last_timestamp = header.max_timestamp;
            }
            return;
        }
        producer.remember(Remembered {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        producer.last_timestamp = header.max_timestamp;
        if header.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
        }
    }

    /// The first offset of the oldest transaction that is open.
    pub(crate) fn first_open_transaction(&self) -> Option<Offset> {
        let starts = self.by_id.values().filter_map(|p| p.transaction_start);
        starts.min()
    }

    /// Forgets producers that have been silent for longer than `span` and have no transaction open.
    pub(crate) fn expire(&mut self, now: Timestamp, span: Duration) {
        let expired = |producer: &Producer| {
            producer.transaction_start.is_none() && producer.last_timestamp.after(span) <= now
        };
        self.by_id.retain(|_, producer| !expired(producer));
    }
}
