//! Elections that an operator asks for (KIP-460).

use millrace_model::{ErrorCode, PartitionId};

use super::change::Election;
use super::{Change, Decision, Draft, Refusal};
use crate::image::Image;

/// Which leaders an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionKind {
    /// The preferred ones.
    Preferred,
    /// Anybody alive, for partitions that have no leader; records may be lost.
    Unclean,
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionOutcome {
    /// The topic's name, as it was asked for.
    pub topic: String,
    /// The partition's number.
    pub index: i32,
    /// Whether an election was held.
    pub result: Result<(), Refusal>,
}

/// Elects leaders for these partitions of topics by name, or for all partitions; of all those that
/// need no election are left out of the answer.
///
/// Codes: UNKNOWN_TOPIC_OR_PARTITION, ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE,
/// ELIGIBLE_LEADERS_NOT_AVAILABLE.
pub fn elect(
    image: &Image,
    kind: ElectionKind,
    partitions: Option<&[(String, Vec<i32>)]>,
) -> Decision<Vec<ElectionOutcome>> {
    let mut draft = Draft::of(image);
    let mut outcomes = Vec::new();
    match partitions {
        Some(topics) => {
            for (topic, indexes) in topics {
                for index in indexes {
                    let result = draft.elect_named(kind, topic, *index);
                    outcomes.push(outcome(topic, *index, result));
                }
            }
        }
        None => {
            for topic in image.topics() {
                let name = topic.name.as_str();
                let held = (0..topic.partitions)
                    .map(|index| outcome(name, index, draft.elect_named(kind, name, index)))
                    .filter(|outcome| !is_not_needed(outcome));
                outcomes.extend(held);
            }
        }
    }
    draft.finish(outcomes)
}

impl Draft {
    fn elect_named(&mut self, kind: ElectionKind, name: &str, index: i32) -> Result<(), Refusal> {
        let unknown = |why| Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
        let Some(topic) = self.image.topic_named(name) else {
            return unknown(format!("No such topic as {name}"));
        };
        let topic = topic.id;
        let id = PartitionId { topic, index };
        if self.image.partition(id).is_none() {
            return unknown(format!("No such partition as {name}-{index}"));
        }
        self.elect_one(kind, id)
    }

    fn elect_one(&mut self, kind: ElectionKind, id: PartitionId) -> Result<(), Refusal> {
        let partition = self.image.partition(id).expect("the caller looked it up");
        let preferred = partition.preferred_leader();
        let (needed, election, unavailable) = match kind {
            ElectionKind::Preferred => (
                partition.leader != preferred,
                Election::Preferred,
                Refusal::new(
                    ErrorCode::PreferredLeaderNotAvailable,
                    "The preferred leader was not available.",
                ),
            ),
            ElectionKind::Unclean => (
                partition.leader.is_none(),
                Election::Ordered,
                Refusal::new(
                    ErrorCode::EligibleLeadersNotAvailable,
                    "Eligible topic partition leaders are not available.",
                ),
            ),
        };
        if !needed {
            return Err(Refusal::new(
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed for topic partition.",
            ));
        }
        let mut change = Change::of(&self.image, id);
        change.elect(election);
        let record = change.record();
        self.extend(record.into_iter().collect());
        let leader = self
            .image
            .partition(id)
            .expect("it was there before")
            .leader;
        match kind {
            ElectionKind::Preferred if leader != preferred => Err(unavailable),
            _ if leader.is_none() => Err(unavailable),
            _ => Ok(()),
        }
    }
}

fn outcome(topic: &str, index: i32, result: Result<(), Refusal>) -> ElectionOutcome {
    ElectionOutcome {
        topic: topic.to_owned(),
        index,
        result,
    }
}

fn is_not_needed(outcome: &ElectionOutcome) -> bool {
    let code = outcome.result.as_ref().err().map(|refusal| refusal.code);
    code == Some(ErrorCode::ElectionNotNeeded)
}
