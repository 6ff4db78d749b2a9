//! The clean stop: everything written, synced and completed, so that the next start takes the files
//! as they are.
//!
//! No file stays open for longer than it is worked on: there may be more logs than descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_host::DiskFile;
use millrace_host::disk::OpenMode;

use super::Writer;
use crate::error::{StorageError, While};
use crate::log::{Log, Mode};
use crate::names::{self, FileKind};
use crate::producers;
use crate::segment;
use crate::store::epoch_files;

impl Writer {
    pub(super) fn close(&mut self, logs: &[Arc<Log>]) -> Result<(), StorageError> {
        // From here on nothing comes in behind what the marker of a clean stop will vouch for.
        let mut last = BTreeMap::new();
        for log in logs {
            let mut state = log.state();
            state.mode = Mode::Closed;
            if !state.pending.is_empty() {
                last.insert(log.number, log.clone());
            }
        }
        self.commit(last);
        if self.directory.is_offline() {
            return Err(StorageError::Offline(self.directory.reason()));
        }
        if !self.stalled.is_empty() {
            return Err(StorageError::NoSpace);
        }
        epoch_files::write(&self.shared, &self.directory, logs)?;
        for log in logs {
            self.complete(log)?;
        }
        self.sync_completed(logs)?;
        self.dirty.clear();
        for log in logs {
            let mut state = log.state();
            state.synced_end = state.written_end;
            state.durable_end = state.written_end;
            state.unsynced_closed.clear();
        }
        Ok(())
    }

    /// Brings the files of one log to the state in which the next start takes them as they are,
    /// and syncs them unless all of the file system will be synced.
    fn complete(&self, log: &Arc<Log>) -> Result<(), StorageError> {
        let (base, waiting, snapshot, unsynced) = {
            let mut state = log.state();
            state.active_mut().add_time();
            let wanted = state.snapshot_end < state.log_end && state.log_end.get() > 0;
            let snapshot = wanted.then(|| (state.log_end, producers::encode(&state.producers)));
            let index = &state.active().index;
            let waiting = wanted || !index.offsets.is_empty() || !index.times.is_empty();
            let (base, unsynced) = (state.active().base, state.unsynced_closed.clone());
            (base, waiting, snapshot, unsynced)
        };
        if waiting {
            self.write_index(log, base)?;
        }
        if let Some((offset, content)) = snapshot {
            let file = self.write_snapshot(log, offset, &content)?;
            self.sync_one(log, file.as_ref())?;
            log.state().snapshot_end = offset;
        }
        if self.directory.can_sync_all {
            return Ok(());
        }
        let (disk, directory) = (self.shared.host.disk.as_ref(), log.path());
        for base in unsynced.into_iter().chain([base]) {
            for kind in FileKind::ALL {
                if let Some(file) = segment::open_if_any(disk, &directory, base, kind)? {
                    self.sync_one(log, file.as_ref())?;
                }
            }
        }
        match disk.open(&directory.join(names::PARTITION_METADATA), OpenMode::Read) {
            Ok(identity) => self.sync_one(log, identity.as_ref()),
            Err(_) => Ok(()),
        }
    }

    fn sync_one(&self, log: &Log, file: &dyn DiskFile) -> Result<(), StorageError> {
        match self.directory.can_sync_all {
            true => Ok(()),
            false => file.sync_data().doing("syncing a file in", &log.path()),
        }
    }

    /// Makes what was completed durable, with all names.
    fn sync_completed(&self, logs: &[Arc<Log>]) -> Result<(), StorageError> {
        let root = &self.directory.path;
        if self.directory.can_sync_all {
            let synced = self.directory.root.sync_filesystem();
            return synced.doing("syncing", root);
        }
        for file in self.dirty.values() {
            file.sync_data().doing("syncing files in", root)?;
        }
        let disk = self.shared.host.disk.as_ref();
        for log in logs {
            let path = log.path();
            disk.open_directory(&path)
                .and_then(|directory| directory.sync())
                .doing("syncing", &path)?;
        }
        self.directory.root.sync().doing("syncing", root)
    }
}
