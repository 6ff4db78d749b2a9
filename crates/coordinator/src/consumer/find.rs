//! Finds the group and the member that a caller speaks for, and says no to one who may not.

use std::sync::Arc;

use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
use millrace_model::ErrorCode;

use super::member::{JOINING, LEAVING_FOR_A_WHILE, Member};
use super::records;
use super::state::State;
use super::work::{Refusal, Work};
use crate::group::MemberId;

/// Who asks, and how.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub member: &'a str,
    pub instance: Option<&'a str>,
    /// The epoch it says it is in; `None` for the classic protocol, which has it checked elsewhere.
    pub epoch: Option<i32>,
    pub owned: Option<&'a [TopicPartitions]>,
    /// Whether it may be made if it is not there.
    pub joins: bool,
}

/// The member as it is; a new one where it joins. A static member that comes back under another id
/// takes the place of the one that went away.
pub(super) fn member(work: &mut Work<'_>, claim: Claim<'_>) -> Result<Arc<Member>, Refusal> {
    match claim.instance {
        None => dynamic(work, claim),
        Some(instance) => fixed(work, claim, instance),
    }
}

fn dynamic(work: &Work<'_>, claim: Claim<'_>) -> Result<Arc<Member>, Refusal> {
    let member = match work.state.members.get(claim.member) {
        Some(member) => member.clone(),
        None if claim.joins => Arc::default(),
        None => return unknown_member(claim.member, work.id),
    };
    check_epoch(&member, claim)?;
    Ok(member)
}

fn fixed(work: &mut Work<'_>, claim: Claim<'_>, instance: &str) -> Result<Arc<Member>, Refusal> {
    let known = work.state.static_member(instance);
    let known = known.map(|(id, member)| (id.clone(), member.clone()));
    if !claim.joins {
        let Some((id, member)) = known else {
            let message = format!("Instance id {instance} is unknown.");
            return Refusal::err(ErrorCode::UnknownMemberId, message);
        };
        check_not_fenced(&id, claim.member, instance)?;
        check_epoch(&member, claim)?;
        return Ok(member);
    }
    let Some((id, member)) = known else {
        let same_id = work.state.members.get(claim.member);
        return Ok(same_id.cloned().unwrap_or_default());
    };
    if claim.epoch.is_some() && !member.is_classic() && member.epoch != LEAVING_FOR_A_WHILE {
        let new = claim.member;
        if *id == *new {
            // Its answer was lost, and it asks again. Kafka refuses it until its session ends.
            return Ok(member);
        }
        return Refusal::err(
            ErrorCode::UnreleasedInstanceId,
            format!(
                "Static member {new} with instance id {instance} cannot join the group because \
                 the instance id is owned by {id} member."
            ),
        );
    }
    Ok(take_over(work, &id, &member, claim.member))
}

/// Puts a new incarnation of a static member in the place of the old one.
fn take_over(work: &mut Work<'_>, old_id: &str, old: &Member, new_id: &str) -> Arc<Member> {
    let mut new = old.clone();
    new.epoch = JOINING;
    new.previous_epoch = JOINING;
    let target = work.state.target.get(old_id).cloned().unwrap_or_default();
    work.is_indivisible = true;
    work.remove_member(old_id);
    work.decide(records::member(work.id, new_id, &new));
    work.decide(records::target(work.id, new_id, &target));
    work.decide(records::current(work.id, new_id, &new));
    work.state.members[new_id].clone()
}

/// Whether the member may speak in the epoch it says: its own, or the one before if it has not heard
/// of its own yet.
fn check_epoch(member: &Member, claim: Claim<'_>) -> Result<(), Refusal> {
    let (Some(received), known) = (claim.epoch, member.epoch) else {
        return Ok(());
    };
    let has_not_heard = received == member.previous_epoch && owns_at_most(claim.owned, member);
    if received == JOINING || received == known || (received < known && has_not_heard) {
        return Ok(());
    }
    let what = if received > known {
        "greater"
    } else {
        "smaller"
    };
    Refusal::err(
        ErrorCode::FencedMemberEpoch,
        format!(
            "The consumer group member has a {what} member epoch ({received}) than the one known \
             by the group coordinator ({known}). The member must abandon all its partitions and \
             rejoin."
        ),
    )
}

fn owns_at_most(owned: Option<&[TopicPartitions]>, member: &Member) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|topic| {
            let id = topic.topic_id.into();
            let mut partitions = topic.partitions.iter();
            partitions.all(|partition| member.assigned.since(id, *partition).is_some())
                && member.assigned.0.contains_key(&id)
        })
    })
}

/// Says no to an older incarnation of a static member.
pub(super) fn check_not_fenced(known: &str, member: &str, instance: &str) -> Result<(), Refusal> {
    if known == member {
        return Ok(());
    }
    Refusal::err(
        ErrorCode::FencedInstanceId,
        format!("Static member {member} with instance id {instance} was fenced by member {known}."),
    )
}

/// A member that is there, by the classic protocol or to leave.
pub(super) fn present<'s>(
    state: &'s State,
    group: &str,
    member: &str,
    instance: Option<&str>,
) -> Result<(&'s MemberId, &'s Arc<Member>), Refusal> {
    let Some(instance) = instance else {
        return match state.members.get_key_value(member) {
            Some(found) => Ok(found),
            None => unknown_member(member, group),
        };
    };
    match state.static_member(instance) {
        Some(found) => check_not_fenced(found.0, member, instance).map(|()| found),
        None => Refusal::err(
            ErrorCode::UnknownMemberId,
            format!("Instance id {instance} is unknown."),
        ),
    }
}

fn unknown_member<T>(member: &str, group: &str) -> Result<T, Refusal> {
    Refusal::err(
        ErrorCode::UnknownMemberId,
        format!("Member {member} is not a member of group {group}."),
    )
}

/// Says no to a newcomer where there is no room.
pub(super) fn check_room(work: &Work<'_>, member: &str) -> Result<(), Refusal> {
    let max = work.context.settings.consumer_max_size;
    if work.state.members.len() < max || work.state.members.contains_key(member) {
        return Ok(());
    }
    Refusal::err(
        ErrorCode::GroupMaxSizeReached,
        format!("The consumer group has reached its maximum capacity of {max} members."),
    )
}

/// The group does not exist.
pub(super) fn no_such_group(group: &str) -> Refusal {
    let message = format!("Consumer group {group} not found.");
    Refusal::new(ErrorCode::GroupIdNotFound, message)
}

/// The group is another kind of group.
pub(super) fn not_a_consumer_group(group: &str) -> Refusal {
    let message = format!("Group {group} is not a consumer group.");
    Refusal::new(ErrorCode::GroupIdNotFound, message)
}

/// The member's id, made anew only where the group has not got it yet.
pub(super) fn member_id(state: &State, member: &str) -> MemberId {
    match state.members.get_key_value(member) {
        Some((known, _)) => known.clone(),
        None => MemberId::from(member),
    }
}
