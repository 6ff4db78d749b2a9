//! What a leader asks of a batch before it appends it (Kafka classes `ProduceRequest`,
//! `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`, for magic 2 without recompression).
//!
//! In two steps, since Kafka refuses in this order: [`SoleBatch::of`] before anything is known of
//! the partition, [`SoleBatch::validate`] with the rules of its topic. Each step is a type, so that
//! nothing is checked twice and nothing unchecked is appended.
//!
//! Three deviations. Kafka looks into every record, also of a compressed batch; here records are
//! looked into only where a rule asks what the head does not answer: for keys, for how old a
//! timestamp may be, or because the head itself breaks a rule. Otherwise the checksum vouches that
//! they are what the producer made. Data that does not unpack is INVALID_RECORD, not an unexpected
//! error. And records whose offsets are not 0, 1, 2, ... are INVALID_RECORD, where Kafka rebuilds
//! the batch or does not notice.

use std::fmt::Display;

use bytes::BytesMut;
use millrace_model::{ErrorCode, LeaderEpoch, Offset, Timestamp};

use super::header::{TimestampType, check_crc_of};
use super::{
    BatchError, BatchHeader, HEADER_BYTES, Record, RecordSet, batches, rewritten,
    set_max_timestamp, stamp,
};
use crate::compression::{Compression, output_limit};

/// Broken records that an answer names one by one; the others are only counted.
const MAX_NAMED_RECORDS: usize = 100;

/// The first version of Produce that may carry zstd (KIP-110).
const FIRST_ZSTD_PRODUCE: i16 = 7;

/// Who hands in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, by a Produce request of this version.
    Client {
        /// The version of the request.
        produce_version: i16,
    },
    /// The broker itself: markers and the records of coordinators.
    Coordinator,
}

/// What the topic asks for, and where and when we are.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// `topic-3`, for messages.
    pub partition: &'a dyn Display,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Whether `cleanup.policy` has `compact`: every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// The time of the append.
    pub now: Timestamp,
}

/// One whole batch of magic 2 and nothing else; its checksum and records were not looked at.
#[derive(Debug)]
pub struct SoleBatch {
    bytes: BytesMut,
    header: BatchHeader,
    origin: Origin,
}

/// A batch that may be appended.
#[derive(Debug)]
pub struct ValidBatch {
    bytes: BytesMut,
    header: BatchHeader,
}

/// Why a batch may not be appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code for the partition.
    pub code: ErrorCode,
    /// The message for the partition.
    pub message: String,
    /// The records at fault, where single ones are: the first hundred.
    pub records: Vec<RecordRefusal>,
}

/// What is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRefusal {
    /// Its place in the batch.
    pub index: i32,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: String) -> Refusal {
        Refusal {
            code,
            message,
            records: Vec::new(),
        }
    }

    fn invalid(message: String) -> Refusal {
        Refusal::new(ErrorCode::InvalidRecord, message)
    }
}

impl SoleBatch {
    /// The only batch in `bytes`. Bytes of a second, cut off batch are dropped, as in Kafka.
    ///
    /// # Errors
    /// With what Kafka would answer before it looks for the partition.
    pub fn of(mut bytes: BytesMut, origin: Origin) -> Result<SoleBatch, Refusal> {
        let version = match origin {
            Origin::Client { produce_version } => produce_version,
            Origin::Coordinator => i16::MAX,
        };
        let refuse = |code, what: &str| {
            let message = format!("Produce requests with version {version} {what}");
            Err(Refusal::new(code, message))
        };
        let mut found = batches(&bytes);
        let Some(first) = found.next().transpose().map_err(not_a_batch)? else {
            let what = "must have at least one record batch per partition";
            return refuse(ErrorCode::InvalidRecord, what);
        };
        if first.magic != 2 {
            let what = "are only allowed to contain record batches with magic version 2";
            return refuse(ErrorCode::InvalidRecord, what);
        }
        let header = first.header().map_err(not_a_batch)?;
        if version < FIRST_ZSTD_PRODUCE && header.compression() == Ok(Compression::Zstd) {
            let what = "are not allowed to use ZStandard compression";
            return refuse(ErrorCode::UnsupportedCompressionType, what);
        }
        if found.next().transpose().map_err(not_a_batch)?.is_some() {
            let what = "are only allowed to contain exactly one record batch per partition";
            return refuse(ErrorCode::InvalidRecord, what);
        }
        bytes.truncate(header.size);
        Ok(SoleBatch {
            bytes,
            header,
            origin,
        })
    }

    /// Its header, as its producer wrote it.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the batch.
    pub fn size(&self) -> usize {
        self.header.size
    }

    /// Checks the batch, and gives it its max timestamp (with the checksum) in place: the largest
    /// of its records, or the time of the append.
    ///
    /// # Errors
    /// With what Kafka would answer.
    pub fn validate(self, rules: &Rules<'_>) -> Result<ValidBatch, Refusal> {
        let SoleBatch {
            mut bytes,
            header,
            origin,
        } = self;
        check_whole(&bytes, &header, origin, rules)?;
        check_header(&header, origin, rules)?;
        let largest = if needs_records(&header, rules) {
            check_records(&bytes, &header, origin, rules)?
        } else {
            header
                .compression()
                .map_err(|error| corrupt(error.into(), rules))?;
            header.max_timestamp
        };
        let max_timestamp = match rules.timestamp_type {
            TimestampType::CreateTime => largest,
            TimestampType::LogAppendTime => rules.now,
        };
        let current = (header.timestamp_type(), header.max_timestamp);
        if current == (rules.timestamp_type, max_timestamp) {
            return Ok(ValidBatch { bytes, header });
        }
        set_max_timestamp(&mut bytes, rules.timestamp_type, max_timestamp);
        let header = BatchHeader::parse(&bytes).expect("it was parsed before");
        Ok(ValidBatch { bytes, header })
    }
}

impl ValidBatch {
    /// Its header, as it stands now.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The same batch with its records packed by this codec, with that much effort.
    ///
    /// # Errors
    /// If what the records are packed in now cannot be unpacked.
    pub fn packed(self, codec: Compression, level: Option<i32>) -> Result<ValidBatch, BatchError> {
        if self.header.compression() == Ok(codec) {
            return Ok(self);
        }
        let bytes = rewritten(&self.bytes, codec, level)?;
        let header = BatchHeader::parse(&bytes)?;
        Ok(ValidBatch { bytes, header })
    }

    /// The batch with its place in the log, as it lies on every disk.
    pub fn stamped(mut self, base_offset: Offset, epoch: LeaderEpoch) -> BytesMut {
        stamp(&mut self.bytes, base_offset, epoch);
        self.bytes
    }
}

/// Whether the rules ask something that only the records answer.
fn needs_records(header: &BatchHeader, rules: &Rules<'_>) -> bool {
    let in_window = |time: Timestamp| time == Timestamp::NONE || is_in_window(time, rules);
    // Kafka takes what claims the broker's time, if the times it brings are right.
    rules.compacted
        || header.timestamp_type() == TimestampType::LogAppendTime
        || rules.timestamp_type == TimestampType::CreateTime
            && (rules.timestamp_before_max_ms < i64::MAX
                || !in_window(header.base_timestamp)
                || !in_window(header.max_timestamp))
}

/// In the words of Kafka, which has no partition to name yet (class `ByteBufferLogInputStream`).
fn not_a_batch(error: BatchError) -> Refusal {
    let message = match &error {
        BatchError::TooSmall(size) => {
            format!("Record size {size} is less than the minimum record overhead")
        }
        BatchError::Magic(magic) => format!("Invalid magic found in record: {magic}"),
        other => other.to_string(),
    };
    Refusal::new(error.code(), message)
}

fn corrupt(error: BatchError, rules: &Rules<'_>) -> Refusal {
    Refusal::new(
        error.code(),
        format!("{error} in topic partition {}", rules.partition),
    )
}

/// Checks what can be said of the batch as a whole: place, size, checksum.
fn check_whole(
    batch: &[u8],
    header: &BatchHeader,
    origin: Origin,
    rules: &Rules<'_>,
) -> Result<(), Refusal> {
    let (size, max, partition) = (batch.len(), rules.max_message_bytes, rules.partition);
    if origin != Origin::Coordinator && header.base_offset.get() != 0 {
        return Err(Refusal::invalid(format!(
            "The baseOffset of the record batch in the append to {partition} should be 0, but it \
             is {}",
            header.base_offset
        )));
    }
    if size > max {
        return Err(Refusal::new(
            ErrorCode::MessageTooLarge,
            format!(
                "The record batch size in the append to {partition} is {size} bytes which exceeds \
                 the maximum configured value of {max}."
            ),
        ));
    }
    check_crc_of(header, batch).map_err(|error| corrupt(error, rules))
}

/// Checks what the header says of the records.
fn check_header(header: &BatchHeader, origin: Origin, rules: &Rules<'_>) -> Result<(), Refusal> {
    if origin == Origin::Coordinator {
        return Ok(());
    }
    let partition = rules.partition;
    let (first, last, count) = (
        header.base_offset,
        header.last_offset(),
        header.record_count,
    );
    let from_offsets = i64::from(header.last_offset_delta) + 1;
    if from_offsets <= 0 {
        return Err(Refusal::invalid(format!(
            "Batch has an invalid offset range: [{first}, {last}] in topic partition {partition}"
        )));
    }
    if count <= 0 {
        return Err(Refusal::invalid(format!(
            "Invalid reported count for record batch: {count} in topic partition {partition}"
        )));
    }
    if from_offsets != i64::from(count) {
        return Err(Refusal::invalid(format!(
            "Inconsistent batch offset range [{first}, {last}] and count of records {count} in \
             topic partition {partition}"
        )));
    }
    if header.is_control() {
        return Err(Refusal::invalid(format!(
            "Clients are not allowed to write control records in topic partition {partition}"
        )));
    }
    if header.has_producer_id() && header.base_sequence.get() < 0 {
        return Err(Refusal::invalid(format!(
            "Invalid sequence number {} in record batch with producerId {} in topic partition \
             {partition}",
            header.base_sequence, header.producer_id
        )));
    }
    Ok(())
}

/// Checks every record; returns the largest timestamp.
fn check_records(
    batch: &[u8],
    header: &BatchHeader,
    origin: Origin,
    rules: &Rules<'_>,
) -> Result<Timestamp, Refusal> {
    let broken = |error| corrupt(error, rules);
    let limit = output_limit(batch.len() - HEADER_BYTES);
    let records = RecordSet::of_batch(batch, limit).map_err(broken)?;
    let mut faults = Faults::default();
    let mut largest = Timestamp::NONE;
    for (place, record) in records.iter().enumerate() {
        let record = record.map_err(broken)?;
        let index = place as i32;
        let expected = header.base_offset.get() + i64::from(index);
        if origin != Origin::Coordinator && record.offset.get() != expected {
            return Err(Refusal::invalid(format!(
                "Record {index} has offset {} where {expected} must be in topic partition {}",
                record.offset, rules.partition
            )));
        }
        if let Err((code, message)) = check_record(&record, header, rules) {
            faults.note(code, index, message);
        }
        largest = largest.max(record.timestamp);
    }
    faults.into_result().map(|()| largest)
}

fn check_record(
    record: &Record<'_>,
    header: &BatchHeader,
    rules: &Rules<'_>,
) -> Result<(), (ErrorCode, String)> {
    let partition = rules.partition;
    if rules.compacted && record.key.is_none() {
        return Err((
            ErrorCode::InvalidRecord,
            format!(
                "Compacted topic cannot accept message without key in topic partition {partition}"
            ),
        ));
    }
    let created = rules.timestamp_type == TimestampType::CreateTime;
    if created && record.timestamp != Timestamp::NONE {
        return check_timestamp(record, rules);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err((
            ErrorCode::InvalidTimestamp,
            format!(
                "Invalid timestamp type in message with offset {}. Producer should not set \
                 timestamp type to LogAppendTime.",
                record.offset
            ),
        ));
    }
    Ok(())
}

fn check_timestamp(record: &Record<'_>, rules: &Rules<'_>) -> Result<(), (ErrorCode, String)> {
    if is_in_window(record.timestamp, rules) {
        return Ok(());
    }
    let (now, timestamp) = (rules.now.get(), record.timestamp.get());
    let (before, after) = (rules.timestamp_before_max_ms, rules.timestamp_after_max_ms);
    Err((
        ErrorCode::InvalidTimestamp,
        format!(
            "Timestamp {timestamp} of message with offset {} is out of range. The timestamp \
             should be within [{}, {}]",
            record.offset,
            now.wrapping_sub(before),
            now.wrapping_add(after),
        ),
    ))
}

fn is_in_window(timestamp: Timestamp, rules: &Rules<'_>) -> bool {
    // In 128 bits, so that a limit of "for ever" cannot overflow as it does in Java.
    let age = i128::from(rules.now.get()) - i128::from(timestamp.get());
    let (before, after) = (rules.timestamp_before_max_ms, rules.timestamp_after_max_ms);
    age <= i128::from(before) && -age <= i128::from(after)
}

/// Records at fault, of which not all are named.
#[derive(Default)]
struct Faults {
    count: usize,
    has_timestamp: bool,
    named: Vec<RecordRefusal>,
}

impl Faults {
    fn note(&mut self, code: ErrorCode, index: i32, message: String) {
        self.count += 1;
        self.has_timestamp |= code == ErrorCode::InvalidTimestamp;
        if self.named.len() < MAX_NAMED_RECORDS {
            self.named.push(RecordRefusal { index, message });
        }
    }

    fn into_result(self) -> Result<(), Refusal> {
        if self.count == 0 {
            return Ok(());
        }
        let (code, message) = if self.has_timestamp {
            (
                ErrorCode::InvalidTimestamp,
                "One or more records have been rejected due to invalid timestamp".to_owned(),
            )
        } else {
            let shown: Vec<&str> = self
                .named
                .iter()
                .take(3)
                .map(|f| f.message.as_str())
                .collect();
            (
                ErrorCode::InvalidRecord,
                format!(
                    "One or more records have been rejected due to {} record errors in total, and \
                     only showing the first three errors at most: {shown:?}",
                    self.count
                ),
            )
        };
        Err(Refusal {
            code,
            message,
            records: self.named,
        })
    }
}
