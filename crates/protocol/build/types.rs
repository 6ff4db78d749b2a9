//! Writes the Rust types of the messages: structs, defaults and what the codec needs to know.

use crate::codec;
use crate::names::{field as field_name, snake};
use crate::schema::{Field, Message, Struct, Type, Versions};

/// Messages decoded on the data path: their texts and bytes are borrowed from the frame.
const BORROWED: [&str; 3] = ["ProduceRequest", "FetchRequest", "RequestHeader"];

/// All messages, one module each, and the function that knows them all by name.
pub fn messages(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        text += &module(message);
    }
    text += &names(messages);
    text += &reencode(messages);
    text
}

fn module(message: &Message) -> String {
    let name = &message.name;
    let mut text = format!(
        "/// `{name}` ({}), versions {}.\npub mod {} {{\n    use crate::support::*;\n",
        message.kind,
        message.versions.describe(),
        snake(name),
    );
    for structure in &message.structs {
        text += &declaration(message, structure);
        text += &default(message, structure);
        text += &codec::read(message, structure);
        text += &codec::write(message, structure);
        if is_nullable_somewhere(message, structure) {
            let generics = generics(message, structure);
            text += &format!(
                "impl NullableStruct for {}{generics} {{}}\n",
                structure.name
            );
        }
    }
    let generics = generics(message, &message.structs[0]);
    let flexible_from = if message.is_flexible() {
        message.flexible.low
    } else {
        i16::MAX
    };
    text += &format!(
        "    impl Message for {name}{generics} {{\n\
         const NAME: &'static str = \"{name}\";\n\
         const API_KEY: i16 = {};\n\
         const VERSIONS: (i16, i16) = ({}, {});\n\
         const FLEXIBLE_FROM: i16 = {flexible_from};\n}}\n}}\n\n",
        message.api_key, message.versions.low, message.versions.high,
    );
    text
}

fn is_nullable_somewhere(message: &Message, structure: &Struct) -> bool {
    let all = message.structs.iter().flat_map(|s| &s.fields);
    all.clone()
        .any(|f| f.is_nullable() && f.ty == Type::Struct(structure.name.clone()))
}

fn declaration(message: &Message, structure: &Struct) -> String {
    let name = &structure.name;
    let derived = if has_plain_default(message, structure) {
        ", Default"
    } else {
        ""
    };
    let lifetime = if borrows(message, structure) {
        "<'a>"
    } else {
        ""
    };
    let mut text = if *name == message.name {
        format!("/// The message `{name}`.\n")
    } else {
        format!("/// `{name}` of [`{}`].\n", message.name)
    };
    text +=
        &format!("#[derive(Clone, Debug, PartialEq{derived})]\npub struct {name}{lifetime} {{\n");
    for field in &structure.fields {
        let kind = match field.tag {
            Some(tag) => format!(", tag {tag}"),
            None => String::new(),
        };
        let null = match field.nullable {
            Versions::NONE => String::new(),
            versions => format!(", nullable in versions {}", versions.describe()),
        };
        text += &format!(
            "/// `{}`, in versions {}{kind}{null}.\npub {}: {},\n",
            field.name,
            field.versions.describe(),
            field_name(&field.name),
            rust_type(message, field),
        );
    }
    if message.is_flexible() {
        text += "/// Tagged fields that the schema does not know, kept for encoding.\n\
                 pub unknown_tagged_fields: TaggedFields,\n";
    }
    text + "}\n\n"
}

/// The type of a field as Rust writes it.
fn rust_type(message: &Message, field: &Field) -> String {
    let plain = plain_type(message, &field.ty);
    if field.is_nullable() {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

fn plain_type(message: &Message, ty: &Type) -> String {
    let borrowed = is_borrowed(message);
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Uint32 => "u32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::String if borrowed => "&'a str".to_owned(),
        Type::Bytes | Type::Records if borrowed => "&'a [u8]".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Records => "Records".to_owned(),
        Type::Array(element) => format!("Vec<{}>", plain_type(message, element)),
        Type::Struct(name) => {
            let lifetime = if borrows(message, message.structure(name)) {
                "<'a>"
            } else {
                ""
            };
            format!("{name}{lifetime}")
        }
    }
}

fn is_borrowed(message: &Message) -> bool {
    BORROWED.contains(&message.name.as_str())
}

/// Whether the Rust type of this struct has a lifetime.
pub fn borrows(message: &Message, structure: &Struct) -> bool {
    fn holds_text(message: &Message, ty: &Type) -> bool {
        match ty {
            Type::String | Type::Bytes | Type::Records => true,
            Type::Array(element) => holds_text(message, element),
            Type::Struct(name) => borrows(message, message.structure(name)),
            _ => false,
        }
    }
    is_borrowed(message) && structure.fields.iter().any(|f| holds_text(message, &f.ty))
}

/// The lifetime to write behind the struct's name in an `impl` that needs none of its own.
pub fn generics(message: &Message, structure: &Struct) -> &'static str {
    if borrows(message, structure) {
        "<'_>"
    } else {
        ""
    }
}

/// Whether the struct's defaults are those that Rust would derive.
fn has_plain_default(message: &Message, structure: &Struct) -> bool {
    structure
        .fields
        .iter()
        .all(|field| default_value(message, field) == "Default::default()")
}

fn default(message: &Message, structure: &Struct) -> String {
    if has_plain_default(message, structure) {
        return String::new();
    }
    let mut text = format!(
        "impl Default for {}{} {{\nfn default() -> Self {{\nSelf {{\n",
        structure.name,
        generics(message, structure)
    );
    for field in &structure.fields {
        text += &format!(
            "{}: {},\n",
            field_name(&field.name),
            default_value(message, field)
        );
    }
    if message.is_flexible() {
        text += "unknown_tagged_fields: TaggedFields::default(),\n";
    }
    text + "}\n}\n}\n\n"
}

/// An expression for the default of a field.
fn default_value(message: &Message, field: &Field) -> String {
    let plain = "Default::default()".to_owned();
    let given = field.default.as_deref();
    if field.is_nullable() {
        return match given {
            Some("null") => plain,
            // Kafka's own classes start with null records.
            None if field.ty == Type::Records => plain,
            Some("") | None => "Some(Default::default())".to_owned(),
            Some(other) => panic!("{}.{}: default {other}", message.name, field.name),
        };
    }
    match (&field.ty, given) {
        (_, None | Some("") | Some("0") | Some("false")) => plain,
        (Type::Bool, Some(value)) => value.to_owned(),
        (_, Some(value)) => number(value),
    }
}

/// Kafka writes numbers in decimal or with `0x`.
fn number(text: &str) -> String {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16)
            .expect("a number")
            .to_string(),
        None => text.parse::<i64>().expect("a number").to_string(),
    }
}

/// An expression that says whether `self`'s field differs from its default.
pub fn differs(message: &Message, field: &Field) -> String {
    let place = format!("self.{}", field_name(&field.name));
    let value = default_value(message, field);
    match (&field.ty, value.as_str()) {
        (_, "Default::default()") if field.is_nullable() => format!("{place}.is_some()"),
        (Type::Struct(_) | Type::Uuid, "Default::default()") => {
            format!("{place} != Default::default()")
        }
        (Type::Bool, "Default::default()") => place,
        (Type::Float64, "Default::default()") => format!("{place} != 0.0"),
        (Type::String | Type::Bytes | Type::Records | Type::Array(_), "Default::default()") => {
            format!("!{place}.is_empty()")
        }
        (Type::String | Type::Bytes | Type::Array(_), "Some(Default::default())") => {
            format!("{place}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Type::Bool, "true") => format!("!{place}"),
        (_, "Default::default()") => format!("{place} != 0"),
        (_, value) => format!("{place} != {value}"),
    }
}

fn names(messages: &[Message]) -> String {
    let mut text = "/// The name of every message, with its lowest and highest version.\n\
                    pub const NAMES: &[(&str, i16, i16)] = &[\n"
        .to_owned();
    for Message { name, versions, .. } in messages {
        text += &format!("(\"{name}\", {}, {}),\n", versions.low, versions.high);
    }
    text + "];\n\n"
}

fn reencode(messages: &[Message]) -> String {
    let mut text = "/// Decodes the message of this schema name and encodes it again, in the same \
                    version;\n/// `None` if there is no such message. For tools and tests.\n\
                    pub fn reencode(name: &str, version: i16, input: &[u8]) \
                    -> Option<Result<Bytes, CodecError>> {\n    Some(match name {\n"
        .to_owned();
    for message in messages {
        let (name, module) = (&message.name, snake(&message.name));
        text += &format!("\"{name}\" => reencode_as::<{module}::{name}>(version, input),\n");
    }
    text + "_ => return None,\n})\n}\n"
}
