//! One replica of one partition, as the rest of the broker sees it.
//!
//! Everything here that is not async is short and never waits for a disk.

mod append;
mod cold;
mod convert;
mod lookup;
mod retention;
mod state;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use millrace_host::Worker;
use millrace_model::{
    DirectoryId, Durability, LeaderEpoch, Offset, PartitionId, Planted, ProducerId, Timestamp,
    TopicName,
};
use tokio::sync::oneshot;

use crate::directory::{Directory, Shared};
use crate::error::{ReadError, StorageError};
use crate::plan::{Part, ReadPlan};
use crate::producers::ProducerInfo;
use crate::settings::LogSettings;
use crate::writer::Job;
use crate::{lock, names};

pub(crate) use cold::Cold;
pub use lookup::FoundByTime;
pub(crate) use state::{Chunk, Hint, Mode, State, Waiter, jitter};

/// Bytes that may wait to be written in a directory before [`Log::wait_for_room`] makes callers
/// wait: a second or so of a disk, and far below what a machine that runs a broker has.
const MAX_QUEUED_BYTES: usize = 256 << 20;

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset; what came before was deleted.
    pub log_start: Offset,
    /// The offset the next record will get.
    pub log_end: Offset,
    /// Everything before this is durable in the sense of the log's [`Durability`]: synced, or
    /// handed to the page cache.
    pub durable_end: Offset,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first: Offset,
    /// Offset of the last record.
    pub last: Offset,
    /// The time the broker gave to the records; `NONE` if they keep the producer's.
    pub append_time: Timestamp,
    /// The log's first offset.
    pub log_start: Offset,
    /// The batch was in the log already, at these offsets; nothing was appended.
    pub duplicate: bool,
}

/// One partition's log.
pub struct Log {
    id: PartitionId,
    topic: TopicName,
    /// This log's number in this run, for the handles.
    pub(crate) number: u64,
    pub(crate) shared: Arc<Shared>,
    place: RwLock<Arc<Place>>,
    state: Mutex<State>,
    me: Weak<Log>,
}

/// Where a log's files are, and who writes them. It changes when the log moves to another
/// directory; nothing is pending then.
pub(crate) struct Place {
    pub(crate) directory: Arc<Directory>,
    pub(crate) writer: Worker<Job>,
    /// What its open files are known by.
    pub(crate) files: u64,
}

impl Log {
    pub(crate) fn new(
        id: PartitionId,
        topic: TopicName,
        directory: Arc<Directory>,
        shared: Arc<Shared>,
        writer: Worker<Job>,
        state: State,
    ) -> Arc<Log> {
        let number = shared.next_log.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            directory,
            writer,
            files: number,
        };
        Arc::new_cyclic(|me| Log {
            id,
            topic,
            number,
            shared,
            place: RwLock::new(Arc::new(place)),
            state: Mutex::new(state),
            me: me.clone(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn place(&self) -> Arc<Place> {
        let place = self.place.read();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log's files are in `directory` from now on; the caller holds what may change the log.
    pub(crate) fn relocated(&self, directory: Arc<Directory>, writer: Worker<Job>) {
        let files = self.shared.next_log.fetch_add(1, Ordering::Relaxed);
        let mut place = self.place.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(Place {
            directory,
            writer,
            files,
        });
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.place().directory.clone()
    }

    /// Where the log's files are.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory()
            .path
            .join(names::partition(&self.topic, self.id.index))
    }

    fn arc(&self) -> Arc<Log> {
        self.me
            .upgrade()
            .expect("a log is only ever used through its Arc")
    }

    pub(crate) fn submit(&self, job: Job) -> bool {
        self.place().writer.submit(job)
    }

    /// The partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The directory it is in.
    pub fn directory_id(&self) -> DirectoryId {
        self.directory().id
    }

    /// Whether its directory has failed.
    pub fn is_offline(&self) -> bool {
        self.directory().is_offline()
    }

    /// Where it begins and ends.
    pub fn bounds(&self) -> Bounds {
        self.state().bounds()
    }

    /// Bytes of all batches.
    pub fn size_bytes(&self) -> u64 {
        self.state()
            .segments
            .iter()
            .map(|segment| segment.size)
            .sum()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<LogSettings> {
        self.state().settings.clone()
    }

    /// Puts other settings in force, from the next append on. `durable_end` does not go back when
    /// durability becomes stricter: call [`Log::make_durable`] for what is there.
    pub fn reconfigure(&self, settings: LogSettings) {
        self.state().settings = Arc::new(settings);
    }

    /// The newest leader epoch, `NONE` in a log that never had one.
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.state().epochs.last()
    }

    /// The largest epoch in the log that is not above `epoch`, and where it ends; `NONE` and the
    /// log start if there is none such (KIP-101, KIP-279).
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = self.state();
        state
            .epochs
            .end_offset_for(epoch, state.log_end)
            .unwrap_or((LeaderEpoch::NONE, state.log_start))
    }

    /// The epoch in which the record at `offset` was written.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.state().epochs.epoch_at(offset)
    }

    /// Notes that a leadership begins at the log end.
    pub fn start_epoch(&self, epoch: LeaderEpoch) {
        let mut state = self.state();
        let log_end = state.log_end;
        if epoch > state.epochs.last() {
            state.epochs.assign(epoch, log_end);
        }
        if Planted::ProducersForgotten.is_here() {
            state.producers.clear();
        }
    }

    /// Whether the log remembers an idempotent producer.
    pub fn knows_producer(&self, id: ProducerId) -> bool {
        self.state().producers.knows(id)
    }

    /// The idempotent producers the log remembers.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        self.state().producers.describe()
    }

    /// Notes the high watermark, to be found again after a restart. It is written every few
    /// seconds and is no more than a hint then.
    pub fn note_high_watermark(&self, offset: Offset) {
        self.state().high_watermark = offset;
        self.directory().note_high_watermarks();
    }

    /// The high watermark noted last, within the log's bounds.
    pub fn high_watermark_checkpoint(&self) -> Offset {
        let state = self.state();
        state.high_watermark.max(state.log_start).min(state.log_end)
    }

    /// The high watermark that this log's directory remembered, if the log ended before it when it
    /// was opened: records that were committed are missing at its end.
    pub fn committed_beyond(&self) -> Option<Offset> {
        self.state().committed_beyond
    }

    /// Nobody has what is missing at the end, or nobody counts on this log having it.
    pub fn accept_end(&self) {
        self.state().committed_beyond = None;
        self.directory().note_high_watermarks();
    }

    /// What is to be found again after a restart as the high watermark.
    pub(crate) fn high_watermark_to_note(&self) -> Offset {
        let committed = self.committed_beyond();
        committed.unwrap_or_else(|| self.high_watermark_checkpoint())
    }

    /// Moves the log start forward, at most to the log end; segments that lie before it are
    /// deleted in the background. Moves nothing back, and nothing while the log is cut or
    /// restarted: whoever does that says the log start anew.
    pub fn advance_log_start(&self, to: Offset) {
        let removed = {
            let mut state = self.state();
            if state.mode != Mode::Open {
                return;
            }
            match state.advance_log_start(to) {
                None => return,
                Some(removed) => removed,
            }
        };
        self.start_moved(removed);
    }

    /// Where the log begins at the earliest after a power cut.
    pub fn durable_start(&self) -> Offset {
        self.state().durable_start
    }

    /// Plans to read batches from the one that holds `from` on, none with an offset at or above
    /// `upper`: whole batches of at most `max_bytes` in all, or one that is larger if
    /// `at_least_one` is asked for and it is the first. What is in memory is in the plan; what is
    /// not is found and read by the plan's own methods. Nothing is read from where the disk is known
    /// to be damaged.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        upper: Offset,
        at_least_one: bool,
    ) -> Result<ReadPlan, ReadError> {
        if self.directory().is_offline() {
            return Err(ReadError::Offline);
        }
        let state = self.state();
        match state.mode {
            Mode::Deleted => return Err(ReadError::Deleted),
            Mode::Closed => return Err(ReadError::Offline),
            Mode::Open | Mode::Changing => {}
        }
        if from < state.log_start || from > state.log_end {
            let (log_start, log_end) = (state.log_start, state.log_end);
            return Err(ReadError::OutOfRange {
                from,
                log_start,
                log_end,
            });
        }
        let upper = upper.min(state.log_end);
        if from >= upper || (max_bytes == 0 && !at_least_one) {
            return Ok(ReadPlan::empty());
        }
        if state.tail.start().is_some_and(|start| start <= from) {
            let read = state.tail.read(from, upper, max_bytes, at_least_one);
            let parts = read.parts.into_iter().map(Part::Memory).collect();
            return Ok(ReadPlan::of(parts));
        }
        let upper = match state.damages.from(from) {
            Some(run) if run.from <= from => {
                let (from, to) = (run.from, run.to);
                return Err(ReadError::Damaged { from, to });
            }
            Some(run) => upper.min(run.from),
            None => upper,
        };
        let generation = state.generation;
        let hint = state.hint(from);
        let log = self.arc();
        let cold = Cold {
            log,
            from,
            max_bytes,
            upper,
            at_least_one,
            generation,
            hint,
        };
        Ok(ReadPlan::cold(cold))
    }

    /// Whether an append finds room; see [`Log::wait_for_room`].
    pub fn has_room(&self) -> bool {
        let directory = self.directory();
        directory.queued_bytes.load(Ordering::Relaxed) < MAX_QUEUED_BYTES
            || directory.is_offline()
            || directory.is_full()
    }

    /// Whether its directory is short of space, and takes no appends for it.
    pub fn lacks_space(&self) -> bool {
        self.directory().is_full()
    }

    /// Waits until the writer of the log's directory has caught up enough for more. Appends
    /// themselves never wait, so whoever takes batches from clients waits here before.
    pub async fn wait_for_room(&self) {
        loop {
            let directory = self.directory();
            let room = directory.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Makes the whole log survive a power cut, whatever its durability.
    pub async fn make_durable(&self) -> Result<(), StorageError> {
        let done = {
            let mut state = self.state();
            self.check_changeable(&state)?;
            if state.synced_end == state.log_end && state.pending.is_empty() {
                return Ok(());
            }
            let (waiter, done) = oneshot::channel();
            state.pending.waiters.push(waiter);
            self.queue(&mut state);
            done
        };
        done.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Cuts the log so that it ends at `to`, or before if a batch reaches across; durable when
    /// done. Until then appends are refused. Cutting at or behind the log end does nothing.
    pub async fn truncate_to(&self, to: Offset) -> Result<(), StorageError> {
        let done = {
            let mut state = self.state();
            self.check_changeable(&state)?;
            if to >= state.log_end {
                return Ok(());
            }
            state.mode = Mode::Changing;
            let (reply, done) = oneshot::channel();
            self.submit(Job::Truncate {
                log: self.arc(),
                to,
                reply,
            });
            done
        };
        done.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Drops everything; the log is empty and begins at `at` then. Durable when done.
    pub async fn restart_at(&self, at: Offset) -> Result<(), StorageError> {
        let done = {
            let mut state = self.state();
            self.check_changeable(&state)?;
            state.mode = Mode::Changing;
            let (reply, done) = oneshot::channel();
            self.submit(Job::Restart {
                log: self.arc(),
                at,
                reply,
            });
            done
        };
        done.await.unwrap_or_else(|_| Err(self.gone()))
    }

    pub(crate) fn check_changeable(&self, state: &State) -> Result<(), StorageError> {
        if self.directory().is_offline() {
            return Err(self.gone());
        }
        match state.mode {
            Mode::Open => Ok(()),
            Mode::Changing => Err(StorageError::Busy),
            Mode::Closed => Err(StorageError::Offline("the store is closed".to_owned())),
            Mode::Deleted => Err(StorageError::Deleted),
        }
    }

    fn gone(&self) -> StorageError {
        StorageError::Offline(self.directory().reason())
    }

    /// Sees to it that the writer looks at the log.
    fn queue(&self, state: &mut State) {
        if !state.pending.queued {
            state.pending.queued = true;
            state.pending.since = Some(self.shared.host.clock.now());
            self.submit(Job::Write(self.arc()));
        }
    }

    /// What the log's durability asks for.
    pub fn durability(&self) -> Durability {
        self.state().settings.durability
    }

    fn account_for(&self, bytes: &Bytes) {
        self.shared
            .tail_bytes
            .fetch_add(bytes.len(), Ordering::Relaxed);
        self.directory()
            .queued_bytes
            .fetch_add(bytes.len(), Ordering::Relaxed);
    }
}
