//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! - 2: the client's leader epoch (KIP-320); 3: the replica id; 4: flexible.
//!
//! Tells where the largest epoch ends that is not beyond the one asked for, so that a client can
//! see whether its position lies on a log that was cut.

use millrace_model::{ErrorCode, LeaderEpoch, Offset};
use millrace_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use millrace_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::Context;
use super::errors::{code_of_read, find_replica};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (2, 4);

/// Looks up every partition that is asked for.
pub async fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let found = find(context, &topic.topic, partition);
            respond(partition.partition, found)
        });
        OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn respond(partition: i32, found: Result<(LeaderEpoch, Offset), ErrorCode>) -> EpochEndOffset {
    let (error, epoch, end) = match found {
        Ok((epoch, end)) => (ErrorCode::None, epoch, end),
        Err(error) => (error, LeaderEpoch::NONE, Offset(-1)),
    };
    EpochEndOffset {
        error_code: error.code(),
        partition,
        leader_epoch: epoch.get(),
        end_offset: end.get(),
        ..Default::default()
    }
}

fn find(
    context: &Context,
    topic: &str,
    partition: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let replica = find_replica(context, topic, partition.partition)?;
    let epoch = partition.current_leader_epoch;
    let claimed = (epoch >= 0).then_some(LeaderEpoch(epoch));
    let checked = replica.offsets(claimed, false);
    checked.map_err(|failure| code_of_read(&failure))?;
    let asked = LeaderEpoch(partition.leader_epoch);
    let (epoch, end) = replica.log().end_offset_for(asked);
    match epoch == LeaderEpoch::NONE {
        true => Ok((LeaderEpoch::NONE, Offset(-1))),
        false => Ok((epoch, end)),
    }
}
