//! A broker's session with the active controller, on the broker's side.
//!
//! One task keeps it: it finds the controller, registers, and says every heartbeat interval that
//! the broker lives, at once when its image has moved on. When the stream ends or the controller
//! changes it begins again; the registration of this incarnation stands.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use millrace_metadata::decide::Registration;
use millrace_metadata::{Image, Refusal, silence};
use millrace_model::{BrokerEpoch, BrokerId, DirectoryId, ImageVersion};
use millrace_rpc::Purpose;
use millrace_rpc::proto::control::control_client::ControlClient;
use millrace_rpc::proto::control::session_down::Message as Down;
use millrace_rpc::proto::control::session_up::Message as Up;
use millrace_rpc::proto::control::{Heartbeat, SessionDown, SessionUp};
use millrace_rpc::tonic::Status;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::Inner;
use crate::control_wire;

/// Messages that may wait in a stream.
const STREAM_DEPTH: usize = 16;

/// Least time between two heartbeats.
const LEAST_INTERVAL: Duration = Duration::from_millis(15);

/// How long to wait before the next attempt to open a stream, with jitter.
const RETRY_MS: std::ops::Range<u64> = 10..40;

/// What the controller last said of this broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// The epoch of the registration, once there is one.
    pub epoch: Option<BrokerEpoch>,
    /// The version of the image that holds the registration.
    pub registered_at: Option<ImageVersion>,
    /// Not unfenced yet, or fenced since.
    pub fenced: bool,
    /// In controlled shutdown.
    pub shutting_down: bool,
    /// The controlled shutdown is done: nobody relies on this broker any more.
    pub should_stop: bool,
    /// The brokers whose last heartbeats the controller misses.
    pub silent: BTreeSet<BrokerId>,
    /// Why the controller refused the registration, until it accepts it.
    pub refused: Option<Refusal>,
}

#[derive(Clone, Debug, Default)]
struct Wishes {
    shutdown: bool,
    fence: bool,
    offline: BTreeSet<DirectoryId>,
}

struct Shared {
    inner: Arc<Inner>,
    state: watch::Sender<SessionState>,
    wishes: watch::Sender<Wishes>,
    last_contact: Mutex<Instant>,
    /// The controller that had been silent when another took its place, and until when the new one
    /// cannot know that yet.
    replaced: Mutex<Option<(BrokerId, Instant)>>,
    ended: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether the controller has not answered for longer than it should. After a whole session
    /// the one that is cut off is more likely this broker.
    fn controller_is_silent(&self) -> bool {
        let settings = &self.inner.settings;
        let unanswered = self.inner.host.clock.now() - *lock(&self.last_contact);
        (silence(settings.heartbeat_interval)..settings.session_timeout).contains(&unanswered)
    }

    /// Another controller takes the place of this one.
    fn note_replaced(&self, controller: Option<BrokerId>) {
        let me = self.inner.members.me.node;
        let hung = controller.filter(|id| *id != me && self.controller_is_silent());
        if let Some(id) = hung {
            let patience = 2 * silence(self.inner.settings.heartbeat_interval);
            *lock(&self.replaced) = Some((id, self.inner.host.clock.now() + patience));
        }
    }
}

/// A broker's session; ends when it is dropped.
pub struct BrokerSession(Arc<Shared>);

impl Drop for BrokerSession {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
    }
}

impl BrokerSession {
    pub(crate) fn start(inner: Arc<Inner>, registration: Registration) -> BrokerSession {
        let shared = Arc::new(Shared {
            inner: inner.clone(),
            state: watch::Sender::new(SessionState {
                fenced: true,
                ..SessionState::default()
            }),
            wishes: watch::Sender::default(),
            last_contact: Mutex::new(inner.host.clock.now()),
            replaced: Mutex::new(None),
            ended: watch::Sender::new(false),
        });
        let keeper = Keeper {
            shared: shared.clone(),
            images: inner.images(),
            inner,
            registration,
        };
        let tasks = keeper.inner.host.control.clone();
        let mut ended = shared.ended.subscribe();
        tasks.spawn(async move {
            tokio::select! {
                biased;
                _ = async { ended.wait_for(|ended| *ended).await.map(drop) } => {}
                () = keeper.run() => {}
            }
        });
        BrokerSession(shared)
    }

    /// The epoch of this broker's registration, once it has one.
    pub fn epoch(&self) -> Option<BrokerEpoch> {
        self.0.state.borrow().epoch
    }

    /// What the controller last said of this broker.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.0.state.subscribe()
    }

    /// When the controller last answered (the session's start, before it ever did).
    pub fn last_contact(&self) -> Instant {
        *lock(&self.0.last_contact)
    }

    /// The brokers that clients had better not be sent to, though they are not fenced: those whose
    /// last heartbeats the controller misses, and the controller's own if it has not answered for
    /// as long. This is what shortens a client's wait when a broker hangs: it does not spend the
    /// time until the leaders have changed on requests that nobody will answer.
    pub fn silent(&self) -> BTreeSet<BrokerId> {
        let shared = &*self.0;
        let mut silent = shared.state.borrow().silent.clone();
        let controller = shared.inner.leader_id();
        let controller = controller.filter(|id| *id != shared.inner.members.me);
        if let Some(controller) = controller
            && shared.controller_is_silent()
        {
            silent.insert(controller.node);
        }
        let replaced = *lock(&shared.replaced);
        if let Some((node, until)) = replaced
            && shared.inner.host.clock.now() < until
        {
            silent.insert(node);
        }
        silent
    }

    /// Asks the controller to hand over what this broker leads; resolves when it may stop. The
    /// caller sets the time limit.
    pub async fn controlled_shutdown(&self) {
        self.0.wishes.send_modify(|wishes| wishes.shutdown = true);
        let mut state = self.0.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.should_stop).await;
    }

    /// Tells the controller that log directories have failed.
    pub fn directory_failed(&self, directories: &[DirectoryId]) {
        self.0
            .wishes
            .send_modify(|wishes| wishes.offline.extend(directories));
    }

    /// Whether this broker wants to be fenced, while it cannot serve.
    pub fn want_fence(&self, wanted: bool) {
        self.0.wishes.send_modify(|wishes| wishes.fence = wanted);
    }
}

type Incoming = BoxStream<'static, Result<SessionDown, Status>>;

struct Keeper {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
    images: watch::Receiver<Arc<Image>>,
    registration: Registration,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            if let Err(status) = self.session().await {
                tracing::debug!(%status, "no session with the controller");
            }
            let pause = Duration::from_millis(self.inner.host.random.range(RETRY_MS));
            tokio::time::sleep(pause).await;
        }
    }

    /// Opens a stream to the active controller.
    async fn open(&self, up: mpsc::Receiver<SessionUp>) -> Result<Incoming, Status> {
        let leader = self.inner.leader_id();
        let leader = leader.ok_or_else(|| Status::unavailable("no controller is known"))?;
        let up = futures::stream::unfold(up, |mut up| async move { Some((up.recv().await?, up)) });
        if leader == self.inner.members.me {
            let host = self.inner.session_host();
            let host = host.ok_or_else(|| Status::aborted("this node is no controller"))?;
            let (replies, down) = mpsc::channel(STREAM_DEPTH);
            let serving = host.serve(self.inner.peer(), up.map(Ok).boxed(), replies);
            self.inner.host.control.spawn(serving);
            let down = futures::stream::unfold(down, |mut down| async move {
                Some((down.recv().await?, down))
            });
            return Ok(down.boxed());
        }
        let channel = self
            .inner
            .members
            .channels
            .channel(leader.node, Purpose::Control);
        let opened = ControlClient::new(channel).session(up).await?;
        Ok(opened.into_inner().boxed())
    }

    async fn session(&mut self) -> Result<(), Status> {
        let (up, receiver) = mpsc::channel(STREAM_DEPTH);
        let registration = control_wire::encode_registration(&self.registration);
        let first = SessionUp {
            message: Some(Up::Registration(registration)),
        };
        let gone = || Status::unavailable("the stream ended");
        up.send(first).await.map_err(|_| gone())?;
        let limit = self.inner.settings.session_timeout;
        let silent = || Status::deadline_exceeded("the controller does not answer");
        let opening = tokio::time::timeout(limit, self.open(receiver));
        let mut down = opening.await.map_err(|_| silent())??;
        let mut wishes = self.shared.wishes.subscribe();
        let mut standing = self.inner.standing.clone();
        let leader = standing.borrow_and_update().leader;
        let mut heard = self.inner.host.clock.now();
        let mut next_beat: Option<Instant> = None;
        // A beat is on its way; something changed since it was sent.
        let (mut awaited, mut dirty) = (false, false);
        loop {
            let beat_at = next_beat.filter(|_| !awaited).unwrap_or(heard + limit);
            tokio::select! {
                biased;
                message = down.next() => {
                    self.take(message.ok_or_else(gone)??)?;
                    heard = self.inner.host.clock.now();
                    *lock(&self.shared.last_contact) = heard;
                    awaited = false;
                    let hurry = dirty || self.shared.wishes.borrow().shutdown;
                    next_beat = Some(match (next_beat, hurry) {
                        (None, _) => heard,
                        (Some(_), true) => heard + LEAST_INTERVAL,
                        (Some(_), false) => heard + self.inner.settings.heartbeat_interval,
                    });
                }
                changed = standing.changed() => {
                    changed.map_err(|_| gone())?;
                    if standing.borrow_and_update().leader != leader {
                        self.shared.note_replaced(leader.map(|id| id.node));
                        return Err(Status::aborted("the controller has changed"));
                    }
                }
                _ = wishes.changed() => {
                    dirty = true;
                    next_beat = next_beat.map(|_| heard);
                }
                _ = self.images.changed() => {
                    dirty = true;
                    next_beat = next_beat.map(|at| at.min(heard + LEAST_INTERVAL));
                }
                () = tokio::time::sleep_until(beat_at) => {
                    if awaited || next_beat.is_none() {
                        return Err(silent());
                    }
                    let wishes = wishes.borrow_and_update().clone();
                    up.send(self.beat(&wishes)).await.map_err(|_| gone())?;
                    (awaited, dirty) = (true, false);
                }
            }
        }
    }

    fn beat(&mut self, wishes: &Wishes) -> SessionUp {
        let version = self.images.borrow_and_update().version();
        let offline = wishes
            .offline
            .iter()
            .map(|id| control_wire::encode_uuid(id.0));
        let beat = Heartbeat {
            version: version.get(),
            wants_shutdown: wishes.shutdown,
            wants_fence: wishes.fence,
            offline_directories: offline.collect(),
            interval_ms: u32::try_from(self.inner.settings.heartbeat_interval.as_millis())
                .unwrap_or(u32::MAX),
        };
        SessionUp {
            message: Some(Up::Heartbeat(beat)),
        }
    }

    fn take(&self, message: SessionDown) -> Result<(), Status> {
        match message.message {
            Some(Down::Registered(registered)) => {
                self.shared.state.send_modify(|state| {
                    state.epoch = Some(BrokerEpoch(registered.epoch));
                    state.registered_at = Some(ImageVersion(registered.version));
                    state.refused = None;
                });
                Ok(())
            }
            Some(Down::State(told)) => {
                self.shared.state.send_if_modified(|state| {
                    let before = state.clone();
                    state.fenced = told.fenced;
                    state.shutting_down = told.shutting_down;
                    state.should_stop |= told.should_stop;
                    state.silent = told.silent.into_iter().map(BrokerId).collect();
                    *state != before
                });
                Ok(())
            }
            Some(Down::Refused(refused)) => {
                let refusal = control_wire::decode_refusal(refused);
                let status = Status::failed_precondition(refusal.to_string());
                self.shared
                    .state
                    .send_modify(|state| state.refused = Some(refusal));
                Err(status)
            }
            None => Err(Status::invalid_argument("an empty message")),
        }
    }
}
