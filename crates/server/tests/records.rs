//! Records are deleted: by a client, and by retention.

use millrace_model::Timestamp;
use millrace_protocol::batch::BatchBuilder;
use millrace_protocol::compression::Compression;
use millrace_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millrace_protocol::messages::delete_records_response::DeleteRecordsResponse;
use millrace_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millrace_protocol::messages::list_offsets_response::ListOffsetsResponse;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::{create, create_with};

const EARLIEST: i64 = -2;

/// Appends a batch of three records of this age, and returns its first offset.
pub async fn produce(wire: &mut Wire, topic: &str, timestamp: i64) -> i64 {
    let mut batch = BatchBuilder::compressed(Compression::None);
    for n in 0..3 {
        batch.push(Timestamp(timestamp), None, Some(&[n; 100]), &[]);
    }
    let records = batch.build().unwrap();
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            partition_data: vec![PartitionProduceData {
                records: Some(&records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response: ProduceResponse = wire.ask(9, &request).await;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{partition:?}");
    partition.base_offset
}

async fn earliest(wire: &mut Wire, topic: &str) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition {
                timestamp: EARLIEST,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response: ListOffsetsResponse = wire.ask(9, &request).await;
    response.topics[0].partitions[0].offset
}

async fn delete(wire: &mut Wire, version: i16, topic: &str, offset: i64) -> (i16, i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response: DeleteRecordsResponse = wire.ask(version, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.low_watermark)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_deletes_records() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    for n in 0..4 {
        assert_eq!(produce(&mut wire, "t", 1_000).await, n * 3);
    }
    for version in 0..=2 {
        let to = 4 + i64::from(version);
        assert_eq!(delete(&mut wire, version, "t", to).await, (0, to));
        assert_eq!(earliest(&mut wire, "t").await, to);
    }
    // Nothing moves back, and what is not there cannot go.
    assert_eq!(delete(&mut wire, 2, "t", 5).await, (0, 6));
    assert_eq!(delete(&mut wire, 2, "t", 13).await, (1, -1));
    assert_eq!(delete(&mut wire, 2, "t", -5).await, (1, -1));
    assert_eq!(delete(&mut wire, 2, "unknown", 1).await, (3, -1));
    assert_eq!(delete(&mut wire, 2, "t", -1).await, (0, 12));
    assert_eq!(earliest(&mut wire, "t").await, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_records_go_by_themselves() {
    let properties = "log.retention.check.interval.ms=50\nlog.initial.task.delay.ms=0\n\
                      log.retention.hours=1\n";
    let node = TestNode::start(properties).await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    produce(&mut wire, "t", 1_000).await;
    while earliest(&mut wire, "t").await < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Sends batches of one record of this key, or none.
async fn produce_keyed(wire: &mut Wire, topic: &str, key: Option<&[u8]>, value: &[u8]) -> i16 {
    let mut batch = BatchBuilder::compressed(Compression::None);
    batch.push(Timestamp(1_000), key, Some(value), &[]);
    let records = batch.build().unwrap();
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            partition_data: vec![PartitionProduceData {
                records: Some(&records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    loop {
        let response: ProduceResponse = wire.ask(9, &request).await;
        let error = response.responses[0].partition_responses[0].error_code;
        // A topic that was just created may have no leader yet.
        if error != 6 {
            return error;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_keeps_the_newest_of_each_key() {
    let properties = "log.cleaner.backoff.ms=50\nlog.segment.delete.delay.ms=0\n\
                      log.cleaner.min.cleanable.ratio=0.01\nlog.message.timestamp.type=CreateTime\n";
    let node = TestNode::start(properties).await;
    let mut wire = node.connect().await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "2000"),
    ];
    create_with(&mut wire, "c", &configs).await;
    assert_eq!(
        produce_keyed(&mut wire, "c", None, b"").await,
        87,
        "INVALID_RECORD"
    );
    for n in 0..60u8 {
        assert_eq!(
            produce_keyed(&mut wire, "c", Some(&[n % 3]), &[n; 100]).await,
            0
        );
    }
    let log_size = || {
        let files = std::fs::read_dir(node.path().join("c-0"))
            .unwrap()
            .flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|e| e == "log"));
        logs.map(|file| file.metadata().map_or(0, |m| m.len()))
            .sum::<u64>()
    };
    // Some 11,000 bytes were written; what is compacted has three records, and the rest one segment.
    while log_size() > 3_500 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Deleting by offset is not for topics that are only compacted.
    assert_eq!(
        delete(&mut wire, 2, "c", 5).await,
        (44, -1),
        "POLICY_VIOLATION"
    );
    assert_eq!(earliest(&mut wire, "c").await, 0);
}
