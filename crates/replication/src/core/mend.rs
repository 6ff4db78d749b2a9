//! What follows from damage on a replica's disk.
//!
//! The controller is told; where another member of the ISR can lead, it takes the damaged replica
//! out of ISR and ELR and begins a new leadership. In that leadership nobody has heard of the
//! replica's log yet, and no request of the leader before can bring it back into the ISR: only then,
//! and before it joins, it cuts its log where the damage begins, and fetches the rest anew. The last
//! member of an ISR stays what it is and serves what is sound.

use millrace_model::{BrokerId, LeaderEpoch};

use super::{Core, Effects, Follow, Job, LogView, Omit, Part, Role, State};

impl Core {
    /// Cuts a damaged log, if nobody counts on it.
    pub(super) fn mend(&mut self, log: &dyn LogView, fx: &mut Effects) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let unknown = !follower.joined || self.rules.omits(Omit::NewEpochToMend);
        let may = follower.leader.is_some() && !follower.counted_on && unknown;
        if !may || self.job.is_some() {
            return;
        }
        if let Some(damaged) = log.damaged_from() {
            let bounds = log.bounds();
            let job = Job::Cut(damaged.max(bounds.log_start));
            self.job = Some(job);
            fx.job = Some(job);
        }
    }

    /// Whether the controller should be told that this log is damaged, and in which leadership.
    pub fn wants_relief(&self, log: &dyn LogView) -> Option<LeaderEpoch> {
        let part = matches!(self.role(), Role::Leader { .. } | Role::Follower(Some(_)));
        (part && self.job.is_none() && log.damaged_from().is_some()).then(|| self.epoch())
    }

    /// What the image asks of a replica whose log is not open.
    pub fn asked_of_closed(&self) -> Option<&Part> {
        let current = self.view.shows(self.me);
        self.waiting
            .as_ref()
            .filter(|_| current && self.job == Some(Job::Open))
    }
}

impl Part {
    /// Whether somebody else has all that this replica should have, and nobody counts on it.
    pub fn is_expendable(&self) -> bool {
        matches!(
            self,
            Part::Follow(Follow {
                leader: Some(_),
                counted_on: false,
                ..
            })
        )
    }

    /// Whether others may have what this replica lacks, and this one passes for having it.
    pub fn is_relied_on(&self, me: BrokerId) -> bool {
        match self {
            Part::Lead(lead) => {
                let mut members = lead.isr.iter().chain(&lead.elr);
                members.any(|member| *member != me)
            }
            Part::Follow(follow) => follow.counted_on,
        }
    }

    /// The leadership it is about.
    pub fn epoch(&self) -> LeaderEpoch {
        self.age().0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use millrace_model::{BrokerEpoch, Offset, PartitionEpoch, PartitionId, TopicId, Uuid};

    use super::*;
    use crate::core::message::StreamId;
    use crate::core::{Lead, LogBounds, PeerView, Rules, View};

    /// Ten records, the fifth of which is damaged, perhaps.
    struct Damaged(Option<i64>);

    impl LogView for Damaged {
        fn bounds(&self) -> LogBounds {
            LogBounds {
                log_start: Offset::ZERO,
                log_end: Offset(10),
                durable_end: Offset(10),
            }
        }

        fn last_epoch(&self) -> LeaderEpoch {
            LeaderEpoch(3)
        }

        fn end_offset_for(&self, _: LeaderEpoch) -> (LeaderEpoch, Offset) {
            (LeaderEpoch(3), Offset(10))
        }

        fn damaged_from(&self) -> Option<Offset> {
            self.0.map(Offset)
        }
    }

    const SOUND: Damaged = Damaged(None);
    const DAMAGED: Damaged = Damaged(Some(4));

    struct Follower(Core);

    impl Follower {
        /// Broker 1, which follows broker 2 in epoch 3 by stream 7 and is in the ISR.
        fn in_sync() -> Follower {
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
            let mut fx = Effects::default();
            core.opened(&SOUND, Offset::ZERO, Duration::ZERO, &mut fx);
            let mut follower = Follower(core);
            follower.sees(3, true, &SOUND);
            follower.0.attach(BrokerId(2), StreamId(7), &SOUND, &mut fx);
            assert!(fx.join.is_some());
            follower
        }

        /// An image of this epoch; returns the job that follows.
        fn sees(&mut self, epoch: i32, counted_on: bool, log: &Damaged) -> Option<Job> {
            let mut fx = Effects::default();
            let follow = Follow {
                leader: Some(BrokerId(2)),
                epoch: LeaderEpoch(epoch),
                partition_epoch: PartitionEpoch(epoch),
                counted_on,
            };
            self.0
                .assign(Part::Follow(follow), log, Duration::ZERO, &mut fx);
            fx.job
        }
    }

    #[test]
    fn a_damaged_log_is_cut_when_nobody_counts_on_it_and_before_it_joins_again() {
        let mut follower = Follower::in_sync();
        assert_eq!(follower.0.wants_relief(&SOUND), None);
        assert_eq!(follower.0.wants_relief(&DAMAGED), Some(LeaderEpoch(3)));
        // It left the ISR for another reason: the leader may be about to bring it back.
        assert_eq!(follower.sees(3, false, &DAMAGED), None);
        assert_eq!(follower.sees(4, false, &DAMAGED), Some(Job::Cut(Offset(4))));
        let mut fx = Effects::default();
        follower
            .0
            .attach(BrokerId(2), StreamId(8), &DAMAGED, &mut fx);
        assert!(fx.join.is_none(), "it joins when it is cut");
    }

    #[test]
    fn who_lacks_what_was_committed_leads_only_where_nobody_else_could_have_it() {
        let lead = |isr: &[i32], elr: &[i32]| {
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
            let lead = Lead {
                isr: ids(isr),
                elr: ids(elr),
                ..Lead::default()
            };
            Part::Lead(lead).is_relied_on(BrokerId(1))
        };
        assert!(lead(&[1, 2], &[]));
        assert!(lead(&[1], &[2]));
        assert!(!lead(&[1], &[]));
        let follow = |counted_on| {
            let follow = Follow {
                leader: None,
                epoch: LeaderEpoch(1),
                partition_epoch: PartitionEpoch(1),
                counted_on,
            };
            Part::Follow(follow).is_relied_on(BrokerId(1))
        };
        assert!(follow(true) && !follow(false));
    }

    #[test]
    fn a_damaged_log_that_others_count_on_is_not_touched() {
        let mut follower = Follower::in_sync();
        assert_eq!(follower.sees(4, true, &DAMAGED), None);
        let mut fx = Effects::default();
        follower
            .0
            .attach(BrokerId(2), StreamId(8), &DAMAGED, &mut fx);
        assert!(fx.job.is_none() && fx.join.is_some());
    }
}
