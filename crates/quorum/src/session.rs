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

use crate::controller::unanswered;
use crate::types::RaftId;
use crate::{Inner, SessionSettings, control_wire};

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
    short: BTreeSet<DirectoryId>,
    slow: BTreeSet<DirectoryId>,
}

struct Shared {
    inner: Arc<Inner>,
    state: watch::Sender<SessionState>,
    wishes: watch::Sender<Wishes>,
    last_contact: Mutex<Instant>,
    known: Mutex<Known>,
    /// Whether the controller has answered within the last moments.
    in_touch: watch::Sender<bool>,
    /// The controller that had been silent when another took its place, and until when the new one
    /// cannot know that yet.
    replaced: Mutex<Option<(BrokerId, Instant)>>,
    ended: watch::Sender<bool>,
}

/// How recent what this broker knows is. The controller's answer alone does not tell it: a broker that
/// was cut off hears again of the controller before it hears what was decided meanwhile.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// It knew everything that the controller knew then. The controller counts the session from when it
    /// was asked, and may be long in answering: so this is when it was asked too.
    until: Instant,
    /// When something was asked, and the version of the image at which the same can be said of then.
    awaited: Option<(Instant, ImageVersion)>,
}

impl Known {
    /// An answer came to what was asked then, given at `version`, while this broker is at `own`.
    fn answered(&mut self, asked: Instant, version: ImageVersion, own: ImageVersion) {
        // An older answer is awaited first, else a busy controller's would never be reached.
        self.awaited.get_or_insert((asked, version));
        self.reached(own);
    }

    /// This broker has come so far.
    fn reached(&mut self, own: ImageVersion) {
        if let Some((asked, _)) = self.awaited.take_if(|(_, version)| *version <= own) {
            self.until = self.until.max(asked);
        }
    }
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

    /// The controller has answered, at this version of the image. This node's own one knows no more
    /// than what a majority last told it.
    fn note_contact(&self, rhythm: &Rhythm, controller: Option<RaftId>, version: ImageVersion) {
        let ago = match controller == Some(self.inner.members.me) {
            true => unanswered(&self.inner.raft),
            false => Duration::ZERO,
        };
        // Nothing is as old as the clock.
        let heard = rhythm.heard.checked_sub(ago).unwrap_or(rhythm.heard);
        let mut contact = lock(&self.last_contact);
        *contact = heard.max(*contact);
        let own = self.inner.images().borrow().version();
        lock(&self.known).answered(rhythm.asked.min(heard), version, own);
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
            known: Mutex::new(Known {
                until: inner.host.clock.now(),
                awaited: None,
            }),
            in_touch: watch::Sender::new(false),
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

    /// When this broker last knew everything that the controller knew (the session's start, before it
    /// ever did): what it led then, nobody else did.
    pub fn known_until(&self) -> Instant {
        lock(&self.0.known).until
    }

    /// Whether the controller has answered within the last two or three heartbeats.
    pub fn in_touch(&self) -> watch::Receiver<bool> {
        self.0.in_touch.subscribe()
    }

    /// The brokers that clients had better not be sent to, though they are not fenced: those whose
    /// last heartbeats the controller misses, and the controller's own if it has not answered for
    /// as long. This is what shortens a client's wait when a broker hangs: it does not spend the
    /// time until the leaders have changed on requests that nobody will answer.
    ///
    /// A controller's word counts as long as it answers. Afterwards this broker may be the one that
    /// is cut off, and clients that were told of no other one would stay here: librdkafka forgets
    /// the brokers that Metadata leaves out.
    pub fn silent(&self) -> BTreeSet<BrokerId> {
        let shared = &*self.0;
        let in_touch = *shared.in_touch.borrow();
        let mut silent = match in_touch {
            true => shared.state.borrow().silent.clone(),
            false => BTreeSet::new(),
        };
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

    /// Tells the controller which log directories are short of space now, and which are slow.
    pub fn directories_are(&self, short: BTreeSet<DirectoryId>, slow: BTreeSet<DirectoryId>) {
        self.0.wishes.send_if_modified(|wishes| {
            let before = std::mem::replace(&mut wishes.short, short);
            let slow_before = std::mem::replace(&mut wishes.slow, slow);
            (&wishes.short, &wishes.slow) != (&before, &slow_before)
        });
    }

    /// Whether this broker wants to be fenced, while it cannot serve.
    pub fn want_fence(&self, wanted: bool) {
        self.0.wishes.send_modify(|wishes| wishes.fence = wanted);
    }
}

/// When the next heartbeat leaves.
struct Rhythm {
    interval: Duration,
    limit: Duration,
    /// When it was asked what it answered last, or has yet to answer.
    asked: Instant,
    /// When the controller answered last.
    heard: Instant,
    /// When the next one leaves at the latest; nothing before the registration is confirmed.
    next: Option<Instant>,
    /// One is on its way.
    awaited: bool,
    /// Something changed since it was sent.
    dirty: bool,
}

impl Rhythm {
    fn new(settings: &SessionSettings, now: Instant) -> Rhythm {
        Rhythm {
            interval: settings.heartbeat_interval,
            limit: settings.session_timeout,
            asked: now,
            heard: now,
            next: None,
            awaited: false,
            dirty: false,
        }
    }

    /// The controller has answered. The next heartbeat waits a little longer than the interval, for
    /// one of the quorum's to travel with.
    fn answered(&mut self, now: Instant, hurry: bool) {
        self.heard = now;
        self.awaited = false;
        self.next = Some(match (self.next, hurry) {
            (None, _) => now,
            (Some(_), true) => now + LEAST_INTERVAL,
            (Some(_), false) => now + self.interval * 5 / 4,
        });
    }

    fn hurry(&mut self, least: Duration) {
        self.dirty = true;
        self.next = self.next.map(|at| at.min(self.heard + least));
    }

    /// Whether a heartbeat may leave together with one of the quorum's.
    fn rides(&self, now: Instant) -> bool {
        !self.awaited && self.next.is_some() && now >= self.heard + self.interval * 3 / 4
    }

    /// When to send, or to give the controller up.
    fn beat_at(&self) -> Instant {
        let next = self.next.filter(|_| !self.awaited);
        next.unwrap_or(self.heard + self.limit)
    }

    /// When the controller counts as out of touch.
    fn quiet_at(&self) -> Instant {
        self.heard + silence(self.interval)
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
            self.shared.in_touch.send_if_modified(std::mem::take);
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
        let clock = self.inner.host.clock.clone();
        let began = clock.now();
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
        let mut pulse = self.inner.members.pulse();
        let mut rhythm = Rhythm::new(&self.inner.settings, clock.now());
        rhythm.asked = began;
        loop {
            let now_due = tokio::select! {
                biased;
                message = down.next() => {
                    let version = self.take(message.ok_or_else(gone)??)?;
                    let hurry = rhythm.dirty || self.shared.wishes.borrow().shutdown;
                    rhythm.answered(clock.now(), hurry);
                    self.shared.note_contact(&rhythm, leader, version);
                    self.shared.in_touch.send_if_modified(|in_touch| !std::mem::replace(in_touch, true));
                    false
                }
                changed = standing.changed() => {
                    changed.map_err(|_| gone())?;
                    if standing.borrow_and_update().leader != leader {
                        self.shared.note_replaced(leader.map(|id| id.node));
                        return Err(Status::aborted("the controller has changed"));
                    }
                    false
                }
                _ = wishes.changed() => {
                    rhythm.hurry(Duration::ZERO);
                    false
                }
                _ = self.images.changed() => {
                    lock(&self.shared.known).reached(self.images.borrow().version());
                    rhythm.hurry(LEAST_INTERVAL);
                    false
                }
                _ = pulse.changed() => rhythm.rides(clock.now()),
                () = tokio::time::sleep_until(rhythm.quiet_at()), if *self.shared.in_touch.borrow() => {
                    self.shared.in_touch.send_replace(false);
                    false
                }
                () = tokio::time::sleep_until(rhythm.beat_at()) => {
                    if rhythm.awaited || rhythm.next.is_none() {
                        return Err(silent());
                    }
                    true
                }
            };
            if now_due {
                let wishes = wishes.borrow_and_update().clone();
                rhythm.asked = clock.now();
                up.send(self.beat(&wishes)).await.map_err(|_| gone())?;
                (rhythm.awaited, rhythm.dirty) = (true, false);
            }
        }
    }

    fn beat(&mut self, wishes: &Wishes) -> SessionUp {
        let version = self.images.borrow_and_update().version();
        let encode = |id: &DirectoryId| control_wire::encode_uuid(id.0);
        let beat = Heartbeat {
            version: version.get(),
            wants_shutdown: wishes.shutdown,
            wants_fence: wishes.fence,
            offline_directories: wishes.offline.iter().map(encode).collect(),
            short_directories: wishes.short.iter().map(encode).collect(),
            slow_directories: wishes.slow.iter().map(encode).collect(),
            interval_ms: u32::try_from(self.inner.settings.heartbeat_interval.as_millis())
                .unwrap_or(u32::MAX),
        };
        SessionUp {
            message: Some(Up::Heartbeat(beat)),
        }
    }

    /// Notes what the controller says; returns the version of the image at which it said so.
    fn take(&self, message: SessionDown) -> Result<ImageVersion, Status> {
        match message.message {
            Some(Down::Registered(registered)) => {
                let version = ImageVersion(registered.version);
                self.shared.state.send_modify(|state| {
                    state.epoch = Some(BrokerEpoch(registered.epoch));
                    state.registered_at = Some(version);
                    state.refused = None;
                });
                Ok(version)
            }
            Some(Down::State(told)) => {
                let version = ImageVersion(told.version);
                self.shared.state.send_if_modified(|state| {
                    let before = state.clone();
                    state.fenced = told.fenced;
                    state.shutting_down = told.shutting_down;
                    state.should_stop |= told.should_stop;
                    state.silent = told.silent.into_iter().map(BrokerId).collect();
                    *state != before
                });
                Ok(version)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(now: Instant) -> Rhythm {
        let settings = SessionSettings {
            session_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
        };
        let mut rhythm = Rhythm::new(&settings, now);
        rhythm.answered(now, false);
        // The one that follows the registration at once.
        assert_eq!(rhythm.beat_at(), now);
        rhythm.answered(now, false);
        rhythm
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_travels_with_the_quorums_or_leaves_a_little_later() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let mut rhythm = rhythm(now);
        assert!(!rhythm.rides(after(20)), "the last one has just left");
        assert!(rhythm.rides(after(90)));
        assert_eq!(rhythm.beat_at(), after(125));
        rhythm.awaited = true;
        assert!(!rhythm.rides(after(200)), "one at a time");
        assert_eq!(rhythm.beat_at(), after(1000), "the controller is given up");
        assert_eq!(rhythm.quiet_at(), after(250));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_once_the_image_has_come_as_far() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut known = Known {
            until: began,
            awaited: None,
        };
        let [old, mid, new] = [7, 8, 9].map(ImageVersion);
        known.answered(after(100), old, old);
        assert_eq!(known.until, after(100));
        known.answered(after(200), new, old);
        known.answered(after(300), new, mid);
        known.reached(mid);
        assert_eq!(
            known.until,
            after(100),
            "what was decided is not known here"
        );
        known.reached(new);
        assert_eq!(known.until, after(200));
        known.answered(after(400), new, new);
        assert_eq!(known.until, after(400));
    }

    #[tokio::test(start_paused = true)]
    async fn news_do_not_wait_for_the_next_heartbeat() {
        let now = Instant::now();
        let mut rhythm = rhythm(now);
        rhythm.hurry(LEAST_INTERVAL);
        assert_eq!(rhythm.beat_at(), now + LEAST_INTERVAL);
        rhythm.hurry(Duration::ZERO);
        assert_eq!(rhythm.beat_at(), now);
    }
}
