//! Reading Kafka's primitive types from a frame.

use bytes::Bytes;
use millrace_model::Uuid;

use crate::DecodeError;

/// A cursor over bytes that somebody else wrote.
///
/// Every method either returns a value and moves on or returns an error; none panics, and none
/// allocates more than the bytes that are left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The frame the bytes lie in, so that records can share it instead of being copied.
    frame: Option<&'a Bytes>,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl<'a> Reader<'a> {
    /// Reads `input` from its beginning.
    pub fn new(input: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: input,
            frame: None,
        }
    }

    /// Reads `frame` from its beginning; [`crate::Records`] in it will share its memory.
    pub fn of_frame(frame: &'a Bytes) -> Reader<'a> {
        Reader {
            rest: frame,
            frame: Some(frame),
        }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes all bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Refuses bytes that are left.
    pub fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    /// Takes `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes exactly `N` bytes.
    #[inline]
    pub fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// `int8`.
    #[inline]
    pub fn i8(&mut self) -> Result<i8> {
        self.array_of().map(i8::from_be_bytes)
    }

    /// `int16`.
    #[inline]
    pub fn i16(&mut self) -> Result<i16> {
        self.array_of().map(i16::from_be_bytes)
    }

    /// `int32`.
    #[inline]
    pub fn i32(&mut self) -> Result<i32> {
        self.array_of().map(i32::from_be_bytes)
    }

    /// `int64`.
    #[inline]
    pub fn i64(&mut self) -> Result<i64> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// `uuid`.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid> {
        self.array_of().map(Uuid)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value: u32 = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array_of()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                // Kafka drops the bits that do not fit, and refuses only a sixth byte.
                if byte & 0x80 != 0 {
                    return Err(DecodeError::Varint);
                }
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A signed (zigzag) varint of at most 32 bits, as records use it.
    pub fn varint(&mut self) -> Result<i32> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A signed (zigzag) varint of at most 64 bits, as records use it.
    pub fn varlong(&mut self) -> Result<i64> {
        let mut raw: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array_of()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()));
            }
        }
        Err(DecodeError::Varint)
    }

    /// The length of a text; `None` is null.
    fn text_length(&mut self, flex: bool) -> Result<Option<usize>> {
        let length = if flex {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(self.i16()?)
        };
        match length {
            -1 => Ok(None),
            0..=0x7fff => Ok(Some(length as usize)),
            // Kafka reads a length below zero as null where a text has two bytes of length.
            ..0 if !flex => Ok(None),
            _ => Err(DecodeError::Length(length)),
        }
    }

    /// A text; `None` is null.
    pub fn text(&mut self, flex: bool) -> Result<Option<&'a str>> {
        let Some(length) = self.text_length(flex)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Text)?;
        Ok(Some(text))
    }

    /// A byte string, records among them; `None` is null.
    pub fn byte_string(&mut self, flex: bool) -> Result<Option<&'a [u8]>> {
        let length = if flex {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(self.i32()?)
        };
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The number of elements of an array; `None` is null. Each element takes at least
    /// `min_bytes`, so a number that cannot be true is refused before anything is reserved.
    pub fn count(&mut self, flex: bool, min_bytes: usize) -> Result<Option<usize>> {
        let count = if flex {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(self.i32()?)
        };
        let Ok(count) = u32::try_from(count) else {
            return Ok(None);
        };
        if (count as usize).saturating_mul(min_bytes) > self.rest.len() {
            return Err(DecodeError::Count(count));
        }
        Ok(Some(count as usize))
    }

    /// `part`, which was taken from this reader, as bytes that live on: shared with the frame if
    /// there is one.
    pub fn share(&self, part: &'a [u8]) -> Bytes {
        match self.frame {
            Some(frame) if !part.is_empty() => frame.slice_ref(part),
            _ => Bytes::copy_from_slice(part),
        }
    }

    /// Begins a section of tagged fields (KIP-482).
    pub fn tags(&mut self) -> Result<Tags> {
        let count = self.unsigned_varint()?;
        // A tag and its size take a byte each.
        if (count as usize).saturating_mul(2) > self.rest.len() {
            return Err(DecodeError::Count(count));
        }
        Ok(Tags { left: count })
    }

    /// A reader of the next `length` bytes alone.
    fn sub(&mut self, length: usize) -> Result<Reader<'a>> {
        Ok(Reader {
            rest: self.take(length)?,
            frame: self.frame,
        })
    }
}

/// Where in `frame` the bytes of `part` stand, which were borrowed from it; `None` if they were not.
///
/// For whoever decoded a request borrowing from its frame and then takes pieces out of the frame
/// itself, a produced batch say, without copying them.
pub fn range_in(frame: &[u8], part: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= frame.len()).then_some(start..end)
}

/// A section of tagged fields that is being read.
#[derive(Debug)]
pub struct Tags {
    left: u32,
}

impl Tags {
    /// The next tag, and a reader of exactly that field.
    pub fn next<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Option<(u32, Reader<'a>)>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let tag = reader.unsigned_varint()?;
        let size = reader.unsigned_varint()?;
        Ok(Some((tag, reader.sub(size as usize)?)))
    }
}
