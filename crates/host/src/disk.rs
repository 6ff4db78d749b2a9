//! Disks: files are read and written at offsets, and every loss-relevant step is a call of its own.
//!
//! All calls may block, so they are made from a [`crate::Worker`] or from `Tasks::blocking`, never
//! from a task that serves sockets; the exceptions say so. What a returned call promises after a
//! power cut: a write nothing until [`DiskFile::sync_data`]; a create, rename or remove nothing
//! until [`DiskDirectory::sync`] of the directory that holds the name.

pub mod sim;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use millrace_model::Timestamp;
use rustix::io::ReadWriteFlags;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; writes are refused.
    Read,
    /// Must exist.
    ReadWrite,
    /// Made if it does not exist.
    Create,
    /// Must not exist.
    CreateNew,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name within the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_directory: bool,
}

/// The files of one machine.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a directory, to sync it.
    fn open_directory(&self, path: &Path) -> io::Result<Arc<dyn DiskDirectory>>;
    /// Makes a directory and those above it.
    fn create_directories(&self, path: &Path) -> io::Result<()>;
    /// What a directory holds, in the order of names.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Whether there is a file or directory.
    fn exists(&self, path: &Path) -> bool;
    /// Gives a file or directory another name, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all it holds.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Bytes a user may still write, and the size of the file system.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Locks a file for this process until the guard is dropped; `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What may still be written.
    pub free_bytes: u64,
    /// What there is in all.
    pub total_bytes: u64,
}

/// An open file; the handle may be used from several threads.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads what needs no wait for the disk, perhaps fewer bytes than asked for; `WouldBlock` if
    /// there is none. May be called from any task.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bufs`, one after the other, at `offset`.
    fn write_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()>;
    /// Makes what was written survive a power cut (fdatasync). After an error the state of the
    /// data is unknown: never try again and believe it.
    fn sync_data(&self) -> io::Result<()>;
    /// Drops what is cached of the file and was written, so that the next read shows what the disk
    /// holds. After a failed sync the cache may show bytes that never reached the disk.
    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
    /// A hint that a stretch of the file will hardly be read soon: what of it was written to the
    /// disk leaves the cache, and what was not begins to be written.
    fn release_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Sets room aside for so many bytes, without making the file longer.
    fn reserve(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// When the content last changed, where the file system tells.
    fn modified(&self) -> io::Result<Timestamp> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The descriptor where there is one, for sendfile.
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// An open directory.
pub trait DiskDirectory: Send + Sync + 'static {
    /// Makes the names in it survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Makes everything on its file system survive a power cut (syncfs). Tells of write errors
    /// since the directory was opened, from Linux 5.8 on.
    fn sync_filesystem(&self) -> io::Result<()>;
    /// Whether [`DiskDirectory::sync_filesystem`] can be trusted to tell of write errors, so that
    /// one such call may stand for a sync of many files.
    fn tells_errors_of_filesystem(&self) -> bool {
        false
    }
}

/// Writes `content` to `path` so that after a power cut the file is either the old or the new one:
/// write beside it, sync, rename, sync the directory.
pub fn replace_file(disk: &dyn Disk, path: &Path, content: Bytes) -> io::Result<()> {
    let beside = PathBuf::from(format!("{}.tmp", path.display()));
    let file = disk.open(&beside, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_at(&[content], 0)?;
    file.sync_data()?;
    disk.rename(&beside, path)?;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    disk.open_directory(parent)?.sync()
}

/// Reads a whole file of at most `limit` bytes; `InvalidData` if it is larger.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        let what = format!(
            "{} has {len} bytes, more than the {limit} allowed",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut content = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(content)
}

/// The machine's own disks.
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        match mode {
            OpenMode::Read | OpenMode::ReadWrite => {}
            OpenMode::Create => {
                options.create(true);
            }
            OpenMode::CreateNew => {
                options.create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Arc<dyn DiskDirectory>> {
        Ok(Arc::new(RealDirectory(File::open(path)?)))
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                let is_directory = entry.file_type()?.is_dir();
                entries.push(DirectoryEntry { name, is_directory });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            free_bytes: stat.f_bavail * stat.f_frsize,
            total_bytes: stat.f_blocks * stat.f_frsize,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let options = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .clone();
        let file = options.open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

struct RealFile(File);

/// Buffers of one vectored write; the kernel takes no more (IOV_MAX).
const MAX_VECTORED_BUFFERS: usize = 1024;

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut slices = [IoSliceMut::new(buf)];
        Ok(rustix::io::preadv2(
            &self.0,
            &mut slices,
            offset,
            ReadWriteFlags::NOWAIT,
        )?)
    }

    fn write_at(&self, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for chunk in bufs.chunks(MAX_VECTORED_BUFFERS) {
            let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|b| IoSlice::new(b)).collect();
            let mut slices = &mut slices[..];
            IoSlice::advance_slices(&mut slices, 0);
            while !slices.is_empty() {
                match rustix::io::pwritev(&self.0, slices, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        offset += written as u64;
                        IoSlice::advance_slices(&mut slices, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(
            &self.0,
            0,
            None,
            rustix::fs::Advice::DontNeed,
        )?)
    }

    fn release_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = std::num::NonZero::new(len);
        let advice = rustix::fs::Advice::DontNeed;
        Ok(rustix::fs::fadvise(&self.0, offset, len, advice)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.0, flags, 0, len)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified(&self) -> io::Result<Timestamp> {
        let since_1970 = self.0.metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let millis = since_1970.map(|since| since.as_millis()).unwrap_or(0);
        Ok(Timestamp(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}

struct RealDirectory(File);

impl DiskDirectory for RealDirectory {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    fn tells_errors_of_filesystem(&self) -> bool {
        kernel_is_at_least(5, 8)
            && rustix::fs::fstatfs(&self.0).is_ok_and(|stat| {
                let kind = u32::try_from(stat.f_type & 0xffff_ffff).unwrap_or(0);
                TELLING_FILESYSTEMS.contains(&kind)
            })
    }
}

/// File systems whose syncfs is known to write everything and to tell of errors: ext4, XFS, btrfs,
/// tmpfs. Stacked and network file systems are left out.
const TELLING_FILESYSTEMS: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let (found_major, found_minor) = (numbers.next(), numbers.next());
    (found_major, found_minor) >= (Some(major), Some(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
        let parts: Vec<Bytes> = (0..3000u32)
            .map(|n| Bytes::from(n.to_be_bytes().to_vec()))
            .collect();
        file.write_at(&parts, 8).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8 + 4 * 3000);
        let mut four = [0; 4];
        assert_eq!(file.read_at(&mut four, 8 + 4 * 2999).unwrap(), 4);
        assert_eq!(u32::from_be_bytes(four), 2999);
        assert_eq!(file.read_at(&mut four, 8 + 4 * 3000).unwrap(), 0);
        assert!(RealDisk.open(&path, OpenMode::CreateNew).is_err());
    }

    #[test]
    fn a_replaced_file_is_whole_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace_file(
            &RealDisk,
            &path,
            Bytes::from_static(b"a longer first content"),
        )
        .unwrap();
        replace_file(&RealDisk, &path, Bytes::from_static(b"second")).unwrap();
        assert_eq!(read_file(&RealDisk, &path, 100).unwrap(), b"second");
        assert!(read_file(&RealDisk, &path, 3).is_err());
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(
            RealDisk.lock(&path).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        assert!(RealDisk.lock(&path).is_ok());
    }
}
