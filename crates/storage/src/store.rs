//! All log directories of one broker.

pub(crate) mod checkpoints;
pub(crate) mod epoch_files;
mod flawed;
pub(crate) mod moving;
mod open;
pub(crate) mod progress;
mod recovery;
pub(crate) mod scrub;
mod ticker;
mod unopened;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use millrace_host::disk::{OpenMode, Space};
use millrace_host::{Tasks, Worker};
use millrace_model::{BrokerEpoch, DirectoryId, Offset, PartitionId, TopicName};
use tokio::sync::{Notify, oneshot};

use crate::checkpoint;
use crate::cleaner::{self, Cleaners};
use crate::directory::{Directory, Shared};
use crate::error::{FailedLog, StorageError, While};
use crate::lock;
use crate::log::{Log, Mode, State, jitter};
use crate::names::{
    self, CLEAN_SHUTDOWN, DELETED_DIRECTORY, FileKind, PARTITION_METADATA, STRAY_DIRECTORY,
};
use crate::segment::{self, Segment};
use crate::settings::{CleanerOptions, LogSettings, StoreOptions};
use crate::trash;
use crate::writer::{Job, Reply};
use checkpoints::Which;
pub use flawed::Flaw;
use flawed::Unusable;
pub(crate) use unopened::Unopened;

/// All logs of one broker; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// A directory with its writer.
#[derive(Clone)]
pub(crate) struct Open {
    directory: Arc<Directory>,
    writer: Worker<Job>,
}

pub(crate) struct Inner {
    pub(crate) cleaners: Arc<Cleaners>,
    pub(crate) shared: Arc<Shared>,
    options: StoreOptions,
    directories: Vec<Open>,
    /// Directories that could not be used from the start.
    lost: Vec<Lost>,
    pub(crate) moves: moving::Moves,
    logs: RwLock<BTreeMap<PartitionId, Arc<Log>>>,
    /// Makes the directories of new logs, one after the other: they come by the hundred, and the
    /// file system makes them no quicker side by side.
    maker: Worker<Make>,
    pub(crate) closed: AtomicBool,
    /// Bytes a second that the scrub may read.
    scrub_rate: AtomicU64,
    /// Told when that changes.
    scrub_changed: Notify,
    /// Partitions whose directories could not be opened.
    unusable: Mutex<BTreeMap<(TopicName, i32), Unusable>>,
}

/// A directory that could not be used from the start.
#[derive(Clone, Debug)]
struct Lost {
    id: DirectoryId,
    path: PathBuf,
    why: String,
}

/// A log to make.
struct Make {
    id: PartitionId,
    topic: TopicName,
    settings: LogSettings,
    /// Where it is known to be, or to belong.
    place: Option<DirectoryId>,
    reply: Reply<Arc<Log>>,
}

/// What [`Store::open`] found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// The broker epoch of the clean stop before; `None` if some directory was not closed in order.
    pub clean_shutdown: Option<BrokerEpoch>,
    /// Logs that were opened.
    pub logs: usize,
    /// Segments that were gone through with checksums.
    pub scanned_segments: usize,
    /// Bytes that were cut off torn ends.
    pub cut_bytes: u64,
    /// Partition directories that could not be opened and are left as they are.
    pub failed: Vec<FailedLog>,
    /// Directories that cannot be used, and why.
    pub offline: Vec<(PathBuf, String)>,
}

/// What was done to find damaged batches before somebody wants to read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read and checked since the start.
    pub bytes: u64,
    /// How often everything has been gone through since the start.
    pub passes: u64,
    /// How often damage was found since the start, by whomever.
    pub damages: u64,
    /// Logs that are damaged now.
    pub damaged_logs: u64,
}

/// The state of one log directory.
#[derive(Clone, Debug)]
pub struct DirectoryState {
    /// Its identity; all zeros where that could not be read.
    pub id: DirectoryId,
    /// Where it is.
    pub path: PathBuf,
    /// Why it is offline, if it is.
    pub offline: Option<String>,
    /// A write found no space and waits, or less is free than the reserve.
    pub full: bool,
    /// Its syncs have taken long for a while.
    pub slow: bool,
    /// What was free on its file system when it was looked at last.
    pub free_bytes: u64,
}

impl Store {
    /// Opens all directories and recovers what is in them. Fails if a directory is used by another
    /// process, or if none can be used.
    pub async fn open(options: StoreOptions) -> Result<(Store, RecoveryReport), StorageError> {
        open::store(options).await
    }

    /// The log of a partition.
    pub fn log(&self, id: PartitionId) -> Option<Arc<Log>> {
        self.read_logs().get(&id).cloned()
    }

    /// All logs, in the order of their ids.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.read_logs().values().cloned().collect()
    }

    /// Puts other options of compaction in force; enabling or disabling takes a restart, as in
    /// Kafka.
    pub fn set_cleaner(&self, options: CleanerOptions) {
        self.0.cleaners.set(options);
        cleaner::start(&self.0);
    }

    /// Puts another rate of the scrub in force, in bytes a second; 0 stops it.
    pub fn set_scrub_rate(&self, bytes_per_second: u64) {
        let before = self.0.scrub_rate.swap(bytes_per_second, Ordering::Relaxed);
        if before != bytes_per_second {
            self.0.scrub_changed.notify_one();
        }
    }

    /// Puts another `producer.id.expiration.ms` in force, from the next checkpoint on.
    pub fn set_producer_expiration(&self, span: Duration) {
        let expiration = &self.0.shared.producer_expiration_ms;
        expiration.store(open::millis(span), Ordering::Relaxed);
    }

    /// What the scrub did.
    pub fn scrubbed(&self) -> Scrubbed {
        let counters = &self.0.shared.scrubbed;
        let logs = self.0.all_logs();
        let damaged = logs.iter().filter(|log| log.damaged_from().is_some());
        Scrubbed {
            bytes: counters.bytes.load(Ordering::Relaxed),
            passes: counters.passes.load(Ordering::Relaxed),
            damages: counters.damages.load(Ordering::Relaxed),
            damaged_logs: damaged.count() as u64,
        }
    }

    /// The log directories.
    pub fn directories(&self) -> Vec<DirectoryState> {
        let state = |open: &Open| DirectoryState {
            id: open.directory.id,
            path: open.directory.path.clone(),
            offline: open.directory.offline.get().cloned(),
            full: open.directory.is_full(),
            slow: open.directory.is_slow(),
            free_bytes: open.directory.free_bytes.load(Ordering::Relaxed),
        };
        let lost = |lost: &Lost| DirectoryState {
            id: lost.id,
            path: lost.path.clone(),
            offline: Some(lost.why.clone()),
            full: false,
            slow: false,
            free_bytes: 0,
        };
        let used = self.0.directories.iter().map(state);
        used.chain(self.0.lost.iter().map(lost)).collect()
    }

    /// Room on a directory's file system; may wait for the disk.
    pub async fn space(&self, id: DirectoryId) -> Result<Space, StorageError> {
        let open = self
            .0
            .directories
            .iter()
            .find(|open| open.directory.id == id);
        let open = open.ok_or_else(|| StorageError::Offline(format!("{id} is unknown")))?;
        let (directory, shared) = (open.directory.clone(), self.0.shared.clone());
        let tasks = &self.0.shared.host.tasks;
        tasks
            .blocking(move || {
                let path = &directory.path;
                let space = shared.host.disk.space(path).doing("measuring", path);
                if let Err(error) = &space {
                    directory.fail(&shared, error.to_string());
                }
                space
            })
            .await
    }

    /// Bytes in the in-memory tails of all logs.
    pub fn tail_bytes(&self) -> usize {
        self.0.shared.tail_bytes.load(Ordering::Relaxed)
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.0.shared.handles.len()
    }

    /// The log of a partition, made if there is none, in the working directory with the fewest
    /// logs. It is durable together with its first batch.
    pub async fn create(
        &self,
        id: PartitionId,
        topic: &TopicName,
        settings: LogSettings,
    ) -> Result<Arc<Log>, StorageError> {
        self.create_in(id, topic, settings, None).await
    }

    /// As [`Store::create`]; a log that is known to be in `place`, or to belong there, is made
    /// nowhere else as long as that directory may come back.
    pub async fn create_in(
        &self,
        id: PartitionId,
        topic: &TopicName,
        settings: LogSettings,
        place: Option<DirectoryId>,
    ) -> Result<Arc<Log>, StorageError> {
        if let Some(log) = self.log(id) {
            return Ok(log);
        }
        let (reply, made) = oneshot::channel();
        self.0.maker.submit(Make {
            id,
            topic: topic.clone(),
            settings,
            place,
            reply,
        });
        let gone = || Err(StorageError::Offline("the store is closed".to_owned()));
        made.await.unwrap_or_else(|_| gone())
    }

    /// Deletes a log: at once for whoever uses it, and its files after `file.delete.delay.ms`.
    /// Nothing happens if there is none.
    pub async fn delete(&self, id: PartitionId) -> Result<(), StorageError> {
        self.0.moves.cancel(id);
        let log = self.log(id);
        let Some(path) = self.retire(id, DELETED_DIRECTORY).await? else {
            return Ok(());
        };
        let disk = self.0.shared.host.disk.clone();
        let doomed = [(path.clone(), trash::Kind::Directory)];
        let tasks = &self.0.shared.host.tasks;
        let remove = tasks.blocking(move || trash::remove(disk.as_ref(), &doomed));
        let Some(log) = log else {
            // It was not even open for lack of room.
            return remove.await;
        };
        let delay_ms = log.settings().file_delete_delay_ms;
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
        let directory = log.directory().clone();
        if !delay.is_zero() && !directory.is_full() && lock(&directory.trash).takes_more() {
            let due = self.0.shared.host.clock.now() + delay;
            lock(&directory.trash).add(due, path, trash::Kind::Directory);
            return Ok(());
        }
        remove.await
    }

    /// Takes a log out of use and renames its directory with `-stray`; its files stay.
    pub async fn rename_stray(&self, id: PartitionId) -> Result<(), StorageError> {
        if let Some(path) = self.retire(id, STRAY_DIRECTORY).await? {
            tracing::warn!(path = %path.display(), "nobody claims this partition; keeping it aside");
        }
        Ok(())
    }

    async fn retire(
        &self,
        id: PartitionId,
        suffix: &'static str,
    ) -> Result<Option<PathBuf>, StorageError> {
        let Some(log) = self.write_logs().remove(&id) else {
            return self.retire_unopened(id, suffix).await;
        };
        log.state().mode = Mode::Deleted;
        log.directory().note_high_watermarks();
        if log.is_offline() {
            return Err(StorageError::Offline(log.directory().reason()));
        }
        let unique = self.0.shared.host.random.uuid();
        let name = names::retired(log.topic(), id.index, unique, suffix);
        let (reply, done) = oneshot::channel();
        log.submit(Job::Retire {
            log: log.clone(),
            name,
            reply,
        });
        let gone = || Err(StorageError::Offline(log.directory().reason()));
        done.await.unwrap_or_else(|_| gone()).map(Some)
    }

    /// Closes everything in order: what waits is written and synced, indexes and snapshots are
    /// completed, and markers say so to the next start, with this broker epoch. Logs take nothing
    /// more. Closing twice does nothing.
    pub async fn close(&self, epoch: BrokerEpoch) -> Result<(), StorageError> {
        if self.0.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let mut first_error = Ok(());
        for open in &self.0.directories {
            let logs = self.0.logs_of(&open.directory);
            let (reply, done) = oneshot::channel();
            open.writer.submit(Job::Close {
                logs: logs.clone(),
                reply,
            });
            let gone = || Err(StorageError::Offline(open.directory.reason()));
            let mut closed = done.await.unwrap_or_else(|_| gone());
            if closed.is_ok() {
                let (inner, directory) = (self.0.clone(), open.directory.clone());
                let tasks = &self.0.shared.host.tasks;
                closed = tasks
                    .blocking(move || inner.mark_closed(&directory, &logs, epoch))
                    .await;
            }
            if let Err(error @ (StorageError::Io { .. } | StorageError::Corrupt { .. })) = &closed {
                open.directory.fail(&self.0.shared, error.to_string());
            }
            open.directory.unlock();
            first_error = first_error.and(closed);
        }
        first_error
    }

    fn read_logs(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<PartitionId, Arc<Log>>> {
        self.0
            .logs
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write_logs(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<PartitionId, Arc<Log>>> {
        self.0
            .logs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    /// Every log.
    pub(crate) fn all_logs(&self) -> Vec<Arc<Log>> {
        let logs = self
            .logs
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        logs.values().cloned().collect()
    }

    /// The logs in one directory.
    fn logs_of(&self, directory: &Arc<Directory>) -> Vec<Arc<Log>> {
        let logs = self
            .logs
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        logs.values()
            .filter(|log| Arc::ptr_eq(&log.directory(), directory))
            .cloned()
            .collect()
    }

    /// The worker that makes logs.
    fn maker(tasks: &Tasks, store: Weak<Inner>) -> Worker<Make> {
        tasks.worker("log-maker", move |jobs: Vec<Make>| {
            // Where the store is gone, whoever waits sees the end of the reply.
            let Some(inner) = store.upgrade() else { return };
            for job in jobs {
                let made = inner.create(job.id, job.topic, job.settings, job.place);
                let _ = job.reply.send(made);
            }
        })
    }

    fn create(
        &self,
        id: PartitionId,
        topic: TopicName,
        settings: LogSettings,
        place: Option<DirectoryId>,
    ) -> Result<Arc<Log>, StorageError> {
        let logs = || {
            self.logs
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        if let Some(log) = logs().get(&id) {
            return Ok(log.clone());
        }
        if self.closed.load(Ordering::SeqCst) {
            return Err(StorageError::Offline("the store is closed".to_owned()));
        }
        let name = names::partition(&topic, id.index);
        let disk = self.shared.host.disk.as_ref();
        for open in self.working() {
            let path = open.directory.path.join(&name);
            if disk.exists(&path) {
                return Err(open.directory.occupied(path, &(topic, id.index)));
            }
        }
        let open = self.place_for(place)?;
        checkpoints::forget(&self.shared, &open.directory, &(topic.clone(), id.index))?;
        let state = match self.make(open, id, &name, settings) {
            Ok(state) => state,
            Err(error) => {
                // What is half made is in nobody's way.
                let _ = disk.remove_directory(&open.directory.path.join(&name));
                if let StorageError::Io { .. } = error {
                    // As Kafka: a disk that cannot take a new log is not trusted with the others.
                    open.directory.fail(&self.shared, error.to_string());
                }
                return Err(error);
            }
        };
        let (directory, writer) = (open.directory.clone(), open.writer.clone());
        directory.note_high_watermarks();
        let log = Log::new(id, topic, directory, self.shared.clone(), writer, state);
        log.directory().note_unborn(&log);
        self.logs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(id, log.clone());
        Ok(log)
    }

    /// The directories that have not failed.
    fn working(&self) -> impl Iterator<Item = &Open> {
        let directories = self.directories.iter();
        directories.filter(|open| !open.directory.is_offline())
    }

    /// Where to make a log that belongs into `place`.
    fn place_for(&self, place: Option<DirectoryId>) -> Result<&Open, StorageError> {
        let Some(place) = place else {
            return self.least_crowded();
        };
        if let Some(open) = self.working().find(|open| open.directory.id == place) {
            return Ok(open);
        }
        let failed = self.directories.iter().map(|open| &open.directory);
        let failed = failed.filter(|directory| directory.is_offline());
        let failed = failed.map(|directory| &directory.path);
        let failed: Vec<_> = failed
            .chain(self.lost.iter().map(|lost| &lost.path))
            .collect();
        match failed.is_empty() {
            // The disk was replaced.
            true => self.least_crowded(),
            false => Err(StorageError::Offline(format!(
                "the log is in directory {place}, and {failed:?} have failed"
            ))),
        }
    }

    /// The working directory with the fewest logs; one with room if there is one.
    fn least_crowded(&self) -> Result<&Open, StorageError> {
        let usable = || self.working();
        let mut crowd: BTreeMap<DirectoryId, usize> = BTreeMap::new();
        if usable().nth(1).is_some() {
            let logs = self
                .logs
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for log in logs.values() {
                *crowd.entry(log.directory_id()).or_default() += 1;
            }
        }
        let merit = |open: &&Open| {
            let logs = crowd.get(&open.directory.id).copied().unwrap_or(0);
            (open.directory.is_full(), logs)
        };
        usable()
            .min_by_key(merit)
            .ok_or_else(|| StorageError::NoDirectory("all are offline".to_owned()))
    }

    /// Makes the files of a new log.
    fn make(
        &self,
        open: &Open,
        id: PartitionId,
        name: &str,
        settings: LogSettings,
    ) -> Result<State, StorageError> {
        let (disk, path) = (
            self.shared.host.disk.as_ref(),
            open.directory.path.join(name),
        );
        disk.create_directories(&path).doing("making", &path)?;
        let identity = path.join(PARTITION_METADATA);
        let content = Bytes::from(checkpoint::encode_partition_metadata(id.topic));
        disk.open(&identity, OpenMode::CreateNew)
            .and_then(|file| file.write_at(&[content], 0))
            .doing("writing", &identity)?;
        segment::open(
            disk,
            &path,
            Offset::ZERO,
            FileKind::Log,
            OpenMode::CreateNew,
        )?;
        let random = self.shared.host.random.clone();
        let jitter_ms = jitter(&random, &settings);
        let first = Segment::new(Offset::ZERO, self.shared.host.clock.wall(), jitter_ms);
        let settings = Arc::new(settings);
        let mut state = State::new(settings, vec![first], Offset::ZERO, Offset::ZERO, random);
        state.unborn = true;
        state.unsynced_names = true;
        Ok(state)
    }

    /// Writes the last checkpoints and the marker of a clean stop.
    fn mark_closed(
        &self,
        directory: &Directory,
        logs: &[Arc<Log>],
        epoch: BrokerEpoch,
    ) -> Result<(), StorageError> {
        checkpoints::write(&self.shared, directory, logs, Which::ALL)?;
        if !lock(&directory.kept).is_empty() {
            // The next start must look at the damaged ones again.
            return Ok(());
        }
        let path = directory.path.join(CLEAN_SHUTDOWN);
        let text = checkpoint::encode_clean_shutdown(epoch);
        checkpoint::replace(self.shared.host.disk.as_ref(), &path, text)
    }
}
