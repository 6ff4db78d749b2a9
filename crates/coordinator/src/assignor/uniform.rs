//! `uniform`: as many partitions for one member as for another, moving as few as possible.
//!
//! Members that all subscribe alike need only counting ([`even`]); others are evened out topic by
//! topic ([`balance`]).

mod balance;
mod even;
mod racks;

use std::collections::BTreeMap;

use millrace_model::TopicId;

use super::{Describe, MemberSpec, Partitions, subscribe_alike};

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &dyn Describe) -> Vec<Partitions> {
    let Some(first) = members.first() else {
        return Vec::new();
    };
    if members.iter().all(|member| subscribe_alike(first, member)) {
        even::assign(members, topics)
    } else {
        balance::assign(members, topics)
    }
}

/// Stands for a partition without an owner.
const NOBODY: u32 = u32::MAX;

/// A topic and the members that own its partitions.
struct Topic {
    id: TopicId,
    owners: Vec<u32>,
}

/// The topics that exist among `ids`, nobody owning anything yet.
fn tables(ids: impl IntoIterator<Item = TopicId>, topics: &dyn Describe) -> Vec<Topic> {
    ids.into_iter()
        .filter_map(|id| {
            let partitions = topics.partition_count(id)?;
            Some(Topic {
                id,
                owners: vec![NOBODY; usize::try_from(partitions).unwrap_or(0)],
            })
        })
        .collect()
}

/// Lets each member keep what it owned, where it still subscribes and the partition still exists;
/// tells how many each keeps. Of two that claim one partition the first keeps it.
fn keep(members: &[MemberSpec<'_>], tables: &mut [Topic]) -> Vec<usize> {
    let mut sizes = vec![0; members.len()];
    for (index, member) in members.iter().enumerate() {
        for (topic, partitions) in &member.owned.0 {
            let Ok(place) = tables.binary_search_by_key(topic, |table| table.id) else {
                continue;
            };
            if member.topics.binary_search(topic).is_err() {
                continue;
            }
            for partition in partitions {
                let owner = usize::try_from(*partition)
                    .ok()
                    .and_then(|partition| tables[place].owners.get_mut(partition));
                if let Some(owner) = owner
                    && *owner == NOBODY
                {
                    *owner = index as u32;
                    sizes[index] += 1;
                }
            }
        }
    }
    sizes
}

/// Turns owners of partitions into partitions of owners.
fn collect(members: usize, tables: &[Topic]) -> Vec<Partitions> {
    let mut result = vec![Partitions(BTreeMap::new()); members];
    for table in tables {
        for (partition, owner) in table.owners.iter().enumerate() {
            if let Some(own) = result.get_mut(*owner as usize) {
                own.0.entry(table.id).or_default().push(partition as i32);
            }
        }
    }
    result
}
