//! Writes random messages from the schema facts: a codec of its own, as plain as can be.

use bytes::Bytes;

use crate::schema::{Field, Message, Struct, Type, Versions};

/// A random message, in its canonical bytes: tagged fields at their defaults are left out.
pub fn random(message: &Message, version: i16, seed: u64) -> Bytes {
    let mut writer = Random {
        message,
        version,
        state: seed | 1,
        out: Vec::new(),
    };
    writer.structure(&message.structs[0]);
    writer.out.into()
}

struct Random<'a> {
    message: &'a Message,
    version: i16,
    state: u64,
    out: Vec<u8>,
}

impl<'a> Random<'a> {
    fn roll(&mut self, sides: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % sides
    }

    fn has(&self, versions: Versions) -> bool {
        versions.low <= self.version && self.version <= versions.high
    }

    fn flexible(&self) -> bool {
        self.has(self.message.flexible)
    }

    fn structure(&mut self, structure: &'a Struct) {
        for field in structure.fields.iter().filter(|field| field.tag.is_none()) {
            if self.has(field.versions) {
                self.field(field);
            }
        }
        if self.flexible() {
            self.tags(structure);
        }
    }

    fn field(&mut self, field: &'a Field) {
        let null = self.has(field.nullable) && self.roll(4) == 0;
        let flexible = self.flexible() && !field.inflexible;
        if let Type::Struct(name) = &field.ty {
            if field.is_nullable() {
                self.out.push(if null { 0xff } else { 1 });
            }
            if !null {
                self.structure(self.message.structure(name));
            }
        } else if null {
            self.length(&field.ty, None, flexible);
        } else {
            self.value(&field.ty, flexible, 0);
        }
    }

    /// Tagged fields, none of them at its default, and now and then one nobody knows.
    fn tags(&mut self, structure: &'a Struct) {
        let mut fields: Vec<&Field> = structure.fields.iter().collect();
        fields.retain(|field| field.tag.is_some() && self.has(field.versions));
        fields.retain(|_| self.roll(2) == 0);
        fields.sort_by_key(|field| field.tag);
        let unknown = self.roll(4) == 0;
        self.varint(fields.len() as u32 + u32::from(unknown));
        for field in fields {
            let before = std::mem::take(&mut self.out);
            match &field.ty {
                Type::Struct(name) => self.structure(self.message.structure(name)),
                ty => self.value(ty, true, 1),
            }
            let value = std::mem::replace(&mut self.out, before);
            self.tag(field.tag.expect("only tagged ones"), &value);
        }
        if unknown {
            self.tag(10_000, b"?");
        }
    }

    fn tag(&mut self, tag: u32, value: &[u8]) {
        self.varint(tag);
        self.varint(value.len() as u32);
        self.out.extend(value);
    }

    /// A value that is not null; texts, bytes and arrays hold at least `least`.
    fn value(&mut self, ty: &'a Type, flexible: bool, least: u64) {
        match ty {
            // True, where it must not be the default: no tagged field is true by default.
            Type::Bool => {
                let value = if least > 0 { 1 } else { self.roll(2) as u8 };
                self.out.push(value);
            }
            Type::Int8 => self.number(1),
            Type::Int16 | Type::Uint16 => self.number(2),
            Type::Int32 | Type::Uint32 => self.number(4),
            Type::Int64 => self.number(8),
            Type::Float64 => {
                let value = self.roll(1_000_000) as f64 / 7.0;
                self.out.extend(value.to_be_bytes());
            }
            Type::Uuid => self.number(16),
            Type::String | Type::Bytes | Type::Records => {
                let length = least + self.roll(9);
                self.length(ty, Some(length as u32), flexible);
                for _ in 0..length {
                    let letter = b'a' + self.roll(26) as u8;
                    self.out.push(letter);
                }
            }
            Type::Array(element) => {
                let count = least + self.roll(3);
                self.length(ty, Some(count as u32), flexible);
                for _ in 0..count {
                    self.value(element, flexible, 0);
                }
            }
            Type::Struct(name) => self.structure(self.message.structure(name)),
        }
    }

    /// A number that is neither 0 nor -1, which are defaults of tagged fields.
    fn number(&mut self, bytes: usize) {
        let first = 1 + self.roll(120) as u8;
        self.out.push(first);
        for _ in 1..bytes {
            let byte = self.roll(256) as u8;
            self.out.push(byte);
        }
    }

    fn length(&mut self, ty: &Type, length: Option<u32>, flexible: bool) {
        match (flexible, ty) {
            (true, _) => self.varint(length.map_or(0, |length| length + 1)),
            (false, Type::String) => {
                let length = length.map_or(-1, |length| length as i16);
                self.out.extend(length.to_be_bytes());
            }
            (false, _) => {
                let length = length.map_or(-1, |length| length as i32);
                self.out.extend(length.to_be_bytes());
            }
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
