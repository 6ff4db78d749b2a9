//! Record batches as far as a log looks into them.

use millrace_model::{Offset, Timestamp};
use millrace_protocol::batch::{self, ControlType, RecordSet};
use millrace_protocol::compression::output_limit;

pub(crate) use millrace_protocol::batch::{BatchHeader as Header, HEADER_BYTES};

/// Reads the head of the batch at the beginning of `bytes`, and refuses one whose offsets no log
/// can hold.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let header = Header::parse(bytes).map_err(|error| error.to_string())?;
    if header.last_offset_delta < 0 || header.base_offset < Offset::ZERO {
        return Err("the offsets are negative".to_owned());
    }
    if header.base_offset.get() > i64::MAX - i64::from(i32::MAX) - 1 {
        return Err("the offsets are beyond what a log can hold".to_owned());
    }
    Ok(header)
}

/// Whether the checksum of the whole batch at the beginning of `bytes` is right.
pub(crate) fn crc_matches(bytes: &[u8]) -> bool {
    batch::check_crc(bytes).is_ok()
}

/// The whole batches at the beginning of `bytes`, each with its head; stops at the first bytes
/// that are none, and at a batch that is not complete.
pub(crate) fn whole_batches(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(position..).filter(|rest| !rest.is_empty())?;
        let header = parse(rest).ok()?;
        let at = position;
        position = at
            .checked_add(header.size)
            .filter(|end| *end <= bytes.len())?;
        Some((at, header))
    })
}

/// The records of one whole batch.
pub(crate) fn records(batch: &[u8]) -> Result<RecordSet<'_>, String> {
    let limit = output_limit(batch.len().saturating_sub(HEADER_BYTES));
    RecordSet::of_batch(batch, limit).map_err(|error| error.to_string())
}

/// The coordinator epoch in a control batch that ends a transaction; `None` for other batches.
pub(crate) fn control_marker(batch: &[u8]) -> Option<i32> {
    let records = records(batch).ok()?;
    let record = records.iter().next()?.ok()?;
    match ControlType::of_key(record.key?)? {
        ControlType::Abort | ControlType::Commit => {}
        _ => return None,
    }
    // The value begins with its version.
    let epoch = record.value?.get(2..6)?;
    Some(i32::from_be_bytes(epoch.try_into().ok()?))
}

/// Offset and timestamp of each record of a batch.
pub(crate) fn record_times(batch: &[u8]) -> Result<Vec<(Offset, Timestamp)>, String> {
    let records = records(batch)?;
    let times = records.iter().map(|record| match record {
        Ok(record) => Ok((record.offset, record.timestamp)),
        Err(error) => Err(error.to_string()),
    });
    times.collect()
}
