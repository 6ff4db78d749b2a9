//! DescribeCluster, on both kinds of listeners.

use millrace_model::ErrorCode;
use millrace_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use millrace_protocol::messages::describe_cluster_response::DescribeClusterResponse;

use crate::support::node::{CLUSTER_ID, TestNode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_of_nodes_of_the_listeners_kind() {
    let node = TestNode::start("").await;
    for (listener, kind) in [("PLAINTEXT", 1), ("CONTROLLER", 2)] {
        let mut wire = node.connect_to(listener).await;
        for version in 1..=2 {
            let mut request = DescribeClusterRequest {
                endpoint_type: kind,
                include_cluster_authorized_operations: true,
                ..Default::default()
            };
            let response: DescribeClusterResponse = wire.ask(version, &request).await;
            assert_eq!(response.error_code, 0);
            assert_eq!(response.endpoint_type, kind);
            assert_eq!(response.cluster_id, CLUSTER_ID);
            assert_eq!(response.controller_id, 1);
            assert_eq!(response.cluster_authorized_operations, 8_096);
            let [told] = response.brokers.as_slice() else {
                panic!("one node: {response:?}");
            };
            assert_eq!(told.broker_id, 1);
            assert_eq!(told.host, "127.0.0.1");
            let port = node.broker.port(listener).unwrap();
            assert_eq!(told.port, i32::from(port));

            request.endpoint_type = 3 - kind;
            let response: DescribeClusterResponse = wire.ask(version, &request).await;
            let mismatch = ErrorCode::MismatchedEndpointType.code();
            assert_eq!(response.error_code, mismatch);
            request.endpoint_type = 9;
            let response: DescribeClusterResponse = wire.ask(version, &request).await;
            let unsupported = ErrorCode::UnsupportedEndpointType.code();
            assert_eq!(response.error_code, unsupported);
        }
    }
}
