//! Batches of producers, in the order of their sequences.

use std::time::Instant;

use millrace_model::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp, limits};
use millrace_protocol::batch::BatchBuilder;
use millrace_protocol::compression::Compression;
use millrace_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millrace_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

/// Produce by topic name.
const BY_NAME: i16 = 12;

fn batch(producer: i64, sequence: i32) -> Vec<u8> {
    let mut batch = BatchBuilder::compressed(Compression::None);
    batch.push(Timestamp(1_000), None, Some(b"value"), &[]);
    let (id, epoch) = (ProducerId(producer), ProducerEpoch(0));
    batch.number(id, epoch, Sequence(sequence));
    batch.build().unwrap().to_vec()
}

/// Sends one record of a producer to a partition, and does not wait.
async fn send(wire: &mut Wire, topic: &str, index: i32, producer: i64, sequence: i32) -> i32 {
    let records = batch(producer, sequence);
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            partition_data: vec![PartitionProduceData {
                index,
                records: Some(&records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.send(BY_NAME, &request).await
}

/// The offset that was given, or the error.
async fn answer(wire: &mut Wire, sent: i32) -> Result<i64, ErrorCode> {
    let response: ProduceResponse = wire.receive(BY_NAME, sent).await;
    let partition = &response.responses[0].partition_responses[0];
    match partition.error_code {
        0 => Ok(partition.base_offset),
        code => Err(ErrorCode::from_code(code).unwrap()),
    }
}

async fn produce(
    wire: &mut Wire,
    topic: &str,
    producer: i64,
    sequence: i32,
) -> Result<i64, ErrorCode> {
    let sent = send(wire, topic, 0, producer, sequence).await;
    answer(wire, sent).await
}

/// What becomes of the second batch when the first was refused only because this broker did not
/// know the partition yet, as is so while a topic is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_batch_is_taken_before_one_that_was_refused() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    let unknown = Err(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(produce(&mut wire, "t", 7, 0).await, unknown);
    create(&mut wire, "t", 1).await;
    let out_of_turn = Err(ErrorCode::NotLeaderOrFollower);
    assert_eq!(produce(&mut wire, "t", 7, 1).await, out_of_turn);
    assert_eq!(produce(&mut wire, "t", 8, 1).await, Ok(0), "of another one");
    assert_eq!(produce(&mut wire, "t", 7, 0).await, Ok(1));
    assert_eq!(produce(&mut wire, "t", 7, 1).await, Ok(2));
    assert_eq!(produce(&mut wire, "t", 7, 1).await, Ok(2), "a duplicate");
    let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(produce(&mut wire, "t", 7, 3).await, out_of_order);
    assert_eq!(produce(&mut wire, "t", 7, 2).await, Ok(3));
}

/// A producer goes on with its sequences though the topic is another one now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_takes_any_sequence() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    assert_eq!(produce(&mut wire, "t", 7, 0).await, Ok(0));
    assert_eq!(produce(&mut wire, "t", 7, 1).await, Ok(1));
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some("t".to_owned()),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response: DeleteTopicsResponse = wire.ask(6, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
    let unknown = Err(ErrorCode::UnknownTopicOrPartition);
    for sequence in [2, 3] {
        assert_eq!(produce(&mut wire, "t", 7, sequence).await, unknown);
    }
    create(&mut wire, "t", 1).await;
    let out_of_turn = Err(ErrorCode::NotLeaderOrFollower);
    assert_eq!(produce(&mut wire, "t", 7, 3).await, out_of_turn);
    assert_eq!(produce(&mut wire, "t", 7, 2).await, Ok(0));
    assert_eq!(produce(&mut wire, "t", 7, 3).await, Ok(1));
}

/// The logs of a new topic are being opened when its first batches come; nobody is refused for
/// that before the time that a broker has to take up a leadership is over, and the order stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_wait_for_a_log_that_is_being_opened() {
    const PARTITIONS: i32 = 60;
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    let began = Instant::now();
    create(&mut wire, "t", PARTITIONS).await;
    let mut sent = Vec::new();
    // The last is opened last.
    for index in (0..PARTITIONS).rev() {
        for sequence in 0..2 {
            let id = send(&mut wire, "t", index, 7, sequence).await;
            sent.push((id, sequence));
        }
    }
    for (id, sequence) in sent {
        match answer(&mut wire, id).await {
            // A slow disk.
            Err(ErrorCode::NotLeaderOrFollower) if began.elapsed() > limits::LEADERSHIP_WAIT => {}
            answer => assert_eq!(answer, Ok(i64::from(sequence))),
        }
    }
}
