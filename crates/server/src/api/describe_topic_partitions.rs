//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! Topics come in the order of their names, as many partitions as the request and
//! `max.request.partition.size.limit` allow, and a cursor to where the next answer begins. No topics
//! means all. A partition without a leader has leader -1 and, unlike in Metadata, no error.

use std::collections::BTreeSet;

use millrace_metadata::{Image, Partition, Topic};
use millrace_model::{BrokerId, ErrorCode, PartitionId};
use millrace_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use millrace_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::internal::is_internal;
use super::metadata::{missing, offline_replicas, reachable_leader};
use super::{Context, TOPIC_OPERATIONS};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 0);

/// Tells of the partitions of topics, from the cursor on.
pub async fn handle(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    if let Err(error) = check(&request) {
        return refused(&request, error);
    }
    let most = context.node.config().limits.request_partitions;
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let image = context.node.image();
    let mut page = Page {
        image: &image,
        listener: context.listener(),
        left: asked.min(most).max(1),
        response: DescribeTopicPartitionsResponse::default(),
    };
    let begin = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    if request.topics.is_empty() {
        page.fill(image.topics().map(|topic| topic.name.as_str()), begin);
    } else {
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        let sorted: BTreeSet<&str> = names.collect();
        page.fill(sorted.into_iter(), begin);
    }
    page.response
}

fn check(request: &DescribeTopicPartitionsRequest) -> Result<(), ErrorCode> {
    let Some(cursor) = &request.cursor else {
        return Ok(());
    };
    let mut topics = request.topics.iter();
    let is_asked_for = topics.len() == 0 || topics.any(|topic| topic.name == cursor.topic_name);
    match is_asked_for && cursor.partition_index >= 0 {
        true => Ok(()),
        false => Err(ErrorCode::InvalidRequest),
    }
}

fn refused(
    request: &DescribeTopicPartitionsRequest,
    error: ErrorCode,
) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(topic.name.clone()),
        ..Default::default()
    });
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// An answer that is being filled.
struct Page<'a> {
    image: &'a Image,
    listener: &'a str,
    /// How many more partitions may be told of.
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Tells of topics, whose names rise, from one topic's partition on.
    fn fill<'n>(&mut self, names: impl Iterator<Item = &'n str>, begin: (&str, i32)) {
        for name in names.skip_while(|name| *name < begin.0) {
            if self.left == 0 {
                self.response.next_cursor = Some(cursor(name, 0));
                return;
            }
            let from = if name == begin.0 { begin.1 } else { 0 };
            match self.image.topic_named(name).cloned() {
                Some(topic) => self.tell(&topic, from),
                None => self.tell_missing(name),
            }
            if self.response.next_cursor.is_some() {
                return;
            }
        }
    }

    fn tell(&mut self, topic: &Topic, from: i32) {
        let most = i32::try_from(self.left).unwrap_or(i32::MAX);
        let end = topic.partitions.min(from.saturating_add(most));
        let partitions: Vec<_> = (from..end)
            .filter_map(|index| self.partition(topic, index))
            .collect();
        self.left = self.left.saturating_sub(partitions.len());
        let name = topic.name.as_str();
        if end < topic.partitions {
            self.response.next_cursor = Some(cursor(name, end));
        }
        self.response
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                name: Some(name.to_owned()),
                topic_id: topic.id.0,
                is_internal: is_internal(name),
                partitions,
                topic_authorized_operations: TOPIC_OPERATIONS,
                ..Default::default()
            });
    }

    fn tell_missing(&mut self, name: &str) {
        self.response
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                error_code: missing(name).code(),
                name: Some(name.to_owned()),
                is_internal: is_internal(name),
                topic_authorized_operations: TOPIC_OPERATIONS,
                ..Default::default()
            });
    }

    fn partition(
        &self,
        topic: &Topic,
        index: i32,
    ) -> Option<DescribeTopicPartitionsResponsePartition> {
        let id = PartitionId {
            topic: topic.id,
            index,
        };
        let partition: &Partition = self.image.partition(id)?;
        let leader = reachable_leader(self.image, partition, self.listener);
        Some(DescribeTopicPartitionsResponsePartition {
            partition_index: index,
            leader_id: leader.map_or(-1, BrokerId::get),
            leader_epoch: partition.leader_epoch.get(),
            replica_nodes: numbers(&partition.replicas),
            isr_nodes: numbers(&partition.isr),
            eligible_leader_replicas: Some(numbers(&partition.elr)),
            last_known_elr: Some(numbers(&partition.last_known_elr)),
            offline_replicas: offline_replicas(self.image, partition, self.listener),
            ..Default::default()
        })
    }
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    Cursor {
        topic_name: topic.to_owned(),
        partition_index: partition,
        ..Default::default()
    }
}

fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.get()).collect()
}
