//! Opening a store: lock, look, recover, start the writers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use millrace_host::Disk;
use millrace_host::disk::OpenMode;
use millrace_model::{BrokerEpoch, DirectoryId, Offset, PartitionId, TopicName};
use tokio::sync::Notify;

use super::moving::Moves;
use super::unopened::Waiting;
use super::{Inner, Lost, Open, RecoveryReport, Store, Unopened, ticker};
use crate::checkpoint;
use crate::cleaner::{self, Cleaners};
use crate::directory::{Closed, Directory, Persisted, Shared};
use crate::error::{FailedLog, StorageError, While};
use crate::handles::Handles;
use crate::lock;
use crate::log::{Log, State};
use crate::names::{
    self, CLEAN_SHUTDOWN, CLEANED, CLUSTER_METADATA, DELETED_DIRECTORY, FUTURE_DIRECTORY, FileKind,
    HIGH_WATERMARKS, LOCK, LOG_STARTS, PARTITION_METADATA, RECOVERY_POINTS, SOUND, STRAY_DIRECTORY,
};
use crate::recover::{self, Known};
use crate::settings::{LogDirectory, LogSettings, StoreOptions};
use crate::writer::{Job, Writer, remove_file};

/// A log is told of each time so many have been recovered after a crash.
const PROGRESS_EVERY: usize = 500;

/// A directory that was locked and looked at, before its logs are opened.
struct Found {
    directory: Directory,
    /// The marker of a clean stop, and the epoch in it.
    clean: Option<Option<BrokerEpoch>>,
    /// Names of partition directories.
    partitions: Vec<Named>,
}

/// The directory of a partition, by its name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) topic: TopicName,
    pub(super) index: i32,
}

impl Named {
    /// What checkpoints know it by.
    pub(super) fn key(&self) -> (TopicName, i32) {
        (self.topic.clone(), self.index)
    }
}

/// The logs of one directory as they are found, by several threads.
#[derive(Default)]
struct Gathered {
    logs: Vec<(PartitionId, TopicName, State)>,
    failed: Vec<FailedLog>,
    kept: BTreeMap<(TopicName, i32), Closed>,
    waiting: Vec<Waiting>,
    scanned: usize,
    cut_bytes: u64,
    done: usize,
}

pub(super) async fn store(options: StoreOptions) -> Result<(Store, RecoveryReport), StorageError> {
    let shared = Arc::new(Shared {
        host: options.host.clone(),
        events: options.events.clone(),
        handles: Handles::new(options.max_open_files),
        tail_bytes: AtomicUsize::new(0),
        tail_budget_bytes: options.tail_budget_bytes,
        followed_cache_bytes: options.followed_cache_bytes,
        producer_expiration: options.producer_expiration,
        next_log: AtomicU64::new(0),
        reserve_bytes: options.reserve_bytes,
        trusted_clock: Mutex::default(),
        attention: Notify::new(),
    });
    let mut opening = Opening::default();
    for wanted in &options.directories {
        let (log_directory, disk) = (wanted.clone(), shared.host.disk.clone());
        let looked = shared
            .host
            .tasks
            .blocking(move || look(disk.as_ref(), &log_directory))
            .await;
        match looked {
            Ok(found) => opening.add(&shared, &options, found).await,
            Err(error @ StorageError::Locked(_)) => return Err(error),
            Err(error) => {
                tracing::error!(path = %wanted.path.display(), %error, "cannot use log directory");
                opening.lose(wanted.id, &wanted.path, &error.to_string());
            }
        }
    }
    opening.lose_all(&options.unusable);
    let Opening {
        mut report,
        directories,
        lost,
        logs,
        clean,
    } = opening;
    report.offline = lost
        .iter()
        .map(|l| (l.path.clone(), l.why.clone()))
        .collect();
    if directories.is_empty() {
        let why: Vec<String> = lost.into_iter().map(|lost| lost.why).collect();
        return Err(StorageError::NoDirectory(why.join("; ")));
    }
    report.logs = logs.len();
    // As Kafka: one epoch, and the same in all of them.
    let one = clean.iter().all(|epoch| *epoch == clean[0]) && report.offline.is_empty();
    report.clean_shutdown = clean[0].filter(|_| one);
    let cleaners = Cleaners::new(options.cleaner.clone());
    let inner = Arc::new_cyclic(|inner| Inner {
        cleaners,
        maker: Inner::maker(&shared.host.tasks, inner.clone()),
        shared,
        options,
        directories,
        lost,
        moves: Moves::default(),
        logs: RwLock::new(logs),
        closed: AtomicBool::new(false),
    });
    inner
        .shared
        .host
        .tasks
        .spawn(ticker::run(Arc::downgrade(&inner)));
    cleaner::start(&inner);
    Ok((Store(inner), report))
}

/// What has been opened so far.
#[derive(Default)]
struct Opening {
    report: RecoveryReport,
    directories: Vec<Open>,
    lost: Vec<Lost>,
    logs: BTreeMap<PartitionId, Arc<Log>>,
    /// The epoch of each directory's clean stop.
    clean: Vec<Option<BrokerEpoch>>,
}

impl Opening {
    /// Recovers one directory and starts its writer.
    async fn add(&mut self, shared: &Arc<Shared>, options: &StoreOptions, found: Found) {
        self.clean.push(found.clean.flatten());
        let (directory, gathered) = recover_all(shared, options, found).await;
        if directory.is_offline() {
            // Nothing in it is used, and another process may try its luck.
            directory.unlock();
            return self.lose(directory.id, &directory.path, &directory.reason());
        }
        let writer = start_writer(shared, &directory);
        self.report.scanned_segments += gathered.scanned;
        self.report.cut_bytes += gathered.cut_bytes;
        self.report.failed.extend(gathered.failed);
        for (id, topic, state) in gathered.logs {
            let (directory, writer) = (directory.clone(), writer.clone());
            let log = Log::new(id, topic, directory, shared.clone(), writer, state);
            let log = match self.logs.remove(&id) {
                Some(other) => self.choose(shared, other, log).await,
                None => log,
            };
            self.logs.insert(id, log);
        }
        self.directories.push(Open { directory, writer });
    }

    /// Of two logs of one partition keeps the one that goes further, and the other aside: a move
    /// between directories was cut off at its very end, or a directory came back.
    async fn choose(&mut self, shared: &Shared, one: Arc<Log>, two: Arc<Log>) -> Arc<Log> {
        let reach = |log: &Log| (log.last_epoch(), log.bounds().log_end);
        let (kept, other) = match reach(&two) > reach(&one) {
            true => (two, one),
            false => (one, two),
        };
        let (id, from) = (other.id(), other.path());
        let unique = shared.host.random.uuid();
        let aside = names::retired(other.topic(), id.index, unique, STRAY_DIRECTORY);
        let aside = other.directory().path.join(aside);
        tracing::warn!(kept = %kept.path().display(), aside = %aside.display(), "a partition was in two directories");
        let disk = shared.host.disk.clone();
        let renaming = move || disk.rename(&from, &aside).doing("renaming", &from);
        if let Err(error) = shared.host.tasks.blocking(renaming).await {
            let key = (other.topic().clone(), id.index);
            lock(&other.directory().kept).insert(key, Closed::Damaged);
            self.report.failed.push(FailedLog {
                id: Some(id),
                path: other.path(),
                why: error.to_string(),
            });
        }
        kept
    }

    fn lose_all(&mut self, unusable: &[(PathBuf, String)]) {
        for (path, why) in unusable {
            self.lose(DirectoryId::default(), path, why);
        }
    }

    fn lose(&mut self, id: DirectoryId, path: &Path, why: &str) {
        self.lost.push(Lost {
            id,
            path: path.to_owned(),
            why: why.to_owned(),
        });
    }
}

fn start_writer(shared: &Arc<Shared>, directory: &Arc<Directory>) -> millrace_host::Worker<Job> {
    let mut writer = Writer::new(shared.clone(), directory.clone());
    shared
        .host
        .tasks
        .worker("log-writer", move |jobs| writer.handle(jobs))
}

/// Makes a directory that survives a power cut.
fn make_directory(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    disk.create_directories(path).doing("making", path)?;
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let synced = disk.open_directory(parent).and_then(|d| d.sync());
    synced.doing("syncing", parent)
}

/// Locks a directory and looks what is in it.
fn look(disk: &dyn Disk, wanted: &LogDirectory) -> Result<Found, StorageError> {
    let path = &wanted.path;
    if !disk.exists(path) {
        make_directory(disk, path)?;
    }
    let lock_path = path.join(LOCK);
    let guard = match disk.lock(&lock_path) {
        Ok(guard) => guard,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(StorageError::Locked(path.clone()));
        }
        Err(error) => return Err(StorageError::io("locking", &lock_path, error)),
    };
    let root = disk.open_directory(path).doing("opening", path)?;
    let marker = path.join(CLEAN_SHUTDOWN);
    let clean = checkpoint::read_identity(disk, &marker)?
        .map(|text| checkpoint::decode_clean_shutdown(&text));
    if clean.is_some() {
        // Before anything changes: the next start must not take it for its own.
        remove_file(disk, &marker)?;
        root.sync().doing("syncing", path)?;
    }
    let persisted = read_persisted(disk, path)?;
    let mut partitions = Vec::new();
    for entry in disk.list(path).doing("listing", path)? {
        if !entry.is_directory || entry.name == CLUSTER_METADATA {
            continue;
        }
        // What was on its way in when the broker stopped is there where it came from.
        if entry.name.ends_with(DELETED_DIRECTORY) || entry.name.ends_with(FUTURE_DIRECTORY) {
            let left = path.join(&entry.name);
            disk.remove_directory(&left).doing("removing", &left)?;
        } else if let Some((topic, index)) = names::parse_partition(&entry.name) {
            partitions.push(Named {
                name: entry.name,
                topic,
                index,
            });
        } else if !entry.name.ends_with(STRAY_DIRECTORY) {
            tracing::debug!(name = entry.name, "not a partition's directory");
        }
    }
    let directory = Directory {
        path: path.clone(),
        id: wanted.id,
        suspect: clean.is_none() && !disk.exists(&path.join(SOUND)),
        can_sync_all: root.tells_errors_of_filesystem(),
        root,
        guard: Mutex::new(Some(guard)),
        offline: OnceLock::new(),
        full: AtomicBool::new(false),
        low: AtomicBool::new(false),
        told_full: AtomicBool::new(false),
        free_bytes: AtomicU64::new(u64::MAX),
        queued_bytes: AtomicUsize::new(0),
        room: Notify::new(),
        persisted: Mutex::new(persisted),
        kept: Mutex::default(),
        unopened: Mutex::default(),
        awaits_room: AtomicBool::new(false),
        unborn: Mutex::default(),
        writing_epochs: Mutex::default(),
        starts_moved: AtomicBool::new(false),
        high_watermarks_moved: AtomicBool::new(true),
        trash: Mutex::default(),
    };
    Ok(Found {
        directory,
        clean,
        partitions,
    })
}

/// The checkpoints of a directory.
fn read_persisted(disk: &dyn Disk, path: &Path) -> Result<Persisted, StorageError> {
    let read = |name: &str| checkpoint::read_offsets(disk, &path.join(name));
    Ok(Persisted {
        recovery_points: read(RECOVERY_POINTS)?,
        log_starts: read(LOG_STARTS)?,
        high_watermarks: read(HIGH_WATERMARKS)?,
        cleaned: read(CLEANED)?,
    })
}

/// Opens all logs of a directory, on several threads.
async fn recover_all(
    shared: &Arc<Shared>,
    options: &StoreOptions,
    found: Found,
) -> (Arc<Directory>, Gathered) {
    let Found {
        directory,
        clean,
        partitions,
    } = found;
    let (directory, total) = (Arc::new(directory), partitions.len());
    let queue = Arc::new(Mutex::new(VecDeque::from(partitions)));
    let gathered = Arc::new(Mutex::new(Gathered::default()));
    let settings = Arc::new(options.default_settings.clone());
    let mut threads = Vec::new();
    for _ in 0..options.recovery_threads.clamp(1, total.max(1)) {
        let (shared, directory) = (shared.clone(), directory.clone());
        let (queue, gathered, settings) = (queue.clone(), gathered.clone(), settings.clone());
        let tasks = shared.host.tasks.clone();
        let work = async move {
            let tasks = shared.host.tasks.clone();
            let work = move || loop {
                let next = lock(&queue).pop_front();
                let Some(named) = next.filter(|_| !directory.is_offline()) else {
                    return;
                };
                let clean = clean.is_some();
                let opened = open_one(&shared, &directory, clean, &named, &settings);
                if let Err((_, error)) = &opened
                    && error.is_of_disk()
                {
                    return directory.fail(&shared, error.to_string());
                }
                gather(&directory, &gathered, (named, clean), opened, total);
            };
            tasks.blocking(work).await;
        };
        threads.push(tasks.spawn(work));
    }
    for thread in threads {
        thread.await.expect("recovery does not panic");
    }
    let mut gathered = std::mem::take(&mut *lock(&gathered));
    gathered.logs.sort_by_key(|(id, ..)| *id);
    *lock(&directory.kept) = std::mem::take(&mut gathered.kept);
    let waiting = std::mem::take(&mut gathered.waiting);
    directory
        .awaits_room
        .store(!waiting.is_empty(), Ordering::Relaxed);
    *lock(&directory.unopened) = Unopened::new(waiting);
    let (settled, all_opened) = (directory.clone(), gathered.failed.is_empty());
    let (shared, scanned) = (shared.clone(), gathered.scanned > 0);
    let tasks = shared.host.tasks.clone();
    tasks
        .blocking(move || settle(&shared, &settled, scanned, all_opened))
        .await;
    (directory, gathered)
}

/// Makes what was recovered durable, and notes that the files can be believed.
fn settle(shared: &Shared, directory: &Directory, scanned: bool, all_opened: bool) {
    if directory.is_offline() {
        return;
    }
    let synced = match (scanned || directory.suspect, directory.can_sync_all) {
        (true, true) => directory.root.sync_filesystem(),
        // The files of each partition were synced when it was opened, but not its own name.
        (true, false) => directory.root.sync(),
        (false, _) => Ok(()),
    };
    let sound = directory.path.join(SOUND);
    if let Err(error) = synced {
        directory.fail(shared, format!("syncing what was recovered: {error}"));
    } else if all_opened {
        // If this fails, the next start after a crash is only slower.
        let _ = shared.host.disk.open(&sound, OpenMode::Create);
    } else {
        // Whatever was wrong, a sync may have failed on the way.
        let _ = shared.host.disk.remove_file(&sound);
    }
}

/// What became of one partition directory.
pub(super) enum Opened {
    Log(PartitionId, Box<recover::Recovered>),
    /// It was being made when the broker stopped, and holds nothing.
    Nothing,
}

/// Opens the log in one partition directory; `clean` after a stop in order.
pub(super) fn open_one(
    shared: &Shared,
    directory: &Directory,
    clean: bool,
    named: &Named,
    settings: &Arc<LogSettings>,
) -> Result<Opened, (Option<PartitionId>, StorageError)> {
    let disk = shared.host.disk.as_ref();
    let Named { name, topic, index } = named;
    let index = *index;
    let path = directory.path.join(name);
    let identity = path.join(PARTITION_METADATA);
    let text = checkpoint::read_identity(disk, &identity).map_err(|error| (None, error))?;
    let id = match text.as_deref().map(checkpoint::decode_partition_metadata) {
        Some(Ok(topic)) => PartitionId { topic, index },
        unknown => {
            if is_hollow(disk, &path).map_err(|error| (None, error))? {
                disk.remove_directory(&path)
                    .doing("removing", &path)
                    .map_err(|error| (None, error))?;
                return Ok(Opened::Nothing);
            }
            let why = match unknown {
                Some(Err(why)) => why,
                _ => "it is missing".to_owned(),
            };
            let point = lock(&directory.persisted)
                .recovery_points
                .get(&(topic.clone(), index))
                .copied();
            if clean || point.is_some_and(|point| point > Offset::ZERO) {
                return Err((None, StorageError::corrupt(&identity, why)));
            }
            set_aside(shared, directory, &path, (topic, index), &why).map_err(|e| (None, e))?;
            return Ok(Opened::Nothing);
        }
    };
    let key = (topic.clone(), index);
    let known = {
        let persisted = lock(&directory.persisted);
        let offset = |offsets: &checkpoint::Offsets| offsets.get(&key).copied();
        Known {
            clean,
            suspect: directory.suspect,
            recovery_point: offset(&persisted.recovery_points).unwrap_or(Offset::ZERO),
            log_start: offset(&persisted.log_starts).unwrap_or(Offset::ZERO),
            high_watermark: offset(&persisted.high_watermarks).unwrap_or(Offset::ZERO),
            settings: settings.clone(),
            now: shared.host.clock.wall(),
            random: shared.host.random.clone(),
        }
    };
    let recovered = recover::open(disk, &path, &known).map_err(|error| (Some(id), error))?;
    if recovered.scanned > 0 && !directory.can_sync_all {
        sync_files(disk, &path).map_err(|error| (Some(id), error))?;
    }
    Ok(Opened::Log(id, Box::new(recovered)))
}

/// Keeps batches aside of which nobody knows which topic of this name they belong to: a power cut
/// has left them, and nothing was ever said to be durable here.
fn set_aside(
    shared: &Shared,
    directory: &Directory,
    path: &Path,
    (topic, index): (&TopicName, i32),
    why: &str,
) -> Result<(), StorageError> {
    let unique = shared.host.random.uuid();
    let aside = names::retired(topic, index, unique, STRAY_DIRECTORY);
    let aside = directory.path.join(aside);
    shared
        .host
        .disk
        .rename(path, &aside)
        .doing("renaming", path)?;
    tracing::warn!(path = %aside.display(), why, "a partition lost its identity; keeping it aside");
    Ok(())
}

/// Whether a partition's directory holds no batch.
fn is_hollow(disk: &dyn Disk, path: &Path) -> Result<bool, StorageError> {
    for entry in disk.list(path).doing("listing", path)? {
        if let Some((_, FileKind::Log)) = names::parse_file(&entry.name) {
            let file = path.join(&entry.name);
            let opened = disk.open(&file, OpenMode::Read);
            if opened.and_then(|file| file.len()).doing("reading", &file)? > 0 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Syncs every file of a partition's directory and the directory itself.
fn sync_files(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    for entry in disk.list(path).doing("listing", path)? {
        let file = path.join(&entry.name);
        let opened = disk.open(&file, millrace_host::disk::OpenMode::ReadWrite);
        opened
            .and_then(|file| file.sync_data())
            .doing("syncing", &file)?;
    }
    disk.open_directory(path)
        .and_then(|d| d.sync())
        .doing("syncing", path)
}

fn gather(
    directory: &Directory,
    gathered: &Mutex<Gathered>,
    (named, clean): (Named, bool),
    opened: Result<Opened, (Option<PartitionId>, StorageError)>,
    total: usize,
) {
    let mut gathered = lock(gathered);
    gathered.done += 1;
    match opened {
        Ok(Opened::Nothing) => {}
        Ok(Opened::Log(id, recovered)) => {
            gathered.scanned += recovered.scanned;
            gathered.cut_bytes += recovered.cut_bytes;
            gathered.logs.push((id, named.topic, recovered.state));
        }
        Err((id, error)) => {
            let (path, why) = (directory.path.join(&named.name), error.to_string());
            tracing::error!(path = %path.display(), why, "cannot open a partition");
            let no_room = matches!(error, StorageError::NoSpace);
            let closed = match no_room {
                true => Closed::NoRoom,
                false => Closed::Damaged,
            };
            gathered.kept.insert(named.key(), closed);
            if no_room {
                gathered.waiting.push(Waiting { id, named, clean });
            }
            gathered.failed.push(FailedLog { id, path, why });
        }
    }
    let done = gathered.done;
    if gathered.scanned > 0 && (done.is_multiple_of(PROGRESS_EVERY) || done == total) {
        let directory = directory.path.display();
        tracing::info!(%directory, done, total, "recovering logs after an unclean stop");
    }
}
