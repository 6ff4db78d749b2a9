//! The one worker of a log directory: writes what has queued up over all logs and makes it durable
//! in one group commit.
//!
//! A round takes everything that is queued, writes each partition's batches with one vectored write
//! a segment, syncs what must be synced, and tells the store's owner once. While it syncs, the next
//! round gathers, so the group grows with the load.

mod commit;
mod control;
mod index_files;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use millrace_host::DiskFile;
use millrace_model::Offset;
use tokio::sync::oneshot;

use crate::directory::{Directory, Shared};
use crate::error::StorageError;
use crate::log::{Log, Mode};

pub(crate) use control::{remove_file, write_epochs};
pub(crate) use index_files::write_files as write_index_files;

/// Who waits for a change of a log.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What the writer is asked to do.
pub(crate) enum Job {
    /// Something is pending in this log.
    Write(Arc<Log>),
    /// There may be space again.
    Retry,
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

/// The worker's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    /// Segment files with bytes that are not synced, by log and base. They stay open until they
    /// are: a file closed before would take the news of a failed write with it.
    dirty: BTreeMap<(u64, Offset), Arc<dyn DiskFile>>,
    /// Logs whose writes found no space.
    stalled: BTreeMap<u64, Arc<Log>>,
    /// What may leave the tails, oldest first.
    evictable: VecDeque<(Weak<Log>, Offset)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, directory: Arc<Directory>) -> Writer {
        let (dirty, stalled, evictable) = Default::default();
        Writer {
            shared,
            directory,
            dirty,
            stalled,
            evictable,
        }
    }

    /// Does all jobs that came together, in order as far as each log is concerned.
    pub(crate) fn handle(&mut self, jobs: Vec<Job>) {
        let mut group = BTreeMap::new();
        for job in jobs {
            match job {
                Job::Write(log) => {
                    group.insert(log.number, log);
                }
                Job::Retry => group.append(&mut self.stalled),
                other => {
                    self.commit(std::mem::take(&mut group));
                    self.control(other);
                }
            }
        }
        self.commit(group);
    }

    fn control(&mut self, job: Job) {
        let offline = |directory: &Directory| StorageError::Offline(directory.reason());
        match job {
            Job::Write(_) | Job::Retry => {}
            Job::Truncate { log, to, reply } => {
                let done = match self.directory.is_offline() {
                    true => Err(offline(&self.directory)),
                    false => self.truncate(&log, to),
                };
                self.answer_change(&log, done, reply);
            }
            Job::Restart { log, at, reply } => {
                let done = match self.directory.is_offline() {
                    true => Err(offline(&self.directory)),
                    false => self.restart(&log, at),
                };
                self.answer_change(&log, done, reply);
            }
            Job::Remove { log, bases } => self.remove(&log, &bases),
            Job::Retire { log, name, reply } => {
                let _ = reply.send(self.retire(&log, &name));
            }
            Job::Close { logs, reply } => {
                let _ = reply.send(self.close(&logs));
            }
        }
    }

    /// Lets a log be appended to again. A change that failed half-way leaves files and memory
    /// apart, so the directory goes offline.
    fn answer_change(&self, log: &Log, done: Result<(), StorageError>, reply: Reply<()>) {
        if let Err(error) = &done
            && !matches!(error, StorageError::NoSpace)
        {
            self.directory.fail(&self.shared, error.to_string());
        }
        let mut state = log.state();
        if state.mode == Mode::Changing {
            state.mode = Mode::Open;
        }
        state.validate();
        drop(state);
        let _ = reply.send(done);
    }
}
