//! What is known of a log in memory, behind its one lock.

use std::sync::Arc;

use bytes::Bytes;
use millrace_host::Random;
use millrace_model::{Offset, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Bounds;
use crate::batch::Header;
use crate::damage::Damages;
use crate::epochs::Epochs;
use crate::error::StorageError;
use crate::index;
use crate::producers::{self, Producers};
use crate::segment::Segment;
use crate::settings::LogSettings;
use crate::tail::Tail;

/// Ends of cold reads that are remembered, so that readers who go on find their place at once.
const READ_HINTS: usize = 4;

/// What may be done with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything.
    Open,
    /// A truncation or restart is under way: nothing that appends or cuts.
    Changing,
    /// The store was closed: nothing.
    Closed,
    /// The log was deleted: nothing.
    Deleted,
}

/// Batches with their place in a segment's file, waiting to be written.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    /// The offset that follows the last batch.
    pub(crate) end: Offset,
    pub(crate) bytes: Bytes,
    /// From the partition's leader, not from a client.
    pub(crate) followed: bool,
}

impl Chunk {
    /// Where the next one begins in the file.
    pub(crate) fn position_after(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

/// Somebody who waits for the whole log to be durable.
pub(crate) type Waiter = oneshot::Sender<Result<(), StorageError>>;

/// What the writer has to do for a log.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The writer knows that there is something.
    pub(crate) queued: bool,
    /// Since when it does.
    pub(crate) since: Option<Instant>,
    pub(crate) chunks: Vec<Chunk>,
    /// Segments that were closed and whose indexes must be completed in their files.
    pub(crate) closing: Vec<Offset>,
    /// Snapshot files to write, by offset.
    pub(crate) snapshots: Vec<(Offset, Bytes)>,
    pub(crate) waiters: Vec<Waiter>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.waiters.is_empty()
    }
}

/// Where a cold read ended: the batch that follows `offset` begins at `position`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    pub(crate) offset: Offset,
    pub(crate) segment: Offset,
    pub(crate) position: u64,
}

/// A log in memory.
pub(crate) struct State {
    pub(crate) settings: Arc<LogSettings>,
    pub(crate) mode: Mode,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    /// In the files up to here.
    pub(crate) written_end: Offset,
    /// Told to be durable up to here.
    pub(crate) durable_end: Offset,
    /// Would survive a power cut up to here.
    pub(crate) synced_end: Offset,
    pub(crate) high_watermark: Offset,
    /// What was committed goes up to here, and the log ends before it: it lost records that are
    /// perhaps nowhere else, and remembers that until whoever knows the others says what to do.
    pub(crate) committed_beyond: Option<Offset>,
    /// The log begins no earlier after a power cut.
    pub(crate) durable_start: Offset,
    /// By rising base; the last one is active. Never empty.
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Tail,
    pub(crate) pending: Pending,
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    /// What of it is known to be damaged on the disk.
    pub(crate) damages: Damages,
    /// The offset of the newest producer snapshot.
    pub(crate) snapshot_end: Offset,
    /// Closed segments whose index files are not synced.
    pub(crate) unsynced_closed: Vec<Offset>,
    /// Files were made whose names are not synced.
    pub(crate) unsynced_names: bool,
    /// The directory itself and its identity are not synced.
    pub(crate) unborn: bool,
    /// Raised by whatever makes positions in files invalid.
    pub(crate) generation: u64,
    pub(crate) random: Random,
    hints: [Option<Hint>; READ_HINTS],
    next_hint: usize,
}

impl State {
    /// A log that holds, durably, what `segments` say.
    pub(crate) fn new(
        settings: Arc<LogSettings>,
        segments: Vec<Segment>,
        log_start: Offset,
        log_end: Offset,
        random: Random,
    ) -> State {
        State {
            settings,
            mode: Mode::Open,
            log_start,
            log_end,
            written_end: log_end,
            durable_end: log_end,
            synced_end: log_end,
            high_watermark: log_start,
            committed_beyond: None,
            durable_start: log_start,
            segments,
            tail: Tail::default(),
            pending: Pending::default(),
            epochs: Epochs::default(),
            producers: Producers::default(),
            damages: Damages::default(),
            snapshot_end: Offset(-1),
            unsynced_closed: Vec::new(),
            unsynced_names: false,
            unborn: false,
            generation: 0,
            random,
            hints: [None; READ_HINTS],
            next_hint: 0,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            log_start: self.log_start,
            log_end: self.log_end,
            durable_end: self.durable_end,
        }
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments
            .last()
            .expect("a log always has an active segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .last_mut()
            .expect("a log always has an active segment")
    }

    /// The place in `segments` of the one that holds `offset`, or would.
    pub(crate) fn floor(&self, offset: Offset) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset);
        after.saturating_sub(1)
    }

    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let place = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base)
            .ok()?;
        Some(&mut self.segments[place])
    }

    /// Gives a batch its place, in a new segment if it must be so; returns the segment and the
    /// position in it.
    pub(crate) fn place(&mut self, batch: &Header, now: Timestamp) -> (Offset, u64) {
        let settings = self.settings.clone();
        if self.active().should_roll(batch, &settings, now) {
            self.roll(batch, now);
        }
        let active = self.active_mut();
        let position = active.add(batch, settings.index_interval_bytes);
        (active.base, position)
    }

    fn roll(&mut self, batch: &Header, now: Timestamp) {
        let base = match index::relative(self.log_end, batch.last_offset()) {
            Some(_) => self.log_end,
            None => batch.base_offset,
        };
        self.roll_at(base, now);
    }

    /// Closes the active segment, which is not empty, and begins one at `base`.
    pub(super) fn roll_at(&mut self, base: Offset, now: Timestamp) {
        let jitter_ms = jitter(&self.random, &self.settings);
        let closed = self.active_mut();
        debug_assert!(
            closed.base < base,
            "a new segment begins behind the old one"
        );
        closed.add_time();
        let closed = closed.base;
        self.pending.closing.push(closed);
        self.pending
            .snapshots
            .push((base, producers::encode(&self.producers)));
        self.segments.push(Segment::new(base, now, jitter_ms));
    }

    /// Moves the log start and returns the segments that lie before it now; `None` if it did not
    /// move.
    pub(crate) fn advance_log_start(&mut self, to: Offset) -> Option<Vec<Offset>> {
        let to = to.min(self.log_end);
        if to <= self.log_start {
            return None;
        }
        self.log_start = to;
        self.epochs.truncate_from_start(to);
        self.damages.forget_before(to);
        let keep = self.floor(to);
        let removed: Vec<Offset> = self.segments.drain(..keep).map(|s| s.base).collect();
        self.unsynced_closed.retain(|base| !removed.contains(base));
        Some(removed)
    }

    /// Where a read that ended before `offset` stopped.
    pub(crate) fn hint(&self, offset: Offset) -> Option<Hint> {
        self.hints
            .iter()
            .flatten()
            .find(|hint| hint.offset == offset)
            .copied()
    }

    pub(crate) fn remember(&mut self, hint: Hint) {
        if self.hint(hint.offset).is_none() {
            self.hints[self.next_hint] = Some(hint);
            self.next_hint = (self.next_hint + 1) % READ_HINTS;
        }
    }

    /// Positions in files mean nothing any more.
    pub(crate) fn invalidate(&mut self) {
        self.generation += 1;
        self.hints = [None; READ_HINTS];
    }

    /// What must hold after every change.
    pub(crate) fn validate(&self) {
        debug_assert!(self.log_start <= self.log_end);
        debug_assert!(self.synced_end <= self.durable_end);
        debug_assert!(self.durable_end <= self.written_end);
        debug_assert!(self.written_end <= self.log_end);
        debug_assert!(self.segments.is_sorted_by(|a, b| a.base < b.base));
        debug_assert!(
            self.written_end == self.log_end
                || self
                    .tail
                    .start()
                    .is_some_and(|start| start <= self.written_end),
            "what is not written is in the tail"
        );
    }
}

/// What is taken off `segment.ms` for a new segment, so that not all roll at once.
pub(crate) fn jitter(random: &Random, settings: &LogSettings) -> i64 {
    let most = settings.segment_jitter_ms.min(settings.max_segment_ms());
    match u64::try_from(most) {
        Ok(most) if most > 0 => i64::try_from(random.range(0..most)).unwrap_or(0),
        _ => 0,
    }
}
