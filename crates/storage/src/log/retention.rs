//! Deleting old segments, by time and by size (Kafka method `UnifiedLog.deleteOldSegments`).
//!
//! Whole segments go, the oldest first, and never one with a record that is not committed. The
//! active one goes too when all of it is too old; an empty one takes its place.

use std::sync::atomic::Ordering;

use millrace_host::disk::OpenMode;
use millrace_model::{Offset, Timestamp};

use super::{Log, Mode, State};
use crate::error::{ReadError, StorageError};
use crate::names::FileKind;
use crate::segment;
use crate::writer::Job;

/// What is known after a look.
enum Looked {
    /// So many of the first segments may go.
    Old(usize),
    /// The largest timestamp of this segment must be read first.
    Unknown(Offset),
}

impl Log {
    /// Deletes what is too old or too much, as of `now`; may wait for the disk. True if the log
    /// start moved.
    pub(crate) fn retain(&self, now: Timestamp) -> Result<bool, StorageError> {
        let mut times = Vec::new();
        let removed = loop {
            let unknown = {
                let mut state = self.state();
                if state.mode != Mode::Open || self.directory().is_offline() {
                    return Ok(false);
                }
                match state.look_for_old(&times, now) {
                    Looked::Old(0) => break state.drop_leftovers(),
                    Looked::Old(count) => break self.delete_first(&mut state, count),
                    Looked::Unknown(base) => base,
                }
            };
            times.push((unknown, self.newest_time(unknown)?));
        };
        let Some(removed) = removed else {
            return Ok(false);
        };
        tracing::info!(
            topic = %self.topic(),
            partition = self.id().index,
            segments = removed.len(),
            log_start = %self.bounds().log_start,
            "deleted old segments"
        );
        self.start_moved(removed);
        Ok(true)
    }

    fn delete_first(&self, state: &mut State, count: usize) -> Option<Vec<Offset>> {
        let start = match state.segments.get(count) {
            Some(first) => first.base,
            None => {
                let end = state.log_end;
                state.roll_at(end, self.shared.host.clock.wall());
                self.queue(state);
                end
            }
        };
        state.advance_log_start(start)
    }

    /// The log start moved: it becomes durable soon, and segments before it are deleted.
    pub(super) fn start_moved(&self, removed: Vec<Offset>) {
        self.directory().starts_moved.store(true, Ordering::Relaxed);
        self.shared.attention.notify_one();
        if !removed.is_empty() {
            self.submit(Job::Remove {
                log: self.arc(),
                bases: removed,
            });
        }
    }

    /// The largest timestamp of a segment's records, or when its file last changed if they have
    /// none (Kafka method `LogSegment.largestTimestamp`).
    pub(crate) fn newest_time(&self, base: Offset) -> Result<Timestamp, StorageError> {
        let largest = self.largest_of(base).map_err(|error| match error {
            ReadError::Storage(error) => error,
            other => StorageError::corrupt(&self.path(), other.to_string()),
        })?;
        if let Some((timestamp, _)) = largest {
            return Ok(timestamp);
        }
        let (disk, path) = (self.shared.host.disk.as_ref(), self.path());
        let file = segment::open(disk, &path, base, FileKind::Log, OpenMode::Read)?;
        // Where the file system does not tell, it is as old as our knowledge of it.
        let created = self
            .state()
            .segment_mut(base)
            .map(|segment| segment.created);
        Ok(file
            .modified()
            .ok()
            .or(created)
            .unwrap_or(Timestamp(i64::MAX)))
    }
}

impl State {
    /// How many of the first segments may go. `times` are those that had to be read.
    fn look_for_old(&self, times: &[(Offset, Timestamp)], now: Timestamp) -> Looked {
        let mut count = 0;
        if !self.settings.delete {
            return Looked::Old(0);
        }
        let limit = self.settings.retention_bytes;
        let total: u64 = self.segments.iter().map(|segment| segment.size).sum();
        let mut excess = u64::try_from(limit)
            .ok()
            .and_then(|limit| total.checked_sub(limit));
        while let Some(left) = &mut excess
            && self.may_go(count)
            && self.segments[count].size <= *left
        {
            *left -= self.segments[count].size;
            count += 1;
        }
        let span = self.settings.retention_ms;
        while span >= 0 && self.may_go(count) {
            let segment = &self.segments[count];
            let known = segment.max_timestamp.map(|(timestamp, _)| timestamp);
            let read = times.iter().find(|(base, _)| *base == segment.base);
            let read = read.map(|(_, newest)| *newest);
            let Some(newest) = known.filter(|known| *known >= Timestamp(0)).or(read) else {
                return Looked::Unknown(segment.base);
            };
            if now.get().saturating_sub(newest.get()) <= span {
                break;
            }
            count += 1;
        }
        Looked::Old(count)
    }

    /// Whether there is such a segment with nothing in it that may still be lost, and with
    /// anything at all if it is the active one.
    fn may_go(&self, place: usize) -> bool {
        let Some(segment) = self.segments.get(place) else {
            return false;
        };
        let next = self.segments.get(place + 1);
        let end = next.map_or(self.log_end, |next| next.base);
        self.high_watermark >= end && (next.is_some() || segment.size > 0)
    }

    /// Takes out segments that lie wholly before the log start: files that came back with a crash.
    fn drop_leftovers(&mut self) -> Option<Vec<Offset>> {
        let keep = self.floor(self.log_start);
        let dropped: Vec<Offset> = self.segments.drain(..keep).map(|s| s.base).collect();
        self.unsynced_closed.retain(|base| !dropped.contains(base));
        (!dropped.is_empty()).then_some(dropped)
    }
}
