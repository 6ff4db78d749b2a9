//! Fields that a newer release wrote: kept as bytes, and written again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use prost::encoding::{DecodeContext, decode_key, skip_field};

/// Encoded fields that this build does not know, in the order of their tags; mostly none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UnknownFields(Option<Arc<[u8]>>);

impl UnknownFields {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The encoded fields.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Collects the fields of `payload` with a tag above `known_up_to`.
    pub(super) fn beyond(
        known_up_to: u32,
        payload: &[u8],
    ) -> Result<UnknownFields, prost::DecodeError> {
        let mut fields = BTreeMap::new();
        collect(payload, known_up_to, &mut fields)?;
        Ok(UnknownFields::from_fields(&fields))
    }

    /// Both; where both hold a tag, the newer one's fields stand.
    #[must_use]
    pub(crate) fn merged_with(&self, newer: &UnknownFields) -> UnknownFields {
        if newer.is_empty() {
            return self.clone();
        }
        let mut fields = BTreeMap::new();
        let mut replacing = BTreeMap::new();
        let both = collect(self.as_bytes(), 0, &mut fields)
            .and_then(|()| collect(newer.as_bytes(), 0, &mut replacing));
        debug_assert!(
            both.is_ok(),
            "unknown fields are checked when they are read"
        );
        fields.append(&mut replacing);
        UnknownFields::from_fields(&fields)
    }

    fn from_fields(fields: &BTreeMap<u32, BytesMut>) -> UnknownFields {
        if fields.is_empty() {
            return UnknownFields(None);
        }
        let all: Vec<u8> = fields.values().flat_map(|f| f.iter().copied()).collect();
        UnknownFields(Some(all.into()))
    }
}

impl std::fmt::Debug for UnknownFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.as_bytes().len())
    }
}

fn collect(
    payload: &[u8],
    known_up_to: u32,
    fields: &mut BTreeMap<u32, BytesMut>,
) -> Result<(), prost::DecodeError> {
    let mut rest = payload;
    while rest.has_remaining() {
        let start = rest;
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if tag > known_up_to {
            let field = &start[..start.len() - rest.len()];
            fields.entry(tag).or_default().put_slice(field);
        }
    }
    Ok(())
}
