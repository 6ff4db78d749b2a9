//! What a leader checks of batches before it looks at the log (Kafka classes `LogValidator` and
//! `UnifiedLog.analyzeAndValidateRecords`). Records are not looked into.

use millrace_model::{Sequence, Timestamp};

use crate::batch::{self, Header};
use crate::error::AppendError;
use crate::settings::{LogSettings, TimestampType};

/// Checks all batches in `bytes`, which must hold nothing else, and gives them the broker's time if
/// the topic wants that. Returns how many there are.
pub(super) fn batches(
    bytes: &mut [u8],
    settings: &LogSettings,
    now: Timestamp,
) -> Result<usize, AppendError> {
    if bytes.len() as u64 > settings.segment_bytes {
        let (size, limit) = (bytes.len(), settings.segment_bytes);
        return Err(AppendError::LargerThanSegment { size, limit });
    }
    let (mut position, mut count) = (0, 0);
    while position < bytes.len() {
        let rest = &mut bytes[position..];
        let header = batch::parse(rest).map_err(AppendError::Corrupt)?;
        if header.size > rest.len() {
            let why = format!("a batch of {} bytes has only {}", header.size, rest.len());
            return Err(AppendError::Corrupt(why));
        }
        if header.size > settings.max_message_bytes {
            let limit = settings.max_message_bytes;
            return Err(AppendError::TooLarge {
                size: header.size,
                limit,
            });
        }
        if !batch::crc_matches(rest) {
            let why = format!("Record is corrupt (stored crc = {})", header.crc);
            return Err(AppendError::Corrupt(why));
        }
        check(&header)?;
        if settings.compact {
            check_keys(&rest[..header.size])?;
        }
        match settings.timestamp_type {
            TimestampType::CreateTime => check_times(rest, &header, settings, now)?,
            TimestampType::LogAppendTime => {
                batch::set_log_append_time(&mut rest[..header.size], now);
            }
        }
        position += header.size;
        count += 1;
    }
    if count == 0 {
        return Err(AppendError::InvalidRecord(
            "there is no record batch".to_owned(),
        ));
    }
    Ok(count)
}

fn check(header: &Header) -> Result<(), AppendError> {
    let invalid = |why: String| Err(AppendError::InvalidRecord(why));
    if header.record_count <= 0 {
        return invalid(format!(
            "Invalid reported count for record batch: {}",
            header.record_count
        ));
    }
    if header.record_count != header.last_offset_delta + 1 {
        return invalid(format!(
            "Inconsistent batch offset range of {} records and last offset delta {}",
            header.record_count, header.last_offset_delta
        ));
    }
    if header.has_producer_id() && header.base_sequence < Sequence(0) {
        return invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        ));
    }
    if header.is_control() {
        return invalid("Clients are not allowed to write control records".to_owned());
    }
    if let Err(error) = header.compression() {
        return Err(AppendError::UnsupportedCompression(error.to_string()));
    }
    Ok(())
}

/// A compacted log knows records by their keys.
fn check_keys(batch: &[u8]) -> Result<(), AppendError> {
    let records = batch::records(batch).map_err(AppendError::InvalidRecord)?;
    for record in records.iter() {
        let record = record.map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
        if record.key.is_none() {
            return Err(AppendError::InvalidRecord(
                "Compacted topic cannot accept message without key".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Checks the timestamps: the head has the largest, and only a limit on the smallest needs a look
/// at every record.
fn check_times(
    bytes: &[u8],
    header: &Header,
    settings: &LogSettings,
    now: Timestamp,
) -> Result<(), AppendError> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(AppendError::InvalidTimestamp(
            "Producers must not set the timestamp type to LogAppendTime".to_owned(),
        ));
    }
    let check = |timestamp: Timestamp| check_time(timestamp, settings, now);
    check(header.base_timestamp)?;
    check(header.max_timestamp)?;
    if settings.timestamp_before_max_ms < i64::MAX {
        let times = batch::record_times(&bytes[..header.size]);
        for (_, timestamp) in times.map_err(AppendError::InvalidRecord)? {
            check(timestamp)?;
        }
    }
    Ok(())
}

fn check_time(
    timestamp: Timestamp,
    settings: &LogSettings,
    now: Timestamp,
) -> Result<(), AppendError> {
    let earliest = now.get().saturating_sub(settings.timestamp_before_max_ms);
    let latest = now.get().saturating_add(settings.timestamp_after_max_ms);
    if timestamp == Timestamp::NONE || (earliest..=latest).contains(&timestamp.get()) {
        return Ok(());
    }
    Err(AppendError::InvalidTimestamp(format!(
        "Timestamp {timestamp} of message is out of range. The timestamp should be within \
         [{earliest}, {latest}]"
    )))
}
