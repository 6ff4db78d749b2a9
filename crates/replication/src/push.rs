//! The leader side of streams: one session for each follower broker, over all partitions it
//! follows here.
//!
//! A session holds queues of replicas that have something for the follower, never a list of all of
//! them; so a message costs what changed, however many partitions the stream serves.

mod service;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_model::{BrokerEpoch, BrokerId, PartitionId};
use millrace_rpc::proto::replication as proto;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::message::StreamId;
use crate::replica::{CatchUp, Next, Replica, Reply, Way};
use crate::shared::Shared;
use crate::wire;
pub(crate) use service::routes;

/// Advances and answers in one message at most.
const MAX_SMALL: usize = 8192;

/// Replicas that are asked in vain, of those that a limit holds, before the next moment is waited for.
const MAX_LOOKS: usize = 32;

/// One stream of one follower broker.
pub(crate) struct Session {
    peer: BrokerId,
    broker_epoch: BrokerEpoch,
    stream: StreamId,
    shared: Arc<Shared>,
    live: Outbox,
    catch_up: Outbox,
    heard: Mutex<Instant>,
    closed: CancellationToken,
}

/// What waits to be sent by one of the two calls of a stream.
struct Outbox {
    queue: Mutex<Waiting>,
    filled: Notify,
    window_bytes: u64,
    sent_bytes: AtomicU64,
    consumed_bytes: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Arc<Replica>>,
    advances: VecDeque<Arc<Replica>>,
    /// When the oldest advance must leave, with or without batches.
    due: Option<Instant>,
    truncates: Vec<proto::Truncate>,
    refusals: Vec<proto::Refuse>,
    held: Held,
}

/// Replicas with batches that a limit does not let pass yet.
#[derive(Default)]
struct Held {
    replicas: VecDeque<Arc<Replica>>,
    /// When to look at them again.
    until: Option<Instant>,
    /// How many were looked at in vain since that moment, and when the first of them may go.
    in_vain: usize,
    earliest: Option<Instant>,
}

impl Held {
    fn add(&mut self, replica: Arc<Replica>, until: Instant) {
        self.replicas.push_back(replica);
        self.in_vain += 1;
        self.earliest = self.earliest.into_iter().chain([until]).min();
        // Limits differ by partition, so that one that waits does not speak for all; yet thousands
        // need not be asked every time.
        if self.until.is_none() || self.in_vain >= MAX_LOOKS.min(self.replicas.len()) {
            self.until = self.earliest.take();
            self.in_vain = 0;
        }
    }

    fn next(&mut self, now: Instant) -> Option<Arc<Replica>> {
        if self.until.is_none_or(|until| until > now) {
            return None;
        }
        let next = self.replicas.pop_front();
        if next.is_none() {
            *self = Held::default();
        }
        next
    }
}

impl Outbox {
    fn new(window_bytes: u64) -> Outbox {
        Outbox {
            queue: Mutex::default(),
            filled: Notify::new(),
            window_bytes,
            sent_bytes: AtomicU64::new(0),
            consumed_bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next replica with something to send: what was held comes after what was not.
    fn next(&self, now: Instant) -> Option<Arc<Replica>> {
        let mut waiting = self.lock();
        let next = waiting.batches.pop_front();
        next.or_else(|| waiting.held.next(now))
    }

    /// A limit does not let its batches pass before that moment.
    fn hold(&self, replica: Arc<Replica>, until: Instant) {
        self.lock().held.add(replica, until);
    }

    /// What was held is looked at again now.
    fn release_held(&self) {
        let mut waiting = self.lock();
        let held = std::mem::take(&mut waiting.held);
        if !held.replicas.is_empty() {
            waiting.batches.extend(held.replicas);
            drop(waiting);
            self.filled.notify_one();
        }
    }

    fn has_room(&self) -> bool {
        let sent = self.sent_bytes.load(Ordering::Relaxed);
        sent.saturating_sub(self.consumed_bytes.load(Ordering::Relaxed)) < self.window_bytes
    }

    /// The follower is done with so many bytes since the call began.
    fn consumed(&self, bytes: u64) {
        let had_room = self.has_room();
        self.consumed_bytes.fetch_max(bytes, Ordering::Relaxed);
        if !had_room && self.has_room() {
            self.filled.notify_one();
        }
    }
}

impl Session {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        peer: BrokerId,
        broker_epoch: BrokerEpoch,
        stream: StreamId,
    ) -> Arc<Session> {
        Arc::new(Session {
            peer,
            broker_epoch,
            stream,
            shared: shared.clone(),
            live: Outbox::new(shared.settings.live_window_bytes),
            catch_up: Outbox::new(shared.settings.catch_up_window_bytes),
            heard: Mutex::new(shared.host.clock.now()),
            closed: CancellationToken::new(),
        })
    }

    pub(crate) fn peer(&self) -> BrokerId {
        self.peer
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// A session with a larger age replaces this one.
    pub(crate) fn age(&self) -> (BrokerEpoch, StreamId) {
        (self.broker_epoch, self.stream)
    }

    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// When the follower broker was heard of last.
    pub(crate) fn last_heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        let now = self.shared.host.clock.now();
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// A replica has something for this follower.
    pub(crate) fn enqueue(&self, into: Way, replica: Arc<Replica>) {
        if self.is_closed() {
            return;
        }
        match into {
            Way::Live => self.live.lock().batches.push_back(replica),
            Way::CatchUp => {
                self.catch_up.lock().batches.push_back(replica);
                return self.catch_up.filled.notify_one();
            }
            Way::Advance => {
                let mut waiting = self.live.lock();
                waiting.advances.push_back(replica);
                if waiting.due.is_some() {
                    // Somebody waits for that moment already.
                    return;
                }
                let delay = self.shared.settings.advance_delay;
                waiting.due = Some(self.shared.host.clock.now() + delay);
            }
        }
        self.live.filled.notify_one();
    }

    /// Limits may have changed.
    pub(crate) fn release_held(&self) {
        self.live.release_held();
        self.catch_up.release_held();
    }

    pub(crate) fn reply(&self, id: PartitionId, reply: Reply) {
        {
            let mut waiting = self.live.lock();
            match reply {
                Reply::Truncate(address, truncate) if address.stream == self.stream => {
                    waiting
                        .truncates
                        .push(wire::from_truncate(id, &address, &truncate));
                }
                Reply::Refuse(stream, refuse) if stream == self.stream => {
                    waiting.refusals.push(wire::from_refuse(id, &refuse));
                }
                Reply::Truncate(..) | Reply::Refuse(..) => return,
            }
        }
        self.live.filled.notify_one();
    }

    fn empty_message(&self) -> proto::LeaderMessage {
        proto::LeaderMessage {
            broker_epoch: self.broker_epoch.0,
            stream: self.stream.0,
            ..Default::default()
        }
    }

    /// The next message of the live call; `None` when the session has ended.
    async fn next_live(self: &Arc<Self>) -> Option<proto::LeaderMessage> {
        loop {
            if self.is_closed() {
                return None;
            }
            let message = self.gather();
            if !is_empty(&message) {
                return Some(message);
            }
            let due = {
                let waiting = self.live.lock();
                let held = waiting.held.until.filter(|_| self.live.has_room());
                waiting.due.into_iter().chain(held).min()
            };
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return None,
                () = self.live.filled.notified() => {}
                () = reached(due) => {}
            }
        }
    }

    /// Takes what is there, a share of each partition in turn, up to the size of a message.
    fn gather(self: &Arc<Self>) -> proto::LeaderMessage {
        let mut message = self.empty_message();
        {
            let mut waiting = self.live.lock();
            message.truncates = std::mem::take(&mut waiting.truncates);
            message.refusals = std::mem::take(&mut waiting.refusals);
        }
        let mut bytes = 0;
        while bytes < self.shared.settings.message_bytes && self.live.has_room() {
            let now = self.shared.host.clock.now();
            let Some(replica) = self.live.next(now) else {
                break;
            };
            bytes += self.add(&mut message, replica);
            if message.advances.len() >= MAX_SMALL {
                break;
            }
        }
        self.gather_advances(&mut message);
        message
    }

    fn add(self: &Arc<Self>, message: &mut proto::LeaderMessage, replica: Arc<Replica>) -> usize {
        match replica.next_live(self) {
            Next::Nothing => 0,
            Next::Held(until) => {
                self.live.hold(replica, until);
                0
            }
            Next::Advance(advance) => {
                message.advances.push(advance);
                0
            }
            Next::Batches {
                append,
                bytes,
                more,
            } => {
                message.appends.push(append);
                self.live
                    .sent_bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                if more {
                    self.live.lock().batches.push_back(replica);
                }
                bytes
            }
        }
    }

    /// Moved high watermarks travel with batches, or alone once they are due.
    fn gather_advances(self: &Arc<Self>, message: &mut proto::LeaderMessage) {
        let taken = {
            let mut waiting = self.live.lock();
            let now = self.shared.host.clock.now();
            let due = waiting.due.is_some_and(|due| due <= now);
            if !due && is_empty(message) {
                return;
            }
            waiting.due = None;
            std::mem::take(&mut waiting.advances)
        };
        for replica in taken {
            if message.advances.len() < MAX_SMALL {
                self.add(message, replica);
            } else {
                self.enqueue(Way::Advance, replica);
            }
        }
    }

    /// The next message of the catch-up call: batches of one partition, read from the disk.
    async fn next_catch_up(self: &Arc<Self>) -> Option<proto::LeaderMessage> {
        loop {
            if self.is_closed() {
                return None;
            }
            let replica = match self.catch_up.has_room() {
                true => self.catch_up.next(self.shared.host.clock.now()),
                false => None,
            };
            let Some(replica) = replica else {
                let held = self.catch_up.lock().held.until;
                let held = held.filter(|_| self.catch_up.has_room());
                tokio::select! {
                    biased;
                    () = self.closed.cancelled() => return None,
                    () = self.catch_up.filled.notified() => continue,
                    () = reached(held) => continue,
                }
            };
            let mut message = self.empty_message();
            let next = match replica.next_catch_up(self) {
                CatchUp::Nothing => continue,
                CatchUp::Held(until) => {
                    self.catch_up.hold(replica, until);
                    continue;
                }
                CatchUp::Advance(advance) => Next::Advance(advance),
                CatchUp::Load {
                    plan,
                    address,
                    progressed,
                    from,
                } => {
                    let loaded = plan.load_sound(&self.shared.host.tasks).await;
                    replica.loaded(self, &address, &progressed, from, loaded)
                }
            };
            match next {
                Next::Nothing | Next::Held(_) => continue,
                Next::Advance(advance) => message.advances.push(advance),
                Next::Batches {
                    append,
                    bytes,
                    more,
                } => {
                    message.appends.push(append);
                    self.catch_up
                        .sent_bytes
                        .fetch_add(bytes as u64, Ordering::Relaxed);
                    if more {
                        self.catch_up.lock().batches.push_back(replica);
                    }
                }
            }
            return Some(message);
        }
    }
}

/// Resolves at that moment, if there is one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn is_empty(message: &proto::LeaderMessage) -> bool {
    message.appends.is_empty()
        && message.advances.is_empty()
        && message.truncates.is_empty()
        && message.refusals.is_empty()
}
