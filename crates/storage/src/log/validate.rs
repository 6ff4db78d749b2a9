//! What a leader checks of batches before it looks at the log (Kafka classes `LogValidator` and
//! `UnifiedLog.analyzeAndValidateRecords`). Records are not looked into.

use millrace_model::{Sequence, Timestamp};

use crate::batch::{self, Header};
use crate::error::AppendError;
use crate::settings::{LogSettings, TimestampType};

/// Compression codes that exist: none, gzip, snappy, lz4, zstd.
const LAST_COMPRESSION: i16 = 4;

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
        let mut header = Header::parse(rest).map_err(AppendError::Corrupt)?;
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
        if !batch::crc_matches(rest, &header) {
            let why = format!("Record is corrupt (stored crc = {})", header.crc);
            return Err(AppendError::Corrupt(why));
        }
        check(&header, settings, now)?;
        if settings.timestamp_type == TimestampType::LogAppendTime {
            batch::set_log_append_time(rest, &mut header, now);
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

fn check(header: &Header, settings: &LogSettings, now: Timestamp) -> Result<(), AppendError> {
    let invalid = |why: String| Err(AppendError::InvalidRecord(why));
    if header.count <= 0 {
        return invalid(format!(
            "Invalid reported count for record batch: {}",
            header.count
        ));
    }
    if header.count != header.last_offset_delta + 1 {
        return invalid(format!(
            "Inconsistent batch offset range of {} records and last offset delta {}",
            header.count, header.last_offset_delta
        ));
    }
    if header.has_producer() && header.base_sequence < Sequence(0) {
        return invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        ));
    }
    if header.is_control() {
        return invalid("Clients are not allowed to write control records".to_owned());
    }
    if header.compression() > LAST_COMPRESSION {
        let why = format!("unknown compression type id {}", header.compression());
        return Err(AppendError::UnsupportedCompression(why));
    }
    if settings.timestamp_type == TimestampType::CreateTime {
        check_times(header, settings, now)?;
    }
    Ok(())
}

fn check_times(header: &Header, settings: &LogSettings, now: Timestamp) -> Result<(), AppendError> {
    if header.is_log_append_time() {
        return Err(AppendError::InvalidTimestamp(
            "Producers must not set the timestamp type to LogAppendTime".to_owned(),
        ));
    }
    let earliest = now.get().saturating_sub(settings.timestamp_before_max_ms);
    let latest = now.get().saturating_add(settings.timestamp_after_max_ms);
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        let given = timestamp != Timestamp::NONE;
        if given && !(earliest..=latest).contains(&timestamp.get()) {
            return Err(AppendError::InvalidTimestamp(format!(
                "Timestamp {timestamp} of message is out of range. The timestamp should be within \
                 [{earliest}, {latest}]"
            )));
        }
    }
    Ok(())
}
