//! Where each leader epoch began in one log (Kafka class `LeaderEpochFileCache`).

use millrace_model::{LeaderEpoch, Offset};

/// The epochs of one log and the first offset of each, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
    /// Whether the file holds something else.
    pub(crate) changed: bool,
}

impl Epochs {
    /// Epochs as the file has them; entries that contradict later ones are dropped.
    pub(crate) fn from_file(entries: Vec<(LeaderEpoch, Offset)>) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs.changed = false;
        epochs
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The newest epoch, `NONE` in a log that never had one.
    pub(crate) fn last(&self) -> LeaderEpoch {
        self.entries
            .last()
            .map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    /// Notes that `epoch` begins at `start`, unless it is known already. What contradicts it, an
    /// older entry at or after `start` or with a larger epoch, goes.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch < LeaderEpoch(0) {
            return;
        }
        while let Some((last, last_start)) = self.entries.last()
            && (*last > epoch || *last_start > start || (*last < epoch && *last_start == start))
        {
            self.entries.pop();
            self.changed = true;
        }
        if self.entries.last().is_some_and(|(last, _)| *last == epoch) {
            return;
        }
        self.entries.push((epoch, start));
        self.changed = true;
    }

    /// The largest epoch that is not above `epoch`, and where it ends: at the start of the next
    /// one, or at `log_end` for the newest (KIP-279). `None` if the log holds none such.
    pub(crate) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (floor, _) = self.entries.get(after.checked_sub(1)?)?;
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        Some((*floor, end))
    }

    /// The epoch of the record at `offset`.
    pub(crate) fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        match after.checked_sub(1) {
            Some(place) => self.entries[place].0,
            None => LeaderEpoch::NONE,
        }
    }

    /// Forgets epochs that begin at or after `end`.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) {
        let keep = self.entries.partition_point(|(_, start)| *start < end);
        if keep < self.entries.len() {
            self.entries.truncate(keep);
            self.changed = true;
        }
    }

    /// Forgets epochs that end at or before `start`; the one at `start` begins there now.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) {
        let after = self.entries.partition_point(|(_, begin)| *begin <= start);
        let Some(floor) = after.checked_sub(1) else {
            return;
        };
        if floor > 0 || self.entries[floor].1 < start {
            self.entries.drain(..floor);
            self.entries[0].1 = start;
            self.changed = true;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.changed = !self.entries.is_empty();
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        let entries = entries.iter().map(|(e, o)| (LeaderEpoch(*e), Offset(*o)));
        Epochs::from_file(entries.collect())
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 10), (5, 20), (6, 30)]);
        let end = |epoch| {
            epochs
                .end_offset_for(LeaderEpoch(epoch), Offset(40))
                .map(|(e, o)| (e.0, o.0))
        };
        assert_eq!(end(1), None);
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(4), Some((2, 20)));
        assert_eq!(end(5), Some((5, 30)));
        assert_eq!(end(6), Some((6, 40)));
        assert_eq!(end(9), Some((6, 40)));
        assert_eq!(epochs.epoch_at(Offset(9)), LeaderEpoch::NONE);
        assert_eq!(epochs.epoch_at(Offset(20)), LeaderEpoch(5));
        assert_eq!(epochs.epoch_at(Offset(29)), LeaderEpoch(5));
    }

    #[test]
    fn a_new_epoch_removes_what_contradicts_it() {
        let mut cache = epochs(&[(0, 0), (3, 10)]);
        cache.assign(LeaderEpoch(3), Offset(15));
        assert_eq!(cache, epochs(&[(0, 0), (3, 10)]));
        cache.assign(LeaderEpoch(4), Offset(10));
        assert_eq!(cache.entries(), epochs(&[(0, 0), (4, 10)]).entries());
        cache.assign(LeaderEpoch(2), Offset(5));
        assert_eq!(cache.entries(), epochs(&[(0, 0), (2, 5)]).entries());
        assert!(cache.changed);
        let mut cache = epochs(&[(3, 0), (5, 100)]);
        cache.assign(LeaderEpoch(3), Offset(50));
        assert_eq!(cache.entries(), epochs(&[(3, 0)]).entries());
    }

    #[test]
    fn truncation_works_from_both_ends() {
        let mut cache = epochs(&[(0, 0), (3, 10), (4, 20)]);
        cache.truncate_from_end(Offset(20));
        assert_eq!(cache.entries(), epochs(&[(0, 0), (3, 10)]).entries());
        cache.truncate_from_start(Offset(12));
        assert_eq!(cache.entries(), epochs(&[(3, 12)]).entries());
        cache.truncate_from_start(Offset(5));
        assert_eq!(cache.entries(), epochs(&[(3, 12)]).entries());
    }
}
