//! ConsumerGroupDescribe, versions 0 and 1 (KIP-848). Version 1 tells members of the classic protocol
//! from others. Authorized operations are the caller's to add.

use std::collections::BTreeMap;

use millrace_model::{ErrorCode, TopicId};

use super::member::Member;
use super::state::State;
use crate::assignor::Partitions;
use crate::group::Topics;
use crate::group::state::Replicated;
use crate::group::topics::Context;
use crate::wire::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as Described, TopicPartitions,
};

/// `MemberType` of a member that speaks the classic protocol, and of one that does not.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

/// ConsumerGroupDescribe, of one group.
pub(crate) fn describe(
    replicated: &Replicated,
    context: Context<'_>,
    group: &str,
) -> DescribedGroup {
    let Some(state) = replicated.consumer(group) else {
        let message = match replicated.group(group) {
            Some(_) => format!("Group {group} is not a consumer group."),
            None => format!("Group {group} not found."),
        };
        return DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(message),
            group_id: group.to_owned(),
            ..Default::default()
        };
    };
    let default = context.settings.consumer_assignors.first();
    let assignor = state
        .preferred_assignor()
        .or_else(|| default.map(String::as_str));
    let members = state.members.iter();
    DescribedGroup {
        group_id: group.to_owned(),
        group_state: state.state_name().to_owned(),
        group_epoch: state.epoch,
        assignment_epoch: state.assignment_epoch,
        assignor_name: assignor.unwrap_or_default().to_owned(),
        members: members
            .map(|(id, member)| described(id, member, state, context.topics))
            .collect(),
        ..Default::default()
    }
}

fn described(id: &str, member: &Member, state: &State, topics: &dyn Topics) -> Described {
    let nothing = Partitions::default();
    let target = state.target.get(id).map_or(&nothing, |target| target);
    let names = member.names.iter().map(|name| name.to_string());
    Described {
        member_id: id.to_owned(),
        instance_id: member.instance.as_deref().map(str::to_owned),
        rack_id: member.rack.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: names.collect(),
        subscribed_topic_regex: Some(member.expression.to_string()),
        assignment: assignment(held(member), topics),
        target_assignment: assignment(target.0.clone(), topics),
        member_type: if member.is_classic() {
            CLASSIC
        } else {
            CONSUMER
        },
        ..Default::default()
    }
}

/// What it owns or may still own.
fn held(member: &Member) -> BTreeMap<TopicId, Vec<i32>> {
    let held = member.assigned.0.iter().chain(&member.revoking.0);
    let numbers = |partitions: &Vec<(i32, i32)>| partitions.iter().map(|(each, _)| *each).collect();
    Partitions::from_unsorted(held.map(|(topic, partitions)| (*topic, numbers(partitions)))).0
}

fn assignment(partitions: BTreeMap<TopicId, Vec<i32>>, topics: &dyn Topics) -> Assignment {
    let named = partitions.into_iter().filter_map(|(topic, partitions)| {
        Some(TopicPartitions {
            topic_id: topic.0,
            topic_name: topics.name_of(topic)?.to_string(),
            partitions,
            ..Default::default()
        })
    });
    Assignment {
        topic_partitions: named.collect(),
        ..Default::default()
    }
}
