//! The thread that writes the log: whatever queued up is one group commit.
//!
//! A full disk is no failure, since nothing was promised of what did not fit: room for the next
//! entries is set aside ahead of them, and beyond that everything waits in its order until there is
//! space.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::Planted;
use openraft::storage::IOFlushed;
use tokio::sync::{Notify, oneshot};

use super::index::{Index, Location};
use super::segment::{self, HEADER_BYTES};
use super::state::QuorumState;
use crate::error::is_full;
use crate::types::{LogId, TypeConfig, Vote};

/// A new segment begins beyond this size.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Room that is set aside for entries to come: enough for the changes of some thousand partitions,
/// such as their leaders' moving away from this very disk.
const AHEAD_BYTES: u64 = 1024 * 1024;

/// An entry on its way to the disk; the ticket names its slot in the index.
pub(super) struct Queued {
    pub(super) ticket: u64,
    pub(super) index: u64,
    pub(super) entry: Bytes,
}

pub(super) type Done = oneshot::Sender<io::Result<()>>;

pub(super) enum Job {
    Append(Vec<Queued>, IOFlushed<TypeConfig>),
    /// Removes this index and all after it.
    Truncate(u64, Done),
    /// Forgets everything up to here.
    Purge(LogId, Done),
    Vote(Vote, Done),
    /// There may be space for what waits.
    Retry,
    /// Nobody waits for space any longer: what finds none fails.
    Stop,
}

impl Job {
    /// Whether it only has the others looked at again.
    fn is_signal(&self) -> bool {
        matches!(self, Job::Retry | Job::Stop)
    }
}

struct Active {
    first: u64,
    file: Arc<dyn DiskFile>,
    end: u64,
    durable: u64,
    /// How far room is set aside.
    reserved: u64,
}

impl Active {
    fn new(first: u64, file: Arc<dyn DiskFile>, end: u64) -> Active {
        let mut active = Active {
            first,
            file,
            end,
            durable: end,
            reserved: 0,
        };
        active.reserve(end);
        active
    }

    /// Sets room aside beyond `end`; where that is not possible it is found entry by entry.
    fn reserve(&mut self, end: u64) {
        if end >= self.reserved {
            self.reserved = end + AHEAD_BYTES;
            let _ = self.file.reserve(self.reserved);
        }
    }
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    index: Arc<Mutex<Index>>,
    state: QuorumState,
    /// Every segment before the active one: first index to file and where it ends.
    older: BTreeMap<u64, (Arc<dyn DiskFile>, u64)>,
    active: Option<Active>,
    last: Option<u64>,
    failed: Option<String>,
    /// What waits for space, in order.
    stalled: VecDeque<Job>,
    /// The node stops; it must not wait for space that may never be.
    stopping: bool,
    /// Told when something waits: a [`Job::Retry`] is wanted then.
    on_stall: Arc<Notify>,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        index: Arc<Mutex<Index>>,
        state: QuorumState,
        segments: Vec<(u64, Arc<dyn DiskFile>, u64)>,
        last: Option<u64>,
        on_stall: Arc<Notify>,
    ) -> Writer {
        let mut older: BTreeMap<_, _> = segments
            .into_iter()
            .map(|(first, file, end)| (first, (file, end)))
            .collect();
        let active = older.pop_last();
        let active = active.map(|(first, (file, end))| Active::new(first, file, end));
        Writer {
            disk,
            directory,
            index,
            state,
            older,
            active,
            last,
            failed: None,
            stalled: VecDeque::new(),
            stopping: false,
            on_stall,
        }
    }

    /// Does all that queued up: appends that follow each other share one sync.
    pub(super) fn handle(&mut self, jobs: Vec<Job>) {
        let waited = !self.stalled.is_empty();
        self.stopping |= jobs.iter().any(|job| matches!(job, Job::Stop));
        let mut rest = std::mem::take(&mut self.stalled);
        rest.extend(jobs.into_iter().filter(|job| !job.is_signal()));
        let mut appends = Vec::new();
        while let Some(job) = rest.pop_front() {
            if let Job::Append(queued, done) = job {
                appends.push((queued, done));
                continue;
            }
            self.commit(&mut appends);
            let again = match self.stalled.is_empty() {
                true => self.control(job),
                false => Some(job),
            };
            self.stalled.extend(again);
            if !self.stalled.is_empty() {
                break;
            }
        }
        self.commit(&mut appends);
        self.stalled.append(&mut rest);
        if self.stalled.is_empty() {
            if waited {
                tracing::info!("there is space for the metadata log again");
            }
            return;
        }
        if self.stopping {
            self.fail_stalled();
            return;
        }
        if !waited {
            tracing::warn!("no space is left for the metadata log: it waits until there is some");
        }
        self.on_stall.notify_one();
    }

    /// Answers what waits for space that it never was written.
    fn fail_stalled(&mut self) {
        let error = || io::Error::new(io::ErrorKind::StorageFull, "the node stops on a full disk");
        for job in self.stalled.drain(..) {
            match job {
                Job::Append(_, done) => done.io_completed(Err(error())),
                Job::Truncate(_, done) | Job::Vote(_, done) | Job::Purge(_, done) => {
                    // Whoever asked may have given up waiting.
                    let _ = done.send(Err(error()));
                }
                Job::Retry | Job::Stop => {}
            }
        }
    }

    /// Does what is no append; gives it back if it must wait for space.
    fn control(&mut self, job: Job) -> Option<Job> {
        let (done, outcome) = match job {
            Job::Append(..) | Job::Retry | Job::Stop => return Some(job),
            Job::Truncate(from, done) => match self.attempt(|writer| writer.truncate(from)) {
                Err(error) if is_full(&error) => return Some(Job::Truncate(from, done)),
                outcome => (done, outcome),
            },
            Job::Vote(vote, done) => match self.attempt(|writer| writer.save_vote(vote)) {
                Err(error) if is_full(&error) => return Some(Job::Vote(vote, done)),
                outcome => (done, outcome),
            },
            Job::Purge(upto, done) => match self.attempt(|writer| writer.purge(upto)) {
                // It only makes room; the next one makes up for it.
                Err(error) if is_full(&error) => (done, Ok(())),
                outcome => (done, outcome),
            },
        };
        // Whoever asked may have given up waiting.
        let _ = done.send(outcome);
        None
    }

    /// After one failure the state of the disk is unknown, so nothing is tried again.
    fn attempt(&mut self, work: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<()> {
        if let Some(why) = &self.failed {
            return Err(io::Error::other(why.clone()));
        }
        let done = work(self);
        if let Err(error) = &done
            && !is_full(error)
        {
            tracing::error!(%error, "the metadata log cannot be written");
            self.failed = Some(format!("the metadata log failed before: {error}"));
        }
        done
    }

    /// Writes what is to be appended, and tells that it is durable; what finds no space waits.
    fn commit(&mut self, appends: &mut Vec<(Vec<Queued>, IOFlushed<TypeConfig>)>) {
        if appends.is_empty() {
            return;
        }
        let mut entries = Vec::new();
        let mut ends = Vec::new();
        for (queued, done) in appends.drain(..) {
            entries.extend(queued);
            ends.push((entries.len(), done));
        }
        let mut rest = &entries[..];
        let outcome = self.attempt(|writer| writer.write(&mut rest));
        let mut written = entries.len() - rest.len();
        let mut waiting = entries.split_off(written);
        for (end, done) in ends {
            match &outcome {
                Err(error) if end > written && is_full(error) => {
                    let after = waiting.split_off(end - written);
                    let own = std::mem::replace(&mut waiting, after);
                    self.stalled.push_back(Job::Append(own, done));
                    written = end;
                }
                Err(error) if end > written => {
                    done.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
                }
                _ => done.io_completed(Ok(())),
            }
        }
    }

    /// Writes entries; those that are durable leave `rest`.
    fn write(&mut self, rest: &mut &[Queued]) -> io::Result<()> {
        while let Some(first) = rest.first() {
            let active = self.active_for(first.index)?;
            let mut buffers = Vec::with_capacity(2 * rest.len());
            let mut locations = Vec::with_capacity(rest.len());
            let mut end = active.end;
            let mut taken = 0;
            for queued in *rest {
                if taken > 0 && end >= SEGMENT_BYTES {
                    break;
                }
                buffers.push(segment::encode(queued.index, active.durable, &queued.entry));
                buffers.push(queued.entry.clone());
                let location = Location {
                    segment: active.first,
                    position: end,
                };
                locations.push((queued.ticket, queued.index, location));
                end += (HEADER_BYTES + queued.entry.len()) as u64;
                taken += 1;
            }
            active.reserve(end);
            active.file.write_at(&buffers, active.end)?;
            if !Planted::MetadataNotSynced.is_here() {
                active.file.sync_data()?;
            }
            active.end = end;
            active.durable = end;
            // Only a help for who reads it after a crash: without it the entries are as durable.
            let _ = active.file.write_at(&[segment::mark(end)], end);
            self.last = Some(rest[taken - 1].index);
            lock(&self.index).written(&locations);
            *rest = &rest[taken..];
        }
        Ok(())
    }

    /// The segment that takes the entry of this index: a new one when there is none or it is full.
    fn active_for(&mut self, index: u64) -> io::Result<&mut Active> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.end >= SEGMENT_BYTES)
        {
            // From here on a log that ends before this point was damaged.
            self.state.log_reached = self.last;
            self.state.save(&*self.disk, &self.directory)?;
            if let Some(full) = self.active.take() {
                // Gives back what was set aside and not used.
                let _ = full.file.set_len(full.end);
                self.older.insert(full.first, (full.file, full.end));
            }
        }
        if self.active.is_none() {
            let path = segment::path(&self.directory, index);
            let file = self.disk.open(&path, OpenMode::CreateNew)?;
            self.sync_directory()?;
            lock(&self.index).add_segment(index, file.clone());
            self.active = Some(Active::new(index, file, 0));
        }
        Ok(self.active.as_mut().expect("it was just made"))
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        if self
            .state
            .log_reached
            .is_some_and(|reached| reached >= from)
        {
            self.state.log_reached = from.checked_sub(1);
            self.state.save(&*self.disk, &self.directory)?;
        }
        // From the end backwards: at no moment is there a hole.
        while let Some(active) = &self.active
            && active.first >= from
        {
            let first = active.first;
            self.remove_segment(first)?;
            let newest = self.older.pop_last();
            self.active = newest.map(|(first, (file, end))| Active::new(first, file, end));
        }
        let cut = self
            .active
            .as_ref()
            .map(|active| lock(&self.index).end_of_segment(active.first));
        match (&mut self.active, cut) {
            // What is left in the files was purged already; the next entry begins a segment.
            (Some(_), Some(0)) => self.remove_all_segments()?,
            (Some(active), Some(cut)) if cut < active.end => {
                active.file.set_len(cut)?;
                active.file.sync_data()?;
                *active = Active::new(active.first, active.file.clone(), cut);
            }
            _ => {}
        }
        self.last = from.checked_sub(1);
        self.sync_directory()
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.state.purged = Some(upto);
        self.state.log_reached = self.last.max(Some(upto.index));
        self.state.save(&*self.disk, &self.directory)?;
        while let Some((&first, _)) = self.older.first_key_value() {
            let next = self.older.keys().nth(1).copied();
            let next = next.or_else(|| self.active.as_ref().map(|active| active.first));
            if next.is_none_or(|next| next > upto.index + 1) {
                break;
            }
            self.remove_segment(first)?;
            self.older.remove(&first);
        }
        if self.last.is_none_or(|last| last <= upto.index) {
            self.remove_all_segments()?;
            self.last = Some(upto.index);
        }
        self.sync_directory()
    }

    fn save_vote(&mut self, vote: Vote) -> io::Result<()> {
        self.state.vote = Some(vote);
        self.state.log_reached = self.last;
        if Planted::VoteNotKept.is_here() {
            return Ok(());
        }
        self.state.save(&*self.disk, &self.directory)
    }

    fn remove_segment(&mut self, first: u64) -> io::Result<()> {
        lock(&self.index).remove_segment(first);
        self.disk
            .remove_file(&segment::path(&self.directory, first))
    }

    fn remove_all_segments(&mut self) -> io::Result<()> {
        while let Some((first, _)) = self.older.pop_first() {
            self.remove_segment(first)?;
        }
        match self.active.take() {
            Some(active) => self.remove_segment(active.first),
            None => Ok(()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.open_directory(&self.directory)?.sync()
    }
}

fn lock(index: &Mutex<Index>) -> std::sync::MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
