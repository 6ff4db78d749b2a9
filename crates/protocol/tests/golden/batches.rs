//! Record sets that Kafka wrote, sound ones and broken ones.

use millrace_model::Timestamp;
use millrace_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchOptions, ControlType, RawBatch, Record,
    RecordHeader, TimestampType, batches, rewritten,
};
use millrace_protocol::compression::{Compression, CompressionError};
use serde_json::Value;

use crate::{hex, lines, unhex};

const LIMIT: usize = 1 << 20;

#[test]
fn sound_ones_read_as_kafka_reads_them() {
    let lines = lines("batches-valid");
    assert_eq!(lines.len(), 63);
    for line in lines {
        let bytes = unhex(line["hex"].as_str().expect("bytes"));
        let found: Result<Vec<_>, _> = batches(&bytes).collect();
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", line["name"]));
        let expected = line["batches"].as_array().expect("batches");
        assert_eq!(found.len(), expected.len(), "{}", line["name"]);
        for (batch, expected) in found.iter().zip(expected) {
            assert_eq!(batch.check(), Ok(()), "{}", line["name"]);
            check_facts(batch, expected);
            check_records(batch, expected);
            if batch.magic == 2 {
                check_rebuilt(batch, expected);
            }
        }
    }
}

fn check_facts(batch: &RawBatch<'_>, expected: &Value) {
    assert_eq!(i64::from(batch.magic), expected["magic"]);
    assert_eq!(batch.bytes.len() as u64, expected["sizeInBytes"]);
    assert_eq!(
        batch.last_offset().expect("sound").get(),
        expected["lastOffset"]
    );
    assert_eq!(
        batch.max_timestamp().expect("sound").get(),
        expected["maxTimestamp"]
    );
    if batch.magic < 2 {
        return;
    }
    let header = batch.header().expect("sound");
    assert_eq!(header.size, batch.bytes.len());
    assert_eq!(header.to_bytes()[..], batch.bytes[..61]);
    let numbers: [(i64, &str); 14] = [
        (header.base_offset.get(), "baseOffset"),
        (header.next_offset().get(), "nextOffset"),
        (header.crc.into(), "crc"),
        (header.attributes.into(), "attributes"),
        (header.last_offset_delta.into(), "lastOffsetDelta"),
        (header.base_timestamp.get(), "rawBaseTimestamp"),
        (header.max_timestamp.get(), "rawMaxTimestamp"),
        (header.base_timestamp.get(), "baseTimestamp"),
        (header.leader_epoch.get().into(), "partitionLeaderEpoch"),
        (header.producer_id.get(), "producerId"),
        (header.producer_epoch.get().into(), "producerEpoch"),
        (header.base_sequence.get().into(), "baseSequence"),
        (header.last_sequence().get().into(), "lastSequence"),
        (header.record_count.into(), "count"),
    ];
    for (ours, name) in numbers {
        assert_eq!(ours, expected[name], "{name}");
    }
    assert_eq!(header.is_transactional(), expected["transactional"]);
    assert_eq!(header.is_control(), expected["control"]);
    assert_eq!(
        header.delete_horizon().map(Timestamp::get),
        expected["deleteHorizonMs"].as_i64()
    );
    assert_eq!(
        header.compression().expect("known").name(),
        expected["compression"]
    );
    let timestamp_type = match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    assert_eq!(timestamp_type, expected["timestampType"]);
}

fn check_records(batch: &RawBatch<'_>, expected: &Value) {
    let set = batch.records(LIMIT).expect("sound");
    let records: Result<Vec<_>, _> = set.iter().collect();
    let records = records.expect("sound");
    let expected = expected["records"].as_array().expect("records");
    assert_eq!(records.len(), expected.len());
    for (record, expected) in records.iter().zip(expected) {
        assert_eq!(record.offset.get(), expected["offset"]);
        assert_eq!(record.timestamp.get(), expected["timestamp"]);
        assert_eq!(record.key.map(hex).as_deref(), expected["key"].as_str());
        match expected.get("valueSize") {
            Some(size) => assert_eq!(record.value.map_or(0, <[u8]>::len) as u64, *size),
            None => assert_eq!(record.value.map(hex).as_deref(), expected["value"].as_str()),
        }
        if batch.magic == 2 {
            assert_eq!(i64::from(record.sequence.get()), expected["sequence"]);
            assert_eq!(record.size as u64, expected["sizeInBytes"]);
            check_headers(record, expected);
        }
    }
}

fn check_headers(record: &Record<'_>, expected: &Value) {
    let none = Vec::new();
    let expected_headers = expected
        .get("headers")
        .map_or(&none, |h| h.as_array().expect("array"));
    let headers: Vec<_> = record.headers().collect();
    assert_eq!(headers.len(), expected_headers.len());
    for (header, expected) in headers.iter().zip(expected_headers) {
        assert_eq!(str::from_utf8(header.key).ok(), expected[0].as_str());
        assert_eq!(header.value.map(hex).as_deref(), expected[1].as_str());
    }
    if let Some(control) = expected.get("controlType") {
        let ours = ControlType::of_key(record.key.expect("a key")).expect("a control record");
        let name = format!("{ours:?}").to_uppercase();
        assert_eq!(name, control.as_str().expect("a name").replace('_', ""));
        assert_eq!(ours.key()[..], record.key.expect("a key")[..4]);
    }
}

/// The same records through our builder give the same bytes; through another codec, the same
/// records.
fn check_rebuilt(batch: &RawBatch<'_>, expected: &Value) {
    let header = batch.header().expect("sound");
    let set = batch.records(LIMIT).expect("sound");
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let packed = rewritten(batch.bytes, codec, None).expect("sound");
        let again = RawBatch {
            bytes: &packed,
            magic: 2,
        };
        assert_eq!(again.check(), Ok(()));
        check_records(&again, expected);
    }
    let plain = header.compression() == Ok(Compression::None);
    if !plain || header.record_count == 0 || header.delete_horizon().is_some() {
        return;
    }
    let mut builder = BatchBuilder::new(BatchOptions {
        timestamp_type: header.timestamp_type(),
        append_time: header.max_timestamp,
        base_offset: header.base_offset,
        leader_epoch: header.leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: header.is_control(),
        ..BatchOptions::default()
    });
    for record in set.iter() {
        let record = record.expect("sound");
        let delta = (record.offset.get() - header.base_offset.get()) as i32;
        let headers: Vec<RecordHeader<'_>> = record.headers().collect();
        // The first record's own time is the base timestamp, also under log append time.
        let time = match header.timestamp_type() {
            TimestampType::CreateTime => record.timestamp,
            TimestampType::LogAppendTime => {
                Timestamp(header.base_timestamp.get() + i64::from(delta))
            }
        };
        builder.push_at(delta, time, record.key, record.value, &headers);
    }
    let rebuilt = builder.build().expect("memory is there");
    let last_gone = i64::from(header.last_offset_delta) + 1 > i64::from(header.record_count);
    if !last_gone {
        assert_eq!(hex(&rebuilt), hex(batch.bytes));
    }
}

#[test]
fn broken_ones_fail_where_kafka_fails() {
    let lines = lines("batches-invalid");
    assert_eq!(lines.len(), 27);
    for line in lines {
        let bytes = unhex(line["hex"].as_str().expect("bytes"));
        let (read, records, failed_at) = read_all(&bytes);
        let name = line["name"].as_str().expect("a name");
        assert_eq!(failed_at, line["kafka_fails_at"].as_str(), "{name}");
        assert_eq!(read, line["batches_read"], "{name}");
        assert_eq!(records, line["records_read"], "{name}");
    }
}

/// Batches and records read before the first failure, and the step that failed.
fn read_all(bytes: &[u8]) -> (u64, u64, Option<&'static str>) {
    let (mut read, mut count) = (0, 0);
    for batch in batches(bytes) {
        let Ok(batch) = batch else {
            return (read, count, Some("split"));
        };
        if batch.check().is_err() {
            return (read, count, Some("ensureValid"));
        }
        read += 1;
        let Ok(set) = batch.records(LIMIT) else {
            return (read, count, Some("records"));
        };
        for record in set.iter() {
            if record.is_err() {
                return (read, count, Some("records"));
            }
            count += 1;
        }
    }
    (read, count, None)
}

#[test]
fn a_bomb_is_refused() {
    let mut builder = BatchBuilder::compressed(Compression::Zstd);
    builder.push(Timestamp(1), None, Some(&vec![0; LIMIT]), &[]);
    let batch = builder.build().expect("memory is there");
    assert!(batch.len() < 300);
    let refused = RawBatch {
        bytes: &batch,
        magic: 2,
    }
    .records(LIMIT)
    .err();
    assert_eq!(
        refused,
        Some(BatchError::Compression(CompressionError::TooLarge(LIMIT)))
    );
}

#[test]
fn a_header_needs_all_its_bytes() {
    let batch = BatchBuilder::compressed(Compression::None)
        .build()
        .expect("memory is there");
    for length in 0..batch.len() {
        assert_eq!(
            BatchHeader::parse(&batch[..length]).err(),
            Some(BatchError::CutOff)
        );
    }
}
