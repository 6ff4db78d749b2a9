//! What waits for the disk: opening, cutting, making durable, deleting.

use std::sync::Arc;
use std::time::Duration;

use millrace_model::Durability;
use millrace_storage::{Log, StorageError};

use super::Replica;
use crate::core::Job;

/// How long a job waits before it tries again when the disk is full.
const RETRY: Duration = Duration::from_millis(500);

/// How long to wait before looking again whether a directory in the way is gone.
const OCCUPIED_RETRY: Duration = Duration::from_millis(50);

impl Replica {
    /// Opens the log, or makes it; at once if it was found at the start.
    pub(crate) fn open(self: &Arc<Self>) {
        if let Some(log) = self.shared.store.log(self.id)
            && !self.shared.is_deleting(self.id)
            && log.committed_beyond().is_none()
        {
            return self.opened(log);
        }
        let replica = self.clone();
        self.shared.host.tasks.spawn(async move {
            replica.shared.deleted(replica.id).await;
            match replica.make_log().await {
                Ok(Some(log)) if replica.is_current() => {
                    replica.look_at_end(&log).await;
                    if replica.is_current() {
                        replica.opened(log);
                    }
                }
                Ok(made) => replica.not_wanted(made.is_some()),
                Err(error) => replica.job_failed(&error),
            }
        });
    }

    /// Makes the log; nothing if the partition leaves this broker before that is possible. Where a
    /// topic of the same name was deleted, its directory may still be in the way: until its
    /// renaming is through, or, if that happened while this broker was away, until the strays are
    /// set aside.
    async fn make_log(self: &Arc<Self>) -> Result<Option<Arc<Log>>, StorageError> {
        let settings = self.lock().settings.clone();
        let (mut told, mut pause) = (false, Replica::first_pause());
        while self.is_current() {
            let store = &self.shared.store;
            let made = store.create_in(self.id, &self.topic, settings.clone(), self.place);
            match made.await {
                Ok(log) => return Ok(Some(log)),
                Err(StorageError::NoSpace) => tokio::time::sleep(RETRY).await,
                Err(error @ StorageError::Occupied { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(partition = %self.id, %error, "waiting to make a log");
                    }
                    match store.unusable(&self.topic, self.id.index) {
                        Some(flaw) => self.look_at_unusable(flaw, &mut pause).await?,
                        None => tokio::time::sleep(OCCUPIED_RETRY).await,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether the image still wants this replica here.
    pub(super) fn is_current(self: &Arc<Self>) -> bool {
        let known = self.shared.replica(self.id);
        known.is_some_and(|known| Arc::ptr_eq(&known, self))
    }

    /// The partition left this broker while its log was being made, so nobody else removes that.
    fn not_wanted(&self, made: bool) {
        let stopping = self.shared.stopping.is_cancelled();
        if made && !stopping && self.shared.replica(self.id).is_none() {
            self.shared.delete(self.id);
        }
    }

    fn opened(self: &Arc<Self>, log: Arc<Log>) {
        let checkpoint = log.high_watermark_checkpoint();
        let settings = self.lock().settings.clone();
        if *log.settings() != settings {
            log.reconfigure(settings);
        }
        let (offline, directory) = (log.is_offline(), log.directory_id());
        if self.log.set(log).is_err() {
            return;
        }
        self.act(|inner, _, now, fx| {
            let log = super::LogRef {
                log: self.log.get(),
                synced: false,
            };
            inner.core.opened(&log, checkpoint, now, fx);
            if offline {
                inner.core.fail(fx);
            }
        });
        self.shared.link.opened(self.id, directory);
        self.make_synced();
        self.damaged();
    }

    pub(super) fn start_job(self: &Arc<Self>, job: Job) {
        let Some(log) = self.log.get().cloned() else {
            return;
        };
        let replica = self.clone();
        self.shared.host.tasks.spawn(async move {
            loop {
                let done = match job {
                    Job::Open => return,
                    Job::MakeDurable(_) => log.make_durable().await,
                    Job::Cut(to) => log.truncate_to(to).await,
                    Job::Restart(at) => log.restart_at(at).await,
                };
                match done {
                    Ok(()) => break,
                    Err(StorageError::NoSpace | StorageError::Busy) => {
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(StorageError::Deleted) => return,
                    Err(error) => return replica.job_failed(&error),
                }
            }
            match job {
                Job::Cut(to) => {
                    tracing::info!(partition = %replica.id, %to, "cut the log to follow the leader");
                }
                Job::Restart(at) => {
                    tracing::info!(partition = %replica.id, %at, "began the log anew");
                }
                Job::Open | Job::MakeDurable(_) => {
                    replica.lock().synced |= log.durability() == Durability::Fsync;
                }
            }
            replica.act(|inner, log, now, fx| inner.core.job_done(job, log, now, fx));
        });
    }

    fn job_failed(self: &Arc<Self>, error: &StorageError) {
        tracing::error!(partition = %self.id, %error, "the replica goes offline");
        self.fail();
    }

    /// The log cannot be used any more.
    pub(crate) fn fail(self: &Arc<Self>) {
        self.act(|inner, _, _, fx| inner.core.fail(fx));
    }

    /// The partition leaves this broker.
    pub(crate) fn stop(self: &Arc<Self>, delete: bool) {
        self.act(|inner, _, _, fx| inner.core.stop(fx));
        if delete {
            self.shared.delete(self.id);
        }
    }

    /// Joins again after a pause that grows with every failure.
    pub(super) fn retry_join_later(self: &Arc<Self>, failures: u32) {
        let pause = Duration::from_millis(10) * (1 << failures.saturating_sub(1).min(5));
        let replica = Arc::downgrade(self);
        self.shared.host.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            if let Some(replica) = replica.upgrade() {
                replica.act(|inner, log, _, fx| inner.core.retry_join(log, fx));
            }
        });
    }
}
