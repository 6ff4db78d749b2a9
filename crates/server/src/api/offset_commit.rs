//! OffsetCommit (key 8), versions 2 to 10.
//!
//! - 3: throttle time; 5: no more retention time (KIP-211); 6: leader epochs (KIP-320); 7: static
//!   members (KIP-345); 8: flexible; 9: consumer groups (KIP-848); 10: topic ids (KIP-848).
//!
//! Partitions that do not exist are refused here; what the group says of the others is put behind
//! them.

use millrace_coordinator::group::Call;
use millrace_metadata::Image;
use millrace_model::{ErrorCode, PartitionId, TopicId};
use millrace_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (2, 10);

/// From here on topics are named by their ids.
const BY_ID: i16 = 10;

/// Remembers how far a group has come.
pub async fn handle(context: &Context, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = context.node.image();
    let mut topics = Vec::new();
    let mut refused = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        match resolve(&image, topic, context.api_version) {
            Ok((known, missing)) => {
                topics.extend((!known.partitions.is_empty()).then_some(known));
                refused.extend(missing);
            }
            Err(answer) => refused.push(answer),
        }
    }
    request.topics = topics;
    if request.topics.is_empty() {
        return OffsetCommitResponse {
            topics: refused,
            ..Default::default()
        };
    }
    let group = request.group_id.clone();
    let response = ask(context, &group, Call::OffsetCommit(request)).await;
    let mut response = expect_response!(response, OffsetCommit);
    merge(&mut refused, response.topics);
    response.topics = refused;
    response
}

type Resolved = (OffsetCommitRequestTopic, Option<OffsetCommitResponseTopic>);

/// The partitions of a topic that exist, under name and id of the topic, and the answer for those
/// that do not.
fn resolve(
    image: &Image,
    mut topic: OffsetCommitRequestTopic,
    version: i16,
) -> Result<Resolved, OffsetCommitResponseTopic> {
    let (known, unknown) = match version >= BY_ID {
        true => (
            image.topic(TopicId(topic.topic_id)),
            ErrorCode::UnknownTopicId,
        ),
        false => (
            image.topic_named(&topic.name),
            ErrorCode::UnknownTopicOrPartition,
        ),
    };
    let Some(known) = known else {
        return Err(refuse(&topic, &topic.partitions, unknown));
    };
    topic.name = known.name.as_str().to_owned();
    topic.topic_id = known.id.0;
    let exists = |partition: &OffsetCommitRequestPartition| {
        let (topic, index) = (known.id, partition.partition_index);
        image.partition(PartitionId { topic, index }).is_some()
    };
    let (there, missing): (Vec<_>, Vec<_>) = std::mem::take(&mut topic.partitions)
        .into_iter()
        .partition(exists);
    let refused = refuse(&topic, &missing, ErrorCode::UnknownTopicOrPartition);
    topic.partitions = there;
    Ok((topic, (!missing.is_empty()).then_some(refused)))
}

fn refuse(
    topic: &OffsetCommitRequestTopic,
    partitions: &[OffsetCommitRequestPartition],
    error: ErrorCode,
) -> OffsetCommitResponseTopic {
    let partitions = partitions
        .iter()
        .map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
            ..Default::default()
        });
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// Adds what the group said, each topic once.
fn merge(answers: &mut Vec<OffsetCommitResponseTopic>, more: Vec<OffsetCommitResponseTopic>) {
    for topic in more {
        let same = answers
            .iter_mut()
            .find(|known| known.name == topic.name && known.topic_id == topic.topic_id);
        match same {
            Some(known) => known.partitions.extend(topic.partitions),
            None => answers.push(topic),
        }
    }
}
