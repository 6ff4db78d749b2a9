//! Placement of replicas: spread over racks, even in replicas and in leaders.
//!
//! The requirements and refusals are those of Kafka's `StripedReplicaPlacer`: no broker twice, a
//! leader that serves, fenced brokers only when there are not enough others. Where Kafka draws a
//! random stripe for each topic, this counts: each replica goes to whoever has the fewest, first of
//! this topic, then of all, and only then does chance decide. So topics of one partition spread as
//! evenly as one topic of many.

use std::collections::BTreeMap;

use millrace_model::{BrokerId, ErrorCode, TopicId};

use super::Refusal;
use crate::image::Image;

struct Candidate<'a> {
    id: BrokerId,
    rack: Option<&'a str>,
    fenced: bool,
    /// Of this topic.
    replicas: usize,
    preferred: usize,
    /// How often it comes second behind each leader, and so would lead when that one dies.
    second_behind: BTreeMap<BrokerId, usize>,
    /// Of all topics.
    all_replicas: usize,
    all_preferred: usize,
}

/// Places `count` partitions, beside those that `topic` has already.
///
/// # Errors
/// INVALID_REPLICATION_FACTOR, when there are too few brokers or none serves.
pub(super) fn place(
    image: &Image,
    topic: Option<TopicId>,
    count: usize,
    replication_factor: i16,
    random: &mut dyn FnMut() -> u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let mut candidates = candidates(image, topic);
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
    let Ok(factor @ 1..) = usize::try_from(replication_factor) else {
        return refuse(format!(
            "Invalid replication factor {replication_factor}: the replication factor must be \
             positive."
        ));
    };
    if candidates.iter().all(|c| c.fenced) {
        return refuse("All brokers are currently fenced.".to_owned());
    }
    if factor > candidates.len() {
        return refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {} \
             broker(s) are registered or some brokers have all their log directories cordoned.",
            candidates.len()
        ));
    }
    Ok((0..count)
        .map(|_| place_one(&mut candidates, factor, random))
        .collect())
}

fn candidates(image: &Image, topic: Option<TopicId>) -> Vec<Candidate<'_>> {
    let usable = image.brokers().filter(|b| !b.shutting_down);
    let mut candidates: Vec<_> = usable
        .map(|broker| {
            let load = image.load(broker.id);
            Candidate {
                id: broker.id,
                rack: broker.rack.as_deref(),
                fenced: broker.fenced,
                replicas: 0,
                preferred: 0,
                second_behind: BTreeMap::new(),
                all_replicas: load.replicas,
                all_preferred: load.preferred,
            }
        })
        .collect();
    let known = topic.into_iter().flat_map(|id| image.partitions_of(id));
    for (_, partition) in known {
        for (position, replica) in partition.replicas.iter().enumerate() {
            if let Some(candidate) = candidates.iter_mut().find(|c| c.id == *replica) {
                candidate.replicas += 1;
                candidate.preferred += usize::from(position == 0);
            }
        }
    }
    candidates
}

fn place_one(
    candidates: &mut [Candidate<'_>],
    factor: usize,
    random: &mut dyn FnMut() -> u64,
) -> Vec<BrokerId> {
    let mut replicas: Vec<BrokerId> = Vec::with_capacity(factor);
    let mut racks: Vec<Option<&str>> = Vec::with_capacity(factor);
    while replicas.len() < factor {
        let leader = replicas.first().copied();
        let merit = |candidate: &Candidate<'_>, chance: u64| {
            let in_rack = racks.iter().filter(|rack| **rack == candidate.rack).count();
            match leader {
                None => (
                    0,
                    [candidate.preferred, candidate.all_preferred, 0, 0],
                    chance,
                ),
                Some(leader) => {
                    let second = match replicas.len() {
                        1 => candidate.second_behind.get(&leader).copied().unwrap_or(0),
                        _ => 0,
                    };
                    let fenced = usize::from(candidate.fenced);
                    // A fenced broker comes last within a rack, as in Kafka.
                    let counts = [fenced, candidate.replicas, second, candidate.all_replicas];
                    (in_rack, counts, chance)
                }
            }
        };
        let open = candidates
            .iter()
            .enumerate()
            .filter(|(_, c)| !replicas.contains(&c.id) && (leader.is_some() || !c.fenced));
        let best = open
            .map(|(place, candidate)| (merit(candidate, random()), place))
            .min();
        let (_, place) = best.expect("there are as many brokers as replicas, and one serves");
        let chosen = &mut candidates[place];
        chosen.replicas += 1;
        chosen.all_replicas += 1;
        match leader {
            None => {
                chosen.preferred += 1;
                chosen.all_preferred += 1;
            }
            Some(leader) if replicas.len() == 1 => {
                *chosen.second_behind.entry(leader).or_default() += 1;
            }
            Some(_) => {}
        }
        replicas.push(chosen.id);
        racks.push(chosen.rack);
    }
    replicas
}
