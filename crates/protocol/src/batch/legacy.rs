//! Messages of magic 0 and 1, from before Kafka 0.11: read where an old log still holds them.
//!
//! A message is its own batch: offset, size, CRC-32, magic, attributes, a timestamp from magic 1
//! on, key and value. A compressed one holds other messages in its value: with offsets of their
//! own in magic 0, counted from the first in magic 1, where the wrapper has the offset of the last.

use std::borrow::Cow;

use millrace_model::{Offset, Timestamp};

use super::header::LOG_OVERHEAD;
use super::{BatchError, Record, RecordFault, RecordSet, batches};
use crate::compression::{Compression, decompress_bounded, repaired_lz4};
use crate::{DecodeError, Reader};

const COMPRESSION_MASK: u8 = 0x07;
const LOG_APPEND_TIME: u8 = 0x08;
const CRC_BYTES: usize = 4;

/// One message as it stands in the log.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    offset: Offset,
    magic: i8,
    attributes: u8,
    timestamp: Timestamp,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    size: usize,
}

/// The records of one message: itself, or those in its value.
#[derive(Clone, Debug)]
pub(super) struct LegacyRecords<'a> {
    /// The message itself, or the messages that its value unpacked to, in one buffer.
    bytes: Cow<'a, [u8]>,
    /// What to add to the offsets found there.
    offset_shift: i64,
    /// The wrapper's timestamp, where the broker gave it to all.
    append_time: Option<Timestamp>,
}

/// Checks the checksum of one message.
pub(super) fn check(message: &[u8]) -> Result<(), BatchError> {
    let (stored, covered) = message
        .get(LOG_OVERHEAD..)
        .and_then(|counted| counted.split_first_chunk::<CRC_BYTES>())
        .ok_or(BatchError::CutOff)?;
    let stored = u32::from_be_bytes(*stored);
    let mut crc = flate2::Crc::new();
    crc.update(covered);
    let computed = crc.sum();
    if stored != computed {
        return Err(BatchError::Crc { stored, computed });
    }
    Ok(())
}

/// The timestamp of one message.
pub(super) fn timestamp(message: &[u8]) -> Result<Timestamp, BatchError> {
    Ok(parse(message)?.timestamp)
}

/// The records of one message.
pub(super) fn records(message: &[u8], limit: usize) -> Result<RecordSet<'_>, BatchError> {
    let outer = parse(message)?;
    let codec = Compression::from_id(outer.attributes & COMPRESSION_MASK)?;
    if codec == Compression::None {
        return Ok(RecordSet::of_legacy(LegacyRecords {
            bytes: Cow::Borrowed(message),
            offset_shift: 0,
            append_time: None,
        }));
    }
    let packed = outer.value.ok_or(BatchError::Record(RecordFault::Size))?;
    let packed = match codec {
        Compression::Lz4 if outer.magic == 0 => repaired_lz4(packed),
        _ => Cow::Borrowed(packed),
    };
    let inner = decompress_bounded(codec, &packed, limit)?;
    let last = last_inner_offset(&inner, outer.magic)?;
    Ok(RecordSet::of_legacy(LegacyRecords {
        bytes: Cow::Owned(inner),
        offset_shift: match outer.magic {
            0 => 0,
            _ => outer.offset.get().wrapping_sub(last),
        },
        append_time: (outer.attributes & LOG_APPEND_TIME != 0).then_some(outer.timestamp),
    }))
}

/// Checks all inner messages; returns the offset of the last one.
fn last_inner_offset(inner: &[u8], magic: i8) -> Result<i64, BatchError> {
    let mut last = None;
    for message in batches(inner) {
        let message = message?;
        let parsed = parse(message.bytes)?;
        if parsed.magic != magic {
            return Err(BatchError::Record(RecordFault::InnerMagic));
        }
        if parsed.attributes & COMPRESSION_MASK != 0 {
            return Err(BatchError::Record(RecordFault::Nested));
        }
        last = Some(parsed.offset.get());
    }
    last.ok_or(BatchError::Record(RecordFault::TooFew))
}

impl LegacyRecords<'_> {
    /// The records in order; they were checked when they were unpacked.
    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        batches(&self.bytes)
            .map_while(Result::ok)
            .map_while(|batch| {
                let message = parse(batch.bytes).ok()?;
                let offset = Offset(message.offset.get().wrapping_add(self.offset_shift));
                let timestamp = self.append_time.unwrap_or(message.timestamp);
                Some(Record::legacy(
                    offset,
                    timestamp,
                    message.key,
                    message.value,
                    message.size,
                ))
            })
    }
}

fn parse(bytes: &[u8]) -> Result<Message<'_>, BatchError> {
    let mut r = Reader::new(bytes);
    read(&mut r, bytes.len()).map_err(|_| BatchError::Record(RecordFault::Size))
}

fn read<'a>(r: &mut Reader<'a>, size: usize) -> Result<Message<'a>, DecodeError> {
    let offset = Offset(r.i64()?);
    r.take(size_of::<i32>() + CRC_BYTES)?;
    let magic = r.i8()?;
    let attributes = r.i8()?.cast_unsigned();
    let timestamp = if magic == 0 {
        Timestamp::NONE
    } else {
        Timestamp(r.i64()?)
    };
    let key = r.byte_string(false)?;
    let value = r.byte_string(false)?;
    Ok(Message {
        offset,
        magic,
        attributes,
        timestamp,
        key,
        value,
        size,
    })
}
