//! The bytes of `__consumer_offsets` are Kafka's, whatever version wrote them.

use millrace_coordinator::group::{Record, RecordError};
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../data/records.tsv");

/// Type, version of the value, key and value.
fn golden() -> impl Iterator<Item = (&'static str, i16, Vec<u8>, Vec<u8>)> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let version = columns[1].parse().expect("a number");
        (columns[0], version, bytes(columns[2]), bytes(columns[3]))
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    digits.map(byte).collect()
}

/// The version that a 4.3 broker writes.
fn written_version(name: &str) -> i16 {
    match name {
        "OffsetCommit" | "LegacyOffsetCommit" => 4,
        "GroupMetadata" => 3,
        _ => 0,
    }
}

#[test]
fn every_version_is_read_and_the_current_one_written() {
    let mut seen = 0;
    for (name, version, key, value) in golden() {
        let record = Record::decode(&key, Some(&value)).expect(name);
        let written = record.encode_value().expect(name).expect("has a value");
        if version == written_version(name) {
            assert_eq!(written, value, "{name} {version}");
        }
        if name != "LegacyOffsetCommit" {
            assert_eq!(record.encode_key().expect(name), key, "{name}");
        }
        let again = Record::decode(&key, Some(&written)).expect(name);
        let twice = again.encode_value().expect(name);
        assert_eq!(twice, Some(written), "{name} {version}");
        seen += 1;
    }
    assert!(seen >= 18, "{seen} golden records");
}

#[test]
fn no_value_is_a_tombstone() {
    for (name, _, key, _) in golden() {
        let record = Record::decode(&key, None).expect(name);
        assert_eq!(record.encode_value().expect(name), None, "{name}");
    }
}

#[test]
fn an_offset_that_says_when_it_expires_keeps_the_version_that_can_say_so() {
    let (_, _, key, value) = golden()
        .find(|(name, version, ..)| *name == "OffsetCommit" && *version == 1)
        .expect("version 1");
    let record = Record::decode(&key, Some(&value)).expect("reads");
    assert_eq!(
        record.encode_value().expect("writes").as_deref(),
        Some(&*value)
    );
}

#[test]
fn newer_versions_are_read_as_the_newest_known() {
    for (name, newest) in [("OffsetCommit", 4), ("GroupMetadata", 4)] {
        let (_, _, key, mut value) = golden()
            .find(|(found, version, ..)| *found == name && *version == newest)
            .expect("the newest");
        let known = Record::decode(&key, Some(&value)).expect("reads");
        value[1] = 9;
        value.extend(b"what is to come");
        assert_eq!(Record::decode(&key, Some(&value)).expect("reads"), known);
    }
}

#[test]
fn types_that_are_not_known_are_told_from_broken_ones() {
    for kind in [9i16, 15, 17, 99, -1] {
        let decoded = Record::decode(&kind.to_be_bytes(), None);
        assert!(matches!(decoded, Err(RecordError::Unknown(unknown)) if unknown == kind));
    }
    for broken in [&[][..], &[0], &[0, 1], &[0, 1, 0, 9, 1]] {
        let decoded = Record::decode(broken, None);
        assert!(matches!(decoded, Err(RecordError::Decode(_))), "{broken:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        which in 0usize..18,
        cut in 0usize..200,
        place in 0usize..200,
        byte: u8,
    ) {
        let (_, _, key, mut value) = golden().nth(which).expect("there are as many");
        let place = place % value.len();
        value[place] = byte;
        value.truncate(value.len() - cut % value.len());
        let _ = Record::decode(&key, Some(&value));
        let _ = Record::decode(&value, Some(&key));
    }
}
