//! A disk in memory that forgets at a crash what was not synced, as a real one may, and fails when
//! told to. One seed decides what survives, so a run can be repeated.
//!
//! What a crash does: of the writes to a file since its last sync nothing, everything or any mix of
//! sectors survives, also the length without the bytes; of the changes of a directory since its
//! last sync the first few survive, in the order in which they were made. A file whose name did not
//! survive is gone, synced or not. After a failed sync the writes before it are lost for good, even
//! if a later sync succeeds.

mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::Rng;

use super::{DirectoryEntry, Disk, DiskDirectory, DiskFile, OpenMode, Space};
use tree::{NodeId, Tree};

/// What a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file.
    Open,
    /// Reading a file.
    Read,
    /// Writing to a file or changing its length; half of what was to be written is there.
    Write,
    /// Syncing a file, a directory or all of the file system.
    Sync,
    /// Renaming.
    Rename,
}

/// A failure to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// Only where the path, as it was when opened, contains this.
    pub path_contains: String,
    /// So many succeed before.
    pub after: u32,
    /// So many fail.
    pub times: u32,
    /// With what; `EIO` is 5.
    pub errno: i32,
}

impl Fault {
    /// An I/O error at every such operation from now on.
    pub fn broken(operation: Operation, path_contains: &str) -> Fault {
        Fault {
            operation,
            path_contains: path_contains.to_owned(),
            after: 0,
            times: u32::MAX,
            errno: rustix::io::Errno::IO.raw_os_error(),
        }
    }
}

/// The disks of one simulated machine; clones are the same disks.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Machine>>);

struct Machine {
    tree: Tree,
    /// Raised by a crash: what was opened before is dead.
    life: u64,
    capacity: u64,
    faults: Vec<Fault>,
    locks: Vec<PathBuf>,
    syncs: u64,
    changes: u64,
    open: usize,
    most_open: usize,
    /// Changes until the power goes.
    countdown: Option<u64>,
    tells_errors: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Machine::new(Tree::new(seed)))))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as processes see it until the next crash; after that everything through it fails.
    pub fn mount(&self) -> Arc<dyn Disk> {
        let (machine, life) = (self.0.clone(), self.machine().life);
        Arc::new(Mounted { machine, life })
    }

    /// Another machine with what this one is sure to have after a crash: what was synced, and
    /// nothing else.
    pub fn worst_case(&self) -> SimDisk {
        let machine = self.machine();
        let mut other = Machine::new(machine.tree.worst_case());
        other.tells_errors = machine.tells_errors;
        SimDisk(Arc::new(Mutex::new(other)))
    }

    /// Whether a sync of the file system is to be trusted; it is unless told otherwise.
    pub fn set_tells_errors(&self, tells: bool) {
        self.machine().tells_errors = tells;
    }

    /// The power goes: what was not synced may be lost, and whatever is open is dead.
    pub fn crash(&self) {
        self.machine().crash();
    }

    /// The power goes after so many more changes: creations, writes, syncs, renames, removals.
    pub fn crash_after(&self, changes: u64) {
        self.machine().countdown = Some(changes);
    }

    /// How often the machine went down.
    pub fn crashes(&self) -> u64 {
        self.machine().life
    }

    /// The processes go, and the power stays: nothing is lost, and whatever is open is dead.
    pub fn kill(&self) {
        let mut machine = self.machine();
        machine.life += 1;
        machine.locks.clear();
        machine.countdown = None;
    }

    /// How many bytes all files together may hold.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine().capacity = bytes;
    }

    /// Bytes that all files hold.
    pub fn used(&self) -> u64 {
        self.machine().tree.used()
    }

    /// Successful syncs so far.
    pub fn syncs(&self) -> u64 {
        self.machine().syncs
    }

    /// Creations, writes, syncs, renames and removals so far.
    pub fn changes(&self) -> u64 {
        self.machine().changes
    }

    /// The most files and directories that were open at once.
    pub fn most_open(&self) -> usize {
        self.machine().most_open
    }

    /// Something will fail.
    pub fn inject(&self, fault: Fault) {
        self.machine().faults.push(fault);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.machine().faults.clear();
    }

    /// Flips a bit of a file, also of what was synced: a disk that rots.
    pub fn rot(&self, path: &Path, position: u64) -> io::Result<()> {
        self.machine().tree.rot(path, position)
    }
}

impl Machine {
    fn new(tree: Tree) -> Machine {
        Machine {
            tree,
            life: 0,
            capacity: u64::MAX,
            faults: Vec::new(),
            locks: Vec::new(),
            syncs: 0,
            changes: 0,
            open: 0,
            most_open: 0,
            countdown: None,
            tells_errors: true,
        }
    }

    fn crash(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.countdown = None;
        self.tree.crash();
    }

    /// Something is about to change; the power may go instead.
    fn step(&mut self, life: u64) -> io::Result<()> {
        self.alive(life)?;
        self.changes += 1;
        match &mut self.countdown {
            Some(0) => {
                self.crash();
                self.alive(life)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check(&mut self, life: u64, operation: Operation, path: &Path) -> io::Result<()> {
        self.alive(life)?;
        let path = path.to_string_lossy();
        for fault in &mut self.faults {
            if fault.operation != operation || !path.contains(&fault.path_contains) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times = fault
                    .times
                    .saturating_sub(u32::from(fault.times != u32::MAX));
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.life == life {
            return Ok(());
        }
        Err(io::Error::other("the simulated machine went down"))
    }

    /// How many of `wanted` new bytes there is room for.
    fn room(&self, wanted: u64) -> u64 {
        match self.capacity {
            u64::MAX => wanted,
            capacity => wanted.min(capacity.saturating_sub(self.tree.used())),
        }
    }
}

fn full() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

/// The disk in one life of the machine.
struct Mounted {
    machine: Arc<Mutex<Machine>>,
    life: u64,
}

impl Mounted {
    fn machine(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = lock(&self.machine);
        machine.alive(self.life)?;
        Ok(machine)
    }

    fn opened(
        &self,
        machine: &mut Machine,
        node: NodeId,
        path: &Path,
        writable: bool,
    ) -> Arc<Opened> {
        machine.open += 1;
        machine.most_open = machine.most_open.max(machine.open);
        Arc::new(Opened {
            machine: self.machine.clone(),
            life: self.life,
            node,
            path: path.to_owned(),
            writable,
        })
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for Mounted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine()?;
        machine.check(self.life, Operation::Open, path)?;
        let node = match (machine.tree.file(path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(node), _) => node,
            (Err(error), OpenMode::Create | OpenMode::CreateNew)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                if machine.room(1) == 0 {
                    return Err(full());
                }
                machine.step(self.life)?;
                machine.tree.create_file(path)?
            }
            (Err(error), _) => return Err(error),
        };
        Ok(self.opened(&mut machine, node, path, mode != OpenMode::Read))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Arc<dyn DiskDirectory>> {
        let mut machine = self.machine()?;
        let node = machine.tree.directory(path)?;
        Ok(self.opened(&mut machine, node, path, false))
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine()?;
        machine.step(self.life)?;
        machine.tree.create_directories(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.machine()?.tree.list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.machine()
            .is_ok_and(|machine| machine.tree.find(path).is_ok())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.machine()?;
        machine.check(self.life, Operation::Rename, from)?;
        machine.step(self.life)?;
        machine.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine()?;
        machine.tree.file(path)?;
        machine.step(self.life)?;
        machine.tree.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine()?;
        machine.tree.directory(path)?;
        machine.step(self.life)?;
        machine.tree.remove(path)
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let machine = self.machine()?;
        let free_bytes = machine.room(u64::MAX);
        Ok(Space {
            free_bytes,
            total_bytes: machine.capacity,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut machine = self.machine()?;
        if machine.locks.iter().any(|held| held == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if machine.tree.find(path).is_err() {
            machine.tree.create_file(path)?;
        }
        machine.locks.push(path.to_owned());
        let (machine, life) = (self.machine.clone(), self.life);
        Ok(Box::new(Held {
            machine,
            life,
            path: path.to_owned(),
        }))
    }
}

/// A lock that is held.
struct Held {
    machine: Arc<Mutex<Machine>>,
    life: u64,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut machine = lock(&self.machine);
        if machine.life == self.life {
            machine.locks.retain(|held| *held != self.path);
        }
    }
}

/// An open file or directory.
struct Opened {
    machine: Arc<Mutex<Machine>>,
    life: u64,
    node: NodeId,
    path: PathBuf,
    writable: bool,
}

impl Drop for Opened {
    fn drop(&mut self) {
        lock(&self.machine).open -= 1;
    }
}

impl Opened {
    fn start(&self, operation: Operation) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = lock(&self.machine);
        machine.check(self.life, operation, &self.path)?;
        Ok(machine)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }

    /// Writes as much as there is room for.
    fn put(&self, machine: &mut Machine, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let grows = end.saturating_sub(machine.tree.len(self.node)?);
        let missing = grows - machine.room(grows);
        let fits = bytes.len() - usize::try_from(missing).unwrap_or(0).min(bytes.len());
        machine.tree.write(self.node, offset, &bytes[..fits])?;
        if fits < bytes.len() {
            Err(full())
        } else {
            Ok(())
        }
    }

    fn sync_by(&self, sync: impl FnOnce(&mut Tree, bool) -> io::Result<()>) -> io::Result<()> {
        let mut machine = lock(&self.machine);
        let checked = machine.check(self.life, Operation::Sync, &self.path);
        machine.step(self.life)?;
        sync(&mut machine.tree, checked.is_ok())?;
        machine.syncs += u64::from(checked.is_ok());
        checked
    }
}

impl DiskFile for Opened {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.start(Operation::Read)?
            .tree
            .read(self.node, offset, buf)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.start(Operation::Read)?;
        if machine.tree.rng.random_bool(0.5) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = machine.tree.rng.random_range(0..=buf.len());
        machine.tree.read(self.node, offset, &mut buf[..len])
    }

    fn write_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut machine = lock(&self.machine);
        let checked = machine.check(self.life, Operation::Write, &self.path);
        machine.step(self.life)?;
        let mut offset = offset;
        for buf in bufs {
            let len = if checked.is_ok() {
                buf.len()
            } else {
                buf.len() / 2
            };
            self.put(&mut machine, &buf[..len], offset)?;
            if len < buf.len() {
                break;
            }
            offset += buf.len() as u64;
        }
        checked
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_by(|tree, success| tree.sync(self.node, success))
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.start(Operation::Read)?.tree.forget_cache(self.node)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut machine = self.start(Operation::Write)?;
        machine.step(self.life)?;
        machine.tree.set_len(self.node, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.start(Operation::Read)?.tree.len(self.node)
    }
}

impl DiskDirectory for Opened {
    fn sync(&self) -> io::Result<()> {
        self.sync_by(|tree, success| tree.sync(self.node, success))
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.sync_by(|tree, success| {
            tree.sync_all(success);
            Ok(())
        })
    }

    fn tells_errors_of_filesystem(&self) -> bool {
        lock(&self.machine).tells_errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &dyn Disk, path: &Path, bytes: &'static [u8], at: u64) -> Arc<dyn DiskFile> {
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_at(&[Bytes::from_static(bytes)], at).unwrap();
        file
    }

    fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
        super::super::read_file(disk, path, 1 << 20)
    }

    #[test]
    fn what_was_synced_survives_a_crash() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..50 {
            let sim = SimDisk::new(seed);
            let disk = sim.mount();
            let (dir, path) = (Path::new("/a/b"), Path::new("/a/b/file"));
            disk.create_directories(dir).unwrap();
            let file = write(disk.as_ref(), path, b"synced", 0);
            file.sync_data().unwrap();
            for dir in ["/", "/a", "/a/b"] {
                disk.open_directory(Path::new(dir)).unwrap().sync().unwrap();
            }
            file.write_at(&[Bytes::from_static(b" and not")], 6)
                .unwrap();
            write(disk.as_ref(), Path::new("/a/b/other"), b"x", 0)
                .sync_data()
                .unwrap();
            sim.crash();
            assert!(file.write_at(&[Bytes::from_static(b"late")], 0).is_err());
            assert!(disk.list(dir).is_err(), "an old life is dead");
            let disk = sim.mount();
            let found = read(disk.as_ref(), path).unwrap();
            assert_eq!(&found[..6], b"synced");
            match disk.exists(Path::new("/a/b/other")) {
                true => kept += 1,
                false => lost += 1,
            }
        }
        assert!(
            kept > 5 && lost > 5,
            "{kept} names survived and {lost} did not"
        );
    }

    #[test]
    fn after_a_failed_sync_later_ones_prove_nothing() {
        let sim = SimDisk::new(1);
        let disk = sim.mount();
        let path = Path::new("/file");
        let file = write(disk.as_ref(), path, b"doomed", 0);
        disk.open_directory(Path::new("/")).unwrap().sync().unwrap();
        sim.inject(Fault {
            times: 1,
            ..Fault::broken(Operation::Sync, "file")
        });
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(read(disk.as_ref(), path).unwrap(), b"doomed");
        file.forget_cache().unwrap();
        assert_eq!(read(disk.as_ref(), path).unwrap(), b"");
        sim.crash();
        assert_eq!(read(sim.mount().as_ref(), path).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let sim = SimDisk::new(1);
        sim.set_capacity(4);
        let disk = sim.mount();
        let file = disk.open(Path::new("/file"), OpenMode::Create).unwrap();
        let error = file
            .write_at(&[Bytes::from_static(b"123456")], 0)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 4);
        sim.set_capacity(6);
        file.write_at(&[Bytes::from_static(b"123456")], 0).unwrap();
    }

    #[test]
    fn one_seed_gives_one_outcome() {
        let outcome = |seed| {
            let sim = SimDisk::new(seed);
            let disk = sim.mount();
            for n in 0..20u8 {
                let path = PathBuf::from(format!("/{n}"));
                let file = disk.open(&path, OpenMode::Create).unwrap();
                file.write_at(&[Bytes::from(vec![n; 2000])], 0).unwrap();
            }
            disk.open_directory(Path::new("/")).unwrap().sync().unwrap();
            sim.crash();
            let disk = sim.mount();
            (0..20u8)
                .map(|n| read(disk.as_ref(), &PathBuf::from(format!("/{n}"))).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(outcome(5), outcome(5));
        assert_ne!(outcome(5), outcome(6));
    }
}
