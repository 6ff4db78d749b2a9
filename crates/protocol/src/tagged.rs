//! Tagged fields the schema does not know (KIP-482), kept so that they survive.

use crate::{DecodeError, Reader, Writer};

/// Unknown tagged fields of one struct, in the order in which they were read.
///
/// Held as the bytes they came in, so that many tiny ones cost no more memory than on the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TaggedFields(Option<Box<Kept>>);

#[derive(Clone, PartialEq, Eq)]
struct Kept {
    count: u32,
    /// Tag, size and value of each field, as on the wire.
    wire: Vec<u8>,
}

impl TaggedFields {
    /// How many fields there are.
    pub fn len(&self) -> u32 {
        self.0.as_ref().map_or(0, |kept| kept.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a field. Tags must rise, and must lie above those the schema knows: Kafka writes them
    /// behind those, in this order.
    pub fn push(&mut self, tag: u32, value: &[u8]) {
        let empty = || {
            Box::new(Kept {
                count: 0,
                wire: Vec::new(),
            })
        };
        let kept = self.0.get_or_insert_with(empty);
        kept.count += 1;
        put_varint(&mut kept.wire, tag);
        put_varint(
            &mut kept.wire,
            u32::try_from(value.len()).expect("a frame is below 4 GiB"),
        );
        kept.wire.extend_from_slice(value);
    }

    /// Each tag with its value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut reader = Reader::new(self.0.as_ref().map_or(&[], |kept| &kept.wire));
        std::iter::from_fn(move || {
            let tag = reader.unsigned_varint().ok()?;
            let size = reader.unsigned_varint().ok()?;
            Some((tag, reader.take(size as usize).ok()?))
        })
    }

    /// Reads a whole section whose struct knows no tags.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<TaggedFields, DecodeError> {
        let mut fields = TaggedFields::default();
        let mut tags = reader.tags()?;
        while let Some((tag, mut field)) = tags.next(reader)? {
            fields.push(tag, field.rest());
        }
        Ok(fields)
    }

    /// Writes a whole section; `known` fields are counted but written by the caller.
    pub(crate) fn write(&self, writer: &mut Writer, known: u32) {
        self.write_count(writer, known);
        self.write_fields(writer);
    }

    /// Writes how many fields the section has, `known` ones included.
    pub(crate) fn write_count(&self, writer: &mut Writer, known: u32) {
        writer.unsigned_varint(self.len() + known);
    }

    /// Writes the fields themselves.
    pub(crate) fn write_fields(&self, writer: &mut Writer) {
        if let Some(kept) = &self.0 {
            writer.put(&kept.wire);
        }
    }
}

impl std::fmt::Debug for TaggedFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
