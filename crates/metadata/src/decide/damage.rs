//! Replicas that are damaged on their disks and ask to be relieved.

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionId};

use super::{Change, Decision, Draft, Refusal, check_broker_epoch};
use crate::image::Image;

/// A replica that its broker found damaged, in the leadership that the broker knew then.
pub type DamagedReplica = (PartitionId, LeaderEpoch);

/// Takes damaged replicas of a broker out of ISR and ELR, and lets a new leadership begin, in which
/// nobody relies on what they acknowledged: they can be fetched anew. Each has its own answer.
///
/// Codes: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER for what is not
/// there; NOT_CONTROLLER for a leadership from the future and FENCED_LEADER_EPOCH for an old one;
/// ELIGIBLE_LEADERS_NOT_AVAILABLE, and nothing changes, where nobody else in ISR and ELR can lead:
/// what is sound of the replica is worth more than nothing. All is refused with STALE_BROKER_EPOCH when
/// it does not come under the current registration.
pub fn replicas_damaged(
    image: &Image,
    id: BrokerId,
    epoch: BrokerEpoch,
    damaged: &[DamagedReplica],
) -> Decision<Result<Vec<ErrorCode>, Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, id, epoch) {
        return Decision::unchanged(Err(refusal));
    }
    let mut draft = Draft::of(image);
    let codes = damaged.iter().map(|(partition, known)| {
        let relieved = draft.relieve(id, *partition, *known);
        relieved.err().unwrap_or(ErrorCode::None)
    });
    let codes = codes.collect();
    draft.finish(Ok(codes))
}

impl Draft {
    fn relieve(
        &mut self,
        broker: BrokerId,
        id: PartitionId,
        known: LeaderEpoch,
    ) -> Result<(), ErrorCode> {
        let Some(partition) = self.image.partition(id) else {
            return Err(match self.image.topic(id.topic) {
                Some(_) => ErrorCode::UnknownTopicOrPartition,
                None => ErrorCode::UnknownTopicId,
            });
        };
        if !partition.replicas.contains(&broker) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if known > partition.leader_epoch {
            return Err(ErrorCode::NotController);
        }
        if known < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let mut change = Change::of(&self.image, id);
        if !change.relieve(broker) {
            return Err(ErrorCode::EligibleLeadersNotAvailable);
        }
        let record = change.record();
        self.extend(record.into_iter().collect());
        Ok(())
    }
}
