//! Where callers meet a driver: most hand their request to its task, some have it decide themselves.
//!
//! A heartbeat costs less than two changes between tasks. So callers whose request is brief
//! ([`Family::is_brief`]) take the driver, if nobody else has it at the moment, have it decide and
//! leave with the answer. The lock is held by whoever decides, never across an await, and callers
//! never wait for it: a busy driver gets their request by the queue, and takes together what has
//! gathered there.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use millrace_coordinator::Input;
use millrace_model::ErrorCode;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::{Answer, Call, Driver};
use super::family::Family;
use super::journal::Journal;

/// Decisions taken before what they remember is appended, at most.
const MAX_DECISIONS_IN_BATCH: usize = 512;

/// A driver that has loaded its shard, for its task and for callers.
pub(super) struct Desk<F: Family, J> {
    driver: OnceLock<Mutex<Driver<F, J>>>,
    /// Rings when the driver has something to do earlier than its task knows.
    nudge: Notify,
}

/// What became of a request that was brought.
pub(super) enum Tried<F: Family> {
    /// It is answered.
    Answered(Answer<F>),
    /// It is decided, and will be answered.
    Waits(oneshot::Receiver<Answer<F>>),
    /// It must go by the queue.
    Busy(F::Request),
}

impl<F: Family, J> Default for Desk<F, J> {
    fn default() -> Self {
        Desk {
            driver: OnceLock::new(),
            nudge: Notify::new(),
        }
    }
}

impl<F: Family, J: Journal> Desk<F, J> {
    /// Whether the shard is loaded.
    pub(super) fn is_open(&self) -> bool {
        self.driver.get().is_some()
    }

    /// Has a request decided at once, if nobody else is at it and the log has room.
    pub(super) fn ask(&self, request: F::Request) -> Tried<F> {
        let Some(Ok(mut driver)) = self.driver.get().map(Mutex::try_lock) else {
            return Tried::Busy(request);
        };
        if !driver.family.is_brief(&request) || !driver.journal.has_room() {
            return Tried::Busy(request);
        }
        let decided = driver.decide_for(request);
        if driver.is_due_earlier() {
            self.nudge.notify_one();
        }
        match decided {
            Ok(answer) => Tried::Answered(answer),
            Err(answer) => Tried::Waits(answer),
        }
    }

    /// The driver; none before it is loaded, and none after a decision has panicked.
    fn lock(&self) -> Option<MutexGuard<'_, Driver<F, J>>> {
        self.driver.get()?.lock().ok()
    }
}

/// What comes to a driver from within the broker.
pub(super) enum Order<F: Family> {
    /// The cluster has changed.
    Notice(F::Notice),
    /// An operator wants to know.
    Measure(oneshot::Sender<F::Measures>),
}

/// What a driver's task listens to.
pub(super) struct Inlets<F: Family> {
    pub(super) calls: mpsc::Receiver<Call<F>>,
    /// Not bounded, since they come no faster than images are applied and metrics are scraped.
    pub(super) orders: mpsc::UnboundedReceiver<Order<F>>,
}

/// The task of a driver. When it ends, whoever waits is told NOT_COORDINATOR.
pub(super) struct Task<F: Family, J: Journal> {
    pub(super) desk: Arc<Desk<F, J>>,
    pub(super) journal: Arc<J>,
    pub(super) inlets: Inlets<F>,
    pub(super) stopping: CancellationToken,
}

enum Event<F: Family> {
    Called,
    Ordered(Order<F>),
    LogChanged,
    Due,
    Stopped,
}

impl<F: Family, J: Journal> Task<F, J> {
    /// Has the driver load its shard, and serves it until the leadership is over.
    pub(super) async fn run(mut self, mut driver: Driver<F, J>) {
        let stopping = self.stopping.clone();
        if stopping.run_until_cancelled(driver.load()).await != Some(Ok(())) {
            return;
        }
        driver.decide_alone(Input::Loaded);
        let (topic, partition) = (driver.family.topic(), driver.partition);
        // Nobody else sets it.
        let _ = self.desk.driver.set(Mutex::new(driver));
        let mut inbox = Vec::new();
        while let Some(until) = self.fall_asleep() {
            let event = self.next(until, &mut inbox).await;
            if matches!(event, Event::Called) {
                self.journal.room().await;
            }
            if !self.handle(event, &mut inbox) {
                break;
            }
        }
        tracing::debug!(
            topic,
            partition,
            "a coordinator's partition is not led here any more"
        );
    }

    /// Answers what is committed; until when there is nothing more to do.
    fn fall_asleep(&self) -> Option<Instant> {
        let mut driver = self.desk.lock()?;
        driver.settle().ok()?;
        Some(driver.fall_asleep())
    }

    async fn next(&mut self, until: Instant, inbox: &mut Vec<Call<F>>) -> Event<F> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Event::Stopped,
            () = self.journal.changed() => Event::LogChanged,
            () = self.desk.nudge.notified() => Event::Due,
            Some(order) = self.inlets.orders.recv() => Event::Ordered(order),
            calls = self.inlets.calls.recv_many(inbox, MAX_DECISIONS_IN_BATCH) => match calls {
                0 => Event::Stopped,
                _ => Event::Called,
            },
            () = tokio::time::sleep_until(until) => Event::Due,
        }
    }

    /// Whether the leadership goes on.
    fn handle(&self, event: Event<F>, inbox: &mut Vec<Call<F>>) -> bool {
        let Some(mut driver) = self.desk.lock() else {
            return false;
        };
        // The wait may have been long.
        if driver.settle().is_err() {
            return false;
        }
        match event {
            Event::Called => driver.take_calls(inbox),
            Event::Ordered(Order::Notice(notice)) => driver.decide_alone(Input::Notice(notice)),
            Event::Ordered(Order::Measure(reply)) => {
                // Who asked may have given up.
                let _ = reply.send(driver.family.measure(&driver.shard));
            }
            Event::LogChanged => {}
            Event::Due => driver.tick(),
            Event::Stopped => return false,
        }
        true
    }
}

impl<F: Family, J: Journal> Drop for Task<F, J> {
    fn drop(&mut self) {
        if let Some(driver) = self.desk.driver.get() {
            // Also after a panic: those who wait must not wait for ever.
            let mut driver = driver
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            driver.close();
        }
    }
}

/// What a caller is told by a driver that has gone.
pub(super) async fn answered<F: Family>(answer: oneshot::Receiver<Answer<F>>) -> Answer<F> {
    answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
}
