//! What the logs of one directory, and of one store, have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use millrace_host::{DiskDirectory, Host};
use millrace_model::{DirectoryId, Timestamp, TopicName};
use tokio::sync::Notify;

use crate::checkpoint::Offsets;
use crate::error::StorageError;
use crate::handles::Handles;
use crate::lock;
use crate::log::Log;
use crate::names::SOUND;
use crate::settings::StoreEvents;
use crate::slow::Slowness;
use crate::store::Unopened;
use crate::store::scrub::Counters;
use crate::trash::Trash;
use crate::trusted_clock::TrustedClock;

/// What all logs of a store share.
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) events: Arc<dyn StoreEvents>,
    pub(crate) handles: Handles,
    /// Bytes in all tails.
    pub(crate) tail_bytes: AtomicUsize,
    pub(crate) tail_budget_bytes: usize,
    pub(crate) followed_cache_bytes: u64,
    /// `producer.id.expiration.ms`.
    pub(crate) producer_expiration_ms: AtomicU64,
    pub(crate) next_log: AtomicU64,
    pub(crate) reserve_bytes: Option<u64>,
    /// The wall clock as far as it is believed where records are deleted by it.
    pub(crate) trusted_clock: Mutex<TrustedClock>,
    /// How often appended batches were written.
    pub(crate) writes: AtomicU64,
    /// What the scrub did so far.
    pub(crate) scrubbed: Counters,
    /// Told when something is to be done before long: a log start that moved is to become durable,
    /// a full disk to be watched.
    pub(crate) attention: Notify,
}

impl Shared {
    /// The time by which records are too old.
    pub(crate) fn trusted_now(&self) -> Timestamp {
        let clock = &self.host.clock;
        lock(&self.trusted_clock).read(clock.wall(), clock.now())
    }
}

/// Why a log that is there is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// What is in its files cannot be used.
    Damaged,
    /// There was no room for what opening it writes.
    NoRoom,
}

/// One log directory in use.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) id: DirectoryId,
    pub(crate) root: Arc<dyn DiskDirectory>,
    /// Whether one sync of the file system may stand for syncs of many files.
    pub(crate) can_sync_all: bool,
    /// It may have failed in an earlier run, with bytes that are in the cache alone.
    pub(crate) suspect: bool,
    /// Held as long as the directory is used.
    pub(crate) guard: Mutex<Option<Box<dyn Send + Sync>>>,
    /// Why the directory is offline, once it is.
    pub(crate) offline: OnceLock<String>,
    /// A write found no space and waits.
    pub(crate) full: AtomicBool,
    /// Less is free than the reserve.
    pub(crate) low: AtomicBool,
    /// Whether it was told of as short of space.
    pub(crate) told_full: AtomicBool,
    /// How its syncs go.
    pub(crate) slowness: Mutex<Slowness>,
    /// What was free when it was looked at last.
    pub(crate) free_bytes: AtomicU64,
    /// Bytes that wait to be written.
    pub(crate) queued_bytes: AtomicUsize,
    /// Told when bytes have been written.
    pub(crate) room: Notify,
    /// What the checkpoint files hold; locked while they are written.
    pub(crate) persisted: Mutex<Persisted>,
    /// Logs that could not be opened: what the files say of them is kept.
    pub(crate) kept: Mutex<BTreeMap<(TopicName, i32), Closed>>,
    /// Those of them that are opened as soon as there is room.
    pub(crate) unopened: Mutex<Unopened>,
    /// There are such logs.
    pub(crate) awaits_room: AtomicBool,
    /// Logs made in this run whose identities are perhaps not synced.
    pub(crate) unborn: Mutex<Vec<Weak<Log>>>,
    /// Held while files of leader epochs are written.
    pub(crate) writing_epochs: Mutex<()>,
    /// A log start moved since the last checkpoint.
    pub(crate) starts_moved: AtomicBool,
    /// A high watermark moved since the last checkpoint, or logs came or went.
    pub(crate) high_watermarks_moved: AtomicBool,
    /// Files that were given another name and are to be removed later.
    pub(crate) trash: Mutex<Trash>,
}

/// The content of a directory's checkpoint files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persisted {
    pub(crate) recovery_points: Offsets,
    pub(crate) log_starts: Offsets,
    pub(crate) high_watermarks: Offsets,
    pub(crate) cleaned: Offsets,
}

impl Persisted {
    /// Whether any of the files says anything of this log.
    pub(crate) fn says_of(&self, name: &(TopicName, i32)) -> bool {
        let Persisted {
            recovery_points,
            log_starts,
            high_watermarks,
            cleaned,
        } = self;
        let files = [recovery_points, log_starts, high_watermarks, cleaned];
        files.iter().any(|offsets| offsets.contains_key(name))
    }
}

impl Directory {
    pub(crate) fn is_offline(&self) -> bool {
        self.offline.get().is_some()
    }

    pub(crate) fn is_full(&self) -> bool {
        let flags = [&self.full, &self.low, &self.awaits_room];
        flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Why no log can be made at this path, which exists.
    pub(crate) fn occupied(&self, path: PathBuf, name: &(TopicName, i32)) -> StorageError {
        match lock(&self.kept).get(name) {
            Some(Closed::NoRoom) => StorageError::NoSpace,
            Some(Closed::Damaged) | None => {
                let why = "it belongs to another topic or is damaged".to_owned();
                StorageError::Occupied { path, why }
            }
        }
    }

    /// Why it is offline.
    pub(crate) fn reason(&self) -> String {
        self.offline.get().cloned().unwrap_or_default()
    }

    /// A write found no space.
    pub(crate) fn note_full(&self, shared: &Shared) {
        if !self.full.swap(true, Ordering::Relaxed) {
            let directory = self.path.display();
            tracing::warn!(%directory, "no space left: appends are refused until there is");
            shared.attention.notify_one();
            self.tell_room(shared);
        }
    }

    /// Tells whoever cares when the directory has become short of space, or has room again.
    pub(crate) fn tell_room(&self, shared: &Shared) {
        let is_full = self.is_full();
        if self.told_full.swap(is_full, Ordering::Relaxed) != is_full {
            shared.events.condition_changed();
        }
    }

    /// High watermarks must be written down again.
    pub(crate) fn note_high_watermarks(&self) {
        // Others write here too: not more often than it must be.
        if !self.high_watermarks_moved.load(Ordering::Relaxed) {
            self.high_watermarks_moved.store(true, Ordering::Relaxed);
        }
    }

    /// A log was made.
    pub(crate) fn note_unborn(&self, log: &Arc<Log>) {
        let mut unborn = lock(&self.unborn);
        if unborn.len().is_power_of_two() {
            unborn.retain(|log| log.strong_count() > 0);
        }
        unborn.push(Arc::downgrade(log));
    }

    /// Takes the directory offline; only the first call is told on. May touch the disk.
    pub(crate) fn fail(&self, shared: &Shared, why: String) {
        if self.offline.set(why).is_ok() {
            // Not synced, and it need not be: it matters as long as the cache lives.
            let _ = shared.host.disk.remove_file(&self.path.join(SOUND));
            let why = self.reason();
            tracing::error!(directory = %self.path.display(), why, "log directory goes offline");
            shared.events.offline(self.id, &why);
            self.room.notify_waiters();
        }
    }

    /// Lets another process use the directory.
    pub(crate) fn unlock(&self) {
        lock(&self.guard).take();
    }
}
