//! Server-side assignors of KIP-848: who of a consumer group gets which partition.
//!
//! Both are pure functions of the members, what they own by the last target, and the topics. Both
//! give every existing partition that somebody subscribes to exactly one owner. `uniform` evens out
//! the number of partitions and then moves as few as it can; `range` gives neighbours to neighbours
//! and equal numbers of different topics to the same member, whatever was owned before.
//!
//! Kafka's assignors (`org.apache.kafka.coordinator.group.assignor`) look at no racks. `uniform`
//! here prefers, among choices that are equally even and equally sticky, a member on the rack of a
//! replica; `range` does not, because that would break its alignment of topics.

mod range;
mod uniform;

use std::collections::BTreeMap;

use millrace_model::TopicId;

/// Partitions by topic; numbers ascend within a topic and no topic is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(pub BTreeMap<TopicId, Vec<i32>>);

impl Partitions {
    /// How many partitions there are in all.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.0
            .get(&topic)
            .is_some_and(|partitions| partitions.binary_search(&partition).is_ok())
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        self.0
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
    }

    /// Sorts and sorts out what came from elsewhere.
    pub fn from_unsorted(parts: impl IntoIterator<Item = (TopicId, Vec<i32>)>) -> Partitions {
        let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, mut partitions) in parts {
            if !partitions.is_empty() {
                by_topic.entry(topic).or_default().append(&mut partitions);
            }
        }
        for partitions in by_topic.values_mut() {
            partitions.sort_unstable();
            partitions.dedup();
        }
        Partitions(by_topic)
    }
}

/// What an assignor is told of one member.
#[derive(Clone, Copy, Debug)]
pub struct MemberSpec<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its static identity, if it has one.
    pub instance: Option<&'a str>,
    /// The rack it runs on, if it said so.
    pub rack: Option<&'a str>,
    /// Topics it subscribes to, ascending and without doubles. Members that subscribe alike share
    /// one slice: that is how an assignor recognises them.
    pub topics: &'a [TopicId],
    /// What the last target gave it.
    pub owned: &'a Partitions,
}

/// What an assignor is told of the topics.
pub trait Describe {
    /// How many partitions the topic has; `None` when there is no such topic.
    fn partition_count(&self, topic: TopicId) -> Option<i32>;

    /// Calls `each` with the racks on which this partition has replicas, as far as known.
    fn racks(&self, topic: TopicId, partition: i32, each: &mut dyn FnMut(&str));
}

/// An assignor that a broker offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Even numbers, then few movements, then near racks.
    Uniform,
    /// Ranges of each topic, aligned between topics.
    Range,
}

impl Assignor {
    /// All of them, the default first (`group.consumer.assignors`).
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// Its name in requests and settings.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Assignor> {
        Assignor::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// The new target: one entry for each member, in their order. `members` are in the order of
    /// their ids; topics that do not exist are passed over.
    pub fn assign(self, members: &[MemberSpec<'_>], topics: &dyn Describe) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(members, topics),
            Assignor::Range => range::assign(members, topics),
        }
    }
}

/// Whether two members share one subscription.
fn subscribe_alike(one: &MemberSpec<'_>, other: &MemberSpec<'_>) -> bool {
    std::ptr::eq(one.topics, other.topics)
}
