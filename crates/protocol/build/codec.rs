//! Writes the functions that read and write one struct.
//!
//! One function for each direction, whatever the version: `v` is the version of the message,
//! `flex` whether it is a flexible one (KIP-482). Every field is one call into `crate::support`.

use crate::names::field as field_name;
use crate::schema::{Field, Message, Struct, Type, Versions};
use crate::types::{borrows, differs, generics};

/// The reading half of a struct's codec.
pub fn read(message: &Message, structure: &Struct) -> String {
    let lifetime = if borrows(message, structure) {
        "<'a>"
    } else {
        ""
    };
    let mut text = format!(
        "impl<'a> ReadWire<'a> for {}{lifetime} {{\n\
         const MIN_BYTES: usize = {};\n\
         #[allow(unused_variables)]\n\
         fn read(r: &mut Reader<'a>, v: i16, flex: bool) -> Result<Self, DecodeError> {{\n\
         let mut m = Self::default();\n",
        structure.name,
        min_bytes(message, structure),
    );
    for field in structure.fields.iter().filter(|field| field.tag.is_none()) {
        let name = field_name(&field.name);
        let flex = if field.inflexible { "false" } else { "flex" };
        let read = format!("m.{name} = ReadWire::read(r, v, {flex})?;\n");
        text += &guarded(
            condition(message, field.versions),
            &(read + &null_check(message, field)),
        );
    }
    if message.is_flexible() {
        text += &guarded(
            condition(message, message.flexible),
            &read_tags(message, structure),
        );
    }
    text + "Ok(m)\n}\n}\n\n"
}

/// Refuses null where the version does not allow it.
fn null_check(message: &Message, field: &Field) -> String {
    let present = field.versions.intersect(message.versions);
    if !field.is_nullable() || field.nullable.covers(present) {
        return String::new();
    }
    let name = field_name(&field.name);
    match condition(message, field.nullable) {
        Some(nullable) => {
            format!("if m.{name}.is_none() && !({nullable}) {{ return Err(DecodeError::Null); }}\n")
        }
        None => String::new(),
    }
}

fn read_tags(message: &Message, structure: &Struct) -> String {
    let tagged = tagged(structure);
    if tagged.is_empty() {
        return "m.unknown_tagged_fields = TaggedFields::read(r)?;\n".to_owned();
    }
    let mut text = "let mut tags = r.tags()?;\n\
                    while let Some((tag, mut field)) = tags.next(r)? {\nmatch tag {\n"
        .to_owned();
    for field in tagged {
        let (tag, name) = (
            field.tag.expect("only tagged ones"),
            field_name(&field.name),
        );
        let guard = match condition(message, field.versions) {
            Some(condition) => format!(" if {condition}"),
            None => String::new(),
        };
        let read = if is_nullable_struct(field) {
            "read_tagged_struct"
        } else {
            "ReadWire::read"
        };
        text += &format!("{tag}{guard} => m.{name} = {read}(&mut field, v, true)?,\n");
    }
    text + "_ => m.unknown_tagged_fields.push(tag, field.rest()),\n}\nfield.finish()?;\n}\n"
}

/// The writing half of a struct's codec.
pub fn write(message: &Message, structure: &Struct) -> String {
    let mut text = format!(
        "impl WriteWire for {}{} {{\n\
         #[allow(unused_variables)]\n\
         fn write(&self, w: &mut Writer, v: i16, flex: bool) -> Result<(), EncodeError> {{\n",
        structure.name,
        generics(message, structure),
    );
    for field in structure.fields.iter().filter(|field| field.tag.is_none()) {
        let name = field_name(&field.name);
        let flex = if field.inflexible { "false" } else { "flex" };
        let mut write = String::new();
        let present = field.versions.intersect(message.versions);
        if field.is_nullable()
            && !field.nullable.covers(present)
            && let Some(nullable) = condition(message, field.nullable)
        {
            write += &format!(
                "if self.{name}.is_none() && !({nullable}) {{ return Err(null::<Self>(\"{}\", v)); \
                 }}\n",
                field.name
            );
        }
        write += &format!("self.{name}.write(w, v, {flex})?;\n");
        text += &with_refusal(message, field, &write);
    }
    if message.is_flexible() {
        text += &refuse_tagged(message, structure);
        text += &guarded(
            condition(message, message.flexible),
            &write_tags(message, structure),
        );
    }
    text + "Ok(())\n}\n}\n\n"
}

/// The writing of a field where it exists, and the refusal of its value where it does not.
fn with_refusal(message: &Message, field: &Field, write: &str) -> String {
    let Some(condition) = condition(message, field.versions) else {
        return write.to_owned();
    };
    if field.ignorable {
        return guarded(Some(condition), write);
    }
    let (differs, name) = (differs(message, field), &field.name);
    format!(
        "if {condition} {{\n{write}}} else if {differs} {{\n\
         return Err(absent::<Self>(\"{name}\", v));\n}}\n"
    )
}

fn refuse_tagged(message: &Message, structure: &Struct) -> String {
    let mut text = String::new();
    for field in tagged(structure)
        .into_iter()
        .filter(|field| !field.ignorable)
    {
        if let Some(condition) = condition(message, field.versions) {
            let (differs, name) = (differs(message, field), &field.name);
            text += &format!(
                "if !({condition}) && {differs} {{ return Err(absent::<Self>(\"{name}\", v)); }}\n"
            );
        }
    }
    text
}

fn write_tags(message: &Message, structure: &Struct) -> String {
    let tagged = tagged(structure);
    if tagged.is_empty() {
        return "self.unknown_tagged_fields.write(w, 0);\n".to_owned();
    }
    let mut text = String::new();
    let mut sum = Vec::new();
    for field in &tagged {
        let tag = field.tag.expect("only tagged ones");
        let differs = differs(message, field);
        let present = match condition(message, field.versions) {
            Some(condition) => format!("{condition} && {differs}"),
            None => differs,
        };
        text += &format!("let has{tag} = {present};\n");
        sum.push(format!("u32::from(has{tag})"));
    }
    text += &format!(
        "self.unknown_tagged_fields.write_count(w, {});\n",
        sum.join(" + ")
    );
    for field in &tagged {
        let (tag, name) = (
            field.tag.expect("only tagged ones"),
            field_name(&field.name),
        );
        let write = if is_nullable_struct(field) {
            format!("write_tagged_struct(&self.{name}, w, v)?;")
        } else {
            format!("self.{name}.write(w, v, true)?;")
        };
        text +=
            &format!("if has{tag} {{ let at = w.begin_tag({tag}); {write} w.end_tag(at)?; }}\n");
    }
    text + "self.unknown_tagged_fields.write_fields(w);\n"
}

/// The tagged fields by rising tag, as they must stand on the wire.
pub fn tagged(structure: &Struct) -> Vec<&Field> {
    let mut fields: Vec<&Field> = structure
        .fields
        .iter()
        .filter(|f| f.tag.is_some())
        .collect();
    fields.sort_by_key(|field| field.tag);
    fields
}

fn is_nullable_struct(field: &Field) -> bool {
    field.is_nullable() && matches!(field.ty, Type::Struct(_))
}

/// A test on `v` for these versions; `None` if every version of the message passes.
pub fn condition(message: &Message, versions: Versions) -> Option<String> {
    let all = message.versions;
    if versions.covers(all) {
        return None;
    }
    let Versions { low, high } = versions.intersect(all);
    Some(match (low <= all.low, high >= all.high) {
        _ if low > high => "false".to_owned(),
        _ if low == high => format!("v == {low}"),
        (true, _) => format!("v <= {high}"),
        (_, true) => format!("v >= {low}"),
        _ => format!("({low}..={high}).contains(&v)"),
    })
}

fn guarded(condition: Option<String>, body: &str) -> String {
    match condition {
        Some(condition) if condition == "false" => String::new(),
        Some(condition) => format!("if {condition} {{\n{body}}}\n"),
        None => body.to_owned(),
    }
}

/// The fewest bytes this struct takes in any version that has some of its fields: what a count read
/// off the wire is held to.
fn min_bytes(message: &Message, structure: &Struct) -> usize {
    let exists = |version: &i16| {
        let has = |versions: Versions| versions.low <= *version && *version <= versions.high;
        structure
            .fields
            .iter()
            .any(|field| field.tag.is_none() && has(field.versions))
    };
    let sizes = (message.versions.low..=message.versions.high)
        .filter(exists)
        .map(|version| struct_bytes(message, structure, version));
    sizes.min().unwrap_or(1).max(1)
}

fn struct_bytes(message: &Message, structure: &Struct, version: i16) -> usize {
    let contains = |versions: Versions| versions.low <= version && version <= versions.high;
    let flexible = contains(message.flexible);
    let mut bytes = usize::from(flexible);
    for field in structure
        .fields
        .iter()
        .filter(|f| f.tag.is_none() && contains(f.versions))
    {
        bytes += match &field.ty {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 | Type::Uint32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String if field.inflexible => 2,
            Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
            Type::Struct(_) if field.is_nullable() => 1,
            Type::Struct(name) => struct_bytes(message, message.structure(name), version),
        };
    }
    bytes
}
