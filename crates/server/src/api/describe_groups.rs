//! DescribeGroups (key 15), versions 0 to 6.
//!
//! - 1: throttle time; 3: authorized operations (KIP-430); 4: static members (KIP-345); 5: flexible;
//! - 6: GROUP_ID_NOT_FOUND and a message for groups that are not there (KIP-1043).

use millrace_coordinator::group::Call;
use millrace_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use millrace_protocol::messages::describe_groups_response::DescribeGroupsResponse;

use super::groups::{ask_each, expect_response};
use super::{Context, GROUP_OPERATIONS};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 6);

/// Tells of classic groups and their members.
pub async fn handle(context: &Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let answers = ask_each(context, request.groups, Call::DescribeGroups).await;
    let answers = answers.into_iter();
    let groups = answers.flat_map(|answer| expect_response!(answer, DescribeGroups));
    let groups = groups.map(|mut group| {
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    });
    DescribeGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    }
}
