//! The entry points through which foreign bytes reach the codec. The fuzz targets call them with
//! whatever the fuzzer invents, the ordinary tests with mutations of golden vectors.

use millrace_protocol::api::ApiKey;
use millrace_protocol::batch::{
    BatchHeader, Origin, Record, Rules, SoleBatch, TimestampType, batches, check_crc, rewritten,
};
use millrace_protocol::compression::{Compression, decompress_bounded};
use millrace_protocol::header::{decode_request_header, decode_response_header};
use millrace_protocol::messages::{NAMES, reencode};
use millrace_protocol::{CodecError, Reader};

/// Output granted to decompression here: enough for the vectors.
const LIMIT: usize = 1 << 20;

/// A request behind its header, as a broker reads it.
pub fn request(frame: &[u8]) {
    let mut reader = Reader::new(frame);
    if let Ok(header) = decode_request_header(&mut reader) {
        let name = format!("{}Request", header.api_key.name());
        message(&name, header.api_version, reader.rest());
    }
}

/// A response behind its header, as a client reads it: two bytes choose key and version.
pub fn response(input: &[u8]) {
    let Some(([key, version], frame)) = input.split_first_chunk::<2>() else {
        return;
    };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let version = i16::from(*version % 20);
    let mut reader = Reader::new(frame);
    if decode_response_header(&mut reader, key, version).is_ok() {
        message(&format!("{}Response", key.name()), version, reader.rest());
    }
}

/// Any message at all: three bytes choose which, in which version.
pub fn any_message(input: &[u8]) {
    let Some(([high, low, version], body)) = input.split_first_chunk::<3>() else {
        return;
    };
    let place = usize::from(u16::from_be_bytes([*high, *low])) % NAMES.len();
    message(NAMES[place].0, i16::from(*version % 20), body);
}

/// What could be read can be written, and what was written reads to the same.
pub fn message(name: &str, version: i16, body: &[u8]) {
    match reencode(name, version, body) {
        Some(Ok(written)) => {
            let again = reencode(name, version, &written).expect("it was there before");
            assert_eq!(
                again.expect("we wrote it"),
                written,
                "{name} version {version}"
            );
        }
        Some(Err(CodecError::Encode(error))) => panic!("{name} version {version}: {error}"),
        Some(Err(CodecError::Decode(_))) | None => {}
    }
}

/// Record sets: split, checked, their records read.
pub fn record_set(input: &[u8]) {
    for batch in batches(input).flatten() {
        let _ = (batch.check(), batch.last_offset(), batch.max_timestamp());
        if let Ok(records) = batch.records(LIMIT) {
            for record in records.iter().flatten() {
                read_headers(&record);
            }
        }
    }
}

fn read_headers(record: &Record<'_>) {
    let bytes: usize = record.headers().map(|header| header.key.len()).sum();
    assert!(bytes <= record.size);
}

/// What a producer sends, with the checksum put right so that the fuzzer gets past it.
pub fn produced(input: &[u8]) {
    let mut bytes = input.to_vec();
    if let Ok(header) = BatchHeader::parse(&bytes)
        && header.size <= bytes.len()
    {
        let crc = crc32c::crc32c(&bytes[21..header.size]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let rules = Rules {
        partition: &"topic-0",
        max_message_bytes: LIMIT,
        compacted: bytes.len().is_multiple_of(2),
        timestamp_type: TimestampType::CreateTime,
        // One less than for ever: the records must be looked into.
        timestamp_before_max_ms: i64::MAX - 1,
        timestamp_after_max_ms: i64::MAX,
        now: millrace_model::Timestamp(1_700_000_000_000),
    };
    let origin = Origin::Client {
        produce_version: 12,
    };
    let valid = SoleBatch::of(bytes[..].into(), origin).and_then(|batch| batch.validate(&rules));
    if let Ok(valid) = valid {
        let header = *valid.header();
        let batch = valid.stamped(header.base_offset, header.leader_epoch);
        assert_eq!(check_crc(&batch), Ok(header));
        assert!(rewritten(&batch, Compression::None, None).is_ok());
    }
}

/// Packed bytes of any codec: the first byte chooses it.
pub fn packed(input: &[u8]) {
    let Some((codec, packed)) = input.split_first() else {
        return;
    };
    if let Ok(codec) = Compression::from_id(codec % 5)
        && let Ok(output) = decompress_bounded(codec, packed, LIMIT)
    {
        assert!(output.len() <= LIMIT);
    }
}
