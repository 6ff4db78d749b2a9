//! The last step of a log's move to another directory (Kafka method
//! `LogManager.replaceCurrentWithFutureLog`).
//!
//! Most of the log lies in the new directory already, under a name that ends in `-future`. Nothing
//! is appended while the rest is copied and synced; then the directory gets the partition's name, the
//! old one another, both durably, and only then the log goes on. A start after a power cut in between
//! finds two directories of the partition with the same in them, and keeps one of them aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_host::{Disk, Worker};

use super::{Job, Writer};
use crate::checkpoint;
use crate::directory::Directory;
use crate::error::{StorageError, While};
use crate::log::{Log, Mode};
use crate::names::{self, DELETED_DIRECTORY, LEADER_EPOCHS};
use crate::store::checkpoints;
use crate::store::moving::{Copied, copy_rest};
use crate::trash;

/// What is to be moved, and where.
pub(crate) struct Relocation {
    pub(crate) log: Arc<Log>,
    pub(crate) to: Arc<Directory>,
    pub(crate) writer: Worker<Job>,
    /// Where the files are so far.
    pub(crate) future: PathBuf,
    pub(crate) copied: Copied,
    /// The log's generation when they were copied.
    pub(crate) generation: u64,
}

impl Writer {
    /// Moves the log; on an error it stays where it was.
    pub(super) fn relocate(&mut self, wanted: &Relocation) -> Result<(), StorageError> {
        let log = &wanted.log;
        let done = self
            .may_change(log)
            .and_then(|()| self.relocate_now(wanted));
        let mut state = log.state();
        if state.mode == Mode::Changing {
            state.mode = Mode::Open;
        }
        drop(state);
        let key = (log.topic().clone(), log.id().index);
        crate::lock(&wanted.to.kept).remove(&key);
        if done.is_ok() {
            wanted.to.note_high_watermarks();
            self.directory.note_high_watermarks();
        }
        done
    }

    fn relocate_now(&mut self, wanted: &Relocation) -> Result<(), StorageError> {
        let Relocation { log, to, .. } = wanted;
        let disk = self.shared.host.disk.clone();
        let active = {
            let state = log.state();
            if !state.pending.chunks.is_empty() {
                return Err(StorageError::NoSpace);
            }
            if state.generation != wanted.generation {
                return Err(StorageError::Busy);
            }
            state.active().base
        };
        self.write_index(log, active)?;
        let from = log.path();
        let place = to.path.join(names::partition(log.topic(), log.id().index));
        self.fill(wanted, &from)?;
        disk.rename(&wanted.future, &place)
            .doing("renaming", &wanted.future)?;
        if let Err(error) = to.root.sync().doing("syncing", &to.path) {
            // Whether the name survives is not known; a start would find both, with the same.
            let _ = disk.rename(&place, &wanted.future);
            to.fail(&self.shared, error.to_string());
            return Err(error);
        }
        let aside = self.set_aside(log, &from);
        self.forget_files(log);
        log.relocated(to.clone(), wanted.writer.clone());
        note_relocated(log);
        match aside {
            Ok(aside) => self.discard_folder(log, aside),
            Err(error) => self.directory.fail(&self.shared, error.to_string()),
        }
        Ok(())
    }

    /// Copies what is missing, and makes all of it durable under its preliminary name.
    fn fill(&self, wanted: &Relocation, from: &Path) -> Result<(), StorageError> {
        let (disk, log) = (self.shared.host.disk.as_ref(), &wanted.log);
        copy_rest(disk, from, &wanted.future, &wanted.copied)?;
        let epochs = checkpoint::encode_epochs(log.state().epochs.entries());
        checkpoint::replace(disk, &wanted.future.join(LEADER_EPOCHS), epochs)?;
        checkpoints::adopt(&self.shared, log, &wanted.to)
    }

    fn set_aside(&self, log: &Log, from: &Path) -> Result<PathBuf, StorageError> {
        let unique = self.shared.host.random.uuid();
        let name = names::retired(log.topic(), log.id().index, unique, DELETED_DIRECTORY);
        let aside = self.directory.path.join(name);
        let disk: &dyn Disk = self.shared.host.disk.as_ref();
        disk.rename(from, &aside).doing("renaming", from)?;
        self.directory
            .root
            .sync()
            .doing("syncing", &self.directory.path)?;
        Ok(aside)
    }

    fn discard_folder(&self, log: &Log, aside: PathBuf) {
        let delay = u64::try_from(log.settings().file_delete_delay_ms).unwrap_or(0);
        let due = self.shared.host.clock.now() + std::time::Duration::from_millis(delay);
        let mut trash = crate::lock(&self.directory.trash);
        trash.add(due, aside, trash::Kind::Directory);
        drop(trash);
        self.shared.attention.notify_one();
    }
}

/// All of it is synced, in files that nobody has open.
fn note_relocated(log: &Log) {
    let mut state = log.state();
    state.synced_end = state.written_end;
    state.durable_end = state.durable_end.max(state.written_end);
    state.unsynced_closed.clear();
    state.unsynced_names = false;
    state.unborn = false;
    state.epochs.changed = false;
    state.invalidate();
    state.validate();
}
