//! Values of messages as JSON in the manner of the golden vectors.

#![allow(clippy::all, clippy::too_many_lines, unused_mut)]

use bytes::Bytes;
use millrace_model::Uuid;
use millrace_protocol::{CodecError, Decode, ReadWire, Reader, Records, messages};
use serde_json::{Map, Value};

/// The values that were decoded, and the bytes they were encoded to.
pub type Outcome = Result<(Value, Bytes), CodecError>;

/// How a value looks in a golden vector.
trait ToJson {
    fn to_json(&self, v: i16) -> Value;
}

fn outcome<'a, T: Decode<'a> + ToJson>(version: i16, input: &'a [u8]) -> Outcome {
    let mut reader = Reader::new(input);
    let message = T::decode(&mut reader, version)?;
    reader.finish()?;
    let bytes = message.to_bytes(version)?;
    Ok((message.to_json(version), bytes))
}

/// Decodes a message and encodes it again.
pub fn decoded(name: &str, version: i16, input: &[u8]) -> Outcome {
    values_of(name, version, input)
}

macro_rules! as_value {
    ($($ty:ty)*) => {$(
        impl ToJson for $ty {
            fn to_json(&self, _: i16) -> Value {
                Value::from(*self)
            }
        }
    )*};
}

as_value!(bool i8 i16 u16 i32 u32 i64 f64 &str);

impl ToJson for String {
    fn to_json(&self, _: i16) -> Value {
        Value::from(self.as_str())
    }
}

impl ToJson for Uuid {
    fn to_json(&self, _: i16) -> Value {
        Value::from(self.to_string())
    }
}

impl ToJson for &[u8] {
    fn to_json(&self, _: i16) -> Value {
        Value::from(base64(self))
    }
}

impl ToJson for Bytes {
    fn to_json(&self, _: i16) -> Value {
        Value::from(base64(self))
    }
}

impl ToJson for Records {
    fn to_json(&self, _: i16) -> Value {
        Value::from(base64(
            self.as_bytes().expect("decoded records are in one piece"),
        ))
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, v: i16) -> Value {
        self.iter().map(|element| element.to_json(v)).collect()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, v: i16) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.to_json(v))
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                digit as char
            } else {
                '='
            });
        }
    }
    text
}

include!(concat!(env!("OUT_DIR"), "/json.rs"));

/// What an array claims is held to the fewest bytes of its elements, so this bounds what decoding
/// allocates.
#[test]
fn no_struct_is_much_larger_in_memory_than_on_the_wire() {
    let sizes = sizes();
    assert!(sizes.len() > 500);
    for (name, memory, wire) in sizes {
        assert!(memory <= 48 * wire, "{name}: {memory} bytes for {wire}");
    }
}
