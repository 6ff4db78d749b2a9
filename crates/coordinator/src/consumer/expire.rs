//! Time's part in a consumer group: sessions, and the time to give up or to join again.

use std::collections::BTreeSet;

use super::leave;
use super::member::{LEAVING_FOR_A_WHILE, Progress};
use crate::group::state::{Effects, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{GroupId, MemberId};

/// Timers of a consumer group have come: members whose time is up are out, all in one decision.
pub(crate) fn expire(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    group: &GroupId,
    timers: Vec<Timer>,
) -> Effects {
    let Some(state) = replicated.consumer(group) else {
        return Effects::default();
    };
    let is_out = |timer: &Timer| match timer {
        Timer::Session(id) | Timer::ClassicJoin(id) | Timer::ClassicSync(id) => {
            state.members.contains_key(id)
        }
        Timer::Revocation(id) => state.members.get(id).is_some_and(|member| {
            member.progress == Progress::Unrevoked && member.epoch != LEAVING_FOR_A_WHILE
        }),
        Timer::Join | Timer::Sync => false,
    };
    let out: BTreeSet<MemberId> = timers
        .into_iter()
        .filter(is_out)
        .filter_map(Timer::into_member)
        .collect();
    leave::fence(groups, context, group, state, out)
}

/// The shard has been loaded: every member has its time from now on.
pub(crate) fn loaded(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    group: &GroupId,
) -> Effects {
    let Some(state) = replicated.consumer(group) else {
        return Effects::default();
    };
    let session_ms = context.settings.consumer_session_timeout_ms(group);
    let soft = groups.group(group);
    for (id, member) in &state.members {
        let classic = member.classic.as_ref();
        let session_ms = classic.map_or(session_ms, |classic| classic.session_timeout_ms);
        soft.start(Timer::Session(id.clone()), context.now, session_ms);
        if member.progress == Progress::Unrevoked && classic.is_none() {
            let revocation = Timer::Revocation(id.clone());
            soft.start(revocation, context.now, member.rebalance_timeout_ms);
        }
    }
    Effects::default()
}
