//! Open files, so many at most: opened when used, closed by least recent use.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::Offset;

use crate::lock;
use crate::names::FileKind;

/// One file of one log of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HandleKey {
    /// The log's number in this run, which is never used again.
    pub(crate) log: u64,
    pub(crate) base: Offset,
    pub(crate) kind: FileKind,
}

/// The open files of a store.
pub(crate) struct Handles {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: BTreeMap<HandleKey, (Arc<dyn DiskFile>, u64)>,
    by_age: BTreeMap<u64, HandleKey>,
    now: u64,
}

impl Open {
    fn touch(&mut self, key: HandleKey) -> Option<Arc<dyn DiskFile>> {
        self.now += 1;
        let (file, used) = self.files.get_mut(&key)?;
        self.by_age.remove(used);
        *used = self.now;
        self.by_age.insert(self.now, key);
        Some(file.clone())
    }

    fn remove(&mut self, key: HandleKey) {
        if let Some((_, used)) = self.files.remove(&key) {
            self.by_age.remove(&used);
        }
    }
}

impl Handles {
    pub(crate) fn new(limit: usize) -> Handles {
        let limit = limit.max(1);
        Handles {
            limit,
            open: Mutex::default(),
        }
    }

    /// How many may be open.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The file if it is open already.
    pub(crate) fn get(&self, key: HandleKey) -> Option<Arc<dyn DiskFile>> {
        lock(&self.open).touch(key)
    }

    /// The file, opened if it is not; may wait for the disk.
    pub(crate) fn open(
        &self,
        disk: &dyn Disk,
        key: HandleKey,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.get(key) {
            return Ok(file);
        }
        let file = disk.open(path, mode)?;
        let mut open = lock(&self.open);
        if let Some(other) = open.touch(key) {
            return Ok(other);
        }
        let now = open.now;
        open.files.insert(key, (file.clone(), now));
        open.by_age.insert(now, key);
        while open.files.len() > self.limit
            && let Some((_, oldest)) = open.by_age.pop_first()
        {
            open.files.remove(&oldest);
        }
        Ok(file)
    }

    /// Closes a segment's files.
    pub(crate) fn forget_segment(&self, log: u64, base: Offset) {
        let mut open = lock(&self.open);
        for kind in FileKind::ALL {
            open.remove(HandleKey { log, base, kind });
        }
    }

    /// Closes all files of a log.
    pub(crate) fn forget_log(&self, log: u64) {
        let mut open = lock(&self.open);
        let first = HandleKey {
            log,
            base: Offset(i64::MIN),
            kind: FileKind::Log,
        };
        let last = HandleKey {
            log,
            base: Offset(i64::MAX),
            kind: FileKind::Snapshot,
        };
        let keys: Vec<HandleKey> = open
            .files
            .range(first..=last)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            open.remove(key);
        }
    }

    /// How many files are open.
    pub(crate) fn len(&self) -> usize {
        lock(&self.open).files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_host::disk::RealDisk;

    #[test]
    fn the_least_recently_used_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(2);
        let key = |base| HandleKey {
            log: 1,
            base: Offset(base),
            kind: FileKind::Log,
        };
        let open = |base: i64| {
            let path = dir.path().join(base.to_string());
            handles
                .open(&RealDisk, key(base), &path, OpenMode::Create)
                .unwrap();
        };
        open(1);
        open(2);
        assert!(handles.get(key(1)).is_some());
        open(3);
        assert!(handles.get(key(2)).is_none());
        assert!(handles.get(key(1)).is_some());
        handles.forget_log(1);
        assert_eq!(handles.len(), 0);
    }
}
