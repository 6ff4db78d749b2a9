//! Changes of ISRs, asked for by leaders (rules 10 and 12; Kafka's AlterPartition).

use millrace_model::limits::QUICK_MEMBERS;
use millrace_model::{
    BrokerEpoch, BrokerId, Durability, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, Planted,
};

use super::{Change, Decision, Draft, Refusal, check_broker_epoch};
use crate::image::Image;
use crate::partition::{Partition, Recovery};
use crate::record::{PartitionChange, Record};

/// A member of the ISR that a leader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    /// Which broker.
    pub broker: BrokerId,
    /// The registration under which it is known to be caught up.
    pub epoch: BrokerEpoch,
}

/// The change that a leader asks for, with the epochs that it was decided under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    /// Which partition.
    pub id: PartitionId,
    /// The leadership.
    pub leader_epoch: LeaderEpoch,
    /// The state that is to be changed.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR.
    pub isr: Vec<IsrMember>,
    /// Whether the leader has mended what an unclean election broke.
    pub recovery: Recovery,
    /// Every member of this ISR holds durably (by fsync) all that the log held when this leadership
    /// began: the partition counts as fsync from now on, if that is what is configured and its ELR,
    /// which nobody asked, is empty. Worth a request only while the image says otherwise of it.
    pub confirms_fsync: bool,
}

/// The changes that one leader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrRequest {
    /// Who asks.
    pub broker: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// Each is granted or refused on its own.
    pub changes: Vec<IsrChange>,
}

/// A partition as it is after a change was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// Under which epoch.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of this state.
    pub partition_epoch: PartitionEpoch,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// Whether the leader was elected cleanly.
    pub recovery: Recovery,
}

impl From<&Partition> for PartitionState {
    fn from(partition: &Partition) -> PartitionState {
        PartitionState {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.clone(),
            recovery: partition.recovery,
        }
    }
}

/// Grants or refuses changes of ISRs; the answers are in the order of the request.
///
/// Codes, as Kafka gives them: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION; NOT_CONTROLLER for
/// epochs from the future (this image is behind, ask again); FENCED_LEADER_EPOCH and
/// INVALID_UPDATE_VERSION for old ones; INVALID_REQUEST from who does not lead, or for an ISR that
/// cannot be; INELIGIBLE_REPLICA for a member that is fenced, shuts down, is slow, or was restarted
/// since;
/// NEW_LEADER_ELECTED when the change was granted and cost the leader its leadership. The whole
/// request is refused with STALE_BROKER_EPOCH when it does not come under the current registration.
pub fn alter_partitions(
    image: &Image,
    request: &IsrRequest,
) -> Decision<Result<Vec<Result<PartitionState, ErrorCode>>, Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, request.broker, request.broker_epoch) {
        return Decision::unchanged(Err(refusal));
    }
    let mut draft = Draft::of(image);
    let changes = request.changes.iter();
    let answers = changes.map(|change| draft.alter_partition(request.broker, change));
    let answers = answers.collect();
    draft.finish(Ok(answers))
}

impl Draft {
    fn alter_partition(
        &mut self,
        leader: BrokerId,
        asked: &IsrChange,
    ) -> Result<PartitionState, ErrorCode> {
        check(&self.image, leader, asked)?;
        let name = self.image.topic_name(asked.id);
        let fsync =
            asked.confirms_fsync && self.image.configured_durability(name) == Durability::Fsync;
        let before = self.image.partition(asked.id);
        // What is granted raises the partition epoch, whatever it changes (rule 3): by asking for
        // the ISR as it is, a leader withdraws an addition that could be granted late.
        let withdrawal = before.map(|before| PartitionChange::of(asked.id, before));
        let mut change = Change::of(&self.image, asked.id);
        change.next.isr = asked.isr.iter().map(|member| member.broker).collect();
        change.next.recovery = asked.recovery;
        if fsync {
            change.confirm_fsync();
        }
        let withdrawal = withdrawal.map(Record::PartitionChange);
        let record = change.record().or(withdrawal);
        self.extend(record.into_iter().collect());
        let after = self
            .image
            .partition(asked.id)
            .expect("a change removes no partition");
        if after.leader == Some(leader) {
            Ok(PartitionState::from(&**after))
        } else {
            Err(ErrorCode::NewLeaderElected)
        }
    }
}

fn check(image: &Image, leader: BrokerId, asked: &IsrChange) -> Result<(), ErrorCode> {
    let Some(partition) = image.partition(asked.id) else {
        return Err(match image.topic(asked.id.topic) {
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::UnknownTopicId,
        });
    };
    if asked.leader_epoch > partition.leader_epoch
        || asked.partition_epoch > partition.partition_epoch
    {
        return Err(ErrorCode::NotController);
    }
    if asked.leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if partition.leader != Some(leader) {
        return Err(ErrorCode::InvalidRequest);
    }
    if asked.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    check_isr(partition, leader, asked)?;
    let eligible = |member: &IsrMember| is_eligible(image, asked.id, partition, member);
    if asked.isr.iter().all(eligible) {
        Ok(())
    } else {
        Err(ErrorCode::IneligibleReplica)
    }
}

fn check_isr(partition: &Partition, leader: BrokerId, asked: &IsrChange) -> Result<(), ErrorCode> {
    let members: Vec<BrokerId> = asked.isr.iter().map(|member| member.broker).collect();
    let replicas = members.iter().all(|m| partition.replicas.contains(m));
    let mut seen = members.iter().enumerate();
    let distinct = seen.all(|(place, m)| !members[..place].contains(m));
    let recovering = asked.recovery == Recovery::Recovering;
    let relapse = recovering && partition.recovery == Recovery::Recovered;
    let sound = replicas
        && distinct
        && members.contains(&leader)
        && !(recovering && members.len() > 1)
        && !relapse;
    if sound {
        Ok(())
    } else {
        Err(ErrorCode::InvalidRequest)
    }
}

/// Who is in the ISR may stay while it shuts down; who is added must be active, have its replica at
/// hand and not be slow; and both must still be the incarnation that the leader saw.
fn is_eligible(image: &Image, id: PartitionId, partition: &Partition, member: &IsrMember) -> bool {
    let Some(broker) = image.broker(member.broker) else {
        return false;
    };
    if Planted::FencedJoins.is_here() {
        return true;
    }
    let stays = partition.isr.contains(&member.broker) && !broker.fenced;
    // One that keeps the others waiting is better than too few.
    let min = image.min_insync(image.topic_name(id), partition);
    let is_wanted =
        image.is_quick(member.broker, partition) || partition.isr.len() < min.max(QUICK_MEMBERS);
    let may_join = broker.is_active() && image.serves(member.broker, partition) && is_wanted;
    broker.epoch == member.epoch && (stays || may_join)
}
