//! LeaveGroup: members go, by themselves or by an administrator's order (Kafka method
//! `GroupMetadataManager.classicGroupLeave`).
//!
//! Before version 3 one member leaves, and its code is the answer's. From version 3 several may, also
//! by instance id alone (KIP-345).

use crate::wire;
use millrace_model::ErrorCode;

use wire::leave_group_request::MemberIdentity;
use wire::leave_group_response::MemberResponse;
use wire::{LeaveGroupRequest, LeaveGroupResponse};

use super::Response;
use super::classic::{self, Phase};
use super::state::{Asker, Effects, Replicated, Soft, SoftGroup};
use super::topics::Context;
use crate::consumer;

pub(crate) fn leave(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    mut request: LeaveGroupRequest,
) -> Effects {
    if asker.caller.version < 3 {
        request.members = vec![MemberIdentity {
            member_id: std::mem::take(&mut request.member_id),
            ..Default::default()
        }];
    }
    if request.group_id.is_empty() {
        return refuse(&asker, ErrorCode::InvalidGroupId);
    }
    if replicated.consumer(&request.group_id).is_some() {
        return consumer::leave(replicated, soft, context, asker, request);
    }
    let mut effects = Effects::default();
    let mut members = Vec::new();
    // Without members, and without a group, each of them is unknown.
    let group = soft.groups.get_mut(request.group_id.as_str());
    let Some(group) = group.filter(|group| group.classic.is_some()) else {
        let unknown = |identity| member_answer(identity, ErrorCode::UnknownMemberId);
        members.extend(request.members.into_iter().map(unknown));
        return asker.answer(answer(&asker, members));
    };
    for identity in request.members {
        let code = leave_one(group, &identity, &mut effects);
        members.push(member_answer(identity, code));
    }
    if members.iter().any(|member| member.error_code == 0) {
        effects.append(close_ranks(group, context, &request.group_id));
    }
    effects.replies.push((asker.from, answer(&asker, members)));
    effects
}

fn leave_one(group: &mut SoftGroup, identity: &MemberIdentity, effects: &mut Effects) -> ErrorCode {
    let instance = identity.group_instance_id.as_deref();
    let live = classic::live(group);
    let id = match (identity.member_id.as_str(), instance) {
        ("", Some(instance)) => match live.statics.get(instance) {
            Some(known) => known.to_string(),
            None => return ErrorCode::UnknownMemberId,
        },
        ("", None) => return ErrorCode::UnknownMemberId,
        (pending, _) if live.pending.contains(pending) => pending.to_owned(),
        (id, instance) => match live.validate(id, instance) {
            Ok(()) => id.to_owned(),
            Err(code) => return code,
        },
    };
    classic::dismiss(group, &id, effects);
    ErrorCode::None
}

/// The others share anew what the leaving members had.
fn close_ranks(group: &mut SoftGroup, context: Context<'_>, id: &str) -> Effects {
    match classic::live(group).phase {
        Phase::Stable | Phase::CompletingRebalance => {
            classic::prepare_rebalance(group, context, id)
        }
        Phase::PreparingRebalance { .. } => classic::maybe_complete_join(group, context, id),
        Phase::Empty => {
            // What left was a member id that had never been used.
            let live = classic::live(group);
            if live.pending.is_empty() {
                group.classic = None;
            }
            Effects::default()
        }
    }
}

fn member_answer(identity: MemberIdentity, code: ErrorCode) -> MemberResponse {
    MemberResponse {
        member_id: identity.member_id,
        group_instance_id: identity.group_instance_id,
        error_code: code.code(),
        ..Default::default()
    }
}

/// The answer in the form that the caller's version has.
pub(crate) fn answer(asker: &Asker, members: Vec<MemberResponse>) -> Response {
    let only = members.first().map_or(0, |member| member.error_code);
    Response::LeaveGroup(match asker.caller.version < 3 {
        true => LeaveGroupResponse {
            error_code: only,
            ..Default::default()
        },
        false => LeaveGroupResponse {
            members,
            ..Default::default()
        },
    })
}

fn refuse(asker: &Asker, code: ErrorCode) -> Effects {
    asker.answer(Response::LeaveGroup(LeaveGroupResponse {
        error_code: code.code(),
        ..Default::default()
    }))
}
