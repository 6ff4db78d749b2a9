//! A member by the classic protocol, as simple as one can be: all give up everything at a rebalance,
//! and the first among them shares the partitions out in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{
    ClientError, Cluster, CommittedOffset, Consumed, Consumer, ConsumerOptions, Exchange, Start,
    TopicPartition,
};
use millrace_model::ErrorCode;
use millrace_protocol::messages::consumer_protocol_assignment::{self, ConsumerProtocolAssignment};
use millrace_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millrace_protocol::messages::heartbeat_request::HeartbeatRequest;
use millrace_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millrace_protocol::messages::join_group_response::JoinGroupResponse;
use millrace_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millrace_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_protocol::messages::sync_group_request::{
    SyncGroupRequest, SyncGroupRequestAssignment,
};
use millrace_protocol::{Decode, Message, Reader, Writer};
use tokio::time::Instant;

use super::Group;

const SESSION_MS: i32 = 2_500;
const REBALANCE_MS: i32 = 4_000;
/// An answer to JoinGroup or SyncGroup waits for the other members.
const JOIN_LIMIT: Duration = Duration::from_millis(7_000);
const BEAT_INTERVAL: Duration = Duration::from_millis(300);
const COMMIT_INTERVAL: Duration = Duration::from_millis(700);
/// The newest version of OffsetCommit that names topics.
const NEWEST_WITH_NAMES: i16 = 9;
const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "in-turn";

/// A member of a classic group.
pub struct Classic {
    cluster: Cluster,
    group: &'static str,
    topic: &'static str,
    partitions: i32,
    options: ConsumerOptions,
    /// Empty until the coordinator gives one.
    id: String,
    /// `None` while it has to join.
    generation: Option<i32>,
    owned: Vec<TopicPartition>,
    consumer: Consumer,
    read: BTreeMap<i32, CommittedOffset>,
    committed: BTreeMap<i32, CommittedOffset>,
    beat_at: Instant,
    commit_at: Instant,
}

impl Classic {
    pub fn new(cluster: &Cluster, group: &Group, options: ConsumerOptions) -> Classic {
        let now = cluster.machine().clock.now();
        Classic {
            cluster: cluster.clone(),
            group: group.name,
            topic: group.topic,
            partitions: group.partitions,
            options,
            id: String::new(),
            generation: None,
            owned: Vec::new(),
            consumer: Consumer::new(cluster, options),
            read: BTreeMap::new(),
            committed: BTreeMap::new(),
            beat_at: now,
            commit_at: now,
        }
    }

    pub fn owned(&self) -> (i32, &[TopicPartition]) {
        (self.generation.unwrap_or(-1), &self.owned)
    }

    /// Notes that everything up to this record has been dealt with.
    pub fn done(&mut self, record: &Consumed) {
        let at = CommittedOffset {
            offset: record.offset.next(),
            leader_epoch: record.leader_epoch,
        };
        self.read.insert(record.partition, at);
    }

    pub async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        let Some(generation) = self.generation else {
            self.join().await?;
            return Ok(Vec::new());
        };
        if self.now() >= self.commit_at {
            self.commit(generation).await?;
        }
        if self.now() >= self.beat_at {
            self.beat(generation).await?;
        }
        if self.owned.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(Vec::new());
        }
        self.consumer.poll().await
    }

    /// Commits what has been dealt with, and leaves the group.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        let Some(generation) = self.generation else {
            return Ok(());
        };
        self.commit(generation).await?;
        if self.generation.is_none() {
            return Ok(());
        }
        let request = LeaveGroupRequest {
            group_id: self.group.to_owned(),
            members: vec![MemberIdentity {
                member_id: self.id.clone(),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        self.ask(&request, |answer| answer.error_code).await?;
        Ok(())
    }

    fn now(&self) -> Instant {
        self.cluster.machine().clock.now()
    }

    async fn ask<R: Exchange>(
        &mut self,
        request: &R,
        code: impl Fn(&R::Answer) -> i16,
    ) -> Result<R::Answer, ClientError> {
        let asked = self
            .cluster
            .ask_coordinator(self.group, request, NEWEST_WITH_NAMES, code);
        Ok(asked.await?.1)
    }

    /// Asks what is answered only when others have come; a connection with such a question open is
    /// of no use for anything else.
    async fn ask_and_wait<R: Exchange>(&mut self, request: &R) -> Result<R::Answer, ClientError> {
        let (_, connection) = self.cluster.coordinator(self.group).await?;
        let answer = connection.ask(request, JOIN_LIMIT).await;
        if answer.is_err() {
            connection.close();
        }
        answer
    }

    async fn beat(&mut self, generation: i32) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: self.group.to_owned(),
            generation_id: generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        match self.ask(&request, |answer| answer.error_code).await {
            Ok(_) => {
                self.beat_at = self.now() + BEAT_INTERVAL;
                Ok(())
            }
            Err(error) if error.code() == Some(ErrorCode::RebalanceInProgress) => {
                self.commit(generation).await?;
                self.give_everything_up();
                Ok(())
            }
            Err(error) => self.removed(error),
        }
    }

    /// What an error about its membership means; any other is passed on.
    fn removed(&mut self, error: ClientError) -> Result<(), ClientError> {
        match error.code() {
            Some(ErrorCode::UnknownMemberId) => self.id.clear(),
            Some(ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress) => {}
            _ => return Err(error),
        }
        self.give_everything_up();
        Ok(())
    }

    fn give_everything_up(&mut self) {
        self.generation = None;
        self.owned.clear();
        self.read.clear();
        self.committed.clear();
        self.consumer = Consumer::new(&self.cluster, self.options);
    }

    async fn commit(&mut self, generation: i32) -> Result<(), ClientError> {
        self.commit_at = self.now() + COMMIT_INTERVAL;
        if self.read == self.committed {
            return Ok(());
        }
        let offsets = self.read.clone();
        let partitions = offsets
            .iter()
            .map(|(index, at)| OffsetCommitRequestPartition {
                partition_index: *index,
                committed_offset: at.offset.get(),
                committed_leader_epoch: at.leader_epoch.get(),
                committed_metadata: Some(String::new()),
                ..OffsetCommitRequestPartition::default()
            });
        let request = OffsetCommitRequest {
            group_id: self.group.to_owned(),
            member_id: self.id.clone(),
            generation_id_or_member_epoch: generation,
            topics: vec![OffsetCommitRequestTopic {
                name: self.topic.to_owned(),
                partitions: partitions.collect(),
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let asked = self.ask(&request, |answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let mut failed = partitions.map(|partition| partition.error_code);
            failed.find(|code| *code != 0).unwrap_or(0)
        });
        match asked.await {
            Ok(_) => {
                self.committed = offsets;
                Ok(())
            }
            Err(error) => self.removed(error),
        }
    }

    async fn join(&mut self) -> Result<(), ClientError> {
        let request = JoinGroupRequest {
            group_id: self.group.to_owned(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: PROTOCOL.to_owned(),
                metadata: self.subscription()?,
                ..JoinGroupRequestProtocol::default()
            }],
            ..JoinGroupRequest::default()
        };
        let joined = self.ask_and_wait(&request).await?;
        let refused = ClientError::check(joined.error_code, None).err();
        match refused {
            None => self.sync(joined).await,
            Some(error) if error.code() == Some(ErrorCode::MemberIdRequired) => {
                self.id = joined.member_id;
                Ok(())
            }
            Some(error) => self.removed(error),
        }
    }

    async fn sync(&mut self, joined: JoinGroupResponse) -> Result<(), ClientError> {
        self.id.clone_from(&joined.member_id);
        let assignments = match joined.leader == joined.member_id {
            true => self.share_out(&joined)?,
            false => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.group.to_owned(),
            generation_id: joined.generation_id,
            member_id: self.id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(PROTOCOL.to_owned()),
            assignments,
            ..SyncGroupRequest::default()
        };
        let answer = self.ask_and_wait(&request).await?;
        if let Err(error) = ClientError::check(answer.error_code, None) {
            return self.removed(error);
        }
        let owned = self.assigned(&answer.assignment)?;
        self.own(joined.generation_id, owned).await
    }

    /// Reads these partitions from now on, each from where the group stands.
    async fn own(&mut self, generation: i32, owned: Vec<i32>) -> Result<(), ClientError> {
        let committed = self.cluster.committed_offsets(self.group).await?;
        let mut consumer = Consumer::new(&self.cluster, self.options);
        let owned: Vec<TopicPartition> = owned
            .into_iter()
            .map(|index| (self.topic.to_owned(), index))
            .collect();
        for partition in &owned {
            let known = committed.get(partition);
            let start = known.map_or(Start::Earliest, |at| Start::At(at.offset));
            consumer.assign(self.topic, partition.1, start).await?;
            if let Some(at) = known {
                consumer.only_since(self.topic, partition.1, at.leader_epoch);
            }
        }
        self.consumer = consumer;
        self.owned = owned;
        self.generation = Some(generation);
        self.beat_at = self.now();
        self.commit_at = self.now() + COMMIT_INTERVAL;
        Ok(())
    }

    fn subscription(&self) -> Result<Bytes, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: vec![self.topic.to_owned()],
            ..ConsumerProtocolSubscription::default()
        };
        versioned(&subscription)
    }

    /// Every partition to one of the members, in turn.
    fn share_out(
        &self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut members: Vec<&str> = joined
            .members
            .iter()
            .map(|member| member.member_id.as_str())
            .collect();
        members.sort_unstable();
        let count = i32::try_from(members.len()).unwrap_or(i32::MAX);
        let shares = (0..count).zip(members).map(|(place, member)| {
            let theirs = (0..self.partitions).filter(|index| index % count == place);
            let assignment = ConsumerProtocolAssignment {
                assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
                    topic: self.topic.to_owned(),
                    partitions: theirs.collect(),
                }],
                ..ConsumerProtocolAssignment::default()
            };
            Ok(SyncGroupRequestAssignment {
                member_id: member.to_owned(),
                assignment: versioned(&assignment)?,
                ..SyncGroupRequestAssignment::default()
            })
        });
        shares.collect()
    }

    fn assigned(&self, bytes: &Bytes) -> Result<Vec<i32>, ClientError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let unreadable = |why: &dyn std::fmt::Display| {
            ClientError::Codec(format!("an assignment that nobody gave: {why}"))
        };
        let mut reader = Reader::new(bytes);
        let version = reader.i16().map_err(|error| unreadable(&error))?;
        let read = ConsumerProtocolAssignment::decode(&mut reader, version);
        let read = read.map_err(|error| unreadable(&error))?;
        let topics = read.assigned_partitions.into_iter();
        Ok(topics.flat_map(|topic| topic.partitions).collect())
    }
}

/// Its version, then itself, as members of a group write what is for each other.
fn versioned(message: &impl Message) -> Result<Bytes, ClientError> {
    let mut writer = Writer::new();
    writer.i16(0);
    let encoded = message.encode(&mut writer, 0);
    encoded.map_err(|error| ClientError::Codec(error.to_string()))?;
    Ok(writer.into_bytes())
}
