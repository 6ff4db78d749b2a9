//! Changes of a log's files other than appending: cut, empty, remove, rename, complete.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::Offset;

use super::Writer;
use crate::checkpoint;
use crate::error::{StorageError, While};
use crate::index;
use crate::log::{Log, Mode, State, jitter};
use crate::names::{self, FileKind, LEADER_EPOCHS};
use crate::producers;
use crate::recover;
use crate::segment::{self, Loaded, Segment};
use crate::store::checkpoints;

/// Where a log is cut.
struct Cut {
    segment: Offset,
    position: u64,
    /// The log's new end: where a batch begins, or behind the last one.
    end: Offset,
}

impl Writer {
    pub(super) fn truncate(&mut self, log: &Arc<Log>, to: Offset) -> Result<(), StorageError> {
        if !log.state().pending.chunks.is_empty() {
            return Err(StorageError::NoSpace);
        }
        if to < log.state().log_start {
            return self.restart(log, to);
        }
        let cut = self.find_cut(log, to)?;
        self.write_index(log, cut.segment)?;
        checkpoints::lower_recovery_point(&self.shared, log, cut.end)?;

        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        let beyond = |base: Offset, kind: FileKind| match kind {
            FileKind::Snapshot => base > cut.end,
            _ => base > cut.segment,
        };
        self.remove_files(log, &beyond)?;
        let loaded = self.cut_segment(log, &cut)?;
        if let Some(why) = loaded.torn {
            return Err(StorageError::corrupt(&directory, why));
        }

        let (mut segments, log_start) = {
            let state = log.state();
            (state.segments.clone(), state.log_start)
        };
        segments.retain(|segment| segment.base < cut.segment);
        segments.push(loaded.segment);
        let sizes: Vec<(Offset, u64)> = segments.iter().map(|s| (s.base, s.size)).collect();
        let (producers, snapshot_end) =
            recover::load_producers(disk.as_ref(), &directory, &sizes, log_start, cut.end)?;

        let mut state = log.state();
        state.segments = segments;
        state.producers = producers;
        state.snapshot_end = snapshot_end;
        state.epochs.truncate_from_end(cut.end);
        state.unsynced_closed.retain(|base| *base < cut.segment);
        let freed = state.tail.truncate(cut.end);
        set_end(&mut state, cut.end);
        drop(state);
        self.shared.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
        Ok(())
    }

    /// Makes all that is written of a log survive a power cut.
    fn sync_log(&mut self, log: &Log) -> Result<(), StorageError> {
        let own = (log.number, Offset(i64::MIN))..=(log.number, Offset(i64::MAX));
        let dirty: Vec<_> = self
            .dirty
            .range(own)
            .map(|(k, f)| (*k, f.clone()))
            .collect();
        for (key, file) in dirty {
            let path = log.path().join(names::file(key.1, FileKind::Log));
            file.sync_data().doing("syncing", &path)?;
            self.dirty.remove(&key);
        }
        checkpoints::sync_names(&self.shared, log)
    }

    fn find_cut(&self, log: &Log, to: Offset) -> Result<Cut, StorageError> {
        let (base, written, written_offsets, waiting) = {
            let state = log.state();
            let found = &state.segments[state.floor(to)];
            let waiting = index::relative(found.base, to)
                .and_then(|offset| found.index.waiting_floor(offset));
            (
                found.base,
                found.written,
                found.index.written_offsets,
                waiting,
            )
        };
        if written == 0 {
            return Ok(Cut {
                segment: base,
                position: 0,
                end: to,
            });
        }
        let path = log.path().join(names::file(base, FileKind::Log));
        let find = || {
            let file = log.open(base, FileKind::Log)?;
            let start = match waiting {
                Some(entry) => u64::from(entry.position),
                None if written_offsets == 0 => 0,
                None => log.index_floor(base, written_offsets, to)?,
            };
            segment::seek(file.as_ref(), start, written, to)
        };
        let (position, end) = match find().doing("searching", &path)? {
            Some((position, header)) => (position, to.min(header.base_offset)),
            None => (written, to),
        };
        Ok(Cut {
            segment: base,
            position,
            end,
        })
    }

    /// Cuts the segment's file, durably, and its indexes, and loads it anew.
    fn cut_segment(&mut self, log: &Log, cut: &Cut) -> Result<Loaded, StorageError> {
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        let path = directory.join(names::file(cut.segment, FileKind::Log));
        let file = self
            .shared
            .handles
            .open(
                disk.as_ref(),
                log.key(cut.segment, FileKind::Log),
                &path,
                OpenMode::Create,
            )
            .doing("opening", &path)?;
        file.set_len(cut.position).doing("cutting", &path)?;
        self.dirty.insert((log.number, cut.segment), file);
        self.sync_log(log)?;
        cut_indexes(disk.as_ref(), &directory, cut)?;
        let (now, jitter_ms) = {
            let state = log.state();
            (
                self.shared.host.clock.wall(),
                jitter(&state.random, &state.settings),
            )
        };
        let (base, size) = (cut.segment, cut.position);
        segment::load_active(disk.as_ref(), &directory, base, size, now, jitter_ms)
    }

    /// Removes a log's files of which `which` holds, the newest first, so that what a crash leaves
    /// is the beginning of the log.
    fn remove_files(
        &mut self,
        log: &Log,
        which: &dyn Fn(Offset, FileKind) -> bool,
    ) -> Result<(), StorageError> {
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        let entries = disk.list(&directory).doing("listing", &directory)?;
        for entry in entries.into_iter().rev() {
            if let Some((base, kind)) = names::parse_file(&entry.name)
                && which(base, kind)
            {
                if kind == FileKind::Log {
                    self.dirty.remove(&(log.number, base));
                    self.shared.handles.forget_segment(log.number, base);
                }
                remove_file(disk.as_ref(), &directory.join(&entry.name))?;
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, log: &Arc<Log>, at: Offset) -> Result<(), StorageError> {
        checkpoints::restart_at(&self.shared, log, at)?;
        self.stalled.remove(&log.number);
        self.drop_pending(log);
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        self.remove_files(log, &|_, _| true)?;
        segment::open(
            disk.as_ref(),
            &directory,
            at,
            FileKind::Log,
            OpenMode::Create,
        )?;
        self.sync_log(log)?;

        let mut state = log.state();
        let jitter_ms = jitter(&state.random, &state.settings);
        state.segments = vec![Segment::new(at, self.shared.host.clock.wall(), jitter_ms)];
        state.producers.clear();
        state.snapshot_end = Offset(-1);
        state.epochs.clear();
        state.unsynced_closed.clear();
        state.log_start = at;
        state.log_end = at;
        set_end(&mut state, at);
        Ok(())
    }

    /// Forgets what waits to be written and what is in memory.
    fn drop_pending(&mut self, log: &Log) {
        let mut state = log.state();
        let pending = std::mem::take(&mut state.pending);
        let freed = state.tail.clear();
        drop(state);
        let queued: usize = pending.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.directory
            .queued_bytes
            .fetch_sub(queued, Ordering::Relaxed);
        self.shared.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
        for waiter in pending.waiters {
            let _ = waiter.send(Err(StorageError::Deleted));
        }
    }

    pub(super) fn remove(&mut self, log: &Log, bases: &[Offset]) {
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        for base in bases {
            self.dirty.remove(&(log.number, *base));
            self.shared.handles.forget_segment(log.number, *base);
            for kind in FileKind::ALL {
                let path = directory.join(names::file(*base, kind));
                if let Err(error) = remove_file(disk.as_ref(), &path) {
                    self.directory.fail(&self.shared, error.to_string());
                    return;
                }
            }
        }
    }

    pub(super) fn retire(&mut self, log: &Log, name: &str) -> Result<PathBuf, StorageError> {
        self.stalled.remove(&log.number);
        self.drop_pending(log);
        let own = (log.number, Offset(i64::MIN))..=(log.number, Offset(i64::MAX));
        let dirty: Vec<_> = self.dirty.range(own).map(|(key, _)| *key).collect();
        for key in dirty {
            self.dirty.remove(&key);
        }
        self.shared.handles.forget_log(log.number);
        let (from, to) = (log.path(), self.directory.path.join(name));
        // Not synced: if the name comes back after a power cut, nobody claims the directory.
        self.shared
            .host
            .disk
            .rename(&from, &to)
            .doing("renaming", &from)?;
        Ok(to)
    }

    pub(super) fn close(&mut self, logs: &[Arc<Log>]) -> Result<(), StorageError> {
        if self.directory.is_offline() {
            return Err(StorageError::Offline(self.directory.reason()));
        }
        if !self.stalled.is_empty() {
            return Err(StorageError::NoSpace);
        }
        let mut files: Vec<Arc<dyn DiskFile>> = Vec::new();
        for log in logs {
            self.complete(log, &mut files)?;
        }
        let root = self.directory.path.clone();
        if self.directory.can_sync_all {
            self.directory
                .root
                .sync_filesystem()
                .doing("syncing", &root)?;
        } else {
            for file in files.iter().chain(self.dirty.values()) {
                file.sync_data().doing("syncing files in", &root)?;
            }
            let disk = self.shared.host.disk.as_ref();
            for log in logs {
                let path = log.path();
                disk.open_directory(&path)
                    .and_then(|d| d.sync())
                    .doing("syncing", &path)?;
            }
            self.directory.root.sync().doing("syncing", &root)?;
        }
        self.dirty.clear();
        for log in logs {
            let mut state = log.state();
            state.mode = Mode::Closed;
            state.synced_end = state.written_end;
            state.durable_end = state.written_end;
            state.unsynced_closed.clear();
        }
        Ok(())
    }

    /// Brings the files of one log to the state in which the next start takes them as they are.
    fn complete(
        &self,
        log: &Arc<Log>,
        files: &mut Vec<Arc<dyn DiskFile>>,
    ) -> Result<(), StorageError> {
        let (base, waiting, snapshot, unsynced) = {
            let mut state = log.state();
            state.active_mut().add_time();
            let wanted = state.snapshot_end < state.log_end && state.log_end > Offset::ZERO;
            let snapshot = wanted.then(|| (state.log_end, producers::encode(&state.producers)));
            let index = &state.active().index;
            let waiting = wanted || !index.offsets.is_empty() || !index.times.is_empty();
            (
                state.active().base,
                waiting,
                snapshot,
                state.unsynced_closed.clone(),
            )
        };
        let (disk, directory) = (self.shared.host.disk.as_ref(), log.path());
        if waiting {
            self.write_index(log, base)?;
        }
        if let Some((offset, content)) = snapshot {
            files.push(self.write_snapshot(log, offset, &content)?);
            log.state().snapshot_end = offset;
        }
        for base in unsynced.into_iter().chain([base]) {
            for kind in FileKind::ALL {
                files.extend(segment::open_if_any(disk, &directory, base, kind)?);
            }
        }
        let identity = directory.join(names::PARTITION_METADATA);
        files.extend(disk.open(&identity, OpenMode::Read).ok());
        write_epochs(disk, log)
    }
}

/// Writes the leader epochs of a log, durably, if the file holds something else.
pub(crate) fn write_epochs(disk: &dyn Disk, log: &Log) -> Result<(), StorageError> {
    let text = {
        let mut state = log.state();
        if !std::mem::take(&mut state.epochs.changed) {
            return Ok(());
        }
        checkpoint::encode_epochs(state.epochs.entries())
    };
    let written = checkpoint::replace(disk, &log.path().join(LEADER_EPOCHS), text);
    if written.is_err() {
        log.state().epochs.changed = true;
    }
    written
}

fn set_end(state: &mut State, end: Offset) {
    state.log_end = end;
    state.written_end = end;
    state.durable_end = end;
    state.synced_end = end;
    state.high_watermark = state.high_watermark.min(end);
    state.invalidate();
}

fn cut_indexes(disk: &dyn Disk, directory: &Path, cut: &Cut) -> Result<(), StorageError> {
    let path = directory.join(names::file(cut.segment, FileKind::Index));
    if let Some(file) = open_to_cut(disk, &path)? {
        let keep = file.len().and_then(|len| {
            let entries = len / index::OFFSET_ENTRY_BYTES;
            index::position_floor(file.as_ref(), entries, cut.position)
        });
        let keep = keep
            .doing("searching", &path)?
            .map_or(0, |(place, _)| place + 1);
        file.set_len(keep * index::OFFSET_ENTRY_BYTES)
            .doing("cutting", &path)?;
    }
    let path = directory.join(names::file(cut.segment, FileKind::TimeIndex));
    if let Some(file) = open_to_cut(disk, &path)? {
        let offset = index::relative(cut.segment, cut.end).unwrap_or(u32::MAX);
        let keep = file.len().and_then(|len| {
            let entries = len / index::TIME_ENTRY_BYTES;
            index::time_floor_by_offset(file.as_ref(), entries, offset)
        });
        let keep = keep
            .doing("searching", &path)?
            .map_or(0, |(place, _)| place + 1);
        file.set_len(keep * index::TIME_ENTRY_BYTES)
            .doing("cutting", &path)?;
    }
    Ok(())
}

fn open_to_cut(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>, StorageError> {
    match disk.open(path, OpenMode::ReadWrite).doing("opening", path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.is_missing_file() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn remove_file(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing("removing", path),
    }
}
