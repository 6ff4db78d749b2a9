//! What a leader refuses of a producer's batch, and with which code.

use std::fmt::Write as _;

use bytes::BytesMut;
use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use millrace_protocol::batch::{
    BatchBuilder, BatchHeader, BatchOptions, Origin, Refusal, Rules, SoleBatch, TimestampType,
    batches, check_crc, renumber, set_max_timestamp, stamp,
};
use millrace_protocol::compression::Compression;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

const CLIENT: Origin = Origin::Client { produce_version: 9 };
/// A limit of age that no record breaks, but that only the records can answer for.
const VERY_OLD: i64 = i64::MAX - 1;

/// Rules for which records must be looked into.
fn rules() -> Rules<'static> {
    Rules {
        timestamp_before_max_ms: VERY_OLD,
        ..lax_rules()
    }
}

/// Rules that the head alone answers.
fn lax_rules() -> Rules<'static> {
    Rules {
        partition: &"topic-0",
        max_message_bytes: 1024,
        compacted: false,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        now: NOW,
    }
}

fn three(options: BatchOptions) -> BytesMut {
    let mut builder = BatchBuilder::new(options);
    for n in 0..3 {
        builder.push(Timestamp(NOW.get() - n), Some(b"key"), Some(b"value"), &[]);
    }
    builder.build().expect("memory is there")
}

/// Overwrites bytes of the header and makes the checksum right again.
fn patched(mut batch: BytesMut, at: usize, bytes: &[u8]) -> BytesMut {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Validates a batch, and leaves what may be appended in its place.
fn validate(batch: &mut BytesMut, rules: &Rules<'_>, from: Origin) -> Result<BatchHeader, Refusal> {
    let valid = SoleBatch::of(batch.clone(), from)?.validate(rules)?;
    let header = *valid.header();
    *batch = valid.stamped(header.base_offset, header.leader_epoch);
    assert_eq!(check_crc(batch), Ok(header));
    Ok(header)
}

fn accepted(batch: &mut BytesMut, rules: &Rules<'_>) -> BatchHeader {
    validate(batch, rules, CLIENT).expect("it is sound")
}

fn refused(mut batch: BytesMut, rules: &Rules<'_>) -> Refusal {
    validate(&mut batch, rules, CLIENT).expect_err("it is not sound")
}

fn check_refused(batch: BytesMut, code: ErrorCode, part: &str) {
    let refusal = refused(batch, &rules());
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.message.contains(part), "{refusal}");
}

#[test]
fn sound_batches_pass_untouched() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let batch = three(BatchOptions {
            compression,
            ..BatchOptions::default()
        });
        let mut checked = batch.clone();
        for rules in [rules(), lax_rules()] {
            let header = accepted(&mut checked, &rules);
            assert_eq!(checked, batch);
            assert_eq!(header.record_count, 3);
            assert_eq!(header.max_timestamp, NOW);
        }
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    let mut batch = three(BatchOptions::default());
    set_max_timestamp(&mut batch, TimestampType::CreateTime, Timestamp(5));
    assert_eq!(accepted(&mut batch, &rules()).max_timestamp, NOW);
}

#[test]
fn log_append_time_is_set() {
    let now = Timestamp(NOW.get() + 77);
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        now,
        ..rules()
    };
    let mut batch = three(BatchOptions::default());
    let header = accepted(&mut batch, &rules);
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, now);
    let found = batches(&batch).next().expect("one").expect("sound");
    let set = found.records(1000).expect("sound");
    assert!(
        set.iter()
            .all(|record| record.expect("sound").timestamp == now)
    );
}

#[test]
fn a_producer_may_not_claim_log_append_time() {
    let options = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        append_time: NOW,
        ..BatchOptions::default()
    };
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules()
    };
    let refusal = refused(three(options), &rules);
    assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
    assert_eq!(refusal.records.len(), 3);
}

#[test]
fn stamping_leaves_the_checksum_right() {
    let mut batch = three(BatchOptions::default());
    stamp(&mut batch, Offset(1000), 7.into());
    let header = check_crc(&batch).expect("sound");
    assert_eq!(
        (header.base_offset, header.leader_epoch.get()),
        (Offset(1000), 7)
    );
    assert_eq!(header.next_offset(), Offset(1003));
}

#[test]
fn exactly_one_batch_of_magic_2() {
    let one = three(BatchOptions::default());
    check_refused(
        BytesMut::new(),
        ErrorCode::InvalidRecord,
        "at least one record batch",
    );
    check_refused(
        BytesMut::from(&one[..30]),
        ErrorCode::InvalidRecord,
        "at least one",
    );
    let two = BytesMut::from([&one[..], &one[..]].concat().as_slice());
    check_refused(two, ErrorCode::InvalidRecord, "exactly one record batch");
    let mut magic_1 = one.clone();
    magic_1[16] = 1;
    check_refused(magic_1, ErrorCode::InvalidRecord, "with magic version 2");
    let mut magic_3 = one.clone();
    magic_3[16] = 3;
    check_refused(
        magic_3,
        ErrorCode::CorruptMessage,
        "Invalid magic found in record: 3",
    );
    // A second batch that is cut off is not seen.
    let mut one_and_half = BytesMut::from([&one[..], &one[..40]].concat().as_slice());
    assert_eq!(accepted(&mut one_and_half, &rules()).size, one.len());
    assert_eq!(one_and_half, one, "nor is it appended");
}

#[test]
fn zstd_needs_produce_7() {
    for (produce_version, expected) in [(6, Some(ErrorCode::UnsupportedCompressionType)), (7, None)]
    {
        let mut batch = three(BatchOptions {
            compression: Compression::Zstd,
            ..BatchOptions::default()
        });
        let validated = validate(&mut batch, &rules(), Origin::Client { produce_version });
        assert_eq!(validated.err().map(|refusal| refusal.code), expected);
    }
}

#[test]
fn damage_and_size() {
    let mut damaged = three(BatchOptions::default());
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    check_refused(damaged, ErrorCode::CorruptMessage, "stored crc");
    let mut builder = BatchBuilder::compressed(Compression::None);
    builder.push(NOW, None, Some(&[7; 1000]), &[]);
    let large = builder.build().expect("memory is there");
    check_refused(
        large,
        ErrorCode::MessageTooLarge,
        "configured value of 1024",
    );
}

#[test]
fn header_and_records_must_agree() {
    let sound = || three(BatchOptions::default());
    let invalid = ErrorCode::InvalidRecord;
    let moved = three(BatchOptions {
        base_offset: Offset(1),
        ..BatchOptions::default()
    });
    check_refused(moved, invalid, "should be 0, but it is 1");
    check_refused(
        patched(sound(), 23, &(-1i32).to_be_bytes()),
        invalid,
        "invalid offset range",
    );
    check_refused(
        patched(sound(), 57, &0i32.to_be_bytes()),
        invalid,
        "reported count",
    );
    check_refused(
        patched(sound(), 57, &2i32.to_be_bytes()),
        invalid,
        "Inconsistent batch",
    );
    let mut fewer = patched(sound(), 23, &1i32.to_be_bytes());
    fewer = patched(fewer, 57, &2i32.to_be_bytes());
    check_refused(fewer, invalid, "still remaining");
    check_refused(
        patched(sound(), 21, &0x20i16.to_be_bytes()),
        invalid,
        "control records",
    );
    check_refused(
        patched(sound(), 21, &5i16.to_be_bytes()),
        ErrorCode::UnsupportedCompressionType,
        "unknown compression",
    );
    check_refused(
        patched(sound(), 21, &1i16.to_be_bytes()),
        invalid,
        "gzip data is corrupt",
    );
    let gap = {
        let mut builder = BatchBuilder::compressed(Compression::None);
        builder.push_at(1, NOW, None, None, &[]);
        builder.push_at(0, NOW, None, None, &[]);
        builder.push_at(2, NOW, None, None, &[]);
        builder.build().expect("memory is there")
    };
    check_refused(gap, invalid, "has offset 1 where 0 must be");
}

#[test]
fn idempotent_batches_need_a_sequence() {
    let options = BatchOptions {
        producer_id: ProducerId(4),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence::NONE,
        ..BatchOptions::default()
    };
    check_refused(
        three(options),
        ErrorCode::InvalidRecord,
        "Invalid sequence number -1",
    );
}

#[test]
fn timestamps_stay_in_their_window() {
    let sound = three(BatchOptions::default());
    let early = Rules {
        timestamp_before_max_ms: 1,
        ..rules()
    };
    let refusal = refused(sound.clone(), &early);
    assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
    assert_eq!(
        refusal
            .records
            .iter()
            .map(|record| record.index)
            .collect::<Vec<_>>(),
        [2]
    );
    let late = Rules {
        timestamp_after_max_ms: 10,
        now: Timestamp(NOW.get() - 12),
        ..rules()
    };
    let refusal = refused(sound, &late);
    let mut message = String::new();
    write!(
        message,
        "[{}, {}]",
        late.now.get().wrapping_sub(VERY_OLD),
        late.now.get() + 10
    )
    .expect("a string takes all");
    assert!(
        refusal.records[0].message.ends_with(&message),
        "{refusal:?}"
    );
}

#[test]
fn compacted_topics_need_keys() {
    let mut builder = BatchBuilder::compressed(Compression::Lz4);
    builder.push(NOW, Some(b"k"), None, &[]);
    for _ in 0..200 {
        builder.push(NOW, None, None, &[]);
    }
    let batch = builder.build().expect("memory is there");
    let refusal = refused(
        batch,
        &Rules {
            compacted: true,
            ..rules()
        },
    );
    assert_eq!(refusal.code, ErrorCode::InvalidRecord);
    assert!(refusal.message.contains("200 record errors"), "{refusal}");
    assert_eq!((refusal.records.len(), refusal.records[0].index), (100, 1));
}

#[test]
fn the_broker_itself_writes_control_records() {
    let options = BatchOptions {
        control: true,
        base_offset: Offset(9),
        ..Default::default()
    };
    let header = validate(&mut three(options), &rules(), Origin::Coordinator);
    assert!(header.expect("it is sound").is_control());
}

/// Length field, magic and how many bytes are there in all: what stock Kafka answers.
#[test]
fn what_is_no_whole_batch_is_told_as_kafka_does() {
    let (none, corrupt) = (ErrorCode::InvalidRecord, ErrorCode::CorruptMessage);
    for (length, magic, bytes, expected) in [
        (100, 2, 0, none),
        (100, 2, 11, none),
        (100, 2, 16, none),
        (100, 2, 30, none),
        (100, 2, 111, none),
        (13, 2, 112, corrupt),
        (-1, 2, 112, corrupt),
        (40, 2, 112, corrupt),
        (100, 9, 112, corrupt),
        (100, 255, 40, corrupt),
        (100, 1, 112, none),
        (100, 0, 112, none),
    ] {
        let mut batch = [0; 200];
        batch[8..12].copy_from_slice(&i32::to_be_bytes(length));
        batch[16] = magic;
        let refused = SoleBatch::of(BytesMut::from(&batch[..bytes]), CLIENT).err();
        let code = refused.map(|refusal| refusal.code);
        assert_eq!(code, Some(expected), "{length} {magic} {bytes}");
    }
}

/// Looking into records costs unpacking them, so nothing that the head answers may need it.
#[test]
fn records_are_not_looked_into_unless_a_rule_asks() {
    let sound = three(BatchOptions::default());
    let mut unreadable = sound.clone();
    unreadable[61..].fill(0xff);
    // Writes the checksum anew.
    renumber(
        &mut unreadable,
        ProducerId::NONE,
        ProducerEpoch::NONE,
        Sequence::NONE,
    );
    accepted(&mut unreadable.clone(), &lax_rules());
    assert_eq!(
        refused(unreadable.clone(), &rules()).code,
        ErrorCode::InvalidRecord
    );
    let compacted = Rules {
        compacted: true,
        ..lax_rules()
    };
    assert_eq!(
        refused(unreadable, &compacted).code,
        ErrorCode::InvalidRecord
    );
    // What the head says is held against the rules all the same.
    let codec = patched(sound.clone(), 21, &5i16.to_be_bytes());
    let code = refused(codec, &lax_rules()).code;
    assert_eq!(code, ErrorCode::UnsupportedCompressionType);
    let late = Rules {
        timestamp_after_max_ms: 10,
        now: Timestamp(NOW.get() - 12),
        ..lax_rules()
    };
    let refusal = refused(sound.clone(), &late);
    assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
    assert_eq!(refusal.records.len(), 2, "each record at fault is named");
    let mut log_append_time = sound;
    let now = Timestamp(NOW.get() + 1);
    let by_broker = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        now,
        ..lax_rules()
    };
    assert_eq!(
        accepted(&mut log_append_time, &by_broker).max_timestamp,
        now
    );
}

#[test]
fn header_bytes_round_trip() {
    let batch = three(BatchOptions::default());
    let header = BatchHeader::parse(&batch).expect("sound");
    assert_eq!(header.to_bytes()[..], batch[..61]);
}
