//! The metadata quorum is described, and leaders are elected.

use millrace_protocol::messages::describe_quorum_request::{
    DescribeQuorumRequest, PartitionData, TopicData,
};
use millrace_protocol::messages::describe_quorum_response::DescribeQuorumResponse;
use millrace_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use millrace_protocol::messages::elect_leaders_response::ElectLeadersResponse;

use crate::support::node::TestNode;
use crate::topics::create;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quorum_is_described_on_both_kinds_of_listeners() {
    let node = TestNode::start("").await;
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".to_owned(),
            partitions: vec![PartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    for listener in ["PLAINTEXT", "CONTROLLER"] {
        let mut wire = node.connect_to(listener).await;
        for version in 0..=2 {
            let response: DescribeQuorumResponse = wire.ask(version, &request).await;
            let partition = &response.topics[0].partitions[0];
            assert_eq!((response.error_code, partition.error_code), (0, 0));
            assert_eq!(partition.leader_id, 1);
            assert!(partition.high_watermark > 0);
            assert_eq!(partition.current_voters.len(), 1);
            let leader = &partition.current_voters[0];
            assert_eq!(leader.log_end_offset, partition.high_watermark);
            assert_eq!(leader.last_caught_up_timestamp > 0, version >= 1);
            if version >= 2 {
                assert_eq!(response.nodes[0].node_id, 1);
                let known = &response.nodes[0].listeners[0];
                assert_eq!(known.name, "CONTROLLER");
                assert_eq!(Some(known.port), node.broker.port("CONTROLLER"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections_are_held_where_they_are_needed() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    let named = |topic: &str, partitions: &[i32]| TopicPartitions {
        topic: topic.to_owned(),
        partitions: partitions.to_vec(),
        ..Default::default()
    };
    for version in 0..=2 {
        let mut request = ElectLeadersRequest {
            topic_partitions: Some(vec![named("t", &[0, 5]), named("nowhere", &[0])]),
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response: ElectLeadersResponse = wire.ask(version, &request).await;
        let results = response.replica_election_results.iter();
        let results = results.flat_map(|topic| &topic.partition_result);
        let results: Vec<_> = results
            .map(|result| {
                (
                    result.error_code,
                    result.error_message.as_deref().unwrap_or(""),
                )
            })
            .collect();
        let expected = [
            (84, "Leader election not needed for topic partition."),
            (3, "No such partition as t-5"),
            (3, "No such topic as nowhere"),
        ];
        assert_eq!(results, expected);
        request.topic_partitions = None;
        let response: ElectLeadersResponse = wire.ask(version, &request).await;
        assert_eq!(response, ElectLeadersResponse::default());
    }
}
