//! Old clients ask in old versions: what is answered, is answered in every version advertised.

use millrace_model::{Timestamp, Uuid};
use millrace_protocol::Message;
use millrace_protocol::batch::BatchBuilder;
use millrace_protocol::compression::Compression;
use millrace_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millrace_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use millrace_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use millrace_protocol::messages::describe_log_dirs_response::DescribeLogDirsResponse;
use millrace_protocol::messages::describe_quorum_request::{self, DescribeQuorumRequest};
use millrace_protocol::messages::describe_quorum_response::DescribeQuorumResponse;
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::fetch_response::FetchResponse;
use millrace_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use millrace_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use millrace_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use millrace_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millrace_protocol::messages::list_offsets_response::ListOffsetsResponse;
use millrace_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millrace_protocol::messages::offset_for_leader_epoch_response::OffsetForLeaderEpochResponse;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

const TOPIC: &str = "old";
/// In each batch; their timestamps are 1, 2 and 3.
const RECORDS: i64 = 3;

fn batch() -> Vec<u8> {
    let mut batch = BatchBuilder::compressed(Compression::Gzip);
    for number in 1..=RECORDS {
        let value = format!("value {number}");
        batch.push(Timestamp(number), None, Some(value.as_bytes()), &[]);
    }
    batch.build().unwrap().to_vec()
}

async fn produces(wire: &mut Wire, id: Uuid) -> i64 {
    let records = batch();
    let mut end = 0;
    for version in 3..=13 {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: if version < 13 { TOPIC } else { "" },
                topic_id: if version < 13 { Uuid::ZERO } else { id },
                partition_data: vec![PartitionProduceData {
                    records: Some(&records),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: ProduceResponse = wire.ask(version, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, end));
        end += RECORDS;
    }
    end
}

async fn fetches(wire: &mut Wire, id: Uuid, end: i64) {
    for version in 4..=18 {
        let request = FetchRequest {
            max_wait_ms: 1_000,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: if version < 13 { TOPIC } else { "" },
                topic_id: if version < 13 { Uuid::ZERO } else { id },
                partitions: vec![FetchPartition {
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: FetchResponse = wire.ask(version, &request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, end));
        assert!(!partition.records.as_ref().unwrap().is_empty(), "{version}");
    }
}

fn offset_at(timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.to_owned(),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The metadata know a new partition's leader a moment before its log is open there.
async fn wait_until_served(wire: &mut Wire) {
    let served = async {
        loop {
            let response: ListOffsetsResponse = wire.ask(7, &offset_at(-1)).await;
            if response.topics[0].partitions[0].error_code == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, served).await.unwrap();
}

async fn lists_offsets(wire: &mut Wire, end: i64) {
    for version in 1..=11 {
        for (asked, timestamp, offset) in [
            (-1, -1, end),
            (-2, -1, 0),
            (0, 1, 0),
            (2, 2, 1),
            (9, -1, -1),
        ] {
            let request = offset_at(asked);
            let response: ListOffsetsResponse = wire.ask(version, &request).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!(
                (found.error_code, found.timestamp, found.offset),
                (0, timestamp, offset),
                "{version}"
            );
            let epoch = i32::from(version < 4 || offset < 0);
            assert_eq!(found.leader_epoch, -epoch, "{version}");
        }
    }
}

async fn finds_epochs(wire: &mut Wire, end: i64) {
    for version in 2..=4 {
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: TOPIC.to_owned(),
                partitions: vec![OffsetForLeaderPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: OffsetForLeaderEpochResponse = wire.ask(version, &request).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!((found.error_code, found.end_offset), (0, end));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_data_path_are_answered() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    let id = create(&mut wire, TOPIC, 1).await;
    wait_until_served(&mut wire).await;
    let end = produces(&mut wire, id).await;
    fetches(&mut wire, id, end).await;
    lists_offsets(&mut wire, end).await;
    finds_epochs(&mut wire, end).await;
    for version in 0..=5 {
        let request = InitProducerIdRequest {
            transactional_id: None,
            ..Default::default()
        };
        let response: InitProducerIdResponse = wire.ask(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    }
    for version in 0..=6 {
        let (key, keys) = match version {
            0..=3 => ("group", vec![]),
            _ => ("", vec!["group".to_owned()]),
        };
        let request = FindCoordinatorRequest {
            key: key.to_owned(),
            coordinator_keys: keys,
            ..Default::default()
        };
        let _: FindCoordinatorResponse = wire.ask(version, &request).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_descriptions_are_answered() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, TOPIC, 1).await;
    for version in 0..=2 {
        let request = DescribeQuorumRequest {
            topics: vec![describe_quorum_request::TopicData {
                topic_name: "__cluster_metadata".to_owned(),
                partitions: vec![Default::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: DescribeQuorumResponse = wire.ask(version, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            (partition.leader_id, partition.current_voters.len()),
            (1, 1)
        );
        assert_eq!(response.nodes.is_empty(), version < 2);
    }
    for version in 1..=5 {
        let request = DescribeLogDirsRequest::default();
        let response: DescribeLogDirsResponse = wire.ask(version, &request).await;
        assert_eq!(response.results.len(), 1, "{version}");
    }
    let (first, last) = DescribeConfigsRequest::VERSIONS;
    for version in first..=last {
        let resource = |resource_type, name: &str| DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource(2, TOPIC), resource(4, "1")],
            include_synonyms: true,
            ..Default::default()
        };
        let response: DescribeConfigsResponse = wire.ask(version, &request).await;
        assert!(response.results.iter().all(|result| result.error_code == 0));
    }
}
