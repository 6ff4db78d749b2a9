//! Members go: of their own accord, for a while, or because their time is up.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_model::ErrorCode;

use crate::wire::leave_group_request::MemberIdentity;
use crate::wire::leave_group_response::MemberResponse;
use crate::wire::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, LeaveGroupRequest,
};

use super::member::{LEAVING_FOR_A_WHILE, Member};
use super::state::State;
use super::work::{Refusal, Work};
use super::{downgrade, find, records};
use crate::group::state::{Asker, Effects, Group, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{MemberId, Response, classic};

/// After this long a member that leaves is looked at again: if it is still there, the record that
/// ends it could not be appended.
const LOOK_AGAIN_MS: i32 = 5_000;

/// ConsumerGroupHeartbeat with epoch -1 or -2 (Kafka method `consumerGroupLeave`).
pub(super) fn by_heartbeat(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: &Asker,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Effects, Refusal> {
    let group = request.group_id.as_str();
    let Some(Group::Consumer(state)) = replicated.group(group) else {
        return Err(match classic::seen(replicated, groups, group) {
            Some(_) => find::not_a_consumer_group(group),
            None => find::no_such_group(group),
        });
    };
    let instance = request.instance_id.as_deref();
    let (id, member) = find::present(state, group, &request.member_id, instance)?;
    let mut effects = if instance.is_some() && request.member_epoch == LEAVING_FOR_A_WHILE {
        leave_for_a_while(groups, group, id, member)
    } else {
        fence(groups, context, group, state, BTreeSet::from([id.clone()]))
    };
    let answer = ConsumerGroupHeartbeatResponse {
        member_id: Some(request.member_id.clone()),
        member_epoch: request.member_epoch,
        ..Default::default()
    };
    let answer = Response::ConsumerGroupHeartbeat(answer);
    effects.replies.push((asker.from, answer));
    Ok(effects)
}

/// A static member restarts: what it has is kept for it until its session ends.
fn leave_for_a_while(groups: &mut Groups, group: &str, id: &MemberId, member: &Member) -> Effects {
    let mut away = member.clone();
    away.epoch = LEAVING_FOR_A_WHILE;
    away.revoking = Arc::default();
    // Its successor begins with epoch 0, and may commit in any epoch from there.
    away.assigned = Arc::new(member.assigned.all_since(0));
    let timers = &mut groups.group(group).timers;
    timers.cancel(&Timer::Revocation(id.clone()));
    Effects {
        records: vec![records::current(group, id, &away)],
        ..Effects::default()
    }
}

/// LeaveGroup to a consumer group, by members of either protocol.
pub(crate) fn leave(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: Asker,
    request: LeaveGroupRequest,
) -> Effects {
    let group = request.group_id.as_str();
    let state = replicated.consumer(group).expect("the caller has looked");
    let mut leaving = BTreeSet::new();
    let mut answers = Vec::with_capacity(request.members.len());
    for identity in request.members {
        let code = match who_leaves(state, group, &identity) {
            Ok(id) => {
                leaving.insert(id);
                ErrorCode::None
            }
            Err(refusal) => refusal.code,
        };
        answers.push(MemberResponse {
            member_id: identity.member_id,
            group_instance_id: identity.group_instance_id,
            error_code: code.code(),
            ..Default::default()
        });
    }
    let mut effects = fence(groups, context, group, state, leaving);
    let answer = crate::group::leave::answer(&asker, answers);
    effects.replies.push((asker.from, answer));
    effects
}

/// The member of this identity; an administrator may name an instance alone.
fn who_leaves(state: &State, group: &str, who: &MemberIdentity) -> Result<MemberId, Refusal> {
    let instance = who.group_instance_id.as_deref();
    if let Some(instance) = instance
        && who.member_id.is_empty()
        && let Some((id, _)) = state.static_member(instance)
    {
        return Ok(id.clone());
    }
    find::present(state, group, &who.member_id, instance).map(|(id, _)| id.clone())
}

/// Ends members and what only they wanted (Kafka method `consumerGroupFenceMembers`). Where only
/// members of the classic protocol remain, the group becomes a classic one.
pub(super) fn fence(
    groups: &mut Groups,
    context: Context<'_>,
    group: &str,
    state: &State,
    leaving: BTreeSet<MemberId>,
) -> Effects {
    if leaving.is_empty() {
        return Effects::default();
    }
    let soft = groups.group(group);
    for member in &leaving {
        soft.timers.cancel(&Timer::Revocation(member.clone()));
        soft.timers.cancel(&Timer::ClassicJoin(member.clone()));
        soft.timers.cancel(&Timer::ClassicSync(member.clone()));
        soft.start(Timer::Session(member.clone()), context.now, LOOK_AGAIN_MS);
    }
    if downgrade::may_without(state, &leaving, context) {
        return downgrade::without(groups, context, group, state, &leaving);
    }
    let mut work = Work::on(group, state, context);
    for member in &leaving {
        work.remove_member(member);
    }
    work.drop_expressions();
    work.next_epoch(groups, true);
    Effects {
        records: work.records,
        ..Effects::default()
    }
}
