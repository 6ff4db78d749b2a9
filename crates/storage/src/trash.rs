//! Files on their way out: they keep their content under another name for `file.delete.delay.ms`,
//! so that whoever deletes by mistake can still take them back, and then go. A disk without room
//! does not wait.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use millrace_host::Disk;
use tokio::time::Instant;

use crate::error::{StorageError, While};

/// What may wait in one directory; beyond it files go at once.
const MAX_WAITING: usize = 100_000;

/// What waits to be removed.
#[derive(Debug, Default)]
pub(crate) struct Trash {
    waiting: BTreeMap<(Instant, PathBuf), Kind>,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

/// One thing to remove.
pub(crate) type Doomed = (PathBuf, Kind);

impl Trash {
    /// Whether there is room for more.
    pub(crate) fn takes_more(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// When the first of them is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Lets something wait.
    pub(crate) fn add(&mut self, due: Instant, path: PathBuf, kind: Kind) {
        self.waiting.insert((due, path), kind);
    }

    /// Takes out what is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Doomed> {
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let ((_, path), kind) = first.remove_entry();
            due.push((path, kind));
        }
        due
    }

    /// Takes out everything.
    pub(crate) fn take_all(&mut self) -> Vec<Doomed> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        all.map(|((_, path), kind)| (path, kind)).collect()
    }
}

/// Removes what was taken out; what is gone already, with the directory it was in, is no error.
pub(crate) fn remove(disk: &dyn Disk, doomed: &[Doomed]) -> Result<(), StorageError> {
    for (path, kind) in doomed {
        let removed = match kind {
            Kind::File => disk.remove_file(path),
            Kind::Directory => disk.remove_directory(path),
        };
        unless_missing(removed).doing("removing", path)?;
    }
    Ok(())
}

/// Gives a file another name; one that is not there is no error.
pub(crate) fn set_aside(disk: &dyn Disk, path: &Path, to: &Path) -> Result<bool, StorageError> {
    match disk.rename(path, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.doing("renaming", path).map(|()| true),
    }
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
