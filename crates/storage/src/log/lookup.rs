//! Finding records by time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_model::{LeaderEpoch, Offset, Timestamp};

use super::Log;
use crate::batch::{self, Header};
use crate::error::{ReadError, StorageError};
use crate::index;
use crate::names::FileKind;
use crate::segment;

/// Bytes read at once in search of a record.
const SEARCH_BYTES: usize = 256 << 10;

/// A record found by its time.
pub type FoundByTime = (Offset, Timestamp, LeaderEpoch);

impl Log {
    /// The first record whose timestamp is `timestamp` or later, with its own timestamp and leader
    /// epoch (Kafka method `UnifiedLog.fetchOffsetByTimestamp`).
    pub async fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<FoundByTime>, ReadError> {
        let log = self.arc();
        let tasks = self.shared.host.tasks.clone();
        let Some(mut from) = tasks.blocking(move || log.time_floor(timestamp)).await? else {
            return Ok(None);
        };
        loop {
            let batches = self.search(from).await?;
            if batches.is_empty() {
                return Ok(None);
            }
            for bytes in batches {
                for (at, header) in batch::whole_batches(&bytes) {
                    from = header.next_offset();
                    if header.max_timestamp < timestamp {
                        continue;
                    }
                    let whole = bytes.slice(at..at + header.size);
                    if let Some(found) = self.find_record(whole, &header, timestamp).await? {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    /// The first record with the largest timestamp of the log (KIP-734); `None` in an empty log.
    pub async fn max_timestamp(&self) -> Result<Option<FoundByTime>, ReadError> {
        let log = self.arc();
        let tasks = self.shared.host.tasks.clone();
        let Some((largest, last)) = tasks.blocking(move || log.largest_timestamp()).await? else {
            return Ok(None);
        };
        for bytes in self.search(last).await? {
            if let Some((at, header)) = batch::whole_batches(&bytes).next() {
                let whole = bytes.slice(at..at + header.size);
                return self.find_record(whole, &header, largest).await;
            }
        }
        Ok(None)
    }

    /// Batches from an offset on, or from the log start if that is later.
    async fn search(&self, from: Offset) -> Result<Vec<Bytes>, ReadError> {
        loop {
            let bounds = self.bounds();
            let from = from.max(bounds.log_start);
            let found = match self.read(from, SEARCH_BYTES, bounds.log_end, true) {
                Ok(plan) => plan.load(&self.shared.host.tasks).await,
                Err(error) => Err(error),
            };
            match found {
                // Deleted meanwhile: the search goes on behind that.
                Err(ReadError::OutOfRange { log_start, .. }) if log_start > from => {}
                found => return found,
            }
        }
    }

    /// The first record of a batch at or after `timestamp`. It may have to be unpacked, which takes
    /// too long for an async task.
    async fn find_record(
        &self,
        whole: Bytes,
        header: &Header,
        timestamp: Timestamp,
    ) -> Result<Option<FoundByTime>, ReadError> {
        let log_start = self.bounds().log_start;
        let times = move || batch::record_times(&whole);
        let records = self.shared.host.tasks.blocking(times).await;
        let records =
            records.map_err(|why| ReadError::Storage(StorageError::corrupt(&self.path(), why)))?;
        let wanted = |found: &(Offset, Timestamp)| found.0 >= log_start && found.1 >= timestamp;
        let found = records.into_iter().find(wanted);
        Ok(found.map(|(offset, timestamp)| (offset, timestamp, header.leader_epoch)))
    }

    /// Where to search from for a record at or after `timestamp`; `None` if no segment has one.
    fn time_floor(&self, timestamp: Timestamp) -> Result<Option<Offset>, ReadError> {
        for base in self.bases() {
            let Some((largest, _)) = self.largest_of(base)? else {
                continue;
            };
            if largest < timestamp {
                continue;
            }
            let (waiting, written) = {
                let mut state = self.state();
                let Some(segment) = state.segment_mut(base) else {
                    continue;
                };
                let waiting = segment.index.waiting_time_floor(timestamp);
                (waiting, segment.index.written_times)
            };
            let floor = match waiting {
                Some(entry) => Some(entry),
                None if written == 0 => None,
                None => self.time_floor_in_file(base, written, timestamp)?,
            };
            let offset = floor.map_or(0, |entry| i64::from(entry.offset));
            return Ok(Some(base.plus(offset)));
        }
        Ok(None)
    }

    fn time_floor_in_file(
        &self,
        base: Offset,
        entries: u64,
        timestamp: Timestamp,
    ) -> Result<Option<index::TimeEntry>, ReadError> {
        let path = self.path();
        let disk = self.shared.host.disk.as_ref();
        let file = match segment::open(disk, &path, base, FileKind::TimeIndex, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.is_missing_file() => return Ok(None),
            Err(error) => return Err(ReadError::Storage(error)),
        };
        let found = file.len().and_then(|len| {
            let entries = entries.min(len / index::TIME_ENTRY_BYTES);
            index::time_floor(file.as_ref(), entries, timestamp)
        });
        let checked = found.and_then(|found| match found {
            Some((_, entry)) if self.confirms(base, entry)? => Ok(Some(entry)),
            _ => Ok(None),
        });
        checked.map_err(|error| ReadError::Storage(self.read_failed(error)))
    }

    /// Whether the batches of a segment say what an entry of its time index says.
    fn confirms(&self, base: Offset, entry: index::TimeEntry) -> io::Result<bool> {
        let target = base.plus(i64::from(entry.offset));
        let Some(written) = self.state().segment_mut(base).map(|s| s.written) else {
            return Ok(false);
        };
        let file = self.open(base, FileKind::Log)?;
        let start = self.index_floor(base, index::ALL_IN_FILE, target)?;
        let found = segment::seek_from_index(file.as_ref(), start, written, target)?;
        let says_so = |header: &Header| {
            header.base_offset <= target && header.max_timestamp == entry.timestamp
        };
        Ok(found.is_some_and(|(_, header)| says_so(&header)))
    }

    /// The newest entry of a segment's time index; where that contradicts the batches, they tell.
    fn last_time(&self, base: Offset) -> Result<Option<(Timestamp, Offset)>, StorageError> {
        let disk = Arc::clone(&self.shared.host.disk);
        let last = segment::last_time(disk.as_ref(), &self.path(), base)?;
        let written = self.state().segment_mut(base).map_or(0, |s| s.written);
        if last.is_none() && written == 0 {
            return Ok(None);
        }
        let by_batches = || {
            if let Some(last) = last
                && self.confirms(base, last)?
            {
                let offset = base.plus(i64::from(last.offset));
                return Ok(Some((last.timestamp, offset)));
            }
            tracing::debug!(directory = %self.path().display(), %base, "no use of a time index");
            segment::largest_time(self.open(base, FileKind::Log)?.as_ref(), written)
        };
        by_batches().map_err(|error| self.read_failed(error))
    }

    fn largest_timestamp(&self) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        let mut largest: Option<(Timestamp, Offset)> = None;
        for base in self.bases() {
            if let Some(found) = self.largest_of(base)?
                && largest.is_none_or(|(timestamp, _)| found.0 > timestamp)
            {
                largest = Some(found);
            }
        }
        Ok(largest)
    }

    fn bases(&self) -> Vec<Offset> {
        self.state()
            .segments
            .iter()
            .map(|segment| segment.base)
            .collect()
    }

    /// The largest timestamp of a segment and the last offset of the batch that has it.
    pub(super) fn largest_of(
        &self,
        base: Offset,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        {
            let mut state = self.state();
            let Some(segment) = state.segment_mut(base) else {
                return Ok(None);
            };
            if let Some(known) = segment.max_timestamp {
                return Ok(Some(known).filter(|(timestamp, _)| *timestamp >= Timestamp(0)));
            }
        }
        let largest = self.last_time(base).map_err(ReadError::Storage)?;
        if let Some(segment) = self.state().segment_mut(base)
            && segment.max_timestamp.is_none()
        {
            segment.max_timestamp = Some(largest.unwrap_or((Timestamp::NONE, base)));
        }
        Ok(largest)
    }
}
