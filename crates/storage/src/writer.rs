//! The one worker of a log directory: writes what has queued up over all logs and makes it durable
//! in one group commit.
//!
//! A round takes everything that is queued, writes each partition's batches with one vectored write
//! a segment, syncs what must be synced, and tells the store's owner once. While it syncs, the next
//! round gathers, so the group grows with the load.

mod behind;
mod close;
mod commit;
mod control;
mod index_files;
mod relocate;
mod remove;
mod replace;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millrace_host::DiskFile;
use millrace_model::Offset;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::directory::{Directory, Shared};
use crate::error::StorageError;
use crate::log::{Log, Mode};
use crate::space;

use behind::Behind;
pub(crate) use index_files::write_files as write_index_files;
pub(crate) use relocate::Relocation;
pub(crate) use remove::remove_file;
pub(crate) use replace::Replacement;

/// How often a directory's writer looks how much room is left.
const SPACE_INTERVAL: Duration = Duration::from_millis(100);

/// Who waits for a change of a log.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What the writer is asked to do.
pub(crate) enum Job {
    /// Something is pending in this log.
    Write(Arc<Log>),
    /// There may be space again.
    Retry,
    /// Time has passed: batches that are old by now leave memory.
    Age,
    /// Cut a log, which is in `Mode::Changing`.
    Truncate {
        /// The log.
        log: Arc<Log>,
        /// Its new end.
        to: Offset,
        /// Told when the cut is durable.
        reply: Reply<()>,
    },
    /// Empty a log, which is in `Mode::Changing`.
    Restart {
        /// The log.
        log: Arc<Log>,
        /// Its new beginning and end.
        at: Offset,
        /// Told when that is durable.
        reply: Reply<()>,
    },
    /// Remove the files of segments before the log start.
    Remove {
        /// The log.
        log: Arc<Log>,
        /// The segments.
        bases: Vec<Offset>,
    },
    /// Put a compacted segment in the place of those it was made of.
    Replace {
        /// What, and where.
        wanted: Box<Replacement>,
        /// Told the log's generation then; that the log is busy if it changed meanwhile.
        reply: Reply<u64>,
    },
    /// Let a log, which is in `Mode::Changing`, be in another directory.
    Relocate {
        /// What, and where.
        wanted: Box<Relocation>,
        /// Told when the files are there and nowhere else; that the log is busy if it changed
        /// while it was copied.
        reply: Reply<()>,
    },
    /// Give the directory of a log, which is in `Mode::Deleted`, another name.
    Retire {
        /// The log.
        log: Arc<Log>,
        /// Its new name.
        name: String,
        /// Told the new path.
        reply: Reply<PathBuf>,
    },
    /// Write everything, sync everything, complete all files.
    Close {
        /// All logs of the directory.
        logs: Vec<Arc<Log>>,
        /// Told when done.
        reply: Reply<()>,
    },
}

impl Job {
    /// The log whose files this is about, where that matters.
    fn subject(&self) -> Option<&Arc<Log>> {
        match self {
            Job::Write(log)
            | Job::Truncate { log, .. }
            | Job::Restart { log, .. }
            | Job::Remove { log, .. }
            | Job::Retire { log, .. } => Some(log),
            Job::Relocate { wanted, .. } => Some(&wanted.log),
            Job::Retry | Job::Age | Job::Replace { .. } | Job::Close { .. } => None,
        }
    }
}

/// The worker's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    /// Segment files with bytes that are not synced, by log and base. They stay open until they
    /// are: a file closed before would take the news of a failed write with it.
    dirty: BTreeMap<(u64, Offset), Arc<dyn DiskFile>>,
    /// Logs whose writes found no space.
    stalled: BTreeMap<u64, Arc<Log>>,
    /// Segments to remove for which there was no space: their successor's file must be made first.
    unremoved: Vec<(Arc<Log>, Vec<Offset>)>,
    /// In the middle of a round.
    busy: bool,
    looked_at_space: Option<Instant>,
    /// What came from leaders and leaves the page cache.
    behind: Behind,
    /// What may leave the tails, oldest first.
    evictable: VecDeque<Evictable>,
}

/// What may leave a log's tail.
struct Evictable {
    log: Weak<Log>,
    /// The offset that follows it.
    end: Offset,
    since: Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, directory: Arc<Directory>) -> Writer {
        let (dirty, stalled, unremoved, evictable) = Default::default();
        let behind = Behind::new(shared.followed_cache_bytes);
        Writer {
            shared,
            directory,
            dirty,
            stalled,
            unremoved,
            busy: false,
            looked_at_space: None,
            behind,
            evictable,
        }
    }

    /// Does all jobs that came together, in order as far as each log is concerned.
    pub(crate) fn handle(&mut self, jobs: Vec<Job>) {
        self.busy = true;
        let mut group = BTreeMap::new();
        for job in jobs {
            if let Some(log) = job.subject().cloned()
                && !self.is_own(&log)
            {
                // It has moved since this was asked for.
                log.submit(job);
                continue;
            }
            match job {
                Job::Write(log) => {
                    group.insert(log.number, log);
                    self.shared.writes.fetch_add(1, Ordering::Relaxed);
                }
                Job::Retry => {
                    group.append(&mut self.stalled);
                    for (log, bases) in std::mem::take(&mut self.unremoved) {
                        self.remove(&log, bases);
                    }
                }
                Job::Age => self.evict(),
                other => {
                    self.commit(std::mem::take(&mut group));
                    self.control(other);
                }
            }
        }
        self.commit(group);
        if self.stalled.is_empty() && self.unremoved.is_empty() {
            self.directory.full.store(false, Ordering::Relaxed);
            self.directory.tell_room(&self.shared);
        }
        self.look_at_space();
        self.busy = false;
    }

    /// Appends stop before the disk is full; what they write is looked at as often as it matters.
    fn look_at_space(&mut self) {
        let now = self.shared.host.clock.now();
        let due = self
            .looked_at_space
            .is_none_or(|at| now >= at + SPACE_INTERVAL);
        if due && !self.directory.is_offline() {
            self.looked_at_space = Some(now);
            space::look(&self.shared, &self.directory);
        }
    }

    fn control(&mut self, job: Job) {
        match job {
            Job::Write(_) | Job::Retry | Job::Age => {}
            Job::Truncate { log, to, reply } => {
                let done = self.may_change(&log).and_then(|()| self.truncate(&log, to));
                self.answer_change(&log, done, reply);
            }
            Job::Restart { log, at, reply } => {
                let done = self.may_change(&log).and_then(|()| self.restart(&log, at));
                self.answer_change(&log, done, reply);
            }
            Job::Remove { log, bases } => self.remove(&log, bases),
            Job::Replace { wanted, reply } => {
                let done = self.replace(*wanted);
                if let Err(error @ (StorageError::Io { .. } | StorageError::Corrupt { .. })) = &done
                {
                    self.directory.fail(&self.shared, error.to_string());
                }
                let _ = reply.send(done);
            }
            Job::Relocate { wanted, reply } => {
                let _ = reply.send(self.relocate(&wanted));
            }
            Job::Retire { log, name, reply } => {
                let _ = reply.send(self.retire(&log, &name));
            }
            Job::Close { logs, reply } => {
                let _ = reply.send(self.close(&logs));
            }
        }
    }

    fn is_own(&self, log: &Log) -> bool {
        Arc::ptr_eq(&log.directory(), &self.directory)
    }

    /// Whether a change may begin: the store may have been closed since it was asked for.
    fn may_change(&self, log: &Log) -> Result<(), StorageError> {
        if self.directory.is_offline() {
            return Err(StorageError::Offline(self.directory.reason()));
        }
        match log.state().mode {
            Mode::Changing => Ok(()),
            Mode::Deleted => Err(StorageError::Deleted),
            Mode::Open | Mode::Closed => {
                Err(StorageError::Offline("the store is closed".to_owned()))
            }
        }
    }

    /// Lets a log be appended to again. A change that failed half-way leaves files and memory
    /// apart, so the directory goes offline.
    fn answer_change(&self, log: &Log, done: Result<(), StorageError>, reply: Reply<()>) {
        let harmless = |error: &StorageError| {
            let closed = matches!(error, StorageError::Offline(_) | StorageError::Deleted);
            closed || matches!(error, StorageError::NoSpace)
        };
        if let Err(error) = &done
            && !harmless(error)
        {
            self.directory.fail(&self.shared, error.to_string());
        }
        let mut state = log.state();
        if state.mode == Mode::Changing {
            state.mode = Mode::Open;
        }
        if !self.directory.is_offline() {
            state.validate();
        }
        drop(state);
        let _ = reply.send(done);
    }
}

impl Drop for Writer {
    /// A writer that panicked writes nothing more, so nothing more may be taken in.
    fn drop(&mut self) {
        if self.busy {
            let why = "its writer came upon a broken invariant";
            self.directory.fail(&self.shared, why.to_owned());
        }
    }
}
