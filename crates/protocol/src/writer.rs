//! Writing Kafka's primitive types, and the list of segments a response is sent as.

use bytes::{Bytes, BytesMut};

use crate::EncodeError;

/// Shared bytes shorter than this are copied: a segment costs more than the copy.
const MIN_SHARED_BYTES: usize = 512;

/// A piece of an encoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes to be sent as they are.
    Bytes(Bytes),
    /// So many bytes that the sender fills from elsewhere, a range of a file say. Holes come in the
    /// order in which their [`crate::Records`] were written.
    Hole(usize),
}

/// Collects an encoded message: what is small in one buffer, what is shared or missing as segments
/// of its own.
#[derive(Debug, Default)]
pub struct Writer {
    done: Vec<Done>,
    /// Bytes in `done`.
    done_bytes: usize,
    tail: BytesMut,
    /// Whether the first four bytes are to hold the length of all that follows.
    framed: bool,
}

#[derive(Debug)]
enum Done {
    Own(BytesMut),
    Shared(Bytes),
    Hole(usize),
}

/// Where a tagged field began; see [`Writer::begin_tag`].
#[derive(Clone, Copy, Debug)]
pub struct TagMark(usize);

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer {
            tail: BytesMut::with_capacity(bytes),
            ..Writer::default()
        }
    }

    /// A writer whose output begins with the four bytes of length that Kafka puts before every
    /// request and response; they are filled in at the end.
    pub fn framed(bytes: usize) -> Writer {
        let mut writer = Writer {
            framed: true,
            ..Writer::with_capacity(bytes + 4)
        };
        writer.put(&[0; 4]);
        writer
    }

    /// Bytes written so far, holes and the length prefix included.
    pub fn len(&self) -> usize {
        self.done_bytes + self.tail.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Plain bytes, copied.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// `int8`.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.put(&value.to_be_bytes());
    }

    /// `int16`.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    /// `int32`.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    /// `int64`.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    /// An unsigned varint.
    pub fn unsigned_varint(&mut self, value: u32) {
        let (bytes, length) = varint_bytes(u64::from(value));
        self.put(&bytes[..length]);
    }

    /// A signed (zigzag) varint, as records use it.
    pub fn varint(&mut self, value: i32) {
        self.unsigned_varint(((value << 1) ^ (value >> 31)).cast_unsigned());
    }

    /// A signed (zigzag) varint of 64 bits, as records use it.
    pub fn varlong(&mut self, value: i64) {
        let (bytes, length) = varint_bytes(((value << 1) ^ (value >> 63)).cast_unsigned());
        self.put(&bytes[..length]);
    }

    /// A text; `None` is null.
    pub fn text(&mut self, text: Option<&str>, flex: bool) -> Result<(), EncodeError> {
        let length = match text {
            Some(text) => {
                let length = i16::try_from(text.len());
                length.map_err(|_| EncodeError::Length(text.len()))?
            }
            None => -1,
        };
        if flex {
            self.unsigned_varint((i32::from(length) + 1).cast_unsigned());
        } else {
            self.i16(length);
        }
        self.put(text.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// The length of a byte string or the number of elements of an array; `None` is null.
    pub fn count(&mut self, count: Option<usize>, flex: bool) -> Result<(), EncodeError> {
        let length = match count {
            Some(count) => i32::try_from(count).map_err(|_| EncodeError::Length(count))?,
            None => -1,
        };
        if flex {
            self.unsigned_varint(length.cast_unsigned().wrapping_add(1));
        } else {
            self.i32(length);
        }
        Ok(())
    }

    /// A byte string, copied; `None` is null.
    pub fn byte_string(&mut self, bytes: Option<&[u8]>, flex: bool) -> Result<(), EncodeError> {
        self.count(bytes.map(<[u8]>::len), flex)?;
        self.put(bytes.unwrap_or_default());
        Ok(())
    }

    /// Plain bytes, shared rather than copied unless they are few.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < MIN_SHARED_BYTES {
            return self.put(bytes);
        }
        self.close_tail();
        self.done_bytes += bytes.len();
        self.done.push(Done::Shared(bytes.clone()));
    }

    /// Leaves a place for `length` bytes that the sender will fill.
    pub fn hole(&mut self, length: usize) {
        if length == 0 {
            return;
        }
        self.close_tail();
        self.done_bytes += length;
        self.done.push(Done::Hole(length));
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.done_bytes += self.tail.len();
            let own = self.tail.split();
            self.done.push(Done::Own(own));
        }
    }

    /// Begins a tagged field; what is written until [`Writer::end_tag`] is its value.
    pub fn begin_tag(&mut self, tag: u32) -> TagMark {
        self.unsigned_varint(tag);
        TagMark(self.len())
    }

    /// Ends the tagged field that began at `mark`: puts its size before it.
    pub fn end_tag(&mut self, mark: TagMark) -> Result<(), EncodeError> {
        let size = self.len() - mark.0;
        let size = u32::try_from(size).map_err(|_| EncodeError::Length(size))?;
        let (bytes, length) = varint_bytes(u64::from(size));
        // No schema has records inside a tagged field, so the value is still in the tail.
        let at = mark
            .0
            .checked_sub(self.done_bytes)
            .expect("a tagged field lies in the tail");
        let end = self.tail.len();
        self.put(&bytes[..length]);
        self.tail.copy_within(at..end, at + length);
        self.tail[at..at + length].copy_from_slice(&bytes[..length]);
        Ok(())
    }

    /// Everything written, as pieces to be sent one after the other.
    pub fn into_segments(mut self) -> Vec<Segment> {
        self.close_tail();
        if self.framed {
            let length = u32::try_from(self.done_bytes - 4).unwrap_or(u32::MAX);
            if let Some(Done::Own(first)) = self.done.first_mut() {
                first[..4].copy_from_slice(&length.to_be_bytes());
            }
        }
        let seal = |done| match done {
            Done::Own(bytes) => Segment::Bytes(bytes.freeze()),
            Done::Shared(bytes) => Segment::Bytes(bytes),
            Done::Hole(length) => Segment::Hole(length),
        };
        self.done.into_iter().map(seal).collect()
    }

    /// Everything written, in one piece.
    ///
    /// # Panics
    /// If a hole was left: nobody could fill it any more.
    pub fn into_bytes(self) -> Bytes {
        let mut segments = self.into_segments();
        if segments.len() == 1
            && let Some(Segment::Bytes(only)) = segments.pop()
        {
            return only;
        }
        let mut whole = BytesMut::new();
        for segment in segments {
            match segment {
                Segment::Bytes(bytes) => whole.extend_from_slice(&bytes),
                Segment::Hole(length) => panic!("a hole of {length} bytes was never filled"),
            }
        }
        whole.freeze()
    }
}

/// The bytes of an unsigned varint, and how many there are.
fn varint_bytes(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length = 0;
    loop {
        bytes[length] = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return (bytes, length + 1);
        }
        bytes[length] |= 0x80;
        length += 1;
    }
}
