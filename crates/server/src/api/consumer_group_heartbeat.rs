//! ConsumerGroupHeartbeat (key 68), versions 0 and 1 (KIP-848).
//!
//! - 1: topics by regular expression (KIP-848), and members make their own ids (KIP-1082).

use millrace_coordinator::group::Call;
use millrace_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use millrace_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 1);

/// Takes what a member says of itself, and tells it what to own.
pub async fn handle(
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::ConsumerGroupHeartbeat(request)).await;
    expect_response!(response, ConsumerGroupHeartbeat)
}
