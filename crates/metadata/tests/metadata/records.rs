//! The encoding of records: golden bytes, round trips, and what a newer release may have written.

use crate::common::*;
use bytes::Bytes;
use millrace_metadata::{
    Batch, Broker, Controller, DecodeError, FeatureRange, Listener, Partition, PartitionChange,
    Record, Recovery, Resource, UnknownFields,
};
use millrace_model::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Records that use every field, each with the bytes that it must have for ever.
fn golden() -> Vec<(Record, &'static str)> {
    include!("golden/records.in")
}

#[test]
fn records_have_the_bytes_they_always_had() {
    for (record, bytes) in golden() {
        let batch = Batch {
            based_on: ImageVersion(3),
            records: vec![record.clone()],
        };
        assert_eq!(hex(&batch.encode()), bytes, "{}", record.name());
        assert_eq!(Batch::decode(batch.encode()).unwrap(), batch);
    }
}

#[test]
fn every_number_has_a_golden_record() {
    let numbers: Vec<u32> = golden().iter().map(|(r, _)| r.number()).collect();
    assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
}

fn check_refused(bytes: &[u8], why: &str) {
    let refusal = Batch::decode(Bytes::copy_from_slice(bytes)).unwrap_err();
    assert!(refusal.to_string().contains(why), "{refusal}");
}

#[test]
fn what_is_from_the_future_is_named() {
    // A batch of one record: type 4711; then type 1 in version 9.
    check_refused(
        &[0x12, 0x03, 0x08, 0xe7, 0x24],
        "metadata record type 4711 (version 0) is not known to this build, which knows types 1 to \
         15",
    );
    check_refused(
        &[0x12, 0x04, 0x08, 0x01, 0x10, 0x09],
        "metadata record Cluster has version 9, but this build knows it up to version 0",
    );
}

#[test]
fn damage_is_an_error() {
    check_refused(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], "Batch is malformed");
    check_refused(&[0x12, 0x02, 0x08, 0x0b], "RemoveTopic is malformed");
    for (_, bytes) in golden() {
        let bytes: Vec<u8> = (0..bytes.len() / 2)
            .map(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        for end in 0..bytes.len() {
            let _ = Batch::decode(Bytes::copy_from_slice(&bytes[..end]));
        }
    }
    let large = Bytes::from(vec![0; millrace_metadata::record::MAX_BATCH_BYTES + 1]);
    assert!(matches!(
        Batch::decode(large),
        Err(DecodeError::TooLarge { .. })
    ));
}

/// The batch with field 100 (a varint) appended to the payload of its only record.
fn with_unknown_field(record: Record) -> Batch {
    let batch = Batch {
        based_on: ImageVersion(0),
        records: vec![record],
    };
    let plain = batch.encode();
    // based_on 0 is left out: tag and length of the frame, tag and number, tag and length of the
    // payload.
    assert_eq!((plain[0], plain[2], plain[4]), (0x12, 0x08, 0x1a));
    let mut bytes = plain.to_vec();
    bytes[1] += 3;
    bytes[5] += 3;
    bytes.extend([0xa0, 0x06, 0x2a]);
    Batch::decode(bytes.into()).unwrap()
}

#[test]
fn an_unknown_field_survives_the_image_and_its_snapshot() {
    let image = with_topic(
        &cluster(&[1]),
        1,
        "t",
        vec![Partition {
            replicas: ids(&[1]),
            directories: vec![dir(1)],
            isr: ids(&[1]),
            leader: Some(b(1)),
            ..Partition::default()
        }],
    );
    let change = PartitionChange {
        last_known_elr: Some(vec![]),
        ..PartitionChange::of(pid(1, 0), image.partition(pid(1, 0)).unwrap())
    };
    let batch = with_unknown_field(Record::PartitionChange(change));
    let image = after(&image, batch.records);
    let written: Vec<Record> = image.records().collect();
    let Some(Record::Partition { partition, .. }) = written.last() else {
        panic!("the partition comes last");
    };
    assert_eq!(partition.unknown.as_bytes(), [0xa0, 0x06, 0x2a]);
    let again = Batch {
        based_on: ImageVersion(0),
        records: written,
    };
    assert_eq!(Batch::decode(again.encode()).unwrap(), again);
}
