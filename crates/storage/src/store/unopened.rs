//! Logs for which there was no room when they were to be opened: recovering a log after a crash
//! writes its indexes anew. They are opened as soon as there is room, or leave their directory
//! closed as they are when nobody wants them any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_model::PartitionId;
use tokio::time::Instant;

use super::open::Named;
use super::progress::Progress;
use super::recovery::{Opened, Opening};
use super::{Inner, Open, Store};
use crate::directory::{Closed, Directory};
use crate::error::{StorageError, While};
use crate::lock;
use crate::log::Log;
use crate::names;

/// Two attempts are at least so far apart: each may read a log from its recovery point on.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// When there is no more room than at the last attempt, the next one waits for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The logs of one directory that wait for room, and when that was tried last.
#[derive(Default)]
pub(crate) struct Unopened {
    logs: Vec<Waiting>,
    tried: Option<(Instant, u64)>,
}

/// A log that waits for room.
pub(super) struct Waiting {
    pub(super) id: Option<PartitionId>,
    pub(super) named: Named,
    /// Its directory was closed in order.
    pub(super) clean: bool,
}

impl Unopened {
    pub(super) fn new(logs: Vec<Waiting>) -> Unopened {
        Unopened { logs, tried: None }
    }

    fn may_try(&self, now: Instant, free_bytes: u64) -> bool {
        let Some((at, free_then)) = self.tried else {
            return true;
        };
        let pause = match free_bytes > free_then {
            true => LEAST_PAUSE,
            false => LONGEST_PAUSE,
        };
        now >= at + pause
    }
}

impl Directory {
    /// A log that waited is open now, or gone.
    fn waits_no_more(&self, named: &Named, unopened: &Unopened) {
        lock(&self.kept).remove(&named.key());
        let awaits = !unopened.logs.is_empty();
        self.awaits_room.store(awaits, Ordering::Relaxed);
        self.note_high_watermarks();
    }
}

impl Inner {
    /// Opens what there was no room for, if that may help now.
    pub(super) fn open_waiting(&self, open: &Open, now: Instant) {
        let directory = &open.directory;
        if !directory.awaits_room.load(Ordering::Relaxed) {
            return;
        }
        let mut unopened = lock(&directory.unopened);
        let free_bytes = directory.free_bytes.load(Ordering::Relaxed);
        if !unopened.may_try(now, free_bytes) {
            return;
        }
        while let Some(waiting) = unopened.logs.pop() {
            let path = directory.path.join(&waiting.named.name);
            match self.open_now(open, &waiting) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "there was room to open a partition");
                    directory.waits_no_more(&waiting.named, &unopened);
                }
                Err(StorageError::NoSpace) => {
                    unopened.logs.push(waiting);
                    unopened.tried = Some((now, free_bytes));
                    return;
                }
                Err(error) if error.is_of_disk() => {
                    return directory.fail(&self.shared, error.to_string());
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "cannot open a partition");
                    directory.waits_no_more(&waiting.named, &unopened);
                    lock(&directory.kept).insert(waiting.named.key(), Closed::Damaged);
                }
            }
        }
    }

    fn open_now(&self, open: &Open, waiting: &Waiting) -> Result<(), StorageError> {
        let directory = &open.directory;
        let settings = Arc::new(self.options.default_settings.clone());
        let opening = Opening {
            shared: &self.shared,
            directory,
            clean: waiting.clean,
            settings: &settings,
            progress: &Progress::new(&self.shared.host, &directory.path, 1),
        };
        let opened = opening.open(&waiting.named);
        let Opened::Log(id, recovered) = opened.map_err(|failure| failure.error)? else {
            return Ok(());
        };
        if recovered.scanned > 0 && directory.can_sync_all {
            let synced = directory.root.sync_filesystem();
            synced.doing("syncing", &directory.path)?;
        }
        let log = Log::new(
            id,
            waiting.named.topic.clone(),
            directory.clone(),
            self.shared.clone(),
            open.writer.clone(),
            recovered.state,
        );
        let mut logs = self
            .logs
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(other) = logs.get(&id) {
            let why = format!("the partition is in {} already", other.path().display());
            return Err(StorageError::corrupt(&log.path(), why));
        }
        logs.insert(id, log);
        Ok(())
    }
}

impl Store {
    /// The partitions whose logs are here and wait for room to be opened.
    pub fn unopened(&self) -> Vec<PartitionId> {
        let mut ids = Vec::new();
        for open in self.0.working() {
            let unopened = lock(&open.directory.unopened);
            ids.extend(unopened.logs.iter().filter_map(|waiting| waiting.id));
        }
        ids
    }

    /// Gives the directory of a log that waits another name, which needs no room.
    pub(super) async fn retire_unopened(
        &self,
        id: PartitionId,
        suffix: &'static str,
    ) -> Result<Option<PathBuf>, StorageError> {
        let awaits = |open: &Open| open.directory.awaits_room.load(Ordering::Relaxed);
        if !self.0.directories.iter().any(awaits) {
            return Ok(None);
        }
        let inner = self.0.clone();
        let tasks = &self.0.shared.host.tasks;
        tasks
            .blocking(move || inner.retire_waiting(id, suffix))
            .await
    }
}

impl Inner {
    fn retire_waiting(
        &self,
        id: PartitionId,
        suffix: &str,
    ) -> Result<Option<PathBuf>, StorageError> {
        for open in self.working() {
            let directory = &open.directory;
            let mut unopened = lock(&directory.unopened);
            let found = unopened.logs.iter().position(|log| log.id == Some(id));
            let Some(place) = found else { continue };
            let named = &unopened.logs[place].named;
            let (random, disk) = (&self.shared.host.random, &self.shared.host.disk);
            let from = directory.path.join(&named.name);
            let to = names::retired(&named.topic, id.index, random.uuid(), suffix);
            let to = directory.path.join(to);
            disk.rename(&from, &to).doing("renaming", &from)?;
            let waiting = unopened.logs.remove(place);
            directory.waits_no_more(&waiting.named, &unopened);
            return Ok(Some(to));
        }
        Ok(None)
    }
}
