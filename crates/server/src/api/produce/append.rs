//! Appends the batches of a Produce request, and waits until they are durable.

use std::sync::Arc;

use bytes::BytesMut;
use millrace_metadata::{Image, Topic};
use millrace_model::{ErrorCode, LeaderEpoch, PartitionId, TopicId};
use millrace_protocol::batch::{Origin, SoleBatch};
use millrace_replication::{Acks, Replica};
use millrace_storage::{Appended, Log};
use tokio::time::Instant;

use super::request::{PartitionBatches, ProduceBatches, TopicBatches};
use crate::api::Context;
use crate::api::errors::{Refused, refused_append};
use crate::api::internal::is_internal;

/// What became of one topic.
pub struct TopicOutcome {
    /// As the request named it.
    pub name: String,
    /// As the request named it.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<PartitionOutcome>,
}

/// What became of one partition.
pub struct PartitionOutcome {
    /// Which partition of the topic.
    pub index: i32,
    /// The partition, if there is one.
    pub partition: Option<PartitionId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of the batches of one partition.
pub enum Outcome {
    /// They are in the log.
    Appended(Appended),
    /// They are in the log, and the client wants to know more.
    Waiting(Appended, Arc<Replica>, LeaderEpoch),
    /// They are in the log, but not as durable as the client wanted.
    AppendedOnly(Appended, ErrorCode),
    /// They are not in the log.
    Refused(Refused),
}

impl Outcome {
    /// The error, if there is one.
    pub fn error(&self) -> Option<ErrorCode> {
        match self {
            Outcome::Appended(_) | Outcome::Waiting(..) => None,
            Outcome::AppendedOnly(_, error) => Some(*error),
            Outcome::Refused(refused) => Some(refused.error),
        }
    }
}

/// The only client that may write to internal topics (Kafka's `AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT: &str = "__admin_client";

/// The logs of the request that have too much waiting to be written.
pub fn logs_without_room(context: &Context, produce: &ProduceBatches) -> Vec<Arc<Log>> {
    let image = context.node.image();
    let store = &context.node.broker().store;
    let mut full = Vec::new();
    for topic in &produce.topics {
        let Some(known) = find_topic(context, &image, topic) else {
            continue;
        };
        for partition in &topic.partitions {
            let id = PartitionId {
                topic: known.id,
                index: partition.index,
            };
            full.extend(store.log(id).filter(|log| !log.has_room()));
        }
    }
    full
}

fn find_topic<'a>(
    context: &Context,
    image: &'a Image,
    topic: &TopicBatches,
) -> Option<&'a Arc<Topic>> {
    match context.api_version {
        13.. => image.topic(topic.id),
        _ => image.topic_named(&topic.name),
    }
}

/// Appends everything, in the order of the request.
pub fn append_all(context: &Context, produce: ProduceBatches) -> Vec<TopicOutcome> {
    let image = context.node.image();
    let acks = match produce.acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    };
    let topics = produce.topics.into_iter();
    topics
        .map(|topic| append_topic(context, &image, acks, topic))
        .collect()
}

fn append_topic(
    context: &Context,
    image: &Image,
    acks: Option<Acks>,
    topic: TopicBatches,
) -> TopicOutcome {
    let known = find_topic(context, image, &topic);
    let unknown = match context.api_version {
        13.. => ErrorCode::UnknownTopicId,
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    let append = |batches: PartitionBatches| {
        let index = batches.index;
        let (partition, outcome) = match known {
            None => (None, Err(Refused::of(unknown))),
            Some(topic) => {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                let appended = append_partition(context, topic, id, acks, batches.batches);
                (Some(id), appended)
            }
        };
        PartitionOutcome {
            index,
            partition,
            outcome: outcome.unwrap_or_else(Outcome::Refused),
        }
    };
    TopicOutcome {
        partitions: topic.partitions.into_iter().map(append).collect(),
        name: topic.name,
        id: topic.id,
    }
}

fn append_partition(
    context: &Context,
    topic: &Topic,
    id: PartitionId,
    acks: Option<Acks>,
    batches: BytesMut,
) -> Result<Outcome, Refused> {
    if !(0..topic.partitions).contains(&id.index) {
        return Err(Refused::of(ErrorCode::UnknownTopicOrPartition));
    }
    let batch = sole_batch(batches, context.api_version)?;
    let acks = acks.ok_or_else(|| Refused::of(ErrorCode::InvalidRequiredAcks))?;
    let is_admin = context.caller.client_id.as_deref() == Some(ADMIN_CLIENT);
    if is_internal(topic.name.as_str()) && !is_admin {
        let message = format!("Cannot append to internal topic {}", topic.name);
        return Err(Refused::with(ErrorCode::InvalidTopicException, message));
    }
    let replica = context.node.broker().replicas.get(id);
    let replica = replica.ok_or_else(|| Refused::of(ErrorCode::NotLeaderOrFollower))?;
    let size = batch.size();
    match replica.append(batch, acks) {
        Ok((appended, epoch)) => {
            context.node.metrics.batches_appended(size);
            Ok(match acks {
                Acks::None => Outcome::Appended(appended),
                Acks::Leader | Acks::All => Outcome::Waiting(appended, replica, epoch),
            })
        }
        Err(failure) => Err(refused_append(failure, topic.name.as_str(), id.index)),
    }
}

/// The batch of a partition, which must not belong to a transaction.
fn sole_batch(batches: BytesMut, version: i16) -> Result<SoleBatch, Refused> {
    let origin = Origin::Client {
        produce_version: version,
    };
    let batch = SoleBatch::of(batches, origin)?;
    match batch.header().is_transactional() {
        true => Err(Refused::of(ErrorCode::InvalidTxnState)),
        false => Ok(batch),
    }
}

/// Waits for what the client asked for, partition by partition, until the deadline.
pub async fn wait_all(topics: &mut [TopicOutcome], acks: i16, deadline: Instant) {
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for partition in partitions {
        let Outcome::Waiting(appended, replica, epoch) = &partition.outcome else {
            continue;
        };
        let appended = *appended;
        let acks = if acks == 1 { Acks::Leader } else { Acks::All };
        let waited = replica.wait_committed(appended.last, *epoch, acks, deadline);
        partition.outcome = match waited.await {
            Ok(()) => Outcome::Appended(appended),
            Err(failure) => {
                Outcome::AppendedOnly(appended, crate::api::errors::code_of_append(&failure))
            }
        };
    }
}
