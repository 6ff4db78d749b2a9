//! Metadata in all its versions, and the topics it makes.

use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};

use crate::support::node::{CLUSTER_ID, TestNode};
use crate::support::wire::Wire;
use crate::topics::create;

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

fn identified(id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: None,
        topic_id: id,
        ..Default::default()
    }
}

fn about(topics: Vec<MetadataRequestTopic>) -> MetadataRequest {
    MetadataRequest {
        topics: Some(topics),
        ..Default::default()
    }
}

async fn ask(wire: &mut Wire, version: i16, request: &MetadataRequest) -> MetadataResponse {
    wire.ask(version, request).await
}

fn codes(response: &MetadataResponse) -> Vec<(Option<&str>, ErrorCode)> {
    let code = |topic: &MetadataResponseTopic| ErrorCode::from_code(topic.error_code).unwrap();
    let topics = response.topics.iter();
    let codes = topics.map(|topic| (topic.name.as_deref(), code(topic)));
    codes.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_tells_of_brokers_and_topics() {
    let node = TestNode::start("auto.create.topics.enable=false\nbroker.rack=r1\n").await;
    let mut wire = node.connect().await;
    create(&mut wire, "some.topic", 2).await;
    for version in 0..=13 {
        let request = about(vec![named("some.topic"), named("none"), named("wr/ng")]);
        let response = ask(&mut wire, version, &request).await;
        let expected = [
            (Some("some.topic"), ErrorCode::None),
            (Some("none"), ErrorCode::UnknownTopicOrPartition),
            (Some("wr/ng"), ErrorCode::InvalidTopicException),
        ];
        assert_eq!(codes(&response), expected, "version {version}");
        assert_eq!(response.topics[0].topic_id.is_zero(), version < 10);
        let [broker] = response.brokers.as_slice() else {
            panic!("one broker: {response:?}");
        };
        let port = node.broker.port("PLAINTEXT").unwrap();
        assert_eq!((broker.node_id, broker.port), (1, i32::from(port)));
        assert_eq!(broker.rack.as_deref(), (version >= 1).then_some("r1"));
        let cluster_id = (version >= 2).then_some(CLUSTER_ID);
        assert_eq!(response.cluster_id.as_deref(), cluster_id);
        assert_eq!(response.controller_id, if version >= 1 { 1 } else { -1 });
        let partitions = &response.topics[0].partitions;
        assert_eq!(partitions.len(), 2);
        for (index, partition) in partitions.iter().enumerate() {
            assert_eq!(partition.error_code, 0);
            assert_eq!(partition.partition_index, index as i32);
            assert_eq!(partition.leader_id, 1);
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert_eq!(partition.replica_nodes, [1]);
            assert_eq!(partition.isr_nodes, [1]);
            assert!(partition.offline_replicas.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_none_and_topics_by_id() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "known", 1).await;
    let all = MetadataRequest {
        topics: None,
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    let response = ask(&mut wire, 12, &all).await;
    assert_eq!(codes(&response), [(Some("known"), ErrorCode::None)]);
    assert_eq!(response.topics[0].topic_authorized_operations, 3_576);
    let id = response.topics[0].topic_id;

    let response = ask(&mut wire, 0, &about(vec![])).await;
    assert_eq!(response.topics.len(), 1, "the first version means all");
    let response = ask(&mut wire, 1, &about(vec![])).await;
    assert!(response.topics.is_empty());

    let other = Uuid([7; 16]);
    let request = about(vec![identified(id), identified(other)]);
    let response = ask(&mut wire, 12, &request).await;
    let expected = [
        (Some("known"), ErrorCode::None),
        (None, ErrorCode::UnknownTopicId),
    ];
    assert_eq!(codes(&response), expected);
    let response = ask(&mut wire, 12, &about(vec![identified(Uuid::ZERO)])).await;
    assert_eq!(codes(&response), [(Some(""), ErrorCode::InvalidRequest)]);
    let both = MetadataRequestTopic {
        topic_id: id,
        ..named("known")
    };
    let response = ask(&mut wire, 10, &about(vec![both])).await;
    let expected = [(Some("known"), ErrorCode::InvalidRequest)];
    assert_eq!(codes(&response), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_made_when_all_agree() {
    let node = TestNode::start("num.partitions=3\n").await;
    let mut wire = node.connect().await;
    let request = MetadataRequest {
        allow_auto_topic_creation: false,
        ..about(vec![named("new")])
    };
    let unknown = [(Some("new"), ErrorCode::UnknownTopicOrPartition)];
    let response = ask(&mut wire, 13, &request).await;
    assert_eq!(codes(&response), unknown);
    let request = about(vec![named("new"), named("wr/ng"), named("new")]);
    let response = ask(&mut wire, 13, &request).await;
    let expected = [
        (Some("new"), ErrorCode::None),
        (Some("wr/ng"), ErrorCode::InvalidTopicException),
    ];
    assert_eq!(codes(&response), expected);
    assert_eq!(response.topics[0].partitions.len(), 3);
    let internal = ask(&mut wire, 13, &about(vec![named("__consumer_offsets")])).await;
    assert!(internal.topics[0].is_internal);
}
