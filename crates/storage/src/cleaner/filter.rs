//! What compaction keeps of one batch (Kafka methods `Cleaner.cleanInto`, `MemoryRecords.filterTo`).

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_model::{Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::batch::{ControlType, Record, emptied, retained};

use super::offset_map::OffsetMap;
use super::transactions::Transactions;
use crate::batch::{self, Header};

/// The newest that the log knows of each producer: what it holds must not be lost.
pub(crate) type LastRecords = BTreeMap<ProducerId, (Option<Offset>, ProducerEpoch)>;

/// What does not change while a log is cleaned.
pub(crate) struct Rules {
    pub(crate) now: Timestamp,
    /// `delete.retention.ms`.
    pub(crate) delete_retention_ms: i64,
    /// Where cleaning ends: the batch before it is kept, if only empty.
    pub(crate) upper: Offset,
    pub(crate) last_records: LastRecords,
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It stays as it is.
    Whole,
    /// This is left of it.
    Part(Bytes),
    /// Nothing is left of it.
    Nothing,
}

/// What a control batch says; nothing if it was emptied.
pub(crate) fn marker_of(bytes: &[u8]) -> Result<Option<ControlType>, String> {
    let records = batch::records(bytes)?;
    let first = records.iter().next().transpose();
    let first = first.map_err(|error| error.to_string())?;
    Ok(first.and_then(|record| ControlType::of_key(record.key?)))
}

/// Decides about one whole batch.
pub(crate) fn filter(
    bytes: &[u8],
    header: &Header,
    map: &OffsetMap,
    transactions: &mut Transactions,
    rules: &Rules,
) -> Result<Kept, String> {
    let is_control = header.is_control();
    let may_go = match is_control {
        true => transactions.pass_control(header, marker_of(bytes)?),
        false => transactions.pass_batch(header),
    };
    let expired = header.delete_horizon().is_some_and(|at| at <= rules.now);
    let drop_records = may_go && (!is_control || expired);
    let keep_empty = rules.is_last_of_producer(header) || header.next_offset() == rules.upper;
    if drop_records && !keep_empty {
        return Ok(Kept::Nothing);
    }
    let records = batch::records(bytes)?;
    let (mut kept, mut all, mut tombstones) = (Vec::new(), true, false);
    for record in records.iter() {
        let record = record.map_err(|error| error.to_string())?;
        let keep = !drop_records && (is_control || rules.keeps(&record, header, map));
        all &= keep;
        if keep {
            tombstones |= record.value.is_none();
            kept.push(record);
        }
    }
    if kept.is_empty() {
        return Ok(match keep_empty {
            true => Kept::Part(emptied(header).freeze()),
            false => Kept::Nothing,
        });
    }
    let sets_horizon = header.delete_horizon().is_none() && (tombstones || (is_control && may_go));
    if all && !sets_horizon {
        return Ok(Kept::Whole);
    }
    let horizon = match sets_horizon {
        true => Some(Timestamp(
            rules.now.get().saturating_add(rules.delete_retention_ms),
        )),
        false => header.delete_horizon(),
    };
    let left = retained(header, &kept, horizon).map_err(|error| error.to_string())?;
    Ok(Kept::Part(left.freeze()))
}

impl Rules {
    fn is_last_of_producer(&self, header: &Header) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        match self.last_records.get(&header.producer_id) {
            Some((Some(last), _)) => header.last_offset() == *last,
            Some((None, epoch)) => header.is_control() && header.producer_epoch == *epoch,
            None => false,
        }
    }

    fn keeps(&self, record: &Record<'_>, header: &Header, map: &OffsetMap) -> bool {
        if record.offset > map.latest() {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let is_newest = map.get(key).is_none_or(|newest| record.offset >= newest);
        let in_time = header.delete_horizon().is_none_or(|at| self.now < at);
        is_newest && (record.value.is_some() || in_time)
    }
}
