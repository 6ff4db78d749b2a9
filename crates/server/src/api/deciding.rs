//! How a handler that runs on the active controller has its decision taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_metadata::{Decision, Image, Refusal};
use millrace_model::ErrorCode;
use millrace_quorum::DecideError;

use super::Context;

/// Whether the node that a request was forwarded to turned out not to be the active controller any
/// more, before anything was done: the request is then forwarded again.
#[derive(Clone, Debug, Default)]
pub struct Moved(Arc<AtomicBool>);

impl Moved {
    /// Notes it.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was noted.
    pub fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes a decision on this node, the active controller; returns its reply once its records are
/// committed and applied here.
///
/// # Errors
/// NOT_CONTROLLER when another node is the active controller (nothing was done, and the answer
/// reaches nobody: the request goes there); REQUEST_TIMED_OUT where `limit` passed first.
pub async fn decide<T, F>(context: &Context, limit: Duration, mut decide: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnMut(&Image) -> Decision<T> + Send + 'static,
{
    let node = &context.node;
    let deadline = node.host.clock.now() + limit;
    let decided = node
        .quorum
        .decide(deadline, move |image, _, _| decide(image));
    match decided.await {
        Ok((reply, _)) => Ok(reply),
        Err(DecideError::NotController { .. }) => {
            if let Some(moved) = &context.moved {
                moved.note();
            }
            Err(ErrorCode::NotController.into())
        }
        Err(error @ (DecideError::Unconfirmed | DecideError::TimedOut)) => {
            Err(Refusal::new(ErrorCode::RequestTimedOut, error.to_string()))
        }
        Err(error @ DecideError::Invalid(_)) => {
            tracing::error!(%error, "a decision was not possible");
            Err(Refusal::new(
                ErrorCode::UnknownServerError,
                error.to_string(),
            ))
        }
    }
}

/// `timeout_ms` of a request, as a duration; what is not positive leaves no time.
pub fn limit_of(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}
