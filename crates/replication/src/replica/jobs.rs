//! What waits for the disk: opening, cutting, making durable, deleting.

use std::sync::Arc;
use std::time::Duration;

use millrace_model::Durability;
use millrace_storage::{Log, StorageError};

use super::Replica;
use crate::core::Job;

/// How long a job waits before it tries again when the disk is full.
const RETRY: Duration = Duration::from_millis(500);

impl Replica {
    /// Opens the log, or makes it; at once if it was found at the start.
    pub(crate) fn open(self: &Arc<Self>) {
        if let Some(log) = self.shared.store.log(self.id)
            && !self.shared.is_deleting(self.id)
        {
            return self.opened(log);
        }
        let replica = self.clone();
        self.shared.host.tasks.spawn(async move {
            replica.shared.deleted(replica.id).await;
            let settings = replica.lock().settings.clone();
            loop {
                let made =
                    replica
                        .shared
                        .store
                        .create(replica.id, &replica.topic, settings.clone());
                match made.await {
                    Ok(log) => return replica.opened(log),
                    Err(StorageError::NoSpace) => tokio::time::sleep(RETRY).await,
                    Err(error) => return replica.job_failed(&error),
                }
            }
        });
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
