//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - 1: key type, throttle time, message; 3: flexible; 4: several keys in one request (KIP-699);
//! - 5: TRANSACTION_ABORTABLE (KIP-890); 6: share groups (KIP-932).
//!
//! The coordinator of a group is the leader of its partition of `__consumer_offsets`, which is made
//! when the first client asks. Kafka answers COORDINATOR_NOT_AVAILABLE meanwhile; here the answer
//! waits for it.
//!
//! Left out: coordinators of transactions and share groups. There are none yet, so their keys are
//! answered with COORDINATOR_NOT_AVAILABLE, which clients take as "ask again".

use millrace_metadata::Image;
use millrace_model::{BrokerId, ErrorCode, PartitionId};
use millrace_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace_protocol::messages::find_coordinator_response::{
    Coordinator, FindCoordinatorResponse,
};

use super::groups::partition_of;
use super::internal::{self, GROUP_OFFSETS};
use super::{Context, metadata};
use crate::node::endpoint;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 6);

/// Kafka's text for COORDINATOR_NOT_AVAILABLE.
const NOT_AVAILABLE: &str = "The coordinator is not available.";

/// From here on several keys may be asked about.
const SEVERAL: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Tells which broker coordinates what; INVALID_REQUEST for a kind of key Kafka does not know.
pub async fn handle(context: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if request.key_type == GROUP {
        internal::create_missing(context, GROUP_OFFSETS).await;
    }
    let image = context.node.image();
    let find = |key: String| match find(context, &image, request.key_type, &key) {
        Ok(found) => Coordinator { key, ..found },
        Err(error) => refused(key, error),
    };
    if context.api_version >= SEVERAL {
        return FindCoordinatorResponse {
            coordinators: request.coordinator_keys.into_iter().map(find).collect(),
            ..Default::default()
        };
    }
    let found = find(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

fn find(context: &Context, image: &Image, kind: i8, key: &str) -> Result<Coordinator, ErrorCode> {
    match kind {
        GROUP => {}
        TRANSACTION => return Err(ErrorCode::CoordinatorNotAvailable),
        SHARE if context.api_version >= 6 => return Err(ErrorCode::CoordinatorNotAvailable),
        _ => return Err(ErrorCode::InvalidRequest),
    }
    let topic = image.topic_named(GROUP_OFFSETS);
    let topic = topic.ok_or(ErrorCode::CoordinatorNotAvailable)?.id;
    let index = partition_of(context, image, key);
    let partition = image.partition(PartitionId { topic, index });
    let leader = partition
        .and_then(|partition| metadata::reachable_leader(image, partition, context.listener()))
        .filter(|leader| !context.node.silent_brokers().contains(leader));
    let leader: BrokerId = leader.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let (_, listener) =
        endpoint(image, leader, context.listener()).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Coordinator {
        node_id: leader.get(),
        host: listener.host.clone(),
        port: i32::from(listener.port),
        ..Default::default()
    })
}

fn refused(key: String, error: ErrorCode) -> Coordinator {
    let message = match error {
        ErrorCode::InvalidRequest => "Unknown coordinator key type",
        _ => NOT_AVAILABLE,
    };
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(message.to_owned()),
        ..Default::default()
    }
}
