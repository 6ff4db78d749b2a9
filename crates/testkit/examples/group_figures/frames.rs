//! Requests as bytes, made once and sent often, and the answers' error codes.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request as consumer;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request as commit;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    OffsetCommitRequest, RequestHeader, ResponseHeader, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

/// Versions of the requests: what clients of Kafka 4 send.
pub const JOIN_VERSION: i16 = 9;
pub const SYNC_VERSION: i16 = 5;
pub const HEARTBEAT_VERSION: i16 = 4;
pub const COMMIT_VERSION: i16 = 9;
pub const CONSUMER_VERSION: i16 = 1;

/// How long a member may be silent: longer than any run, since not all of them are kept alive.
const SESSION_MS: i32 = 600_000;

/// A member of a classic group.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub group: String,
    pub member: String,
    pub generation: i32,
}

/// A whole frame, length included. Its correlation id is always the same, so that equal answers are
/// equal bytes.
pub fn frame<R: Request>(request: &R, version: i16) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("group-figures")));
    let mut bytes = BytesMut::new();
    encode_request_header_into_buffer(&mut bytes, &header).expect("a header fits");
    request.encode(&mut bytes, version).expect("it fits");
    let mut whole = (bytes.len() as u32).to_be_bytes().to_vec();
    whole.put_slice(&bytes);
    whole
}

/// The answer in a frame without its length.
pub fn answer<R: Request>(frame: &[u8], version: i16) -> R::Response {
    let mut bytes = Bytes::copy_from_slice(frame);
    ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).expect("a header");
    R::Response::decode(&mut bytes, version).expect("an answer of that kind")
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

pub fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// A join; what the subscription says beside the topic differs by `round`, so that joining again is
/// a rebalance.
pub fn join(who: &Identity, topic: &str, round: u8) -> Vec<u8> {
    let mut subscription = BytesMut::new();
    subscription.put_i16(0);
    subscription.put_i32(1);
    subscription.put_i16(topic.len() as i16);
    subscription.put_slice(topic.as_bytes());
    subscription.put_i32(1);
    subscription.put_u8(round);
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription.freeze());
    let request = JoinGroupRequest::default()
        .with_group_id(group_id(&who.group))
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_member_id(text(&who.member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    frame(&request, JOIN_VERSION)
}

/// What follows an answered join; the leader gives each member one partition of the topic.
pub fn sync(who: &Identity, topic: &str, joined: &JoinGroupResponse) -> Vec<u8> {
    let mut assignments = Vec::new();
    if joined.leader == joined.member_id {
        for (index, member) in joined.members.iter().enumerate() {
            let mut assignment = BytesMut::new();
            assignment.put_i16(0);
            assignment.put_i32(1);
            assignment.put_i16(topic.len() as i16);
            assignment.put_slice(topic.as_bytes());
            assignment.put_i32(1);
            assignment.put_i32(index as i32);
            assignment.put_i32(-1);
            assignments.push(
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(assignment.freeze()),
            );
        }
    }
    let request = SyncGroupRequest::default()
        .with_group_id(group_id(&who.group))
        .with_generation_id(joined.generation_id)
        .with_member_id(text(&who.member))
        .with_protocol_type(joined.protocol_type.clone())
        .with_protocol_name(joined.protocol_name.clone())
        .with_assignments(assignments);
    frame(&request, SYNC_VERSION)
}

pub fn heartbeat(who: &Identity) -> Vec<u8> {
    let request = HeartbeatRequest::default()
        .with_group_id(group_id(&who.group))
        .with_generation_id(who.generation)
        .with_member_id(text(&who.member));
    frame(&request, HEARTBEAT_VERSION)
}

/// A commit of one offset for each of these partitions; of no member where the generation is
/// negative.
pub fn commit(who: &Identity, topic: &str, partitions: std::ops::Range<i32>, at: i64) -> Vec<u8> {
    let partitions = partitions.map(|index| {
        commit::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(at)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::default()))
    });
    let topic = commit::OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(&who.group))
        .with_generation_id_or_member_epoch(who.generation)
        .with_member_id(text(&who.member))
        .with_topics(vec![topic]);
    frame(&request, COMMIT_VERSION)
}

/// The first error of a commit, zero if there is none.
pub fn commit_error(frame: &[u8]) -> i16 {
    let answer = answer::<OffsetCommitRequest>(frame, COMMIT_VERSION);
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes = codes.map(|partition| partition.error_code);
    codes.find(|code| *code != 0).unwrap_or(0)
}

/// The first words of a member of a consumer group.
pub fn consumer_join(group: &str, member: &str, topic: &str) -> Vec<u8> {
    let request = consumer_words(group, member, 0)
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_subscribed_topic_names(Some(vec![topic_name(topic)]))
        .with_topic_partitions(Some(Vec::new()));
    frame(&request, CONSUMER_VERSION)
}

/// A heartbeat of a consumer group's member; with what it owns if that has changed.
pub fn consumer_heartbeat(
    group: &str,
    member: &str,
    epoch: i32,
    owned: Option<Vec<consumer::TopicPartitions>>,
) -> Vec<u8> {
    let request = consumer_words(group, member, epoch).with_topic_partitions(owned);
    frame(&request, CONSUMER_VERSION)
}

fn consumer_words(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}
