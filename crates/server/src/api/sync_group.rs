//! SyncGroup (key 14), versions 0 to 5.
//!
//! - 1: throttle time; 3: static members (KIP-345); 4: flexible; 5: protocol type and name, required
//!   (KIP-559).
//!
//! The answer comes when the leader has given the assignment.

use millrace_coordinator::group::Call;
use millrace_protocol::messages::sync_group_request::SyncGroupRequest;
use millrace_protocol::messages::sync_group_response::SyncGroupResponse;

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 5);

/// Takes the leader's assignment, or gives a member its part.
pub async fn handle(context: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::SyncGroup(request)).await;
    expect_response!(response, SyncGroup)
}
