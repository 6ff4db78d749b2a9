//! OffsetDelete (key 47), version 0 (KIP-496).
//!
//! Topics and partitions that do not exist are refused here.

use millrace_coordinator::group::Call;
use millrace_model::{ErrorCode, PartitionId};
use millrace_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use millrace_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 0);

/// Forgets how far a group has come with partitions that none of its members subscribe to.
pub async fn handle(context: &Context, mut request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = context.node.image();
    let mut refused = Vec::new();
    for topic in &mut request.topics {
        let id = image.topic_named(&topic.name).map(|topic| topic.id);
        let exists = |index: i32| {
            id.is_some_and(|topic| image.partition(PartitionId { topic, index }).is_some())
        };
        let mut missing = Vec::new();
        topic.partitions.retain(|partition| {
            let there = exists(partition.partition_index);
            if !there {
                missing.push(OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                });
            }
            there
        });
        if !missing.is_empty() {
            refused.push(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: missing,
            });
        }
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    if request.topics.is_empty() && !refused.is_empty() {
        return OffsetDeleteResponse {
            topics: refused,
            ..Default::default()
        };
    }
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::OffsetDelete(request)).await;
    let mut response = expect_response!(response, OffsetDelete);
    if response.error_code == 0 {
        for topic in refused {
            let same = response
                .topics
                .iter_mut()
                .find(|known| known.name == topic.name);
            match same {
                Some(known) => known.partitions.extend(topic.partitions),
                None => response.topics.push(topic),
            }
        }
    }
    response
}
