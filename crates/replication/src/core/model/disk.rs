//! What a node of the model keeps.

use millrace_model::{LeaderEpoch, Offset};

use crate::core::{LogBounds, LogView};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: LeaderEpoch,
    pub(super) value: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) entries: Vec<Entry>,
    pub(super) durable: usize,
    pub(super) high_watermark: Offset,
    /// From here on it cannot be read.
    pub(super) damaged: Option<usize>,
}

impl Disk {
    /// The log ends there now.
    pub(super) fn cut(&mut self, to: usize) {
        self.entries.truncate(to);
        self.durable = self.durable.min(to);
        self.damaged = self.damaged.filter(|damaged| *damaged < to);
    }
}

impl LogView for Disk {
    fn bounds(&self) -> LogBounds {
        LogBounds {
            log_start: Offset::ZERO,
            log_end: Offset(self.entries.len() as i64),
            durable_end: Offset(self.durable as i64),
        }
    }

    fn last_epoch(&self) -> LeaderEpoch {
        self.entries
            .last()
            .map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let below = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let found = below.checked_sub(1).map(|last| self.entries[last].epoch);
        (found.unwrap_or(LeaderEpoch::NONE), Offset(below as i64))
    }

    fn damaged_from(&self) -> Option<Offset> {
        self.damaged.map(|damaged| Offset(damaged as i64))
    }
}
