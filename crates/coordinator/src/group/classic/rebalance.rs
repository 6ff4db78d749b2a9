//! How a classic group gets from one generation to the next: members are called to join, those who
//! do form the new generation, and its leader computes who gets what.

use crate::wire::JoinGroupResponse;
use bytes::Bytes;
use millrace_model::ErrorCode;

use super::live::sync_reply;
use super::{InitialDelay, Live, Phase, record};
use crate::group::Response;
use crate::group::state::{Effects, SoftGroup, Timer};
use crate::group::topics::Context;

/// Calls the members to join, if the group can be; completes the join phase, if it is under way and
/// nobody is missing.
pub(crate) fn maybe_prepare_rebalance_or_complete_join(
    group: &mut SoftGroup,
    context: Context<'_>,
    id: &str,
) -> Effects {
    match live(group).phase {
        Phase::PreparingRebalance { .. } => maybe_complete_join(group, context, id),
        _ => prepare_rebalance(group, context, id),
    }
}

/// Calls the members to join. Those that wait for an assignment of the generation before are told
/// so; others hear of it in their next heartbeat.
pub(crate) fn prepare_rebalance(group: &mut SoftGroup, context: Context<'_>, id: &str) -> Effects {
    let mut effects = Effects::default();
    if live(group).phase == Phase::CompletingRebalance {
        abandon_sync(group, context, &mut effects);
    }
    group.timers.cancel(&Timer::Sync);
    let live = live(group);
    live.unsynced.clear();
    let timeout_ms = live.rebalance_timeout_ms();
    if live.phase == Phase::Empty {
        let delay_ms = context.settings.initial_rebalance_delay_ms.max(0);
        let initial = InitialDelay {
            delay_ms,
            remaining_ms: timeout_ms.saturating_sub(delay_ms).max(0),
            extended: false,
        };
        let initial = Some(initial);
        live.move_to(Phase::PreparingRebalance { initial }, context.wall);
        group.start(Timer::Join, context.now, delay_ms);
        return effects;
    }
    live.move_to(Phase::PreparingRebalance { initial: None }, context.wall);
    if live.has_all_joined() {
        effects.append(complete_join(group, context, id));
    } else {
        group.start(Timer::Join, context.now, timeout_ms);
    }
    effects
}

/// Forgets this generation's assignments, and tells whoever waits for one to join again.
fn abandon_sync(group: &mut SoftGroup, context: Context<'_>, effects: &mut Effects) {
    let mut restarted = Vec::new();
    for member in live(group).members.values_mut() {
        member.assignment = Bytes::new();
        if let Some(to) = member.syncing.take() {
            effects
                .replies
                .push(sync_reply(to, ErrorCode::RebalanceInProgress));
            restarted.push((member.id.clone(), member.session_timeout_ms));
        }
    }
    for (member, session_ms) in restarted {
        group.start(Timer::Session(member), context.now, session_ms);
    }
}

/// Completes the join phase if nobody is missing; the first one of a group waits its time out.
pub(crate) fn maybe_complete_join(
    group: &mut SoftGroup,
    context: Context<'_>,
    id: &str,
) -> Effects {
    let live = live(group);
    match live.phase {
        Phase::PreparingRebalance { initial: None } if live.has_all_joined() => {
            complete_join(group, context, id)
        }
        _ => Effects::default(),
    }
}

/// The wait of a group's first rebalance is over: it is made longer while members keep coming.
pub(crate) fn initial_delay_over(group: &mut SoftGroup, context: Context<'_>, id: &str) -> Effects {
    let live = live(group);
    let Phase::PreparingRebalance {
        initial: Some(delay),
    } = live.phase
    else {
        return complete_join(group, context, id);
    };
    if !delay.extended || delay.remaining_ms == 0 {
        return complete_join(group, context, id);
    }
    let configured = context.settings.initial_rebalance_delay_ms.max(0);
    let next = InitialDelay {
        delay_ms: configured.min(delay.remaining_ms),
        remaining_ms: delay.remaining_ms.saturating_sub(delay.delay_ms).max(0),
        extended: false,
    };
    let initial = Some(next);
    live.phase = Phase::PreparingRebalance { initial };
    group.start(Timer::Join, context.now, next.delay_ms);
    Effects::default()
}

/// Ends the join phase: those who did not join are out, but for static members, who are given the
/// length of a session; the others are told of the new generation.
pub(crate) fn complete_join(group: &mut SoftGroup, context: Context<'_>, id: &str) -> Effects {
    group.timers.cancel(&Timer::Join);
    let mut effects = Effects::default();
    let absent = |member: &&super::Member| member.joining.is_none() && member.instance.is_none();
    let absent: Vec<_> = live(group)
        .members
        .values()
        .filter(absent)
        .map(|member| member.id.clone())
        .collect();
    for member in absent {
        dismiss(group, &member, &mut effects);
    }
    let live = live(group);
    if !live.members.is_empty() && !elect_joined_leader(live) {
        // Nobody is there but static members who have not joined: wait until they do, or until
        // their sessions end.
        let timeout_ms = live.rebalance_timeout_ms();
        group.start(Timer::Join, context.now, timeout_ms);
        return effects;
    }
    live.generation = live.generation.saturating_add(1);
    live.unsynced.clear();
    if live.members.is_empty() {
        live.protocol = None;
        live.subscribed = live.read_subscriptions();
        live.move_to(Phase::Empty, context.wall);
        let value = live.to_record(|_| Bytes::new());
        effects.records.push(record(id, value));
    } else {
        live.protocol = live.select_protocol();
        live.subscribed = live.read_subscriptions();
        live.move_to(Phase::CompletingRebalance, context.wall);
        announce_generation(group, context, &mut effects);
    }
    effects
}

/// Answers everyone who joined, and gives all members the time to fetch their assignment.
fn announce_generation(group: &mut SoftGroup, context: Context<'_>, effects: &mut Effects) {
    let SoftGroup {
        classic, timers, ..
    } = group;
    let live = classic.as_mut().expect("a generation has members");
    let ids: Vec<_> = live.members.keys().cloned().collect();
    for id in ids {
        let answer = live.join_answer(&id);
        live.unsynced.insert(id.clone());
        if let Some(to) = live.end_joining(&id) {
            effects.replies.push((to, Response::JoinGroup(answer)));
        }
        let member = live.members.get_mut(&id).expect("listed above");
        member.is_new = false;
        let due = member.session_due(context.now);
        timers.set(Timer::Session(id), due);
    }
    let timeout_ms = live.rebalance_timeout_ms();
    group.start(Timer::Sync, context.now, timeout_ms);
}

/// Makes sure that the leader is one who joined; false if nobody did.
fn elect_joined_leader(live: &mut Live) -> bool {
    let has_joined = |member: &&super::Member| member.joining.is_some();
    let leader = live
        .leader
        .as_ref()
        .and_then(|leader| live.members.get(leader));
    if leader.as_ref().is_some_and(has_joined) {
        return true;
    }
    let joined = live
        .members
        .values()
        .find(has_joined)
        .map(|member| member.id.clone());
    match joined {
        Some(joined) => {
            live.leader = Some(joined);
            true
        }
        None => false,
    }
}

/// Takes a member out, and tells whoever waits in its name that it is none any more.
pub(crate) fn dismiss(group: &mut SoftGroup, id: &str, effects: &mut Effects) {
    group.timers.cancel(&Timer::Session(id.into()));
    let Some(member) = live(group).remove(id) else {
        return;
    };
    if let Some(to) = member.joining {
        let gone = JoinGroupResponse {
            error_code: ErrorCode::UnknownMemberId.code(),
            ..Default::default()
        };
        effects.replies.push((to, Response::JoinGroup(gone)));
    }
    if let Some(to) = member.syncing {
        effects
            .replies
            .push(sync_reply(to, ErrorCode::UnknownMemberId));
    }
}

pub(crate) fn live(group: &mut SoftGroup) -> &mut Live {
    group
        .classic
        .as_mut()
        .expect("a rebalance is of a group that has members")
}
