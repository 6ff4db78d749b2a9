//! What an operator asks of groups: which there are, who is in them, how far they have come.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, Offset};
use millrace_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use millrace_protocol::messages::consumer_group_describe_response as described;
use millrace_protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use millrace_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use millrace_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use millrace_protocol::messages::describe_groups_response::DescribedGroup;
use millrace_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace_protocol::messages::list_groups_request::ListGroupsRequest;
use millrace_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millrace_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup,
};
use millrace_protocol::{Decode, Message, Reader};

use crate::{ClientError, Cluster, Connection, Exchange, Node};

/// Between two tries at a coordinator that is not there yet.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);

/// The newest version of OffsetCommit and OffsetFetch that names topics.
const NEWEST_WITH_NAMES: i16 = 9;

/// A topic and the number of a partition.
pub type TopicPartition = (String, i32);

/// One group, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// `consumer` for consumers; empty for a group that only has offsets.
    pub protocol_type: String,
    /// Its state, in Kafka's words.
    pub state: String,
    /// `classic`, `consumer`, ...
    pub kind: String,
}

/// One group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Whether it is one of the consumer protocol (KIP-848).
    pub is_consumer_protocol: bool,
    /// Its state, in Kafka's words.
    pub state: String,
    /// Who coordinates it.
    pub coordinator: Node,
    /// How its partitions are shared; empty where nobody shares them.
    pub assignor: String,
    /// The epoch of the group, and that of its target; only by the consumer protocol.
    pub epochs: Option<(i32, i32)>,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// One member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its instance id; empty where it has none.
    pub instance: String,
    /// Where it is.
    pub host: String,
    /// The client id it gave.
    pub client_id: String,
    /// What it owns, by topic.
    pub owns: BTreeMap<String, Vec<i32>>,
    /// Its epoch, and what it shall own by when it has taken over the target; only by the consumer
    /// protocol.
    pub target: Option<(i32, BTreeMap<String, Vec<i32>>)>,
}

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to be read.
    pub offset: Offset,
    /// The epoch of the record before it.
    pub leader_epoch: LeaderEpoch,
}

impl Cluster {
    /// Who coordinates a group, and a connection to it; waits for one that is not there yet.
    pub async fn coordinator(&self, group: &str) -> Result<(Node, Connection), ClientError> {
        let deadline = self.machine().clock.now() + self.limit();
        loop {
            let found = self.find_coordinator(group).await;
            match found {
                Err(error) if error.is_retriable() && self.machine().clock.now() < deadline => {
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                found => return found,
            }
        }
    }

    async fn find_coordinator(&self, group: &str) -> Result<(Node, Connection), ClientError> {
        let several = self.version_of::<FindCoordinatorRequest>().await? >= 4;
        let request = FindCoordinatorRequest {
            key: if several {
                String::new()
            } else {
                group.to_owned()
            },
            coordinator_keys: several.then(|| group.to_owned()).into_iter().collect(),
            ..Default::default()
        };
        let answer = self.ask(&request).await?;
        let (code, message, id, host, port) = match answer.coordinators.into_iter().next() {
            Some(c) => (c.error_code, c.error_message, c.node_id, c.host, c.port),
            None => (
                answer.error_code,
                answer.error_message,
                answer.node_id,
                answer.host,
                answer.port,
            ),
        };
        ClientError::check(code, message)?;
        let node = Node {
            id: BrokerId(id),
            host,
            port: u16::try_from(port).unwrap_or(0),
            rack: None,
        };
        let connection = self.connect(&node).await?;
        Ok((node, connection))
    }

    /// Asks the coordinator of a group, again where another one is it by now. `code` finds the code
    /// of the whole in an answer.
    pub async fn ask_coordinator<R: Exchange>(
        &self,
        group: &str,
        request: &R,
        highest: i16,
        code: impl Fn(&R::Answer) -> i16,
    ) -> Result<(Node, R::Answer), ClientError> {
        let deadline = self.machine().clock.now() + self.limit();
        loop {
            let (node, connection) = self.coordinator(group).await?;
            let asked = connection.ask_up_to(request, highest, self.limit()).await;
            let outcome = asked.and_then(|answer| {
                ClientError::check(code(&answer), None)?;
                Ok(answer)
            });
            match outcome {
                Err(error) if error.is_retriable() && self.machine().clock.now() < deadline => {
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                outcome => return Ok((node, outcome?)),
            }
        }
    }

    /// All groups in the order of their ids; of these states and types only, where some are given.
    pub async fn list_groups(
        &self,
        states: &[String],
        types: &[String],
    ) -> Result<Vec<GroupListing>, ClientError> {
        self.refresh(Some(&[]), false).await?;
        let request = ListGroupsRequest {
            states_filter: states.to_vec(),
            types_filter: types.to_vec(),
            ..Default::default()
        };
        let mut groups = BTreeMap::new();
        for node in self.nodes() {
            let connection = self.connect(&node).await?;
            let answer = connection.ask(&request, self.limit()).await?;
            ClientError::check(answer.error_code, None)?;
            for group in answer.groups {
                let listing = GroupListing {
                    id: group.group_id.clone(),
                    protocol_type: group.protocol_type,
                    state: group.group_state,
                    kind: group.group_type,
                };
                groups.insert(group.group_id, listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// One group in full, by whichever protocol it goes.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.to_owned()],
            ..Default::default()
        };
        let code = |answer: &described::ConsumerGroupDescribeResponse| {
            answer.groups.first().map_or(0, |group| group.error_code)
        };
        match self.ask_coordinator(group, &request, i16::MAX, code).await {
            Ok((node, answer)) => {
                let found = answer.groups.into_iter().next();
                return found
                    .map(|found| of_consumers(found, node))
                    .ok_or_else(missing);
            }
            Err(ClientError::NoCommonVersion { .. }) => {}
            Err(error) => match error.code() {
                Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion) => {}
                _ => return Err(error),
            },
        }
        self.describe_classic(group).await
    }

    async fn describe_classic(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![group.to_owned()],
            ..Default::default()
        };
        // A group that is not there has a message of its own, so its code is looked at below.
        let retriable = |code: i16| match ErrorCode::from_code(code) {
            Some(ErrorCode::GroupIdNotFound) => 0,
            _ => code,
        };
        let asked = self.ask_coordinator(group, &request, i16::MAX, |answer| {
            answer
                .groups
                .first()
                .map_or(0, |group| retriable(group.error_code))
        });
        let (node, answer) = asked.await?;
        let found = answer.groups.into_iter().next().ok_or_else(missing)?;
        ClientError::check(found.error_code, found.error_message.clone())?;
        Ok(of_classic(found, node))
    }

    /// Everything a group has committed.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                topics: None,
                ..Default::default()
            }],
            ..Default::default()
        };
        let asked = self.ask_coordinator(group, &request, NEWEST_WITH_NAMES, |answer| {
            answer.groups.first().map_or(0, |group| group.error_code)
        });
        let (_, answer) = asked.await?;
        let topics = answer.groups.into_iter().flat_map(|group| group.topics);
        let mut offsets = BTreeMap::new();
        for topic in topics {
            for partition in topic.partitions {
                ClientError::check(partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    let committed = CommittedOffset {
                        offset: Offset(partition.committed_offset),
                        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    };
                    offsets.insert((topic.name.clone(), partition.partition_index), committed);
                }
            }
        }
        Ok(offsets)
    }

    /// Commits offsets on behalf of a group without members.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        let leader_epoch = LeaderEpoch::NONE;
        let by_topic = by_topic(offsets.iter().map(|((topic, index), offset)| {
            let offset = *offset;
            let at = CommittedOffset {
                offset,
                leader_epoch,
            };
            (topic.as_str(), (*index, at))
        }));
        self.commit_as(group, "", -1, by_topic).await
    }

    /// Commits offsets as a member in an epoch.
    pub(crate) async fn commit_as(
        &self,
        group: &str,
        member: &str,
        epoch: i32,
        offsets: BTreeMap<&str, Vec<(i32, CommittedOffset)>>,
    ) -> Result<(), ClientError> {
        let topics = offsets
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: name.to_owned(),
                partitions: partitions
                    .into_iter()
                    .map(|(index, at)| OffsetCommitRequestPartition {
                        partition_index: index,
                        committed_offset: at.offset.get(),
                        committed_leader_epoch: at.leader_epoch.get(),
                        committed_metadata: Some(String::new()),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            member_id: member.to_owned(),
            generation_id_or_member_epoch: epoch,
            topics: topics.collect(),
            ..Default::default()
        };
        let asked = self.ask_coordinator(group, &request, NEWEST_WITH_NAMES, |answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let mut failed = partitions.map(|partition| partition.error_code);
            failed.find(|code| *code != 0).unwrap_or(0)
        });
        asked.await.map(|_| ())
    }

    /// Deletes a group without members.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.to_owned()],
            ..Default::default()
        };
        let asked = self.ask_coordinator(group, &request, i16::MAX, |answer| {
            answer.results.first().map_or(0, |result| result.error_code)
        });
        asked.await.map(|_| ())
    }

    /// Deletes committed offsets; the outcome of each partition.
    ///
    /// # Errors
    /// If the group refuses as a whole.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        let by_topic = by_topic(
            partitions
                .iter()
                .map(|(topic, index)| (topic.as_str(), *index)),
        );
        let topics = by_topic
            .into_iter()
            .map(|(name, indexes)| OffsetDeleteRequestTopic {
                name: name.to_owned(),
                partitions: indexes
                    .into_iter()
                    .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                    .collect(),
            });
        let request = OffsetDeleteRequest {
            group_id: group.to_owned(),
            topics: topics.collect(),
        };
        let asked = self.ask_coordinator(group, &request, i16::MAX, |answer| answer.error_code);
        let (_, answer) = asked.await?;
        let mut outcomes = BTreeMap::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let outcome = ClientError::check(partition.error_code, None);
                outcomes.insert((topic.name.clone(), partition.partition_index), outcome);
            }
        }
        Ok(outcomes)
    }
}

fn by_topic<'a, T>(items: impl Iterator<Item = (&'a str, T)>) -> BTreeMap<&'a str, Vec<T>> {
    let mut by_topic: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (topic, item) in items {
        by_topic.entry(topic).or_default().push(item);
    }
    by_topic
}

fn missing() -> ClientError {
    ClientError::Codec("the answer names no group".to_owned())
}

fn of_consumers(group: described::DescribedGroup, coordinator: Node) -> GroupDescription {
    let owned = |assignment: described::Assignment| -> BTreeMap<String, Vec<i32>> {
        let topics = assignment.topic_partitions.into_iter();
        topics
            .map(|topic| (topic.topic_name, topic.partitions))
            .collect()
    };
    let members = group.members.into_iter().map(|member| GroupMember {
        id: member.member_id,
        instance: member.instance_id.unwrap_or_default(),
        host: member.client_host,
        client_id: member.client_id,
        owns: owned(member.assignment),
        target: Some((member.member_epoch, owned(member.target_assignment))),
    });
    GroupDescription {
        id: group.group_id,
        is_consumer_protocol: true,
        state: group.group_state,
        coordinator,
        assignor: group.assignor_name,
        epochs: Some((group.group_epoch, group.assignment_epoch)),
        members: members.collect(),
    }
}

fn of_classic(group: DescribedGroup, coordinator: Node) -> GroupDescription {
    let members = group.members.into_iter().map(|member| GroupMember {
        id: member.member_id,
        instance: member.group_instance_id.unwrap_or_default(),
        host: member.client_host,
        client_id: member.client_id,
        owns: owned_by_classic(&member.member_assignment),
        target: None,
    });
    GroupDescription {
        id: group.group_id,
        is_consumer_protocol: false,
        state: group.group_state,
        coordinator,
        assignor: group.protocol_data,
        epochs: None,
        members: members.collect(),
    }
}

/// What the leader of a classic group gave to a member; nothing where that cannot be read, since any
/// program may use the protocol for ends of its own.
fn owned_by_classic(assignment: &Bytes) -> BTreeMap<String, Vec<i32>> {
    let mut reader = Reader::new(assignment);
    let Ok(version) = reader.i16() else {
        return BTreeMap::new();
    };
    let newest = ConsumerProtocolAssignment::VERSIONS.1;
    match ConsumerProtocolAssignment::decode(&mut reader, version.min(newest)) {
        Ok(read) => {
            let topics = read.assigned_partitions.into_iter();
            topics
                .map(|topic| (topic.topic, topic.partitions))
                .collect()
        }
        Err(_) => BTreeMap::new(),
    }
}
