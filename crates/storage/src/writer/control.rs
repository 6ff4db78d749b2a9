//! Changes of a log's files other than appending: cut, empty, rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::Offset;

use super::index_files::write_files;
use super::{Writer, remove_file};
use crate::damage::Damages;
use crate::error::{StorageError, While};
use crate::index;
use crate::log::{Log, State, jitter};
use crate::names::{self, FileKind};
use crate::recover;
use crate::segment::{self, Loaded, Rebuilding, Segment};
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
        let log_start = log.state().log_start;
        if cut.end < log_start {
            // The log start is within the batch that goes, so nothing is left.
            return self.restart(log, log_start);
        }
        self.write_index(log, cut.segment)?;
        checkpoints::lower_recovery_point(&self.shared, log, cut.end)?;
        self.cut_at(log, &cut)
            .map_err(|error| Writer::fatal(error, log))
    }

    fn cut_at(&mut self, log: &Arc<Log>, cut: &Cut) -> Result<(), StorageError> {
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        let beyond = |base: Offset, kind: FileKind| match kind {
            FileKind::Snapshot => base > cut.end,
            _ => base > cut.segment,
        };
        self.remove_files(log, &beyond)?;
        let loaded = self.cut_segment(log, cut)?;
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
        state.damages.forget_from(cut.end);
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

    /// An error in the middle of a change, when there is no way back even if the disk is only full.
    pub(super) fn fatal(error: StorageError, log: &Log) -> StorageError {
        match error {
            StorageError::NoSpace => StorageError::io(
                "changing",
                &log.path(),
                std::io::ErrorKind::WriteZero.into(),
            ),
            other => other,
        }
    }

    fn find_cut(&self, log: &Log, to: Offset) -> Result<Cut, StorageError> {
        let (base, written, written_offsets, waiting) = {
            let state = log.state();
            if let Some(damaged) = state.damages.beginning_at(to) {
                // What stands there cannot be searched.
                return Ok(Cut {
                    segment: damaged.segment,
                    position: damaged.position,
                    end: to,
                });
            }
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
            segment::seek_from_index(file.as_ref(), start, written, to)
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
        let loaded = segment::load_active(disk.as_ref(), &directory, base, size, now, jitter_ms)?;
        match loaded.torn {
            None => Ok(loaded),
            Some(_) => self.reindex(log, base, size),
        }
    }

    /// Loads a segment whose indexes contradict it, and makes them anew.
    fn reindex(&self, log: &Log, base: Offset, size: u64) -> Result<Loaded, StorageError> {
        let (disk, directory) = (self.shared.host.disk.as_ref(), log.path());
        let (now, settings) = (self.shared.host.clock.wall(), log.settings());
        let how = Rebuilding {
            base,
            size,
            interval_bytes: settings.index_interval_bytes,
            now,
            durable: Offset::ZERO,
            below: None,
            committed: Offset::ZERO,
        };
        let path = directory.join(names::file(base, FileKind::Log));
        let file = log.open(base, FileKind::Log).doing("opening", &path)?;
        let rebuilt = segment::rebuild(file.as_ref(), &how, |_| {}).doing("reading", &path)?;
        let (mut segment, end) = (rebuilt.segment, rebuilt.end);
        write_files(disk, &directory, base, &segment.index)?;
        let (offsets, times) = (segment.index.offsets.len(), segment.index.times.len());
        segment.index.take_written(offsets, times);
        segment.jitter_ms = jitter(&log.state().random, &settings);
        let torn = rebuilt.torn.map(|(_, why)| why);
        Ok(Loaded { segment, end, torn })
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
                    self.shared.handles.forget_segment(log.place().files, base);
                }
                remove_file(disk.as_ref(), &directory.join(&entry.name))?;
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, log: &Arc<Log>, at: Offset) -> Result<(), StorageError> {
        checkpoints::restart_at(&self.shared, log, at)?;
        self.empty(log, at)
            .map_err(|error| Writer::fatal(error, log))
    }

    fn empty(&mut self, log: &Arc<Log>, at: Offset) -> Result<(), StorageError> {
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
        state.damages = Damages::default();
        state.unsynced_closed.clear();
        state.log_start = at;
        state.durable_start = at;
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

    /// Closes the files of a log.
    pub(super) fn forget_files(&mut self, log: &Log) {
        let own = (log.number, Offset(i64::MIN))..=(log.number, Offset(i64::MAX));
        let dirty: Vec<_> = self.dirty.range(own).map(|(key, _)| *key).collect();
        for key in dirty {
            self.dirty.remove(&key);
        }
        self.shared.handles.forget_log(log.place().files);
    }

    pub(super) fn retire(&mut self, log: &Log, name: &str) -> Result<PathBuf, StorageError> {
        self.stalled.remove(&log.number);
        self.drop_pending(log);
        self.forget_files(log);
        let (from, to) = (log.path(), self.directory.path.join(name));
        // Not synced: if the name comes back after a power cut, nobody claims the directory.
        self.shared
            .host
            .disk
            .rename(&from, &to)
            .doing("renaming", &from)?;
        Ok(to)
    }
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
