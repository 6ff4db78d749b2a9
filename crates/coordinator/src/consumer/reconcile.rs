//! One step of a member towards its target (Kafka class `CurrentAssignmentBuilder`): it gives up
//! what it must before it goes on, and gets only what nobody else may still own.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
use millrace_model::{ErrorCode, TopicId};

use super::member::{Held, Member, Progress};
use super::state::State;
use super::work::Refusal;
use crate::assignor::Partitions;
use crate::group::Topics;

/// What a step depends on beside the member.
pub(super) struct Step<'a> {
    pub state: &'a State,
    pub topics: &'a dyn Topics,
    pub target: &'a Partitions,
    /// Whether what it subscribes to has changed with this request.
    pub resubscribed: bool,
    /// What the member says it owns; `None` if it says nothing.
    pub owned: Option<&'a [TopicPartitions]>,
}

impl Step<'_> {
    /// The member after this step; `None` if it stays as it is.
    pub fn take(&self, member: &Member) -> Result<Option<Member>, Refusal> {
        let target_epoch = self.state.assignment_epoch;
        if !self.resubscribed && member.has_reached(target_epoch) {
            return Ok(None);
        }
        let next = match member.progress {
            Progress::Stable if member.epoch != target_epoch => self.go_on(member),
            Progress::Stable => self.give_up_unsubscribed(member),
            Progress::Unrevoked if !self.still_owns(&member.revoking) => self.go_on(member),
            Progress::Unrevoked if self.resubscribed => self.give_up_unsubscribed(member),
            Progress::Unrevoked => return Ok(None),
            Progress::Unreleased => self.go_on(member),
            Progress::Unknown if self.owned.is_some_and(<[_]>::is_empty) => self.go_on(member),
            Progress::Unknown => {
                return Refusal::err(
                    ErrorCode::FencedMemberEpoch,
                    "The consumer group member is in a unknown state. \
                     The member must abandon all its partitions and rejoin.",
                );
            }
        };
        Ok(Some(next).filter(|next| next != member))
    }

    /// Whether the member may still own any of these. One that says nothing may.
    fn still_owns(&self, revoking: &Held) -> bool {
        let Some(owned) = self.owned else {
            return true;
        };
        owned.iter().any(|topic| {
            let id = TopicId(topic.topic_id);
            let mut partitions = topic.partitions.iter();
            revoking.0.contains_key(&id)
                && partitions.any(|partition| revoking.since(id, *partition).is_some())
        })
    }

    fn is_subscribed(&self, member: &Member, topic: TopicId) -> bool {
        let name = self.topics.name_of(topic);
        name.is_some_and(|name| self.state.does_subscribe(member, name.as_str()))
    }

    /// Takes topics away that it does not subscribe to any more, and does nothing else.
    fn give_up_unsubscribed(&self, member: &Member) -> Member {
        let mut next = member.clone();
        let mut assigned = Held::default();
        let mut revoking = (*member.revoking).clone();
        for (topic, partitions) in &member.assigned.0 {
            let place = match self.is_subscribed(member, *topic) {
                true => &mut assigned,
                false => &mut revoking,
            };
            place.add(*topic, partitions.iter().copied());
        }
        if assigned == *member.assigned {
            return next;
        }
        next.assigned = Arc::new(assigned);
        next.set_epoch(member.epoch);
        if self.still_owns(&revoking) {
            next.progress = Progress::Unrevoked;
            next.revoking = Arc::new(revoking);
        }
        next
    }

    /// Moves towards the target as far as it can.
    fn go_on(&self, member: &Member) -> Member {
        let mut keeps = Held::default();
        let mut gives_up = Held::default();
        let mut gets = Held::default();
        let mut waits = false;
        let topics: BTreeSet<TopicId> = self
            .target
            .0
            .keys()
            .chain(member.assigned.0.keys())
            .copied()
            .collect();
        for topic in topics {
            let wanted: &[i32] = match self.target.0.get(&topic) {
                Some(partitions) if self.is_subscribed(member, topic) => partitions,
                _ => &[],
            };
            let held = member.assigned.0.get(&topic).map_or(&[][..], Vec::as_slice);
            let is_wanted = |(partition, _): &&(i32, i32)| wanted.binary_search(partition).is_ok();
            keeps.add(topic, held.iter().filter(is_wanted).copied());
            gives_up.add(topic, held.iter().filter(|pair| !is_wanted(pair)).copied());
            let missing = wanted
                .iter()
                .filter(|partition| member.assigned.since(topic, **partition).is_none());
            let (taken, free): (Vec<i32>, Vec<i32>) = missing
                .copied()
                .partition(|partition| self.is_taken(member, topic, *partition));
            waits |= !taken.is_empty();
            let since = self.state.assignment_epoch;
            gets.add(topic, free.into_iter().map(|partition| (partition, since)));
        }

        let mut next = member.clone();
        if !gives_up.is_empty() && self.still_owns(&gives_up) {
            next.progress = Progress::Unrevoked;
            next.set_epoch(member.epoch);
            next.assigned = Arc::new(keeps);
            next.revoking = Arc::new(gives_up);
            return next;
        }
        for (topic, partitions) in gets.0 {
            keeps.add(topic, partitions);
        }
        next.progress = match waits {
            true => Progress::Unreleased,
            false => Progress::Stable,
        };
        next.set_epoch(self.state.assignment_epoch);
        next.assigned = Arc::new(keeps);
        next.revoking = Arc::default();
        next
    }

    /// Whether somebody else may own it. What this member had to give up, and now is to get back,
    /// is its own.
    fn is_taken(&self, member: &Member, topic: TopicId, partition: i32) -> bool {
        self.state.is_held(topic, partition) && member.revoking.since(topic, partition).is_none()
    }
}
