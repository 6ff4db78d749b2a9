//! The machine's own disk, whose syncs can be held up.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use millrace_host::disk::{DirectoryEntry, OpenMode, RealDisk, Space};
use millrace_host::{Disk, DiskDirectory, DiskFile};

/// Whether syncs wait.
#[derive(Default)]
pub struct Syncs {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Syncs {
    /// No sync ends until [`Syncs::release`].
    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap();
        drop(self.changed.wait_while(held, |held| *held).unwrap());
    }
}

pub struct HeldDisk(pub Arc<Syncs>);

struct HeldFile(Arc<dyn DiskFile>, Arc<Syncs>);

impl Disk for HeldDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(HeldFile(file, self.0.clone())))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Arc<dyn DiskDirectory>> {
        RealDisk.open_directory(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directories(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        RealDisk.list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_directory(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for HeldFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at_nowait(buf, offset)
    }

    fn write_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        self.0.write_at(bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.wait();
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
