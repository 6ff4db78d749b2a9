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

use millrace_protocol::api::ApiKey;

use super::{Answer, Context, Request, RequestError, Started};
use crate::connection::Reply;
use append::{TopicOutcome, append_all, wait_all};
use request::ProduceBatches;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (3, 13);

/// Appends what the request brings, once there is room; the answer follows when it is durable as
/// far as asked.
///
/// # Errors
/// If the bytes are no such request.
pub fn begin(context: Context, request: Request) -> Result<Started, RequestError> {
    let correlation_id = request.correlation_id;
    let produce = ProduceBatches::cut(request, context.api_version)?;
    let full = append::logs_without_room(&context, &produce);
    if full.is_empty() {
        return Ok(Started::Now(append(context, produce, correlation_id)));
    }
    Ok(Started::Gated(Box::pin(async move {
        for log in full {
            log.wait_for_room().await;
        }
        Ok(append(context, produce, correlation_id))
    })))
}

fn append(context: Context, produce: ProduceBatches, correlation_id: i32) -> Answer {
    let (acks, timeout_ms) = (produce.acks, produce.timeout_ms);
    let mut topics = append_all(&context, produce);
    if acks == 0 {
        return Box::pin(async move { Ok(end_unanswered(&topics)) });
    }
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let deadline = context.node.host.clock.now() + timeout;
    Box::pin(async move {
        wait_all(&mut topics, acks, deadline).await;
        let response = response::respond(&context, topics);
        super::reply(
            ApiKey::Produce,
            context.api_version,
            correlation_id,
            &response,
        )
    })
}

/// What becomes of a connection after a request with acks=0.
fn end_unanswered(topics: &[TopicOutcome]) -> Reply {
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let failed: Vec<_> = partitions.filter_map(|p| p.outcome.error()).collect();
    if failed.is_empty() {
        return Reply::Nothing;
    }
    tracing::info!(
        ?failed,
        "closing a connection whose produce with acks=0 failed"
    );
    Reply::Close
}
