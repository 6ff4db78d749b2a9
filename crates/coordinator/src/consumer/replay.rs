//! Records of consumer groups become state (Kafka's `GroupMetadataManager.replay`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::wire;
use millrace_model::{Timestamp, TopicId};

use super::member::{Classic, Held, Member, Progress};
use super::state::{Resolved, State};
use crate::assignor::Partitions;
use crate::group::state::Group;
use crate::group::{GroupId, InstanceId, MemberId, Record};

/// Applies a `ConsumerGroup*` record.
pub(crate) fn replay(groups: &mut BTreeMap<GroupId, Group>, record: &Record) {
    let (id, is_value) = subject(record);
    if let Some(Group::Consumer(state)) = groups.get_mut(id) {
        state.apply(record);
        if matches!(record, Record::ConsumerGroupMetadata(_, None)) {
            groups.remove(id);
        }
    } else if is_value {
        // The group is new, or was one that only commits offsets: what a classic group with members
        // had was ended before the first record of the consumer group that it turned into.
        let mut state = State::default();
        state.apply(record);
        groups.insert(GroupId::from(id), Group::Consumer(state));
    }
}

/// Whose record this is, and whether it says something rather than ending something.
fn subject(record: &Record) -> (&str, bool) {
    match record {
        Record::ConsumerGroupMetadata(key, value) => (&key.group_id, value.is_some()),
        Record::ConsumerGroupPartitionMetadata(key, value) => (&key.group_id, value.is_some()),
        Record::ConsumerGroupMemberMetadata(key, value) => (&key.group_id, value.is_some()),
        Record::ConsumerGroupTargetAssignmentMetadata(key, value) => {
            (&key.group_id, value.is_some())
        }
        Record::ConsumerGroupTargetAssignmentMember(key, value) => (&key.group_id, value.is_some()),
        Record::ConsumerGroupCurrentMemberAssignment(key, value) => {
            (&key.group_id, value.is_some())
        }
        Record::ConsumerGroupRegularExpression(key, value) => (&key.group_id, value.is_some()),
        Record::OffsetCommit(key, _) => (&key.group, false),
        Record::GroupMetadata(key, _) => (&key.group, false),
    }
}

impl State {
    /// Applies a record of this group; the only function that changes it.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::ConsumerGroupMetadata(_, Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Record::ConsumerGroupPartitionMetadata(_, value) => {
                self.has_partition_metadata = value.is_some();
            }
            Record::ConsumerGroupMemberMetadata(key, value) => {
                self.apply_member(&key.member_id, value.as_ref());
            }
            Record::ConsumerGroupTargetAssignmentMetadata(_, value) => {
                let value = value.as_ref();
                self.assignment_epoch = value.map_or(-1, |value| value.assignment_epoch);
                let time = value.map_or(0, |value| value.assignment_timestamp);
                self.assignment_time = Timestamp(time);
            }
            Record::ConsumerGroupTargetAssignmentMember(key, value) => {
                self.apply_target(&key.member_id, value.as_ref());
            }
            Record::ConsumerGroupCurrentMemberAssignment(key, value) => {
                self.apply_current(&key.member_id, value.as_ref());
            }
            Record::ConsumerGroupRegularExpression(key, value) => {
                self.apply_expression(&key.regular_expression, value.as_ref());
            }
            Record::ConsumerGroupMetadata(_, None)
            | Record::OffsetCommit(..)
            | Record::GroupMetadata(..) => {}
        }
    }

    /// Puts a changed member in the place of what was known of it.
    fn replace(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        let (id, mut member) = match self.members.remove_entry(id) {
            Some((id, member)) => {
                self.derived.remove(&id, &member);
                (id, member)
            }
            None => (MemberId::from(id), Arc::default()),
        };
        change(Arc::make_mut(&mut member));
        self.derived.add(&id, &member);
        self.members.insert(id, member);
    }

    fn apply_member(&mut self, id: &str, value: Option<&wire::ConsumerGroupMemberMetadataValue>) {
        let Some(value) = value else {
            if let Some((id, member)) = self.members.remove_entry(id) {
                self.derived.remove(&id, &member);
            }
            return;
        };
        let names = self.derived.list(&value.subscribed_topic_names);
        let expression = value.subscribed_topic_regex.as_deref().unwrap_or_default();
        let expression = match self.derived.expressions.get_key_value(expression) {
            Some((known, _)) => known.clone(),
            None => Arc::from(expression),
        };
        // Records older than this field read as if it were there and empty.
        let classic = value.classic_member_metadata.as_ref().filter(|classic| {
            classic.session_timeout_ms != 0 || !classic.supported_protocols.is_empty()
        });
        self.replace(id, |member| {
            member.instance = value.instance_id.as_deref().map(InstanceId::from);
            member.rack = value.rack_id.clone();
            member.client_id = value.client_id.clone();
            member.client_host = value.client_host.clone();
            member.names = names;
            member.expression = expression;
            member.rebalance_timeout_ms = value.rebalance_timeout_ms;
            member.assignor = value.server_assignor.clone();
            member.classic = classic.map(|classic| Arc::new(Classic::from_record(classic)));
        });
    }

    fn apply_target(
        &mut self,
        id: &str,
        value: Option<&wire::ConsumerGroupTargetAssignmentMemberValue>,
    ) {
        let Some(value) = value else {
            self.target.remove(id);
            return;
        };
        let topics = value.topic_partitions.iter();
        let partitions = Partitions::from_unsorted(
            topics.map(|topic| (TopicId(topic.topic_id), topic.partitions.clone())),
        );
        self.target.insert(MemberId::from(id), Arc::new(partitions));
    }

    fn apply_current(
        &mut self,
        id: &str,
        value: Option<&wire::ConsumerGroupCurrentMemberAssignmentValue>,
    ) {
        if value.is_none() && !self.members.contains_key(id) {
            return;
        }
        let (id, mut member) = match self.members.remove_entry(id) {
            Some(known) => known,
            None => {
                let new = (MemberId::from(id), Arc::<Member>::default());
                self.derived.add(&new.0, &new.1);
                new
            }
        };
        self.derived.release(&member);
        set_current(Arc::make_mut(&mut member), value);
        self.derived.hold(&member);
        self.members.insert(id, member);
    }

    fn apply_expression(
        &mut self,
        expression: &str,
        value: Option<&wire::ConsumerGroupRegularExpressionValue>,
    ) {
        if let Some(old) = self.expressions.remove(expression) {
            self.derived.remove_topics(old.topics.iter());
        }
        let Some(value) = value else {
            return;
        };
        let topics = value.topics.iter().map(|topic| self.derived.name(topic));
        let resolved = Resolved {
            topics: Arc::new(topics.collect()),
            version: value.version,
            time: Timestamp(value.timestamp),
        };
        self.derived.add_topics(resolved.topics.iter());
        let known = self.derived.expressions.get_key_value(expression);
        let expression = known.map_or_else(|| Arc::from(expression), |(known, _)| known.clone());
        self.expressions.insert(expression, resolved);
    }
}

/// What a member owns from here on; without a value it owns nothing and is about to go.
fn set_current(
    member: &mut Member,
    value: Option<&wire::ConsumerGroupCurrentMemberAssignmentValue>,
) {
    let Some(value) = value else {
        member.epoch = -1;
        member.previous_epoch = -1;
        member.assigned = Arc::default();
        member.revoking = Arc::default();
        return;
    };
    let held = |recorded| Arc::new(Held::from_record(recorded, value.member_epoch));
    member.epoch = value.member_epoch;
    member.previous_epoch = value.previous_member_epoch;
    member.progress = Progress::from_code(value.state);
    member.assigned = held(&value.assigned_partitions);
    member.revoking = held(&value.partitions_pending_revocation);
}
