//! ConsumerGroupHeartbeat, versions 0 and 1 (KIP-848): joins, reports, learns, leaves.
//!
//! - Version 1: regular expressions, and the client makes its member id itself (KIP-1082).
//! - A heartbeat of a member at rest that says nothing new looks at that member alone.
//! - A member that waits, for an assignment or for what others have to give up, is told to ask again
//!   soon ([`WAITING_INTERVAL_MS`]), where Kafka lets it wait for its next ordinary heartbeat.

use std::sync::Arc;

use crate::wire;
use millrace_model::ErrorCode;
use millrace_model::limits::MAX_GROUP_SUBSCRIPTION_BYTES;

use wire::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::find::{self, Claim};
use super::member::{JOINING, LEAVING, LEAVING_FOR_A_WHILE, Member, Progress};
use super::reconcile::Step;
use super::work::{Refusal, Work};
use super::{expressions, leave, records, target, upgrade};
use crate::assignor::Partitions;
use crate::group::state::{Asker, Effects, Group, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{Caller, InstanceId, MemberId, Response, classic};

/// How soon a member asks again that waits for something. Its wait is somebody else's heartbeat
/// away, so half a second is little to spend and much to gain.
const WAITING_INTERVAL_MS: i32 = 500;

/// ConsumerGroupHeartbeat.
pub(crate) fn heartbeat(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: Asker,
    request: ConsumerGroupHeartbeatRequest,
) -> Effects {
    let done = validate(&request, asker.caller.version, context).and_then(|()| {
        match request.member_epoch {
            LEAVING | LEAVING_FOR_A_WHILE => {
                leave::by_heartbeat(replicated, groups, context, &asker, &request)
            }
            _ => stay(replicated, groups, context, &asker, &request),
        }
    });
    done.unwrap_or_else(|refusal| {
        asker.answer(Response::ConsumerGroupHeartbeat(
            ConsumerGroupHeartbeatResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                ..Default::default()
            },
        ))
    })
}

/// What can be told from the request alone.
fn validate(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    context: Context<'_>,
) -> Result<(), Refusal> {
    if !context.settings.consumer_protocol {
        let message = "The consumer group protocol is not enabled.";
        return Refusal::err(ErrorCode::UnsupportedVersion, message);
    }
    let invalid = |message: &str| Refusal::err(ErrorCode::InvalidRequest, message);
    let epoch = request.member_epoch;
    if (version >= 1 || epoch > 0 || epoch == LEAVING) && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == JOINING {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request
            .topic_partitions
            .as_ref()
            .is_none_or(|owned| !owned.is_empty())
        {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            );
        }
    } else if epoch == LEAVING_FOR_A_WHILE && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEAVING_FOR_A_WHILE {
        return invalid("MemberEpoch is invalid.");
    }
    check_assignor(request.server_assignor.as_deref(), context)
}

fn check_assignor(assignor: Option<&str>, context: Context<'_>) -> Result<(), Refusal> {
    let offered = &context.settings.consumer_assignors;
    match assignor {
        Some(name) if !offered.iter().any(|each| each == name) => Refusal::err(
            ErrorCode::UnsupportedAssignor,
            format!(
                "ServerAssignor {name} is not supported. Supported assignors: {}.",
                offered.join(", ")
            ),
        ),
        _ => Ok(()),
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// A member joins or goes on.
fn stay(
    replicated: &Replicated,
    groups: &mut Groups,
    context: Context<'_>,
    asker: &Asker,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Effects, Refusal> {
    let joins = request.member_epoch == JOINING;
    let mut effects = Effects::default();
    let mut work = open(replicated, groups, context, request, &mut effects)?;
    find::check_room(&work, &request.member_id)?;
    let fresh = asker.caller.fresh_id.to_string();
    let id = match request.member_id.as_str() {
        "" => fresh.as_str(),
        known => known,
    };
    let claim = Claim {
        member: id,
        instance: request.instance_id.as_deref(),
        epoch: Some(request.member_epoch),
        owned: request.topic_partitions.as_deref(),
        joins,
    };
    let old = find::member(&mut work, claim)?;
    let said = said(&old, request, &asker.caller, &work);
    let resubscribed = subscribe(&mut work, groups, id, &old, said)?;
    target::update(&mut work);

    let before = work
        .state
        .members
        .get(id)
        .cloned()
        .unwrap_or_else(|| old.clone());
    let moved = step(&work, id, &before, resubscribed, claim)?;
    if let Some(moved) = &moved {
        // Nothing looks at the group any more, so its copy is left as it is.
        work.records.push(records::current(work.id, id, moved));
    }
    let after = moved.map_or(before, Arc::new);
    let id = find::member_id(&work.state, id);
    start_timers(groups, &work, &id, &after);

    let answer = answer(&work, &id, &old, &after, request);
    effects.atomic = work.is_indivisible;
    effects.records = work.records;
    let to = asker.from;
    effects
        .replies
        .push((to, Response::ConsumerGroupHeartbeat(answer)));
    Ok(effects)
}

/// The group; where a member joins it is made of nothing, or of the classic group that is there.
fn open<'a>(
    replicated: &'a Replicated,
    groups: &mut Groups,
    context: Context<'a>,
    request: &'a ConsumerGroupHeartbeatRequest,
    effects: &mut Effects,
) -> Result<Work<'a>, Refusal> {
    let id = request.group_id.as_str();
    let joins = request.member_epoch == JOINING;
    if let Some(Group::Consumer(state)) = replicated.group(id) {
        return Ok(Work::on(id, state, context));
    }
    match classic::seen(replicated, groups, id) {
        None if joins => Ok(Work::from_nothing(id, Vec::new(), context)),
        None => Err(find::no_such_group(id)),
        Some(_) if !joins => Err(find::not_a_consumer_group(id)),
        Some(_) => upgrade::upgrade(replicated, groups, context, id, effects),
    }
}

/// The member as it says it is, where that differs from what is known.
fn said(
    member: &Member,
    request: &ConsumerGroupHeartbeatRequest,
    caller: &Caller,
    work: &Work<'_>,
) -> Option<Member> {
    let names = request.subscribed_topic_names.as_ref();
    let instance = request.instance_id.as_deref();
    let rack = request.rack_id.as_deref();
    let assignor = request.server_assignor.as_deref();
    let expression = request.subscribed_topic_regex.as_deref();
    let timeout = request.rebalance_timeout_ms;
    let is_as_known = names.is_none_or(|names| are_same(names, member))
        && instance.is_none_or(|instance| member.instance.as_deref() == Some(instance))
        && rack.is_none_or(|rack| member.rack.as_deref() == Some(rack))
        && assignor.is_none_or(|assignor| member.assignor.as_deref() == Some(assignor))
        && expression.is_none_or(|expression| *member.expression == *expression)
        && (timeout == -1 || timeout == member.rebalance_timeout_ms)
        && member.client_id == caller.client_id
        && member.client_host == caller.client_host
        && member.classic.is_none();
    if is_as_known {
        return None;
    }
    let mut said = member.clone();
    if let Some(names) = names {
        said.names = work.state.derived.list(names);
    }
    if let Some(expression) = expression {
        said.expression = Arc::from(expression);
    }
    said.instance = instance.map(InstanceId::from).or(said.instance);
    said.rack = rack.map(str::to_owned).or(said.rack);
    said.assignor = assignor.map(str::to_owned).or(said.assignor);
    if timeout != -1 {
        said.rebalance_timeout_ms = timeout;
    }
    said.client_id.clone_from(&caller.client_id);
    said.client_host.clone_from(&caller.client_host);
    said.classic = None;
    Some(said)
}

/// Whether these are the names that the member subscribes to, in whatever order.
fn are_same(names: &[String], member: &Member) -> bool {
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let known = member.names.iter().map(|name| &**name);
    sorted.len() == member.names.len() && sorted.into_iter().eq(known)
}

/// Takes in what a member said, and what follows from it and from the cluster's topics for the
/// group's epoch; says whether its subscription is another one.
pub(super) fn subscribe(
    work: &mut Work<'_>,
    groups: &mut Groups,
    id: &str,
    old: &Member,
    said: Option<Member>,
) -> Result<bool, Refusal> {
    let before = work.state.derived.subscription_bytes;
    let mut resubscribed = false;
    if let Some(said) = said {
        let has_new_expression = said.expression != old.expression;
        resubscribed = said.names != old.names || has_new_expression;
        if has_new_expression
            && !said.expression.is_empty()
            && !work
                .state
                .derived
                .expressions
                .contains_key(&said.expression)
        {
            expressions::validate(&said.expression)?;
        }
        work.decide(records::member(work.id, id, &said));
        if has_new_expression {
            work.drop_expressions();
        }
    }
    let resolved = expressions::resolve(work, groups);
    let after = work.state.derived.subscription_bytes;
    if after > before && after > MAX_GROUP_SUBSCRIPTION_BYTES {
        let message = "The subscriptions of the group's members take too much memory.";
        return Refusal::err(ErrorCode::GroupMaxSizeReached, message);
    }
    work.next_epoch(groups, resubscribed || resolved);
    Ok(resubscribed)
}

/// One step towards the target.
pub(super) fn step(
    work: &Work<'_>,
    id: &str,
    member: &Member,
    resubscribed: bool,
    claim: Claim<'_>,
) -> Result<Option<Member>, Refusal> {
    let nothing = Partitions::default();
    let step = Step {
        state: &work.state,
        topics: work.context.topics,
        target: work.state.target.get(id).map_or(&nothing, |target| target),
        resubscribed,
        owned: claim.owned,
    };
    step.take(member)
}

fn start_timers(groups: &mut Groups, work: &Work<'_>, id: &MemberId, member: &Member) {
    let now = work.context.now;
    let session = work.context.settings.consumer_session_timeout_ms(work.id);
    let soft = groups.group(work.id);
    soft.start(Timer::Session(id.clone()), now, session);
    let revocation = Timer::Revocation(id.clone());
    if member.progress != Progress::Unrevoked {
        soft.timers.cancel(&revocation);
    } else if !soft.timers.is_set(&revocation) {
        soft.start(revocation, now, member.rebalance_timeout_ms);
    }
    soft.timers.cancel(&Timer::ClassicJoin(id.clone()));
    soft.timers.cancel(&Timer::ClassicSync(id.clone()));
}

fn answer(
    work: &Work<'_>,
    id: &MemberId,
    old: &Member,
    member: &Member,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let says_all = request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.topic_partitions.is_some();
    let tell = request.member_epoch == JOINING || says_all || old.assigned != member.assigned;
    let interval = work
        .context
        .settings
        .consumer_heartbeat_interval_ms(work.id);
    let waits = member.epoch < work.state.epoch || member.progress == Progress::Unreleased;
    ConsumerGroupHeartbeatResponse {
        member_id: Some(id.to_string()),
        member_epoch: member.epoch,
        heartbeat_interval_ms: match waits && member.progress != Progress::Unrevoked {
            true => interval.min(WAITING_INTERVAL_MS),
            false => interval,
        },
        assignment: tell.then(|| Assignment {
            topic_partitions: assigned(member),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn assigned(member: &Member) -> Vec<TopicPartitions> {
    let topics = member
        .assigned
        .0
        .iter()
        .map(|(topic, partitions)| TopicPartitions {
            topic_id: topic.0,
            partitions: partitions.iter().map(|(partition, _)| *partition).collect(),
            ..Default::default()
        });
    topics.collect()
}
