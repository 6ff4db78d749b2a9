//! A consumer group becomes a classic group, because only members of the classic protocol remain
//! (Kafka methods `validateOnlineDowngrade...`, `convertToClassicGroup`).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::member::{Classic, Member};
use super::state::State;
use super::{embedded, records};
use crate::assignor::Partitions;
use crate::group::classic::{self, CONSUMER, Live, Phase, Protocols};
use crate::group::state::{Effects, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{MemberId, Record};

/// Whether the group is to become a classic one once these have left.
pub(super) fn may_without(
    state: &State,
    leaving: &BTreeSet<MemberId>,
    context: Context<'_>,
) -> bool {
    let remaining = state.members.len() - leaving.len();
    remaining > 0 && are_allowed(context, remaining) && state.are_all_classic_but(leaving)
}

/// Whether the group is to become a classic one once this static member has been replaced by one of
/// the classic protocol.
pub(super) fn may_with_replaced(state: &State, replaced: &Member, context: Context<'_>) -> bool {
    !replaced.is_classic()
        && state.derived.classic_members + 1 == state.members.len()
        && are_allowed(context, state.members.len())
}

fn are_allowed(context: Context<'_>, members: usize) -> bool {
    context.settings.consumer_migration.downgrades() && members <= context.settings.max_size
}

/// The group without these members, as a classic one that they all are to join anew.
pub(super) fn without(
    groups: &mut Groups,
    context: Context<'_>,
    id: &str,
    state: &State,
    leaving: &BTreeSet<MemberId>,
) -> Effects {
    let staying = state
        .members
        .iter()
        .filter(|(id, _)| !leaving.contains(*id));
    let live = to_classic(context, state, staying.map(|(id, member)| (id, &**member)));
    let records = records::no_group(id, state);
    convert(groups, context, id, records, live, true)
}

/// The group as it is, as a classic one; its members join anew if its target is not up to date.
pub(super) fn whole(
    groups: &mut Groups,
    context: Context<'_>,
    id: &str,
    state: &State,
    rebalance: bool,
) -> Effects {
    let members = state.members.iter();
    let live = to_classic(context, state, members.map(|(id, member)| (id, &**member)));
    let records = records::no_group(id, state);
    convert(groups, context, id, records, live, rebalance)
}

fn convert(
    groups: &mut Groups,
    context: Context<'_>,
    id: &str,
    mut records: Vec<Record>,
    live: Live,
    rebalance: bool,
) -> Effects {
    let value = live.to_record(|member| member.assignment.clone());
    records.push(classic::record(id, value));
    let group = groups.group(id);
    for member in live.members.values() {
        group.timers.cancel(&Timer::Revocation(member.id.clone()));
        group.timers.cancel(&Timer::ClassicJoin(member.id.clone()));
        group.timers.cancel(&Timer::ClassicSync(member.id.clone()));
        let due = member.session_due(context.now);
        group.timers.set(Timer::Session(member.id.clone()), due);
    }
    group.classic = Some(live);
    let mut effects = Effects {
        records,
        ..Effects::default()
    };
    if rebalance {
        effects.append(classic::prepare_rebalance(group, context, id));
    }
    effects
}

/// The classic group of these members, with the generation that was the epoch.
fn to_classic<'a>(
    context: Context<'_>,
    state: &State,
    members: impl Iterator<Item = (&'a MemberId, &'a Member)>,
) -> Live {
    let mut live = Live::new(None, context.wall);
    live.generation = state.epoch;
    live.phase = Phase::Stable;
    for (id, member) in members {
        let Some(classic) = &member.classic else {
            continue;
        };
        live.add(to_member(id, member, classic), CONSUMER);
    }
    live.protocol = live.select_protocol();
    live.subscribed = live.read_subscriptions();
    let nothing = Partitions::default();
    let protocol = live.protocol.clone().unwrap_or_default();
    for (id, member) in &mut live.members {
        let target = state.target.get(id).map_or(&nothing, |target| target);
        let subscription = member.protocols.metadata(&protocol).cloned();
        let subscription = subscription.unwrap_or_default();
        let partitions = target.0.iter().map(|(topic, each)| (*topic, each.clone()));
        member.assignment = embedded::write_assignment(partitions, &subscription, context.topics);
    }
    live
}

fn to_member(id: &MemberId, member: &Member, classic: &Classic) -> classic::Member {
    classic::Member {
        id: id.clone(),
        instance: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: classic.session_timeout_ms,
        protocols: Protocols(classic.protocols.clone()),
        assignment: Bytes::new(),
        joining: None,
        syncing: None,
        is_new: false,
    }
}
