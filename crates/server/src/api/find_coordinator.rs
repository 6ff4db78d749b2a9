//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - 1: key type, throttle time, message; 3: flexible; 4: several keys in one request (KIP-699);
//! - 5: TRANSACTION_ABORTABLE (KIP-890); 6: share groups (KIP-932).
//!
//! Left out: coordinators. There are none yet, so every key is answered with
//! COORDINATOR_NOT_AVAILABLE, which clients take as "ask again". (librdkafka looks at the presence
//! of this API before it uses lz4.)

use millrace_model::ErrorCode;
use millrace_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace_protocol::messages::find_coordinator_response::{
    Coordinator, FindCoordinatorResponse,
};

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 6);

/// Kafka's text for COORDINATOR_NOT_AVAILABLE.
const NOT_AVAILABLE: &str = "The coordinator is not available.";

/// Answers that there is no coordinator; INVALID_REQUEST for a kind of key Kafka does not know.
pub async fn handle(context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    // Groups, transactions and, from version 6 on, share groups.
    let known = match request.key_type {
        0 | 1 => true,
        2 => context.api_version >= 6,
        _ => false,
    };
    let (error, message) = match known {
        true => (ErrorCode::CoordinatorNotAvailable, NOT_AVAILABLE),
        false => (ErrorCode::InvalidRequest, "Unknown coordinator key type"),
    };
    if context.api_version >= 4 {
        let keys = request.coordinator_keys.into_iter();
        let coordinators = keys.map(|key| Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(message.to_owned()),
            ..Default::default()
        });
        return FindCoordinatorResponse {
            coordinators: coordinators.collect(),
            ..Default::default()
        };
    }
    FindCoordinatorResponse {
        error_code: error.code(),
        error_message: Some(message.to_owned()),
        node_id: -1,
        port: -1,
        ..Default::default()
    }
}
