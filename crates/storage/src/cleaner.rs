//! Compaction: of each key the newest record stays (Kafka class `LogCleaner`).
//!
//! A few tasks look for the log with the largest share of what was not compacted yet, and work on
//! it in small steps between which they pause as the throttle asks. Only closed segments with
//! nothing that could still be undone are touched.

mod cleaning;
mod courtesy;
mod filter;
mod offset_map;
mod output;
mod range;
mod throttle;
mod transactions;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use millrace_model::{Offset, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::StorageError;
use crate::lock;
use crate::log::Log;
use crate::settings::CleanerOptions;
use crate::store::{Inner, checkpoints};
use crate::writer::{Job, Replacement};
use cleaning::{Cleaning, Step, Stopped};
use courtesy::Courtesy;
use offset_map::OffsetMap;
use range::Range;
use throttle::Throttle;

pub(crate) use output::{CLEANED_KINDS, cleaned_path, remove_cleaned};

/// What the tasks share.
#[derive(Default)]
pub(crate) struct Cleaners {
    options: Mutex<Arc<CleanerOptions>>,
    changed: Notify,
    throttle: Throttle,
    /// Logs at work, by number.
    at_work: Mutex<BTreeSet<u64>>,
    /// Logs that could not be compacted, by number; until the store is opened anew.
    uncleanable: Mutex<BTreeSet<u64>>,
    running: Mutex<usize>,
}

impl Cleaners {
    pub(crate) fn new(options: CleanerOptions) -> Arc<Cleaners> {
        Arc::new(Cleaners {
            options: Mutex::new(Arc::new(options)),
            ..Cleaners::default()
        })
    }

    fn options(&self) -> Arc<CleanerOptions> {
        lock(&self.options).clone()
    }

    /// Puts other options in force.
    pub(crate) fn set(&self, options: CleanerOptions) {
        *lock(&self.options) = Arc::new(options);
        self.changed.notify_waiters();
    }
}

/// Starts as many tasks as the options ask for, if they are not there.
pub(crate) fn start(inner: &Arc<Inner>) {
    let cleaners = &inner.cleaners;
    let options = cleaners.options();
    let mut running = lock(&cleaners.running);
    while options.enabled && *running < options.threads {
        let tasks = &inner.shared.host.tasks;
        tasks.spawn(run(Arc::downgrade(inner), *running));
        *running += 1;
    }
}

async fn run(store: Weak<Inner>, place: usize) {
    loop {
        let Some(inner) = store.upgrade() else { return };
        let options = inner.cleaners.options();
        if inner.closed.load(Ordering::SeqCst) {
            return;
        }
        if place >= options.threads {
            // The last one ends first, so that places stay without gaps.
            let mut running = lock(&inner.cleaners.running);
            if *running == place + 1 {
                *running -= 1;
                return;
            }
        }
        let worked = place < options.threads && clean_dirtiest(&inner, &options).await;
        retain_compacted(&inner).await;
        if worked {
            continue;
        }
        let cleaners = inner.cleaners.clone();
        drop(inner);
        tokio::select! {
            biased;
            () = cleaners.changed.notified() => {}
            () = tokio::time::sleep(options.backoff.max(std::time::Duration::from_millis(1))) => {}
        }
    }
}

/// Compacts the log that needs it most; false if none does.
async fn clean_dirtiest(inner: &Arc<Inner>, options: &Arc<CleanerOptions>) -> bool {
    let (worker, tasks) = (inner.clone(), inner.shared.host.tasks.clone());
    let now = inner.shared.trusted_now();
    let Some((log, range)) = tasks.blocking(move || worker.grab_dirtiest(now)).await else {
        return false;
    };
    let cleaned = clean(inner, options, &log, range, now).await;
    lock(&inner.cleaners.at_work).remove(&log.number);
    match cleaned {
        Ok(end) if end > range.first_dirty => true,
        Ok(_) => {
            let why = "more keys in one batch than memory is granted for";
            inner.give_up(&log, why);
            false
        }
        Err(Stopped::Changed | Stopped::Failed(StorageError::Busy)) => false,
        Err(Stopped::Failed(StorageError::NoSpace)) => {
            tracing::warn!(partition = %log.id(), "no space to compact; the next round tries again");
            false
        }
        Err(Stopped::Failed(error)) => {
            if matches!(error, StorageError::Io { .. }) {
                log.directory().fail(&inner.shared, error.to_string());
            }
            if log.damaged_from().is_some() {
                // It goes on when the log has been mended.
                return false;
            }
            inner.give_up(&log, &error.to_string());
            false
        }
    }
}

async fn clean(
    inner: &Arc<Inner>,
    options: &Arc<CleanerOptions>,
    log: &Arc<Log>,
    range: Range,
    now: Timestamp,
) -> Result<Offset, Stopped> {
    let shared = &inner.shared;
    let threads = options.threads.max(1) as u64;
    let memory = options.dedupe_buffer_bytes / threads;
    let keys = range.upper.get().saturating_sub(range.first_dirty.get());
    let secret = (shared.host.random.u64(), shared.host.random.u64());
    let map = OffsetMap::new(memory, options.load_factor, keys.unsigned_abs(), secret);
    let bite = (options.io_buffer_bytes as u64 / threads).max(1);
    let mut cleaning = Cleaning::begin(log.clone(), range, map, now);
    let mut courtesy = Courtesy::default();
    let end = loop {
        if inner.closed.load(Ordering::SeqCst) {
            cleaning.abandon();
            return Err(Stopped::Changed);
        }
        let bite = courtesy.bite(bite, shared.host.clock.now());
        let stepped = move || {
            let step = cleaning.step(bite);
            (cleaning, step)
        };
        let began = shared.host.clock.now();
        let (back, step) = shared.host.tasks.blocking(stepped).await;
        cleaning = back;
        // What was left to others already need not be made up for.
        let began = began + cleaning.take_stood_back();
        give_way(inner, &mut courtesy, began).await;
        match step {
            Ok(Step::Moved(bytes)) => {
                inner
                    .cleaners
                    .throttle
                    .pause(bytes, options, shared.host.clock.now())
                    .await;
            }
            Ok(Step::Replace(segment, replaced)) => {
                let (reply, done) = oneshot::channel();
                log.submit(Job::Replace {
                    wanted: Box::new(Replacement {
                        log: log.clone(),
                        segment: *segment,
                        replaced,
                        generation: cleaning.generation(),
                    }),
                    reply,
                });
                let gone = || Err(StorageError::Offline(log.directory().reason()));
                cleaning.replaced(done.await.unwrap_or_else(|_| gone())?);
            }
            Ok(Step::Done(end)) => break end,
            Err(stopped) => {
                cleaning.abandon();
                return Err(stopped);
            }
        }
    };
    let stats = cleaning.stats;
    tracing::info!(
        partition = %log.id(), topic = %log.topic(), from = %range.first_dirty, to = %end,
        keys = stats.keys, read_bytes = stats.read_bytes, left_bytes = stats.left_bytes,
        "compacted a log"
    );
    note_cleaned(inner, log, end).await?;
    Ok(end)
}

async fn give_way(inner: &Inner, courtesy: &mut Courtesy, began: Instant) {
    let (shared, now) = (&inner.shared, inner.shared.host.clock.now());
    let writes = shared.writes.load(Ordering::Relaxed);
    let took = now.saturating_duration_since(began);
    if let Some(pause) = courtesy.pause(took, writes, now) {
        tokio::time::sleep(pause).await;
    }
}

async fn note_cleaned(inner: &Arc<Inner>, log: &Arc<Log>, end: Offset) -> Result<(), Stopped> {
    let (shared, noted) = (inner.shared.clone(), log.clone());
    let tasks = &inner.shared.host.tasks;
    let written = tasks.blocking(move || checkpoints::note_cleaned(&shared, &noted, end));
    Ok(written.await?)
}

/// Deletes old segments of compacted logs, at once when they have been compacted.
async fn retain_compacted(inner: &Arc<Inner>) {
    let (worker, now) = (inner.clone(), inner.shared.trusted_now());
    let tasks = &inner.shared.host.tasks;
    tasks
        .blocking(move || worker.retain(now, |log| log.settings().compact))
        .await;
}

impl Inner {
    /// The log that needs compaction most, taken in work.
    fn grab_dirtiest(&self, now: Timestamp) -> Option<(Arc<Log>, Range)> {
        let mut dirtiest: Option<(Arc<Log>, Range)> = None;
        for log in self.all_logs() {
            let settings = log.settings();
            let numbers = &self.cleaners;
            if !settings.compact
                || log.damaged_from().is_some()
                || lock(&numbers.at_work).contains(&log.number)
                || lock(&numbers.uncleanable).contains(&log.number)
            {
                continue;
            }
            let cleaned = checkpoints::cleaned_to(&log);
            match range::of(&log, cleaned, now) {
                Ok(Some(range)) if range.is_due(settings.min_cleanable_ppm) => {
                    let is_dirtier = |(_, best): &(_, Range)| range.ratio > best.ratio;
                    if dirtiest.as_ref().is_none_or(is_dirtier) {
                        dirtiest = Some((log, range));
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_missing_file() => {}
                Err(error @ StorageError::Io { .. }) => {
                    log.directory().fail(&self.shared, error.to_string());
                }
                Err(error) => self.give_up(&log, &error.to_string()),
            }
        }
        let (log, range) = dirtiest?;
        lock(&self.cleaners.at_work)
            .insert(log.number)
            .then_some((log, range))
    }

    fn give_up(&self, log: &Log, why: &str) {
        tracing::error!(partition = %log.id(), topic = %log.topic(), why, "a log cannot be compacted");
        lock(&self.cleaners.uncleanable).insert(log.number);
    }
}
