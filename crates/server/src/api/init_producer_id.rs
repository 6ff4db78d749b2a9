//! InitProducerId (key 22), versions 0 to 5.
//!
//! - 2: flexible; 3: the current id and epoch (KIP-360); 4: PRODUCER_FENCED (KIP-588);
//! - 5: TRANSACTION_ABORTABLE (KIP-890).
//!
//! Left out: transactions. A transactional id is answered with COORDINATOR_NOT_AVAILABLE, since
//! FindCoordinator names no coordinator either.

use millrace_model::{ErrorCode, ProducerId};
use millrace_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use millrace_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 5);

/// Gives an idempotent producer an id that nobody had before.
pub async fn handle(context: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match init(context, &request).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.get(),
            producer_epoch: 0,
            ..Default::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

async fn init(context: &Context, request: &InitProducerIdRequest) -> Result<ProducerId, ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_deref() {
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::CoordinatorNotAvailable),
        None => {
            let ids = &context.node.broker().producer_ids;
            ids.next(&context.node.quorum).await.map_err(|error| {
                tracing::warn!(%error, "no producer ids to hand out");
                ErrorCode::CoordinatorLoadInProgress
            })
        }
    }
}
