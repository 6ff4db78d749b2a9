//! ListOffsets (key 2), versions 1 to 11.
//!
//! - 2: isolation level; 4: leader epochs (KIP-320); 6: flexible; 7: the offset of the largest
//!   timestamp (KIP-734); 8: earliest local offset (KIP-405); 9: latest tiered offset (KIP-1005);
//! - 10: a timeout (KIP-1075); 11: earliest offset to be tiered (KIP-1023).
//!
//! Without tiered storage the earliest local offset is the earliest one, and the two of tiering
//! are -1, as in Kafka. A new leader that does not know yet what is committed answers
//! OFFSET_NOT_AVAILABLE (LEADER_NOT_AVAILABLE before version 5) where a wrong answer could go back.

use std::collections::BTreeSet;

use millrace_model::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use millrace_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millrace_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millrace_replication::OffsetsView;

use super::Context;
use super::errors::{code_of_read, find_replica};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 11);

/// The first version that tells leader epochs; earlier ones cannot hold any.
const EPOCHS_FROM: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An offset that was found.
struct Found {
    timestamp: Timestamp,
    offset: Offset,
    epoch: LeaderEpoch,
}

/// "There is none", as the answer writes it.
const NOTHING: Found = Found {
    timestamp: Timestamp::NONE,
    offset: Offset(-1),
    epoch: LeaderEpoch::NONE,
};

/// Looks up every partition that is asked for.
pub async fn handle(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let twice = asked_twice(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = (topic.name.as_str(), partition.partition_index);
            let found = match twice.contains(&key) {
                true => Err(ErrorCode::InvalidRequest),
                false => find(context, &request, topic, partition).await,
            };
            partitions.push(respond(context, partition.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
            ..Default::default()
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

fn asked_twice(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut once = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.as_str(), partition.partition_index);
            if !once.insert(key) {
                twice.insert(key);
            }
        }
    }
    twice
}

fn respond(
    context: &Context,
    index: i32,
    found: Result<Found, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let (error, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, NOTHING),
    };
    let epoch = match context.api_version {
        EPOCHS_FROM.. => found.epoch,
        _ => LeaderEpoch::NONE,
    };
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: error.code(),
        timestamp: found.timestamp.get(),
        offset: found.offset.get(),
        leader_epoch: epoch.get(),
        ..Default::default()
    }
}

/// The first version in which a client may ask for this.
fn asked_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

async fn find(
    context: &Context,
    request: &ListOffsetsRequest,
    topic: &ListOffsetsTopic,
    partition: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    if asked_from(partition.timestamp).is_none_or(|from| context.api_version < from) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let replica = find_replica(context, &topic.name, partition.partition_index)?;
    let epoch = partition.current_leader_epoch;
    let claimed = (epoch >= 0).then_some(LeaderEpoch(epoch));
    // Only the debugging replica id (-2) may ask a follower.
    let view = replica.offsets(claimed, request.replica_id == -2);
    let view = view.map_err(|failure| code_of_read(&failure))?;
    let upper = match (request.replica_id, request.isolation_level) {
        (-1, 1) => view.last_stable,
        (-1, _) => view.high_watermark,
        _ => view.log_end,
    };
    let unsure = match context.api_version {
        5.. => ErrorCode::OffsetNotAvailable,
        _ => ErrorCode::LeaderNotAvailable,
    };
    let log = replica.log();
    let storage = |_| ErrorCode::KafkaStorageError;
    let found = match partition.timestamp {
        EARLIEST | EARLIEST_LOCAL => return Ok(earliest(&view)),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(NOTHING),
        LATEST if view.is_settled() => {
            return Ok(Found {
                timestamp: Timestamp::NONE,
                offset: upper,
                epoch: view.leader_epoch,
            });
        }
        LATEST => return Err(unsure),
        MAX_TIMESTAMP => log.max_timestamp().await.map_err(storage)?,
        timestamp => {
            let found = log.offset_for_timestamp(Timestamp(timestamp)).await;
            found.map_err(storage)?
        }
    };
    match found {
        Some((offset, timestamp, epoch)) if offset < upper => Ok(Found {
            timestamp,
            offset,
            epoch,
        }),
        _ if !view.is_settled() => Err(unsure),
        _ => Ok(NOTHING),
    }
}

fn earliest(view: &OffsetsView) -> Found {
    Found {
        timestamp: Timestamp::NONE,
        offset: view.log_start,
        epoch: view.log_start_epoch,
    }
}
