//! The messages of Kafka's protocol and the records of `__consumer_offsets` that groups are about.

// The vocabulary is listed whole, whether or not each word is used today.
#![allow(unused_imports)]

pub(crate) use millrace_protocol::messages::consumer_group_current_member_assignment_key::ConsumerGroupCurrentMemberAssignmentKey;
pub(crate) use millrace_protocol::messages::consumer_group_current_member_assignment_value::{
    self, ConsumerGroupCurrentMemberAssignmentValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_describe_request::{
    self, ConsumerGroupDescribeRequest,
};
pub(crate) use millrace_protocol::messages::consumer_group_describe_response::{
    self, ConsumerGroupDescribeResponse,
};
pub(crate) use millrace_protocol::messages::consumer_group_heartbeat_request::{
    self, ConsumerGroupHeartbeatRequest,
};
pub(crate) use millrace_protocol::messages::consumer_group_heartbeat_response::{
    self, ConsumerGroupHeartbeatResponse,
};
pub(crate) use millrace_protocol::messages::consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey;
pub(crate) use millrace_protocol::messages::consumer_group_member_metadata_value::{
    self, ConsumerGroupMemberMetadataValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_metadata_key::ConsumerGroupMetadataKey;
pub(crate) use millrace_protocol::messages::consumer_group_metadata_value::{
    self, ConsumerGroupMetadataValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_partition_metadata_key::ConsumerGroupPartitionMetadataKey;
pub(crate) use millrace_protocol::messages::consumer_group_partition_metadata_value::{
    self, ConsumerGroupPartitionMetadataValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_regular_expression_key::ConsumerGroupRegularExpressionKey;
pub(crate) use millrace_protocol::messages::consumer_group_regular_expression_value::{
    self, ConsumerGroupRegularExpressionValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_target_assignment_member_key::ConsumerGroupTargetAssignmentMemberKey;
pub(crate) use millrace_protocol::messages::consumer_group_target_assignment_member_value::{
    self, ConsumerGroupTargetAssignmentMemberValue,
};
pub(crate) use millrace_protocol::messages::consumer_group_target_assignment_metadata_key::ConsumerGroupTargetAssignmentMetadataKey;
pub(crate) use millrace_protocol::messages::consumer_group_target_assignment_metadata_value::{
    self, ConsumerGroupTargetAssignmentMetadataValue,
};
pub(crate) use millrace_protocol::messages::consumer_protocol_assignment::{
    self, ConsumerProtocolAssignment,
};
pub(crate) use millrace_protocol::messages::consumer_protocol_subscription::{
    self, ConsumerProtocolSubscription,
};
pub(crate) use millrace_protocol::messages::delete_groups_request::{self, DeleteGroupsRequest};
pub(crate) use millrace_protocol::messages::delete_groups_response::{self, DeleteGroupsResponse};
pub(crate) use millrace_protocol::messages::describe_groups_request::{
    self, DescribeGroupsRequest,
};
pub(crate) use millrace_protocol::messages::describe_groups_response::{
    self, DescribeGroupsResponse,
};
pub(crate) use millrace_protocol::messages::group_metadata_key::GroupMetadataKey;
pub(crate) use millrace_protocol::messages::group_metadata_value::{self, GroupMetadataValue};
pub(crate) use millrace_protocol::messages::heartbeat_request::{self, HeartbeatRequest};
pub(crate) use millrace_protocol::messages::heartbeat_response::{self, HeartbeatResponse};
pub(crate) use millrace_protocol::messages::join_group_request::{self, JoinGroupRequest};
pub(crate) use millrace_protocol::messages::join_group_response::{self, JoinGroupResponse};
pub(crate) use millrace_protocol::messages::leave_group_request::{self, LeaveGroupRequest};
pub(crate) use millrace_protocol::messages::leave_group_response::{self, LeaveGroupResponse};
pub(crate) use millrace_protocol::messages::legacy_offset_commit_key::LegacyOffsetCommitKey;
pub(crate) use millrace_protocol::messages::legacy_offset_commit_value::LegacyOffsetCommitValue;
pub(crate) use millrace_protocol::messages::list_groups_request::{self, ListGroupsRequest};
pub(crate) use millrace_protocol::messages::list_groups_response::{self, ListGroupsResponse};
pub(crate) use millrace_protocol::messages::offset_commit_key::OffsetCommitKey;
pub(crate) use millrace_protocol::messages::offset_commit_request::{self, OffsetCommitRequest};
pub(crate) use millrace_protocol::messages::offset_commit_response::{self, OffsetCommitResponse};
pub(crate) use millrace_protocol::messages::offset_commit_value::OffsetCommitValue;
pub(crate) use millrace_protocol::messages::offset_delete_request::{self, OffsetDeleteRequest};
pub(crate) use millrace_protocol::messages::offset_delete_response::{self, OffsetDeleteResponse};
pub(crate) use millrace_protocol::messages::offset_fetch_request::{self, OffsetFetchRequest};
pub(crate) use millrace_protocol::messages::offset_fetch_response::{self, OffsetFetchResponse};
pub(crate) use millrace_protocol::messages::sync_group_request::{self, SyncGroupRequest};
pub(crate) use millrace_protocol::messages::sync_group_response::{self, SyncGroupResponse};
pub(crate) use millrace_protocol::messages::txn_offset_commit_request::{
    self, TxnOffsetCommitRequest,
};
pub(crate) use millrace_protocol::messages::txn_offset_commit_response::{
    self, TxnOffsetCommitResponse,
};
