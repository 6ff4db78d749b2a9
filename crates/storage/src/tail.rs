//! The newest batches of a log in memory: what replication and most consumers read.
//!
//! Entries are appended in order and leave from the oldest; together they always reach up to the
//! log end, and down at least to what the files hold. All tails share one budget.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_model::Offset;

use crate::batch;

/// One append: whole batches that follow one another.
#[derive(Clone, Debug)]
struct Entry {
    base: Offset,
    end: Offset,
    bytes: Bytes,
}

/// The tail of one log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
}

/// What was read of a tail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TailRead {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) len: usize,
}

impl Tail {
    pub(crate) fn push(&mut self, base: Offset, end: Offset, bytes: Bytes) {
        self.entries.push_back(Entry { base, end, bytes });
    }

    /// The first offset in memory; `None` if there is none.
    pub(crate) fn start(&self) -> Option<Offset> {
        self.entries.front().map(|entry| entry.base)
    }

    /// Drops entries that end at or before `end` and returns how many bytes that were.
    pub(crate) fn evict_to(&mut self, end: Offset) -> usize {
        let mut freed = 0;
        while let Some(entry) = self.entries.front()
            && entry.end <= end
        {
            freed += entry.bytes.len();
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
        freed
    }

    /// Drops everything at or after `end`, which is where a batch begins, and returns how many
    /// bytes that were.
    pub(crate) fn truncate(&mut self, end: Offset) -> usize {
        let mut freed = 0;
        while let Some(mut entry) = self.entries.pop_back() {
            if entry.end <= end {
                self.entries.push_back(entry);
                break;
            }
            let keep = batch::whole_batches(&entry.bytes)
                .find(|(_, header)| header.next_offset() > end)
                .map_or(entry.bytes.len(), |(position, _)| position);
            freed += entry.bytes.len() - keep;
            if keep > 0 {
                entry.bytes.truncate(keep);
                entry.end = end;
                self.entries.push_back(entry);
                break;
            }
        }
        freed
    }

    /// Drops everything and returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        let freed = self.entries.iter().map(|entry| entry.bytes.len()).sum();
        self.entries = VecDeque::new();
        freed
    }

    /// Whole batches from the one that holds `from` on, none with an offset at or above `upper`,
    /// of at most `max_bytes` unless the first is larger and `at_least_one` is asked for. `from`
    /// must not lie below [`Tail::start`].
    pub(crate) fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> TailRead {
        let mut read = TailRead::default();
        let first = self.entries.partition_point(|entry| entry.end <= from);
        for entry in self.entries.range(first..) {
            if entry.base >= upper {
                break;
            }
            let room = max_bytes - read.len.min(max_bytes);
            let whole = entry.base >= from && entry.end <= upper && entry.bytes.len() <= room;
            let part = if whole {
                entry.bytes.clone()
            } else {
                let forced = at_least_one && read.len == 0;
                entry
                    .bytes
                    .slice(cut(&entry.bytes, from, upper, room, forced).range)
            };
            if !part.is_empty() {
                read.len += part.len();
                read.parts.push(part);
            }
            if !whole && entry.end > from {
                break;
            }
        }
        read
    }
}

/// A run of whole batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where it lies.
    pub(crate) range: std::ops::Range<usize>,
    /// The offset that follows its last batch.
    pub(crate) end: Offset,
}

/// The batches in `bytes` that end after `from` and at or before `upper`, as far as `room` goes;
/// with `forced`, the first of them in any case.
pub(crate) fn cut(bytes: &[u8], from: Offset, upper: Offset, room: usize, forced: bool) -> Cut {
    let mut found = Cut {
        range: 0..0,
        end: from,
    };
    for (position, header) in batch::whole_batches(bytes) {
        if header.next_offset() <= from {
            continue;
        }
        let first = found.range.is_empty();
        let start = if first { position } else { found.range.start };
        let end = position + header.size;
        if header.next_offset() > upper || (end - start > room && !(forced && first)) {
            break;
        }
        found = Cut {
            range: start..end,
            end: header.next_offset(),
        };
    }
    found
}
