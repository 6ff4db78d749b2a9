//! OffsetFetch: where a group stands (Kafka class `OffsetMetadataManager`).
//!
//! From version 2 a caller may ask for all offsets of the group, from 7 for stable ones only, from 9
//! as a member of a consumer group, which is then checked.

use crate::wire;
use millrace_model::{ErrorCode, Uuid};

use wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::offset_fetch_response::OffsetFetchResponseGroup;
use wire::offset_fetch_response::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics};

use super::classic;
use super::offsets::Committed;
use super::state::{Asker, Effects, Group, Replicated, Soft};
use super::topics::Context;
use super::{Call, Response, refused};

pub(crate) fn fetch(
    replicated: &Replicated,
    soft: &Soft,
    context: Context<'_>,
    asker: Asker,
    request: OffsetFetchRequestGroup,
    require_stable: bool,
) -> Effects {
    if let Some(Group::Consumer(state)) = replicated.group(&request.group_id)
        && let Err(code) = state.validate_fetch(request.member_id.as_deref(), request.member_epoch)
    {
        let call = Call::OffsetFetch {
            group: request,
            require_stable,
        };
        return asker.answer(refused(&call, code));
    }
    let is_known = replicated.consumer(&request.group_id).is_some()
        || classic::seen(replicated, soft, &request.group_id).is_some();
    let reader = Reader {
        replicated,
        group: &request.group_id,
        is_known,
        require_stable,
    };
    let topics = match &request.topics {
        None => reader.all(context),
        Some(topics) => topics
            .iter()
            .map(|topic| {
                let partitions = topic.partition_indexes.iter();
                OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: partitions.map(|index| reader.one(topic, *index)).collect(),
                    ..Default::default()
                }
            })
            .collect(),
    };
    asker.answer(Response::OffsetFetch(OffsetFetchResponseGroup {
        group_id: request.group_id,
        topics,
        ..Default::default()
    }))
}

struct Reader<'a> {
    replicated: &'a Replicated,
    group: &'a str,
    /// Without the group its offsets, if any are left, do not count.
    is_known: bool,
    require_stable: bool,
}

impl Reader<'_> {
    /// An offset of an earlier topic of the same name does not count for who names the topic's id.
    fn one(&self, topic: &OffsetFetchRequestTopics, index: i32) -> OffsetFetchResponsePartitions {
        let is_of_topic = |committed: &&Committed| {
            let (actual, expected) = (committed.topic.0, topic.topic_id);
            actual.is_zero() || expected.is_zero() || actual == expected
        };
        let committed = self.replicated.offsets.get(self.group, &topic.name, index);
        let counts = committed.filter(is_of_topic).filter(|_| self.is_known);
        self.answer(&topic.name, index, counts)
    }

    fn all(&self, context: Context<'_>) -> Vec<OffsetFetchResponseTopics> {
        let known = self
            .replicated
            .offsets
            .of(self.group)
            .filter(|_| self.is_known);
        let topics = known.into_iter().flatten().map(|(topic, partitions)| {
            let id = context
                .topics
                .by_name(topic)
                .map_or(Uuid::ZERO, |topic| topic.id.0);
            let answers = partitions
                .iter()
                .map(|(partition, committed)| self.answer(topic, *partition, Some(committed)));
            OffsetFetchResponseTopics {
                name: topic.to_string(),
                topic_id: id,
                partitions: answers.collect(),
                ..Default::default()
            }
        });
        topics.collect()
    }

    fn answer(
        &self,
        topic: &str,
        partition: i32,
        committed: Option<&Committed>,
    ) -> OffsetFetchResponsePartitions {
        let pending =
            |offsets: &super::offsets::Offsets| offsets.is_pending(self.group, topic, partition);
        let none = OffsetFetchResponsePartitions {
            partition_index: partition,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            ..Default::default()
        };
        if self.require_stable && pending(&self.replicated.offsets) {
            return OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit.code(),
                ..none
            };
        }
        match committed {
            None => none,
            Some(committed) => OffsetFetchResponsePartitions {
                committed_offset: committed.offset.get(),
                committed_leader_epoch: committed.leader_epoch.get(),
                metadata: Some(committed.metadata.to_string()),
                ..none
            },
        }
    }
}
