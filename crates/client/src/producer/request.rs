//! Batches of several partitions as one Produce request, and the answer taken apart again.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{Offset, TopicId};
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;

use super::accumulator::Slot;
use super::lane::Ticket;
use super::{Acks, ProducerOptions};
use crate::ClientError;

/// A batch in a request.
pub(super) struct Sent {
    pub(super) slot: Slot,
    pub(super) ticket: Ticket,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: i32,
    pub(super) bytes: Bytes,
}

/// The request for these batches, at most one of each partition.
pub(super) fn request<'a>(sent: &'a [Sent], options: &ProducerOptions) -> ProduceRequest<'a> {
    let mut topic_data: Vec<TopicProduceData<'a>> = Vec::new();
    for batch in sent {
        let data = PartitionProduceData {
            index: batch.partition,
            records: Some(&batch.bytes),
            ..PartitionProduceData::default()
        };
        match topic_data.iter_mut().find(|t| *t.name == *batch.topic) {
            Some(topic) => topic.partition_data.push(data),
            None => topic_data.push(TopicProduceData {
                name: &batch.topic,
                topic_id: batch.topic_id.0,
                partition_data: vec![data],
                ..TopicProduceData::default()
            }),
        }
    }
    ProduceRequest {
        acks: match options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        timeout_ms: i32::try_from(options.request_limit.as_millis()).unwrap_or(i32::MAX),
        topic_data,
        ..ProduceRequest::default()
    }
}

/// What an answer says of one batch.
pub(super) fn outcome_of(sent: &Sent, answer: &ProduceResponse) -> Result<Offset, ClientError> {
    let topics = answer.responses.iter();
    let mut topics = topics.filter(|topic| {
        *topic.name == *sent.topic
            || topic.name.is_empty() && TopicId(topic.topic_id) == sent.topic_id
    });
    let partition = topics.find_map(|topic| {
        let mut partitions = topic.partition_responses.iter();
        partitions.find(|partition| partition.index == sent.partition)
    });
    let partition = partition.ok_or_else(|| {
        ClientError::Codec("an answer to Produce without the partition".to_owned())
    })?;
    ClientError::check(partition.error_code, partition.error_message.clone())?;
    Ok(Offset(partition.base_offset))
}
