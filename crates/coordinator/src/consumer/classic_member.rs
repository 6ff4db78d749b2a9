//! Members of the classic protocol in a consumer group: Heartbeat and SyncGroup. They hear of a new
//! target by REBALANCE_IN_PROGRESS, join again, and fetch what they have now; the coordinator is
//! their leader.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::ErrorCode;

use super::member::{Classic, Member, Progress};
use super::state::State;
use super::work::Refusal;
use super::{embedded, find};
use crate::group::classic::CONSUMER;
use crate::group::state::{Asker, Effects, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{MemberId, Response};
use crate::wire::{HeartbeatRequest, HeartbeatResponse, SyncGroupRequest, SyncGroupResponse};

/// Heartbeat (Kafka method `classicGroupHeartbeatToConsumerGroup`).
pub(crate) fn heartbeat(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: Asker,
    request: HeartbeatRequest,
) -> Effects {
    let group = request.group_id.as_str();
    let state = replicated.consumer(group).expect("the caller has looked");
    let instance = request.group_instance_id.as_deref();
    let found = present(
        state,
        group,
        &request.member_id,
        instance,
        request.generation_id,
    );
    let code = match found {
        Err(refusal) => refusal.code,
        Ok((id, member, classic)) => {
            let soft = groups.group(group);
            let session = Timer::Session(id.clone());
            soft.start(session, context.now, classic.session_timeout_ms);
            match must_join_again(state, id, member) {
                true => {
                    call_to_join(groups, context, group, id, member);
                    ErrorCode::RebalanceInProgress
                }
                false => ErrorCode::None,
            }
        }
    };
    asker.answer(Response::Heartbeat(HeartbeatResponse {
        error_code: code.code(),
        ..Default::default()
    }))
}

/// Whether there is something for the member: a new target, something to give up, or something it
/// has waited for.
fn must_join_again(state: &State, id: &str, member: &Member) -> bool {
    member.epoch < state.assignment_epoch
        || member.progress == Progress::Unrevoked
        || (member.progress == Progress::Unreleased && !is_still_held(state, id, member))
}

/// Whether somebody else still holds something of the member's target.
fn is_still_held(state: &State, id: &str, member: &Member) -> bool {
    state.target.get(id).is_some_and(|target| {
        target.iter().any(|(topic, partition)| {
            member.assigned.since(topic, partition).is_none() && state.is_held(topic, partition)
        })
    })
}

/// Gives a member the time to join again that it asked for.
fn call_to_join(
    groups: &mut Groups,
    context: Context<'_>,
    group: &str,
    id: &MemberId,
    member: &Member,
) {
    let soft = groups.group(group);
    let timer = Timer::ClassicJoin(id.clone());
    if !soft.timers.is_set(&timer) {
        soft.start(timer, context.now, member.rebalance_timeout_ms);
    }
}

/// SyncGroup (Kafka method `classicGroupSyncToConsumerGroup`).
pub(crate) fn sync(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: Asker,
    request: SyncGroupRequest,
) -> Effects {
    let answer = assignment(replicated, groups, context, &request);
    asker.answer(Response::SyncGroup(match answer {
        Ok(assignment) => SyncGroupResponse {
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignment,
            ..Default::default()
        },
        Err(code) => SyncGroupResponse {
            error_code: code.code(),
            ..Default::default()
        },
    }))
}

fn assignment(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    request: &SyncGroupRequest,
) -> Result<Bytes, ErrorCode> {
    let group = request.group_id.as_str();
    let state = replicated.consumer(group).expect("the caller has looked");
    let instance = request.group_instance_id.as_deref();
    let (id, member, classic) = present(
        state,
        group,
        &request.member_id,
        instance,
        request.generation_id,
    )
    .map_err(|refusal| refusal.code)?;
    let (name, subscription) = classic.preferred().ok_or(ErrorCode::UnknownMemberId)?;
    let differs = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
    if differs(request.protocol_type.as_deref(), CONSUMER)
        || differs(request.protocol_name.as_deref(), name)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    if state.assignment_epoch > member.epoch && member.progress != Progress::Unrevoked {
        call_to_join(groups, context, group, id, member);
        return Err(ErrorCode::RebalanceInProgress);
    }
    let soft = groups.group(group);
    soft.timers.cancel(&Timer::ClassicSync(id.clone()));
    let session = Timer::Session(id.clone());
    soft.start(session, context.now, classic.session_timeout_ms);
    let assigned = member.assigned.0.iter().map(|(topic, partitions)| {
        let partitions = partitions.iter().map(|(partition, _)| *partition);
        (*topic, partitions.collect())
    });
    Ok(embedded::write_assignment(
        assigned,
        subscription,
        context.topics,
    ))
}

/// The member, if it speaks the classic protocol and is in this generation.
fn present<'s>(
    state: &'s State,
    group: &str,
    member: &str,
    instance: Option<&str>,
    generation: i32,
) -> Result<(&'s MemberId, &'s Arc<Member>, &'s Arc<Classic>), Refusal> {
    let (id, member) = find::present(state, group, member, instance)?;
    let Some(classic) = &member.classic else {
        let message = format!("Member {id} does not use the classic protocol.");
        return Refusal::err(ErrorCode::UnknownMemberId, message);
    };
    if member.epoch != generation {
        return Refusal::err(
            ErrorCode::IllegalGeneration,
            "The generation is another one.",
        );
    }
    Ok((id, member, classic))
}
