//! What can go wrong, as callers can act on it.

use std::io;

use millrace_metadata::Refusal;
use millrace_model::BrokerId;
use thiserror::Error;

/// Why this node cannot take part in the quorum.
#[derive(Debug, Error)]
pub enum QuorumError {
    /// The metadata on disk cannot be read or written, or is damaged.
    #[error("cannot open the metadata log: {0}")]
    Storage(#[from] io::Error),
    /// The options contradict each other.
    #[error("invalid quorum options: {0}")]
    Options(String),
    /// The quorum stopped and cannot go on; the process must end.
    #[error("the metadata quorum stopped: {0}")]
    Stopped(String),
}

/// Why a decision was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecideError {
    /// Another node is the active controller, or none is: ask there, nothing was done.
    #[error("this node is not the active controller{}", leader.map(|l| format!(", {l} is")).unwrap_or_default())]
    NotController {
        /// The active controller, if it is known.
        leader: Option<BrokerId>,
    },
    /// It was proposed, and whether it was or will be done is not known.
    #[error("the decision was not confirmed in time")]
    Unconfirmed,
    /// The deadline passed before it was proposed.
    #[error("the deadline passed before the decision was taken")]
    TimedOut,
    /// The decision does not fit the image; a bug.
    #[error("the decision does not fit the cluster's state: {0}")]
    Invalid(String),
}

/// Why a forwarded request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForwardError {
    /// No controller was active before the deadline; nothing was done.
    #[error("no controller is active")]
    NoController,
    /// Whether it was done is not known.
    #[error("the controller did not answer: {0}")]
    Unconfirmed(String),
    /// It cannot be answered there.
    #[error("the controller cannot answer: {0}")]
    Unsupported(String),
}

/// Why the controller did not do what a broker asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// No controller answered in time.
    #[error("the controller did not answer: {0}")]
    Unavailable(String),
    /// The controller refused.
    #[error("the controller refused: {0}")]
    Refused(Refusal),
}

/// A file system has no room, by size or by quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}
