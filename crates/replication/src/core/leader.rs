//! The leader side: rules 1 to 5.

use millrace_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, Planted};

use super::isr::Request;
use super::message::{Ack, Address, Join, Progressed, Refuse, StreamId, Truncate, Why};
use super::{
    Core, Effects, Job, Lead, LogBounds, LogView, Match, Moment, Omit, Progress, State, View,
};

/// Whether a leader serves already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its log is being made durable.
    Preparing,
    /// It appends and answers.
    Serving,
}

/// A leadership.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Leader {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) partition_epoch: PartitionEpoch,
    /// The log end when this leadership began.
    pub(crate) epoch_start: Offset,
    pub(crate) phase: Phase,
    pub(crate) replicas: Vec<BrokerId>,
    /// The committed ISR, from the image alone.
    pub(crate) isr: Vec<BrokerId>,
    pub(crate) elr: Vec<BrokerId>,
    pub(crate) min_isr: usize,
    /// Additions asked for at this partition epoch; any may still be granted (rule 3).
    pub(crate) pending: Vec<BrokerId>,
    pub(crate) request: Request,
    /// Where the log ended when fsync was asked for, as long as the controller counts the
    /// partition as page-cache.
    pub(crate) unconfirmed: Option<Offset>,
    pub(crate) followers: Vec<Progress>,
}

/// What to send to a follower next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing.
    Nothing,
    /// The log from `from`; `Core::sent` before it leaves.
    Batches {
        /// Goes into the message.
        address: Address,
        /// Goes into the message.
        progressed: Progressed,
        /// The offset that follows what was sent.
        from: Offset,
        /// The log end.
        upper: Offset,
    },
    /// No batches are to be sent.
    Advance {
        /// Goes into the message.
        address: Address,
        /// Goes into the message.
        progressed: Progressed,
    },
}

impl Leader {
    fn new(lead: Lead, log_end: Offset) -> Leader {
        Leader {
            epoch: lead.epoch,
            partition_epoch: lead.partition_epoch,
            epoch_start: log_end,
            phase: Phase::Preparing,
            replicas: lead.replicas,
            isr: lead.isr,
            elr: lead.elr,
            min_isr: lead.min_isr,
            pending: Vec::new(),
            request: Request::None(Moment::ZERO),
            unconfirmed: lead.confirm_fsync.then_some(log_end),
            followers: Vec::new(),
        }
    }

    /// Takes over what an image says of the followers; true if one of them is gone now.
    pub(crate) fn see_peers(&mut self, view: &View, forget: bool) -> bool {
        let mut any_gone = false;
        for follower in &mut self.followers {
            let was_gone = follower.is_gone;
            follower.see(view.brokers.get(&follower.id), forget);
            any_gone |= follower.is_gone && !was_gone;
        }
        any_gone
    }

    fn keep_followers(&mut self, me: BrokerId, view: &View, log_end: Offset, now: Moment) {
        let replicas = &self.replicas;
        self.followers
            .retain(|follower| replicas.contains(&follower.id));
        for id in replicas {
            if *id != me && self.followers.iter().all(|follower| follower.id != *id) {
                let mut progress = Progress::new(*id, log_end, now);
                progress.see(view.brokers.get(id), true);
                self.followers.push(progress);
            }
        }
    }

    pub(crate) fn follower(&self, id: BrokerId) -> Option<&Progress> {
        self.followers.iter().find(|follower| follower.id == id)
    }

    fn follower_mut(&mut self, id: BrokerId) -> Option<&mut Progress> {
        self.followers.iter_mut().find(|follower| follower.id == id)
    }

    /// The committed ISR and every addition that may yet be granted.
    pub(crate) fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> {
        self.isr.iter().chain(&self.pending).copied()
    }

    /// Whether somebody else could be elected, so that silence means being cut off (rule 1).
    pub(crate) fn is_replaceable(&self, me: BrokerId) -> bool {
        self.isr.iter().chain(&self.elr).any(|id| *id != me)
    }

    /// Whether a follower may come to lag too far, a caller may give up waiting, or a request must
    /// wait for its moment. All else that changes the ISR is an event of its own.
    pub(crate) fn needs_time(&self, log_end: Offset, high_watermark: Offset, now: Moment) -> bool {
        let waits = matches!(self.request, Request::None(from) if from > now);
        let lacks = |follower: &Progress| follower.durable_end != Some(log_end);
        let counts = |follower: &Progress| follower.may_join || self.isr.contains(&follower.id);
        waits
            || self.unconfirmed.is_some()
            || high_watermark != log_end
            || self.followers.iter().any(|f| lacks(f) && counts(f))
    }

    pub(crate) fn validate(&self, me: BrokerId, bounds: &LogBounds) {
        assert!(self.isr.contains(&me), "a leader outside its ISR");
        assert!(
            self.epoch_start <= bounds.log_end,
            "a leader's log became shorter"
        );
        for id in &self.pending {
            assert!(
                !self.isr.contains(id),
                "an addition that was granted is still pending"
            );
        }
        for follower in &self.followers {
            if let Match::Known { sent_end, .. } = follower.state {
                assert!(sent_end <= bounds.log_end, "sent what is not there");
            }
        }
    }
}

/// Asks for a push to a follower, unless one is under way.
fn push(follower: &mut Progress, fx: &mut Effects) {
    if !follower.queued && follower.is_known() {
        follower.queued = true;
        fx.push.push(follower.id);
    }
}

impl Core {
    /// Takes the leadership over (rule 1).
    pub(super) fn lead(&mut self, lead: Lead, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        self.look_at(log);
        let log_end = self.bounds.log_end;
        let mut leader = Leader::new(lead, log_end);
        leader.keep_followers(self.me, &self.view, log_end, now);
        let epoch = leader.epoch;
        self.become_state(State::Leader(Box::new(leader)), fx);
        if self.epoch() == epoch {
            fx.start_epoch = Some(epoch);
            fx.job = Some(Job::MakeDurable(epoch));
        }
    }

    /// The log of a new leader is durable: it serves.
    pub(super) fn serve(
        &mut self,
        epoch: LeaderEpoch,
        log: &dyn LogView,
        now: Moment,
        fx: &mut Effects,
    ) {
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if leader.epoch == epoch && leader.phase == Phase::Preparing {
            leader.phase = Phase::Serving;
            self.look_at(log);
            fx.role_changed = true;
            self.move_high_watermark(fx);
            self.ask_for_isr(now, fx);
        }
    }

    /// A newer image of the own leadership: the committed ISR moves, forward only (rule 3).
    pub(super) fn leader_image(&mut self, lead: Lead, now: Moment, fx: &mut Effects) {
        let log_end = self.bounds.log_end;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if lead.partition_epoch > leader.partition_epoch {
            // Whatever was asked for at the older epoch can no longer be granted.
            leader.partition_epoch = lead.partition_epoch;
            leader.pending.clear();
            leader.request = Request::None(now);
            leader.isr = lead.isr;
            leader.elr = lead.elr;
            leader.replicas = lead.replicas;
            leader.keep_followers(self.me, &self.view, log_end, now);
        }
        leader.min_isr = lead.min_isr;
        let from = leader.unconfirmed.unwrap_or(log_end);
        leader.unconfirmed = lead.confirm_fsync.then_some(from);
        self.move_high_watermark(fx);
        self.ask_for_isr(now, fx);
    }

    pub(super) fn leader_log_moved(&mut self, before: LogBounds, now: Moment, fx: &mut Effects) {
        let bounds = self.bounds;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if bounds.log_end != before.log_end {
            for follower in &mut leader.followers {
                follower.leader_appended(before.log_end, now);
                push(follower, fx);
            }
        }
        if bounds.log_start != before.log_start {
            for follower in &mut leader.followers {
                push(follower, fx);
            }
        }
        if bounds.durable_end != before.durable_end {
            self.move_high_watermark(fx);
        }
        if matches!(&self.state, State::Leader(leader) if leader.unconfirmed.is_some()) {
            self.ask_for_isr(now, fx);
        }
    }

    /// A follower introduces its log (rule 2).
    pub fn join(&mut self, from: BrokerId, join: Join, log: &dyn LogView, fx: &mut Effects) {
        let known = self.epoch();
        let mut refuse = |why| {
            fx.refuse = Some((from, join.stream, Refuse { why, epoch: known }));
        };
        let State::Leader(leader) = &mut self.state else {
            return refuse(Why::WrongEpoch);
        };
        if join.epoch != leader.epoch {
            return refuse(Why::WrongEpoch);
        }
        let Some(follower) = leader.follower_mut(from) else {
            return refuse(Why::WrongEpoch);
        };
        if follower.broker_epoch != Some(join.broker_epoch) {
            return refuse(Why::WrongIncarnation);
        }
        // A join that was overtaken by a later one of the same process says nothing new.
        if let Match::Known { stream, round, .. } = follower.state
            && (stream, round) >= (join.stream, join.round)
        {
            return;
        }
        follower.queued = false;
        follower.advance_queued = false;
        match parting(&join, log) {
            Some(truncate) => {
                follower.state = Match::Parted;
                let Join {
                    stream,
                    broker_epoch,
                    epoch,
                    round,
                    ..
                } = join;
                fx.truncate = Some((
                    from,
                    Address {
                        stream,
                        broker_epoch,
                        epoch,
                        round,
                    },
                    truncate,
                ));
            }
            None => {
                follower.state = Match::Known {
                    stream: join.stream,
                    round: join.round,
                    sent_end: join.log_end,
                    answered: false,
                };
                push(follower, fx);
            }
        }
        self.validate();
    }

    /// A follower keeps its log up to there (rules 2, 3 and 5).
    pub fn ack(&mut self, from: BrokerId, ack: Ack, now: Moment, fx: &mut Effects) {
        let log_end = self.bounds.log_end;
        let check_incarnation = !self.rules.omits(Omit::LeaderChecksAckIncarnation);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if ack.epoch != leader.epoch {
            return;
        }
        let Some(follower) = leader.follower_mut(from) else {
            return;
        };
        let current = follower.broker_epoch == Some(ack.broker_epoch) || !check_incarnation;
        if !current || !follower.is_known() || ack.durable_end > log_end {
            return;
        }
        follower.synced = ack.synced;
        if follower.log_start < Some(ack.log_start) {
            follower.log_start = Some(ack.log_start);
            fx.low_watermark_moved = true;
        }
        follower.acknowledged(ack.durable_end, log_end, now);
        self.move_high_watermark(fx);
        let State::Leader(leader) = &self.state else {
            return;
        };
        if !leader.isr.contains(&from) || leader.unconfirmed.is_some() {
            self.ask_for_isr(now, fx);
        }
        self.validate();
    }

    /// A follower cannot obey; nothing is sent to it until it joins again.
    pub fn follower_refused(&mut self, from: BrokerId, epoch: LeaderEpoch) {
        if let State::Leader(leader) = &mut self.state
            && leader.epoch == epoch
            && let Some(follower) = leader.follower_mut(from)
        {
            follower.state = Match::Unknown;
            follower.queued = false;
        }
    }

    /// What a follower would need is no longer in the log: it is told to join again, and then
    /// begins anew (rule 9).
    pub fn out_of_range(&mut self, to: BrokerId, stream: StreamId, fx: &mut Effects) {
        let epoch = self.epoch();
        self.follower_refused(to, epoch);
        fx.refuse = Some((
            to,
            stream,
            Refuse {
                why: Why::WrongEpoch,
                epoch,
            },
        ));
    }

    /// What to send to a follower that was named in [`Effects::push`] or [`Effects::advance`].
    pub fn next_for(&mut self, to: BrokerId, stream: StreamId) -> Outgoing {
        let upper = self.bounds.log_end;
        let progressed = self.progressed();
        let State::Leader(leader) = &mut self.state else {
            return Outgoing::Nothing;
        };
        let epoch = leader.epoch;
        let Some(follower) = leader.follower_mut(to) else {
            return Outgoing::Nothing;
        };
        let Match::Known {
            stream: known,
            round,
            sent_end,
            answered,
        } = &mut follower.state
        else {
            return Outgoing::Nothing;
        };
        if *known != stream {
            return Outgoing::Nothing;
        }
        follower.advance_queued = false;
        let broker_epoch = follower.broker_epoch.unwrap_or(BrokerEpoch(-1));
        let address = Address {
            stream,
            broker_epoch,
            epoch,
            round: *round,
        };
        let tell = (progressed.high_watermark, progressed.log_start);
        if *sent_end < upper {
            // Stays queued: `sent` tells whether there is more.
            follower.told = tell;
            follower.queued = true;
            return Outgoing::Batches {
                address,
                progressed,
                from: *sent_end,
                upper,
            };
        }
        follower.queued = false;
        if !*answered || follower.told != tell {
            *answered = true;
            follower.told = tell;
            return Outgoing::Advance {
                address,
                progressed,
            };
        }
        Outgoing::Nothing
    }

    /// Batches up to `end` are about to leave for a follower. False if they must not: the role has
    /// changed since they were read, and they may be another leader's. `more` says to ask again.
    pub fn sent(&mut self, to: BrokerId, address: Address, end: Offset, more: &mut bool) -> bool {
        let upper = self.bounds.log_end;
        let told = self.progressed();
        let State::Leader(leader) = &mut self.state else {
            return false;
        };
        if leader.epoch != address.epoch {
            return false;
        }
        let Some(follower) = leader.follower_mut(to) else {
            return false;
        };
        let Match::Known {
            stream,
            round,
            sent_end,
            answered,
        } = &mut follower.state
        else {
            return false;
        };
        if (*stream, *round) != (address.stream, address.round) || end <= *sent_end {
            return false;
        }
        *sent_end = end;
        *answered = true;
        *more = end < upper || follower.told != (told.high_watermark, told.log_start);
        follower.queued = *more;
        true
    }

    /// The stream by which a follower joined, while its log is known to match.
    pub fn stream_to(&self, id: BrokerId) -> Option<StreamId> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        match leader.follower(id)?.state {
            Match::Known { stream, .. } => Some(stream),
            Match::Unknown | Match::Parted => None,
        }
    }

    /// Everything that was sent to this follower is durable there.
    pub fn has_acknowledged_all_sent(&self, id: BrokerId) -> bool {
        let State::Leader(leader) = &self.state else {
            return true;
        };
        leader
            .follower(id)
            .is_none_or(|follower| match follower.state {
                Match::Known { sent_end, .. } => follower.durable_end >= Some(sent_end),
                _ => true,
            })
    }

    /// The offset before which no live replica has records any more (Kafka method
    /// `Partition.lowWatermarkIfLeader`); `None` on a broker that does not lead, and as long as a
    /// live replica has not said where its log begins.
    pub fn low_watermark(&self, log: &dyn LogView) -> Option<Offset> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        let mut lowest = log.durable_start();
        for follower in leader.followers.iter().filter(|follower| !follower.is_gone) {
            lowest = lowest.min(follower.log_start?);
        }
        Some(lowest)
    }

    fn progressed(&self) -> Progressed {
        Progressed {
            high_watermark: self.high_watermark,
            log_start: self.bounds.log_start,
        }
    }

    /// Whether the replica leads and serves, by an image that shows this incarnation (rule 1).
    pub fn serving(&self) -> Option<LeaderEpoch> {
        match &self.state {
            State::Leader(leader) if leader.phase == Phase::Serving && self.view.shows(self.me) => {
                Some(leader.epoch)
            }
            _ => None,
        }
    }
}

/// Where the follower must cut its log; `None` if it is a beginning of the leader's.
fn parting(join: &Join, log: &dyn LogView) -> Option<Truncate> {
    if Planted::NoDivergenceCheck.is_here() && join.log_end <= log.bounds().log_end {
        return None;
    }
    let LogBounds {
        log_start, log_end, ..
    } = log.bounds();
    let restart = Truncate {
        epoch: LeaderEpoch::NONE,
        end: log_start,
        log_start,
    };
    if join.log_end < log_start {
        return Some(restart);
    }
    if join.last_epoch == LeaderEpoch::NONE {
        let empty = join.log_end == join.log_start;
        return if empty && join.log_end <= log_end {
            None
        } else {
            Some(restart)
        };
    }
    let (epoch, end) = log.end_offset_for(join.last_epoch);
    if epoch == LeaderEpoch::NONE {
        return Some(restart);
    }
    let is_beginning = epoch == join.last_epoch && join.log_end <= end;
    (!is_beginning).then_some(Truncate {
        epoch,
        end,
        log_start,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use millrace_model::{PartitionId, TopicId, Uuid};

    use super::*;
    use crate::core::{IsrOutcome, Part, PeerView, Rules};

    /// A log of so many records, all of them durable.
    struct Records(i64);

    impl LogView for Records {
        fn bounds(&self) -> LogBounds {
            LogBounds {
                log_start: Offset::ZERO,
                log_end: Offset(self.0),
                durable_end: Offset(self.0),
            }
        }

        fn last_epoch(&self) -> LeaderEpoch {
            LeaderEpoch(3)
        }

        fn end_offset_for(&self, _: LeaderEpoch) -> (LeaderEpoch, Offset) {
            (LeaderEpoch(3), Offset(self.0))
        }
    }

    const FOLLOWER: BrokerId = BrokerId(2);
    const LATER: Moment = Duration::from_secs(1);

    fn peer(epoch: i64) -> PeerView {
        PeerView {
            epoch: BrokerEpoch(epoch),
            fenced: false,
            shutting_down: false,
            slow: false,
        }
    }

    /// Broker 1 leads with broker 2 in sync; both logs are empty.
    fn leader() -> Core {
        let view = View {
            own_epoch: Some(BrokerEpoch(11)),
            brokers: [(BrokerId(1), peer(11)), (FOLLOWER, peer(12))].into(),
        };
        let id = PartitionId {
            topic: TopicId(Uuid([1; 16])),
            index: 0,
        };
        let mut core = Core::new(id, BrokerId(1), Rules::default(), Arc::new(view));
        let (log, now, mut fx) = (Records(0), Moment::ZERO, Effects::default());
        core.opened(&log, Offset::ZERO, now, &mut fx);
        let lead = Lead {
            epoch: LeaderEpoch(3),
            replicas: vec![BrokerId(1), FOLLOWER],
            isr: vec![BrokerId(1), FOLLOWER],
            min_isr: 1,
            ..Lead::default()
        };
        core.assign(Part::Lead(lead), &log, now, &mut fx);
        core.job_done(Job::MakeDurable(LeaderEpoch(3)), &log, now, &mut fx);
        let join = Join {
            stream: StreamId(7),
            broker_epoch: BrokerEpoch(12),
            epoch: LeaderEpoch(3),
            round: 1,
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            last_epoch: LeaderEpoch::NONE,
        };
        core.join(FOLLOWER, join, &log, &mut fx);
        acknowledge(&mut core, 0);
        core
    }

    fn acknowledge(core: &mut Core, end: i64) {
        let ack = Ack {
            broker_epoch: BrokerEpoch(12),
            epoch: LeaderEpoch(3),
            durable_end: Offset(end),
            log_start: Offset::ZERO,
            synced: true,
        };
        core.ack(FOLLOWER, ack, LATER, &mut Effects::default());
    }

    #[test]
    fn time_matters_while_a_follower_lacks_something() {
        let mut core = leader();
        assert!(!core.needs_time(LATER), "nothing is to be waited for");
        core.log_moved(&Records(1), LATER, &mut Effects::default());
        assert!(core.needs_time(LATER), "the follower may come to lag");
        acknowledge(&mut core, 1);
        assert!(!core.needs_time(LATER));
    }

    #[test]
    fn time_matters_until_a_refused_request_may_be_repeated() {
        let mut core = leader();
        core.log_moved(&Records(1), LATER, &mut Effects::default());
        let (late, mut fx) = (LATER * 100, Effects::default());
        core.tick(late, &mut fx);
        let request = fx.isr.expect("the silent follower is to leave the ISR");
        acknowledge(&mut core, 1);
        core.isr_answered(&request, IsrOutcome::Refused, late, &mut Effects::default());
        assert!(core.needs_time(late));
        assert!(!core.needs_time(late + LATER * 100));
    }
}
