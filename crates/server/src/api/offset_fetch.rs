//! OffsetFetch (key 9), versions 1 to 10.
//!
//! - 2: all topics, and an error of the whole; 3: throttle time; 5: leader epochs (KIP-320);
//! - 6: flexible; 7: only stable offsets (KIP-447); 8: several groups (KIP-709); 9: consumer groups
//!   (KIP-848); 10: topic ids (KIP-848).

use futures::future::join_all;
use millrace_coordinator::group::Call;
use millrace_metadata::Image;
use millrace_model::{ErrorCode, TopicId};
use millrace_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millrace_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::Context;
use super::groups::{ask, expect_response};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 10);

/// From here on several groups may be asked about.
const IN_GROUPS: i16 = 8;
/// From here on topics are named by their ids.
const BY_ID: i16 = 10;

/// Tells how far groups have come.
pub async fn handle(context: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if context.api_version >= IN_GROUPS {
        let groups = request.groups.into_iter();
        let groups = groups.map(|group| fetch(context, group, stable));
        return OffsetFetchResponse {
            groups: join_all(groups).await,
            ..Default::default()
        };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        let topics = topics.map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..Default::default()
    };
    let wanted = group.topics.clone().unwrap_or_default();
    let answer = fetch(context, group, stable).await;
    of_one_group(answer, wanted, context.api_version)
}

async fn fetch(
    context: &Context,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = context.node.image();
    let mut unknown = Vec::new();
    let is_for_all = group.topics.is_none();
    if let Some(topics) = &mut group.topics {
        if context.api_version >= BY_ID {
            unknown = name_topics(&image, topics);
        }
        if topics.is_empty() && !unknown.is_empty() {
            return OffsetFetchResponseGroup {
                group_id: group.group_id,
                topics: unknown,
                ..Default::default()
            };
        }
    }
    let id = group.group_id.clone();
    let call = Call::OffsetFetch {
        group,
        require_stable,
    };
    let mut answer = expect_response!(ask(context, &id, call).await, OffsetFetch);
    if context.api_version >= BY_ID {
        if is_for_all {
            identify_topics(&image, &mut answer.topics);
        }
        if answer.error_code == 0 {
            answer.topics.extend(unknown);
        }
    }
    answer
}

/// Finds the names of topics that are named by ids; takes those out that do not exist, and returns
/// the answer for them.
fn name_topics(
    image: &Image,
    topics: &mut Vec<OffsetFetchRequestTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut unknown = Vec::new();
    topics.retain_mut(|topic| match image.topic(TopicId(topic.topic_id)) {
        Some(known) => {
            topic.name = known.name.as_str().to_owned();
            true
        }
        None => {
            let indexes = topic.partition_indexes.iter();
            unknown.push(OffsetFetchResponseTopics {
                topic_id: topic.topic_id,
                partitions: indexes
                    .map(|index| OffsetFetchResponsePartitions {
                        partition_index: *index,
                        committed_offset: -1,
                        committed_leader_epoch: -1,
                        metadata: Some(String::new()),
                        error_code: ErrorCode::UnknownTopicId.code(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            false
        }
    });
    unknown
}

/// Gives the ids of all topics that a group has offsets of; those that are gone are left out.
fn identify_topics(image: &Image, topics: &mut Vec<OffsetFetchResponseTopics>) {
    topics.retain_mut(|topic| match image.topic_named(&topic.name) {
        Some(known) => {
            topic.topic_id = known.id.0;
            true
        }
        None => false,
    });
}

/// The answer in the form of versions that know one group only; before version 2 an error of the
/// whole stands at every partition.
fn of_one_group(
    group: OffsetFetchResponseGroup,
    wanted: Vec<OffsetFetchRequestTopics>,
    version: i16,
) -> OffsetFetchResponse {
    let error_code = group.error_code;
    let topics = match error_code != 0 && version < 2 {
        true => wanted
            .into_iter()
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic
                    .partition_indexes
                    .into_iter()
                    .map(|index| OffsetFetchResponsePartition {
                        partition_index: index,
                        committed_offset: -1,
                        metadata: Some(String::new()),
                        error_code,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
            .collect(),
        false => group.topics.into_iter().map(topic_of_old).collect(),
    };
    OffsetFetchResponse {
        topics,
        error_code,
        ..Default::default()
    }
}

fn topic_of_old(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
            ..Default::default()
        });
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect(),
        ..Default::default()
    }
}
