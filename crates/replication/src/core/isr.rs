//! The leader's ISR: what it holds back, and what the leader asks of the controller (rules 3, 5).

use millrace_model::limits::QUICK_MEMBERS;
use millrace_model::{BrokerEpoch, BrokerId, Offset};

use super::leader::{Leader, Phase};
use super::{Core, Effects, IsrRequest, LogBounds, Moment, Omit, Progress, State};

/// The request to the controller: one at a time (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// None is under way; a further one may leave from this moment on.
    None(Moment),
    /// Sent, not answered.
    InFlight,
    /// Accepted; the image with the result is on its way.
    Accepted,
}

/// How a request to change the ISR ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrOutcome {
    /// The controller has decided so; the image will tell.
    Accepted,
    /// Refused, or nobody knows; it may still be granted if a duplicate is under way.
    Refused,
}

impl Leader {
    /// Whether every member of the ISR keeps, synced, what was there when fsync was asked for.
    fn confirms_fsync(&self, me: BrokerId, own: &LogBounds, own_synced: bool) -> bool {
        let Some(from) = self.unconfirmed else {
            return false;
        };
        let mut others = self.isr.iter().filter(|id| **id != me);
        own_synced
            && own.durable_end >= from
            && others.all(|id| {
                let follower = self.follower(*id);
                follower.is_some_and(|f| f.synced && f.durable_end >= Some(from))
            })
    }
}

impl Core {
    /// Rule 3.
    pub(super) fn move_high_watermark(&mut self, fx: &mut Effects) {
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if leader.phase == Phase::Preparing || !self.view.shows(self.me) {
            return;
        }
        if leader.isr.len() < leader.min_isr && !self.rules.omits(Omit::MinIsrGate) {
            return;
        }
        let mut minimum = self.bounds.durable_end;
        if self.rules.omits(Omit::LeaderInMinimum) {
            minimum = self.bounds.log_end;
        }
        let counts_pending = !self.rules.omits(Omit::PendingAdditions);
        for id in leader.maximal_isr() {
            if id == self.me || (!counts_pending && leader.pending.contains(&id)) {
                continue;
            }
            match leader
                .follower(id)
                .and_then(|follower| follower.durable_end)
            {
                Some(durable_end) => minimum = minimum.min(durable_end),
                None => return,
            }
        }
        if minimum > self.high_watermark {
            self.high_watermark = minimum;
            fx.high_watermark_moved = true;
            for follower in &mut leader.followers {
                if !follower.queued && !follower.advance_queued && follower.is_known() {
                    follower.advance_queued = true;
                    fx.advance.push(follower.id);
                }
            }
        }
    }

    /// Rule 5: asks for the ISR that should be, if it is not the one that is.
    pub(super) fn ask_for_isr(&mut self, now: Moment, fx: &mut Effects) {
        let State::Leader(leader) = &self.state else {
            return;
        };
        let free = matches!(leader.request, Request::None(from) if from <= now);
        if leader.phase == Phase::Preparing || !free || !self.view.shows(self.me) {
            return;
        }
        let isr = self.wanted_isr(leader, now);
        let withdraws = leader.pending.iter().any(|id| !isr.contains(id));
        let same = isr.len() == leader.isr.len() && isr.iter().all(|id| leader.isr.contains(id));
        let confirms_fsync = same && leader.confirms_fsync(self.me, &self.bounds, self.synced);
        if same && !withdraws && !confirms_fsync {
            return;
        }
        let added: Vec<BrokerId> = isr
            .iter()
            .filter(|id| !leader.isr.contains(id) && !leader.pending.contains(id))
            .copied()
            .collect();
        let incarnation = |id: BrokerId| {
            let known = if id == self.me {
                self.view.own_epoch
            } else {
                leader
                    .follower(id)
                    .and_then(|follower| follower.broker_epoch)
            };
            (id, known.unwrap_or(BrokerEpoch(-1)))
        };
        fx.isr = Some(IsrRequest {
            epoch: leader.epoch,
            partition_epoch: leader.partition_epoch,
            isr: isr.iter().map(|id| incarnation(*id)).collect(),
            confirms_fsync,
        });
        let confirmed_only = !self.rules.omits(Omit::WaitForConfirmedRemoval);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        leader.pending.extend(added);
        leader.request = Request::InFlight;
        if !confirmed_only {
            leader.isr.retain(|id| isr.contains(id));
            self.move_high_watermark(fx);
        }
    }

    fn wanted_isr(&self, leader: &Leader, now: Moment) -> Vec<BrokerId> {
        let log_end = self.bounds.log_end;
        let lags = |f: &Progress| f.lags(log_end, self.high_watermark, now, &self.rules);
        let mut isr = leader.isr.clone();
        for follower in &leader.followers {
            let removable = isr.len() > leader.min_isr && isr.contains(&follower.id);
            if removable && lags(follower) {
                isr.retain(|id| *id != follower.id);
            }
        }
        let mut needed = self.high_watermark;
        if self.rules.omits(Omit::HighWatermarkToJoin) {
            needed = Offset::ZERO;
        }
        if !self.rules.omits(Omit::EpochStartToJoin) {
            needed = needed.max(leader.epoch_start);
        }
        for follower in &leader.followers {
            let caught_up = follower.is_known() && follower.durable_end >= Some(needed);
            let outside = !leader.isr.contains(&follower.id);
            // The controller would refuse it, and what is refused may be pending for ever.
            let is_wanted =
                !follower.is_slow || leader.isr.len() < leader.min_isr.max(QUICK_MEMBERS);
            if outside && is_wanted && follower.may_join && caught_up && !lags(follower) {
                isr.push(follower.id);
            }
        }
        isr
    }

    /// The controller has answered, or did not in time. Only an image ends what may be pending.
    pub fn isr_answered(
        &mut self,
        request: &IsrRequest,
        outcome: IsrOutcome,
        now: Moment,
        fx: &mut Effects,
    ) {
        let keeps_pending = !self.rules.omits(Omit::RejectionKeepsPending);
        let backoff = self.rules.isr_backoff;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let current = (leader.epoch, leader.partition_epoch);
        if current != (request.epoch, request.partition_epoch) {
            return;
        }
        if leader.request != Request::InFlight {
            return;
        }
        leader.request = match outcome {
            IsrOutcome::Accepted => Request::Accepted,
            IsrOutcome::Refused => Request::None(now + backoff),
        };
        if outcome == IsrOutcome::Refused && !keeps_pending {
            leader.pending.clear();
            self.move_high_watermark(fx);
        }
        self.validate();
    }
}
