//! The `records` of a response: batches that are sent on without being touched.

use bytes::Bytes;

use crate::{EncodeError, Writer};

/// Record batches inside a message, in pieces that need not be in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(Pieces);

#[derive(Clone, Debug, PartialEq)]
enum Pieces {
    One(Bytes),
    Many(Vec<RecordsPart>),
}

/// A piece of [`Records`].
#[derive(Clone, Debug, PartialEq)]
pub enum RecordsPart {
    /// Bytes in memory.
    Bytes(Bytes),
    /// So many bytes that whoever sends the message fills in, from a file say.
    Hole(usize),
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces::One(Bytes::new())
    }
}

impl Records {
    /// Records out of several pieces, in order.
    pub fn of_parts(parts: Vec<RecordsPart>) -> Records {
        Records(Pieces::Many(parts))
    }

    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        match &self.0 {
            Pieces::One(bytes) => bytes.len(),
            Pieces::Many(parts) => parts.iter().map(RecordsPart::len).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where they are in one piece: always so after decoding.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Pieces::One(bytes) => Some(bytes),
            Pieces::Many(parts) => match parts.as_slice() {
                [RecordsPart::Bytes(bytes)] => Some(bytes),
                _ => None,
            },
        }
    }

    pub(crate) fn put(&self, writer: &mut Writer, flex: bool) -> Result<(), EncodeError> {
        writer.count(Some(self.len()), flex)?;
        match &self.0 {
            Pieces::One(bytes) => writer.share(bytes),
            Pieces::Many(parts) => {
                for part in parts {
                    match part {
                        RecordsPart::Bytes(bytes) => writer.share(bytes),
                        RecordsPart::Hole(length) => writer.hole(*length),
                    }
                }
            }
        }
        Ok(())
    }
}

impl RecordsPart {
    /// Bytes of this piece.
    pub fn len(&self) -> usize {
        match self {
            RecordsPart::Bytes(bytes) => bytes.len(),
            RecordsPart::Hole(length) => *length,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(Pieces::One(bytes))
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(parts: Vec<Bytes>) -> Records {
        Records::of_parts(parts.into_iter().map(RecordsPart::Bytes).collect())
    }
}
