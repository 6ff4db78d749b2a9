//! What a leader knows about one follower.

use millrace_model::{BrokerEpoch, BrokerId, Offset, Planted};

use super::message::StreamId;
use super::{Moment, PeerView, Rules};

/// How the follower's log relates to the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Nothing is known: it has not joined, or under an older incarnation.
    Unknown,
    /// It was told where the logs part, and must join again.
    Parted,
    /// The follower's log is a beginning of the leader's.
    Known {
        stream: StreamId,
        round: u32,
        /// Everything below was sent on this stream, or was there when it joined.
        sent_end: Offset,
        /// Whether the join was answered.
        answered: bool,
    },
}

/// One follower, as its leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) id: BrokerId,
    /// Its incarnation in the leader's image.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// Neither fenced nor shutting down, in the leader's image.
    pub(crate) may_join: bool,
    /// One of its disks is slow.
    pub(crate) is_slow: bool,
    pub(crate) state: Match,
    /// What it said it keeps; stays known when a stream breaks, not across incarnations.
    pub(crate) durable_end: Option<Offset>,
    /// Whether that was said of synced data.
    pub(crate) synced: bool,
    /// Where it said its log begins.
    pub(crate) log_start: Option<Offset>,
    /// Whether the controller has fenced it, or it is not registered.
    pub(crate) is_gone: bool,
    /// The high watermark and log start it was told.
    pub(crate) told: (Offset, Offset),
    /// Whether a push is under way already, so that it need not be asked for again.
    pub(crate) queued: bool,
    /// Whether it is going to be told of a moved high watermark before long.
    pub(crate) advance_queued: bool,
    /// It had everything the leader had at this moment (rule 5).
    pub(crate) caught_up: Moment,
    /// The leader's log end at an earlier moment; reaching it moves `caught_up` there.
    mark: (Offset, Moment),
    /// When its durable end last moved, or when data became outstanding.
    moved: Moment,
}

impl Progress {
    pub(crate) fn new(id: BrokerId, log_end: Offset, now: Moment) -> Progress {
        Progress {
            id,
            broker_epoch: None,
            may_join: false,
            is_slow: false,
            state: Match::Unknown,
            durable_end: None,
            synced: false,
            log_start: None,
            is_gone: true,
            told: (Offset(-1), Offset(-1)),
            queued: false,
            advance_queued: false,
            caught_up: now,
            mark: (log_end, now),
            moved: now,
        }
    }

    /// Takes over what the image says; a new incarnation has proved nothing yet (rule 2).
    pub(crate) fn see(&mut self, peer: Option<&PeerView>, forget: bool) {
        let broker_epoch = peer.map(|peer| peer.epoch);
        if broker_epoch != self.broker_epoch {
            self.broker_epoch = broker_epoch;
            if forget {
                self.state = Match::Unknown;
                self.durable_end = None;
                self.synced = false;
                self.log_start = None;
                self.queued = false;
                self.advance_queued = false;
            }
        }
        self.may_join = peer.is_some_and(|peer| !peer.fenced && !peer.shutting_down)
            || Planted::FencedJoins.is_here();
        self.is_slow = peer.is_some_and(|peer| peer.slow);
        self.is_gone = peer.is_none_or(|peer| peer.fenced);
    }

    pub(crate) fn is_known(&self) -> bool {
        matches!(self.state, Match::Known { .. })
    }

    /// The leader's log grew from `before`.
    pub(crate) fn leader_appended(&mut self, before: Offset, now: Moment) {
        if self.durable_end == Some(before) {
            self.caught_up = now;
            self.moved = now;
        }
    }

    /// The follower keeps everything below `durable_end`.
    pub(crate) fn acknowledged(&mut self, durable_end: Offset, log_end: Offset, now: Moment) {
        if self.durable_end.is_none_or(|before| before < durable_end) {
            self.durable_end = Some(durable_end);
            self.moved = now;
        }
        if durable_end >= log_end {
            self.caught_up = now;
            self.mark = (log_end, now);
        } else if durable_end >= self.mark.0 {
            self.caught_up = self.caught_up.max(self.mark.1);
            self.mark = (log_end, now);
        }
    }

    /// Whether it should leave the ISR (rule 5).
    pub(crate) fn lags(&self, log_end: Offset, hw: Offset, now: Moment, rules: &Rules) -> bool {
        if self.durable_end == Some(log_end) {
            return false;
        }
        let outstanding = self.durable_end.is_some() || log_end > hw;
        let silent = outstanding && now.saturating_sub(self.moved) > rules.session;
        silent || now.saturating_sub(self.caught_up) > rules.lag_max
    }
}
