//! From what went wrong to Kafka's codes: the data path's part of the one place that chooses them.

use std::sync::Arc;

use millrace_model::{ErrorCode, PartitionId};
use millrace_protocol::batch::Refusal;
use millrace_replication::{AppendFailure, ReadFailure, Replica};
use millrace_storage::AppendError;

use super::Context;

/// Why one partition of a request was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The code.
    pub error: ErrorCode,
    /// A text for people.
    pub message: Option<String>,
    /// The records at fault, by their index in the batch.
    pub records: Vec<(i32, String)>,
}

impl Refused {
    /// A refusal that its code explains.
    pub fn of(error: ErrorCode) -> Refused {
        Refused {
            error,
            message: None,
            records: Vec::new(),
        }
    }

    /// A refusal with a text.
    pub fn with(error: ErrorCode, message: String) -> Refused {
        Refused {
            message: Some(message),
            ..Refused::of(error)
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let records = refusal.records.into_iter();
        Refused {
            error: refusal.code,
            message: Some(refusal.message),
            records: records
                .map(|record| (record.index, record.message))
                .collect(),
        }
    }
}

/// The code for batches that were not appended, or are not known to be committed.
pub fn code_of_append(failure: &AppendFailure) -> ErrorCode {
    match failure {
        AppendFailure::NotLeader | AppendFailure::OutOfTurn => ErrorCode::NotLeaderOrFollower,
        AppendFailure::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        AppendFailure::NotEnoughReplicasAfterAppend { .. } => {
            ErrorCode::NotEnoughReplicasAfterAppend
        }
        AppendFailure::TimedOut => ErrorCode::RequestTimedOut,
        AppendFailure::Offline => ErrorCode::KafkaStorageError,
        AppendFailure::Log(error) => code_of_log(error),
    }
}

fn code_of_log(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Refused(refusal) => refusal.code,
        AppendError::Corrupt(_) => ErrorCode::CorruptMessage,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::OutOfOrderSequence(_) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch(_) => ErrorCode::InvalidProducerEpoch,
        AppendError::FencedEpoch { .. } | AppendError::NotContiguous { .. } | AppendError::Busy => {
            ErrorCode::NotLeaderOrFollower
        }
        AppendError::NoSpace | AppendError::Offline => ErrorCode::KafkaStorageError,
        AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
    }
}

/// Why a batch for a partition was refused, as Kafka tells it.
pub fn refused_append(failure: AppendFailure, topic: &str, index: i32) -> Refused {
    let error = code_of_append(&failure);
    match failure {
        AppendFailure::NotEnoughReplicas { isr, min } => Refused::with(
            error,
            format!(
                "The size of the current ISR is {isr}, insufficient to satisfy the min.isr \
                 requirement of {min} for partition {topic}-{index}"
            ),
        ),
        AppendFailure::OutOfTurn => Refused::with(error, failure.to_string()),
        AppendFailure::Log(AppendError::Refused(refusal)) => refusal.into(),
        AppendFailure::Log(error_of_log) => Refused::with(error, error_of_log.to_string()),
        _ => Refused::of(error),
    }
}

/// The code for a partition that was not read.
pub fn code_of_read(failure: &ReadFailure) -> ErrorCode {
    match failure {
        ReadFailure::NotLeader => ErrorCode::NotLeaderOrFollower,
        ReadFailure::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        ReadFailure::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        ReadFailure::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadFailure::NotYet { .. } => ErrorCode::OffsetNotAvailable,
        ReadFailure::Damaged { .. } => ErrorCode::CorruptMessage,
        ReadFailure::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// The replica of a partition that is named in a request, if it is on this broker.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION where the cluster has no such partition, NOT_LEADER_OR_FOLLOWER where
/// it is elsewhere.
pub fn find_replica(context: &Context, topic: &str, index: i32) -> Result<Arc<Replica>, ErrorCode> {
    let image = context.node.image();
    let topic = image.topic_named(topic);
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let id = PartitionId {
        topic: topic.id,
        index,
    };
    image
        .partition(id)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replica = context.node.broker().replicas.get(id);
    replica.ok_or(ErrorCode::NotLeaderOrFollower)
}
