//! Heartbeat (key 12), versions 0 to 4.
//!
//! - 1: throttle time; 3: static members (KIP-345); 4: flexible.

use millrace_coordinator::group::Call;
use millrace_model::ErrorCode;
use millrace_protocol::messages::heartbeat_request::HeartbeatRequest;
use millrace_protocol::messages::heartbeat_response::HeartbeatResponse;

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 4);

/// Keeps a member's session alive, and tells it of a rebalance.
pub async fn handle(context: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::Heartbeat(request)).await;
    let mut response = expect_response!(response, Heartbeat);
    if response.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
        // The session begins when the group is loaded; until then all is well (Kafka method
        // `GroupCoordinatorService.heartbeat`).
        response.error_code = ErrorCode::None.code();
    }
    response
}
