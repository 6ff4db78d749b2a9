//! A partition's log in memory, which checks idempotent producers as Kafka does.

use std::collections::{BTreeMap, VecDeque};

use millrace_model::{ErrorCode, LeaderEpoch, Offset, Sequence};
use millrace_protocol::batch::{BatchHeader, batches, check_crc, stamp};

/// Batches that are recognised when they come again.
const REMEMBERED: usize = 5;

#[derive(Clone, Default)]
pub struct Log {
    /// All batches, one after the other.
    pub batches: Vec<u8>,
    /// How many batches there are.
    pub count: usize,
    end: i64,
    producers: BTreeMap<i64, Producer>,
}

#[derive(Clone, Default)]
struct Producer {
    epoch: i16,
    /// First and last sequence, and the first offset.
    last: VecDeque<(Sequence, Sequence, Offset)>,
}

impl Log {
    /// Appends a batch; its first offset.
    pub fn append(&mut self, batch: &[u8]) -> Result<Offset, ErrorCode> {
        let header = check_crc(batch).expect("clients send sound batches");
        assert_eq!(header.size, batch.len());
        if let Some(known) = self.check(&header)? {
            return Ok(known);
        }
        let base = Offset(self.end);
        let mut batch = batch.to_vec();
        stamp(&mut batch, base, LeaderEpoch(0));
        self.batches.extend(batch);
        self.end += i64::from(header.record_count);
        self.count += 1;
        if header.has_producer_id() {
            let producer = self.producers.entry(header.producer_id.get()).or_default();
            if producer.epoch != header.producer_epoch.get() {
                producer.last.clear();
            }
            producer.epoch = header.producer_epoch.get();
            let sent = (header.base_sequence, header.last_sequence(), base);
            producer.last.push_back(sent);
            if producer.last.len() > REMEMBERED {
                producer.last.pop_front();
            }
        }
        Ok(base)
    }

    /// The offset of a batch that is there already.
    fn check(&self, header: &BatchHeader) -> Result<Option<Offset>, ErrorCode> {
        if !header.has_producer_id() {
            return Ok(None);
        }
        // Of a producer nobody knows any sequence is taken: Kafka's own gap.
        let Some(producer) = self.producers.get(&header.producer_id.get()) else {
            return Ok(None);
        };
        let epoch = header.producer_epoch.get();
        if epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > producer.epoch {
            let is_first = header.base_sequence == Sequence(0);
            return is_first
                .then_some(None)
                .ok_or(ErrorCode::OutOfOrderSequenceNumber);
        }
        let sequences = (header.base_sequence, header.last_sequence());
        let same = |known: &&(Sequence, Sequence, Offset)| (known.0, known.1) == sequences;
        if let Some((.., offset)) = producer.last.iter().find(same) {
            return Ok(Some(*offset));
        }
        let (_, last, _) = producer.last.back().expect("it has written");
        if header.base_sequence == last.plus(1) {
            return Ok(None);
        }
        Err(match header.base_sequence <= *last {
            true => ErrorCode::DuplicateSequenceNumber,
            false => ErrorCode::OutOfOrderSequenceNumber,
        })
    }
}

/// The values of all records.
pub fn values(bytes: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batches(bytes) {
        let records = batch.unwrap().records(1 << 30).unwrap();
        for record in records.iter() {
            let value = record.unwrap().value.unwrap_or_default().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
    }
    values
}
