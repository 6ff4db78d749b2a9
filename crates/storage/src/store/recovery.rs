//! Opens the logs of one directory, several at once.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use millrace_host::Disk;
use millrace_host::disk::OpenMode;
use millrace_model::{Offset, PartitionId, TopicName};

use super::open::{Found, Named};
use super::progress::Progress;
use super::unopened::Waiting;
use super::{Flaw, Unopened};
use crate::checkpoint;
use crate::directory::{Closed, Directory, Shared};
use crate::error::{FailedLog, StorageError, While};
use crate::lock;
use crate::log::State;
use crate::names::{self, FileKind, PARTITION_METADATA, SOUND, STRAY_DIRECTORY};
use crate::recover::{self, Known};
use crate::settings::{LogSettings, StoreOptions};

/// The logs of one directory as they are found, by several threads.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) logs: Vec<(PartitionId, TopicName, State)>,
    pub(super) failed: Vec<FailedLog>,
    pub(super) scanned: usize,
    pub(super) cut_bytes: u64,
    kept: BTreeMap<(TopicName, i32), Closed>,
    waiting: Vec<Waiting>,
}

/// What one directory's threads share.
struct Work {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    clean: bool,
    settings: Arc<LogSettings>,
    progress: Arc<Progress>,
    left: Mutex<VecDeque<Named>>,
    gathered: Mutex<Gathered>,
}

/// Opens all logs of a directory, on several threads.
pub(super) async fn all(
    shared: Arc<Shared>,
    options: StoreOptions,
    found: Found,
) -> (Arc<Directory>, Gathered) {
    let Found {
        directory,
        clean,
        partitions,
    } = found;
    let (directory, total) = (Arc::new(directory), partitions.len());
    let work = Arc::new(Work {
        shared: shared.clone(),
        directory: directory.clone(),
        clean: clean.is_some(),
        settings: Arc::new(options.default_settings.clone()),
        progress: Progress::new(&shared.host, &directory.path, total),
        left: Mutex::new(VecDeque::from(partitions)),
        gathered: Mutex::default(),
    });
    let tasks = &shared.host.tasks;
    if clean.is_none() && total > 0 {
        let work = work.clone();
        tasks.blocking(move || work.measure()).await;
    }
    let mut threads = Vec::new();
    for _ in 0..options.recovery_threads.clamp(1, total.max(1)) {
        let (work, own) = (work.clone(), tasks.clone());
        let thread = async move { own.blocking(move || work.open_each()).await };
        threads.push(tasks.spawn(thread));
    }
    for thread in threads {
        thread.await.expect("recovery does not panic");
    }
    let mut gathered = std::mem::take(&mut *lock(&work.gathered));
    gathered.logs.sort_by_key(|(id, ..)| *id);
    *lock(&directory.kept) = std::mem::take(&mut gathered.kept);
    let waiting = std::mem::take(&mut gathered.waiting);
    directory
        .awaits_room
        .store(!waiting.is_empty(), Ordering::Relaxed);
    *lock(&directory.unopened) = Unopened::new(waiting);
    let (settled, all_opened) = (directory.clone(), gathered.failed.is_empty());
    let (settling, scanned) = (shared.clone(), gathered.scanned > 0);
    tasks
        .blocking(move || settle(&settling, &settled, scanned, all_opened))
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

/// Why one could not be opened.
pub(super) struct Failure {
    id: Option<PartitionId>,
    flaw: Option<Flaw>,
    pub(super) error: StorageError,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        // Other errors may be gone with the next start.
        let damaged = matches!(error, StorageError::Corrupt { .. }) || error.is_missing_file();
        let (id, flaw) = (None, damaged.then_some(Flaw::Damaged));
        Failure { id, flaw, error }
    }
}

impl Work {
    fn open_each(&self) {
        loop {
            let next = lock(&self.left).pop_front();
            let Some(named) = next.filter(|_| !self.directory.is_offline()) else {
                return;
            };
            let (shared, directory) = (&self.shared, &self.directory);
            let opening = Opening {
                shared,
                directory,
                clean: self.clean,
                settings: &self.settings,
                progress: &self.progress,
            };
            let opened = opening.open(&named);
            if let Err(failure) = &opened
                && failure.error.is_of_disk()
            {
                return directory.fail(shared, failure.error.to_string());
            }
            self.gather(named, opened);
        }
    }

    /// Finds out how much there is to go through, so that progress can be told.
    fn measure(&self) {
        let partitions: Vec<Named> = lock(&self.left).iter().cloned().collect();
        let disk = self.shared.host.disk.as_ref();
        let mut bytes = 0;
        for named in partitions {
            let point = recovery_point(&self.directory, &named.key()).unwrap_or_default();
            let path = self.directory.path.join(&named.name);
            match recover::unflushed_bytes(disk, &path, point) {
                Ok(more) => bytes += more,
                Err(error) if error.is_of_disk() => {
                    return self.directory.fail(&self.shared, error.to_string());
                }
                // What is the matter is found out soon enough.
                Err(_) => {}
            }
        }
        self.progress.begin(bytes);
    }

    fn gather(&self, named: Named, opened: Result<Opened, Failure>) {
        let mut gathered = lock(&self.gathered);
        match opened {
            Ok(Opened::Nothing) => {}
            Ok(Opened::Log(id, recovered)) => {
                gathered.scanned += recovered.scanned;
                gathered.cut_bytes += recovered.cut_bytes;
                gathered.logs.push((id, named.topic, recovered.state));
            }
            Err(Failure { id, flaw, error }) => {
                let path = self.directory.path.join(&named.name);
                let why = error.to_string();
                tracing::error!(path = %path.display(), why, "cannot open a partition");
                let no_room = matches!(error, StorageError::NoSpace);
                let closed = match no_room {
                    true => Closed::NoRoom,
                    false => Closed::Damaged,
                };
                gathered.kept.insert(named.key(), closed);
                if no_room {
                    let clean = self.clean;
                    gathered.waiting.push(Waiting { id, named, clean });
                }
                gathered.failed.push(FailedLog {
                    id,
                    path,
                    flaw,
                    why,
                });
            }
        }
        drop(gathered);
        self.progress.log_done();
    }
}

fn recovery_point(directory: &Directory, key: &(TopicName, i32)) -> Option<Offset> {
    let persisted = lock(&directory.persisted);
    persisted.recovery_points.get(key).copied()
}

/// What is needed to open the log in a partition directory.
pub(super) struct Opening<'a> {
    pub(super) shared: &'a Shared,
    pub(super) directory: &'a Directory,
    /// After a stop in order.
    pub(super) clean: bool,
    pub(super) settings: &'a Arc<LogSettings>,
    pub(super) progress: &'a Arc<Progress>,
}

impl Opening<'_> {
    /// Opens it.
    pub(super) fn open(&self, named: &Named) -> Result<Opened, Failure> {
        let disk = self.shared.host.disk.as_ref();
        let path = self.directory.path.join(&named.name);
        let Some(id) = self.identify(&path, named)? else {
            return Ok(Opened::Nothing);
        };
        let key = named.key();
        let known = {
            let persisted = lock(&self.directory.persisted);
            let offset = |offsets: &checkpoint::Offsets| offsets.get(&key).copied();
            Known {
                clean: self.clean,
                suspect: self.directory.suspect,
                recovery_point: offset(&persisted.recovery_points).unwrap_or(Offset::ZERO),
                log_start: offset(&persisted.log_starts).unwrap_or(Offset::ZERO),
                high_watermark: offset(&persisted.high_watermarks).unwrap_or(Offset::ZERO),
                settings: self.settings.clone(),
                now: self.shared.host.clock.wall(),
                random: self.shared.host.random.clone(),
                progress: self.progress.clone(),
            }
        };
        let failed = |error| Failure {
            id: Some(id),
            ..Failure::from(error)
        };
        let recovered = recover::open(disk, &path, &known).map_err(failed)?;
        if recovered.scanned > 0 && !self.directory.can_sync_all {
            sync_files(disk, &path).map_err(failed)?;
        }
        Ok(Opened::Log(id, Box::new(recovered)))
    }

    /// Which partition a directory holds; nothing if it held no batch, and is gone now.
    fn identify(&self, path: &Path, named: &Named) -> Result<Option<PartitionId>, Failure> {
        let disk = self.shared.host.disk.as_ref();
        let identity = path.join(PARTITION_METADATA);
        let text = checkpoint::read_identity(disk, &identity)?;
        let index = named.index;
        let why = match text.as_deref().map(checkpoint::decode_partition_metadata) {
            Some(Ok(topic)) => return Ok(Some(PartitionId { topic, index })),
            Some(Err(why)) => why,
            None => "it is missing".to_owned(),
        };
        if is_hollow(disk, path)? {
            disk.remove_directory(path).doing("removing", path)?;
            return Ok(None);
        }
        let flaw = Some(self.flaw(text.as_deref(), &named.key()));
        let (id, error) = (None, StorageError::corrupt(&identity, why));
        Err(Failure { id, flaw, error })
    }

    /// What an identity that makes no sense tells. A power cut leaves all of a small file that was
    /// not synced, or none of its bytes.
    fn flaw(&self, identity: Option<&str>, key: &(TopicName, i32)) -> Flaw {
        let persisted = lock(&self.directory.persisted);
        let is_noted =
            |offsets: &checkpoint::Offsets| offsets.get(key).is_some_and(|at| *at > Offset::ZERO);
        let lost = identity.is_none_or(|text| text.bytes().all(|byte| byte == 0));
        if !lost || self.clean || is_noted(&persisted.recovery_points) {
            return Flaw::Damaged;
        }
        match is_noted(&persisted.high_watermarks) {
            true => Flaw::Nameless,
            false => Flaw::Unborn,
        }
    }
}

/// Gives a partition's directory a name under which it is kept and nobody uses it.
pub(super) fn set_aside(
    shared: &Shared,
    directory: &Directory,
    path: &Path,
    (topic, index): &(TopicName, i32),
) -> Result<(), StorageError> {
    let unique = shared.host.random.uuid();
    let aside = names::retired(topic, *index, unique, STRAY_DIRECTORY);
    let aside = directory.path.join(aside);
    shared
        .host
        .disk
        .rename(path, &aside)
        .doing("renaming", path)?;
    tracing::warn!(path = %aside.display(), "a partition could not be opened; keeping it aside");
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
        let opened = disk.open(&file, OpenMode::ReadWrite);
        opened
            .and_then(|file| file.sync_data())
            .doing("syncing", &file)?;
    }
    disk.open_directory(path)
        .and_then(|d| d.sync())
        .doing("syncing", path)
}
