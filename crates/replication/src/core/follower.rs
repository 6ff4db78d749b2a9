//! The follower side: rules 6 to 9.

use millrace_model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, Planted};

use super::message::{Ack, Address, Join, Progressed, Refuse, StreamId, Truncate, Why};
use super::{Core, Effects, Follow, Job, LogBounds, LogView, Omit, State};

/// What a follower acknowledged: up to where, and whether that was synced.
pub(crate) type Kept = (Offset, bool, Offset);

/// Where a follower stands with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No stream to the leader.
    Detached,
    /// Asked; nothing is acknowledged until the answer is there (rule 8).
    Joining {
        stream: StreamId,
        /// What was acknowledged on this stream, in an earlier round.
        acked: Option<Kept>,
    },
    /// The logs match.
    Following {
        stream: StreamId,
        acked: Option<Kept>,
    },
    /// Cutting its log; joins again by this stream, if it still lives.
    Truncating { stream: StreamId },
}

/// Following.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Follower {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) partition_epoch: PartitionEpoch,
    pub(crate) counted_on: bool,
    /// It has joined in this leadership, so the leader may know of it.
    pub(crate) joined: bool,
    pub(crate) stage: Stage,
}

impl Follower {
    pub(crate) fn new(follow: Follow) -> Follower {
        Follower {
            leader: follow.leader,
            epoch: follow.epoch,
            partition_epoch: follow.partition_epoch,
            counted_on: follow.counted_on,
            joined: false,
            stage: Stage::Detached,
        }
    }

    pub(crate) fn detach(&mut self) {
        self.stage = Stage::Detached;
    }

    fn stream(&self) -> Option<StreamId> {
        match self.stage {
            Stage::Detached => None,
            Stage::Joining { stream, .. }
            | Stage::Following { stream, .. }
            | Stage::Truncating { stream } => Some(stream),
        }
    }

    pub(crate) fn validate(&self, bounds: &LogBounds, job: Option<Job>) {
        if let Stage::Following {
            acked: Some((acked, ..)),
            ..
        } = self.stage
        {
            assert!(acked <= bounds.log_end, "acknowledged what is not there");
            assert!(
                job.is_none(),
                "a follower whose log is being changed acknowledges"
            );
        }
    }
}

impl Core {
    /// A stream to the leader is there: the follower joins. Ignored if it uses it already.
    pub fn attach(
        &mut self,
        leader: BrokerId,
        stream: StreamId,
        log: &dyn LogView,
        fx: &mut Effects,
    ) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        if follower.leader != Some(leader) || follower.stream() >= Some(stream) {
            return;
        }
        if Planted::TruncateToHighWatermark.is_here() && self.job.is_none() {
            self.look_at(log);
            if self.high_watermark < self.bounds.log_end {
                self.job = Some(Job::Cut(self.high_watermark.max(self.bounds.log_start)));
                fx.job = self.job;
            }
        }
        self.mend(log, fx);
        if self.job.is_some() {
            // The job's end joins.
            self.set_stage(Stage::Truncating { stream });
        } else {
            self.send_join(stream, None, log, fx);
        }
    }

    /// The stream has ended.
    pub fn detach(&mut self, stream: StreamId) {
        if let State::Follower(follower) = &mut self.state
            && follower.stream() == Some(stream)
        {
            follower.stage = Stage::Detached;
        }
    }

    /// Joins once more by the same stream, after a refusal or a gap.
    pub fn retry_join(&mut self, log: &dyn LogView, fx: &mut Effects) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        if let Stage::Joining { stream, acked } = follower.stage
            && self.job.is_none()
        {
            self.send_join(stream, acked, log, fx);
        }
    }

    pub(super) fn rejoin_after_cut(&mut self, log: &dyn LogView, fx: &mut Effects) {
        if let State::Follower(follower) = &self.state
            && let Stage::Truncating { stream } = follower.stage
            && self.job.is_none()
        {
            self.send_join(stream, None, log, fx);
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let State::Follower(follower) = &mut self.state {
            follower.stage = stage;
        }
    }

    fn send_join(
        &mut self,
        stream: StreamId,
        acked: Option<Kept>,
        log: &dyn LogView,
        fx: &mut Effects,
    ) {
        let (Some((leader, epoch)), Some(broker_epoch)) = (self.following(), self.view.own_epoch)
        else {
            return;
        };
        self.rounds += 1;
        self.look_at(log);
        let LogBounds {
            log_start, log_end, ..
        } = self.bounds;
        let last_epoch = log.last_epoch();
        let round = self.rounds;
        self.set_stage(Stage::Joining { stream, acked });
        if let State::Follower(follower) = &mut self.state {
            follower.joined = true;
        }
        let join = Join {
            stream,
            broker_epoch,
            epoch,
            round,
            log_start,
            log_end,
            last_epoch,
        };
        fx.join = Some((leader, join));
    }

    /// Whether a message from a leader is to be obeyed (rules 6 and 16).
    pub(crate) fn obeys(&self, from: BrokerId, address: &Address) -> bool {
        let State::Follower(follower) = &self.state else {
            return false;
        };
        let stale = self.rules.omits(Omit::FollowerChecksEpoch);
        let epoch = address.epoch == follower.epoch && follower.leader == Some(from);
        let stream = Some(address.stream) == follower.stream();
        let answers = stream && address.round == self.rounds;
        let incarnation = Some(address.broker_epoch) == self.view.own_epoch;
        // Within one process the round implies the epoch, so tests leave both out together.
        ((epoch && answers) || stale)
            && (incarnation || self.rules.omits(Omit::FollowerChecksIncarnation))
            && self.job.is_none()
    }

    /// Whether batches from `base` on are to be appended now; the caller appends them under the
    /// same lock, then calls [`Core::followed`].
    pub fn may_follow(
        &mut self,
        from: BrokerId,
        address: &Address,
        base: Offset,
        fx: &mut Effects,
    ) -> bool {
        if !self.obeys(from, address) {
            return false;
        }
        let log_end = self.bounds.log_end;
        if base > log_end && !self.rules.omits(Omit::BaseEqualsLogEnd) {
            // Something between was lost: agree anew where to go on.
            self.join_later(fx);
        }
        base == log_end || self.rules.omits(Omit::BaseEqualsLogEnd)
    }

    fn join_later(&mut self, fx: &mut Effects) {
        if let State::Follower(follower) = &mut self.state
            && let Stage::Following { stream, acked } | Stage::Joining { stream, acked } =
                follower.stage
        {
            follower.stage = Stage::Joining { stream, acked };
            // Answers to the join before are of no use any more.
            self.rounds += 1;
            fx.retry_join = true;
        }
    }

    /// The leader has answered, with batches that are appended by now or without: the logs match,
    /// so the follower acknowledges and takes the high watermark over (rules 8 and 9).
    pub fn followed(
        &mut self,
        from: BrokerId,
        address: &Address,
        progressed: Progressed,
        log: &dyn LogView,
        fx: &mut Effects,
    ) {
        if !self.obeys(from, address) {
            return;
        }
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        if let Stage::Joining { stream, acked } = follower.stage {
            follower.stage = Stage::Following { stream, acked };
        }
        self.look_at(log);
        let hint = progressed.high_watermark.min(self.bounds.log_end);
        if hint > self.high_watermark {
            self.high_watermark = hint;
            fx.high_watermark_moved = true;
        }
        self.high_watermark = self.high_watermark.max(self.bounds.log_start);
        self.acknowledge(log, fx);
        self.validate();
    }

    /// The batches could not be appended: the leader is told, and a join follows after a pause.
    pub fn append_failed(&mut self, fx: &mut Effects) {
        let Some((leader, epoch)) = self.following() else {
            return;
        };
        if let State::Follower(follower) = &self.state
            && let Some(stream) = follower.stream()
        {
            fx.cannot_follow = Some((
                leader,
                stream,
                Refuse {
                    why: Why::Storage,
                    epoch,
                },
            ));
        }
        self.join_later(fx);
    }

    /// Acknowledges what is durable, once the logs are known to match (rule 8).
    pub(super) fn acknowledge(&mut self, log: &dyn LogView, fx: &mut Effects) {
        let durable_only = !self.rules.omits(Omit::DurableOnlyAcks);
        let any_stage = self.rules.omits(Omit::AnswerBeforeAck);
        let LogBounds {
            durable_end,
            log_end,
            ..
        } = self.bounds;
        let Some(broker_epoch) = self.view.own_epoch else {
            return;
        };
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        if any_stage && let Stage::Joining { stream, acked } = follower.stage {
            follower.stage = Stage::Following { stream, acked };
        }
        let (Stage::Following { stream, acked }, Some(leader)) =
            (&mut follower.stage, follower.leader)
        else {
            return;
        };
        let durable_end = if durable_only { durable_end } else { log_end };
        let (synced, log_start) = (log.synced(), log.durable_start());
        let said = |(end, was_synced, start): Kept| {
            end >= durable_end && was_synced == synced && start >= log_start
        };
        if acked.is_some_and(said) {
            return;
        }
        *acked = Some((durable_end, synced, log_start));
        let epoch = follower.epoch;
        fx.ack = Some((
            leader,
            *stream,
            Ack {
                broker_epoch,
                epoch,
                durable_end,
                synced,
                log_start,
            },
        ));
    }

    /// The logs part: cut to the largest common point by epoch (rule 7).
    pub fn truncate(
        &mut self,
        from: BrokerId,
        address: &Address,
        truncate: Truncate,
        log: &dyn LogView,
        fx: &mut Effects,
    ) {
        if !self.obeys(from, address) {
            return;
        }
        let State::Follower(follower) = &self.state else {
            return;
        };
        // Who has had an answer to this join gets no other one; but if that should ever happen, what
        // was acknowledged must be there.
        let (stream, acked, joining) = match follower.stage {
            Stage::Joining { stream, acked } => (stream, acked, true),
            Stage::Following { stream, acked } => (stream, acked, false),
            Stage::Detached | Stage::Truncating { .. } => return,
        };
        self.look_at(log);
        let job = cut(&truncate, log);
        let keeps = match job {
            Job::Cut(to) | Job::Restart(to) => to,
            Job::Open | Job::MakeDurable(_) => unreachable!("a cut is a cut"),
        };
        if let Some((acked, ..)) = acked
            && keeps < acked
        {
            fx.fatal = Some(format!(
                "{}: told to cut the log to {keeps} after {acked} was acknowledged in epoch {}",
                self.id, address.epoch
            ));
            return;
        }
        if !joining {
            return;
        }
        self.job = Some(job);
        fx.job = Some(job);
        self.set_stage(Stage::Truncating { stream });
    }

    /// The leader does not obey a join: it is asked again after a pause, unless an image comes.
    pub fn leader_refused(&mut self, from: BrokerId, stream: StreamId, fx: &mut Effects) {
        if let State::Follower(follower) = &self.state
            && follower.leader == Some(from)
            && follower.stream() == Some(stream)
        {
            self.join_later(fx);
        }
    }
}

/// What to do with a log that parts from the leader's as `truncate` says.
fn cut(truncate: &Truncate, log: &dyn LogView) -> Job {
    let restart = Job::Restart(truncate.log_start);
    if truncate.epoch == LeaderEpoch::NONE {
        return restart;
    }
    let bounds = log.bounds();
    let (epoch, end) = log.end_offset_for(truncate.epoch);
    if epoch == LeaderEpoch::NONE {
        return restart;
    }
    let own = end.min(bounds.log_end);
    // With a smaller epoch than the leader named the next join asks about that one.
    let common = if epoch == truncate.epoch {
        own.min(truncate.end)
    } else {
        own
    };
    if common < bounds.log_start {
        restart
    } else {
        Job::Cut(common)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use millrace_model::{BrokerEpoch, PartitionId, TopicId, Uuid};

    use super::*;
    use crate::core::{Part, PeerView, Rules, View};

    struct Empty;

    impl LogView for Empty {
        fn bounds(&self) -> LogBounds {
            LogBounds::default()
        }

        fn last_epoch(&self) -> LeaderEpoch {
            LeaderEpoch::NONE
        }

        fn end_offset_for(&self, _: LeaderEpoch) -> (LeaderEpoch, Offset) {
            (LeaderEpoch::NONE, Offset::ZERO)
        }
    }

    /// Broker 1, which follows broker 2 by stream 7.
    fn follower() -> Core {
        let peer = |epoch| PeerView {
            epoch: BrokerEpoch(epoch),
            fenced: false,
            shutting_down: false,
            slow: false,
        };
        let view = View {
            own_epoch: Some(BrokerEpoch(11)),
            brokers: [(BrokerId(1), peer(11)), (BrokerId(2), peer(12))].into(),
        };
        let id = PartitionId {
            topic: TopicId(Uuid([1; 16])),
            index: 0,
        };
        let mut core = Core::new(id, BrokerId(1), Rules::default(), Arc::new(view));
        let (now, mut fx) = (Duration::ZERO, Effects::default());
        core.opened(&Empty, Offset::ZERO, now, &mut fx);
        let follow = Follow {
            leader: Some(BrokerId(2)),
            epoch: LeaderEpoch(3),
            partition_epoch: PartitionEpoch(5),
            counted_on: true,
        };
        core.assign(Part::Follow(follow), &Empty, now, &mut fx);
        core.attach(BrokerId(2), StreamId(7), &Empty, &mut fx);
        core
    }

    /// The leader this replica knows follows it already: it must hear that it came too early, or it
    /// would wait for an answer for ever.
    #[test]
    fn a_leader_that_joins_its_follower_is_answered_as_one_that_joins() {
        let mut core = follower();
        let mut fx = Effects::default();
        let join = Join {
            stream: StreamId(9),
            broker_epoch: BrokerEpoch(12),
            epoch: LeaderEpoch(4),
            round: 1,
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            last_epoch: LeaderEpoch::NONE,
        };
        core.join(BrokerId(2), join, &Empty, &mut fx);
        let (to, stream, _) = fx.refuse.expect("a join is answered");
        assert_eq!((to, stream), (BrokerId(2), StreamId(9)));
        assert!(fx.cannot_follow.is_none());
    }

    #[test]
    fn a_leader_is_told_that_its_batches_cannot_be_appended() {
        let mut core = follower();
        let mut fx = Effects::default();
        core.append_failed(&mut fx);
        let (to, stream, _) = fx.cannot_follow.expect("the leader is told");
        assert_eq!((to, stream), (BrokerId(2), StreamId(7)));
        assert!(fx.refuse.is_none());
        assert!(fx.retry_join);
    }
}
