//! Removing the files of segments that lie before the log start.
//!
//! A log that loses its power right after must not come back shorter than it was durable, even if
//! nothing is left in it: so the first segment that stays has its name on the disk before any file
//! goes, and the log begins there at worst.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Disk;
use millrace_host::disk::OpenMode;
use millrace_model::Offset;

use super::Writer;
use crate::error::{StorageError, While};
use crate::lock;
use crate::log::{Log, Mode};
use crate::names::{self, FileKind};
use crate::segment;
use crate::store::checkpoints;
use crate::trash;

impl Writer {
    /// Removes segments; those for which the disk is too full are tried again when there is room.
    pub(super) fn remove(&mut self, log: &Arc<Log>, bases: Vec<Offset>) {
        if self.directory.is_offline() {
            return;
        }
        match self.remove_segments(log, &bases) {
            Ok(()) => {}
            Err(StorageError::NoSpace) => {
                self.directory.note_full(&self.shared);
                self.unremoved.push((log.clone(), bases));
            }
            Err(error) => self.directory.fail(&self.shared, error.to_string()),
        }
    }

    fn remove_segments(&mut self, log: &Log, bases: &[Offset]) -> Result<(), StorageError> {
        let (first, mut gone) = {
            let state = log.state();
            if state.mode == Mode::Deleted {
                return Ok(());
            }
            // What a restart made anew meanwhile is not what was to be removed.
            let gone = |base: &&Offset| state.segments.iter().all(|s| s.base != **base);
            let gone: Vec<Offset> = bases.iter().filter(gone).copied().collect();
            (state.segments[0].base, gone)
        };
        gone.retain(|base| *base < first);
        if gone.is_empty() {
            return Ok(());
        }
        let (disk, directory) = (self.shared.host.disk.clone(), log.path());
        segment::open(
            disk.as_ref(),
            &directory,
            first,
            FileKind::Log,
            OpenMode::Create,
        )?;
        // The producers of what goes are known from the first snapshot that stays.
        let snapshot = segment::open_if_any(disk.as_ref(), &directory, first, FileKind::Snapshot)?;
        if let Some(snapshot) = snapshot {
            snapshot.sync_data().doing("syncing", &directory)?;
        }
        checkpoints::sync_names(&self.shared, log)?;
        let delay = log.state().settings.file_delete_delay_ms;
        for base in gone {
            self.discard(log, base, &FileKind::ALL, delay)?;
        }
        Ok(())
    }

    /// Takes files of a segment away, by another name for so many milliseconds. Where the disk is
    /// full they go at once; else somebody else removes them, for that takes long for large files.
    pub(super) fn discard(
        &mut self,
        log: &Log,
        base: Offset,
        kinds: &[FileKind],
        delay_ms: i64,
    ) -> Result<(), StorageError> {
        if kinds.contains(&FileKind::Log) {
            self.dirty.remove(&(log.number, base));
            self.shared.handles.forget_segment(log.place().files, base);
        }
        let (disk, directory) = (self.shared.host.disk.as_ref(), log.path());
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
        let waits = !self.directory.is_full() && lock(&self.directory.trash).takes_more();
        for kind in kinds {
            let path = directory.join(names::file(base, *kind));
            if !waits {
                remove_file(disk, &path)?;
                continue;
            }
            let aside = directory.join(names::deleted_file(base, *kind));
            if trash::set_aside(disk, &path, &aside)? {
                let due = self.shared.host.clock.now() + delay;
                lock(&self.directory.trash).add(due, aside, trash::Kind::File);
            }
        }
        if waits && delay.is_zero() {
            self.shared.attention.notify_one();
        }
        Ok(())
    }
}

pub(crate) fn remove_file(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing("removing", path),
    }
}
