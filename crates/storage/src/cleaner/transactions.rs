//! Which batches belong to aborted transactions, and which markers nobody needs any more (Kafka
//! class `CleanedTransactionMetadata`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millrace_model::{Offset, ProducerId};
use millrace_protocol::batch::ControlType;

use crate::batch::Header;

/// An aborted transaction: its producer and its first offset.
pub(crate) type Aborted = (Offset, ProducerId);

/// What was decided about the transactions of a part of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    /// By rising first offset.
    pub(crate) aborted: Vec<Aborted>,
    /// The first offset of a transaction about which nothing is decided.
    pub(crate) undecided: Option<Offset>,
}

/// Gathers decisions from the batches of a log, in order.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    open: BTreeMap<ProducerId, Offset>,
    aborted: Vec<Aborted>,
}

impl Gathering {
    /// Takes in one batch; `marker` is what it says if it is a control batch.
    pub(crate) fn take_in(&mut self, header: &Header, marker: Option<ControlType>) {
        let producer = header.producer_id;
        match marker {
            Some(ControlType::Abort) => {
                if let Some(first) = self.open.remove(&producer) {
                    self.aborted.push((first, producer));
                }
            }
            Some(ControlType::Commit) => {
                self.open.remove(&producer);
            }
            _ if header.is_transactional() && !header.is_control() => {
                self.open.entry(producer).or_insert(header.base_offset);
            }
            _ => {}
        }
    }

    pub(crate) fn into_decisions(mut self) -> Decisions {
        self.aborted.sort_unstable();
        Decisions {
            aborted: self.aborted,
            undecided: self.open.into_values().min(),
        }
    }
}

/// Where a walk through the batches of a log stands.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    aborted: VecDeque<Aborted>,
    /// Of which batches are being passed, and whether one was seen.
    ongoing_aborted: BTreeMap<ProducerId, bool>,
    ongoing_committed: BTreeSet<ProducerId>,
}

impl Transactions {
    pub(crate) fn new(decisions: &Decisions) -> Transactions {
        Transactions {
            aborted: decisions.aborted.iter().copied().collect(),
            ..Transactions::default()
        }
    }

    fn begin_to(&mut self, offset: Offset) {
        while let Some((first, producer)) = self.aborted.front().copied()
            && first <= offset
        {
            self.aborted.pop_front();
            self.ongoing_aborted.entry(producer).or_insert(false);
        }
    }

    /// Passes a batch of records; true if its transaction was aborted.
    pub(crate) fn pass_batch(&mut self, header: &Header) -> bool {
        self.begin_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.ongoing_aborted.get_mut(&header.producer_id) {
            Some(seen) => {
                *seen = true;
                true
            }
            None => {
                self.ongoing_committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Passes a control batch; true if it may go as far as its transaction is concerned, since no
    /// batch of that is left. `marker` is what it says; an emptied one says nothing.
    pub(crate) fn pass_control(&mut self, header: &Header, marker: Option<ControlType>) -> bool {
        self.begin_to(header.last_offset());
        let producer = header.producer_id;
        match marker {
            Some(ControlType::Abort) => {
                // What is left of an aborted transaction after an earlier compaction looks like
                // one that was committed.
                let emptied = self.ongoing_committed.remove(&producer);
                let seen = self.ongoing_aborted.remove(&producer) == Some(true);
                !emptied && !seen
            }
            Some(ControlType::Commit) => !self.ongoing_committed.remove(&producer),
            Some(_) => false,
            None => true,
        }
    }
}
