//! DeleteGroups and OffsetDelete.

use crate::wire;
use millrace_model::ErrorCode;

use wire::delete_groups_response::DeletableGroupResult;
use wire::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use wire::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::classic::{self, Phase};
use super::offsets;
use super::state::{Asker, Effects, Group, Replicated, Soft};
use super::{Call, Record, Response, refused};

/// Deletes groups without members, and all their offsets.
pub(crate) fn delete_groups(
    replicated: &Replicated,
    soft: &mut Soft,
    asker: Asker,
    groups: Vec<String>,
) -> Effects {
    let mut records = Vec::new();
    let mut results: Vec<DeletableGroupResult> = Vec::new();
    for group in groups {
        if results.iter().any(|known| known.group_id == group) {
            continue;
        }
        let code = match may_delete(replicated, soft, &group) {
            Ok(()) => {
                let before = records.len();
                forget_offsets(replicated, &group, &mut records);
                soft.counters.offset_deletions += (records.len() - before) as u64;
                records.extend(tombstones(replicated, &group));
                ErrorCode::None
            }
            Err(code) => code,
        };
        results.push(DeletableGroupResult {
            group_id: group,
            error_code: code.code(),
            ..Default::default()
        });
    }
    Effects {
        records,
        // Offsets go before their group: a part of it leaves a group that can be deleted again.
        atomic: false,
        ..asker.answer(Response::DeleteGroups(results))
    }
}

fn may_delete(replicated: &Replicated, soft: &Soft, group: &str) -> Result<(), ErrorCode> {
    if let Some(Group::Consumer(state)) = replicated.group(group) {
        return match state.is_empty() {
            true => Ok(()),
            false => Err(ErrorCode::NonEmptyGroup),
        };
    }
    match classic::seen(replicated, soft, group).map(classic::Seen::phase) {
        None => Err(ErrorCode::GroupIdNotFound),
        Some(Phase::Empty) => Ok(()),
        Some(_) => Err(ErrorCode::NonEmptyGroup),
    }
}

/// The records that end a group, of whatever kind.
pub(crate) fn tombstones(replicated: &Replicated, group: &str) -> Vec<Record> {
    match replicated.group(group) {
        Some(Group::Consumer(state)) => state.tombstones(group),
        Some(Group::Classic(_)) | None => vec![classic::tombstone(group)],
    }
}

/// The records that end all offsets of a group, those in open transactions too.
fn forget_offsets(replicated: &Replicated, group: &str, records: &mut Vec<Record>) {
    let committed = replicated.offsets.of(group);
    for (topic, partitions) in committed.into_iter().flatten() {
        let ends = partitions
            .keys()
            .map(|index| offsets::tombstone(group, topic, *index));
        records.extend(ends);
    }
    let is_committed =
        |topic: &str, index: i32| replicated.offsets.get(group, topic, index).is_some();
    for (topic, partitions) in replicated.offsets.pending_of(group).flatten() {
        let pending = partitions
            .keys()
            .filter(|index| !is_committed(topic, **index));
        records.extend(pending.map(|index| offsets::tombstone(group, topic, *index)));
    }
}

/// Deletes offsets of partitions that no member subscribes to.
pub(crate) fn delete_offsets(
    replicated: &Replicated,
    soft: &mut Soft,
    asker: Asker,
    request: OffsetDeleteRequest,
) -> Effects {
    if let Err(code) = may_delete_offsets(replicated, soft, &request.group_id) {
        return asker.answer(refused(&Call::OffsetDelete(request), code));
    }
    let group = request.group_id.as_str();
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let code = match is_subscribed(replicated, soft, group, &topic.name) {
            true => ErrorCode::GroupSubscribedToTopic,
            false => ErrorCode::None,
        };
        let mut answer = OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            ..Default::default()
        };
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let offsets = &replicated.offsets;
            let has_offset = offsets.get(group, &topic.name, index).is_some()
                || offsets.is_pending(group, &topic.name, index);
            if code.is_none() && has_offset {
                records.push(offsets::tombstone(group, &topic.name, index));
            }
            answer.partitions.push(OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: code.code(),
            });
        }
        topics.push(answer);
    }
    soft.counters.offset_deletions += records.len() as u64;
    Effects {
        records,
        atomic: false,
        ..asker.answer(Response::OffsetDelete(OffsetDeleteResponse {
            topics,
            ..Default::default()
        }))
    }
}

fn may_delete_offsets(replicated: &Replicated, soft: &Soft, group: &str) -> Result<(), ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    if replicated.consumer(group).is_some() {
        return Ok(());
    }
    match classic::seen(replicated, soft, group) {
        None => Err(ErrorCode::GroupIdNotFound),
        Some(seen) if !seen.is_empty() && !seen.is_of_consumers() => Err(ErrorCode::NonEmptyGroup),
        Some(_) => Ok(()),
    }
}

/// Whether a member of this group, of whatever kind, subscribes to this topic.
pub(crate) fn is_subscribed(
    replicated: &Replicated,
    soft: &Soft,
    group: &str,
    topic: &str,
) -> bool {
    match replicated.consumer(group) {
        Some(state) => state.is_subscribed(topic),
        None => {
            let seen = classic::seen(replicated, soft, group);
            seen.is_some_and(|seen| seen.is_subscribed(topic))
        }
    }
}
