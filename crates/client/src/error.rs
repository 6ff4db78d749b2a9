//! What can go wrong between a client and a cluster.

use std::io;

use millrace_model::ErrorCode;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke. Asking again, perhaps elsewhere, may help.
    #[error("{address}: {error}")]
    Network {
        /// The broker, as host and port.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The time for the call ran out.
    #[error("no answer within {limit_ms} ms while {doing}")]
    Timeout {
        /// The time that was allowed, in milliseconds.
        limit_ms: u128,
        /// What was being done.
        doing: String,
    },
    /// The broker answered with an error.
    #[error("{code}{}", explain(.message))]
    Broker {
        /// The code of the protocol.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// The other side does not speak a version this client knows.
    #[error("the broker knows no common version of {api}")]
    NoCommonVersion {
        /// The name of the API.
        api: &'static str,
    },
    /// The other side sent what cannot be read, or this client was asked to send what cannot be written.
    #[error("{0}")]
    Codec(String),
}

fn explain(message: &Option<String>) -> String {
    message
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

impl ClientError {
    /// An error code of an answer, or `Ok` for none.
    pub fn check(code: i16, message: Option<String>) -> Result<(), ClientError> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Ok(()),
            Some(code) => Err(ClientError::Broker { code, message }),
            None => Err(ClientError::Codec(format!("unknown error code {code}"))),
        }
    }

    /// The broker's code, if a broker answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, after a look at fresh metadata.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Network { .. } => true,
            ClientError::Broker { code, .. } => is_retriable(*code),
            _ => false,
        }
    }
}

/// Kafka's `RetriableException`s.
fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CorruptMessage
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NotController
            | ErrorCode::KafkaStorageError
            | ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::ListenerNotFound
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::PreferredLeaderNotAvailable
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FetchSessionTopicIdError
            | ErrorCode::BrokerNotAvailable
    )
}
