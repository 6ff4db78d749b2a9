//! The files of leader epochs. After a change of leaders those of all logs must be written anew,
//! so when they are many they share their syncs.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millrace_host::Disk;
use millrace_host::disk::OpenMode;

use crate::checkpoint;
use crate::directory::{Directory, Shared};
use crate::error::{StorageError, While};
use crate::lock;
use crate::log::Log;
use crate::names::LEADER_EPOCHS;

/// From this many files on, two syncs of the file system are cheaper than two syncs a file.
const SYNC_ALL_FROM: usize = 4;

/// Writes the leader epochs of those logs whose files hold something else, durably. Logs that are
/// being deleted are passed over.
pub(crate) fn write(
    shared: &Shared,
    directory: &Directory,
    logs: &[Arc<Log>],
) -> Result<(), StorageError> {
    // Whoever returns may rely on all files, also on those that somebody else was writing.
    let _writing = lock(&directory.writing_epochs);
    let changed: Vec<&Arc<Log>> = logs
        .iter()
        .filter(|log| log.state().epochs.changed)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let texts: Vec<(PathBuf, String)> = changed.iter().map(|log| take(log)).collect();
    let disk = shared.host.disk.as_ref();
    let written = match directory.can_sync_all && texts.len() >= SYNC_ALL_FROM {
        true => replace_together(disk, directory, texts),
        false => replace_each(disk, texts),
    };
    if written.is_err() {
        for log in changed {
            log.state().epochs.changed = true;
        }
    }
    written
}

/// What a log's file should hold.
fn take(log: &Log) -> (PathBuf, String) {
    let mut state = log.state();
    state.epochs.changed = false;
    let text = checkpoint::encode_epochs(state.epochs.entries());
    (log.path().join(LEADER_EPOCHS), text)
}

fn replace_each(disk: &dyn Disk, texts: Vec<(PathBuf, String)>) -> Result<(), StorageError> {
    for (path, text) in texts {
        unless_deleted(checkpoint::replace(disk, &path, text))?;
    }
    Ok(())
}

fn replace_together(
    disk: &dyn Disk,
    directory: &Directory,
    texts: Vec<(PathBuf, String)>,
) -> Result<(), StorageError> {
    let root = &directory.path;
    // A descriptor of its own: the writer must not miss an error that was told here.
    let file_system = disk.open_directory(root).doing("opening", root)?;
    let mut renames = Vec::with_capacity(texts.len());
    for (path, text) in texts {
        let beside = PathBuf::from(format!("{}.tmp", path.display()));
        let written = disk.open(&beside, OpenMode::Create).and_then(|file| {
            file.set_len(0)?;
            file.write_at(&[Bytes::from(text)], 0)
        });
        unless_deleted(written.doing("writing", &beside))?;
        renames.push((beside, path));
    }
    file_system.sync_filesystem().doing("syncing", root)?;
    for (beside, path) in renames {
        unless_deleted(disk.rename(&beside, &path).doing("renaming", &beside))?;
    }
    file_system.sync_filesystem().doing("syncing", root)
}

fn unless_deleted(done: Result<(), StorageError>) -> Result<(), StorageError> {
    match done {
        Err(error) if error.is_missing_file() => Ok(()),
        other => other,
    }
}
