//! Moving a log to another directory of the same broker while it is used (KIP-113).
//!
//! Its files are copied piece by piece into a directory whose name ends in `-future`; what is added
//! meanwhile follows, and the little that is missing in the end is copied by the log's writer, while
//! nothing is appended. Replicas do not notice: it is the same [`Log`] before and after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_host::{Disk, Worker};
use millrace_model::{DirectoryId, PartitionId};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::{Inner, Store};
use crate::directory::Directory;
use crate::error::{StorageError, While};
use crate::lock;
use crate::log::{Log, Mode};
use crate::names::{self, FUTURE_DIRECTORY, FileKind};
use crate::writer::{Job, Relocation};

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// So little may be missing when appends are stopped for the rest.
const LAST_BYTES: u64 = 4 << 20;

/// How long to wait after an attempt that found no space, or a log that was being changed.
const RETRY: Duration = Duration::from_millis(500);

/// Lengths of the files that are copied, by their names.
pub(crate) type Copied = BTreeMap<String, u64>;

/// A rate that changes is minded after this long at the latest.
const PACE: Duration = Duration::from_millis(100);

/// The moves under way.
pub(crate) struct Moves {
    known: Mutex<BTreeMap<PartitionId, Arc<Move>>>,
    /// One permit for each that may copy at a time; the others wait for their turn.
    turns: Semaphore,
    /// Bytes a second that all of them together may copy; 0 is no limit.
    rate: AtomicU64,
    debt: Mutex<Debt>,
}

/// What was copied ahead of what the rate allows.
struct Debt {
    bytes: f64,
    at: Instant,
}

/// One log on its way.
struct Move {
    to: Arc<Directory>,
    writer: Worker<Job>,
    future: PathBuf,
    /// Bytes of batches that are there.
    copied: AtomicU64,
    cancelled: AtomicBool,
}

/// A log on its way to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutureLog {
    /// Which partition.
    pub id: PartitionId,
    /// Where it goes.
    pub directory: DirectoryId,
    /// Bytes that are there.
    pub size_bytes: u64,
    /// Bytes that are missing.
    pub missing_bytes: u64,
}

/// Why a move does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// No log directory has this path (LOG_DIR_NOT_FOUND).
    #[error("there is no such log directory")]
    NoDirectory,
    /// The directory, or that of the log, has failed (KAFKA_STORAGE_ERROR).
    #[error("the log directory is offline")]
    Offline,
    /// The log is not here (REPLICA_NOT_AVAILABLE).
    #[error("there is no such log")]
    NoLog,
}

impl Moves {
    /// None under way; so many may copy at a time, and one at least.
    pub(crate) fn new(at_a_time: usize, now: Instant) -> Moves {
        Moves {
            known: Mutex::default(),
            turns: Semaphore::new(at_a_time.clamp(1, Semaphore::MAX_PERMITS)),
            rate: AtomicU64::new(0),
            debt: Mutex::new(Debt {
                bytes: 0.0,
                at: now,
            }),
        }
    }

    fn ended(&self, id: PartitionId, moving: &Arc<Move>) {
        let mut moves = lock(&self.known);
        if moves
            .get(&id)
            .is_some_and(|known| Arc::ptr_eq(known, moving))
        {
            moves.remove(&id);
        }
    }

    /// Ends the move of a log, if there is one.
    pub(crate) fn cancel(&self, id: PartitionId) {
        if let Some(moving) = lock(&self.known).remove(&id) {
            moving.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// Bytes a second that all moves together may take; none is no limit.
    pub fn set_move_rate(&self, bytes_per_second: Option<u64>) {
        let rate = bytes_per_second.unwrap_or(0);
        self.0.moves.rate.store(rate, Ordering::Relaxed);
    }

    /// Begins to move a log to the directory of this path, in the background. A move to another
    /// directory that is under way ends; nothing happens where the log is there already.
    ///
    /// # Errors
    /// See [`MoveRefusal`].
    pub fn move_log(&self, id: PartitionId, path: &Path) -> Result<(), MoveRefusal> {
        self.check_directory(path)?;
        let mut directories = self.0.working();
        let to = directories.find(|open| open.directory.path == path);
        let to = to.ok_or(MoveRefusal::Offline)?;
        let log = self.log(id).ok_or(MoveRefusal::NoLog)?;
        if log.is_offline() {
            return Err(MoveRefusal::Offline);
        }
        let mut moves = lock(&self.0.moves.known);
        if moves
            .get(&id)
            .is_some_and(|known| Arc::ptr_eq(&known.to, &to.directory))
        {
            return Ok(());
        }
        if let Some(other) = moves.remove(&id) {
            other.cancelled.store(true, Ordering::Relaxed);
        }
        if Arc::ptr_eq(&log.directory(), &to.directory) {
            return Ok(());
        }
        let unique = self.0.shared.host.random.uuid();
        let name = names::retired(log.topic(), id.index, unique, FUTURE_DIRECTORY);
        let moving = Arc::new(Move {
            to: to.directory.clone(),
            writer: to.writer.clone(),
            future: to.directory.path.join(name),
            copied: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        });
        moves.insert(id, moving.clone());
        drop(moves);
        self.0
            .shared
            .host
            .tasks
            .spawn(run(self.0.clone(), log, moving));
        Ok(())
    }

    /// Whether a directory of this path is one of the broker's, and works.
    ///
    /// # Errors
    /// See [`MoveRefusal`].
    pub fn check_directory(&self, path: &Path) -> Result<(), MoveRefusal> {
        let states = self.directories();
        match states.iter().find(|state| state.path == path) {
            None => Err(MoveRefusal::NoDirectory),
            Some(state) if state.offline.is_some() => Err(MoveRefusal::Offline),
            Some(_) => Ok(()),
        }
    }

    /// The logs that are on their way to another directory.
    pub fn futures(&self) -> Vec<FutureLog> {
        let moves = lock(&self.0.moves.known);
        let future = |(id, moving): (&PartitionId, &Arc<Move>)| {
            let size_bytes = moving.copied.load(Ordering::Relaxed);
            let all = self.log(*id).map_or(size_bytes, |log| log.size_bytes());
            FutureLog {
                id: *id,
                directory: moving.to.id,
                size_bytes,
                missing_bytes: all.saturating_sub(size_bytes),
            }
        };
        moves.iter().map(future).collect()
    }
}

async fn run(inner: Arc<Inner>, log: Arc<Log>, moving: Arc<Move>) {
    let (id, to) = (log.id(), moving.to.path.display().to_string());
    tracing::info!(partition = %id, to, "moving a log to another directory");
    let turn = inner.moves.turns.acquire().await;
    let outcome = loop {
        match attempt(&inner, &log, &moving).await {
            Err(StorageError::Busy | StorageError::NoSpace) if goes_on(&inner, &moving) => {
                tokio::time::sleep(RETRY).await;
            }
            outcome => break outcome,
        }
    };
    drop(turn);
    inner.moves.ended(id, &moving);
    match outcome {
        Ok(()) => {
            tracing::info!(partition = %id, to, "a log has moved to another directory");
            inner.shared.events.relocated(id, moving.to.id);
        }
        Err(error) => {
            tracing::warn!(partition = %id, to, %error, "a log stays where it is");
            let (disk, future) = (inner.shared.host.disk.clone(), moving.future.clone());
            let removing = move || _ = disk.remove_directory(&future);
            inner.shared.host.tasks.blocking(removing).await;
        }
    }
}

fn goes_on(inner: &Inner, moving: &Move) -> bool {
    let closed = inner.closed.load(Ordering::SeqCst);
    !closed && !moving.cancelled.load(Ordering::Relaxed) && !moving.to.is_offline()
}

/// What there is to copy of a log that is in use: files that nobody changes any more but at their
/// end, and how far they are written.
fn stable_files(log: &Log) -> (u64, Vec<(String, Option<u64>)>) {
    let state = log.state();
    let active = state.active().base;
    let mut files = Vec::new();
    for segment in &state.segments {
        let name = |kind| names::file(segment.base, kind);
        files.push((name(FileKind::Log), Some(segment.written)));
        let closing = state.pending.closing.contains(&segment.base);
        let complete = segment.index.offsets.is_empty() && segment.index.times.is_empty();
        if segment.base != active && complete && !closing {
            for kind in [FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex] {
                files.push((name(kind), None));
            }
        }
    }
    (state.generation, files)
}

async fn attempt(inner: &Arc<Inner>, log: &Arc<Log>, moving: &Move) -> Result<(), StorageError> {
    let (tasks, disk) = (&inner.shared.host.tasks, &inner.shared.host.disk);
    let (made, future) = (disk.clone(), moving.future.clone());
    let make = move || {
        let _ = made.remove_directory(&future);
        made.create_directories(&future).doing("making", &future)
    };
    tasks.blocking(make).await?;
    let mut copied = Copied::new();
    let (generation, mut files) = stable_files(log);
    let mut synced = false;
    loop {
        let mut moved = 0;
        for (name, upto) in files {
            loop {
                if !goes_on(inner, moving) {
                    return Err(StorageError::Deleted);
                }
                let from = copied.get(&name).copied().unwrap_or(0);
                let piece = Piece {
                    source: log.path().join(&name),
                    target: moving.future.join(&name),
                    from,
                    upto,
                };
                let disk = disk.clone();
                let end = tasks.blocking(move || piece.copy(disk.as_ref())).await?;
                let Some(end) = end.filter(|end| *end > from) else {
                    break;
                };
                copied.insert(name.clone(), end);
                moved += end - from;
                moving.copied.fetch_add(end - from, Ordering::Relaxed);
                pause(inner, moving, end - from).await;
            }
        }
        let (now, next) = stable_files(log);
        if now != generation {
            moving.copied.store(0, Ordering::Relaxed);
            return Err(StorageError::Busy);
        }
        if moved <= LAST_BYTES {
            if synced {
                break;
            }
            // What the log's writer has to wait for in the end is then little.
            let (disk, folder, copied) = (disk.clone(), moving.future.clone(), copied.clone());
            let sync = move || sync(disk.as_ref(), &folder, &copied);
            tasks.blocking(sync).await?;
            synced = true;
        }
        files = next;
    }
    relocate(log, moving, copied, generation).await
}

fn sync(disk: &dyn Disk, folder: &Path, copied: &Copied) -> Result<(), StorageError> {
    for name in copied.keys() {
        let path = folder.join(name);
        disk.open(&path, OpenMode::ReadWrite)
            .and_then(|file| file.sync_data())
            .doing("syncing", &path)?;
    }
    Ok(())
}

/// Keeps to `replica.alter.log.dirs.io.max.bytes.per.second`, together with all other moves.
#[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
async fn pause(inner: &Inner, moving: &Move, bytes: u64) {
    let mut more = bytes as f64;
    while goes_on(inner, moving) {
        let rate = inner.moves.rate.load(Ordering::Relaxed) as f64;
        let now = inner.shared.host.clock.now();
        let wait = {
            let mut debt = lock(&inner.moves.debt);
            let paid = now.saturating_duration_since(debt.at).as_secs_f64() * rate;
            debt.bytes = (debt.bytes - paid).max(0.0) + std::mem::take(&mut more);
            debt.at = now;
            if rate == 0.0 {
                debt.bytes = 0.0;
            }
            debt.bytes / rate.max(1.0)
        };
        if wait <= 0.0 {
            return;
        }
        tokio::time::sleep(PACE.min(Duration::from_secs_f64(wait))).await;
    }
}

async fn relocate(
    log: &Arc<Log>,
    moving: &Move,
    copied: Copied,
    generation: u64,
) -> Result<(), StorageError> {
    let done = {
        let mut state = log.state();
        log.check_changeable(&state)?;
        state.mode = Mode::Changing;
        let (reply, done) = oneshot::channel();
        let wanted = Relocation {
            log: log.clone(),
            to: moving.to.clone(),
            writer: moving.writer.clone(),
            future: moving.future.clone(),
            copied,
            generation,
        };
        log.submit(Job::Relocate {
            wanted: Box::new(wanted),
            reply,
        });
        done
    };
    let gone = || Err(StorageError::Offline(log.directory().reason()));
    done.await.unwrap_or_else(|_| gone())
}

/// A stretch of a file.
struct Piece {
    source: PathBuf,
    target: PathBuf,
    from: u64,
    /// No further than this; to the file's end if there is no number.
    upto: Option<u64>,
}

impl Piece {
    /// Copies some of it; tells how far, `None` if there is no such file.
    fn copy(&self, disk: &dyn Disk) -> Result<Option<u64>, StorageError> {
        let source = match disk
            .open(&self.source, OpenMode::Read)
            .doing("opening", &self.source)
        {
            Err(error) if error.is_missing_file() => return Ok(None),
            other => other?,
        };
        let len = source.len().doing("reading", &self.source)?;
        let left = self.upto.unwrap_or(len).min(len).saturating_sub(self.from);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
        let read = source
            .read_at(&mut bytes, self.from)
            .doing("reading", &self.source)?;
        bytes.truncate(read);
        let target = disk
            .open(&self.target, OpenMode::Create)
            .doing("opening", &self.target)?;
        target
            .write_at(&[Bytes::from(bytes)], self.from)
            .doing("writing", &self.target)?;
        Ok(Some(self.from + read as u64))
    }
}

/// Completes a copy while nothing changes the original: what is missing is copied, what is there
/// too much removed, and all of it synced.
pub(crate) fn copy_rest(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    copied: &Copied,
) -> Result<(), StorageError> {
    let there = disk.list(from).doing("listing", from)?;
    let wanted = |name: &str| {
        let passing = [".deleted", ".cleaned", ".swap", ".tmp"];
        !passing.iter().any(|suffix| name.ends_with(suffix))
    };
    let names: Vec<String> = there.into_iter().map(|entry| entry.name).collect();
    for entry in disk.list(to).doing("listing", to)? {
        if !names.contains(&entry.name) {
            let path = to.join(&entry.name);
            disk.remove_file(&path).doing("removing", &path)?;
        }
    }
    for name in names.iter().filter(|name| wanted(name)) {
        let mut piece = Piece {
            source: from.join(name),
            target: to.join(name),
            from: copied.get(name).copied().unwrap_or(0),
            upto: None,
        };
        while let Some(end) = piece.copy(disk)?.filter(|end| *end > piece.from) {
            piece.from = end;
        }
        let file = disk.open(&piece.target, OpenMode::ReadWrite);
        file.and_then(|file| file.set_len(piece.from).and_then(|()| file.sync_data()))
            .doing("syncing", &piece.target)?;
    }
    disk.open_directory(to)
        .and_then(|to| to.sync())
        .doing("syncing", to)
}
