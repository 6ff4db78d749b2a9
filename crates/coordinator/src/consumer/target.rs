//! Computes who is to own what (Kafka class `TargetAssignmentBuilder`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_model::TopicId;

use super::member::Member;
use super::records;
use super::state::State;
use super::work::Work;
use crate::assignor::{Assignor, Describe, MemberSpec, Partitions};
use crate::group::Topics;
use crate::group::topics::Context;

/// Computes the target of the group's epoch if it is not there; not more often than
/// `group.consumer.assignment.interval.ms`, so that many members that come together cost one.
pub(super) fn update(work: &mut Work<'_>) {
    if work.state.assignment_epoch >= work.state.epoch || !may_compute(work) {
        return;
    }
    let state = &*work.state;
    let new = compute(state, work.context);
    let mut changed = Vec::new();
    for ((member, _), partitions) in state.members.iter().zip(new) {
        if state
            .target
            .get(member)
            .is_none_or(|old| **old != partitions)
        {
            changed.push(records::target(work.id, member, &partitions));
        }
    }
    let epoch = records::target_epoch(work.id, state.epoch, work.context.wall);
    for record in changed {
        work.decide(record);
    }
    work.decide(epoch);
}

fn may_compute(work: &Work<'_>) -> bool {
    let interval = work
        .context
        .settings
        .consumer_assignment_interval_ms(work.id);
    let interval = Duration::from_millis(u64::try_from(interval).unwrap_or(0));
    let (last, now) = (work.state.assignment_time, work.context.wall);
    // A clock that was ahead, this one's or that of a coordinator before, must not stop the group.
    last.get() == 0 || now >= last.after(interval) || now < last
}

/// The target, in the order of the members.
fn compute(state: &State, context: Context<'_>) -> Vec<Partitions> {
    let lists = Lists::of(state, context.topics);
    let nothing = Partitions::default();
    let specs: Vec<MemberSpec<'_>> = state
        .members
        .iter()
        .map(|(id, member)| MemberSpec {
            id,
            instance: member.instance.as_deref(),
            rack: member.rack.as_deref(),
            topics: lists.topics_of(member),
            owned: state.target.get(id).map_or(&nothing, |target| target),
        })
        .collect();
    let name = state.preferred_assignor();
    let offered = &context.settings.consumer_assignors;
    let name = name.filter(|name| offered.iter().any(|each| each == name));
    name.or_else(|| offered.first().map(String::as_str))
        .and_then(Assignor::named)
        .unwrap_or(Assignor::Uniform)
        .assign(&specs, &Cluster(context.topics))
}

/// Subscriptions as ids of topics: members that subscribe to the same topics, in whatever way, get
/// the same list.
struct Lists {
    distinct: Vec<Vec<TopicId>>,
    /// Which list belongs to which names and expression; names by where they lie, for equal ones
    /// are shared.
    by_subscription: BTreeMap<Subscription, usize>,
}

type Subscription = (usize, usize);

impl Lists {
    fn of(state: &State, topics: &dyn Topics) -> Lists {
        let mut by_content: BTreeMap<Vec<TopicId>, usize> = BTreeMap::new();
        let mut by_subscription = BTreeMap::new();
        for member in state.members.values() {
            by_subscription
                .entry(subscription(member))
                .or_insert_with(|| {
                    let count = by_content.len();
                    *by_content
                        .entry(ids(state, topics, member))
                        .or_insert(count)
                });
        }
        let mut distinct = vec![Vec::new(); by_content.len()];
        for (ids, place) in by_content {
            distinct[place] = ids;
        }
        Lists {
            distinct,
            by_subscription,
        }
    }

    fn topics_of(&self, member: &Member) -> &[TopicId] {
        &self.distinct[self.by_subscription[&subscription(member)]]
    }
}

fn subscription(member: &Member) -> Subscription {
    let expression = match member.expression.is_empty() {
        true => 0,
        false => member.expression.as_ptr() as usize,
    };
    (member.names.as_ptr() as usize, expression)
}

/// The topics that exist of those that a member subscribes to.
fn ids(state: &State, topics: &dyn Topics, member: &Member) -> Vec<TopicId> {
    let by_expression = state.expressions.get(&member.expression);
    let by_expression = by_expression
        .iter()
        .flat_map(|resolved| resolved.topics.iter());
    let ids: BTreeSet<TopicId> = member
        .names
        .iter()
        .chain(by_expression)
        .filter_map(|name| topics.by_name(name))
        .map(|topic| topic.id)
        .collect();
    ids.into_iter().collect()
}

/// The cluster's topics as assignors see them.
struct Cluster<'a>(&'a dyn Topics);

impl Describe for Cluster<'_> {
    fn partition_count(&self, topic: TopicId) -> Option<i32> {
        let name = self.0.name_of(topic)?;
        self.0.by_name(name.as_str()).map(|topic| topic.partitions)
    }

    fn racks(&self, topic: TopicId, partition: i32, each: &mut dyn FnMut(&str)) {
        for rack in self.0.racks_of(topic, partition) {
            each(&rack);
        }
    }
}
