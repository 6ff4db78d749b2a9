//! Record batches that no client should send: Kafka's error for each, and nothing of them stored.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::admin::{Admin, NewTopic};
use millrace_testkit::batch::{at, batch, seal};
use millrace_testkit::{Cluster, Options, Wire, wait};

const TOPIC: &str = "batches";

fn produce(wire: &mut Wire, topic: &str, partition: i32, records: Vec<u8>) -> Result<i16, String> {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::from(records)));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5000)
        .with_topic_data(vec![topic]);
    let answer = wire.call(&request, 9).map_err(|error| error.to_string())?;
    Ok(answer.responses[0].partition_responses[0].error_code)
}

fn doctored(doctor: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch(&[b"one", b"two"]);
    doctor(&mut bytes);
    bytes
}

/// Name, bytes, and the error that stock Kafka 4.3 answers with.
fn cases() -> Vec<(&'static str, Vec<u8>, i16)> {
    let sealed = |doctor: fn(&mut Vec<u8>)| {
        doctored(|bytes| {
            doctor(bytes);
            seal(bytes);
        })
    };
    vec![
        ("sound", batch(&[b"one"]), 0),
        (
            "a flipped bit",
            doctored(|bytes| *bytes.last_mut().expect("it is not empty") ^= 1),
            2,
        ),
        ("a wrong checksum", doctored(|bytes| bytes[at::CRC] ^= 1), 2),
        ("magic 9", doctored(|bytes| bytes[at::MAGIC] = 9), 2),
        ("magic 1", doctored(|bytes| bytes[at::MAGIC] = 1), 87),
        (
            "a batch larger than the topic takes",
            batch(&[&[b'x'; 200_000]]),
            10,
        ),
        (
            "two batches",
            [batch(&[b"one"]), batch(&[b"two"])].concat(),
            87,
        ),
        ("no batch", Vec::new(), 87),
        (
            "fewer records than announced",
            sealed(|bytes| bytes[at::RECORDS_COUNT + 3] = 3),
            87,
        ),
        (
            "more records than announced",
            sealed(|bytes| bytes[at::RECORDS_COUNT + 3] = 1),
            87,
        ),
        (
            "a wrong last offset",
            sealed(|bytes| bytes[at::LAST_OFFSET_DELTA + 3] = 9),
            87,
        ),
        (
            "a control batch",
            sealed(|bytes| bytes[at::ATTRIBUTES + 1] = 0x20),
            87,
        ),
        (
            "the end cut off",
            doctored(|bytes| bytes.truncate(bytes.len() - 4)),
            87,
        ),
        ("half a header", doctored(|bytes| bytes.truncate(30)), 87),
    ]
}

#[test]
fn batches_that_are_unsound_are_refused_with_the_error_of_kafka() {
    let cluster = Cluster::start(&Options::three().nodes(1));
    let topic = NewTopic {
        name: TOPIC,
        assignment: vec![vec![1]],
        partitions: 1,
        replication: 1,
        configs: vec![("max.message.bytes", "100000")],
    };
    cluster.admin().create_topic(&topic).expect("a live broker");
    cluster.wait_in_sync(TOPIC, Duration::from_secs(30));
    let port = cluster.node(1).client_port();
    // The metadata know the leader a moment before its log is there.
    wait::until(
        "partition 0 is served",
        Duration::from_secs(30),
        || match Admin::list_offset(port, TOPIC, 0, -1) {
            Ok(listed) if listed.error == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    let mut witness = Wire::connect(port, Duration::from_secs(10)).expect("it listens");
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases() {
        let mut wire = Wire::connect(port, Duration::from_secs(10)).expect("it listens");
        let answered = produce(&mut wire, TOPIC, 0, bytes);
        if answered != Ok(expected) {
            wrong.push(format!("{name}: {answered:?} instead of {expected}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Stock Kafka answers UNKNOWN_SERVER_ERROR here, which makes clients send it again.
    let mut unknown_codec = batch(&[b"one"]);
    unknown_codec[at::ATTRIBUTES + 1] = 7;
    seal(&mut unknown_codec);
    let mut wire = Wire::connect(port, Duration::from_secs(10)).expect("it listens");
    let answered = produce(&mut wire, TOPIC, 0, unknown_codec);
    let refusals: &[i16] = if cluster.system().is_millrace() {
        &[2, 76, 87]
    } else {
        &[-1]
    };
    assert!(
        answered
            .as_ref()
            .is_ok_and(|error| refusals.contains(error)),
        "{answered:?}"
    );
    let end = Admin::list_offset(port, TOPIC, 0, -1).expect("a live broker");
    assert_eq!(end.offset, 1, "only the sound one is stored");
    assert_eq!(
        produce(&mut witness, TOPIC, 0, batch(&[b"after all"])),
        Ok(0)
    );
    assert_eq!(produce(&mut witness, TOPIC, 7, batch(&[b"nowhere"])), Ok(3));
    assert_eq!(
        produce(&mut witness, "nowhere", 0, batch(&[b"nowhere"])),
        Ok(3)
    );
}
