//! Answers that say no, to callers that no verb has looked at.

use crate::wire;
use millrace_model::ErrorCode;

use super::{Call, Response};

/// The answer of this code to this call, in the places where Kafka's clients look for it.
pub fn refused(call: &Call, code: ErrorCode) -> Response {
    let error_code = code.code();
    match call {
        Call::JoinGroup(request) => Response::JoinGroup(wire::JoinGroupResponse {
            error_code,
            member_id: request.member_id.clone(),
            protocol_name: Some(String::new()),
            ..Default::default()
        }),
        Call::SyncGroup(_) => Response::SyncGroup(wire::SyncGroupResponse {
            error_code,
            ..Default::default()
        }),
        Call::Heartbeat(_) => Response::Heartbeat(wire::HeartbeatResponse {
            error_code,
            ..Default::default()
        }),
        Call::LeaveGroup(_) => Response::LeaveGroup(wire::LeaveGroupResponse {
            error_code,
            ..Default::default()
        }),
        Call::OffsetCommit(request) => Response::OffsetCommit(commit(request, error_code)),
        Call::TxnOffsetCommit(request) => {
            Response::TxnOffsetCommit(transactional_commit(request, error_code))
        }
        Call::OffsetFetch { group, .. } => {
            Response::OffsetFetch(wire::offset_fetch_response::OffsetFetchResponseGroup {
                group_id: group.group_id.clone(),
                error_code,
                ..Default::default()
            })
        }
        Call::OffsetDelete(_) => Response::OffsetDelete(wire::OffsetDeleteResponse {
            error_code,
            ..Default::default()
        }),
        Call::ListGroups(_) => Response::ListGroups(Vec::new()),
        Call::ConsumerGroupHeartbeat(_) => {
            Response::ConsumerGroupHeartbeat(wire::ConsumerGroupHeartbeatResponse {
                error_code,
                ..Default::default()
            })
        }
        Call::DescribeGroups(groups) => Response::DescribeGroups(described(groups, error_code)),
        Call::DeleteGroups(groups) => Response::DeleteGroups(deleted(groups, error_code)),
        Call::ConsumerGroupDescribe(groups) => {
            Response::ConsumerGroupDescribe(described_consumers(groups, error_code))
        }
    }
}

/// What a caller is answered whose records could not be appended for this reason (Kafka methods
/// `handleOperationException` and `appendGroupMetadataErrorToResponseError`). `OffsetFetch` differs
/// in that its clients do not expect COORDINATOR_NOT_AVAILABLE.
pub fn append_failure(call: &Call, reason: ErrorCode) -> ErrorCode {
    match reason {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::RequestTimedOut
            if matches!(call, Call::OffsetFetch { .. }) =>
        {
            ErrorCode::NotCoordinator
        }
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => match call {
            Call::OffsetCommit(_) | Call::TxnOffsetCommit(_) => ErrorCode::InvalidCommitOffsetSize,
            _ => ErrorCode::UnknownServerError,
        },
        other => other,
    }
}

fn commit(request: &wire::OffsetCommitRequest, error_code: i16) -> wire::OffsetCommitResponse {
    use wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
    wire::OffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn transactional_commit(
    request: &wire::TxnOffsetCommitRequest,
    error_code: i16,
) -> wire::TxnOffsetCommitResponse {
    use wire::txn_offset_commit_response::{
        TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    };
    let topics = request
        .topics
        .iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
    wire::TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn described(
    groups: &[String],
    error_code: i16,
) -> Vec<wire::describe_groups_response::DescribedGroup> {
    let answer = |group: &String| wire::describe_groups_response::DescribedGroup {
        group_id: group.clone(),
        error_code,
        ..Default::default()
    };
    groups.iter().map(answer).collect()
}

fn deleted(
    groups: &[String],
    error_code: i16,
) -> Vec<wire::delete_groups_response::DeletableGroupResult> {
    let answer = |group: &String| wire::delete_groups_response::DeletableGroupResult {
        group_id: group.clone(),
        error_code,
        ..Default::default()
    };
    groups.iter().map(answer).collect()
}

fn described_consumers(
    groups: &[String],
    error_code: i16,
) -> Vec<wire::consumer_group_describe_response::DescribedGroup> {
    let answer = |group: &String| wire::consumer_group_describe_response::DescribedGroup {
        group_id: group.clone(),
        error_code,
        ..Default::default()
    };
    groups.iter().map(answer).collect()
}
