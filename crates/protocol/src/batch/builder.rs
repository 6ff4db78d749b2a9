//! Making batches of magic 2: for our own client, for internal records and for tests.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::header::write_crc;
use super::{BatchError, BatchHeader, HEADER_BYTES, RecordHeader, RecordSet, TimestampType};
use crate::Writer;
use crate::compression::{Compression, CompressionError, compress, compress_at, output_limit};

/// What a batch says of itself beside its records.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// The codec.
    pub compression: Compression,
    /// Who gives the timestamps; with log append time, `append_time` is everybody's.
    pub timestamp_type: TimestampType,
    /// The time of the append, for log append time.
    pub append_time: Timestamp,
    /// The offset from which those of the records are counted; 0 for what a producer sends.
    pub base_offset: Offset,
    /// The leader's epoch; none for what a producer sends.
    pub leader_epoch: LeaderEpoch,
    /// The idempotent producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether its records are control records.
    pub control: bool,
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    records: Writer,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            append_time: Timestamp::NONE,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            transactional: false,
            control: false,
        }
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> BatchBuilder {
        BatchBuilder {
            options,
            records: Writer::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
        }
    }

    /// An empty batch of plain records.
    pub fn compressed(compression: Compression) -> BatchBuilder {
        BatchBuilder::new(BatchOptions {
            compression,
            ..BatchOptions::default()
        })
    }

    /// Adds a record behind the last one.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        self.push_at(self.last_offset_delta + 1, timestamp, key, value, headers);
    }

    /// Adds a record whose offset is `offset_delta` behind the base offset; deltas must rise.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.get().wrapping_sub(self.base_timestamp.get());
        let deltas = (timestamp_delta, offset_delta);
        put_record(&mut self.records, deltas, key, value, headers);
        self.count += 1;
        self.last_offset_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Names the idempotent producer and the sequence of the first record, which are often known
    /// only when the batch is full.
    pub fn number(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) {
        self.options.producer_id = id;
        self.options.producer_epoch = epoch;
        self.options.base_sequence = base_sequence;
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch, were it not compressed.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch.
    ///
    /// # Errors
    /// If the codec fails, for want of memory.
    pub fn build(self) -> Result<BytesMut, CompressionError> {
        let options = self.options;
        let records: Bytes = match options.compression {
            Compression::None => self.records.into_bytes(),
            codec => compress(codec, &self.records.into_bytes())?.into(),
        };
        let max_timestamp = match options.timestamp_type {
            TimestampType::CreateTime => self.max_timestamp,
            TimestampType::LogAppendTime => options.append_time,
        };
        let header = BatchHeader {
            base_offset: options.base_offset,
            size: HEADER_BYTES + records.len(),
            leader_epoch: options.leader_epoch,
            crc: 0,
            attributes: BatchHeader::attributes_of(
                options.compression,
                options.timestamp_type,
                options.transactional,
                options.control,
            ),
            last_offset_delta: self.last_offset_delta.max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        };
        let mut batch = BytesMut::with_capacity(header.size);
        batch.put_slice(&header.to_bytes());
        batch.put_slice(&records);
        write_crc(&mut batch);
        Ok(batch)
    }
}

/// One whole batch with its records packed by another codec, with that much effort; all else stays as it is. For topics
/// whose `compression.type` is not `producer`.
///
/// # Errors
/// If the batch is broken.
pub fn rewritten(
    batch: &[u8],
    compression: Compression,
    level: Option<i32>,
) -> Result<BytesMut, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let records = RecordSet::of_batch(batch, output_limit(batch.len()))?;
    let body = match compression {
        Compression::None => records.into_body(),
        codec => compress_at(codec, level, &records.into_body())?,
    };
    let mask = i16::from(0b111u8);
    let header = BatchHeader {
        size: HEADER_BYTES + body.len(),
        attributes: header.attributes & !mask | i16::from(compression.id()),
        ..header
    };
    let mut batch = BytesMut::with_capacity(header.size);
    batch.put_slice(&header.to_bytes());
    batch.put_slice(&body);
    write_crc(&mut batch);
    Ok(batch)
}

/// Writes one record, its time and offset counted from those of its batch.
pub(super) fn put_record(
    records: &mut Writer,
    (timestamp_delta, offset_delta): (i64, i32),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[RecordHeader<'_>],
) {
    let body_length = 1
        + varlong_bytes(timestamp_delta)
        + varlong_bytes(offset_delta.into())
        + byte_string_bytes(key)
        + byte_string_bytes(value)
        + varlong_bytes(headers.len() as i64)
        + headers.iter().map(header_bytes).sum::<usize>();
    records.varint(length_of(body_length));
    records.i8(0);
    records.varlong(timestamp_delta);
    records.varint(offset_delta);
    put_byte_string(records, key);
    put_byte_string(records, value);
    records.varint(length_of(headers.len()));
    for header in headers {
        put_byte_string(records, Some(header.key));
        put_byte_string(records, header.value);
    }
}

fn put_byte_string(out: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            out.varint(length_of(bytes.len()));
            out.put(bytes);
        }
        None => out.varint(-1),
    }
}

/// Bytes of a signed varint.
fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = u64::BITS - (zigzag | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn byte_string_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varlong_bytes(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn header_bytes(header: &RecordHeader<'_>) -> usize {
    byte_string_bytes(Some(header.key)) + byte_string_bytes(header.value)
}

/// A length as records write it.
pub(super) fn length_of(length: usize) -> i32 {
    i32::try_from(length).expect("a record is below 2 GiB")
}
