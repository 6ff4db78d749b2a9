//! ListGroups (key 16), versions 0 to 5.
//!
//! - 1: throttle time; 3: flexible; 4: states (KIP-518); 5: types (KIP-848).
//!
//! Each broker lists the groups that it coordinates.

use futures::future::join_all;
use millrace_coordinator::group::Call;
use millrace_model::ErrorCode;
use millrace_protocol::messages::list_groups_request::ListGroupsRequest;
use millrace_protocol::messages::list_groups_response::ListGroupsResponse;

use super::Context;
use super::groups::{expect_response, try_partition};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 5);

/// Lists the groups of this broker.
pub async fn handle(context: &Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let partitions = context.node.broker().groups.partitions().into_iter();
    let asked = partitions.map(|partition| {
        let call = Call::ListGroups(request.clone());
        try_partition(context, partition, call)
    });
    let mut response = ListGroupsResponse::default();
    for answer in join_all(asked).await {
        match answer {
            Ok(listed) => response.groups.extend(expect_response!(listed, ListGroups)),
            // Its groups are another broker's to list.
            Err(ErrorCode::NotCoordinator) => {}
            Err(error) => {
                return ListGroupsResponse {
                    error_code: error.code(),
                    ..Default::default()
                };
            }
        }
    }
    response
}
