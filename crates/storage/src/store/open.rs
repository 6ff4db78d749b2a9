//! Opening a store: lock, look, recover, start the writers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use millrace_host::Disk;
use millrace_model::{BrokerEpoch, DirectoryId, PartitionId, TopicName};
use tokio::sync::Notify;

use super::moving::Moves;
use super::recovery::{self, Gathered};
use super::scrub::{self, Counters};
use super::{Inner, Lost, Open, RecoveryReport, Store, Unusable, ticker};
use crate::checkpoint::{self, Offsets};
use crate::cleaner::{self, Cleaners};
use crate::directory::{Closed, Directory, Persisted, Shared};
use crate::error::{FailedLog, StorageError, While};
use crate::handles::Handles;
use crate::lock;
use crate::log::Log;
use crate::names::{
    self, CLEAN_SHUTDOWN, CLEANED, CLUSTER_METADATA, DELETED_DIRECTORY, FUTURE_DIRECTORY,
    HIGH_WATERMARKS, LOCK, LOG_STARTS, RECOVERY_POINTS, SOUND, STRAY_DIRECTORY,
};
use crate::settings::{LogDirectory, StoreOptions};
use crate::writer::{Job, Writer, remove_file};

/// A directory that was locked and looked at, before its logs are opened.
pub(super) struct Found {
    pub(super) directory: Directory,
    /// The marker of a clean stop, and the epoch in it.
    pub(super) clean: Option<Option<BrokerEpoch>>,
    /// Names of partition directories.
    pub(super) partitions: Vec<Named>,
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

pub(super) async fn store(options: StoreOptions) -> Result<(Store, RecoveryReport), StorageError> {
    let shared = shared(&options);
    let mut opening = Opening::default();
    let mut recovering = Vec::new();
    for wanted in &options.directories {
        let (log_directory, disk) = (wanted.clone(), shared.host.disk.clone());
        let looked = shared
            .host
            .tasks
            .blocking(move || look(disk.as_ref(), &log_directory))
            .await;
        match looked {
            Ok(found) => {
                opening.clean.push(found.clean.flatten());
                // Directories are on disks of their own, most often.
                let recovery = recovery::all(shared.clone(), options.clone(), found);
                recovering.push(shared.host.tasks.spawn(recovery));
            }
            Err(error @ StorageError::Locked(_)) => return Err(error),
            Err(error) => {
                tracing::error!(path = %wanted.path.display(), %error, "cannot use log directory");
                opening.lose(wanted.id, &wanted.path, &error.to_string());
            }
        }
    }
    for recovered in recovering {
        let (directory, gathered) = recovered.await.expect("recovery does not panic");
        opening.add(&shared, directory, gathered).await;
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
    let unusable = report.failed.iter().filter_map(unusable).collect();
    let at_a_time = options.moves_at_a_time.unwrap_or(options.directories.len());
    let moves = Moves::new(at_a_time, shared.host.clock.now());
    let inner = Arc::new_cyclic(|inner| Inner {
        cleaners,
        maker: Inner::maker(&shared.host.tasks, inner.clone()),
        scrub_rate: AtomicU64::new(options.scrub_bytes_per_second),
        scrub_changed: Notify::new(),
        unusable: Mutex::new(unusable),
        shared,
        options,
        directories,
        lost,
        moves,
        logs: RwLock::new(logs),
        closed: AtomicBool::new(false),
    });
    start_tasks(&inner);
    Ok((Store(inner), report))
}

/// Starts what goes on in the background.
fn start_tasks(inner: &Arc<Inner>) {
    let tasks = &inner.shared.host.tasks;
    tasks.spawn(ticker::run(Arc::downgrade(inner)));
    tasks.spawn(scrub::run(Arc::downgrade(inner)));
    cleaner::start(inner);
}

/// What all logs share, before there is any.
fn shared(options: &StoreOptions) -> Arc<Shared> {
    Arc::new(Shared {
        host: options.host.clone(),
        events: options.events.clone(),
        handles: Handles::new(options.max_open_files),
        tail_bytes: AtomicUsize::new(0),
        tail_budget_bytes: options.tail_budget_bytes,
        followed_cache_bytes: options.followed_cache_bytes,
        producer_expiration_ms: AtomicU64::new(millis(options.producer_expiration)),
        next_log: AtomicU64::new(0),
        reserve_bytes: options.reserve_bytes,
        trusted_clock: Mutex::default(),
        writes: AtomicU64::new(0),
        scrubbed: Counters::default(),
        attention: Notify::new(),
    })
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn unusable(failed: &FailedLog) -> Option<((TopicName, i32), Unusable)> {
    let name = failed.path.file_name()?.to_str()?;
    let (path, flaw) = (failed.path.clone(), failed.flaw?);
    Some((names::parse_partition(name)?, Unusable { path, flaw }))
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
    /// Takes over what was found in one directory and starts its writer.
    async fn add(&mut self, shared: &Arc<Shared>, directory: Arc<Directory>, gathered: Gathered) {
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
                flaw: None,
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
        slowness: Mutex::default(),
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

/// The checkpoints of a directory. One that is damaged says nothing, as in Kafka: more is scanned, or
/// found out anew, than would have to be.
fn read_persisted(disk: &dyn Disk, path: &Path) -> Result<Persisted, StorageError> {
    let read = |name: &str| match checkpoint::read_offsets(disk, &path.join(name)) {
        Err(StorageError::Corrupt { what, why }) => {
            tracing::error!(what, why, "ignoring a damaged checkpoint");
            Ok(Offsets::new())
        }
        read => read,
    };
    Ok(Persisted {
        recovery_points: read(RECOVERY_POINTS)?,
        log_starts: read(LOG_STARTS)?,
        high_watermarks: read(HIGH_WATERMARKS)?,
        cleaned: read(CLEANED)?,
    })
}
