//! Appends the batches of a Produce request, and waits until they are durable.

use std::sync::Arc;

use bytes::BytesMut;
use millrace_metadata::{Image, Topic};
use millrace_model::{ErrorCode, LeaderEpoch, PartitionId, Planted, TopicId};
use millrace_protocol::batch::{Origin, SoleBatch};
use millrace_replication::{Acks, AppendFailure, Replica};
use millrace_storage::Appended;
use tokio::time::Instant;

use super::refused::Turn;
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

/// The topic that a request names.
pub fn find_topic<'a>(
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
    let append = |batches: PartitionBatches| {
        let index = batches.index;
        let place = Place {
            context,
            name: &topic.name,
            id: topic.id,
            index,
            known: known.map(Arc::as_ref),
        };
        PartitionOutcome {
            index,
            partition: place.partition(),
            outcome: place.append_in_turn(acks, batches.batches),
        }
    };
    TopicOutcome {
        partitions: topic.partitions.into_iter().map(append).collect(),
        name: topic.name,
        id: topic.id,
    }
}

/// A partition as the request names it.
struct Place<'a> {
    context: &'a Context,
    name: &'a str,
    id: TopicId,
    index: i32,
    /// The topic, if there is such a one.
    known: Option<&'a Topic>,
}

impl Place<'_> {
    fn partition(&self) -> Option<PartitionId> {
        Some(PartitionId {
            topic: self.known?.id,
            index: self.index,
        })
    }

    /// Appends a batch, if none that its producer sent before it was refused; and remembers it if
    /// it is refused itself.
    fn append_in_turn(&self, acks: Option<Acks>, batches: BytesMut) -> Outcome {
        let batch = sole_batch(batches, self.context.api_version);
        let header = batch.as_ref().ok().map(SoleBatch::header);
        let turn = header.and_then(|header| Turn::of(self.name, self.id, self.index, header));
        let Some(turn) = turn else {
            let appended = self.append(acks, batch, false);
            return appended.unwrap_or_else(|failure| Outcome::Refused(failure.refused(self)));
        };
        let (memory, clock) = (
            &self.context.node.broker().refused_batches,
            &self.context.node.host.clock,
        );
        let forgets = Planted::ForgottenRefusal.is_here();
        let waits = memory.stand_before(&turn, clock) && !forgets;
        match self.append(acks, batch, waits) {
            Ok(appended) => {
                memory.appended(&turn);
                appended
            }
            Err(failure) => {
                // What waits for another one is not waited for: that may never come.
                if !matches!(failure, Failure::Append(AppendFailure::OutOfTurn)) {
                    memory.refused(&turn, clock);
                }
                Outcome::Refused(failure.refused(self))
            }
        }
    }

    fn append(
        &self,
        acks: Option<Acks>,
        batch: Result<SoleBatch, Refused>,
        only_of_known: bool,
    ) -> Result<Outcome, Failure> {
        let context = self.context;
        let id = self.partition().zip(self.known);
        let Some((id, topic)) = id else {
            return Err(Failure::of(match context.api_version {
                13.. => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            }));
        };
        if !(0..topic.partitions).contains(&self.index) {
            return Err(Failure::of(ErrorCode::UnknownTopicOrPartition));
        }
        let batch = batch.map_err(Failure::Request)?;
        let acks = acks.ok_or_else(|| Failure::of(ErrorCode::InvalidRequiredAcks))?;
        let is_admin = context.caller.client_id.as_deref() == Some(ADMIN_CLIENT);
        if is_internal(topic.name.as_str()) && !is_admin {
            let message = format!("Cannot append to internal topic {}", topic.name);
            let refused = Refused::with(ErrorCode::InvalidTopicException, message);
            return Err(Failure::Request(refused));
        }
        let replica = context.node.broker().replicas.get(id);
        let replica = replica.ok_or_else(|| Failure::of(ErrorCode::NotLeaderOrFollower))?;
        let size = batch.size();
        let appended = match only_of_known {
            true => replica.append_if_known(batch, acks),
            false => replica.append(batch, acks),
        };
        let (appended, epoch) = appended.map_err(Failure::Append)?;
        context.node.metrics.batches_appended(size);
        Ok(match acks {
            Acks::None => Outcome::Appended(appended),
            Acks::Leader | Acks::All => Outcome::Waiting(appended, replica, epoch),
        })
    }
}

/// Why a batch was not appended.
enum Failure {
    /// The request is at fault.
    Request(Refused),
    /// The replica refused it.
    Append(AppendFailure),
}

impl Failure {
    fn of(error: ErrorCode) -> Failure {
        Failure::Request(Refused::of(error))
    }

    fn refused(self, place: &Place<'_>) -> Refused {
        match self {
            Failure::Request(refused) => refused,
            Failure::Append(failure) => {
                let name = place.known.map_or(place.name, |topic| topic.name.as_str());
                refused_append(failure, name, place.index)
            }
        }
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
