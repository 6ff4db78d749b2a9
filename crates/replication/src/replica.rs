//! One replica: the core behind one short lock, its log, and who waits for it.
//!
//! A decision is taken under the lock; what follows from it is noted in a [`Todo`] and done after
//! the lock is released. Nothing awaits while holding it. The log's own lock nests inside.

mod append;
mod deleting;
mod followed;
mod jobs;
mod lanes;
mod mending;
mod read;
mod readiness;
mod todo;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use millrace_model::{DirectoryId, Durability, LeaderEpoch, Offset, PartitionId, TopicName};
use millrace_storage::{Log, LogSettings};
use tokio::time::Instant;

use crate::core::{Core, Effects, LogBounds, LogView, Moment, ReplicaState};
use crate::options::Throttled;
use crate::pull::Link;
use crate::shared::Shared;
use crate::waiting::{Bell, Queue, Waiter};
pub use append::Acks;
pub use deleting::DeleteFailure;
pub(crate) use lanes::{CatchUp, Lane, Next};
pub use read::{OffsetsView, ReadRequest, ReadResult, Upper};
pub(crate) use todo::{Reply, ToLeader, Todo, Way};

/// One replica of one partition.
pub struct Replica {
    id: PartitionId,
    topic: TopicName,
    /// Where its log is on record to be.
    place: Option<DirectoryId>,
    shared: Arc<Shared>,
    log: OnceLock<Arc<Log>>,
    inner: Mutex<Inner>,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub(crate) core: Core,
    settings: LogSettings,
    /// Whether everything durable is synced: not before a change to fsync has been made good.
    synced: bool,
    /// One for each follower that joined.
    lanes: Vec<Lane>,
    /// Whose traffic is limited while they are not in sync.
    throttled: Throttled,
    /// Waiting for the high watermark.
    commits: Queue,
    /// Waiting for the own durable end.
    durables: Queue,
    watchers: Vec<Arc<Bell>>,
    /// To the leader it follows.
    link: Option<Arc<Link>>,
    /// Joins in a row that led nowhere.
    failed_joins: u32,
    /// Looked at again and again, as long as time may change something.
    stirring: bool,
    /// Its log is damaged, and somebody sees to it.
    mending: bool,
    /// The newest leadership that it was told to take up, and when.
    told_to_lead: Option<(LeaderEpoch, Instant)>,
}

/// The log as the core sees it; nothing before it is open.
pub(crate) struct LogRef<'a> {
    pub(crate) log: Option<&'a Arc<Log>>,
    synced: bool,
}

impl LogView for LogRef<'_> {
    fn bounds(&self) -> LogBounds {
        let Some(bounds) = self.log.map(|log| log.bounds()) else {
            return LogBounds::default();
        };
        LogBounds {
            log_start: bounds.log_start,
            log_end: bounds.log_end,
            durable_end: bounds.durable_end,
        }
    }

    fn last_epoch(&self) -> LeaderEpoch {
        // An epoch that was noted when a leadership began may have no record.
        let LogBounds {
            log_start, log_end, ..
        } = self.bounds();
        match self.log {
            Some(log) if log_start < log_end => log.epoch_at(log_end.plus(-1)),
            _ => LeaderEpoch::NONE,
        }
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let none = (LeaderEpoch::NONE, Offset::ZERO);
        self.log.map_or(none, |log| log.end_offset_for(epoch))
    }

    fn synced(&self) -> bool {
        self.synced
    }

    fn durable_start(&self) -> Offset {
        self.log.map_or(Offset::ZERO, |log| log.durable_start())
    }

    fn damaged_from(&self) -> Option<Offset> {
        self.log.and_then(|log| log.damaged_from())
    }
}

impl Replica {
    pub(crate) fn new(
        id: PartitionId,
        topic: TopicName,
        settings: LogSettings,
        place: Option<DirectoryId>,
        shared: Arc<Shared>,
    ) -> Arc<Replica> {
        let core = Core::new(id, shared.node, shared.rules, shared.view());
        let inner = Inner {
            core,
            settings,
            synced: false,
            lanes: Vec::new(),
            throttled: Throttled::default(),
            commits: Queue::default(),
            durables: Queue::default(),
            watchers: Vec::new(),
            link: None,
            failed_joins: 0,
            stirring: false,
            mending: false,
            told_to_lead: None,
        };
        Arc::new(Replica {
            id,
            topic,
            place,
            shared,
            log: OnceLock::new(),
            inner: Mutex::new(inner),
        })
    }

    /// The partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The log, once it is open; a replica that leads or follows has one.
    pub fn open_log(&self) -> Option<&Arc<Log>> {
        self.log.get()
    }

    /// The log of a replica that leads or follows.
    ///
    /// # Panics
    /// If it is not open yet: ask [`Replica::offsets`] or [`Replica::state`] first.
    pub fn log(&self) -> &Arc<Log> {
        self.log.get().expect("a replica in use has its log open")
    }

    /// What it is at this moment.
    pub fn state(&self) -> ReplicaState {
        let now = self.shared.clock.now();
        self.lock().core.snapshot(now)
    }

    /// Rings the waiter whenever the high watermark, the role or the epoch changes, until the
    /// waiter is dropped.
    pub fn watch(self: &Arc<Self>, waiter: &Waiter) {
        self.lock().watchers.push(waiter.bell().clone());
        waiter.watches(self);
    }

    pub(crate) fn unwatch(&self, bell: &Arc<Bell>) {
        self.lock()
            .watchers
            .retain(|watcher| !Arc::ptr_eq(watcher, bell));
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides under the lock; what follows is added to `todo`.
    pub(crate) fn decide<T>(
        self: &Arc<Self>,
        todo: &mut Todo,
        decision: impl FnOnce(&mut Inner, &LogRef<'_>, Moment, &mut Effects) -> T,
    ) -> T {
        let now = self.shared.clock.now();
        let mut fx = Effects::default();
        let mut inner = self.lock();
        let log = LogRef {
            log: self.log.get(),
            synced: inner.synced,
        };
        let value = decision(&mut inner, &log, now, &mut fx);
        if !fx.is_empty() {
            self.note(&mut inner, fx, todo);
        }
        if !inner.stirring && inner.core.needs_time(now) {
            inner.stirring = true;
            self.shared.stirring.add(self.clone());
        }
        value
    }

    /// Time has passed. False once it may change nothing here any more.
    pub(crate) fn tick(self: &Arc<Self>, todo: &mut Todo) -> bool {
        self.decide(todo, |inner, _, now, fx| {
            inner.core.tick(now, fx);
            inner.tidy();
            inner.stirring = inner.core.needs_time(now) || !inner.nobody_waits();
            inner.stirring
        })
    }

    /// Decides under the lock and does what follows.
    pub(crate) fn act<T>(
        self: &Arc<Self>,
        decision: impl FnOnce(&mut Inner, &LogRef<'_>, Moment, &mut Effects) -> T,
    ) -> T {
        let mut todo = Todo::default();
        let value = self.decide(&mut todo, decision);
        todo.carry_out(&self.shared);
        value
    }

    /// The log has moved: more of it is durable.
    pub(crate) fn log_moved(self: &Arc<Self>, todo: &mut Todo) {
        self.decide(todo, |inner, log, now, fx| {
            inner.core.log_moved(log, now, fx)
        });
    }

    /// The start of the log has moved, or is durable now.
    pub(crate) fn start_moved(self: &Arc<Self>, todo: &mut Todo) {
        self.decide(todo, |inner, log, now, fx| {
            inner.core.log_moved(log, now, fx);
            fx.low_watermark_moved = true;
        });
    }

    /// Joins its leader's link, or leaves the one it no longer follows.
    pub(crate) fn relink(self: &Arc<Self>) {
        let link = {
            let mut inner = self.lock();
            let wanted = inner.core.following().map(|(leader, _)| leader);
            if inner.link.as_ref().map(|link| link.leader()) != wanted {
                if let Some(old) = inner.link.take() {
                    old.remove(self.id);
                }
                inner.link = wanted.map(|leader| self.shared.link_to(leader));
                if let Some(link) = &inner.link {
                    link.add(self);
                }
            }
            inner.link.clone()
        };
        if let Some(link) = link {
            link.nudge();
            if let Some(stream) = link.stream() {
                self.attach(&link, stream);
            }
        }
    }

    /// The traffic of these followers is limited from now on.
    pub(crate) fn set_throttled(&self, throttled: Throttled) {
        self.lock().throttled = throttled;
    }

    /// Other settings are in force for the log.
    pub(crate) fn reconfigure(self: &Arc<Self>, settings: &LogSettings) {
        let mut inner = self.lock();
        if inner.settings == *settings {
            return;
        }
        let was = inner.settings.durability;
        inner.settings = settings.clone();
        let Some(log) = self.log.get() else {
            return;
        };
        log.reconfigure(settings.clone());
        if was != settings.durability {
            inner.synced = false;
            drop(inner);
            self.make_synced();
        }
    }

    /// Under fsync, syncs what was written before fsync was asked for; then says so.
    fn make_synced(self: &Arc<Self>) {
        let Some(log) = self.log.get().cloned() else {
            return;
        };
        if log.durability() != Durability::Fsync {
            return;
        }
        let replica = self.clone();
        self.shared.host.tasks.spawn(async move {
            if let Err(error) = log.make_durable().await {
                tracing::warn!(partition = %replica.id, %error, "cannot sync a log");
                return;
            }
            replica.lock().synced = log.durability() == Durability::Fsync;
            let mut todo = Todo::default();
            replica.log_moved(&mut todo);
            todo.carry_out(&replica.shared);
        });
    }
}
