//! Every golden vector decodes to its values and encodes to its bytes.

use serde_json::Value;

use crate::json::decoded;
use crate::{hex, lines, unhex};

fn check(file: &str, expected: usize) {
    let lines = lines(file);
    assert_eq!(lines.len(), expected, "{file} is complete");
    for line in lines {
        check_line(&line);
    }
}

fn check_line(line: &Value) {
    let name = line["name"].as_str().expect("a name");
    let version = line["version"].as_i64().expect("a version") as i16;
    let text = line["hex"].as_str().expect("bytes");
    let which = format!("{name} version {version}, {}", line["variant"]);
    let (values, bytes) = decoded(name, version, &unhex(text)).expect(&which);
    assert_eq!(hex(&bytes), text, "{which}: bytes");
    assert_eq!(values, line["json"], "{which}: values");
}

#[test]
fn requests() {
    check("requests", 1570);
}

#[test]
fn responses() {
    check("responses", 1611);
}

#[test]
fn headers() {
    check("headers", 18);
}

#[test]
fn records() {
    check("records", 546);
}
