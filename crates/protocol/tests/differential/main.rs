//! Three codecs must agree on random messages: a writer that follows the schema facts and nothing
//! else, the public crate `kafka-protocol`, and ours.
//!
//! The public crate aborts the process on hostile counts, so it gets sound bytes only.

#[allow(dead_code)]
#[path = "../../build/schema.rs"]
mod schema;
mod writer;

use std::cell::RefCell;
use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use millrace_protocol::messages::reencode;
use proptest::prelude::*;
use schema::Message;

/// Random messages of each version of each request and response.
const CASES: u32 = 60;

fn messages(file: &str) -> Vec<Message> {
    let path = format!("{}/schema/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the facts are part of the sources");
    schema::parse(&path, &text)
}

/// How the public crate says that its schemas, older than ours, lack a version it announces.
const NOT_THERE: &str = "specified version not supported by this message type";

/// What the public crate makes of a message; `None` where it has no such message or version.
fn public_crate(message: &Message, version: i16, bytes: &Bytes) -> Option<Result<Bytes, String>> {
    let key = ApiKey::try_from(message.api_key).ok()?;
    let known = key.valid_versions();
    if version < known.min || version > known.max {
        return None;
    }
    match through_public_crate(message, key, version, bytes) {
        Err(why) if why.contains(NOT_THERE) => None,
        outcome => Some(outcome),
    }
}

fn through_public_crate(
    message: &Message,
    key: ApiKey,
    version: i16,
    bytes: &Bytes,
) -> Result<Bytes, String> {
    let mut input = bytes.clone();
    let mut output = BytesMut::new();
    let outcome = if message.kind == "request" {
        RequestKind::decode(key, &mut input, version)
            .and_then(|request| request.encode(&mut output, version))
    } else {
        ResponseKind::decode(key, &mut input, version)
            .and_then(|response| response.encode(&mut output, version))
    };
    outcome.map_err(|error| format!("{error:#}"))?;
    match input.len() {
        0 => Ok(output.freeze()),
        left => Err(format!("{left} bytes left")),
    }
}

fn check(file: &str) {
    let judged = RefCell::new(BTreeSet::new());
    for message in messages(file) {
        for version in message.versions.low..=message.versions.high {
            let config = ProptestConfig {
                failure_persistence: None,
                ..ProptestConfig::with_cases(CASES)
            };
            proptest!(config, |(seed in any::<u64>())| {
                let bytes = writer::random(&message, version, seed);
                let ours = reencode(&message.name, version, &bytes).expect("we know it");
                let name = format!("{} version {version}", message.name);
                prop_assert_eq!(ours.as_ref(), Ok(&bytes), "{}: ours", name);
                if let Some(theirs) = public_crate(&message, version, &bytes) {
                    prop_assert_eq!(theirs, Ok(bytes), "{}: theirs", name);
                    judged.borrow_mut().insert(name);
                }
            });
        }
    }
    let judged = judged.into_inner();
    assert!(
        judged.len() > 280,
        "only {} versions had a second opinion",
        judged.len()
    );
}

#[test]
fn requests() {
    check("requests");
}

#[test]
fn responses() {
    check("responses");
}
