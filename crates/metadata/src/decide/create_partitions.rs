//! More partitions for topics that exist (KIP-195).

use millrace_model::{BrokerId, ErrorCode};

use super::create_topics::{MAX_PARTITIONS_AT_ONCE, too_many_partitions};
use super::place::place;
use super::{Decision, Draft, Refusal};
use crate::image::{Image, Topic};

/// How many partitions a topic is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic's name.
    pub topic: String,
    /// The new number of partitions.
    pub count: i32,
    /// The replicas of each partition to add, when they are to be just these.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Adds partitions; each topic has its own answer, in order. With `validate_only` nothing changes.
///
/// Codes: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT,
/// INVALID_REPLICATION_FACTOR, POLICY_VIOLATION when one topic wants too many at once.
pub fn create_partitions(
    image: &Image,
    topics: &[MorePartitions],
    validate_only: bool,
    random: &mut dyn FnMut() -> u64,
) -> Decision<Vec<Result<(), Refusal>>> {
    let mut draft = Draft::of(image);
    let results = topics.iter().map(|topic| draft.grow(topic, random));
    let results = results.collect();
    if validate_only {
        return Decision::unchanged(results);
    }
    draft.finish(results)
}

impl Draft {
    fn grow(
        &mut self,
        asked: &MorePartitions,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Refusal> {
        let Some(topic) = self.image.topic_named(&asked.topic).cloned() else {
            // Kafka says nothing beyond the code here.
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        };
        let additional = check_count(&topic, asked)?;
        if additional > MAX_PARTITIONS_AT_ONCE {
            return Err(too_many_partitions());
        }
        let mut known = self.image.partitions_of(topic.id);
        let factor = known
            .next()
            .map_or(1, |(_, partition)| partition.replicas.len());
        drop(known);
        let assignments = match &asked.assignments {
            Some(assignments) => {
                for (index, replicas) in (topic.partitions..).zip(assignments) {
                    self.check_assignment(replicas, Some(factor))?;
                    self.check_somebody_serves(index, replicas)?;
                }
                assignments.clone()
            }
            None => {
                let factor = i16::try_from(factor).unwrap_or(i16::MAX);
                place(&self.image, Some(topic.id), additional, factor, random)?
            }
        };
        self.add_partitions(topic.id, topic.partitions, &assignments);
        Ok(())
    }
}

fn check_count(topic: &Topic, asked: &MorePartitions) -> Result<usize, Refusal> {
    let has = topic.partitions;
    if asked.count == has {
        let why = format!("Topic already has {has} partition(s).");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    if asked.count < has {
        let why = format!(
            "The topic {} currently has {has} partition(s); {} would not be an increase.",
            asked.topic, asked.count
        );
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    let additional = usize::try_from(asked.count - has).unwrap_or(usize::MAX);
    match &asked.assignments {
        Some(assignments) if assignments.len() != additional => {
            let why = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) \
                 were specified.",
                assignments.len()
            );
            Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why))
        }
        _ => Ok(additional),
    }
}
