//! What every message of the protocol can do.

use bytes::Bytes;

use crate::wire::{ReadWire, WriteWire};
use crate::{CodecError, DecodeError, EncodeError, Reader, Writer};

/// A message of Kafka's schemas.
pub trait Message: WriteWire + Sized {
    /// The schema's name.
    const NAME: &'static str;
    /// The API key of a request or response, the type number of a record; -1 where there is none.
    const API_KEY: i16;
    /// Lowest and highest version.
    const VERSIONS: (i16, i16);
    /// The first flexible version (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Appends the message in this version.
    ///
    /// # Errors
    /// If there is no such version, or if a field is set (not at its default) that the version
    /// does not have and that the schema does not let us drop.
    fn encode(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !has_version::<Self>(version) {
            return Err(EncodeError::Version {
                message: Self::NAME,
                version,
            });
        }
        self.write(out, version, version >= Self::FLEXIBLE_FROM)
    }

    /// The message in this version, alone.
    ///
    /// # Errors
    /// As [`Message::encode`].
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.encode(&mut writer, version)?;
        Ok(writer.into_bytes())
    }
}

/// A message that can be decoded from bytes that live for `'a`.
pub trait Decode<'a>: Message {
    /// Reads the message in this version; what stands behind it is left in `input`.
    ///
    /// # Errors
    /// If there is no such version, or the bytes are not such a message.
    fn decode(input: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;
}

impl<'a, T: Message + ReadWire<'a>> Decode<'a> for T {
    fn decode(input: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        if !has_version::<Self>(version) {
            return Err(DecodeError::Version {
                message: Self::NAME,
                version,
            });
        }
        Self::read(input, version, version >= Self::FLEXIBLE_FROM)
    }
}

fn has_version<T: Message>(version: i16) -> bool {
    T::VERSIONS.0 <= version && version <= T::VERSIONS.1
}

/// Decodes all of `input` and encodes it again.
pub(crate) fn reencode_as<'a, T: Decode<'a>>(
    version: i16,
    input: &'a [u8],
) -> Result<Bytes, CodecError> {
    let mut reader = Reader::new(input);
    let message = T::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message.to_bytes(version)?)
}
