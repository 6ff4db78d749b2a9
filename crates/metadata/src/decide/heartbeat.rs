//! Heartbeats: they keep a session alive, and carry what a broker wants (KIP-631).

use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, DirectoryId, ImageVersion};

use super::controlled_shutdown::has_to_wait;
use super::{Decision, Draft, Refusal, check_broker_epoch};
use crate::image::Image;
use crate::sessions::Sessions;

/// What a broker tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which broker.
    pub id: BrokerId,
    /// Under which registration.
    pub epoch: BrokerEpoch,
    /// The version of the image it has applied.
    pub image_version: ImageVersion,
    /// How often it sends one.
    pub interval: Duration,
    /// It wants to be fenced, or is not ready to be unfenced.
    pub wants_fence: bool,
    /// It wants to stop.
    pub wants_shutdown: bool,
    /// Its directories that have failed.
    pub offline_directories: Vec<DirectoryId>,
    /// Its directories that are short of space.
    pub short_directories: Vec<DirectoryId>,
    /// Its directories whose syncs take long.
    pub slow_directories: Vec<DirectoryId>,
}

/// What a broker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Whether its image holds its own registration.
    pub caught_up: bool,
    /// Whether it is fenced.
    pub fenced: bool,
    /// Whether it hands over what it leads.
    pub shutting_down: bool,
    /// It may stop: nobody relies on it any more.
    pub should_stop: bool,
}

/// Takes a heartbeat: keeps the session, unfences a broker whose image holds its registration,
/// fences or shuts it down at its wish, and marks failed directories, those short of space and slow
/// ones.
///
/// Refuses with STALE_BROKER_EPOCH what does not come under the current registration.
pub fn heartbeat(
    image: &Image,
    sessions: &mut Sessions,
    beat: &Heartbeat,
    now: Duration,
) -> Decision<Result<HeartbeatReply, Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, beat.id, beat.epoch) {
        return Decision::unchanged(Err(refusal));
    }
    sessions.heard(beat.id, beat.epoch, beat.image_version, now);
    sessions.of(beat.id, beat.epoch, now).interval = Some(beat.interval);
    let mut draft = Draft::of(image);
    draft.fail_directories(beat.id, &beat.offline_directories);
    let (short, slow) = (&beat.short_directories, &beat.slow_directories);
    let changed = draft.note_condition(beat.id, short, slow);
    if let Some(gained) = changed {
        sessions.of(beat.id, beat.epoch, now).has_room_since = gained.then_some(now);
    }
    let should_stop = draft.next_state(sessions, beat, now);
    let broker = draft.image.broker(beat.id).expect("its epoch was checked");
    let reply = HeartbeatReply {
        caught_up: beat.image_version >= broker.registered_at,
        fenced: broker.fenced,
        shutting_down: broker.shutting_down,
        should_stop,
    };
    draft.finish(Ok(reply))
}

impl Draft {
    /// Fences, unfences or shuts down (Kafka method `calculateNextBrokerState`); tells whether the
    /// broker may stop.
    fn next_state(&mut self, sessions: &mut Sessions, beat: &Heartbeat, now: Duration) -> bool {
        let id = beat.id;
        let broker = self.image.broker(id).expect("its epoch was checked");
        if broker.fenced {
            if beat.wants_shutdown {
                return true;
            }
            if !beat.wants_fence && beat.image_version >= broker.registered_at {
                self.unfence(id);
            }
            return false;
        }
        if beat.wants_fence {
            self.fence(id);
            return beat.wants_shutdown;
        }
        let stops = beat.wants_shutdown || broker.shutting_down;
        if stops && self.may_stop(sessions, beat, now) {
            self.fence(id);
            return true;
        }
        false
    }

    /// Hands over what the broker leads. It may stop once every other broker knows that there is
    /// nothing left, so that no client is sent to it any more.
    fn may_stop(&mut self, sessions: &mut Sessions, beat: &Heartbeat, now: Duration) -> bool {
        let led_before = self.image.load(beat.id).leaders;
        let image = self.image.clone();
        self.hand_over(beat.id);
        if has_to_wait(&self.image, beat.id) {
            return false;
        }
        let led_after = self.image.load(beat.id).leaders;
        if led_after < led_before {
            return false;
        }
        let version = image.version();
        let session = sessions.of(beat.id, beat.epoch, now);
        let handed_over = *session.handed_over.get_or_insert(version);
        sessions.known_to_all(&image, beat.id, now) >= handed_over
    }
}
