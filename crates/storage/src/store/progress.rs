//! Tells how far the start after a crash has come, by logs and by bytes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_host::{Clock, Host};
use tokio::time::Instant;

use crate::lock;

/// How often it is told.
const INTERVAL: Duration = Duration::from_secs(2);

/// The opening of one directory's logs.
pub(crate) struct Progress {
    clock: Clock,
    directory: PathBuf,
    logs: usize,
    logs_done: AtomicUsize,
    /// What must be gone through, as far as that was known before; 0 after a clean stop.
    bytes: AtomicU64,
    bytes_done: AtomicU64,
    told: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(host: &Host, directory: &Path, logs: usize) -> Arc<Progress> {
        Arc::new(Progress {
            clock: host.clock.clone(),
            directory: directory.to_owned(),
            logs,
            logs_done: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
            told: Mutex::new(host.clock.now()),
        })
    }

    /// So many bytes are to be gone through.
    pub(crate) fn begin(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        tracing::info!(
            directory = %self.directory.display(), logs = self.logs, bytes,
            "loading logs after an unclean stop"
        );
    }

    /// So many were gone through.
    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.tell_if_due();
    }

    /// A log was opened, or could not be.
    pub(crate) fn log_done(&self) {
        let done = self.logs_done.fetch_add(1, Ordering::Relaxed) + 1;
        match done == self.logs && self.bytes.load(Ordering::Relaxed) > 0 {
            true => self.tell(),
            false => self.tell_if_due(),
        }
    }

    /// What is left, in logs and bytes.
    fn remaining(&self) -> (usize, u64) {
        let logs = self.logs - self.logs_done.load(Ordering::Relaxed).min(self.logs);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let done = self.bytes_done.load(Ordering::Relaxed);
        (logs, bytes.saturating_sub(done))
    }

    fn tell_if_due(&self) {
        let now = self.clock.now();
        let mut told = lock(&self.told);
        if now < *told + INTERVAL {
            return;
        }
        *told = now;
        drop(told);
        self.tell();
    }

    fn tell(&self) {
        let (remaining_logs, remaining_bytes) = self.remaining();
        tracing::info!(
            directory = %self.directory.display(), remaining_logs, remaining_bytes,
            logs = self.logs, bytes = self.bytes.load(Ordering::Relaxed), "loading logs"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_host::Tasks;

    #[tokio::test]
    async fn what_remains_is_counted_in_logs_and_bytes() {
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        let host = Host::real(tasks.clone(), tasks);
        let progress = Progress::new(&host, Path::new("/data"), 2);
        progress.begin(1_000);
        assert_eq!(progress.remaining(), (2, 1_000));
        progress.read(300);
        progress.log_done();
        assert_eq!(progress.remaining(), (1, 700));
        // A segment may have grown longer than it was when it was measured.
        progress.read(900);
        progress.log_done();
        assert_eq!(progress.remaining(), (0, 0));
    }
}
