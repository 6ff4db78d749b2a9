//! The header of a batch of magic 2.

use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::BatchError;
use crate::Reader;
use crate::compression::{Compression, CompressionError};

/// Bytes before the records of a batch of magic 2.
pub const HEADER_BYTES: usize = 61;
/// Base offset and size: what stands before the bytes that the size field counts.
pub(super) const LOG_OVERHEAD: usize = 12;
pub(super) const MAGIC_AT: usize = 16;

const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Who gave the records their timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appended the batch: all records have the batch's max timestamp.
    LogAppendTime,
}

/// The header of a batch of magic 2, all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset from which those of the records are counted.
    pub base_offset: Offset,
    /// Bytes of the whole batch, this header included.
    pub size: usize,
    /// The epoch of the leader that appended it; not covered by the checksum.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags; see the methods.
    pub attributes: i16,
    /// The last offset less the base offset; compaction leaves it as it was.
    pub last_offset_delta: i32,
    /// The time from which those of the records are counted, or the delete horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records, or the time of the append.
    pub max_timestamp: Timestamp,
    /// The idempotent producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header; the records need not be there yet, and the checksum is not looked at.
    ///
    /// # Errors
    /// If `bytes` are fewer than [`HEADER_BYTES`], the magic is not 2, or the size field is below
    /// the header's own size.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let magic = *bytes.get(MAGIC_AT).ok_or(BatchError::CutOff)?;
        if magic != 2 {
            return Err(BatchError::Magic(magic.cast_signed()));
        }
        BatchHeader::read(&mut Reader::new(bytes))
    }

    fn read(r: &mut Reader<'_>) -> Result<BatchHeader, BatchError> {
        let short = |_| BatchError::CutOff;
        let base_offset = Offset(r.i64().map_err(short)?);
        let size = i64::from(r.i32().map_err(short)?) + LOG_OVERHEAD as i64;
        let leader_epoch = LeaderEpoch(r.i32().map_err(short)?);
        r.i8().map_err(short)?;
        let header = BatchHeader {
            base_offset,
            size: usize::try_from(size).unwrap_or_default(),
            leader_epoch,
            crc: r.i32().map_err(short)?.cast_unsigned(),
            attributes: r.i16().map_err(short)?,
            last_offset_delta: r.i32().map_err(short)?,
            base_timestamp: Timestamp(r.i64().map_err(short)?),
            max_timestamp: Timestamp(r.i64().map_err(short)?),
            producer_id: ProducerId(r.i64().map_err(short)?),
            producer_epoch: ProducerEpoch(r.i16().map_err(short)?),
            base_sequence: Sequence(r.i32().map_err(short)?),
            record_count: r.i32().map_err(short)?,
        };
        if header.size < HEADER_BYTES {
            return Err(BatchError::TooSmall(size));
        }
        Ok(header)
    }

    /// The bytes of this header.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let length = (self.size - LOG_OVERHEAD) as i32;
        let fields: [&[u8]; 13] = [
            &self.base_offset.get().to_be_bytes(),
            &length.to_be_bytes(),
            &self.leader_epoch.get().to_be_bytes(),
            &[2],
            &self.crc.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp.get().to_be_bytes(),
            &self.max_timestamp.get().to_be_bytes(),
            &self.producer_id.get().to_be_bytes(),
            &self.producer_epoch.get().to_be_bytes(),
            &self.base_sequence.get().to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }

    /// The offset of the last record, also of one that compaction took away.
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .get()
                .wrapping_add(self.last_offset_delta.into()),
        )
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().get().wrapping_add(1))
    }

    /// The sequence of the last record; none if the producer is not idempotent.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence == Sequence::NONE {
            return Sequence::NONE;
        }
        sequence_at(self.base_sequence, self.last_offset_delta)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// If Kafka knows no such codec.
    pub fn compression(&self) -> Result<Compression, CompressionError> {
        Compression::from_id((self.attributes & COMPRESSION_MASK) as u8)
    }

    /// Who gave the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether its records are for brokers and consumers, not for applications.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether an idempotent producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// When compaction may drop its tombstones and markers, if that is known yet: the base
    /// timestamp is this horizon then (KIP-534).
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The attributes with those of compaction replaced: a delete horizon or none.
    pub(super) fn attributes_with_horizon(&self, horizon: bool) -> i16 {
        match horizon {
            true => self.attributes | DELETE_HORIZON,
            false => self.attributes & !DELETE_HORIZON,
        }
    }

    /// The attributes of a batch.
    pub fn attributes_of(
        compression: Compression,
        timestamp_type: TimestampType,
        transactional: bool,
        control: bool,
    ) -> i16 {
        let flag = |set: bool, flag: i16| if set { flag } else { 0 };
        i16::from(compression.id())
            | flag(
                timestamp_type == TimestampType::LogAppendTime,
                LOG_APPEND_TIME,
            )
            | flag(transactional, TRANSACTIONAL)
            | flag(control, CONTROL)
    }
}

/// The sequence `delta` records after `base`, with the producer's wrap-around.
pub(super) fn sequence_at(base: Sequence, delta: i32) -> Sequence {
    // Kafka does not check the delta's sign either; a negative one only comes from broken batches.
    let sum = i64::from(base.get()) + i64::from(delta);
    let wrapped = if sum > i64::from(i32::MAX) {
        sum - i64::from(i32::MAX) - 1
    } else {
        sum
    };
    Sequence(wrapped as i32)
}

/// Gives a batch its place in the log: base offset and leader epoch, in place. The checksum does
/// not cover them.
///
/// # Panics
/// If `batch` is shorter than a header; parse it first.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.get().to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.get().to_be_bytes());
}

/// Sets who gave the timestamps and the largest of them, in place, and the checksum with them
/// (Kafka method `DefaultRecordBatch.setMaxTimestamp`). `batch` is one whole batch.
///
/// # Panics
/// If `batch` is shorter than a header; parse it first.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_type: TimestampType, max: Timestamp) {
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let attributes = match timestamp_type {
        TimestampType::CreateTime => attributes & !LOG_APPEND_TIME,
        TimestampType::LogAppendTime => attributes | LOG_APPEND_TIME,
    };
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max.get().to_be_bytes());
    write_crc(batch);
}

/// Gives a batch another producer, epoch and base sequence in place, and the checksum with them.
/// `batch` is one whole batch.
///
/// # Panics
/// If `batch` is shorter than a header; parse it first.
pub fn renumber(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, base: Sequence) {
    batch[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&id.get().to_be_bytes());
    batch[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&epoch.get().to_be_bytes());
    batch[BASE_SEQUENCE_AT..RECORD_COUNT_AT].copy_from_slice(&base.get().to_be_bytes());
    write_crc(batch);
}

/// Computes the checksum of a whole batch and writes it into its header.
pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Checks the checksum of one whole batch of magic 2, which `batch` begins with.
///
/// # Errors
/// If the batch is cut off, has another magic or a size that cannot be, or was changed.
pub fn check_crc(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let whole = batch.get(..header.size).ok_or(BatchError::CutOff)?;
    check_crc_of(&header, whole)?;
    Ok(header)
}

/// The same for a batch that is whole and whose header was read.
pub(super) fn check_crc_of(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    let stored = header.crc;
    match computed == stored {
        true => Ok(()),
        false => Err(BatchError::Crc { stored, computed }),
    }
}
