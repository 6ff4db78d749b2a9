//! The records of a batch.

use std::borrow::Cow;

use millrace_model::{Offset, Sequence, Timestamp};

use super::header::sequence_at;
use super::legacy::LegacyRecords;
use super::{BatchError, BatchHeader, HEADER_BYTES, RecordFault, TimestampType};
use crate::compression::{Compression, decompress_bounded};
use crate::{DecodeError, Reader};

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log.
    pub offset: Offset,
    /// When it was made or appended; none in magic 0.
    pub timestamp: Timestamp,
    /// Its number at the idempotent producer.
    pub sequence: Sequence,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Bytes the record takes in the batch, its length field included.
    pub size: usize,
    headers: &'a [u8],
    header_count: u32,
}

/// One header of a record (KIP-82).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Its key: UTF-8 if the producer keeps to the rules.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The records of one batch, unpacked.
#[derive(Clone, Debug)]
pub struct RecordSet<'a>(Kind<'a>);

#[derive(Clone, Debug)]
enum Kind<'a> {
    Current {
        header: BatchHeader,
        body: Cow<'a, [u8]>,
    },
    Legacy(LegacyRecords<'a>),
}

impl<'a> RecordSet<'a> {
    /// The records of one whole batch of magic 2, unpacked if need be into at most `limit` bytes.
    ///
    /// # Errors
    /// If the batch is cut off, its header broken, or the data cannot be unpacked.
    pub fn of_batch(batch: &'a [u8], limit: usize) -> Result<RecordSet<'a>, BatchError> {
        let header = BatchHeader::parse(batch)?;
        if header.record_count < 0 {
            return Err(BatchError::Record(RecordFault::NegativeCount(
                header.record_count,
            )));
        }
        let body = batch
            .get(HEADER_BYTES..header.size)
            .ok_or(BatchError::CutOff)?;
        // An emptied batch has no data, not even what the codec writes for nothing.
        let body = match header.compression()? {
            Compression::None => Cow::Borrowed(body),
            _ if body.is_empty() => Cow::Borrowed(body),
            codec => Cow::Owned(decompress_bounded(codec, body, limit)?),
        };
        Ok(RecordSet(Kind::Current { header, body }))
    }

    /// The unpacked bytes of the records of a batch of magic 2.
    pub(super) fn into_body(self) -> Vec<u8> {
        match self.0 {
            Kind::Current { body, .. } => body.into_owned(),
            Kind::Legacy(_) => Vec::new(),
        }
    }

    pub(super) fn of_legacy(records: LegacyRecords<'a>) -> RecordSet<'a> {
        RecordSet(Kind::Legacy(records))
    }

    /// The records in order. After an error there is nothing more. Bytes behind the last record
    /// are an error in its place, as in Kafka.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        let (mut current, mut legacy) = match &self.0 {
            Kind::Current { header, body } => (Some(CurrentIter::new(header, body)), None),
            Kind::Legacy(records) => (None, Some(records.iter())),
        };
        std::iter::from_fn(move || match (&mut current, &mut legacy) {
            (Some(records), _) => records.next(),
            (None, Some(records)) => records.next().map(Ok),
            (None, None) => None,
        })
    }
}

/// Walks the records of a batch of magic 2.
pub(super) struct CurrentIter<'a> {
    header: BatchHeader,
    reader: Reader<'a>,
    left: i32,
    done: bool,
}

impl<'a> CurrentIter<'a> {
    pub(super) fn new(header: &BatchHeader, body: &'a [u8]) -> CurrentIter<'a> {
        let left = header.record_count;
        CurrentIter {
            header: *header,
            reader: Reader::new(body),
            left,
            done: false,
        }
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, RecordFault> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.reader.remaining() == 0 {
            return Err(RecordFault::TooFew);
        }
        self.left -= 1;
        let before = self.reader.remaining();
        let length = self.reader.varint().map_err(|_| RecordFault::Size)?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Size)?;
        let body = self.reader.take(length).map_err(|_| RecordFault::Size)?;
        let size = before - self.reader.remaining();
        let record = self.parse(body, size)?;
        if self.left == 0 && self.reader.remaining() > 0 {
            return Err(RecordFault::TooMany);
        }
        Ok(Some(record))
    }

    fn parse(&self, body: &'a [u8], size: usize) -> Result<Record<'a>, RecordFault> {
        let wrong = |_: DecodeError| RecordFault::Size;
        let mut r = Reader::new(body);
        // The record's own attributes mean nothing yet.
        r.i8().map_err(wrong)?;
        let timestamp_delta = r.varlong().map_err(wrong)?;
        let offset_delta = r.varint().map_err(wrong)?;
        let key = byte_string(&mut r).map_err(wrong)?;
        let value = byte_string(&mut r).map_err(wrong)?;
        let count = r.varint().map_err(wrong)?;
        let header_count = u32::try_from(count).map_err(|_| RecordFault::Header)?;
        if header_count as usize > r.remaining() {
            return Err(RecordFault::Header);
        }
        let mut ahead = r;
        let headers = r.rest();
        for _ in 0..header_count {
            read_header(&mut ahead)?;
        }
        ahead.finish().map_err(wrong)?;
        let header = &self.header;
        let timestamp = match header.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => {
                Timestamp(header.base_timestamp.get().wrapping_add(timestamp_delta))
            }
        };
        let sequence = if header.base_sequence.get() < 0 {
            Sequence::NONE
        } else {
            sequence_at(header.base_sequence, offset_delta)
        };
        let offset = Offset(header.base_offset.get().wrapping_add(offset_delta.into()));
        Ok(Record {
            offset,
            timestamp,
            sequence,
            key,
            value,
            size,
            headers,
            header_count,
        })
    }
}

impl<'a> Iterator for CurrentIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read();
        self.done = !matches!(next, Ok(Some(_)));
        next.map_err(BatchError::Record).transpose()
    }
}

/// A byte string as records hold it; below zero is null.
fn byte_string<'a>(r: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match usize::try_from(r.varint()?) {
        Ok(length) => r.take(length).map(Some),
        Err(_) => Ok(None),
    }
}

fn read_header<'a>(r: &mut Reader<'a>) -> Result<RecordHeader<'a>, RecordFault> {
    let key = byte_string(r)
        .map_err(|_| RecordFault::Size)?
        .ok_or(RecordFault::Header)?;
    let value = byte_string(r).map_err(|_| RecordFault::Size)?;
    Ok(RecordHeader { key, value })
}

impl<'a> Record<'a> {
    /// A record of magic 0 or 1, which has neither headers nor a sequence.
    pub(super) fn legacy(
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        size: usize,
    ) -> Record<'a> {
        let sequence = Sequence::NONE;
        Record {
            offset,
            timestamp,
            sequence,
            key,
            value,
            size,
            headers: &[],
            header_count: 0,
        }
    }

    /// The headers, in order; keys may repeat.
    pub fn headers(&self) -> impl Iterator<Item = RecordHeader<'a>> + use<'a> {
        let mut reader = Reader::new(self.headers);
        (0..self.header_count).map_while(move |_| read_header(&mut reader).ok())
    }
}
