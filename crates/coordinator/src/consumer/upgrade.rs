//! A classic group becomes a consumer group, because a member of the consumer protocol joins (Kafka
//! methods `validateOnlineUpgrade`, `convertToConsumerGroup`). Its members stay, keep what they have,
//! and go on speaking the classic protocol until they are restarted.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{ErrorCode, Timestamp};

use super::embedded::{self, Assignment};
use super::member::{Classic, Held, Member};
use super::work::{Refusal, Work};
use super::{epoch, find, records};
use crate::assignor::Partitions;
use crate::group::classic::{self, Live, Seen};
use crate::group::state::{Effects, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{MemberId, Response};
use crate::wire::{JoinGroupResponse, SyncGroupResponse};

/// The group as a consumer group; `effects` gets the answers to whoever waits in the classic one.
pub(super) fn upgrade<'a>(
    replicated: &'a Replicated,
    groups: &mut Groups,
    context: Context<'a>,
    id: &'a str,
    effects: &mut Effects,
) -> Result<Work<'a>, Refusal> {
    let Some(seen) = classic::seen(replicated, groups, id) else {
        return Err(find::no_such_group(id));
    };
    let mut work = Work::from_nothing(id, vec![classic::tombstone(id)], context);
    if seen.is_empty() {
        return Ok(work);
    }
    check(seen, context, id)?;
    let live = match seen {
        Seen::Live(live) => live.clone(),
        Seen::Resting(recorded) => Live::new(Some(recorded), context.wall),
    };
    take_in(&mut work, groups, &live)?;
    if let Some(live) = &mut groups.group(id).classic {
        dismiss_waiting(live, effects);
    }
    for (member, of_member) in &live.members {
        let timer = Timer::Session(member.clone());
        let soft = groups.group(id);
        soft.start(timer, context.now, of_member.session_timeout_ms);
    }
    Ok(work)
}

fn check(seen: Seen<'_>, context: Context<'_>, id: &str) -> Result<(), Refusal> {
    let members = match seen {
        Seen::Live(live) => live.members.len(),
        Seen::Resting(recorded) => recorded.0.members.len(),
    };
    if !context.settings.consumer_migration.upgrades() {
        return refuse(id, "because online upgrade is disabled.");
    }
    if !seen.is_of_consumers() {
        return refuse(
            id,
            "because the group does not use the consumer embedded protocol.",
        );
    }
    if members > context.settings.consumer_max_size {
        return refuse(
            id,
            "because the group size exceeds the consumer group maximum size.",
        );
    }
    Ok(())
}

fn refuse<T>(id: &str, why: &str) -> Result<T, Refusal> {
    let message = format!("Cannot upgrade classic group {id} to consumer group {why}");
    Refusal::err(ErrorCode::GroupIdNotFound, message)
}

/// Records the members with what they have, in an epoch that is the classic generation.
fn take_in(work: &mut Work<'_>, groups: &mut Groups, live: &Live) -> Result<(), Refusal> {
    let id = work.id;
    let topics = work.context.topics;
    // Generation 0 is one that nobody has heard of; epoch 0 would mean something else.
    let first = live.generation.max(1);
    let mut members: Vec<(MemberId, Member, Partitions)> = Vec::new();
    for (member_id, classic) in &live.members {
        let assigned = match embedded::assignment(&classic.assignment, topics) {
            Assignment::Known(partitions) => partitions,
            Assignment::Custom => {
                return refuse(
                    id,
                    "because an unsupported custom assignor is in use. Please refer to the \
                     documentation or switch to a default assignor before re-attempting the \
                     upgrade.",
                );
            }
            Assignment::Malformed => return malformed(id),
        };
        let Some(member) = member(classic, live.protocol.as_deref(), &assigned, first, work) else {
            return malformed(id);
        };
        members.push((member_id.clone(), member, assigned));
    }
    for (member_id, member, _) in &members {
        work.decide(records::member(id, member_id, member));
    }
    let hash = epoch::metadata_hash(&work.state, topics, &mut groups.topic_hashes);
    work.decide(records::epoch(id, first, hash));
    for (member_id, _, assigned) in &members {
        work.decide(records::target(id, member_id, assigned));
    }
    work.decide(records::target_epoch(id, first, Timestamp(0)));
    for (member_id, member, _) in &members {
        work.decide(records::current(id, member_id, member));
    }
    Ok(())
}

fn malformed<T>(id: &str) -> Result<T, Refusal> {
    refuse(id, "because the embedded consumer protocol is malformed.")
}

/// The member as one of a consumer group; `None` if its subscription cannot be read.
fn member(
    classic: &classic::Member,
    protocol: Option<&str>,
    assigned: &Partitions,
    epoch: i32,
    work: &Work<'_>,
) -> Option<Member> {
    let protocols = &classic.protocols;
    let metadata = protocol.and_then(|protocol| protocols.metadata(protocol));
    let first = || protocols.0.first().map(|(_, metadata)| metadata);
    let metadata: &Bytes = metadata.or_else(first)?;
    let subscription = embedded::subscription(metadata)?;
    let mut held = Held::default();
    for (topic, partitions) in &assigned.0 {
        held.add(
            *topic,
            partitions.iter().map(|partition| (*partition, epoch)),
        );
    }
    Some(Member {
        epoch,
        previous_epoch: epoch,
        instance: classic.instance.clone(),
        rack: subscription.rack_id.filter(|rack| !rack.is_empty()),
        rebalance_timeout_ms: classic.rebalance_timeout_ms,
        client_id: classic.client_id.clone(),
        client_host: classic.client_host.clone(),
        names: work.state.derived.list(&subscription.topics),
        assigned: Arc::new(held),
        classic: Some(Arc::new(Classic {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: protocols.0.clone(),
        })),
        ..Member::default()
    })
}

/// Members that wait for a generation of the classic group are to join again.
fn dismiss_waiting(live: &mut Live, effects: &mut Effects) {
    let code = ErrorCode::RebalanceInProgress.code();
    for (id, member) in &mut live.members {
        if let Some(to) = member.joining.take() {
            let answer = JoinGroupResponse {
                member_id: id.to_string(),
                error_code: code,
                ..Default::default()
            };
            effects.replies.push((to, Response::JoinGroup(answer)));
        }
        if let Some(to) = member.syncing.take() {
            let answer = SyncGroupResponse {
                error_code: code,
                ..Default::default()
            };
            effects.replies.push((to, Response::SyncGroup(answer)));
        }
    }
}
