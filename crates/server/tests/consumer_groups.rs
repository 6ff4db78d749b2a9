//! Groups of the consumer protocol (KIP-848) over the wire, their settings, and their metrics.

use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::messages::alter_configs_request::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use millrace_protocol::messages::alter_configs_response::AlterConfigsResponse;
use millrace_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use millrace_protocol::messages::consumer_group_describe_response::ConsumerGroupDescribeResponse;
use millrace_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use millrace_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;

use crate::groups::{ALONE, code, commit, commit_of, find};
use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

async fn beat(
    wire: &mut Wire,
    version: i16,
    member: &str,
    epoch: i32,
) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 10_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["t".to_owned()]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    };
    wire.ask(version, &request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_assigned_partitions_in_every_version() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    let topic = create(&mut wire, "t", 3).await;
    find(&mut wire, "g").await;
    for version in 0..=1 {
        let id = match version {
            0 => String::new(),
            _ => Uuid([7; 16]).to_string(),
        };
        let joined = beat(&mut wire, version, &id, 0).await;
        assert_eq!(code(joined.error_code), ErrorCode::None, "{joined:?}");
        let member = joined.member_id.unwrap();
        let mut assignment = joined.assignment;
        let mut epoch = joined.member_epoch;
        while assignment
            .as_ref()
            .is_none_or(|a| a.topic_partitions.is_empty())
        {
            let next = beat(&mut wire, version, &member, epoch).await;
            assert_eq!(code(next.error_code), ErrorCode::None, "{next:?}");
            (assignment, epoch) = (next.assignment, next.member_epoch);
        }
        let assigned = assignment.unwrap().topic_partitions;
        assert_eq!(assigned[0].topic_id, topic);
        assert_eq!(assigned[0].partitions, [0, 1, 2]);
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec!["g".to_owned(), "none".to_owned()],
            ..Default::default()
        };
        let mut described: ConsumerGroupDescribeResponse = wire.ask(version, &request).await;
        described
            .groups
            .sort_by(|one, other| one.group_id.cmp(&other.group_id));
        assert_eq!(described.groups[0].group_state, "Stable");
        assert_eq!(described.groups[0].members[0].client_id, "wire");
        let missing = code(described.groups[1].error_code);
        assert_eq!(missing, ErrorCode::GroupIdNotFound);
        let fenced = beat(&mut wire, version, &member, epoch + 7).await;
        assert_eq!(code(fenced.error_code), ErrorCode::FencedMemberEpoch);
        let left = beat(&mut wire, version, &member, -1).await;
        assert_eq!(code(left.error_code), ErrorCode::None);
        assert_eq!(left.member_epoch, -1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_has_settings_of_its_own() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    find(&mut wire, "g").await;
    let before = beat(&mut wire, 0, "", 0).await;
    assert_eq!(before.heartbeat_interval_ms, 5000);
    for (name, value, expected) in [
        ("consumer.heartbeat.interval.ms", "6000", ErrorCode::None),
        (
            "consumer.heartbeat.interval.ms",
            "4999",
            ErrorCode::InvalidConfig,
        ),
        (
            "consumer.session.timeout.ms",
            "60001",
            ErrorCode::InvalidConfig,
        ),
        (
            "share.session.timeout.ms",
            "50000",
            ErrorCode::InvalidConfig,
        ),
        ("no.such.setting", "1", ErrorCode::InvalidConfig),
    ] {
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 32,
                resource_name: "g".to_owned(),
                configs: vec![AlterableConfig {
                    name: name.to_owned(),
                    value: Some(value.to_owned()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let altered: AlterConfigsResponse = wire.ask(2, &request).await;
        let got = code(altered.responses[0].error_code);
        assert_eq!(got, expected, "{name}={value}: {altered:?}");
    }
    let member = before.member_id.unwrap();
    let after = beat(&mut wire, 0, &member, before.member_epoch).await;
    assert_eq!(after.heartbeat_interval_ms, 6000, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_that_is_none_is_refused_and_others_are_resolved() {
    let node = TestNode::start(ALONE).await;
    let mut wire = node.connect().await;
    let topic = create(&mut wire, "logs-eu", 1).await;
    create(&mut wire, "other", 1).await;
    find(&mut wire, "g").await;
    let mut request = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: Uuid([9; 16]).to_string(),
        rebalance_timeout_ms: 10_000,
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    // The last two are Java's and not RE2's: linear matching has no such thing.
    for bad in ["logs-(", "*", "[z-a]", "(?=logs)", "(a)\\1"] {
        request.subscribed_topic_regex = Some(bad.to_owned());
        let refused: ConsumerGroupHeartbeatResponse = wire.ask(1, &request).await;
        let got = code(refused.error_code);
        assert_eq!(got, ErrorCode::InvalidRegularExpression, "{bad}");
        let words = refused.error_message.unwrap_or_default();
        assert!(words.contains(bad), "{words}");
    }
    request.subscribed_topic_regex = Some("logs-[[:alpha:]]+".to_owned());
    let joined: ConsumerGroupHeartbeatResponse = wire.ask(1, &request).await;
    assert_eq!(code(joined.error_code), ErrorCode::None, "{joined:?}");
    let assigned = joined.assignment.unwrap().topic_partitions;
    assert_eq!(assigned.len(), 1, "{assigned:?}");
    assert_eq!(assigned[0].topic_id, topic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_groups_and_their_lag() {
    let properties = format!("{ALONE}millrace.metrics.group.lags=2\n");
    let properties = properties + "millrace.http.listener=127.0.0.1:0\n";
    let node = TestNode::start(&properties).await;
    let mut wire = node.connect().await;
    let id = create(&mut wire, "t", 3).await;
    find(&mut wire, "g").await;
    let request = commit_of("g", "t", id, &[(0, 0), (1, 0), (2, 0)]);
    assert_eq!(commit(&mut wire, 9, &request).await, [ErrorCode::None; 3]);
    let port = node.broker.http_port().unwrap();
    let text = http_get(port, "/metrics").await;
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert!(text.contains("millrace_groups{type=\"classic\",state=\"empty\"} 1\n"));
    assert!(text.contains("millrace_group_offsets 3\n"));
    assert!(text.contains("millrace_group_offset_commits_total 3\n"));
    assert_eq!(
        lines("millrace_group_committed_offset{group=\"g\",topic=\"t\""),
        2
    );
    assert_eq!(
        lines("millrace_group_lag_records{"),
        2,
        "no more than were asked for"
    );
}

pub async fn http_get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
