//! ListPartitionReassignments (key 46), version 0 (KIP-455).
//!
//! Tells of the reassignments in this node's image. What was to be added and is to leave again,
//! because another reassignment took the place of the first, is told of as both.

use millrace_metadata::{Image, Partition};
use millrace_model::{BrokerId, PartitionId};
use millrace_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use millrace_protocol::messages::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 0);

/// Tells of what is being reassigned, among the partitions that are named or everywhere.
pub async fn handle(
    context: &Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = context.node.image();
    let topics = match &request.topics {
        None => everywhere(&image),
        Some(topics) => topics
            .iter()
            .filter_map(|topic| {
                let found = image.topic_named(&topic.name)?;
                let partitions = topic.partition_indexes.iter().filter_map(|index| {
                    let (topic, index) = (found.id, *index);
                    let partition = image.partition(PartitionId { topic, index })?;
                    let is_moving = partition.is_reassigning();
                    is_moving.then(|| respond(index, partition))
                });
                told(&topic.name, partitions.collect())
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..Default::default()
    }
}

fn everywhere(image: &Image) -> Vec<OngoingTopicReassignment> {
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for (id, partition) in image.reassigning() {
        let Some(topic) = image.topic(id.topic) else {
            continue;
        };
        let told = respond(id.index, partition);
        match topics
            .last_mut()
            .filter(|last| last.name == topic.name.as_str())
        {
            Some(last) => last.partitions.push(told),
            None => topics.push(OngoingTopicReassignment {
                name: topic.name.as_str().to_owned(),
                partitions: vec![told],
                ..Default::default()
            }),
        }
    }
    topics
}

fn told(
    name: &str,
    partitions: Vec<OngoingPartitionReassignment>,
) -> Option<OngoingTopicReassignment> {
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: name.to_owned(),
        partitions,
        ..Default::default()
    })
}

fn respond(index: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let numbers = |brokers: &[BrokerId]| brokers.iter().map(|id| id.get()).collect();
    OngoingPartitionReassignment {
        partition_index: index,
        replicas: numbers(&partition.replicas),
        adding_replicas: numbers(&partition.adding),
        removing_replicas: numbers(&partition.removing),
        ..Default::default()
    }
}
