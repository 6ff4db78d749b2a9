//! Groups of consumers over the wire: every version of every API, as clients use them.

use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::Message;
use millrace_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use millrace_protocol::messages::delete_groups_response::DeleteGroupsResponse;
use millrace_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use millrace_protocol::messages::describe_groups_response::DescribeGroupsResponse;
use millrace_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use millrace_protocol::messages::heartbeat_request::HeartbeatRequest;
use millrace_protocol::messages::heartbeat_response::HeartbeatResponse;
use millrace_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millrace_protocol::messages::join_group_response::JoinGroupResponse;
use millrace_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millrace_protocol::messages::leave_group_response::LeaveGroupResponse;
use millrace_protocol::messages::list_groups_request::ListGroupsRequest;
use millrace_protocol::messages::list_groups_response::ListGroupsResponse;
use millrace_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_protocol::messages::offset_commit_response::OffsetCommitResponse;
use millrace_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millrace_protocol::messages::offset_delete_response::OffsetDeleteResponse;
use millrace_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millrace_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use millrace_protocol::messages::sync_group_request::{
    SyncGroupRequest, SyncGroupRequestAssignment,
};
use millrace_protocol::messages::sync_group_response::SyncGroupResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

pub const ALONE: &str = "offsets.topic.replication.factor=1\noffsets.topic.num.partitions=5\n\
    group.initial.rebalance.delay.ms=0\n";

pub fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}

/// Asks until the group's coordinator is there and has loaded.
pub async fn find(wire: &mut Wire, group: &str) {
    let request = FindCoordinatorRequest {
        key: group.to_owned(),
        ..Default::default()
    };
    let found: FindCoordinatorResponse = wire.ask(3, &request).await;
    assert_eq!(code(found.error_code), ErrorCode::None);
    assert_eq!(found.node_id, 1);
    loop {
        let answer = fetch_one(wire, 8, group, "any", Uuid::ZERO, 0).await;
        match answer.2 {
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress => {
                tokio::task::yield_now().await;
            }
            _ => return,
        }
    }
}

fn join_request(group: &str, member: &str, version: i16) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 10_000 },
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: bytes::Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Joins as a new member does, alone in its group; returns member id and generation.
async fn join(wire: &mut Wire, version: i16, group: &str) -> (String, i32) {
    let request = join_request(group, "", version);
    let mut joined: JoinGroupResponse = wire.ask(version, &request).await;
    if version >= 4 {
        assert_eq!(code(joined.error_code), ErrorCode::MemberIdRequired);
        let request = join_request(group, &joined.member_id, version);
        joined = wire.ask(version, &request).await;
    }
    assert_eq!(code(joined.error_code), ErrorCode::None, "{joined:?}");
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    (joined.member_id, joined.generation_id)
}

async fn sync(
    wire: &mut Wire,
    version: i16,
    group: &str,
    member: &str,
    generation: i32,
) -> SyncGroupResponse {
    let named = version >= 5;
    let request = SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        protocol_type: named.then(|| "consumer".to_owned()),
        protocol_name: named.then(|| "range".to_owned()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: member.to_owned(),
            assignment: bytes::Bytes::from_static(b"what it owns"),
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.ask(version, &request).await
}

async fn heartbeat(
    wire: &mut Wire,
    version: i16,
    group: &str,
    member: &str,
    generation: i32,
) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        ..Default::default()
    };
    let answer: HeartbeatResponse = wire.ask(version, &request).await;
    code(answer.error_code)
}

pub fn commit_of(group: &str, name: &str, id: Uuid, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = offsets
        .iter()
        .map(|(index, offset)| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: *offset,
            committed_metadata: Some("note".to_owned()),
            ..Default::default()
        });
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: name.to_owned(),
            topic_id: id,
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub async fn commit(
    wire: &mut Wire,
    version: i16,
    request: &OffsetCommitRequest,
) -> Vec<ErrorCode> {
    let answer: OffsetCommitResponse = wire.ask(version, request).await;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|p| code(p.error_code)).collect()
}

/// Offset, metadata and error of one partition, however the version asks for it.
async fn fetch_one(
    wire: &mut Wire,
    version: i16,
    group: &str,
    topic: &str,
    id: Uuid,
    index: i32,
) -> (i64, Option<String>, ErrorCode) {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = group.to_owned();
        request.topics = Some(vec![OffsetFetchRequestTopic {
            name: topic.to_owned(),
            partition_indexes: vec![index],
            ..Default::default()
        }]);
    } else {
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.to_owned(),
                topic_id: id,
                partition_indexes: vec![index],
                ..Default::default()
            }]),
            ..Default::default()
        }];
    }
    let answer: OffsetFetchResponse = wire.ask(version, &request).await;
    if version < 8 {
        assert_eq!(answer.error_code, 0);
        let found = &answer.topics[0].partitions[0];
        let error = code(found.error_code);
        return (found.committed_offset, found.metadata.clone(), error);
    }
    let group = &answer.groups[0];
    if group.error_code != 0 {
        return (-1, None, code(group.error_code));
    }
    let found = &group.topics[0].partitions[0];
    let error = code(found.error_code);
    (found.committed_offset, found.metadata.clone(), error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_joins_works_and_leaves_in_every_version() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    for version in 0..=JoinGroupRequest::VERSIONS.1 {
        // Each lies in a partition of its own, which loads by itself.
        let group = format!("group{version}");
        find(&mut wire, &group).await;
        let sync_version = version.min(SyncGroupRequest::VERSIONS.1);
        let beat_version = version.min(HeartbeatRequest::VERSIONS.1);
        let leave_version = version.min(LeaveGroupRequest::VERSIONS.1);
        let (member, generation) = join(&mut wire, version, &group).await;
        assert!(generation > 0);
        let synced = sync(&mut wire, sync_version, &group, &member, generation).await;
        assert_eq!(code(synced.error_code), ErrorCode::None);
        assert_eq!(&synced.assignment[..], b"what it owns");
        let beat = heartbeat(&mut wire, beat_version, &group, &member, generation).await;
        assert_eq!(beat, ErrorCode::None);
        let old = heartbeat(&mut wire, beat_version, &group, &member, generation - 1).await;
        assert_eq!(old, ErrorCode::IllegalGeneration);
        let mut request = LeaveGroupRequest {
            group_id: group.clone(),
            ..Default::default()
        };
        match leave_version {
            0..=2 => request.member_id = member.clone(),
            _ => {
                request.members = vec![MemberIdentity {
                    member_id: member.clone(),
                    ..Default::default()
                }]
            }
        }
        let left: LeaveGroupResponse = wire.ask(leave_version, &request).await;
        assert_eq!(code(left.error_code), ErrorCode::None);
        let gone = heartbeat(&mut wire, beat_version, &group, &member, generation).await;
        assert_eq!(gone, ErrorCode::UnknownMemberId);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    let id = create(&mut wire, "t", 2).await;
    find(&mut wire, "g").await;
    let mut last = -1;
    for version in 1..=OffsetFetchRequest::VERSIONS.1 {
        let read = fetch_one(&mut wire, version, "g", "t", id, 0).await;
        let note = if last < 0 { "" } else { "note" };
        let expected = (last, Some(note.to_owned()), ErrorCode::None);
        assert_eq!(read, expected, "version {version}");
        let write = version.max(OffsetCommitRequest::VERSIONS.0);
        let request = commit_of("g", "t", id, &[(0, i64::from(version)), (7, 1)]);
        let mut codes = commit(&mut wire, write, &request).await;
        codes.sort_by_key(|code| code.code());
        let expected = [ErrorCode::None, ErrorCode::UnknownTopicOrPartition];
        assert_eq!(codes, expected, "version {write}");
        last = i64::from(version);
    }
    // Topics that are not there, by name and by id.
    let nowhere = commit_of("g", "none", Uuid([7; 16]), &[(0, 1)]);
    let by_name = commit(&mut wire, 9, &nowhere).await;
    assert_eq!(by_name, [ErrorCode::UnknownTopicOrPartition]);
    let by_id = commit(&mut wire, 10, &nowhere).await;
    assert_eq!(by_id, [ErrorCode::UnknownTopicId]);
    let read = fetch_one(&mut wire, 10, "g", "", Uuid([7; 16]), 0).await;
    assert_eq!(read.2, ErrorCode::UnknownTopicId);
    // Everything the group has.
    let all = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in 8..=10 {
        let answer: OffsetFetchResponse = wire.ask(version, &all).await;
        let topics = &answer.groups[0].topics;
        assert_eq!(topics.len(), 1);
        assert_eq!(
            topics[0].topic_id,
            if version == 10 { id } else { Uuid::ZERO }
        );
        assert_eq!(topics[0].partitions[0].committed_offset, last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_described_and_deleted() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    let id = create(&mut wire, "t", 1).await;
    find(&mut wire, "busy").await;
    let (member, generation) = join(&mut wire, 9, "busy").await;
    sync(&mut wire, 5, "busy", &member, generation).await;
    let committed = commit(&mut wire, 10, &commit_of("simple", "t", id, &[(0, 3)])).await;
    assert_eq!(committed, [ErrorCode::None]);
    let mut listed: ListGroupsResponse = wire.ask(5, &ListGroupsRequest::default()).await;
    listed
        .groups
        .sort_by(|one, other| one.group_id.cmp(&other.group_id));
    let told: Vec<_> = listed
        .groups
        .iter()
        .map(|g| {
            (
                &g.group_id[..],
                &g.protocol_type[..],
                &g.group_state[..],
                &g.group_type[..],
            )
        })
        .collect();
    let expected = [
        ("busy", "consumer", "Stable", "classic"),
        ("simple", "", "Empty", "classic"),
    ];
    assert_eq!(told, expected);
    let request = DescribeGroupsRequest {
        groups: ["busy", "simple", "none"].map(str::to_owned).to_vec(),
        include_authorized_operations: true,
        ..Default::default()
    };
    let mut described: DescribeGroupsResponse = wire.ask(6, &request).await;
    described
        .groups
        .sort_by(|one, other| one.group_id.cmp(&other.group_id));
    let told: Vec<_> = described
        .groups
        .iter()
        .map(|g| (&g.group_id[..], &g.group_state[..], code(g.error_code)))
        .collect();
    let expected = [
        ("busy", "Stable", ErrorCode::None),
        ("none", "Dead", ErrorCode::GroupIdNotFound),
        ("simple", "Empty", ErrorCode::None),
    ];
    assert_eq!(told, expected);
    let described = &described.groups[0].members[0];
    assert_eq!(described.client_host, "/127.0.0.1");
    assert_eq!(described.client_id, "wire");
    let codes = delete_offsets(&mut wire, "simple", "t", &[0, 9]).await;
    assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    let request = DeleteGroupsRequest {
        groups_names: ["busy", "none"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let deleted: DeleteGroupsResponse = wire.ask(2, &request).await;
    let mut told: Vec<_> = deleted
        .results
        .iter()
        .map(|r| (&r.group_id[..], code(r.error_code)))
        .collect();
    told.sort_unstable_by_key(|(group, _)| *group);
    let expected = [
        ("busy", ErrorCode::NonEmptyGroup),
        ("none", ErrorCode::GroupIdNotFound),
    ];
    assert_eq!(told, expected);
}

/// Deletes offsets; the code of each partition, in order of codes.
async fn delete_offsets(wire: &mut Wire, group: &str, topic: &str, indexes: &[i32]) -> Vec<i16> {
    let partitions = indexes.iter().map(|index| OffsetDeleteRequestPartition {
        partition_index: *index,
    });
    let request = OffsetDeleteRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.to_owned(),
            partitions: partitions.collect(),
        }],
    };
    let deleted: OffsetDeleteResponse = wire.ask(0, &request).await;
    let partitions = deleted.topics[0].partitions.iter();
    let mut codes: Vec<_> = partitions.map(|p| p.error_code).collect();
    codes.sort_unstable();
    codes
}

/// A cluster too small for the replication factor has no coordinators, as in Kafka.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_brokers_give_no_coordinator() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    for version in 0..=FindCoordinatorRequest::VERSIONS.1 {
        let mut request = FindCoordinatorRequest::default();
        match version {
            0..=3 => request.key = "g".to_owned(),
            _ => request.coordinator_keys = vec!["g".to_owned(), "h".to_owned()],
        }
        let found: FindCoordinatorResponse = wire.ask(version, &request).await;
        let codes: Vec<i16> = match version {
            0..=3 => vec![found.error_code],
            _ => found.coordinators.iter().map(|c| c.error_code).collect(),
        };
        let expected = ErrorCode::CoordinatorNotAvailable.code();
        assert!(codes.iter().all(|code| *code == expected), "{codes:?}");
    }
    let (offset, _, error) = fetch_one(&mut wire, 8, "g", "t", Uuid::ZERO, 0).await;
    assert_eq!((offset, error), (-1, ErrorCode::NotCoordinator));
}
