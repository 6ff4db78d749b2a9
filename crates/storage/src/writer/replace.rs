//! A compacted segment takes the place of those it was made of (Kafka method
//! `LocalLog.replaceSegments`).
//!
//! The files of the new one lie there synced, their names ending in `.cleaned`. They are renamed
//! to `.swap`, durably; from then on the change has happened, whatever comes: a start that finds
//! a `.swap` removes the old segments and gives the new one its name. Before that nothing has.

use std::sync::Arc;

use millrace_model::Offset;

use super::Writer;
use crate::cleaner::{CLEANED_KINDS, cleaned_path, remove_cleaned};
use crate::error::{StorageError, While};
use crate::log::{Log, Mode};
use crate::names::{self, FileKind};
use crate::segment::Segment;
use crate::store::checkpoints;

/// What compaction asks for.
pub(crate) struct Replacement {
    pub(crate) log: Arc<Log>,
    pub(crate) segment: Segment,
    /// The segments it replaces, by rising base; the first has its base.
    pub(crate) replaced: Vec<Offset>,
    /// The log's generation when they were read.
    pub(crate) generation: u64,
}

impl Writer {
    /// Puts a compacted segment in its place; returns the log's new generation.
    pub(super) fn replace(&mut self, wanted: Replacement) -> Result<u64, StorageError> {
        let Replacement { log, replaced, .. } = &wanted;
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        let base = wanted.segment.base;
        let path =
            |kind, suffix: &str| directory.join(format!("{}{suffix}", names::file(base, kind)));
        if !self.may_replace(&wanted) {
            remove_cleaned(disk.as_ref(), &directory, base)?;
            return Err(StorageError::Busy);
        }
        for kind in CLEANED_KINDS {
            let from = cleaned_path(&directory, base, kind);
            let to = path(kind, ".swap");
            disk.rename(&from, &to).doing("renaming", &from)?;
        }
        let swapped = self.swap(log, replaced, base);
        swapped.map_err(|error| Writer::fatal(error, log))?;
        Ok(note_replaced(wanted))
    }

    fn may_replace(&self, wanted: &Replacement) -> bool {
        if self.directory.is_offline() {
            return false;
        }
        let state = wanted.log.state();
        let same = state.mode == Mode::Open && state.generation == wanted.generation;
        let first = state.floor(wanted.segment.base);
        let there = state.segments[first..].iter().map(|segment| segment.base);
        let last = wanted.replaced.last().copied();
        same && there
            .take(wanted.replaced.len())
            .eq(wanted.replaced.iter().copied())
            && last.is_some_and(|last| last < state.active().base)
    }

    /// Makes the decision durable and carries it out.
    fn swap(
        &mut self,
        log: &Arc<Log>,
        replaced: &[Offset],
        base: Offset,
    ) -> Result<(), StorageError> {
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        checkpoints::sync_names(&self.shared, log)?;
        let delay = log.state().settings.file_delete_delay_ms;
        for old in replaced {
            // What is known of the producers before the segment stays true.
            let kinds: &[FileKind] = match *old == base {
                true => &FileKind::ALL[..4],
                false => &FileKind::ALL,
            };
            self.discard(log, *old, kinds, delay)?;
        }
        for kind in CLEANED_KINDS {
            let to = directory.join(names::file(base, kind));
            let from = directory.join(format!("{}.swap", names::file(base, kind)));
            disk.rename(&from, &to).doing("renaming", &from)?;
        }
        checkpoints::sync_names(&self.shared, log)
    }
}

fn note_replaced(wanted: Replacement) -> u64 {
    let Replacement {
        log,
        mut segment,
        replaced,
        ..
    } = wanted;
    let mut state = log.state();
    let first = state.floor(segment.base);
    let last = first + replaced.len();
    segment.created = state.segments[last - 1].created;
    segment.index.written_offsets = crate::index::ALL_IN_FILE;
    segment.index.written_times = crate::index::ALL_IN_FILE;
    state.segments.splice(first..last, [segment]);
    for base in &replaced {
        state.damages.forget_segment(*base);
    }
    state
        .unsynced_closed
        .retain(|base| !replaced.contains(base));
    state
        .pending
        .closing
        .retain(|base| !replaced.contains(base));
    state.invalidate();
    state.validate();
    state.generation
}
