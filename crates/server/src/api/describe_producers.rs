//! DescribeProducers (key 61), version 0 (KIP-664).
//!
//! Tells which producers wrote to a partition of late, and where their open transactions begin.

use millrace_model::ErrorCode;
use millrace_protocol::messages::describe_producers_request::DescribeProducersRequest;
use millrace_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use millrace_storage::ProducerInfo;

use super::Context;
use super::errors::{code_of_read, find_replica};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 0);

/// Looks at the producers of every partition that is asked for.
pub async fn handle(
    context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter();
        let partitions = partitions.map(|index| describe(context, &topic.name, *index));
        TopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
            ..Default::default()
        }
    });
    DescribeProducersResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn describe(context: &Context, topic: &str, index: i32) -> PartitionResponse {
    let (error, producers) = match producers(context, topic, index) {
        Ok(producers) => (ErrorCode::None, producers),
        Err(error) => (error, Vec::new()),
    };
    PartitionResponse {
        partition_index: index,
        error_code: error.code(),
        active_producers: producers.iter().map(state).collect(),
        ..Default::default()
    }
}

fn producers(context: &Context, topic: &str, index: i32) -> Result<Vec<ProducerInfo>, ErrorCode> {
    let replica = find_replica(context, topic, index)?;
    let checked = replica.offsets(None, false);
    checked.map_err(|failure| code_of_read(&failure))?;
    Ok(replica.log().producers())
}

fn state(producer: &ProducerInfo) -> ProducerState {
    let start = producer.transaction_start;
    ProducerState {
        producer_id: producer.id.get(),
        producer_epoch: i32::from(producer.epoch.get()),
        last_sequence: producer.last_sequence.get(),
        last_timestamp: producer.last_timestamp.get(),
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: start.map_or(-1, millrace_model::Offset::get),
        ..Default::default()
    }
}
