//! Group commit: write, sync, tell.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use millrace_host::DiskFile;
use millrace_host::disk::OpenMode;
use millrace_model::{Durability, Offset, PartitionId, Planted};
use tokio::time::Instant;

use super::{Evictable, Writer};
use crate::error::{StorageError, While};
use crate::index::MAX_WAITING_ENTRIES;
use crate::lock;
use crate::log::{Chunk, Log, Waiter};
use crate::names::{self, FileKind};
use crate::segment;
use crate::store::checkpoints;

/// From this many files on, one sync of the file system takes the place of a sync of each. Each
/// fdatasync of a file that grew commits the file system's journal, some 0.2 to 1 ms on the disks
/// we measured and one after the other; syncfs commits it once, but writes what others on the same
/// file system left behind too, and walks all its inodes in memory. On a busy ext4, with twelve
/// partitions written at once, 4 gave twice the commits of 8, and 2 no more than 4.
const SYNC_ALL_FROM: usize = 4;
/// Files that one round leaves unsynced and open.
const MAX_DIRTY_FILES: usize = 1024;
/// Unsynced files of logs under page-cache durability that stay open in any case. Nobody asked for
/// their sync, and it makes whoever is next wait: beyond this they may be as many as the files that
/// are open for reading.
const LEAST_RELAXED_DIRTY_FILES: usize = 256;

/// How long batches stay in memory for those who read the newest: replication and most consumers
/// have them within milliseconds.
const TAIL_AGE: Duration = Duration::from_secs(2);

/// What a round did for one log.
struct Written {
    log: Arc<Log>,
    end: Offset,
    durability: Durability,
    waiters: Vec<Waiter>,
    /// When the first of it came.
    since: Option<Instant>,
    /// Names in the log's directory must be synced too.
    unsynced_names: bool,
    /// The newest of it came from the partition's leader.
    followed: bool,
}

impl Written {
    fn must_sync(&self) -> bool {
        self.durability == Durability::Fsync || !self.waiters.is_empty()
    }
}

/// What is taken out of a log to be written.
struct Work {
    /// When the first of it came.
    since: Option<Instant>,
    chunks: Vec<Chunk>,
    closing: Vec<Offset>,
    snapshots: Vec<(Offset, Bytes)>,
    waiters: Vec<Waiter>,
    durability: Durability,
}

fn take_work(log: &Log) -> Work {
    let mut state = log.state();
    let pending = &mut state.pending;
    pending.queued = false;
    Work {
        since: pending.since.take(),
        chunks: std::mem::take(&mut pending.chunks),
        closing: std::mem::take(&mut pending.closing),
        snapshots: std::mem::take(&mut pending.snapshots),
        waiters: std::mem::take(&mut pending.waiters),
        durability: state.settings.durability,
    }
}

/// Lets the work wait for space, before whatever came meanwhile.
fn put_back(log: &Log, work: Work, why: &StorageError) {
    for waiter in work.waiters {
        let _ = waiter.send(Err(why.clone()));
    }
    let mut state = log.state();
    let pending = &mut state.pending;
    let (mut chunks, mut closing, mut snapshots) = (work.chunks, work.closing, work.snapshots);
    chunks.append(&mut pending.chunks);
    closing.append(&mut pending.closing);
    snapshots.append(&mut pending.snapshots);
    (pending.chunks, pending.closing, pending.snapshots) = (chunks, closing, snapshots);
    // Nobody needs to tell the writer: it keeps a list of those who wait for space. That is no fault
    // of the disk's.
    pending.queued = true;
}

impl Writer {
    /// Writes and syncs what is pending in these logs.
    pub(super) fn commit(&mut self, logs: BTreeMap<u64, Arc<Log>>) {
        if logs.is_empty() {
            return;
        }
        if let Err(error) = self.settle_new(&logs) {
            self.directory.fail(&self.shared, error.to_string());
        }
        let mut written = Vec::with_capacity(logs.len());
        let mut dirty_before = self.dirty.len();
        for log in logs.into_values() {
            if self.directory.is_offline() {
                self.refuse(&log);
                continue;
            }
            let work = take_work(&log);
            match self.write(&log, &work) {
                Ok(()) => {
                    written.push(self.note_written(log, work));
                    if self.dirty.len() >= dirty_before + MAX_DIRTY_FILES {
                        self.relieve();
                        dirty_before = self.dirty.len();
                    }
                }
                Err(StorageError::NoSpace) => {
                    self.wait_for_space(&log, work);
                }
                Err(error) => {
                    self.directory.fail(&self.shared, error.to_string());
                    put_back(&log, work, &error);
                }
            }
        }
        self.directory.room.notify_waiters();
        self.finish(written);
    }

    /// Keeps a round over very many logs from holding very many files open.
    fn relieve(&mut self) {
        let root = &self.directory.path;
        let synced = match self.directory.can_sync_all {
            true => self.directory.root.sync_filesystem(),
            false => self.dirty.values().try_for_each(|file| file.sync_data()),
        };
        match synced.doing("syncing files in", root) {
            Ok(()) => self.dirty.clear(),
            Err(error) => self.directory.fail(&self.shared, error.to_string()),
        }
    }

    /// Makes the identities of new logs durable before the first batch is that must be, so that
    /// batches somebody relies on are never found without their topic. The page cache promises
    /// nothing: a log that was in it alone begins anew after a power cut.
    fn settle_new(&self, logs: &BTreeMap<u64, Arc<Log>>) -> Result<(), StorageError> {
        let must_settle = |log: &&Arc<Log>| {
            let state = log.state();
            let relied_on = state.settings.durability == Durability::Fsync;
            state.unborn && (relied_on || !state.pending.waiters.is_empty())
        };
        let new: Vec<&Arc<Log>> = logs.values().filter(must_settle).collect();
        if new.is_empty() || self.directory.is_offline() {
            return Ok(());
        }
        // Logs are made by the hundred, and their first batches come one by one: the sync for the
        // first of them does for all that were made before.
        let unborn = std::mem::take(&mut *lock(&self.directory.unborn));
        if unborn.len() * 2 >= SYNC_ALL_FROM && self.directory.can_sync_all {
            let root = &self.directory.path;
            self.directory
                .root
                .sync_filesystem()
                .doing("syncing", root)?;
            for log in unborn.iter().filter_map(Weak::upgrade) {
                log.state().unborn = false;
            }
            return Ok(());
        }
        for log in new {
            checkpoints::sync_names(&self.shared, log)?;
        }
        Ok(())
    }

    fn wait_for_space(&mut self, log: &Arc<Log>, work: Work) {
        self.directory.note_full(&self.shared);
        put_back(log, work, &StorageError::NoSpace);
        self.stalled.insert(log.number, log.clone());
    }

    /// Answers those who wait for a log in a directory that failed.
    fn refuse(&self, log: &Log) {
        for waiter in take_work(log).waiters {
            let _ = waiter.send(Err(StorageError::Offline(self.directory.reason())));
        }
    }

    /// Puts a log's pending batches into its files.
    fn write(&mut self, log: &Arc<Log>, work: &Work) -> Result<(), StorageError> {
        for run in work.chunks.chunk_by(|a, b| a.segment == b.segment) {
            let (base, position) = (run[0].segment, run[0].position);
            let file = self.segment_file(log, base, position)?;
            let buffers: Vec<Bytes> = run.iter().map(|chunk| chunk.bytes.clone()).collect();
            let path = || log.path().join(names::file(base, FileKind::Log));
            self.dirty.insert((log.number, base), file.clone());
            if let Err(error) = file.write_at(&buffers, position) {
                return Err(StorageError::io("writing", &path(), error));
            }
            let last = &run[run.len() - 1];
            if last.followed {
                let end = last.position_after();
                self.behind
                    .written((log.number, base), &file, position, end);
            }
        }
        for base in &work.closing {
            self.release(log, *base)?;
            self.write_index(log, *base)?;
        }
        for (offset, content) in &work.snapshots {
            self.write_snapshot(log, *offset, content)?;
        }
        Ok(())
    }

    /// A segment's file to write to, made if the first bytes are to be written.
    fn segment_file(
        &self,
        log: &Log,
        base: Offset,
        position: u64,
    ) -> Result<Arc<dyn DiskFile>, StorageError> {
        if position > 0
            && let Some(file) = self.dirty.get(&(log.number, base))
        {
            return Ok(file.clone());
        }
        let path = log.path().join(names::file(base, FileKind::Log));
        let disk = self.shared.host.disk.as_ref();
        let key = log.key(base, FileKind::Log);
        let file = self
            .shared
            .handles
            .open(disk, key, &path, OpenMode::Create)
            .doing("opening", &path)?;
        if position == 0 {
            // Most often it was made a moment ago.
            if file.len().doing("reading", &path)? > 0 {
                file.set_len(0).doing("emptying", &path)?;
            }
            let settings = log.settings();
            if settings.preallocate {
                // Where that is not possible, the room is found batch by batch.
                let _ = file.reserve(settings.segment_bytes);
            }
            log.state().unsynced_names = true;
        }
        Ok(file)
    }

    /// Gives back what a segment that is closed did not use of the room set aside for it.
    fn release(&self, log: &Log, base: Offset) -> Result<(), StorageError> {
        let size = match log.state().segment_mut(base) {
            Some(segment) => segment.size,
            None => return Ok(()),
        };
        if !log.settings().preallocate {
            return Ok(());
        }
        let path = log.path().join(names::file(base, FileKind::Log));
        let file = log.open(base, FileKind::Log).doing("opening", &path)?;
        file.set_len(size).doing("releasing", &path)
    }

    /// Notes in memory what is in the files now.
    fn note_written(&self, log: Arc<Log>, work: Work) -> Written {
        let bytes: usize = work.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.directory
            .queued_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
        let mut state = log.state();
        for chunk in &work.chunks {
            if let Some(segment) = state.segment_mut(chunk.segment) {
                segment.written = chunk.position + chunk.bytes.len() as u64;
            }
        }
        if let Some(last) = work.chunks.last() {
            state.written_end = last.end;
        }
        if let Some((offset, _)) = work.snapshots.last() {
            state.snapshot_end = *offset;
        }
        state.unsynced_closed.extend(&work.closing);
        let end = state.written_end;
        if work.durability == Durability::PageCache {
            state.durable_end = end;
        }
        let unsynced_names = state.unsynced_names;
        let crowded = state.active().index.offsets.len() >= MAX_WAITING_ENTRIES;
        let active = state.active().base;
        state.validate();
        drop(state);
        if crowded {
            // Only memory is at stake: a full disk will be found by the next write.
            if let Err(error) = self.write_index(&log, active)
                && !matches!(error, StorageError::NoSpace)
            {
                self.directory.fail(&self.shared, error.to_string());
            }
        }
        let (waiters, durability, since) = (work.waiters, work.durability, work.since);
        let followed = work.chunks.last().is_some_and(|chunk| chunk.followed);
        Written {
            log,
            end,
            durability,
            waiters,
            since,
            unsynced_names,
            followed,
        }
    }

    /// Makes the round durable and tells of it.
    fn finish(&mut self, written: Vec<Written>) {
        if !self.directory.is_offline() {
            let relaxed = written
                .iter()
                .filter(|w| w.durability == Durability::PageCache);
            self.tell(&relaxed.map(|w| (w.log.id(), w.end)).collect::<Vec<_>>());
        }
        if let Err(error) = self.sync(&written) {
            self.directory.fail(&self.shared, error.to_string());
        }
        let awaited = written.iter().filter(|done| done.must_sync());
        if let Some(since) = awaited.filter_map(|done| done.since).min() {
            self.directory.synced(&self.shared, since);
        }
        let offline = self.directory.is_offline();
        let now = self.shared.host.clock.now();
        let mut progress = Vec::with_capacity(written.len());
        for Written {
            log,
            end,
            durability,
            waiters,
            unsynced_names,
            followed,
            ..
        } in written
        {
            let synced = durability == Durability::Fsync || !waiters.is_empty();
            if synced && !offline {
                let mut state = log.state();
                state.synced_end = end;
                state.durable_end = state.durable_end.max(end);
                state.unsynced_names &= !unsynced_names;
                drop(state);
                if durability == Durability::Fsync {
                    progress.push((log.id(), end));
                }
            }
            for waiter in waiters {
                let answer = match offline {
                    true => Err(StorageError::Offline(self.directory.reason())),
                    false => Ok(()),
                };
                let _ = waiter.send(answer);
            }
            if followed {
                // Clients read from leaders, and nobody follows a follower.
                self.evict_from(&log, end);
            } else {
                self.evictable.push_back(Evictable {
                    log: Arc::downgrade(&log),
                    end,
                    since: now,
                });
            }
        }
        if !offline {
            self.tell(&progress);
        }
        self.evict();
        self.behind.release();
    }

    fn tell(&self, progress: &[(PartitionId, Offset)]) {
        if !progress.is_empty() {
            self.shared.events.durable(progress);
        }
    }

    /// Syncs the files, names and directories of a round.
    fn sync(&mut self, written: &[Written]) -> Result<(), StorageError> {
        if Planted::AckBeforeSync.is_here() {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut directories = Vec::new();
        for done in written.iter().filter(|done| done.must_sync()) {
            let number = done.log.number;
            let own = (number, Offset(i64::MIN))..=(number, Offset(i64::MAX));
            files.extend(
                self.dirty
                    .range(own)
                    .map(|(key, file)| (*key, file.clone())),
            );
            if done.unsynced_names && !Planted::NamesNotSynced.is_here() {
                directories.push(done.log.path());
            }
        }
        let relaxed = self.dirty.len() - files.len();
        if relaxed > LEAST_RELAXED_DIRTY_FILES.max(self.shared.handles.limit()) {
            files = self
                .dirty
                .iter()
                .map(|(key, file)| (*key, file.clone()))
                .collect();
        }
        let count = files.len() + directories.len();
        if count >= SYNC_ALL_FROM && self.directory.can_sync_all {
            let root = &self.directory.path;
            self.directory
                .root
                .sync_filesystem()
                .doing("syncing", root)?;
            self.dirty.clear();
            return Ok(());
        }
        let disk = self.shared.host.disk.as_ref();
        for (key, file) in files {
            let path = self.directory.path.join(names::file(key.1, FileKind::Log));
            file.sync_data().doing("syncing", &path)?;
            self.dirty.remove(&key);
        }
        for path in &directories {
            disk.open_directory(path)
                .and_then(|d| d.sync())
                .doing("syncing", path)?;
        }
        Ok(())
    }

    /// Lets the oldest batches leave memory until the budget holds, and those that whoever keeps up
    /// has read long ago.
    pub(super) fn evict(&mut self) {
        let old = self.shared.host.clock.now() - TAIL_AGE;
        while let Some(oldest) = self.evictable.front()
            && (oldest.since <= old
                || self.shared.tail_bytes.load(Ordering::Relaxed) > self.shared.tail_budget_bytes)
        {
            let Some(Evictable { log, end, .. }) = self.evictable.pop_front() else {
                return;
            };
            if let Some(log) = log.upgrade() {
                self.evict_from(&log, end);
            }
        }
        if self.evictable.is_empty() {
            self.evictable = VecDeque::new();
        }
    }

    fn evict_from(&self, log: &Log, end: Offset) {
        let freed = {
            let mut state = log.state();
            let end = end.min(state.written_end);
            state.tail.evict_to(end)
        };
        self.shared.tail_bytes.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Writes a producer snapshot's file.
    pub(super) fn write_snapshot(
        &self,
        log: &Log,
        offset: Offset,
        content: &Bytes,
    ) -> Result<Arc<dyn DiskFile>, StorageError> {
        let directory = log.path();
        let path = directory.join(names::file(offset, FileKind::Snapshot));
        let disk = self.shared.host.disk.as_ref();
        let file = segment::open(
            disk,
            &directory,
            offset,
            FileKind::Snapshot,
            OpenMode::Create,
        )?;
        file.set_len(0).doing("emptying", &path)?;
        file.write_at(std::slice::from_ref(content), 0)
            .doing("writing", &path)?;
        Ok(file)
    }
}
