//! Heartbeat: a member is alive, and learns whether it must join again (Kafka method
//! `GroupMetadataManager.classicGroupHeartbeat`).

use crate::wire::{HeartbeatRequest, HeartbeatResponse};
use millrace_model::ErrorCode;

use super::Response;
use super::classic::{Live, Phase};
use super::state::{Asker, Effects, Replicated, Soft, Timer};
use super::topics::Context;
use crate::consumer;

pub(crate) fn heartbeat(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    request: HeartbeatRequest,
) -> Effects {
    if request.group_id.is_empty() {
        return answer(&asker, ErrorCode::InvalidGroupId);
    }
    if replicated.consumer(&request.group_id).is_some() {
        return consumer::classic_heartbeat(replicated, soft, context, asker, request);
    }
    let Some(group) = soft.groups.get_mut(request.group_id.as_str()) else {
        return answer(&asker, ErrorCode::UnknownMemberId);
    };
    let Some(live) = &group.classic else {
        return answer(&asker, ErrorCode::UnknownMemberId);
    };
    if let Err(code) = validate(live, &request) {
        return answer(&asker, code);
    }
    let member = &live.members[request.member_id.as_str()];
    let code = match live.phase {
        Phase::PreparingRebalance { .. } => ErrorCode::RebalanceInProgress,
        Phase::Empty | Phase::CompletingRebalance | Phase::Stable => ErrorCode::None,
    };
    let due = member.session_due(context.now);
    group.timers.set(Timer::Session(member.id.clone()), due);
    answer(&asker, code)
}

fn validate(live: &Live, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    live.validate(&request.member_id, request.group_instance_id.as_deref())?;
    match request.generation_id == live.generation {
        true => Ok(()),
        false => Err(ErrorCode::IllegalGeneration),
    }
}

fn answer(asker: &Asker, code: ErrorCode) -> Effects {
    asker.answer(Response::Heartbeat(HeartbeatResponse {
        error_code: code.code(),
        ..Default::default()
    }))
}
