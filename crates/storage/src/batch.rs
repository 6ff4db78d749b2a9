//! The head of a record batch, as far as a log needs it (magic 2, Kafka class `DefaultRecordBatch`).

use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the part that the length counts.
const LENGTH_OVERHEAD: usize = 12;
/// Where the checksummed part begins.
const CRC_START: usize = 21;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What the first 61 bytes of a batch say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: Offset,
    /// Bytes of the whole batch.
    pub(crate) size: usize,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: Sequence,
    pub(crate) count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

impl Header {
    /// Reads the head of the batch at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("{} bytes are too few for a batch", bytes.len()));
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(format!("magic {magic} is not 2"));
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let size = usize::try_from(length).unwrap_or(0) + LENGTH_OVERHEAD;
        if size < HEADER_BYTES {
            return Err(format!("the length {length} is too small for a batch"));
        }
        let header = Header {
            base_offset: Offset(i64::from_be_bytes(array(bytes, 0))),
            size,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(array(bytes, 12))),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(array(bytes, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(array(bytes, 35))),
            producer_id: ProducerId(i64::from_be_bytes(array(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(array(bytes, 51))),
            base_sequence: Sequence(i32::from_be_bytes(array(bytes, 53))),
            count: i32::from_be_bytes(array(bytes, 57)),
        };
        if header.last_offset_delta < 0 || header.base_offset < Offset::ZERO {
            return Err("the offsets are negative".to_owned());
        }
        if header.base_offset.get() > i64::MAX - i64::from(i32::MAX) - 1 {
            return Err("the offsets are beyond what a log can hold".to_owned());
        }
        Ok(header)
    }

    /// The offset of the last record.
    pub(crate) fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset that follows the batch.
    pub(crate) fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    pub(crate) fn last_sequence(&self) -> Sequence {
        if self.base_sequence == Sequence::NONE {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }
}

/// Whether the checksum of one whole batch is right.
pub(crate) fn crc_matches(batch: &[u8], header: &Header) -> bool {
    crc32c::crc32c(&batch[CRC_START..header.size]) == header.crc
}

/// Writes offset and leader epoch into a batch; neither is under its checksum.
pub(crate) fn stamp(batch: &mut [u8], base: Offset, epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base.get().to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.get().to_be_bytes());
}

/// Makes a batch carry the broker's time and computes its checksum anew.
pub(crate) fn set_log_append_time(batch: &mut [u8], header: &mut Header, now: Timestamp) {
    header.attributes |= LOG_APPEND_TIME;
    header.max_timestamp = now;
    batch[21..23].copy_from_slice(&header.attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now.get().to_be_bytes());
    header.crc = crc32c::crc32c(&batch[CRC_START..header.size]);
    batch[17..21].copy_from_slice(&header.crc.to_be_bytes());
}

/// The whole batches at the beginning of `bytes`, each with its head; stops at the first bytes
/// that are none, and at a batch that is not complete.
pub(crate) fn whole_batches(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let header = Header::parse(&bytes[position..]).ok()?;
        let at = position;
        position = at
            .checked_add(header.size)
            .filter(|end| *end <= bytes.len())?;
        Some((at, header))
    })
}

/// A variable-length integer of a record, zigzag; advances `input`.
fn varint(input: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

/// The coordinator epoch in a control batch that ends a transaction; `None` for other batches.
pub(crate) fn control_marker(batch: &[u8]) -> Option<i32> {
    let mut input = batch.get(HEADER_BYTES..)?;
    varint(&mut input)?;
    input = input.get(1..)?;
    varint(&mut input)?;
    varint(&mut input)?;
    let key_len = usize::try_from(varint(&mut input)?).ok()?;
    let key = input.get(..key_len)?;
    input = input.get(key_len..)?;
    let kind = i16::from_be_bytes(array(key.get(2..4)?, 0));
    varint(&mut input)?;
    // Types 0 and 1 are abort and commit; the value begins with its version.
    let epoch = input.get(2..6)?;
    matches!(kind, 0 | 1).then(|| i32::from_be_bytes(array(epoch, 0)))
}

/// Offset and timestamp of each record of a batch.
pub(crate) fn record_times(
    batch: &[u8],
    header: &Header,
) -> Result<Vec<(Offset, Timestamp)>, String> {
    if header.compression() != 0 {
        return Ok(vec![(header.last_offset(), header.max_timestamp)]);
    }
    let mut input = &batch[HEADER_BYTES..];
    let mut times = Vec::new();
    for _ in 0..header.count {
        let mut read = || {
            let len = usize::try_from(varint(&mut input)?).ok()?;
            let mut record = input.get(1..len)?;
            input = input.get(len..)?;
            Some((varint(&mut record)?, varint(&mut record)?))
        };
        let (time, offset) = read().ok_or("a record is malformed")?;
        let timestamp = match header.is_log_append_time() {
            true => header.max_timestamp,
            false => Timestamp(header.base_timestamp.get().wrapping_add(time)),
        };
        times.push((header.base_offset.plus(offset), timestamp));
    }
    Ok(times)
}
