//! Subscriptions and assignments as consumers of the classic protocol wrap them (Kafka class
//! `ConsumerProtocol`): a version, and the message of that version.

use bytes::Bytes;
use millrace_model::TopicId;
use millrace_protocol::{Decode, Message, Reader, Writer};

use crate::assignor::Partitions;
use crate::group::Topics;
use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
use crate::wire::consumer_protocol_assignment::TopicPartition;
use crate::wire::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};

/// The subscription; `None` if it is malformed.
pub(super) fn subscription(bytes: &Bytes) -> Option<ConsumerProtocolSubscription> {
    read(bytes)
}

/// What the member says in its subscription that it owns.
pub(super) fn owned(
    subscription: &ConsumerProtocolSubscription,
    topics: &dyn Topics,
) -> Vec<TopicPartitions> {
    let owned = subscription.owned_partitions.iter();
    owned
        .filter_map(|owned| {
            let topic = topics.by_name(&owned.topic)?;
            Some(TopicPartitions {
                topic_id: topic.id.0,
                partitions: owned.partitions.clone(),
                ..Default::default()
            })
        })
        .collect()
}

/// An assignment as the group's assignor made it.
pub(super) enum Assignment {
    Known(Partitions),
    /// It carries data of the assignor's own, which a coordinator's assignor would lose.
    Custom,
    Malformed,
}

pub(super) fn assignment(bytes: &Bytes, topics: &dyn Topics) -> Assignment {
    if bytes.is_empty() {
        return Assignment::Known(Partitions::default());
    }
    let Some(assignment) = read::<ConsumerProtocolAssignment>(bytes) else {
        return Assignment::Malformed;
    };
    if assignment.user_data.is_some_and(|data| !data.is_empty()) {
        return Assignment::Custom;
    }
    let assigned = assignment.assigned_partitions.into_iter();
    Assignment::Known(Partitions::from_unsorted(assigned.filter_map(|assigned| {
        let topic = topics.by_name(&assigned.topic)?;
        Some((topic.id, assigned.partitions))
    })))
}

/// An assignment for a member whose subscription is of this version.
pub(super) fn write_assignment(
    partitions: impl Iterator<Item = (TopicId, Vec<i32>)>,
    subscription: &Bytes,
    topics: &dyn Topics,
) -> Bytes {
    let assigned = partitions.filter_map(|(topic, partitions)| {
        Some(TopicPartition {
            topic: topics.name_of(topic)?.to_string(),
            partitions,
        })
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        ..Default::default()
    };
    let (lowest, highest) = ConsumerProtocolAssignment::VERSIONS;
    let version = Reader::new(subscription).i16().unwrap_or(lowest);
    let version = version.clamp(lowest, highest);
    let mut writer = Writer::new();
    writer.i16(version);
    match assignment.encode(&mut writer, version) {
        Ok(()) => writer.into_bytes(),
        // Names of topics that exist fit; an empty assignment makes the member ask again.
        Err(_) => Bytes::new(),
    }
}

/// Versions to come begin as the newest known one does.
fn read<'a, T: Decode<'a>>(bytes: &'a Bytes) -> Option<T> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16().ok()?;
    if version < T::VERSIONS.0 {
        return None;
    }
    T::decode(&mut reader, version.min(T::VERSIONS.1)).ok()
}
