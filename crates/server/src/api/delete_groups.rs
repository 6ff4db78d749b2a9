//! DeleteGroups (key 42), versions 0 to 2 (KIP-229).
//!
//! - 2: flexible.

use millrace_coordinator::group::Call;
use millrace_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use millrace_protocol::messages::delete_groups_response::DeleteGroupsResponse;

use super::Context;
use super::groups::{ask_each, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

/// Deletes groups without members, and their offsets.
pub async fn handle(context: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let answers = ask_each(context, request.groups_names, Call::DeleteGroups).await;
    let answers = answers.into_iter();
    DeleteGroupsResponse {
        results: answers
            .flat_map(|answer| expect_response!(answer, DeleteGroups))
            .collect(),
        ..Default::default()
    }
}
