//! JoinGroup to a consumer group that has members (Kafka method `classicGroupJoinToConsumerGroup`):
//! the member is answered at once, for there is no phase to wait for.

use std::sync::Arc;

use millrace_model::ErrorCode;

use super::find::{self, Claim};
use super::heartbeat::{step, subscribe};
use super::member::{Classic, Member};
use super::state::State;
use super::work::{Refusal, Work};
use super::{downgrade, embedded, records, target};
use crate::group::classic::{CONSUMER, Protocols};
use crate::group::state::{Asker, Effects, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{Caller, InstanceId, MigrationPolicy, Response};
use crate::wire::{ConsumerProtocolSubscription, JoinGroupRequest, JoinGroupResponse};

/// JoinGroup.
pub(crate) fn join(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: Asker,
    mut request: JoinGroupRequest,
) -> Effects {
    let group = std::mem::take(&mut request.group_id);
    let state = replicated.consumer(&group).expect("the caller has looked");
    let is_unknown = request.member_id.is_empty();
    if is_unknown {
        request.member_id = asker.caller.fresh_id.to_string();
    }
    let done = check(state, context, &group, &asker.caller, &request, is_unknown).and_then(|()| {
        let work = Work::on(&group, state, context);
        enter(work, groups, state, &asker, &request, is_unknown)
    });
    done.unwrap_or_else(|refusal| {
        let keeps_id = !is_unknown || refusal.code == ErrorCode::MemberIdRequired;
        asker.answer(Response::JoinGroup(JoinGroupResponse {
            error_code: refusal.code.code(),
            member_id: if keeps_id {
                request.member_id
            } else {
                String::new()
            },
            protocol_name: Some(String::new()),
            ..Default::default()
        }))
    })
}

fn check(
    state: &State,
    context: Context<'_>,
    group: &str,
    caller: &Caller,
    request: &JoinGroupRequest,
    is_unknown: bool,
) -> Result<(), Refusal> {
    let inconsistent = |message| Refusal::err(ErrorCode::InconsistentGroupProtocol, message);
    if context.settings.consumer_migration == MigrationPolicy::Disabled {
        return inconsistent("The group's protocol may not change.");
    }
    find::check_room(&Work::on(group, state, context), &request.member_id)?;
    let known = &state.derived.classic_protocols;
    let is_common =
        |name: &str| known.get(name).copied().unwrap_or_default() == state.derived.classic_members;
    if request.protocol_type != CONSUMER
        || !request
            .protocols
            .iter()
            .any(|protocol| is_common(&protocol.name))
    {
        return inconsistent("The member's protocols are not supported.");
    }
    if is_unknown && request.group_instance_id.is_none() && caller.version >= 4 {
        return Refusal::err(
            ErrorCode::MemberIdRequired,
            "The member is to join with this id.",
        );
    }
    Ok(())
}

fn enter(
    mut work: Work<'_>,
    groups: &mut Groups,
    state: &State,
    asker: &Asker,
    request: &JoinGroupRequest,
    is_unknown: bool,
) -> Result<Effects, Refusal> {
    let id = request.member_id.as_str();
    let instance = request.group_instance_id.as_deref();
    let protocols = Protocols::from_request(&request.protocols);
    let subscription = protocols
        .0
        .first()
        .and_then(|(_, bytes)| embedded::subscription(bytes));
    let Some(subscription) = subscription else {
        let message = "The subscription is malformed.";
        return Refusal::err(ErrorCode::InconsistentGroupProtocol, message);
    };
    let owned = embedded::owned(&subscription, work.context.topics);
    let claim = Claim {
        member: id,
        instance,
        epoch: None,
        owned: Some(&owned),
        joins: instance.is_none() || is_unknown,
    };
    let replaced = instance.and_then(|instance| state.static_member(instance));
    let downgrades = replaced
        .is_some_and(|(_, member)| downgrade::may_with_replaced(state, member, work.context));
    let old = find::member(&mut work, claim)?;
    let said = said(
        &old,
        request,
        &asker.caller,
        &subscription,
        protocols,
        &work,
    );
    let said = Some(said).filter(|said| *said != *old);
    let resubscribed = subscribe(&mut work, groups, id, &old, said)?;
    let up_to_date = work.state.assignment_epoch >= work.state.epoch;
    if !downgrades {
        target::update(&mut work);
    }
    let mut after = work.state.members.get(id).cloned().unwrap_or(old);
    if (!downgrades || up_to_date)
        && let Some(moved) = step(&work, id, &after, resubscribed, claim)?
    {
        work.decide(records::current(work.id, id, &moved));
        after = Arc::new(moved);
    }
    let answer = answer(id, &after);
    let mut effects = Effects::default();
    if downgrades {
        let (group, context) = (work.id, work.context);
        effects = downgrade::whole(groups, context, group, &work.state, !up_to_date);
        effects.records.splice(0..0, work.records);
    } else {
        start_timers(groups, &work, request);
        effects.records = work.records;
    }
    effects
        .replies
        .push((asker.from, Response::JoinGroup(answer)));
    Ok(effects)
}

/// The member as it says it is.
fn said(
    member: &Member,
    request: &JoinGroupRequest,
    caller: &Caller,
    subscription: &ConsumerProtocolSubscription,
    protocols: Protocols,
    work: &Work<'_>,
) -> Member {
    let mut said = member.clone();
    let instance = request.group_instance_id.as_deref();
    said.instance = instance.map(InstanceId::from).or(said.instance);
    let rack = subscription.rack_id.clone().filter(|rack| !rack.is_empty());
    said.rack = rack.or(said.rack);
    if request.rebalance_timeout_ms != -1 {
        said.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    said.names = work.state.derived.list(&subscription.topics);
    said.expression = Arc::from("");
    said.client_id.clone_from(&caller.client_id);
    said.client_host.clone_from(&caller.client_host);
    said.classic = Some(Arc::new(Classic {
        session_timeout_ms: request.session_timeout_ms,
        protocols: protocols.0,
    }));
    said
}

fn start_timers(groups: &mut Groups, work: &Work<'_>, request: &JoinGroupRequest) {
    let id = find::member_id(&work.state, &request.member_id);
    let now = work.context.now;
    let soft = groups.group(work.id);
    soft.timers.cancel(&Timer::Revocation(id.clone()));
    soft.timers.cancel(&Timer::ClassicJoin(id.clone()));
    let session = Timer::Session(id.clone());
    soft.start(session, now, request.session_timeout_ms);
    soft.start(Timer::ClassicSync(id), now, request.rebalance_timeout_ms);
}

fn answer(id: &str, member: &Member) -> JoinGroupResponse {
    let protocol = member
        .classic
        .as_ref()
        .and_then(|classic| classic.preferred());
    JoinGroupResponse {
        member_id: id.to_owned(),
        generation_id: member.epoch,
        protocol_type: Some(CONSUMER.to_owned()),
        protocol_name: protocol.map(|(name, _)| name.to_owned()),
        ..Default::default()
    }
}
