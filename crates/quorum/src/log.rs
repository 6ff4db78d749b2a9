//! The quorum's log on disk, as openraft uses it: entries in checksummed segments, the vote and the
//! beginning of the log in `quorum-state`.
//!
//! Appends return at once and are made durable by a thread of their own, all that queued up in one
//! sync. Damage is never taken for absence: a log that lacks what it promised refuses to open.

mod index;
mod segment;
mod state;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_host::{Disk, Host, Tasks, Worker};
use millrace_rpc::proto::raft;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use prost::Message;
use tokio::sync::{Notify, oneshot};

use self::index::{Found, Index, Location};
pub(crate) use self::state::QuorumState;
use self::writer::{Done, Job, Queued, Writer};
use crate::types::{Entry, LogId, RaftId, TypeConfig, Vote};
use crate::wire;

/// The log; clones are readers of the same one.
#[derive(Clone)]
pub(crate) struct LogStore {
    index: Arc<Mutex<Index>>,
    writer: Worker<Job>,
    tasks: Tasks,
    /// Ends, with the last clone, what pokes the writer while it waits for space.
    _alive: Arc<oneshot::Sender<()>>,
}

/// How often it is tried to write what found no space.
const RETRY: Duration = Duration::from_millis(200);

/// Whose log it is.
pub(crate) struct Owner {
    pub(crate) cluster_id: String,
    pub(crate) id: RaftId,
}

impl LogStore {
    /// Opens the log in `directory`, or begins one there.
    pub(crate) async fn open(host: &Host, directory: &Path, owner: Owner) -> io::Result<LogStore> {
        let (disk, directory) = (host.disk.clone(), directory.to_owned());
        let stalled = Arc::new(Notify::new());
        let on_stall = stalled.clone();
        let recovering = host
            .control
            .blocking(move || recover(disk, directory, owner, on_stall));
        let (index, mut writer) = recovering.await?;
        let worker = host
            .control
            .worker("quorum-log", move |jobs| writer.handle(jobs));
        let (alive, ended) = oneshot::channel();
        host.control.spawn(retry(worker.clone(), stalled, ended));
        Ok(LogStore {
            index,
            writer: worker,
            tasks: host.control.clone(),
            _alive: Arc::new(alive),
        })
    }

    /// From here on nothing waits for space; without it, it fails.
    pub(crate) fn stop_waiting(&self) {
        self.writer.submit(Job::Stop);
    }

    /// Whether nothing was ever written here: no entry, no snapshot, no vote.
    pub(crate) fn is_pristine(&self) -> bool {
        self.is_empty() && self.lock().vote.is_none()
    }

    /// Whether no entry was ever here.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().last().is_none()
    }

    /// The last entry that may be gone from the log.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.lock().purged
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, job: impl FnOnce(Done) -> Job) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let ended = || io::Error::other("the thread of the metadata log has ended");
        if !self.writer.submit(job(done)) {
            return Err(ended());
        }
        answer.await.map_err(|_| ended())?
    }
}

/// Pokes the writer as long as something waits there for space.
async fn retry(writer: Worker<Job>, stalled: Arc<Notify>, mut ended: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => return,
            () = stalled.notified() => {}
        }
        tokio::select! {
            biased;
            _ = &mut ended => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        writer.submit(Job::Retry);
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn recover(
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    owner: Owner,
    on_stall: Arc<Notify>,
) -> io::Result<(Arc<Mutex<Index>>, Writer)> {
    disk.create_directories(&directory)?;
    let state = load_state(&*disk, &directory, owner)?;
    let mut index = Index::new(state.purged, state.vote);
    let mut segments = Vec::new();
    let mut firsts: Vec<u64> = disk
        .list(&directory)?
        .iter()
        .filter_map(|entry| segment::first_index(&entry.name))
        .collect();
    firsts.sort_unstable();
    let mut expected = None;
    for (place, first) in firsts.iter().enumerate() {
        let path = segment::path(&directory, *first);
        let scanned = segment::scan(&*disk, &path, place + 1 == firsts.len())?;
        if scanned.torn {
            tracing::warn!(path = %path.display(), end = scanned.end, "cut a torn tail");
            scanned.file.set_len(scanned.end)?;
        }
        // What is found counts as durable from here on, and a killed process may not have synced it.
        scanned.file.sync_data()?;
        let begins = expected.unwrap_or_else(|| index.end().min(*first));
        if *first != begins {
            let what = format!(
                "entries {begins} to {first} are missing in {}",
                directory.display()
            );
            return Err(damaged(what));
        }
        expected = Some(adopt(&mut index, *first, &scanned)?);
        index.add_segment(*first, scanned.file.clone());
        segments.push((*first, scanned.file, scanned.end));
    }
    if state
        .log_reached
        .is_some_and(|reached| reached >= index.end())
    {
        let what = format!(
            "the metadata log in {} ends before entry {}, though it held more",
            directory.display(),
            state.log_reached.unwrap_or_default()
        );
        return Err(damaged(what));
    }
    if expected.is_some_and(|end| end < index.end()) {
        // A snapshot took the place of all these entries, and the purge was cut short.
        for (first, _, _) in segments.drain(..) {
            index.remove_segment(first);
            disk.remove_file(&segment::path(&directory, first))?;
        }
        disk.open_directory(&directory)?.sync()?;
    }
    let last = index.last().map(|last| last.index);
    let index = Arc::new(Mutex::new(index));
    let writer = Writer::new(
        disk,
        directory,
        index.clone(),
        state,
        segments,
        last,
        on_stall,
    );
    Ok((index, writer))
}

fn load_state(disk: &dyn Disk, directory: &Path, owner: Owner) -> io::Result<QuorumState> {
    let Owner { cluster_id, id } = owner;
    let Some(state) = QuorumState::load(disk, directory)? else {
        let state = QuorumState {
            cluster_id,
            id,
            vote: None,
            purged: None,
            log_reached: None,
        };
        return Ok(state);
    };
    if state.cluster_id != cluster_id || state.id != id {
        return Err(damaged(format!(
            "the metadata in {} belongs to node {} of cluster {}, this is node {id} of cluster \
             {cluster_id}",
            directory.display(),
            state.id,
            state.cluster_id
        )));
    }
    Ok(state)
}

/// Takes a segment's entries into the index; returns the index after its last one.
fn adopt(index: &mut Index, first: u64, scanned: &segment::Scanned) -> io::Result<u64> {
    let mut next = first;
    for frame in &scanned.frames {
        let entry = raft::Entry::decode(frame.entry.clone()).ok();
        let id = entry
            .and_then(|entry| entry.log_id)
            .map(|id| wire::decode_log_id(&id));
        let id = id.filter(|id| id.index == next && frame.index == next);
        let id =
            id.ok_or_else(|| damaged(format!("entry {next} of the metadata log is damaged")))?;
        if next >= index.end() {
            let location = Location {
                segment: first,
                position: frame.position,
            };
            index.push_stored(id, frame.entry.len(), location);
        }
        next += 1;
    }
    Ok(next)
}

fn decode(entry: Bytes) -> io::Result<Entry> {
    let entry = raft::Entry::decode(entry).map_err(|error| damaged(error.to_string()))?;
    Ok(wire::decode_entry(entry)?)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.lock().find(start..end);
        if found.iter().all(|found| matches!(found, Found::Entry(_))) {
            return found.into_iter().map(load).collect();
        }
        let loading = self
            .tasks
            .blocking(move || found.into_iter().map(load).collect());
        loading.await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

fn load(found: Found) -> io::Result<Entry> {
    match found {
        Found::Entry(entry) => decode(entry),
        Found::Stored {
            file,
            position,
            length,
        } => decode(segment::read(&*file, position, length)?),
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let index = self.lock();
        Ok(LogState {
            last_purged_log_id: index.purged,
            last_log_id: index.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.ask(|done| Job::Vote(*vote, done)).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut queued = Vec::new();
        let mut index = self.lock();
        for entry in entries {
            let encoded = Bytes::from(wire::encode_entry(&entry).encode_to_vec());
            let ticket = index.push(entry.log_id, encoded.clone());
            queued.push(Queued {
                ticket,
                index: entry.log_id.index,
                entry: encoded,
            });
        }
        if self.writer.submit(Job::Append(queued, callback)) {
            Ok(())
        } else {
            Err(io::Error::other("the thread of the metadata log has ended"))
        }
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.lock().truncate(from);
        self.ask(|done| Job::Truncate(from, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.lock().purge(upto);
        self.ask(|done| Job::Purge(upto, done)).await
    }
}

#[cfg(test)]
mod tests;
