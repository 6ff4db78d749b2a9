//! The checkpoint files of a directory, and what must be synced before they may say so.
//!
//! A recovery point promises that everything before it is synced: batches, the indexes of closed
//! segments, and leader epochs. So whatever takes that back, a truncation, lowers it first, and a
//! checkpoint gathers its offsets under the same lock under which it writes them.

use std::sync::Arc;

use millrace_host::disk::OpenMode;
use millrace_model::{Offset, PartitionId, TopicName};

use crate::checkpoint::{self, Offsets};
use crate::directory::{Closed, Directory, Persisted, Shared};
use crate::error::{StorageError, While};
use crate::lock;
use crate::log::{Log, Mode};
use crate::names::{
    CLEANED, FileKind, HIGH_WATERMARKS, LOG_STARTS, PARTITION_METADATA, RECOVERY_POINTS,
};
use crate::segment;
use crate::store::epoch_files;

/// Which files a checkpoint writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Which {
    pub(crate) recovery_points: bool,
    pub(crate) log_starts: bool,
    pub(crate) high_watermarks: bool,
}

impl Which {
    pub(crate) const ALL: Which = Which {
        recovery_points: true,
        log_starts: true,
        high_watermarks: true,
    };

    fn is_none(self) -> bool {
        !(self.recovery_points || self.log_starts || self.high_watermarks)
    }
}

fn key(log: &Log) -> (TopicName, i32) {
    (log.topic().clone(), log.id().index)
}

/// Puts the files in order with `next`, writing those that change.
fn put(
    shared: &Shared,
    directory: &Directory,
    persisted: &mut Persisted,
    next: Persisted,
) -> Result<(), StorageError> {
    let disk = shared.host.disk.as_ref();
    let write = |name: &str, old: &mut Offsets, new: Offsets| -> Result<(), StorageError> {
        if *old != new {
            checkpoint::write_offsets(disk, &directory.path.join(name), &new)?;
            *old = new;
        }
        Ok(())
    };
    write(
        RECOVERY_POINTS,
        &mut persisted.recovery_points,
        next.recovery_points,
    )?;
    write(LOG_STARTS, &mut persisted.log_starts, next.log_starts)?;
    write(
        HIGH_WATERMARKS,
        &mut persisted.high_watermarks,
        next.high_watermarks,
    )?;
    write(CLEANED, &mut persisted.cleaned, next.cleaned)
}

/// Up to where a log was compacted.
pub(crate) fn cleaned_to(log: &Log) -> Option<Offset> {
    let directory = log.directory();
    let persisted = lock(&directory.persisted);
    persisted.cleaned.get(&key(log)).copied()
}

/// Notes that a log is compacted up to `end`.
pub(crate) fn note_cleaned(shared: &Shared, log: &Log, end: Offset) -> Result<(), StorageError> {
    let directory = log.directory();
    let mut persisted = lock(&directory.persisted);
    let mut next = persisted.clone();
    let state = log.state();
    if state.mode != Mode::Open {
        return Err(StorageError::Busy);
    }
    next.cleaned.insert(key(log), end.min(state.log_end));
    drop(state);
    put(shared, &directory, &mut persisted, next)
}

/// Sees to it that no file says that the log is durable beyond `to`.
pub(crate) fn lower_recovery_point(
    shared: &Shared,
    log: &Log,
    to: Offset,
) -> Result<(), StorageError> {
    let directory = log.directory();
    let mut persisted = lock(&directory.persisted);
    let mut next = persisted.clone();
    for offsets in [&mut next.recovery_points, &mut next.cleaned] {
        if let Some(point) = offsets.get_mut(&key(log)) {
            *point = to.min(*point);
        }
    }
    put(shared, &directory, &mut persisted, next)
}

/// Prepares the files for a log that will be empty and begin at `at`.
pub(crate) fn restart_at(shared: &Shared, log: &Log, at: Offset) -> Result<(), StorageError> {
    let directory = log.directory();
    let mut persisted = lock(&directory.persisted);
    let mut next = persisted.clone();
    next.recovery_points.remove(&key(log));
    next.cleaned.remove(&key(log));
    if next
        .log_starts
        .get(&key(log))
        .is_some_and(|start| *start > at)
    {
        next.log_starts.insert(key(log), at);
    }
    put(shared, &directory, &mut persisted, next)
}

/// Says in the files of another directory what is known of a log that is about to be there: all of
/// it is synced. What is said is kept until the log is one of that directory's own.
pub(crate) fn adopt(shared: &Shared, log: &Log, to: &Directory) -> Result<(), StorageError> {
    let cleaned = cleaned_to(log);
    lock(&to.kept).insert(key(log), Closed::Damaged);
    let mut persisted = lock(&to.persisted);
    let mut next = persisted.clone();
    let state = log.state();
    next.recovery_points.insert(key(log), state.written_end);
    next.log_starts.insert(key(log), state.log_start);
    next.high_watermarks.insert(key(log), state.high_watermark);
    match cleaned {
        Some(cleaned) => next.cleaned.insert(key(log), cleaned),
        None => next.cleaned.remove(&key(log)),
    };
    drop(state);
    put(shared, to, &mut persisted, next)
}

/// Removes what the files say of an earlier log of this name.
pub(crate) fn forget(
    shared: &Shared,
    directory: &Directory,
    name: &(TopicName, i32),
) -> Result<(), StorageError> {
    let mut persisted = lock(&directory.persisted);
    if !persisted.says_of(name) {
        return Ok(());
    }
    let mut next = persisted.clone();
    next.recovery_points.remove(name);
    next.log_starts.remove(name);
    next.high_watermarks.remove(name);
    next.cleaned.remove(name);
    put(shared, directory, &mut persisted, next)
}

/// Writes checkpoints of all logs of a directory.
pub(crate) fn write(
    shared: &Shared,
    directory: &Directory,
    logs: &[Arc<Log>],
    which: Which,
) -> Result<(), StorageError> {
    if which.is_none() || directory.is_offline() {
        return Ok(());
    }
    if which.recovery_points {
        for log in logs {
            sync_closed(shared, log)?;
        }
        epoch_files::write(shared, directory, logs)?;
    }
    let mut persisted = lock(&directory.persisted);
    let kept = lock(&directory.kept).clone();
    let retain = |offsets: &Offsets| -> Offsets {
        let kept = offsets.iter().filter(|(name, _)| kept.contains_key(*name));
        kept.map(|(name, offset)| (name.clone(), *offset)).collect()
    };
    let mut next = persisted.clone();
    if which.recovery_points {
        next.recovery_points = retain(&persisted.recovery_points);
        next.cleaned = retain(&persisted.cleaned);
        for log in logs {
            let before = persisted.recovery_points.get(&key(log)).copied();
            let point = recovery_point(log, before.unwrap_or(Offset::ZERO));
            next.recovery_points.insert(key(log), point);
            if let Some(cleaned) = persisted.cleaned.get(&key(log)) {
                next.cleaned.insert(key(log), *cleaned);
            }
        }
    }
    if which.log_starts {
        next.log_starts = retain(&persisted.log_starts);
        for log in logs {
            let state = log.state();
            let before = persisted.log_starts.get(&key(log)).copied();
            // A log that is being restarted says anew where it begins. Kafka leaves out those that
            // begin with their first segment; but files that were removed may come back.
            let start = match state.mode {
                Mode::Open | Mode::Closed => Some(state.log_start),
                Mode::Changing | Mode::Deleted => before,
            };
            if let Some(start) = start.filter(|start| *start > Offset::ZERO) {
                next.log_starts.insert(key(log), start);
            }
        }
    }
    if which.high_watermarks {
        next.high_watermarks = retain(&persisted.high_watermarks);
        for log in logs {
            next.high_watermarks
                .insert(key(log), log.high_watermark_to_note());
        }
    }
    put(shared, directory, &mut persisted, next)?;
    if which.log_starts {
        // Still locked: a restart that comes now moves it back afterwards.
        let moved = note_durable_starts(&persisted, logs);
        drop(persisted);
        if !moved.is_empty() {
            shared.events.start_moved(&moved);
        }
    }
    Ok(())
}

/// Notes which log starts are on the disk now; returns the logs for which that is news.
fn note_durable_starts(persisted: &Persisted, logs: &[Arc<Log>]) -> Vec<PartitionId> {
    let mut moved = Vec::new();
    for log in logs {
        let Some(start) = persisted.log_starts.get(&key(log)) else {
            continue;
        };
        let mut state = log.state();
        let start = (*start).min(state.log_start);
        if state.mode == Mode::Open && start > state.durable_start {
            state.durable_start = start;
            moved.push(log.id());
        }
    }
    moved
}

/// The largest offset before which everything of the log is synced.
fn recovery_point(log: &Log, before: Offset) -> Offset {
    let state = log.state();
    if state.epochs.changed {
        return before;
    }
    let unsynced = state.unsynced_closed.first().copied();
    state.synced_end.min(unsynced.unwrap_or(state.synced_end))
}

/// Syncs what was left behind when segments were closed.
fn sync_closed(shared: &Shared, log: &Log) -> Result<(), StorageError> {
    let (closed, generation) = {
        let state = log.state();
        (state.unsynced_closed.clone(), state.generation)
    };
    if closed.is_empty() {
        return Ok(());
    }
    let (disk, directory) = (shared.host.disk.as_ref(), log.path());
    for base in &closed {
        for kind in [FileKind::Log, FileKind::Index, FileKind::TimeIndex] {
            if let Some(file) = segment::open_if_any(disk, &directory, *base, kind)? {
                file.sync_data().doing("syncing", &directory)?;
            }
        }
    }
    sync_names(shared, log)?;
    let mut state = log.state();
    if state.generation == generation {
        state.unsynced_closed.retain(|base| !closed.contains(base));
        let last = closed.last().copied().unwrap_or(Offset::ZERO);
        let next = state.segments.iter().find(|segment| segment.base > last);
        let synced = next.map_or(state.synced_end, |next| next.base);
        state.synced_end = state.synced_end.max(synced.min(state.durable_end));
    }
    Ok(())
}

/// Syncs the names in a log's directory, and the directory's own if it is new.
pub(crate) fn sync_names(shared: &Shared, log: &Log) -> Result<(), StorageError> {
    let unborn = log.state().unborn;
    let (disk, path) = (shared.host.disk.as_ref(), log.path());
    if unborn {
        let identity = path.join(PARTITION_METADATA);
        let file = disk
            .open(&identity, OpenMode::Read)
            .doing("opening", &identity)?;
        file.sync_data().doing("syncing", &identity)?;
        log.directory()
            .root
            .sync()
            .doing("syncing", &log.directory().path)?;
    }
    disk.open_directory(&path)
        .and_then(|d| d.sync())
        .doing("syncing", &path)?;
    if unborn {
        log.state().unborn = false;
    }
    Ok(())
}
