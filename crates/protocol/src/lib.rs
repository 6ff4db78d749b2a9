//! Kafka's wire format: bytes in, typed values out, and back.

pub mod api;
mod error;
pub mod header;
mod message;
pub mod messages;
mod reader;
mod records;
mod tagged;
mod wire;
mod writer;

pub use error::{CodecError, DecodeError, EncodeError};
pub use message::{Decode, Message};
pub use reader::{Reader, Tags};
pub use records::{Records, RecordsPart};
pub use tagged::TaggedFields;
pub use wire::{ReadWire, WriteWire};
pub use writer::{Segment, TagMark, Writer};

/// What the generated code stands on.
pub(crate) mod support {
    pub(crate) use bytes::Bytes;
    pub(crate) use millrace_model::Uuid;

    pub(crate) use crate::wire::{
        NullableStruct, ReadWire, WriteWire, absent, null, read_tagged_struct, write_tagged_struct,
    };
    pub(crate) use crate::{
        DecodeError, EncodeError, Message, Reader, Records, TaggedFields, Writer,
    };
}
