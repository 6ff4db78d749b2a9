//! ConsumerGroupDescribe (key 69), versions 0 and 1 (KIP-848).
//!
//! - 1: which protocol a member speaks (KIP-1099).

use millrace_coordinator::group::Call;
use millrace_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use millrace_protocol::messages::consumer_group_describe_response::ConsumerGroupDescribeResponse;

use super::groups::{ask_each, expect_response};
use super::{Context, GROUP_OPERATIONS};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 1);

/// Tells of groups of the consumer protocol and their members.
pub async fn handle(
    context: &Context,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let answers = ask_each(context, request.group_ids, Call::ConsumerGroupDescribe).await;
    let answers = answers.into_iter();
    let groups = answers.flat_map(|answer| expect_response!(answer, ConsumerGroupDescribe));
    let groups = groups.map(|mut group| {
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    });
    ConsumerGroupDescribeResponse {
        groups: groups.collect(),
        ..Default::default()
    }
}
