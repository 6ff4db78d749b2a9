//! JoinGroup: a member comes, or comes again (Kafka method `GroupMetadataManager.classicGroupJoin`).
//!
//! - Version 0 has no rebalance timeout: the session's counts.
//! - From version 4 a member without an id is given one and asked to come again with it (KIP-394), so
//!   that a client that gives up while it waits leaves no member behind.
//! - From version 5 members may be static (KIP-345): the newest holder of an instance id takes over
//!   the member, and whoever held it before is fenced.
//! - From version 9 a static leader that takes over learns the members, and that it need not compute
//!   an assignment (KIP-814).

use crate::wire::{JoinGroupRequest, JoinGroupResponse};
use bytes::Bytes;
use millrace_model::limits::{MAX_GROUP_SUBSCRIPTION_BYTES, MAX_PENDING_MEMBERS};
use millrace_model::{ErrorCode, Uuid};

use super::classic::{self, Live, Member, Phase, Protocols};
use super::state::{Asker, Effects, Group, Replicated, Soft, SoftGroup, Timer};
use super::topics::Context;
use super::{InstanceId, MemberId, Response};
use crate::consumer;

/// How long a member that does not know its id yet may wait without joining again
/// (`group.new.member.join.timeout.ms`, which is no public setting): its connection may be gone.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

pub(crate) fn join(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    mut request: JoinGroupRequest,
) -> Effects {
    if let Some(code) = malformed(context, &request) {
        return refuse(&asker, &request.member_id, code);
    }
    if asker.caller.version == 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let id = request.group_id.clone();
    let mut records = Vec::new();
    match replicated.group(&id) {
        Some(Group::Consumer(state)) if !state.is_empty() => {
            return consumer::join(replicated, soft, context, asker, request);
        }
        // A consumer group without members gives its place to a classic one.
        Some(Group::Consumer(state)) => records = state.tombstones(&id),
        Some(Group::Classic(_)) | None => {}
    }
    let recorded = replicated.classic(&id);
    if recorded.is_none() && soft.classic(&id).is_none() && !request.member_id.is_empty() {
        return refuse(&asker, &request.member_id, ErrorCode::UnknownMemberId);
    }
    let group = soft.group(&id);
    group
        .classic
        .get_or_insert_with(|| Live::new(recorded, context.wall));
    let mut effects = to_classic(group, context, &asker, &request);
    let live = classic::live(group);
    let is_member = !live.members.is_empty() || !live.pending.is_empty();
    if !is_member && live.phase == Phase::Empty {
        // Nobody was let in: nothing is remembered of the attempt.
        group.classic = None;
        return effects;
    }
    if recorded.is_none() && live.generation == 0 {
        records.push(classic::newborn(&id, context.wall));
    }
    effects.records.splice(0..0, records);
    effects
}

fn malformed(context: Context<'_>, request: &JoinGroupRequest) -> Option<ErrorCode> {
    let settings = context.settings;
    let sessions = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
    if request.group_id.is_empty() {
        Some(ErrorCode::InvalidGroupId)
    } else if !sessions.contains(&request.session_timeout_ms) {
        Some(ErrorCode::InvalidSessionTimeout)
    } else {
        None
    }
}

fn to_classic(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
) -> Effects {
    let live = classic::live(group);
    if !has_room(live, context, request) {
        return turn_away(group, context, asker, request);
    }
    let names = request
        .protocols
        .iter()
        .map(|protocol| protocol.name.as_str());
    if !live.supports(&request.protocol_type, names) {
        return refuse(
            asker,
            &request.member_id,
            ErrorCode::InconsistentGroupProtocol,
        );
    }
    if request.member_id.is_empty() {
        new_member(group, context, asker, request)
    } else {
        known_member(group, context, asker, request)
    }
}

/// Whether the group may take this member (Kafka method `acceptJoiningMember`), and what it brings.
fn has_room(live: &Live, context: Context<'_>, request: &JoinGroupRequest) -> bool {
    let member = live.members.get(request.member_id.as_str());
    let offered: usize = request
        .protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len())
        .sum();
    let held = live.subscription_bytes - member.map_or(0, |member| member.protocols.bytes());
    if held + offered > MAX_GROUP_SUBSCRIPTION_BYTES {
        return false;
    }
    let max_size = context.settings.max_size;
    match live.phase {
        Phase::Empty => true,
        // By who has joined, not by who is a member: the last to come again are too many, where
        // the limit has been lowered.
        Phase::PreparingRebalance { .. } => {
            member.is_some_and(|member| member.joining.is_some()) || live.joined() < max_size
        }
        Phase::CompletingRebalance | Phase::Stable => {
            member.is_some() || live.members.len() < max_size
        }
    }
}

/// There is no room for this member: one that is called to join again is out, so that the others
/// do not wait for it.
fn turn_away(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
) -> Effects {
    let mut effects = refuse(asker, "", ErrorCode::GroupMaxSizeReached);
    let live = classic::live(group);
    let id = request.member_id.as_str();
    if live.phase.is_preparing()
        && live
            .validate(id, request.group_instance_id.as_deref())
            .is_ok()
    {
        classic::dismiss(group, id, &mut effects);
        effects.append(classic::maybe_complete_join(
            group,
            context,
            &request.group_id,
        ));
    }
    effects
}

fn new_member(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
) -> Effects {
    let live = classic::live(group);
    if let Some(instance) = request.group_instance_id.as_deref() {
        let fresh = fresh_member_id(instance, asker.caller.fresh_id);
        return match live.statics.get(instance).cloned() {
            Some(known) => take_over(group, context, asker, request, &known, fresh),
            None => add_member(group, context, asker, request, fresh),
        };
    }
    let fresh = fresh_member_id(&asker.caller.client_id, asker.caller.fresh_id);
    if asker.caller.version < 4 {
        return add_member(group, context, asker, request, fresh);
    }
    if live.pending.len() >= MAX_PENDING_MEMBERS {
        return refuse(asker, "", ErrorCode::GroupMaxSizeReached);
    }
    live.pending.insert(fresh.clone());
    let refusal = refuse(asker, &fresh, ErrorCode::MemberIdRequired);
    group.start(
        Timer::Session(fresh),
        context.now,
        request.session_timeout_ms,
    );
    refusal
}

fn known_member(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
) -> Effects {
    let id = request.member_id.as_str();
    let instance = request.group_instance_id.as_deref();
    let live = classic::live(group);
    if live.pending.contains(id) && instance.is_none() {
        return add_member(group, context, asker, request, id.into());
    }
    if let Err(code) = live.validate(id, instance) {
        return refuse(asker, id, code);
    }
    let member = &live.members[id];
    let unchanged = member.protocols == Protocols::from_request(&request.protocols);
    let rejoins = match live.phase {
        Phase::PreparingRebalance { .. } => true,
        // It may not have got the answer to its first attempt.
        Phase::CompletingRebalance => !unchanged,
        // The leader may have seen what no subscription says: more partitions, for instance.
        Phase::Stable => !unchanged || live.is_leader(id),
        Phase::Empty => return refuse(asker, id, ErrorCode::UnknownMemberId),
    };
    if rejoins {
        return rejoin(group, context, asker, request, id);
    }
    let mut answer = live.join_answer(id);
    if live.phase == Phase::Stable {
        answer.members.clear();
    }
    asker.answer(Response::JoinGroup(answer))
}

fn rejoin(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
    id: &str,
) -> Effects {
    let mut effects = Effects::default();
    if let Some(given_up) = classic::live(group).update(id, request, asker.from) {
        let answer = refusal(id, ErrorCode::RebalanceInProgress);
        effects.replies.push((given_up, answer));
    }
    effects.append(classic::maybe_prepare_rebalance_or_complete_join(
        group,
        context,
        &request.group_id,
    ));
    effects
}

fn add_member(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
    id: MemberId,
) -> Effects {
    let member = Member {
        id: id.clone(),
        instance: request.group_instance_id.as_deref().map(InstanceId::from),
        client_id: asker.caller.client_id.clone(),
        client_host: asker.caller.client_host.clone(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        session_timeout_ms: request.session_timeout_ms,
        protocols: Protocols::from_request(&request.protocols),
        assignment: Bytes::new(),
        joining: Some(asker.from),
        syncing: None,
        is_new: true,
    };
    let live = classic::live(group);
    if let Phase::PreparingRebalance {
        initial: Some(delay),
    } = &mut live.phase
    {
        delay.extended = true;
    }
    live.add(member, &request.protocol_type);
    group.start(Timer::Session(id), context.now, NEW_MEMBER_JOIN_TIMEOUT_MS);
    classic::maybe_prepare_rebalance_or_complete_join(group, context, &request.group_id)
}

/// The new holder of an instance id takes the place of the old one. Where nothing changes for the
/// others, the group goes on without a rebalance.
fn take_over(
    group: &mut SoftGroup,
    context: Context<'_>,
    asker: &Asker,
    request: &JoinGroupRequest,
    old: &str,
    new: MemberId,
) -> Effects {
    let live = classic::live(group);
    let leader_before = live.leader.clone();
    let mut effects = Effects {
        replies: live.rename(old, new.clone()),
        ..Effects::default()
    };
    live.update(&new, request, asker.from);
    let phase = live.phase;
    let keeps_protocol = live.select_protocol() == live.protocol;
    group.timers.cancel(&Timer::Session(old.into()));
    group.start(
        Timer::Session(new.clone()),
        context.now,
        request.session_timeout_ms,
    );
    let id = &request.group_id;
    effects.append(match phase {
        Phase::Stable if keeps_protocol => {
            stay_stable(classic::live(group), asker, id, &new, leader_before)
        }
        // The leader may be computing an assignment for the old member id.
        Phase::Stable | Phase::CompletingRebalance => {
            classic::prepare_rebalance(group, context, id)
        }
        Phase::PreparingRebalance { .. } | Phase::Empty => {
            classic::maybe_complete_join(group, context, id)
        }
    });
    effects
}

fn stay_stable(
    live: &mut Live,
    asker: &Asker,
    id: &str,
    member: &MemberId,
    leader_before: Option<MemberId>,
) -> Effects {
    let mut answer = live.join_answer(member);
    if asker.caller.version >= 9 {
        answer.skip_assignment = live.is_leader(member);
    } else {
        // A client that cannot skip the assignment must not believe that it leads.
        answer.members.clear();
        answer.leader = leader_before.as_deref().unwrap_or_default().to_owned();
    }
    live.end_joining(member);
    let value = live.to_record(|member| member.assignment.clone());
    Effects {
        records: vec![classic::record(id, value)],
        ..asker.answer(Response::JoinGroup(answer))
    }
}

fn refuse(asker: &Asker, member: &str, code: ErrorCode) -> Effects {
    asker.answer(refusal(member, code))
}

fn refusal(member: &str, code: ErrorCode) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        member_id: member.to_owned(),
        error_code: code.code(),
        protocol_name: Some(String::new()),
        ..Default::default()
    })
}

/// A member id as Kafka makes it: where it came from, and 36 characters that nobody has.
pub(crate) fn fresh_member_id(from: &str, fresh: Uuid) -> MemberId {
    let digits: String = fresh.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    MemberId::from(format!("{from}-{}", parts.join("-")))
}
