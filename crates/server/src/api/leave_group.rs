//! LeaveGroup (key 13), versions 0 to 5.
//!
//! - 1: throttle time; 3: several members at once (KIP-345); 4: flexible; 5: reason (KIP-800).

use millrace_coordinator::group::Call;
use millrace_protocol::messages::leave_group_request::LeaveGroupRequest;
use millrace_protocol::messages::leave_group_response::LeaveGroupResponse;

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 5);

/// Has members leave their group.
pub async fn handle(context: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::LeaveGroup(request)).await;
    expect_response!(response, LeaveGroup)
}
