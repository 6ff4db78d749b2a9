//! Groups of the consumer protocol (KIP-848): the coordinator computes who owns what, and members
//! move towards it one heartbeat at a time.

use std::collections::BTreeMap;

use crate::wire;
use millrace_model::ErrorCode;

use wire::consumer_group_describe_response::DescribedGroup;

use crate::group::commit::Committer;
use crate::group::state::{Asker, Effects, Group, Replicated, Soft as Groups, Timer};
use crate::group::topics::Context;
use crate::group::{Call, GroupId, Record, States, refused};

/// The replicated state of a consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {}

/// What a consumer group keeps beside its records.
#[derive(Debug, Default)]
pub(crate) struct Soft {}

impl Soft {
    /// Whether there is nothing here worth keeping.
    pub fn is_idle(&self) -> bool {
        true
    }
}

impl State {
    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Its state as ListGroups and describe show it.
    pub fn state_name(&self) -> &'static str {
        "Empty"
    }

    /// Counts it among the groups of its state.
    pub fn count(&self, states: &mut States) {
        states.consumer_empty += 1;
    }

    /// Whether a member subscribes to this topic.
    pub fn is_subscribed(&self, _topic: &str) -> bool {
        false
    }

    /// Whether this caller may commit offsets (Kafka method `ConsumerGroup.validateOffsetCommit`).
    pub fn validate_commit(&self, _committer: &Committer<'_>) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// Whether this caller may fetch offsets (Kafka method `ConsumerGroup.validateOffsetFetch`).
    pub fn validate_fetch(&self, _member: Option<&str>, _epoch: i32) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// The records that end the group.
    pub fn tombstones(&self, _group: &str) -> Vec<Record> {
        Vec::new()
    }
}

/// ConsumerGroupHeartbeat.
pub(crate) fn heartbeat(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    asker: Asker,
    request: wire::ConsumerGroupHeartbeatRequest,
) -> Effects {
    let call = Call::ConsumerGroupHeartbeat(request);
    asker.answer(refused(&call, ErrorCode::UnsupportedVersion))
}

/// ConsumerGroupDescribe, of one group.
pub(crate) fn describe(
    _replicated: &Replicated,
    _context: Context<'_>,
    group: &str,
) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(format!("Group {group} not found.")),
        group_id: group.to_owned(),
        ..Default::default()
    }
}

/// JoinGroup to a consumer group that has members.
pub(crate) fn join(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    asker: Asker,
    request: wire::JoinGroupRequest,
) -> Effects {
    let call = Call::JoinGroup(request);
    asker.answer(refused(&call, ErrorCode::InconsistentGroupProtocol))
}

/// SyncGroup to a consumer group.
pub(crate) fn sync(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    asker: Asker,
    request: wire::SyncGroupRequest,
) -> Effects {
    asker.answer(refused(
        &Call::SyncGroup(request),
        ErrorCode::UnknownMemberId,
    ))
}

/// Heartbeat (of the classic protocol) to a consumer group.
pub(crate) fn classic_heartbeat(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    asker: Asker,
    request: wire::HeartbeatRequest,
) -> Effects {
    asker.answer(refused(
        &Call::Heartbeat(request),
        ErrorCode::UnknownMemberId,
    ))
}

/// LeaveGroup to a consumer group.
pub(crate) fn leave(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    asker: Asker,
    request: wire::LeaveGroupRequest,
) -> Effects {
    asker.answer(refused(
        &Call::LeaveGroup(request),
        ErrorCode::UnknownMemberId,
    ))
}

/// A timer of a consumer group has come.
pub(crate) fn expire(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    _group: &GroupId,
    _timer: Timer,
) -> Effects {
    Effects::default()
}

/// The shard has been loaded: starts the timers of this group's members.
pub(crate) fn loaded(
    _replicated: &Replicated,
    _soft: &mut Groups,
    _context: Context<'_>,
    _group: &GroupId,
) -> Effects {
    Effects::default()
}

/// Applies a `ConsumerGroup*` record.
pub(crate) fn replay(_groups: &mut BTreeMap<GroupId, Group>, _record: Record) {}
