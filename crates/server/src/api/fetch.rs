//! Fetch (key 1), versions 4 to 18.
//!
//! The answer waits until `min_bytes` are there, something went wrong, or `max_wait_ms` are over;
//! appends and a moved high watermark wake it, nothing polls. At least one batch comes of the
//! first partition that has one, however small the limits are, so that a client always gets on.
//!
//! - 4: last stable offset, aborted transactions (KIP-98); 5: log start offset;
//! - 7: incremental sessions (KIP-227); 9: the client's leader epoch (KIP-320); 10: zstd (KIP-110);
//! - 11: the client's rack, preferred read replica, reads from followers (KIP-392);
//! - 12: flexible, last fetched epoch and diverging epoch (KIP-595); 13: topic ids (KIP-516);
//! - 15: replica state (KIP-903); 16: addresses of current leaders (KIP-951);
//! - 17: directory ids (KIP-853); 18: high watermark of followers (KIP-1166).
//!
//! Left out: fetches by Kafka brokers as followers (a replica id of 0 or more) are refused with
//! CLUSTER_AUTHORIZATION_FAILED: our replicas have their own way. The replica id -2 of Kafka's
//! replica verification tool reads up to the log end. Tiered storage: there is none.

mod preferred;
mod read;
mod request;
mod response;
mod session;

use std::time::Duration;

use millrace_model::ErrorCode;
use millrace_protocol::api::ApiKey;
use millrace_protocol::messages::fetch_request::FetchRequest;
use millrace_protocol::messages::fetch_response::FetchResponse;

use super::{Context, Request, RequestError, Started, decode};
use crate::connection::Reply;
use request::FetchWish;
pub use session::SessionCache;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (4, 18);

/// Reads the request; its answer may wait beside those of other requests.
///
/// # Errors
/// If the bytes are no such request.
pub fn begin(context: Context, request: Request) -> Result<Started, RequestError> {
    let body = &request.frame[request.body_at..];
    let fetch: FetchRequest<'_> = decode(body, context.api_version)?;
    let wish = FetchWish::of(&fetch, context.api_version);
    let correlation_id = request.correlation_id;
    let answer = answer(context, wish, correlation_id);
    Ok(Started::Now(Box::pin(answer)))
}

async fn answer(
    context: Context,
    wish: FetchWish,
    correlation_id: i32,
) -> Result<Reply, RequestError> {
    let response = match fetch(&context, wish).await {
        Ok(response) => response,
        Err(error) => FetchResponse {
            error_code: error.code(),
            ..Default::default()
        },
    };
    super::reply(
        ApiKey::Fetch,
        context.api_version,
        correlation_id,
        &response,
    )
}

async fn fetch(context: &Context, wish: FetchWish) -> Result<FetchResponse, ErrorCode> {
    if wish.replica_id >= 0 {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    let sessions = &context.node.broker().fetch_sessions;
    let now = context.node.host.clock.now();
    let opened = sessions.open(wish.session, wish.wanted.clone(), &wish.forgotten, now)?;
    let max_wait = Duration::from_millis(u64::try_from(wish.max_wait_ms).unwrap_or(0));
    let reading = read::read_when_ready(context, &wish, opened.wanted, now + max_wait);
    let mut results = reading.await;
    let session_id = sessions.answer(opened.part, &mut results, now)?;
    Ok(response::respond(context, session_id, results))
}
