//! Topics are created, grown, described and deleted.

use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use millrace_protocol::messages::create_partitions_response::CreatePartitionsResponse;
use millrace_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millrace_protocol::messages::create_topics_response::{
    CreatableTopicResult, CreateTopicsResponse,
};
use millrace_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millrace_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use millrace_protocol::messages::describe_topic_partitions_request::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use millrace_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    }
}

async fn create_all(
    wire: &mut Wire,
    version: i16,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest {
        topics,
        timeout_ms: 10_000,
        validate_only,
        ..Default::default()
    };
    let response: CreateTopicsResponse = wire.ask(version, &request).await;
    response.topics
}

/// Creates a topic of one partition with settings of its own.
pub async fn create_with(wire: &mut Wire, name: &str, settings: &[(&str, &str)]) {
    let configs = settings.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
        ..Default::default()
    });
    let new = CreatableTopic {
        configs: configs.collect(),
        ..topic(name, 1)
    };
    let created = create_all(wire, 7, vec![new], false).await;
    assert_eq!(created[0].error_code, 0, "{created:?}");
}

/// Creates a topic, and returns its id.
pub async fn create(wire: &mut Wire, name: &str, partitions: i32) -> Uuid {
    let created = create_all(wire, 7, vec![topic(name, partitions)], false).await;
    assert_eq!(created[0].error_code, 0, "{created:?}");
    created[0].topic_id
}

async fn describe(
    wire: &mut Wire,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    wire.ask(0, request).await
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_creates() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    for version in 2..=7 {
        let name = format!("topic{version}");
        let created = create_all(&mut wire, version, vec![topic(&name, 2)], true).await;
        assert_eq!(created[0].error_code, 0, "{created:?}");
        let created = create_all(&mut wire, version, vec![topic(&name, 2)], false).await;
        assert_eq!(created[0].error_code, 0, "{created:?}");
        assert_eq!(created[0].error_message, None);
        assert_eq!(created[0].topic_id.is_zero(), version < 7);
        if version >= 5 {
            assert_eq!(created[0].num_partitions, 2);
            assert_eq!(created[0].replication_factor, 1);
            let configs = created[0].configs.as_ref().unwrap();
            let find = |name: &str| configs.iter().find(|c| c.name == name).unwrap();
            assert_eq!(find("cleanup.policy").value.as_deref(), Some("delete"));
            assert_eq!(find("cleanup.policy").config_source, 5);
        }
        let again = create_all(&mut wire, version, vec![topic(&name, 2)], false).await;
        assert_eq!(code(again[0].error_code), ErrorCode::TopicAlreadyExists);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_topic_has_its_own_refusal() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "a.b", 1).await;
    let assigned = |replicas: &[i32]| CreatableReplicaAssignment {
        broker_ids: replicas.to_vec(),
        ..Default::default()
    };
    let with_config = CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: "nope".to_owned(),
            value: Some("1".to_owned()),
            ..Default::default()
        }],
        ..topic("config", 0)
    };
    let manual = |name: &str, replicas: &[i32], partitions| CreatableTopic {
        replication_factor: -1,
        assignments: vec![assigned(replicas)],
        ..topic(name, partitions)
    };
    let too_many_replicas = CreatableTopic {
        replication_factor: 3,
        ..topic("replicas", 1)
    };
    let topics = vec![
        topic("good", -1),
        topic("wr/ng", 1),
        topic("a_b", 1),
        topic("partitions", 0),
        too_many_replicas,
        with_config,
        manual("assigned", &[1], -1),
        manual("counted", &[1], 1),
        manual("unknown", &[9], -1),
        topic("twice", 1),
        topic("twice", 1),
        topic("__cluster_metadata", 1),
    ];
    let created = create_all(&mut wire, 7, topics, false).await;
    let got: Vec<_> = created
        .iter()
        .map(|topic| (topic.name.as_str(), code(topic.error_code)))
        .collect();
    let expected = [
        ("good", ErrorCode::None),
        ("wr/ng", ErrorCode::InvalidTopicException),
        ("a_b", ErrorCode::InvalidTopicException),
        ("partitions", ErrorCode::InvalidPartitions),
        ("replicas", ErrorCode::InvalidReplicationFactor),
        ("config", ErrorCode::InvalidConfig),
        ("assigned", ErrorCode::None),
        ("counted", ErrorCode::InvalidRequest),
        ("unknown", ErrorCode::InvalidReplicaAssignment),
        ("twice", ErrorCode::InvalidRequest),
        ("__cluster_metadata", ErrorCode::InvalidRequest),
    ];
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_added_and_paged() {
    let node = TestNode::start("max.request.partition.size.limit=3\n").await;
    let mut wire = node.connect().await;
    create(&mut wire, "a", 2).await;
    create(&mut wire, "b", 1).await;
    for (version, count, expected) in [
        (0, 3, ErrorCode::None),
        (1, 3, ErrorCode::InvalidPartitions),
        (2, 2, ErrorCode::InvalidPartitions),
        (3, 4, ErrorCode::None),
    ] {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "b".to_owned(),
                count,
                assignments: None,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response: CreatePartitionsResponse = wire.ask(version, &request).await;
        assert_eq!(code(response.results[0].error_code), expected);
    }
    let mut request = DescribeTopicPartitionsRequest::default();
    let mut pages = Vec::new();
    loop {
        let response = describe(&mut wire, &request).await;
        let told = response.topics.iter().flat_map(|topic| {
            let name = topic.name.clone().unwrap();
            let indexes = topic.partitions.iter().map(|p| p.partition_index);
            indexes.map(move |index| format!("{name}{index}"))
        });
        pages.push(told.collect::<Vec<_>>().join(" "));
        let Some(next) = response.next_cursor else {
            break;
        };
        request.cursor = Some(
            millrace_protocol::messages::describe_topic_partitions_request::Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            },
        );
    }
    assert_eq!(pages, ["a0 a1 b0", "b1 b2 b3"]);
    request.topics = ["b", "c"]
        .map(|name| TopicRequest {
            name: name.to_owned(),
            ..Default::default()
        })
        .to_vec();
    request.cursor = None;
    request.response_partition_limit = 2000;
    let response = describe(&mut wire, &request).await;
    let first = &response.topics[0].partitions[0];
    assert_eq!(first.leader_id, 1);
    assert_eq!(first.eligible_leader_replicas.as_deref(), Some(&[][..]));
    assert_eq!(response.next_cursor.unwrap().partition_index, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_deleted_by_name_and_by_id() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    for version in 1..=5 {
        create(&mut wire, "named", 1).await;
        let request = DeleteTopicsRequest {
            topic_names: vec!["named".to_owned(), "none".to_owned()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response: DeleteTopicsResponse = wire.ask(version, &request).await;
        let mut got: Vec<_> = response
            .responses
            .iter()
            .map(|r| (r.name.as_deref().unwrap(), code(r.error_code)))
            .collect();
        got.sort();
        let expected = [
            ("named", ErrorCode::None),
            ("none", ErrorCode::UnknownTopicOrPartition),
        ];
        assert_eq!(got, expected);
    }
    let (one, two) = (
        create(&mut wire, "one", 1).await,
        create(&mut wire, "two", 1).await,
    );
    create(&mut wire, "three", 1).await;
    let state = |name: Option<&str>, id: Uuid| DeleteTopicState {
        name: name.map(str::to_owned),
        topic_id: id,
        ..Default::default()
    };
    let request = DeleteTopicsRequest {
        topics: vec![
            state(None, one),
            state(None, two),
            state(Some("two"), Uuid::ZERO),
            state(Some("three"), one),
            state(Some("three"), Uuid::ZERO),
            state(None, Uuid([9; 16])),
            state(None, Uuid::ZERO),
        ],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response: DeleteTopicsResponse = wire.ask(6, &request).await;
    let mut got: Vec<_> = response
        .responses
        .iter()
        .map(|r| (r.name.as_deref().unwrap_or("-"), code(r.error_code)))
        .collect();
    got.sort();
    let expected = [
        ("-", ErrorCode::InvalidRequest),
        ("-", ErrorCode::UnknownTopicId),
        ("one", ErrorCode::None),
        ("three", ErrorCode::None),
        ("three", ErrorCode::InvalidRequest),
        ("two", ErrorCode::InvalidRequest),
    ];
    assert_eq!(got, expected);
}
