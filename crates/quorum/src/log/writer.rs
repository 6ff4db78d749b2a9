//! The thread that writes the log: whatever queued up is one group commit.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::Planted;
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::index::{Index, Location};
use super::segment::{self, HEADER_BYTES};
use super::state::QuorumState;
use crate::types::{LogId, TypeConfig, Vote};

/// A new segment begins beyond this size.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

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
}

struct Active {
    first: u64,
    file: Arc<dyn DiskFile>,
    end: u64,
    durable: u64,
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
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        index: Arc<Mutex<Index>>,
        state: QuorumState,
        segments: Vec<(u64, Arc<dyn DiskFile>, u64)>,
        last: Option<u64>,
    ) -> Writer {
        let mut older: BTreeMap<_, _> = segments
            .into_iter()
            .map(|(first, file, end)| (first, (file, end)))
            .collect();
        let active = older.pop_last().map(|(first, (file, end))| Active {
            first,
            file,
            end,
            durable: end,
        });
        Writer {
            disk,
            directory,
            index,
            state,
            older,
            active,
            last,
            failed: None,
        }
    }

    /// Does all that queued up: appends that follow each other share one sync.
    pub(super) fn handle(&mut self, jobs: Vec<Job>) {
        let mut appends = Vec::new();
        for job in jobs {
            match job {
                Job::Append(queued, done) => appends.push((queued, done)),
                Job::Truncate(from, done) => {
                    self.commit(&mut appends);
                    self.answer(done, |writer| writer.truncate(from));
                }
                Job::Purge(upto, done) => {
                    self.commit(&mut appends);
                    self.answer(done, |writer| writer.purge(upto));
                }
                Job::Vote(vote, done) => {
                    self.commit(&mut appends);
                    self.answer(done, |writer| writer.save_vote(vote));
                }
            }
        }
        self.commit(&mut appends);
    }

    fn answer(&mut self, done: Done, work: impl FnOnce(&mut Writer) -> io::Result<()>) {
        // Whoever asked may have given up waiting.
        let _ = done.send(self.attempt(work));
    }

    /// After one failure the state of the disk is unknown, so nothing is tried again.
    fn attempt(&mut self, work: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<()> {
        if let Some(why) = &self.failed {
            return Err(io::Error::other(why.clone()));
        }
        let done = work(self);
        if let Err(error) = &done {
            tracing::error!(%error, "the metadata log cannot be written");
            self.failed = Some(format!("the metadata log failed before: {error}"));
        }
        done
    }

    fn commit(&mut self, appends: &mut Vec<(Vec<Queued>, IOFlushed<TypeConfig>)>) {
        if appends.is_empty() {
            return;
        }
        let mut entries = Vec::new();
        let mut callbacks = Vec::new();
        for (queued, done) in appends.drain(..) {
            entries.extend(queued);
            callbacks.push(done);
        }
        let outcome = self.attempt(|writer| writer.write(&entries));
        for done in callbacks {
            done.io_completed(match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    fn write(&mut self, entries: &[Queued]) -> io::Result<()> {
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let active = self.active_for(first.index)?;
            let mut buffers = Vec::with_capacity(2 * rest.len());
            let mut locations = Vec::with_capacity(rest.len());
            let mut end = active.end;
            let mut taken = 0;
            for queued in rest {
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
            active.file.write_at(&buffers, active.end)?;
            if !Planted::MetadataNotSynced.is_here() {
                active.file.sync_data()?;
            }
            active.end = end;
            active.durable = end;
            self.last = Some(rest[taken - 1].index);
            lock(&self.index).written(&locations);
            rest = &rest[taken..];
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
                self.older.insert(full.first, (full.file, full.end));
            }
        }
        if self.active.is_none() {
            let path = segment::path(&self.directory, index);
            let file = self.disk.open(&path, OpenMode::CreateNew)?;
            self.sync_directory()?;
            lock(&self.index).add_segment(index, file.clone());
            self.active = Some(Active {
                first: index,
                file,
                end: 0,
                durable: 0,
            });
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
            self.active = self.older.pop_last().map(|(first, (file, end))| Active {
                first,
                file,
                end,
                durable: end,
            });
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
                active.end = cut;
                active.durable = cut;
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
