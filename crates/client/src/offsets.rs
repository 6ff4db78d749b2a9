//! Where partitions begin and end, and moving their beginning.

use millrace_model::{ErrorCode, Offset};
use millrace_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millrace_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use crate::{ClientError, Cluster};

/// ListOffsets' names for places that are no timestamps.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// The offset of a partition at a timestamp, or at one of ListOffsets' negative names; -1 where no
/// record is that new.
pub(crate) async fn offset_at(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<Offset, ClientError> {
    let deadline = cluster.machine().clock.now() + cluster.limit();
    loop {
        match ask_offset(cluster, topic, partition, timestamp).await {
            Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                cluster.reconsider(topic).await;
            }
            done => return done,
        }
    }
}

async fn ask_offset(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<Offset, ClientError> {
    let (view, connection) = cluster.leader(topic, partition).await?;
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                current_leader_epoch: view.leader_epoch.get(),
                timestamp,
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = connection.ask(&request, cluster.limit()).await?;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let found = found.ok_or(ClientError::Broker {
        code: ErrorCode::UnknownTopicOrPartition,
        message: None,
    })?;
    ClientError::check(found.error_code, None)?;
    Ok(Offset(found.offset))
}

/// Deletes the records of a partition before an offset; returns where the log begins then.
pub(crate) async fn delete_before(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> Result<Offset, ClientError> {
    let deadline = cluster.machine().clock.now() + cluster.limit();
    loop {
        match ask_to_delete(cluster, topic, partition, offset).await {
            Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                cluster.reconsider(topic).await;
            }
            done => return done,
        }
    }
}

async fn ask_to_delete(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> Result<Offset, ClientError> {
    let (_, connection) = cluster.leader(topic, partition).await?;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset: offset.get(),
                ..DeleteRecordsPartition::default()
            }],
            ..DeleteRecordsTopic::default()
        }],
        timeout_ms: i32::try_from(cluster.limit().as_millis()).unwrap_or(i32::MAX),
        ..DeleteRecordsRequest::default()
    };
    let answer = connection.ask(&request, cluster.limit()).await?;
    let deleted = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let deleted = deleted.ok_or_else(|| ClientError::Codec("the answer is empty".to_owned()))?;
    ClientError::check(deleted.error_code, None)?;
    Ok(Offset(deleted.low_watermark))
}
