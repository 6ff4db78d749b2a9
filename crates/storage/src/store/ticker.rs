//! What a store does by the clock: checkpoints, retention, another try on full disks, forgotten
//! producers, files whose time has come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millrace_model::Timestamp;
use tokio::time::Instant;

use super::checkpoints::{self, Which};
use super::{Inner, Open};
use crate::directory::Directory;
use crate::error::StorageError;
use crate::lock;
use crate::log::Log;
use crate::names::LOCK;
use crate::space;
use crate::trash;
use crate::writer::Job;

/// How often it looks while a disk is full: that there is room again is noticed within this.
const TICK: Duration = Duration::from_millis(200);

/// How often it looks if nothing is due, for the sake of the clock that must be read.
const IDLE_TICK: Duration = Duration::from_secs(2);

/// A log start that moves becomes durable this much later, together with others.
const GATHER_STARTS: Duration = Duration::from_millis(5);

/// When what is due next.
struct Due {
    recovery_points: Instant,
    high_watermarks: Instant,
    retention: Instant,
}

impl Due {
    fn first(&self) -> Instant {
        let checkpoint = self.recovery_points.min(self.high_watermarks);
        checkpoint.min(self.retention)
    }
}

/// What is to be done now.
#[derive(Clone, Copy)]
struct Work {
    which: Which,
    retention: bool,
    now: Timestamp,
}

/// Runs until the store is closed or dropped.
pub(super) async fn run(store: Weak<Inner>) {
    let Some(inner) = store.upgrade() else { return };
    let (shared, options) = (inner.shared.clone(), inner.options.clone());
    drop(inner);
    let start = shared.host.clock.now();
    let mut due = Due {
        recovery_points: start + options.recovery_checkpoint_interval,
        high_watermarks: start + options.high_watermark_checkpoint_interval,
        retention: start + options.initial_task_delay,
    };
    let mut next = start;
    loop {
        tokio::select! {
            biased;
            () = shared.attention.notified() => tokio::time::sleep(GATHER_STARTS).await,
            () = tokio::time::sleep_until(next) => {}
        }
        let Some(inner) = store.upgrade() else { return };
        if inner.closed.load(Ordering::SeqCst) {
            return;
        }
        let now = shared.host.clock.now();
        let options = &inner.options;
        let points = is_due(
            &mut due.recovery_points,
            options.recovery_checkpoint_interval,
            now,
        );
        let marks = &mut due.high_watermarks;
        let work = Work {
            which: Which {
                recovery_points: points,
                log_starts: points,
                high_watermarks: is_due(marks, options.high_watermark_checkpoint_interval, now),
            },
            retention: is_due(&mut due.retention, options.retention_check_interval, now),
            // Read at every tick, so that a jump of the clock is seen as one.
            now: shared.trusted_now(),
        };
        for open in inner.working() {
            open.directory.look_at_syncs(&shared);
        }
        tick(&inner, work, now).await;
        next = due.first().min(now + IDLE_TICK);
        for open in inner.working() {
            next = match open.directory.is_full() {
                true => next.min(now + TICK),
                false => next.min(lock(&open.directory.trash).next_due().unwrap_or(next)),
            };
        }
    }
}

fn is_due(due: &mut Instant, interval: Duration, now: Instant) -> bool {
    let is_due = *due <= now;
    if is_due {
        *due = now + interval;
    }
    is_due
}

async fn tick(inner: &Arc<Inner>, work: Work, now: Instant) {
    let tasks = &inner.shared.host.tasks;
    for open in inner.working() {
        let (worker, looked_at) = (inner.clone(), open.clone());
        tasks
            .blocking(move || worker.look_after(&looked_at, now))
            .await;
        if open.directory.is_offline() {
            continue;
        }
        let doomed = match open.directory.is_full() {
            true => lock(&open.directory.trash).take_all(),
            false => lock(&open.directory.trash).take_due(now),
        };
        if !doomed.is_empty() {
            let (shared, directory) = (inner.shared.clone(), open.directory.clone());
            let removal = move || {
                if let Err(error) = trash::remove(shared.host.disk.as_ref(), &doomed) {
                    directory.fail(&shared, error.to_string());
                }
            };
            tasks.blocking(removal).await;
        }
        if open.directory.is_full() {
            open.writer.submit(Job::Retry);
        }
        if inner.shared.tail_bytes.load(Ordering::Relaxed) > 0 {
            open.writer.submit(Job::Age);
        }
    }
    if work.retention {
        let worker = inner.clone();
        tasks
            .blocking(move || worker.retain(work.now, |_| true))
            .await;
    }
    let any = |flag: fn(&Directory) -> &AtomicBool| {
        let mut directories = inner.directories.iter();
        directories.any(|open| flag(&open.directory).load(Ordering::Relaxed))
    };
    let starts = any(|directory| &directory.starts_moved);
    let marks = work.which.high_watermarks && any(|directory| &directory.high_watermarks_moved);
    if work.which.recovery_points || marks || starts {
        let worker = inner.clone();
        tasks.blocking(move || worker.checkpoint(work)).await;
    }
}

impl Inner {
    /// Sees whether a directory is still there, and how much room it has.
    fn look_after(&self, open: &Open, now: Instant) {
        let directory = &open.directory;
        if !self.shared.host.disk.exists(&directory.path.join(LOCK)) {
            let why = format!("{} is not there any more", directory.path.display());
            return directory.fail(&self.shared, why);
        }
        space::look(&self.shared, directory);
        self.open_waiting(open, now);
        directory.tell_room(&self.shared);
    }

    /// Deletes what is too old or too much of the logs for which `which` holds.
    pub(crate) fn retain(&self, now: Timestamp, which: impl Fn(&Log) -> bool) {
        for open in self.working() {
            let mut moved = Vec::new();
            for log in self.logs_of(&open.directory) {
                if !which(&log) {
                    continue;
                }
                if self.closed.load(Ordering::SeqCst) {
                    return;
                }
                if self.retain_one(open, &log, now) {
                    moved.push(log.id());
                }
            }
            if !moved.is_empty() {
                self.shared.events.start_moved(&moved);
            }
        }
    }

    fn retain_one(&self, open: &Open, log: &Log, now: Timestamp) -> bool {
        match log.retain(now) {
            Ok(moved) => moved,
            // A log that was deleted or cut meanwhile takes its files along.
            Err(StorageError::Corrupt { .. } | StorageError::Deleted) => false,
            Err(error) if error.is_missing_file() => false,
            Err(error) => {
                open.directory.fail(&self.shared, error.to_string());
                false
            }
        }
    }

    fn checkpoint(&self, work: Work) {
        for open in &self.directories {
            let logs = self.logs_of(&open.directory);
            let moved = open.directory.starts_moved.swap(false, Ordering::Relaxed);
            let directory = &open.directory;
            let marks = work.which.high_watermarks
                && directory
                    .high_watermarks_moved
                    .swap(false, Ordering::Relaxed);
            let which = Which {
                high_watermarks: marks,
                log_starts: work.which.log_starts || moved,
                ..work.which
            };
            if which.recovery_points {
                let expiration = &self.shared.producer_expiration_ms;
                let expiration = Duration::from_millis(expiration.load(Ordering::Relaxed));
                for log in &logs {
                    log.state().producers.expire(work.now, expiration);
                }
            }
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            match checkpoints::write(&self.shared, &open.directory, &logs, which) {
                Ok(()) => {}
                Err(StorageError::NoSpace) => {
                    open.directory
                        .starts_moved
                        .fetch_or(moved, Ordering::Relaxed);
                    tracing::warn!("no space for a checkpoint; the next one tries again");
                }
                // A log that was deleted meanwhile takes its files along.
                Err(error) if error.is_missing_file() => {
                    open.directory
                        .starts_moved
                        .fetch_or(moved, Ordering::Relaxed);
                }
                Err(error) => open.directory.fail(&self.shared, error.to_string()),
            }
        }
    }
}
