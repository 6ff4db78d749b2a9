//! The follower side of streams: one link to each leader broker this one follows anything on.

mod receive;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, PartitionId, limits};
use millrace_rpc::proto::replication as proto;
use millrace_rpc::proto::replication::replication_server::SERVICE_NAME;
use millrace_rpc::tonic::Status;
use millrace_rpc::{Messages, Outgoing, Purpose, in_one_piece};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::core::message::{Ack, Join, Refuse, StreamId};
use crate::replica::{Replica, ToLeader};
use crate::shared::Shared;
use crate::wire;

/// The pause before a broken stream is opened again: at first nearly none.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How long opening a stream may take.
const OPEN_PATIENCE: Duration = Duration::from_secs(3);

/// A link to one leader broker.
pub(crate) struct Link {
    leader: BrokerId,
    followed: Mutex<BTreeMap<PartitionId, Weak<Replica>>>,
    outbox: Mutex<Outbox>,
    filled: Notify,
    /// The stream that is open; 0 for none.
    stream: AtomicU64,
    nudged: Notify,
}

/// What waits to be said; a later word about a partition replaces an earlier one.
#[derive(Default)]
struct Outbox {
    joins: BTreeMap<PartitionId, Join>,
    acks: BTreeMap<PartitionId, (StreamId, Ack)>,
    refusals: BTreeMap<PartitionId, (StreamId, Refuse)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Starts a link; it connects once a replica follows by it.
    pub(crate) fn start(shared: &Arc<Shared>, leader: BrokerId) -> Arc<Link> {
        let link = Arc::new(Link {
            leader,
            followed: Mutex::default(),
            outbox: Mutex::default(),
            filled: Notify::new(),
            stream: AtomicU64::new(0),
            nudged: Notify::new(),
        });
        let task = Task {
            shared: shared.clone(),
            link: link.clone(),
        };
        let stopping = shared.stopping.clone();
        shared.host.tasks.spawn(async move {
            let _ = stopping.run_until_cancelled(task.run()).await;
        });
        link
    }

    pub(crate) fn leader(&self) -> BrokerId {
        self.leader
    }

    pub(crate) fn add(&self, replica: &Arc<Replica>) {
        lock(&self.followed).insert(replica.id(), Arc::downgrade(replica));
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        lock(&self.followed).remove(&id);
    }

    fn followed(&self) -> Vec<Arc<Replica>> {
        lock(&self.followed)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Something has changed: connect now if there is no connection.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// The stream that is open.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self.stream.load(Ordering::Acquire) {
            0 => None,
            stream => Some(StreamId(stream)),
        }
    }

    /// Puts words into the outboxes of their links; each link is woken once.
    pub(crate) fn say_all(words: Vec<(Arc<Link>, PartitionId, ToLeader)>) {
        let mut last: Option<Arc<Link>> = None;
        for (link, id, word) in words {
            link.say(id, word);
            if let Some(previous) = last.replace(link.clone())
                && !Arc::ptr_eq(&previous, &link)
            {
                previous.filled.notify_one();
            }
        }
        if let Some(link) = last {
            link.filled.notify_one();
        }
    }

    fn say(&self, id: PartitionId, word: ToLeader) {
        let mut outbox = lock(&self.outbox);
        match word {
            ToLeader::Join(join) => {
                let newer = outbox
                    .joins
                    .get(&id)
                    .is_none_or(|old| old.round < join.round);
                if newer {
                    outbox.joins.insert(id, join);
                }
            }
            ToLeader::Ack(stream, ack) => {
                // Threads may come here in another order than they acknowledged.
                let newer = outbox.acks.get(&id).is_none_or(|(old_stream, old)| {
                    (*old_stream, old.epoch, old.durable_end, old.synced)
                        <= (stream, ack.epoch, ack.durable_end, ack.synced)
                });
                if newer {
                    outbox.acks.insert(id, (stream, ack));
                }
            }
            ToLeader::Refuse(stream, refuse) => {
                outbox.refusals.insert(id, (stream, refuse));
            }
        }
    }

    /// What is to be said by this stream; words meant for an older one are dropped.
    fn take(&self, stream: StreamId) -> proto::FollowerMessage {
        let outbox = std::mem::take(&mut *lock(&self.outbox));
        let joins = outbox
            .joins
            .iter()
            .filter(|(_, join)| join.stream == stream);
        let acks = outbox.acks.iter().filter(|(_, (of, _))| *of == stream);
        let refusals = outbox.refusals.iter().filter(|(_, (of, _))| *of == stream);
        proto::FollowerMessage {
            joins: joins.map(|(id, join)| wire::from_join(*id, join)).collect(),
            acks: acks
                .map(|(id, (_, ack))| wire::from_ack(*id, ack))
                .collect(),
            refusals: refusals
                .map(|(id, (_, refuse))| wire::from_refuse(*id, refuse))
                .collect(),
            ..Default::default()
        }
    }
}

/// Bytes of batches a call has brought that are done with.
#[derive(Default)]
struct Consumed {
    bytes: AtomicU64,
    changed: Notify,
}

/// Keeps one link open.
struct Task {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

/// The two calls of an open stream.
struct Open {
    stream: StreamId,
    live: Messages,
    catch_up: Messages,
    live_consumed: Arc<Consumed>,
    catch_up_consumed: Arc<Consumed>,
    /// Ends the outgoing halves.
    closing: CancellationToken,
}

impl Task {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let own_epoch = self.shared.view().own_epoch;
            let Some(own_epoch) = own_epoch.filter(|_| !lock(&self.link.followed).is_empty())
            else {
                self.link.nudged.notified().await;
                continue;
            };
            let opened = tokio::time::timeout(OPEN_PATIENCE, self.open(own_epoch)).await;
            match opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(open) => {
                    pause = FIRST_PAUSE;
                    self.serve(open, own_epoch).await;
                }
                Err(status) => {
                    tracing::debug!(leader = %self.link.leader, %status, "cannot open a stream");
                }
            }
            tokio::select! {
                biased;
                () = self.link.nudged.notified() => pause = FIRST_PAUSE,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    async fn open(&self, own_epoch: BrokerEpoch) -> Result<Open, Status> {
        let stream = StreamId(self.shared.next_stream());
        let closing = CancellationToken::new();
        let guard = closing.clone().drop_guard();
        let (live_consumed, catch_up_consumed) = (Arc::default(), Arc::default());
        let hello = proto::FollowerMessage {
            hello: Some(proto::Hello {
                broker_epoch: own_epoch.0,
                stream: stream.0,
            }),
            ..Default::default()
        };
        let heartbeat = self.shared.settings.session_timeout / 4;
        let in_touch = self.shared.link.in_touch();
        let says = |link: Option<Arc<Link>>, consumed: &Arc<Consumed>| {
            outgoing(Says {
                link,
                stream,
                hello: Some(hello.clone()),
                consumed: consumed.clone(),
                heartbeat,
                in_touch: in_touch.clone(),
                closing: closing.clone(),
            })
        };
        let live_says = says(Some(self.link.clone()), &live_consumed);
        let live = self.call(Purpose::Replication, "Follow", live_says).await?;
        let catch_up_says = says(None, &catch_up_consumed);
        let catch_up = self
            .call(Purpose::CatchUp, "CatchUp", catch_up_says)
            .await?;
        guard.disarm();
        Ok(Open {
            stream,
            live,
            catch_up,
            live_consumed,
            catch_up_consumed,
            closing,
        })
    }

    async fn call(
        &self,
        purpose: Purpose,
        method: &str,
        says: Outgoing,
    ) -> Result<Messages, Status> {
        let channel = self.shared.channels.channel(self.link.leader, purpose);
        let limit = limits::MAX_PEER_MESSAGE_BYTES;
        channel.open(SERVICE_NAME, method, says, limit).await
    }

    /// Follows by an open stream until it ends.
    async fn serve(&self, open: Open, own_epoch: BrokerEpoch) {
        let stream = open.stream;
        let _closing = open.closing.clone().drop_guard();
        self.link.stream.store(stream.0, Ordering::Release);
        for replica in self.link.followed() {
            replica.attach(&self.link, stream);
        }
        let ended = tokio::select! {
            biased;
            () = self.outlived(own_epoch) => Status::cancelled("no longer needed"),
            ended = self.listen(open.live, stream, &open.live_consumed) => ended,
            ended = self.listen(open.catch_up, stream, &open.catch_up_consumed) => ended,
        };
        tracing::debug!(leader = %self.link.leader, %ended, "a stream to a leader has ended");
        self.link.stream.store(0, Ordering::Release);
        for replica in self.link.followed() {
            replica.detach(stream);
        }
    }

    /// Resolves when this broker has another incarnation, or follows nothing there any more.
    async fn outlived(&self, own_epoch: BrokerEpoch) {
        loop {
            self.link.nudged.notified().await;
            let same = self.shared.view().own_epoch == Some(own_epoch);
            if !same || lock(&self.link.followed).is_empty() {
                // The run loop shall look at once.
                return self.link.nudge();
            }
        }
    }

    async fn listen(&self, mut inbound: Messages, stream: StreamId, consumed: &Consumed) -> Status {
        loop {
            match inbound.next::<proto::LeaderMessage>().await {
                Ok(Some(message)) => {
                    let bytes = receive::message(&self.shared, &self.link, stream, message).await;
                    if bytes > 0 {
                        consumed.bytes.fetch_add(bytes, Ordering::Relaxed);
                        consumed.changed.notify_one();
                    }
                }
                Ok(None) => return Status::cancelled("the leader has ended it"),
                Err(status) => return status,
            }
        }
    }
}

/// The outgoing half of one call.
struct Says {
    /// Words to say; the catch-up call has none.
    link: Option<Arc<Link>>,
    stream: StreamId,
    hello: Option<proto::FollowerMessage>,
    consumed: Arc<Consumed>,
    heartbeat: Duration,
    /// Whether this broker hears of the controller.
    in_touch: watch::Receiver<bool>,
    closing: CancellationToken,
}

/// Resolves when it is time to say nothing but that this broker lives. A leader that does not hear
/// of the controller may go on as long as its followers speak; where they all hear of it, it has
/// none to lead for.
async fn alone(in_touch: &mut watch::Receiver<bool>, heartbeat: Duration) {
    // Whoever cannot be asked is not in touch.
    let _ = in_touch.wait_for(|in_touch| !*in_touch).await;
    tokio::time::sleep(heartbeat).await;
}

fn outgoing(state: Says) -> Outgoing {
    Box::pin(futures::stream::unfold(state, |mut state| async move {
        if let Some(hello) = state.hello.take() {
            return Some((in_one_piece(&hello), state));
        }
        match &state.link {
            Some(link) => tokio::select! {
                biased;
                () = state.closing.cancelled() => return None,
                () = link.filled.notified() => {}
                () = state.consumed.changed.notified() => {}
                () = alone(&mut state.in_touch, state.heartbeat) => {}
            },
            None => tokio::select! {
                biased;
                () = state.closing.cancelled() => return None,
                () = state.consumed.changed.notified() => {}
            },
        }
        let mut message = match &state.link {
            Some(link) => link.take(state.stream),
            None => proto::FollowerMessage::default(),
        };
        message.consumed_bytes = state.consumed.bytes.load(Ordering::Relaxed);
        Some((in_one_piece(&message), state))
    }))
}
