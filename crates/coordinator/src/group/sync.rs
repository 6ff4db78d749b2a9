//! SyncGroup: the leader brings the assignment, everyone fetches theirs (Kafka method
//! `GroupMetadataManager.classicGroupSync`).
//!
//! From version 5 the protocol's type and name are named and must be the group's (KIP-559).

use std::collections::BTreeMap;

use crate::wire::SyncGroupRequest;
use bytes::Bytes;
use millrace_model::ErrorCode;

use super::Response;
use super::classic::{self, Live, Phase, record};
use super::state::{Asker, Effects, Replicated, Soft, SoftGroup, Timer};
use super::topics::Context;
use crate::consumer;

pub(crate) fn sync(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    request: SyncGroupRequest,
) -> Effects {
    if request.group_id.is_empty() {
        return refuse(&asker, ErrorCode::InvalidGroupId);
    }
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if asker.caller.version >= 5 && !names_protocol {
        return refuse(&asker, ErrorCode::InconsistentGroupProtocol);
    }
    if let Some(state) = replicated.consumer(&request.group_id) {
        return match state.is_empty() {
            true => refuse(&asker, ErrorCode::UnknownMemberId),
            false => consumer::sync(replicated, soft, context, asker, request),
        };
    }
    let Some(group) = soft.groups.get_mut(request.group_id.as_str()) else {
        return refuse(&asker, ErrorCode::UnknownMemberId);
    };
    match group.classic.as_ref().map(|live| validate(live, &request)) {
        None => refuse(&asker, ErrorCode::UnknownMemberId),
        Some(Err(code)) => refuse(&asker, code),
        Some(Ok(())) => to_classic(group, context, &asker, request),
    }
}

fn validate(live: &Live, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    let differs = |named: Option<&str>, known: Option<&str>| matches!((named, known), (Some(named), Some(known)) if named != known);
    if live.phase == Phase::Empty {
        return Err(ErrorCode::UnknownMemberId);
    }
    live.validate(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != live.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    if differs(
        request.protocol_type.as_deref(),
        live.protocol_type.as_deref(),
    ) || differs(request.protocol_name.as_deref(), live.protocol.as_deref())
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

fn to_classic(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: SyncGroupRequest,
) -> Effects {
    let live = classic::live(group);
    let id = request.member_id.as_str();
    match live.phase {
        Phase::Empty => refuse(asker, ErrorCode::UnknownMemberId),
        Phase::PreparingRebalance { .. } => refuse(asker, ErrorCode::RebalanceInProgress),
        Phase::Stable => {
            let assignment = live.members[id].assignment.clone();
            let answer = Response::SyncGroup(live.sync_answer(assignment));
            has_synced(group, id);
            asker.answer(answer)
        }
        Phase::CompletingRebalance => {
            let mut effects = Effects::default();
            let member = live.members.get_mut(id).expect("validated");
            if let Some(given_up) = member.syncing.replace(asker.from) {
                let refusal = classic::sync_reply(given_up, ErrorCode::RebalanceInProgress);
                effects.replies.push(refusal);
            }
            let leads = live.is_leader(id);
            has_synced(group, id);
            if leads {
                effects.append(assign(group, context, request));
            }
            effects
        }
    }
}

/// Brings the leader's assignment to the log; the group is stable once it is there. Members that the
/// leader forgot get an empty one.
fn assign(group: &mut SoftGroup, context: Context<'_>, request: SyncGroupRequest) -> Effects {
    let SoftGroup {
        classic, timers, ..
    } = group;
    let live = classic.as_mut().expect("its leader has spoken");
    // Copied, for the request's bytes share its whole frame.
    let assigned: BTreeMap<String, Bytes> = request
        .assignments
        .into_iter()
        .filter(|of| live.members.contains_key(of.member_id.as_str()))
        .map(|of| (of.member_id, Bytes::copy_from_slice(&of.assignment)))
        .collect();
    let assignment_of = |id: &str| assigned.get(id).cloned().unwrap_or_default();
    let value = live.to_record(|member| assignment_of(&member.id));
    let mut effects = Effects {
        records: vec![record(&request.group_id, value)],
        ..Effects::default()
    };
    let waiting: Vec<_> = live
        .members
        .values_mut()
        .filter_map(|member| Some((member.syncing.take()?, member.id.clone())))
        .collect();
    for (to, id) in waiting {
        let answer = live.sync_answer(assignment_of(&id));
        effects.replies.push((to, Response::SyncGroup(answer)));
        let due = live.members[&id].session_due(context.now);
        timers.set(Timer::Session(id), due);
    }
    effects
}

/// This member has its assignment; the group stops waiting once everyone has.
fn has_synced(group: &mut SoftGroup, id: &str) {
    let live = classic::live(group);
    live.unsynced.remove(id);
    if live.unsynced.is_empty() {
        group.timers.cancel(&Timer::Sync);
    }
}

fn refuse(asker: &Asker, code: ErrorCode) -> Effects {
    let (to, response) = classic::sync_reply(asker.from, code);
    Effects::reply(to, response)
}
