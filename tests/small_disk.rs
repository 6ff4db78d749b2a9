//! A small file system that a test may fill.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_testkit::process::output_within;

/// How long the kernel may take to mount one.
const MOUNTING: Duration = Duration::from_secs(30);

/// A tmpfs of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size.
    ///
    /// # Panics
    /// Without the right to mount.
    pub fn of_kilobytes(size: u32) -> SmallDisk {
        let folder = tempfile::tempdir()
            .expect("a directory for temporary files")
            .keep();
        let size = format!("size={size}k");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&folder);
        assert!(
            output_within(mount, MOUNTING).status.success(),
            "a small tmpfs could not be mounted; this test needs root"
        );
        SmallDisk(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves no byte free.
    ///
    /// # Panics
    /// If not even a name fits.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("there is space for a name");
        let block = vec![1; 4096];
        while file.write_all(&block).is_ok() {}
    }

    /// Frees what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
