//! What the log remembers of a consumer group (Kafka classes `ModernGroup`, `ConsumerGroup`).
//!
//! Only [`State::apply`](super::replay) changes it. A decision that goes through several steps
//! applies its records to a copy, so that each step sees what the ones before decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_model::{Timestamp, TopicId};

use super::member::{Member, Names};
use crate::assignor::Partitions;
use crate::group::{InstanceId, MemberId, States};

/// What an entry of a subscription takes beside its text, about.
const ENTRY_BYTES: usize = 16;

/// The replicated state of a consumer group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// Grows with each change of members, subscriptions or topics.
    pub epoch: i32,
    /// What the subscribed topics looked like at that epoch.
    pub metadata_hash: i64,
    /// The epoch for which the targets were computed; -1 after their end.
    pub assignment_epoch: i32,
    /// When they were; 0 if never.
    pub assignment_time: Timestamp,
    pub members: BTreeMap<MemberId, Arc<Member>>,
    pub target: BTreeMap<MemberId, Arc<Partitions>>,
    /// What each expression stands for.
    pub expressions: BTreeMap<Arc<str>, Resolved>,
    /// Whether the log holds a record that Kafka before 4.1 wrote, which is to be ended.
    pub has_partition_metadata: bool,
    /// What follows from the above, kept because it would be slow to look for.
    pub derived: Derived,
}

/// The topics of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub topics: Arc<BTreeSet<Arc<str>>>,
    /// The version of the cluster's topics it was resolved against, by the broker that did.
    pub version: i64,
    pub time: Timestamp,
}

/// What follows from members and expressions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Derived {
    /// Topics by how many lists of names and expressions hold them.
    pub topics: BTreeMap<Arc<str>, u32>,
    /// Lists of names by how many members have them.
    pub lists: BTreeMap<Names, u32>,
    /// What these lists, the topics of the group's expressions, and what each member says of itself
    /// take of memory.
    pub subscription_bytes: usize,
    /// Expressions by how many members have them.
    pub expressions: BTreeMap<Arc<str>, u32>,
    /// The static members.
    pub statics: BTreeMap<InstanceId, MemberId>,
    /// By how many members each partition is held. More than one holds it only on the way through a
    /// compacted log, never at its end.
    pub holders: BTreeMap<TopicId, BTreeMap<i32, u32>>,
    /// Members that speak the classic protocol, and how many of them know each strategy.
    pub classic_members: usize,
    pub classic_protocols: BTreeMap<String, usize>,
    /// Assignors that members asked for, by how many did.
    pub assignors: BTreeMap<String, usize>,
}

impl Default for State {
    fn default() -> Self {
        State {
            // Not 0, which is what a joining member says: Kafka begins at 1 as well.
            epoch: 1,
            metadata_hash: 0,
            assignment_epoch: 1,
            assignment_time: Timestamp(0),
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            expressions: BTreeMap::new(),
            has_partition_metadata: false,
            derived: Derived::default(),
        }
    }
}

impl State {
    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its state as ListGroups and describe show it.
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.are_all_there() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Counts it among the groups of its state.
    pub fn count(&self, states: &mut States) {
        match self.state_name() {
            "Empty" => states.consumer_empty += 1,
            "Assigning" => states.consumer_assigning += 1,
            "Stable" => states.consumer_stable += 1,
            _ => states.consumer_reconciling += 1,
        }
    }

    fn are_all_there(&self) -> bool {
        let mut members = self.members.values();
        members.all(|member| member.has_reached(self.assignment_epoch))
    }

    /// Whether a member subscribes to this topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.derived.topics.contains_key(topic)
    }

    /// Whether this member does, by name or by expression.
    pub fn does_subscribe(&self, member: &Member, topic: &str) -> bool {
        member.names_topic(topic)
            || self
                .expressions
                .get(&member.expression)
                .is_some_and(|resolved| resolved.topics.contains(topic))
    }

    /// The member that has this static identity.
    pub fn static_member(&self, instance: &str) -> Option<(&MemberId, &Arc<Member>)> {
        let id = self.derived.statics.get(instance)?;
        self.members.get_key_value(id)
    }

    /// Whether a member holds this partition, or may still do.
    pub fn is_held(&self, topic: TopicId, partition: i32) -> bool {
        self.derived
            .holders
            .get(&topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// The assignor that most members ask for; among equals the first by name.
    pub fn preferred_assignor(&self) -> Option<&str> {
        let assignors = &self.derived.assignors;
        let most = assignors.values().max()?;
        let mut of_those = assignors.iter().filter(|(_, count)| *count == most);
        of_those.next().map(|(name, _)| name.as_str())
    }

    /// Whether all members but these speak the classic protocol.
    pub fn are_all_classic_but(&self, leaving: &BTreeSet<MemberId>) -> bool {
        let classic = leaving
            .iter()
            .filter_map(|id| self.members.get(id))
            .filter(|member| member.is_classic())
            .count();
        self.derived.classic_members - classic == self.members.len() - leaving.len()
    }
}

impl Derived {
    /// A list of names, shared with whoever has the same.
    pub fn list(&self, names: &[String]) -> Names {
        let mut list: Vec<Arc<str>> = names.iter().map(|name| self.name(name)).collect();
        list.sort_unstable();
        list.dedup();
        match self.lists.get_key_value(list.as_slice()) {
            Some((known, _)) => known.clone(),
            None => list.into(),
        }
    }

    /// A name, shared with whoever has the same.
    pub fn name(&self, name: &str) -> Arc<str> {
        match self.topics.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => Arc::from(name),
        }
    }

    /// Takes in what follows from a member.
    pub fn add(&mut self, id: &MemberId, member: &Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.subscription_bytes += member.text_bytes();
        let lists = self.lists.entry(member.names.clone()).or_default();
        *lists += 1;
        if *lists == 1 {
            self.add_topics(member.names.iter());
        }
        if !member.expression.is_empty() {
            *self
                .expressions
                .entry(member.expression.clone())
                .or_default() += 1;
        }
        if let Some(assignor) = &member.assignor {
            *self.assignors.entry(assignor.clone()).or_default() += 1;
        }
        if let Some(classic) = &member.classic {
            self.classic_members += 1;
            for (name, _) in &classic.protocols {
                *self.classic_protocols.entry(name.clone()).or_default() += 1;
            }
        }
        self.hold(member);
    }

    /// Takes out what followed from a member.
    pub fn remove(&mut self, id: &MemberId, member: &Member) {
        if let Some(instance) = &member.instance
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
        self.subscription_bytes -= member.text_bytes();
        if decrease(&mut self.lists, &member.names) {
            self.remove_topics(member.names.iter());
        }
        if !member.expression.is_empty() {
            decrease(&mut self.expressions, &member.expression);
        }
        if let Some(assignor) = &member.assignor {
            decrease_count(&mut self.assignors, assignor);
        }
        if let Some(classic) = &member.classic {
            self.classic_members -= 1;
            for (name, _) in &classic.protocols {
                decrease_count(&mut self.classic_protocols, name);
            }
        }
        self.release(member);
    }

    pub fn add_topics<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<str>>) {
        for topic in topics {
            *self.topics.entry(topic.clone()).or_default() += 1;
            self.subscription_bytes += topic.len() + ENTRY_BYTES;
        }
    }

    pub fn remove_topics<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<str>>) {
        for topic in topics {
            decrease(&mut self.topics, topic);
            self.subscription_bytes -= topic.len() + ENTRY_BYTES;
        }
    }

    /// Takes in what a member holds.
    pub fn hold(&mut self, member: &Member) {
        for held in [&member.assigned, &member.revoking] {
            for (topic, partitions) in &held.0 {
                let holders = self.holders.entry(*topic).or_default();
                for (partition, _) in partitions {
                    *holders.entry(*partition).or_default() += 1;
                }
            }
        }
    }

    /// Takes out what a member held.
    pub fn release(&mut self, member: &Member) {
        for held in [&member.assigned, &member.revoking] {
            for (topic, partitions) in &held.0 {
                let Some(holders) = self.holders.get_mut(topic) else {
                    continue;
                };
                for (partition, _) in partitions {
                    decrease(holders, partition);
                }
                if holders.is_empty() {
                    self.holders.remove(topic);
                }
            }
        }
    }
}

/// Counts one less; says whether that was the last one.
fn decrease<Key: Ord>(counts: &mut BTreeMap<Key, u32>, key: &Key) -> bool {
    let Some(count) = counts.get_mut(key) else {
        return false;
    };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    counts.remove(key);
    true
}

fn decrease_count(counts: &mut BTreeMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
