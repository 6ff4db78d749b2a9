//! Generates the typed messages of Kafka's protocol from the facts in `schema/`.
//!
//! Three files land in `OUT_DIR`: `messages.rs` (structs and their codec, one module a message),
//! `apis.rs` (the table of API keys) and `json.rs` (the values of a message as the golden vectors
//! write them; only the tests compile it).

#[path = "build/apis.rs"]
mod apis;
#[path = "build/codec.rs"]
mod codec;
#[path = "build/json.rs"]
mod json;
#[path = "build/names.rs"]
mod names;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/types.rs"]
mod types;

use std::path::Path;

const SCHEMAS: [&str; 6] = [
    "headers",
    "requests",
    "responses",
    "coordinator",
    "metadata",
    "data",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=schema");
    let mut messages = Vec::new();
    for name in SCHEMAS {
        let path = format!("schema/{name}.txt");
        let text = std::fs::read_to_string(&path).expect("the schemas are part of the sources");
        messages.extend(schema::parse(&path, &text));
    }
    let table =
        std::fs::read_to_string("schema/apis.tsv").expect("the table is part of the sources");
    write("messages.rs", &types::messages(&messages));
    write("apis.rs", &apis::table(&table));
    write("json.rs", &json::conversions(&messages));
}

fn write(name: &str, text: &str) {
    let directory = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&directory).join(name), text).expect("OUT_DIR can be written");
}
