//! Sessions of brokers with the active controller: soft state, gone with the controller.
//!
//! Times are counted from any fixed moment of this process, by a clock that never goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, ImageVersion};

use crate::image::Image;

/// How long after its stream ended a broker may come back before it is fenced.
pub const STREAM_GRACE: Duration = Duration::from_millis(250);

/// A broker that was short of space leads again after it has had room for so long: what only just
/// fits had better not move leaders to and fro.
pub const ROOM_PROBATION: Duration = Duration::from_secs(3);

/// What it has not got back by then it gets by the ordinary balance, if at all.
const ROOM_LIMIT: Duration = Duration::from_secs(600);

/// The longest step between two moments at which the controller is known to have run; of a longer
/// one the rest is not held against the brokers.
const LONGEST_STEP: Duration = Duration::from_millis(200);

/// A controller that no majority of the quorum answered for so long hears nobody, as far as it can
/// tell: the silence of brokers is then no news of them.
const DEAF: Duration = Duration::from_millis(400);

/// After how long without a word somebody who speaks every `interval` counts as silent.
pub fn silence(interval: Duration) -> Duration {
    interval * 5 / 2
}

/// What the controller knows of one broker beside the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The registration that this is the session of.
    pub epoch: BrokerEpoch,
    /// When the broker was last heard of.
    pub last_heard: Duration,
    /// How often it means to be heard of, once it has said so.
    pub interval: Option<Duration>,
    /// When its stream ended, if it did and no other has begun.
    pub stream_ended: Option<Duration>,
    /// The version of the image that the broker has applied.
    pub image_version: ImageVersion,
    /// In controlled shutdown: the version of the image that first had it leading nothing.
    pub handed_over: Option<ImageVersion>,
    /// Since when it has room again that it lacked before, as long as it is to get back what it
    /// led.
    pub has_room_since: Option<Duration>,
}

/// The sessions of all brokers.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout: Duration,
    brokers: BTreeMap<BrokerId, Session>,
    last_step: Option<Duration>,
    /// When the newest message left that a majority of the quorum has answered.
    answered: Duration,
    /// Until when silence is not held against anybody, since this controller could not hear.
    excused_until: Duration,
}

impl Sessions {
    /// No session yet; one ends when nothing was heard for `timeout`.
    pub fn new(timeout: Duration) -> Sessions {
        Sessions {
            timeout,
            brokers: BTreeMap::new(),
            last_step: None,
            answered: Duration::ZERO,
            excused_until: Duration::ZERO,
        }
    }

    /// Begins anew when this node becomes the active controller: every broker that is not fenced
    /// gets a whole session from now.
    pub fn activate(&mut self, image: &Image, now: Duration) {
        self.brokers.clear();
        self.last_step = Some(now);
        (self.answered, self.excused_until) = (now, now);
        for broker in image.brokers().filter(|b| !b.fenced) {
            self.brokers
                .insert(broker.id, Session::new(broker.epoch, now));
        }
    }

    /// To be called whenever the controller runs, at least every 100 ms: time in which it did not
    /// run does not count against a session.
    pub fn step(&mut self, now: Duration) {
        let last = self.last_step.replace(now).unwrap_or(now);
        let lost = now.saturating_sub(last).saturating_sub(LONGEST_STEP);
        for session in self.brokers.values_mut() {
            session.last_heard += lost;
            session.stream_ended = session.stream_ended.map(|at| at + lost);
        }
    }

    /// A majority of the quorum has answered what this controller sent at `sent`: others hear it, and
    /// it hears them. What brokers did not say counts only as far as that reaches. Where it has just
    /// begun to hear again, the brokers' words may come a moment after the quorum's.
    pub fn majority_answered(&mut self, sent: Duration, now: Duration) {
        if sent > self.answered + DEAF {
            self.excused_until = now + STREAM_GRACE;
        }
        self.answered = self.answered.max(sent);
    }

    /// The broker was heard of, under this registration.
    pub fn heard(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
        version: ImageVersion,
        now: Duration,
    ) {
        let session = self.of(id, epoch, now);
        session.last_heard = session.last_heard.max(now);
        session.image_version = session.image_version.max(version);
    }

    /// A stream from the broker began. That does not make its session last longer, for it does not
    /// prove that the broker hears anything; heartbeats do, since each waits for an answer.
    pub fn stream_began(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Duration) {
        self.of(id, epoch, now).stream_ended = None;
    }

    /// The last stream from the broker ended.
    pub fn stream_ended(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Duration) {
        if let Some(session) = self.brokers.get_mut(&id).filter(|s| s.epoch == epoch) {
            session.stream_ended.get_or_insert(now);
        }
    }

    /// The broker is known to be gone, for instance because it refuses connections: its session is
    /// over now.
    pub fn gone(&mut self, id: BrokerId) {
        self.brokers.remove(&id);
    }

    /// A broker's session.
    pub fn get(&self, id: BrokerId) -> Option<&Session> {
        self.brokers.get(&id)
    }

    /// Whether the broker's session lasts.
    pub fn is_live(&self, id: BrokerId, now: Duration) -> bool {
        self.get(id).is_some_and(|s| now < s.ends(self.timeout))
    }

    /// Whether a process is at the other end of the broker's session, as far as one can tell: a
    /// second one must not take its place. After the stream has ended nobody is.
    pub fn is_taken(&self, id: BrokerId, now: Duration) -> bool {
        self.is_live(id, now) && self.get(id).is_some_and(|s| s.stream_ended.is_none())
    }

    /// The brokers to fence: not fenced in the image, and gone, or without a session that lasts
    /// though others have been heard since.
    pub fn expired(&self, image: &Image, now: Duration) -> Vec<BrokerId> {
        let serving = image.brokers().filter(|b| !b.fenced).map(|b| b.id);
        let over = |id: &BrokerId| match self.get(*id) {
            Some(session) => !self.is_live(*id, now) && self.counts(session, self.timeout / 2, now),
            None => true,
        };
        serving.filter(over).collect()
    }

    /// Whether a broker's silence is its own: a majority was heard that long after it.
    fn counts(&self, session: &Session, after: Duration, now: Duration) -> bool {
        // A stream that ended was heard to end.
        let since = session.last_heard + after;
        now >= self.excused_until && (session.stream_ended.is_some() || self.answered >= since)
    }

    /// The brokers that serve and have missed two heartbeats, though their sessions last. Nothing is
    /// decided from that: clients had better not be sent there.
    pub fn silent(&self, image: &Image, now: Duration) -> Vec<BrokerId> {
        let sessions = self.brokers.iter();
        let silent = sessions.filter(|(id, session)| {
            let most = session.patience() * 3 / 4;
            image.is_active(**id) && session.is_silent(now) && self.counts(session, most, now)
        });
        silent.map(|(id, _)| *id).collect()
    }

    /// The brokers that have had room again for a while, and did not lack it meanwhile.
    pub fn with_room_again(&self, now: Duration) -> Vec<BrokerId> {
        let back = |session: &Session| {
            let since = session.has_room_since;
            since.is_some_and(|since| (since + ROOM_PROBATION..since + ROOM_LIMIT).contains(&now))
        };
        let sessions = self.brokers.iter();
        let with_room = sessions.filter(|(_, session)| back(session));
        with_room.map(|(id, _)| *id).collect()
    }

    /// The broker has got back what it is to get back for having room.
    pub(crate) fn settled(&mut self, id: BrokerId) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.has_room_since = None;
        }
    }

    /// When the next session may end, of those that last beyond `after`.
    pub fn next_deadline(&self, after: Duration) -> Option<Duration> {
        let ends = self.brokers.values().map(|s| s.ends(self.timeout));
        ends.filter(|end| *end > after).min()
    }

    /// The lowest image version among live sessions of brokers that serve, `except` left out:
    /// what everybody knows.
    pub fn known_to_all(&self, image: &Image, except: BrokerId, now: Duration) -> ImageVersion {
        let others = self
            .brokers
            .iter()
            .filter(|(id, _)| **id != except && self.is_live(**id, now) && image.is_active(**id));
        let versions = others.map(|(_, session)| session.image_version);
        versions.min().unwrap_or(ImageVersion(u64::MAX))
    }

    /// The session of this registration; begins it if it is new.
    pub(crate) fn of(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Duration) -> &mut Session {
        let fresh = Session::new(epoch, now);
        let session = self.brokers.entry(id).or_insert_with(|| fresh.clone());
        if session.epoch != epoch {
            *session = fresh;
        }
        session
    }
}

impl Session {
    fn new(epoch: BrokerEpoch, now: Duration) -> Session {
        Session {
            epoch,
            last_heard: now,
            interval: None,
            stream_ended: None,
            image_version: ImageVersion::default(),
            handed_over: None,
            has_room_since: None,
        }
    }

    /// Whoever has said nothing at all to this controller is waited for as for the end of a stream.
    fn patience(&self) -> Duration {
        self.interval.map_or(STREAM_GRACE, silence)
    }

    fn is_silent(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_heard) > self.patience()
    }

    fn ends(&self, timeout: Duration) -> Duration {
        let silent = self.last_heard + timeout;
        let cut = self.stream_ended.map(|at| at + STREAM_GRACE);
        cut.map_or(silent, |cut| cut.min(silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BrokerId = BrokerId(1);
    const EPOCH: BrokerEpoch = BrokerEpoch(7);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sessions() -> Sessions {
        let mut sessions = Sessions::new(ms(1000));
        sessions.step(ms(0));
        sessions.heard(ID, EPOCH, ImageVersion(3), ms(0));
        sessions
    }

    #[test]
    fn silence_ends_a_session() {
        let sessions = sessions();
        assert!(sessions.is_live(ID, ms(999)));
        assert!(!sessions.is_live(ID, ms(1000)));
    }

    #[test]
    fn time_in_which_the_controller_did_not_run_does_not_count() {
        let mut sessions = sessions();
        sessions.step(ms(5000));
        assert!(sessions.is_live(ID, ms(5700)));
        assert!(!sessions.is_live(ID, ms(5800)));
    }

    #[test]
    fn the_end_of_a_stream_leaves_a_short_grace() {
        let mut sessions = sessions();
        assert!(sessions.is_taken(ID, ms(100)));
        sessions.stream_ended(ID, EPOCH, ms(100));
        assert!(sessions.is_live(ID, ms(349)));
        assert!(!sessions.is_live(ID, ms(350)));
        assert!(!sessions.is_taken(ID, ms(101)));
        sessions.stream_began(ID, EPOCH, ms(200));
        assert!(sessions.is_live(ID, ms(999)));
    }

    #[test]
    fn the_next_end_is_that_of_a_session_that_lasts() {
        let mut sessions = sessions();
        sessions.heard(BrokerId(2), EPOCH, ImageVersion(3), ms(400));
        assert_eq!(sessions.next_deadline(ms(0)), Some(ms(1000)));
        // Whoever has been silent for long is looked at no more.
        assert_eq!(sessions.next_deadline(ms(1000)), Some(ms(1400)));
        assert_eq!(sessions.next_deadline(ms(1400)), None);
    }

    #[test]
    fn a_stream_that_begins_proves_nothing() {
        let mut sessions = sessions();
        sessions.stream_ended(ID, EPOCH, ms(900));
        sessions.stream_began(ID, EPOCH, ms(910));
        assert!(sessions.is_live(ID, ms(999)) && !sessions.is_live(ID, ms(1000)));
    }

    #[test]
    fn a_new_registration_begins_a_new_session() {
        let mut sessions = sessions();
        sessions.heard(ID, BrokerEpoch(9), ImageVersion(1), ms(50));
        let session = sessions.get(ID).unwrap();
        assert_eq!(
            (session.epoch, session.image_version),
            (BrokerEpoch(9), ImageVersion(1))
        );
    }
}
