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
//! A partition that the image wants this broker to lead is waited for a moment, if its log is just
//! being opened: Kafka answers NOT_LEADER_OR_FOLLOWER. And a refused batch of an idempotent producer
//! stands before those behind it (`refused`), where Kafka takes any sequence of a producer that the
//! log knows nothing of.
//!
//! acks=0 gets no answer; if anything failed the connection is closed, as in Kafka, so that the
//! client looks for the new leader. Left out: transactional batches, refused with
//! INVALID_TXN_STATE, since no coordinator could have begun their transaction.

mod append;
mod gate;
mod refused;
mod request;
mod response;

use std::time::Duration;

use millrace_protocol::api::ApiKey;
use tokio::time::Instant;

use super::{Answer, Context, Request, RequestError, Started};
use crate::connection::Reply;
use append::{TopicOutcome, append_all, wait_all};
pub use refused::RefusedBatches;
use request::ProduceBatches;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (3, 13);

/// Appends what the request brings, once its logs are there and have room; the answer follows when it is durable as
/// far as asked.
///
/// # Errors
/// If the bytes are no such request.
pub fn begin(context: Context, request: Request) -> Result<Started, RequestError> {
    let correlation_id = request.correlation_id;
    let produce = ProduceBatches::cut(request, context.api_version)?;
    let deadline = deadline(&context, &produce);
    let obstacles = gate::obstacles(&context, &produce);
    if obstacles.is_empty() {
        return Ok(Started::Now(append(
            context,
            produce,
            correlation_id,
            deadline,
        )));
    }
    Ok(Started::Gated(Box::pin(async move {
        for obstacle in obstacles {
            obstacle.wait(&context, deadline).await;
        }
        Ok(append(context, produce, correlation_id, deadline))
    })))
}

/// Until when the client waits.
fn deadline(context: &Context, produce: &ProduceBatches) -> Instant {
    let timeout = Duration::from_millis(u64::try_from(produce.timeout_ms).unwrap_or(0));
    context.node.host.clock.now() + timeout
}

fn append(
    context: Context,
    produce: ProduceBatches,
    correlation_id: i32,
    deadline: Instant,
) -> Answer {
    let acks = produce.acks;
    let mut topics = append_all(&context, produce);
    if acks == 0 {
        return Box::pin(async move { Ok(end_unanswered(&topics)) });
    }
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
