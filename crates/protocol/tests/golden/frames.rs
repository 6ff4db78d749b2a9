//! Messages in their envelopes: length and header, record type or version in front.

use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{
    decode_request_header, decode_response_header, start_request, start_response,
};
use millrace_protocol::{Reader, TaggedFields};
use serde_json::Value;

use crate::json::decoded;
use crate::{hex, lines, unhex};

#[test]
fn every_frame() {
    let lines = lines("frames");
    assert_eq!(lines.len(), 718);
    for line in lines {
        let frame = unhex(line["hex"].as_str().expect("bytes"));
        match line["kind"].as_str().expect("a kind") {
            "request" => request(&line, &frame),
            "response" => response(&line, &frame),
            "metadata-record" => metadata_record(&line, &frame),
            "coordinator-key" => prefixed(&line, &frame, None),
            "coordinator-value" | "principal" => prefixed(&line, &frame, Some(version(&line))),
            // Their values are shown as Kafka prints them; the structs stand among the vectors.
            "transaction-log-key" => reads(&frame, "TransactionLogKey", Some(0)),
            "transaction-log-value" => reads(&frame, "TransactionLogValue", None),
            "consumer-protocol" => reads(&frame, name(&line), None),
            other => panic!("no such kind: {other}"),
        }
    }
}

fn name(line: &Value) -> &str {
    line["name"].as_str().expect("a name")
}

fn version(line: &Value) -> i16 {
    line["version"].as_i64().expect("a version") as i16
}

/// The key that a message's name stands for.
fn key_of(line: &Value) -> ApiKey {
    let name = name(line);
    let plain = name
        .trim_end_matches("Request")
        .trim_end_matches("Response");
    let found = ApiKey::ALL.iter().find(|key| key.name() == plain);
    *found.unwrap_or_else(|| panic!("no API {plain}"))
}

/// The frame behind its length, which must be right.
fn unframed(frame: &[u8]) -> &[u8] {
    let (length, rest) = frame.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
    rest
}

fn request(line: &Value, frame: &[u8]) {
    let (key, version) = (key_of(line), version(line));
    let mut reader = Reader::new(unframed(frame));
    let header = decode_request_header(&mut reader).expect("a header");
    let expected = &line["json"]["header"];
    assert_eq!(header.api_key, key);
    assert_eq!(header.api_version, version);
    assert_eq!(i64::from(header.correlation_id), expected["correlationId"]);
    assert_eq!(header.client_id, expected["clientId"].as_str());
    assert_eq!(header.unknown_tagged_fields, TaggedFields::default());
    let header_version = key.request_header_version(version);
    assert_eq!(
        i64::from(header_version),
        line["json"]["headerVersion"],
        "{}",
        key.name()
    );

    let (values, body) = decoded(name(line), version, reader.rest())
        .unwrap_or_else(|e| panic!("{}: {e}", name(line)));
    agree(&values, &line["json"]["body"]);
    let mut writer =
        start_request(key, version, header.correlation_id, header.client_id).expect("it is short");
    writer.put(&body);
    assert_eq!(hex(&writer.into_bytes()), hex(frame), "{}", name(line));
}

fn response(line: &Value, frame: &[u8]) {
    let (key, version) = (key_of(line), version(line));
    let header_version = key.response_header_version(version);
    assert_eq!(
        i64::from(header_version),
        line["json"]["headerVersion"],
        "{}",
        key.name()
    );
    let mut reader = Reader::new(unframed(frame));
    let correlation = decode_response_header(&mut reader, key, version).expect("a header");
    assert_eq!(
        i64::from(correlation),
        line["json"]["header"]["correlationId"]
    );
    let (values, body) = decoded(name(line), version, reader.rest())
        .unwrap_or_else(|e| panic!("{}: {e}", name(line)));
    agree(&values, &line["json"]["body"]);
    let mut writer = start_response(key, version, correlation);
    writer.put(&body);
    assert_eq!(hex(&writer.into_bytes()), hex(frame), "{}", name(line));
}

fn metadata_record(line: &Value, frame: &[u8]) {
    let mut reader = Reader::new(frame);
    assert_eq!(reader.unsigned_varint(), Ok(1), "the frame's version");
    reader.unsigned_varint().expect("a type");
    assert_eq!(reader.unsigned_varint(), Ok(version(line) as u32));
    let (values, body) = decoded(name(line), version(line), reader.rest()).expect("it");
    agree(&values, &line["json"]);
    assert!(frame.ends_with(&body));
}

/// A message behind two bytes: its version if `version` says so, else its type.
fn prefixed(line: &Value, frame: &[u8], prefix: Option<i16>) {
    let (first, body) = frame.split_first_chunk::<2>().expect("two bytes");
    if let Some(prefix) = prefix {
        assert_eq!(i16::from_be_bytes(*first), prefix);
    }
    let (values, bytes) =
        decoded(name(line), version(line), body).unwrap_or_else(|e| panic!("{}: {e}", name(line)));
    agree(&values, &line["json"]);
    assert_eq!(hex(&bytes), hex(body));
}

/// A message behind its version (or behind a type, if `version` is given): read and written alike.
fn reads(frame: &[u8], name: &str, version: Option<i16>) {
    let (first, body) = frame.split_first_chunk::<2>().expect("two bytes");
    let version = version.unwrap_or_else(|| i16::from_be_bytes(*first));
    let (_, bytes) = decoded(name, version, body).expect(name);
    assert_eq!(hex(&bytes), hex(body), "{name}");
}

/// Compares values; these vectors, unlike the others, also show tagged fields at their defaults.
fn agree(ours: &Value, kafkas: &Value) {
    match (ours, kafkas) {
        (Value::Object(ours), Value::Object(kafkas)) => {
            for (name, value) in ours {
                agree(value, &kafkas[name]);
            }
        }
        (Value::Array(ours), Value::Array(kafkas)) => {
            assert_eq!(ours.len(), kafkas.len());
            ours.iter()
                .zip(kafkas)
                .for_each(|(ours, kafkas)| agree(ours, kafkas));
        }
        _ => assert_eq!(ours, kafkas),
    }
}
