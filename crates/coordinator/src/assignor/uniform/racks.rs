//! Which members run where, and which partitions lie there.

use std::collections::BTreeMap;

use millrace_model::TopicId;

use crate::assignor::{Describe, MemberSpec};

/// The racks that members named.
pub(super) struct Racks<'a> {
    /// Members by rack, in their order.
    names: BTreeMap<&'a str, usize>,
    /// Each member's rack.
    of_member: Vec<Option<usize>>,
    topics: &'a dyn Describe,
}

impl<'a> Racks<'a> {
    pub(super) fn new(members: &[MemberSpec<'a>], topics: &'a dyn Describe) -> Racks<'a> {
        let mut names = BTreeMap::new();
        let of_member = members
            .iter()
            .map(|member| {
                let count = names.len();
                member.rack.map(|rack| *names.entry(rack).or_insert(count))
            })
            .collect();
        Racks {
            names,
            of_member,
            topics,
        }
    }

    /// How many there are; with none there is nothing to look at.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The member's rack.
    pub(super) fn of(&self, member: usize) -> Option<usize> {
        self.of_member[member]
    }

    /// Which of the members' racks hold a replica of the partition.
    pub(super) fn near(&self, topic: TopicId, partition: usize) -> Vec<usize> {
        let mut near = Vec::new();
        self.topics.racks(topic, partition as i32, &mut |rack| {
            if let Some(rack) = self.names.get(rack)
                && !near.contains(rack)
            {
                near.push(*rack);
            }
        });
        near
    }

    /// Whether the partition has a replica on the member's rack.
    pub(super) fn is_near(&self, member: usize, topic: TopicId, partition: usize) -> bool {
        self.of(member)
            .is_some_and(|rack| self.near(topic, partition).contains(&rack))
    }
}
