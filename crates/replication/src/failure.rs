//! Why an append or a read was refused, by what a caller can do about it.

use millrace_model::{LeaderEpoch, Offset};
use millrace_storage::AppendError;
use thiserror::Error;

/// Why batches were not appended, or are not known to be committed.
#[derive(Clone, Debug, Error)]
pub enum AppendFailure {
    /// This broker does not lead the partition, or no longer (NOT_LEADER_OR_FOLLOWER). Batches that
    /// were appended may still be committed by the next leader.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// Nothing was appended: an earlier batch of the producer was refused, and the log, which knows
    /// nothing of it, would take this one before that (NOT_LEADER_OR_FOLLOWER).
    #[error("an earlier batch of this producer was refused and must come first")]
    OutOfTurn,
    /// Nothing was appended: too few replicas are in sync for acks=all (NOT_ENOUGH_REPLICAS).
    #[error("{isr} replicas are in sync, {min} are needed")]
    NotEnoughReplicas {
        /// Members of the ISR.
        isr: usize,
        /// `min.insync.replicas`.
        min: usize,
    },
    /// The batches are appended; too few replicas are in sync to commit them in time
    /// (NOT_ENOUGH_REPLICAS_AFTER_APPEND).
    #[error("appended, but only {isr} replicas are in sync and {min} are needed")]
    NotEnoughReplicasAfterAppend {
        /// Members of the ISR.
        isr: usize,
        /// `min.insync.replicas`.
        min: usize,
    },
    /// The batches are appended and were not committed in time (REQUEST_TIMED_OUT).
    #[error("appended, but not committed in time")]
    TimedOut,
    /// The log's directory has failed (KAFKA_STORAGE_ERROR).
    #[error("the log directory has failed")]
    Offline,
    /// The log refused them.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// Why nothing was read.
#[derive(Clone, Debug, Error)]
pub enum ReadFailure {
    /// This broker neither leads nor, where that would do, follows (NOT_LEADER_OR_FOLLOWER).
    #[error("this broker does not serve the partition")]
    NotLeader,
    /// The client knows an older leadership (FENCED_LEADER_EPOCH).
    #[error("the leader epoch is {current}, the client's is older")]
    FencedEpoch {
        /// The epoch of this replica.
        current: LeaderEpoch,
    },
    /// The client knows a newer leadership (UNKNOWN_LEADER_EPOCH).
    #[error("the leader epoch is {current}, the client's is newer")]
    UnknownEpoch {
        /// The epoch of this replica.
        current: LeaderEpoch,
    },
    /// The log holds no such offset (OFFSET_OUT_OF_RANGE).
    #[error("offset {from} is outside of the log, which holds {log_start} to {log_end}")]
    OutOfRange {
        /// The offset asked for.
        from: Offset,
        /// First offset of the log.
        log_start: Offset,
        /// The offset the next record gets.
        log_end: Offset,
    },
    /// This follower's log does not reach the offset; the leader's may (OFFSET_NOT_AVAILABLE).
    #[error("offset {from} is beyond this follower's log, which ends at {log_end}")]
    NotYet {
        /// The offset asked for.
        from: Offset,
        /// The offset that follows the last record here.
        log_end: Offset,
    },
    /// These offsets are damaged on the disk; others are not (CORRUPT_MESSAGE).
    #[error("the log is damaged on its disk from offset {from} to {to}")]
    Damaged {
        /// The first offset that cannot be read.
        from: Offset,
        /// The first one behind it that can.
        to: Offset,
    },
    /// The log cannot be read (KAFKA_STORAGE_ERROR).
    #[error("the log cannot be read: {0}")]
    Storage(String),
}
