//! The records of a consumer group (Kafka class `GroupCoordinatorRecordHelpers`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::wire;
use millrace_model::Timestamp;

use wire::consumer_group_target_assignment_member_value::TopicPartition;

use super::member::Member;
use super::state::State;
use crate::assignor::Partitions;
use crate::group::Record;

/// What a member said of itself.
pub(super) fn member(group: &str, id: &str, member: &Member) -> Record {
    let names = member.names.iter().map(|name| name.to_string());
    let value = wire::ConsumerGroupMemberMetadataValue {
        instance_id: member.instance.as_deref().map(str::to_owned),
        rack_id: member.rack.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: names.collect(),
        subscribed_topic_regex: Some(member.expression.to_string()),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.assignor.clone(),
        classic_member_metadata: member.classic.as_ref().map(|classic| classic.to_record()),
        ..Default::default()
    };
    Record::ConsumerGroupMemberMetadata(member_key(group, id), Some(value))
}

/// What a member owns.
pub(super) fn current(group: &str, id: &str, member: &Member) -> Record {
    let value = wire::ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: member.progress.code(),
        assigned_partitions: member.assigned.to_record(),
        partitions_pending_revocation: member.revoking.to_record(),
        ..Default::default()
    };
    Record::ConsumerGroupCurrentMemberAssignment(current_key(group, id), Some(value))
}

/// What a member should own.
pub(super) fn target(group: &str, id: &str, partitions: &Partitions) -> Record {
    let topics = partitions
        .0
        .iter()
        .map(|(topic, partitions)| TopicPartition {
            topic_id: topic.0,
            partitions: partitions.clone(),
            ..Default::default()
        });
    let value = wire::ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: topics.collect(),
        ..Default::default()
    };
    Record::ConsumerGroupTargetAssignmentMember(target_key(group, id), Some(value))
}

/// The epoch that the targets belong to.
pub(super) fn target_epoch(group: &str, epoch: i32, computed: Timestamp) -> Record {
    let value = wire::ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: epoch,
        assignment_timestamp: computed.get(),
        ..Default::default()
    };
    Record::ConsumerGroupTargetAssignmentMetadata(target_epoch_key(group), Some(value))
}

/// The group's epoch, and what its topics looked like.
pub(super) fn epoch(group: &str, epoch: i32, metadata_hash: i64) -> Record {
    let value = wire::ConsumerGroupMetadataValue {
        epoch,
        metadata_hash,
        ..Default::default()
    };
    Record::ConsumerGroupMetadata(epoch_key(group), Some(value))
}

/// The topics that an expression stands for.
pub(super) fn expression(
    group: &str,
    expression: &str,
    topics: &BTreeSet<Arc<str>>,
    version: u64,
    resolved: Timestamp,
) -> Record {
    let value = wire::ConsumerGroupRegularExpressionValue {
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        version: i64::try_from(version).unwrap_or(i64::MAX),
        timestamp: resolved.get(),
        ..Default::default()
    };
    Record::ConsumerGroupRegularExpression(expression_key(group, expression), Some(value))
}

/// Nobody subscribes to this expression any more.
pub(super) fn no_expression(group: &str, expression: &str) -> Record {
    Record::ConsumerGroupRegularExpression(expression_key(group, expression), None)
}

/// What Kafka before 4.1 wrote of the group's topics is not needed.
pub(super) fn no_partition_metadata(group: &str) -> Record {
    let key = wire::ConsumerGroupPartitionMetadataKey {
        group_id: group.to_owned(),
    };
    Record::ConsumerGroupPartitionMetadata(key, None)
}

/// The end of a member; in this order, so that nothing is ever left of one that is gone.
pub(super) fn no_member(group: &str, id: &str) -> [Record; 3] {
    [
        Record::ConsumerGroupCurrentMemberAssignment(current_key(group, id), None),
        Record::ConsumerGroupTargetAssignmentMember(target_key(group, id), None),
        Record::ConsumerGroupMemberMetadata(member_key(group, id), None),
    ]
}

impl State {
    /// The records that end the group.
    pub fn tombstones(&self, group: &str) -> Vec<Record> {
        no_group(group, self)
    }
}

/// The end of the group.
pub(super) fn no_group(id: &str, state: &State) -> Vec<Record> {
    let mut records = Vec::new();
    for member in state.members.keys() {
        let key = current_key(id, member);
        records.push(Record::ConsumerGroupCurrentMemberAssignment(key, None));
    }
    for member in state.members.keys().chain(state.target.keys().filter(|id| {
        // A target without its member: a log that was cut between the two.
        !state.members.contains_key(*id)
    })) {
        let key = target_key(id, member);
        records.push(Record::ConsumerGroupTargetAssignmentMember(key, None));
    }
    let key = target_epoch_key(id);
    records.push(Record::ConsumerGroupTargetAssignmentMetadata(key, None));
    for member in state.members.keys() {
        let key = member_key(id, member);
        records.push(Record::ConsumerGroupMemberMetadata(key, None));
    }
    for expression in state.expressions.keys() {
        records.push(no_expression(id, expression));
    }
    records.push(no_partition_metadata(id));
    records.push(Record::ConsumerGroupMetadata(epoch_key(id), None));
    records
}

fn member_key(group: &str, member: &str) -> wire::ConsumerGroupMemberMetadataKey {
    wire::ConsumerGroupMemberMetadataKey {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
    }
}

fn current_key(group: &str, member: &str) -> wire::ConsumerGroupCurrentMemberAssignmentKey {
    wire::ConsumerGroupCurrentMemberAssignmentKey {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
    }
}

fn target_key(group: &str, member: &str) -> wire::ConsumerGroupTargetAssignmentMemberKey {
    wire::ConsumerGroupTargetAssignmentMemberKey {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
    }
}

fn target_epoch_key(group: &str) -> wire::ConsumerGroupTargetAssignmentMetadataKey {
    wire::ConsumerGroupTargetAssignmentMetadataKey {
        group_id: group.to_owned(),
    }
}

fn epoch_key(group: &str) -> wire::ConsumerGroupMetadataKey {
    wire::ConsumerGroupMetadataKey {
        group_id: group.to_owned(),
    }
}

fn expression_key(group: &str, expression: &str) -> wire::ConsumerGroupRegularExpressionKey {
    wire::ConsumerGroupRegularExpressionKey {
        group_id: group.to_owned(),
        regular_expression: expression.to_owned(),
    }
}
