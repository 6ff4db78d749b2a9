//! What a store does by the clock: checkpoints, another try on full disks, forgotten producers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Inner;
use super::checkpoints::{self, Which};
use crate::error::StorageError;
use crate::writer::Job;

/// How often it looks what is due: a full disk that has room again is noticed within this.
const TICK: Duration = Duration::from_millis(200);

/// Runs until the store is closed or dropped.
pub(super) async fn run(store: Weak<Inner>) {
    let mut since_recovery_points = Duration::ZERO;
    let mut since_high_watermarks = Duration::ZERO;
    loop {
        tokio::time::sleep(TICK).await;
        let Some(inner) = store.upgrade() else { return };
        if inner.closed.load(Ordering::SeqCst) {
            return;
        }
        since_recovery_points += TICK;
        since_high_watermarks += TICK;
        let options = &inner.options;
        let mut which = Which::default();
        if since_recovery_points >= options.recovery_checkpoint_interval {
            since_recovery_points = Duration::ZERO;
            which = Which {
                recovery_points: true,
                log_starts: true,
                ..which
            };
        }
        if since_high_watermarks >= options.high_watermark_checkpoint_interval {
            since_high_watermarks = Duration::ZERO;
            which = Which {
                high_watermarks: true,
                ..which
            };
        }
        tick(&inner, which).await;
    }
}

async fn tick(inner: &Arc<Inner>, which: Which) {
    for open in &inner.directories {
        if open.directory.is_full() {
            open.writer.submit(Job::Retry);
        }
    }
    let moved = inner
        .directories
        .iter()
        .any(|open| open.directory.starts_moved.load(Ordering::Relaxed));
    if !(which.recovery_points || which.high_watermarks || moved) {
        return;
    }
    let worker = inner.clone();
    inner
        .shared
        .host
        .tasks
        .blocking(move || worker.checkpoint(which))
        .await;
}

impl Inner {
    fn checkpoint(&self, which: Which) {
        for open in &self.directories {
            let logs = self.logs_of(&open.directory);
            let moved = checkpoints::take_starts_moved(&open.directory);
            let which = Which {
                log_starts: which.log_starts || moved,
                ..which
            };
            if which.recovery_points {
                let now = self.shared.host.clock.wall();
                for log in &logs {
                    let mut state = log.state();
                    state.producers.expire(now, self.shared.producer_expiration);
                }
            }
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            match checkpoints::write(&self.shared, &open.directory, &logs, which) {
                Ok(()) => {}
                Err(StorageError::NoSpace) => {
                    tracing::warn!("no space for a checkpoint; the next one tries again");
                }
                // A log that was deleted meanwhile takes its files along.
                Err(error) if error.is_missing_file() => {}
                Err(error) => open.directory.fail(&self.shared, error.to_string()),
            }
        }
    }
}
