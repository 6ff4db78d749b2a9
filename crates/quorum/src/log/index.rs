//! What the log holds, in memory: where each entry is, and the newest entries themselves.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millrace_host::DiskFile;

use super::segment::HEADER_BYTES;
use crate::types::{LogId, Vote, log_id};

/// Newest entries kept in memory, so that followers that keep up cost no reads.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// Where an entry's frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    pub(super) position: u64,
}

struct Slot {
    term: u64,
    ticket: u64,
    length: usize,
    /// `None` until it is durable.
    location: Option<Location>,
    /// `None` once it is durable and old.
    entry: Option<Bytes>,
}

/// An entry, or where to read it.
pub(super) enum Found {
    Entry(Bytes),
    Stored {
        file: Arc<dyn DiskFile>,
        position: u64,
        length: usize,
    },
}

#[derive(Default)]
pub(super) struct Index {
    pub(super) purged: Option<LogId>,
    pub(super) vote: Option<Vote>,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    segments: BTreeMap<u64, Arc<dyn DiskFile>>,
    next_ticket: u64,
    cached_bytes: usize,
    /// No slot before this index has its entry in memory.
    cached_from: u64,
}

impl Index {
    pub(super) fn new(purged: Option<LogId>, vote: Option<Vote>) -> Index {
        let first = purged.map_or(0, |purged| purged.index + 1);
        Index {
            purged,
            vote,
            first,
            cached_from: first,
            ..Index::default()
        }
    }

    pub(super) fn last(&self) -> Option<LogId> {
        match self.slots.back() {
            Some(slot) => Some(log_id(slot.term, self.end() - 1)),
            None => self.purged,
        }
    }

    /// The index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Adds an entry that is on its way to the disk; returns the ticket of its slot.
    pub(super) fn push(&mut self, id: LogId, entry: Bytes) -> u64 {
        if self.slots.is_empty() {
            self.first = id.index;
            self.cached_from = id.index;
        }
        assert_eq!(id.index, self.end(), "the log has no holes");
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.cached_bytes += entry.len();
        self.slots.push_back(Slot {
            term: id.leader_id.term,
            ticket,
            length: entry.len(),
            location: None,
            entry: Some(entry),
        });
        ticket
    }

    /// Adds an entry found on disk at a start.
    pub(super) fn push_stored(&mut self, id: LogId, length: usize, location: Location) {
        assert_eq!(id.index, self.end(), "the log has no holes");
        self.slots.push_back(Slot {
            term: id.leader_id.term,
            ticket: u64::MAX,
            length,
            location: Some(location),
            entry: None,
        });
        self.cached_from = self.end();
    }

    pub(super) fn add_segment(&mut self, first: u64, file: Arc<dyn DiskFile>) {
        self.segments.insert(first, file);
    }

    pub(super) fn remove_segment(&mut self, first: u64) {
        self.segments.remove(&first);
    }

    /// These entries are durable now. A slot that was cut off and filled anew has another ticket.
    pub(super) fn written(&mut self, written: &[(u64, u64, Location)]) {
        for (ticket, index, location) in written {
            if let Some(slot) = self.slot_mut(*index)
                && slot.ticket == *ticket
            {
                slot.location = Some(*location);
            }
        }
        self.evict();
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(place)
    }

    fn evict(&mut self) {
        while self.cached_bytes > CACHE_BYTES && self.cached_from < self.end() {
            let from = self.cached_from;
            let Some(slot) = self.slot_mut(from) else {
                break;
            };
            if slot.location.is_none() {
                break;
            }
            let freed = slot.entry.take().map_or(0, |entry| entry.len());
            self.cached_bytes -= freed;
            self.cached_from += 1;
        }
    }

    /// Where the durable frames of a segment end.
    pub(super) fn end_of_segment(&self, first: u64) -> u64 {
        let durable = self.slots.iter().rev().filter_map(|slot| {
            let location = slot.location?;
            Some((location, slot.length))
        });
        let mut of_segment = durable.filter(|(location, _)| location.segment == first);
        let last = of_segment.next();
        last.map_or(0, |(location, length)| {
            location.position + (HEADER_BYTES + length) as u64
        })
    }

    pub(super) fn truncate(&mut self, from: u64) {
        while self.end() > from.max(self.first) {
            let cut = self.slots.pop_back().and_then(|slot| slot.entry);
            self.cached_bytes -= cut.map_or(0, |entry| entry.len());
        }
        self.cached_from = self.cached_from.min(self.end());
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        while self.first <= upto.index && !self.slots.is_empty() {
            let gone = self.slots.pop_front().and_then(|slot| slot.entry);
            self.cached_bytes -= gone.map_or(0, |entry| entry.len());
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = upto.index + 1;
        }
        self.cached_from = self.cached_from.max(self.first);
        self.purged = Some(upto);
    }

    /// The entries of a range, as far as the log has them.
    pub(super) fn find(&self, range: Range<u64>) -> Vec<Found> {
        let range = range.start.max(self.first)..range.end.min(self.end());
        let found = range.map(|index| {
            let slot = &self.slots[usize::try_from(index - self.first).expect("it is in memory")];
            match (&slot.entry, slot.location) {
                (Some(entry), _) => Found::Entry(entry.clone()),
                (None, Some(Location { segment, position })) => Found::Stored {
                    file: self.segments[&segment].clone(),
                    position,
                    length: slot.length,
                },
                (None, None) => unreachable!("an entry is in memory until it is durable"),
            }
        });
        found.collect()
    }
}
