//! What the codec costs on the data path: reading a Produce request, checking a batch, writing a
//! Fetch response. `cargo bench -p millrace-protocol`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench may end where it fails, and criterion makes undocumented items"
)]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use millrace_model::{ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use millrace_protocol::batch::{
    BatchBuilder, BatchOptions, Origin, Rules, SoleBatch, TimestampType,
};
use millrace_protocol::compression::Compression;
use millrace_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData,
};
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::{Decode, Message, Reader, Writer};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const PARTITIONS: i32 = 12;
/// Bytes of a batch before compression, as producers fill them by default.
const BATCH_BYTES: usize = 16_000;

/// A batch of an idempotent producer.
fn batch(record_bytes: usize, compression: Compression) -> BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        producer_id: ProducerId(1),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(7),
        ..BatchOptions::default()
    });
    // Random letters compress by a third or so, as text does.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'A' + (state >> 33).rem_euclid(26) as u8
    };
    while builder.size() + record_bytes < BATCH_BYTES {
        let letters: Vec<u8> = (0..record_bytes).map(|_| letter()).collect();
        builder.push(NOW, None, Some(&letters), &[]);
    }
    builder.build().unwrap()
}

fn decode_produce(c: &mut Criterion) {
    let batch = batch(1000, Compression::None);
    let partition = |index| PartitionProduceData {
        index,
        records: Some(&batch),
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            topic_id: Uuid([7; 16]),
            partition_data: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let body = request.to_bytes(13).unwrap();
    c.bench_function("decode Produce of 12 batches", |b| {
        b.iter(|| {
            let mut reader = Reader::new(black_box(&body));
            let request = ProduceRequest::decode(&mut reader, 13).unwrap();
            black_box(request.topic_data.len())
        });
    });
}

fn encode_fetch(c: &mut Criterion) {
    let records = Bytes::from(vec![7; 64 << 10]);
    let partition = |index| PartitionData {
        partition_index: index,
        records: Some(records.clone().into()),
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    c.bench_function("encode Fetch of 12 partitions", |b| {
        b.iter(|| {
            let mut writer = Writer::framed(256);
            black_box(&response).encode(&mut writer, 17).unwrap();
            black_box(writer.into_segments())
        });
    });
}

fn validate_batch(c: &mut Criterion) {
    let origin = Origin::Client {
        produce_version: 13,
    };
    let rules = Rules {
        partition: &"topic-0",
        max_message_bytes: 1 << 20,
        compacted: false,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        now: NOW,
    };
    let mut group = c.benchmark_group("validate a batch");
    for (name, record_bytes, compression) in [
        ("of 1 KB records", 1000, Compression::None),
        ("of 100 B records", 100, Compression::None),
        ("of 1 KB records, lz4", 1000, Compression::Lz4),
    ] {
        let batch = batch(record_bytes, compression);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| {
                    SoleBatch::of(batch, origin)
                        .unwrap()
                        .validate(&rules)
                        .unwrap()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = codec;
    config = quick();
    targets = decode_produce, encode_fetch, validate_batch
}
criterion_main!(codec);
