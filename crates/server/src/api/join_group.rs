//! JoinGroup (key 11), versions 0 to 9.
//!
//! - 1: rebalance timeout; 2: throttle time; 4: MEMBER_ID_REQUIRED (KIP-394); 5: static members
//!   (KIP-345); 6: flexible; 7: protocol type and name (KIP-559); 8: reason (KIP-800); 9: whether the
//!   leader shall skip the assignment (KIP-814).
//!
//! The answer comes when the group's members are known, and holds up the connection until then, as
//! in Kafka.

use millrace_coordinator::group::Call;
use millrace_protocol::messages::join_group_request::JoinGroupRequest;
use millrace_protocol::messages::join_group_response::JoinGroupResponse;

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 9);

/// Has the group take a member in.
pub async fn handle(context: &Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::JoinGroup(request)).await;
    let mut response = expect_response!(response, JoinGroup);
    if context.api_version < 7 {
        // Null came with that version.
        response.protocol_name.get_or_insert_default();
    }
    response
}
