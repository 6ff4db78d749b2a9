//! DeleteRecords (key 21), versions 0 to 2.
//!
//! - 2: flexible.
//!
//! An offset of -1 stands for the high watermark. The answer waits until every live replica has
//! moved its log start, and, unlike in Kafka, until that would survive a power cut there.

use std::time::Duration;

use futures::future::join_all;
use millrace_model::{ErrorCode, Offset};
use millrace_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millrace_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use millrace_replication::DeleteFailure;
use tokio::time::Instant;

use super::Context;
use super::errors::{code_of_append, find_replica};
use super::internal::is_internal;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

/// "Up to the high watermark".
const HIGH_WATERMARK: i64 = -1;
/// What is told in place of a low watermark where there is an error.
const NO_LOW_WATERMARK: i64 = -1;

/// Deletes the records before the offsets that are asked for.
pub async fn handle(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = context.node.host.clock.now() + patience;
    let topics = request
        .topics
        .iter()
        .map(|topic| delete_in_topic(context, topic, deadline));
    DeleteRecordsResponse {
        topics: join_all(topics).await,
        ..Default::default()
    }
}

async fn delete_in_topic(
    context: &Context,
    topic: &DeleteRecordsTopic,
    deadline: Instant,
) -> DeleteRecordsTopicResult {
    let partitions = topic.partitions.iter().map(async |partition| {
        let deleted = delete(context, &topic.name, partition, deadline).await;
        let (error, low_watermark) = match deleted {
            Ok(low_watermark) => (ErrorCode::None, low_watermark.get()),
            Err(error) => (error, NO_LOW_WATERMARK),
        };
        DeleteRecordsPartitionResult {
            partition_index: partition.partition_index,
            low_watermark,
            error_code: error.code(),
            ..Default::default()
        }
    });
    DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: join_all(partitions).await,
        ..Default::default()
    }
}

async fn delete(
    context: &Context,
    topic: &str,
    partition: &DeleteRecordsPartition,
    deadline: Instant,
) -> Result<Offset, ErrorCode> {
    let replica = find_replica(context, topic, partition.partition_index);
    if is_internal(topic) && !matches!(replica, Err(ErrorCode::UnknownTopicOrPartition)) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let to = match partition.offset {
        HIGH_WATERMARK => None,
        offset @ 0.. => Some(Offset(offset)),
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    let deleted = replica?.delete_records(to, deadline).await;
    deleted.map_err(|failure| match failure {
        DeleteFailure::Leadership(failure) => code_of_append(&failure),
        DeleteFailure::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteFailure::Policy => ErrorCode::PolicyViolation,
    })
}
