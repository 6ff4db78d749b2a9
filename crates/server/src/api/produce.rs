//! Produce (key 0), versions 3 to 13.
//!
//! Batches are appended while the request is begun, so that requests of one connection are
//! appended in their order; the answer waits for durability beside those of other requests. The
//! batches stay where the socket put them: each partition's part of the frame goes to its log.
//!
//! - 3: transactional ids (KIP-98); 5: log start offset; 7: zstd allowed (KIP-110);
//! - 8: errors of single records and a message (KIP-467); 9: flexible;
//! - 10: the current leader and its address with NOT_LEADER_OR_FOLLOWER (KIP-951);
//! - 11, 12: as 10, for transactions (KIP-890); 13: topic ids (KIP-516).
//!
//! acks=0 gets no answer; if anything failed the connection is closed, as in Kafka, so that the
//! client looks for the new leader. Left out: transactional batches, refused with
//! INVALID_TXN_STATE, since no coordinator could have begun their transaction.

mod append;
mod request;
mod response;

use std::time::Duration;

use millrace_model::ErrorCode;
use millrace_protocol::api::ApiKey;

use super::{Answer, Context, Request, RequestError};
use crate::connection::Reply;
use append::{Outcome, append_all, wait_all};
use request::ProduceBatches;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (3, 13);

/// Appends what the request brings; the answer follows when it is durable as far as asked.
///
/// # Errors
/// If the bytes are no such request.
pub fn begin(context: Context, request: Request) -> Result<Answer, RequestError> {
    let correlation_id = request.correlation_id;
    let produce = ProduceBatches::cut(request, context.api_version)?;
    let (acks, timeout_ms) = (produce.acks, produce.timeout_ms);
    let mut topics = append_all(&context, produce);
    if acks == 0 {
        let failed = topics.iter().flat_map(|topic| &topic.partitions);
        let failed = failed.filter_map(|partition| partition.outcome.error());
        let failed: Vec<ErrorCode> = failed.collect();
        return Ok(Box::pin(async move {
            if failed.is_empty() {
                return Ok(Reply::Nothing);
            }
            tracing::info!(?failed, "closing a connection whose produce with acks=0 failed");
            Ok(Reply::Close)
        }));
    }
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let deadline = context.node.host.clock.now() + timeout;
    Ok(Box::pin(async move {
        wait_all(&mut topics, acks, deadline).await;
        let response = response::respond(&context, topics);
        super::reply(ApiKey::Produce, context.api_version, correlation_id, &response)
    }))
}
