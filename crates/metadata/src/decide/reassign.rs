//! Reassignment of replicas (rule 15, KIP-455): start, replace, cancel. Its progress is a matter of
//! ISR changes: once all that stay are in sync, those that leave leave.

use millrace_model::{BrokerId, ErrorCode, PartitionId};

use super::{Change, Decision, Draft, Refusal};
use crate::image::Image;
use crate::record::{PartitionChange, Record};

/// Where one partition is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub index: i32,
    /// The replicas it is to have; `None` cancels what is under way.
    pub replicas: Option<Vec<BrokerId>>,
    /// Whether it may come to have more or fewer replicas than it has, or is to have.
    pub may_change_factor: bool,
}

/// Starts, replaces or cancels reassignments; each has its own answer, in order.
///
/// Codes: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR,
/// NO_REASSIGNMENT_IN_PROGRESS.
pub fn reassign(image: &Image, asked: &[Reassignment]) -> Decision<Vec<Result<(), Refusal>>> {
    let mut draft = Draft::of(image);
    let results = asked.iter().map(|one| draft.reassign(one));
    let results = results.collect();
    draft.finish(results)
}

impl Draft {
    fn reassign(&mut self, asked: &Reassignment) -> Result<(), Refusal> {
        let Reassignment { topic, index, .. } = asked;
        let unknown = |why| Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
        let Some(known) = self.image.topic_named(topic) else {
            return unknown(format!("Unable to find a topic named {topic}."));
        };
        let id = PartitionId {
            topic: known.id,
            index: *index,
        };
        if self.image.partition(id).is_none() {
            return unknown(format!("Unable to find partition {topic}:{index}."));
        }
        match &asked.replicas {
            Some(target) => self.start_reassignment(id, target, asked.may_change_factor),
            None => self.cancel_reassignment(id, topic),
        }
    }

    /// The replicas become those wanted, followed by those that will leave.
    ///
    /// Of a reassignment that is replaced, what it was adding stays "adding", also where it is to
    /// leave again: whatever was asked since, a cancel finds the way back to the first assignment.
    /// Kafka forgets here what it was adding, and a cancel leaves it with too many replicas.
    fn start_reassignment(
        &mut self,
        id: PartitionId,
        target: &[BrokerId],
        may_change_factor: bool,
    ) -> Result<(), Refusal> {
        self.check_assignment(target, None)?;
        let mut change = Change::of(&self.image, id);
        let present = change.next.replicas.clone();
        if !may_change_factor {
            check_factor(present.len() - change.next.removing.len(), target.len())?;
        }
        let mut removing = present.clone();
        removing.retain(|replica| !target.contains(replica));
        removing.sort();
        let mut adding = std::mem::take(&mut change.next.adding);
        adding.extend(target.iter().filter(|b| !present.contains(b)));
        adding.sort();
        change.set_replicas([target, &removing[..]].concat());
        change.next.adding = adding;
        change.next.removing = removing;
        let record = change.record();
        self.extend(record.into_iter().collect());
        Ok(())
    }

    fn cancel_reassignment(&mut self, id: PartitionId, topic: &str) -> Result<(), Refusal> {
        let mut change = Change::of(&self.image, id);
        if !change.next.is_reassigning() {
            return Err(Refusal::new(
                ErrorCode::NoReassignmentInProgress,
                "No partition reassignment is in progress.",
            ));
        }
        let adding = std::mem::take(&mut change.next.adding);
        change.next.removing.clear();
        let mut replicas = change.next.replicas.clone();
        replicas.retain(|replica| !adding.contains(replica));
        change.next.isr.retain(|member| !adding.contains(member));
        if replicas.is_empty() {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                "Invalid replica assignment: addingReplicas contains all replicas.",
            ));
        }
        change.set_replicas(replicas);
        let change = change.settle();
        let empties = |change: &PartitionChange| change.isr.as_ref().is_some_and(Vec::is_empty);
        if change.as_ref().is_some_and(empties) {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Unable to revert partition assignment for {topic}:{} because it would \
                     require an unclean leader election.",
                    id.index
                ),
            ));
        }
        self.extend(change.into_iter().map(Record::PartitionChange).collect());
        Ok(())
    }
}

fn check_factor(before: usize, after: usize) -> Result<(), Refusal> {
    if before == after {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::InvalidReplicationFactor,
        format!("The replication factor is changed from {before} to {after}"),
    ))
}
