//! What groups are asked, and what they answer.

use crate::wire;
use millrace_model::{TopicId, TopicName, Uuid};

use wire::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use wire::delete_groups_response::DeletableGroupResult;
use wire::describe_groups_response::DescribedGroup;
use wire::list_groups_response::ListedGroup;
use wire::offset_fetch_request::OffsetFetchRequestGroup;
use wire::offset_fetch_response::OffsetFetchResponseGroup;

/// Who asks, as the connection and the request's header know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caller {
    /// The request's version: codes and fields differ.
    pub version: i16,
    /// The header's client id; empty for none.
    pub client_id: String,
    /// The peer's address as Kafka writes it, `/127.0.0.1` for instance.
    pub client_host: String,
    /// A fresh random identity: a member id is made of it, where one is needed.
    pub fresh_id: Uuid,
}

/// A request to the shard of its group.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// What is asked.
    pub call: Call,
}

/// One call for one shard. Requests that name several groups are split by the shards of the groups.
/// Authorization, and names and ids of topics, have been looked up before.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// JoinGroup; answered when the group's members are known.
    JoinGroup(wire::JoinGroupRequest),
    /// SyncGroup; answered when the leader has given the assignment.
    SyncGroup(wire::SyncGroupRequest),
    /// Heartbeat.
    Heartbeat(wire::HeartbeatRequest),
    /// LeaveGroup; before version 3 with its one member moved into `members`.
    LeaveGroup(wire::LeaveGroupRequest),
    /// OffsetCommit, with the topics that exist only, each with both its name and its id.
    OffsetCommit(wire::OffsetCommitRequest),
    /// TxnOffsetCommit, with the topics that exist only.
    TxnOffsetCommit(wire::TxnOffsetCommitRequest),
    /// One group of OffsetFetch; topics have names, and ids too where the caller uses them.
    OffsetFetch {
        /// Which offsets; without topics all.
        group: OffsetFetchRequestGroup,
        /// Whether partitions with offsets in open transactions are refused.
        require_stable: bool,
    },
    /// OffsetDelete, with the topics that exist only.
    OffsetDelete(wire::OffsetDeleteRequest),
    /// DescribeGroups, of these groups.
    DescribeGroups(Vec<String>),
    /// ListGroups, of this shard.
    ListGroups(wire::ListGroupsRequest),
    /// DeleteGroups, of these groups.
    DeleteGroups(Vec<String>),
    /// ConsumerGroupHeartbeat (KIP-848).
    ConsumerGroupHeartbeat(wire::ConsumerGroupHeartbeatRequest),
    /// ConsumerGroupDescribe (KIP-848), of these groups.
    ConsumerGroupDescribe(Vec<String>),
}

impl Call {
    /// Whether it is looked at who the caller is, beyond the version of the request.
    pub fn is_personal(&self) -> bool {
        matches!(self, Call::JoinGroup(_) | Call::ConsumerGroupHeartbeat(_))
    }

    /// What [`refused`](super::refused) needs of it, for whoever gives the call away.
    #[must_use]
    pub fn outline(&self) -> Call {
        match self {
            Call::JoinGroup(request) => Call::JoinGroup(wire::JoinGroupRequest {
                member_id: request.member_id.clone(),
                ..Default::default()
            }),
            Call::SyncGroup(_) => Call::SyncGroup(wire::SyncGroupRequest::default()),
            Call::Heartbeat(_) => Call::Heartbeat(wire::HeartbeatRequest::default()),
            Call::LeaveGroup(_) => Call::LeaveGroup(wire::LeaveGroupRequest::default()),
            Call::ConsumerGroupHeartbeat(_) => {
                Call::ConsumerGroupHeartbeat(wire::ConsumerGroupHeartbeatRequest::default())
            }
            other => other.clone(),
        }
    }
}

/// The answer to the [`Call`] of the same name; errors are inside, as the protocol has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To JoinGroup.
    JoinGroup(wire::JoinGroupResponse),
    /// To SyncGroup.
    SyncGroup(wire::SyncGroupResponse),
    /// To Heartbeat.
    Heartbeat(wire::HeartbeatResponse),
    /// To LeaveGroup, in the form of version 3; `error_code` is set where all failed.
    LeaveGroup(wire::LeaveGroupResponse),
    /// To OffsetCommit.
    OffsetCommit(wire::OffsetCommitResponse),
    /// To TxnOffsetCommit.
    TxnOffsetCommit(wire::TxnOffsetCommitResponse),
    /// To OffsetFetch, for one group.
    OffsetFetch(OffsetFetchResponseGroup),
    /// To OffsetDelete.
    OffsetDelete(wire::OffsetDeleteResponse),
    /// To DescribeGroups; authorized operations are the caller's to add.
    DescribeGroups(Vec<DescribedGroup>),
    /// To ListGroups.
    ListGroups(Vec<ListedGroup>),
    /// To DeleteGroups.
    DeleteGroups(Vec<DeletableGroupResult>),
    /// To ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(wire::ConsumerGroupHeartbeatResponse),
    /// To ConsumerGroupDescribe.
    ConsumerGroupDescribe(Vec<DescribedConsumerGroup>),
}

/// What groups learn without being asked. That topics came or grew they see in the view's version.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// These topics were deleted: their offsets go too.
    TopicsDeleted(Vec<(TopicName, TopicId)>),
}
