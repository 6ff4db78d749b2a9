//! What Kafka's own classes wrote, read and written again by ours.

mod api_versions;
mod batches;
mod frames;
mod hashes;
mod json;
mod vectors;

use std::io::Read;

use serde_json::Value;

/// The lines of a data file, as JSON.
fn lines(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/{name}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::File::open(&path).expect("the data is part of the sources");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("the data is text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
