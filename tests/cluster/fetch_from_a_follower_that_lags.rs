//! A consumer asks a follower for an offset that the leader has exposed and the follower does not
//! know as committed yet: it is told to wait, never that the offset is out of range. (R16)

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::admin::{Admin, NewTopic};
use millrace_testkit::{Cluster, Options, Wire, wait};
use millrace_tests::load::send_one;

const MINUTE: Duration = Duration::from_secs(60);

fn fetch(port: u16, offset: i64) -> PartitionData {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("lag")))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let mut wire = Wire::connect(port, Duration::from_secs(5)).expect("a live broker");
    let answer = wire.call(&request, 12).expect("an answer");
    answer.responses[0].partitions[0].clone()
}

#[test]
fn fetch_from_a_follower_that_lags() {
    let cluster = Cluster::start(&Options::three().proxied());
    let topic = NewTopic {
        name: "lag",
        assignment: vec![vec![1, 2, 3]],
        partitions: 1,
        replication: 3,
        configs: vec![("min.insync.replicas", "1")],
    };
    cluster
        .admin()
        .create_topic(&topic)
        .expect("a live cluster");
    cluster.wait_in_sync("lag", MINUTE);
    let bootstrap = cluster.bootstrap();
    let [leader, follower] = [1, 3].map(|id| cluster.node(id).client_port());
    send_one(&bootstrap, "lag", 0, b"one", "all").expect("all replicas are there");
    wait::until("the follower to serve what it has", MINUTE, || {
        let answer = fetch(follower, 0);
        match answer.records.map_or(0, |records| records.len()) {
            0 => Err(format!("error {}", answer.error_code)),
            _ => Ok(()),
        }
    });
    // Node 3 no longer hears from the leader; the ISR shrinks, and the leader commits more.
    cluster.links().cut(1, 3);
    wait::until("a second record", MINUTE, || {
        send_one(&bootstrap, "lag", 0, b"two", "all")
    });
    let end = Admin::list_offset(leader, "lag", 0, -1)
        .expect("a live leader")
        .offset;
    assert!(end >= 2);
    let error = fetch(follower, end).error_code;
    // Stock Kafka answers so beyond the end of the follower's own log.
    assert!(
        error != 1 || !cluster.system().is_millrace(),
        "OFFSET_OUT_OF_RANGE for an offset that the leader has exposed"
    );
    cluster.links().heal();
    cluster.wait_in_sync("lag", MINUTE);
    wait::until("the follower to catch up", MINUTE, || {
        match fetch(follower, end).error_code {
            0 => Ok(()),
            error => Err(format!("error {error}")),
        }
    });
}
