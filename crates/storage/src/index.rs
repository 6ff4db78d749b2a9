//! The two sparse indexes of a segment, entry by entry and as files.
//!
//! `.index`: relative offset and position, four bytes each (Kafka class `OffsetIndex`).
//! `.timeindex`: largest timestamp so far, eight bytes, and the relative offset of its batch, four
//! bytes (`TimeIndex`). Both rise. The newest entries wait in memory until enough have gathered or
//! the segment is closed: a crash loses nothing, since recovery makes the indexes anew.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_host::DiskFile;
use millrace_model::{Offset, Timestamp};

/// Bytes of an entry of `.index`.
pub(crate) const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of `.timeindex`.
pub(crate) const TIME_ENTRY_BYTES: u64 = 12;
/// Entries that wait in memory before they are written: 2 MiB of batches, 4 KiB of index.
pub(crate) const MAX_WAITING_ENTRIES: usize = 512;

/// Stands for "all entries that the file has", in segments that nobody appends to.
pub(crate) const ALL_IN_FILE: u64 = u64::MAX / 2;

/// At `position` begins the batch whose last offset is `base + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: u32,
    pub(crate) position: u32,
}

/// No record up to `base + offset` is later than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: u32,
}

/// What is known in memory of a segment's indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentIndex {
    /// Entries of `.index` in the file, or [`ALL_IN_FILE`].
    pub(crate) written_offsets: u64,
    /// Entries of `.timeindex` in the file, or [`ALL_IN_FILE`].
    pub(crate) written_times: u64,
    /// Entries of `.index` that come after those in the file.
    pub(crate) offsets: Vec<OffsetEntry>,
    /// Entries of `.timeindex` that come after those in the file.
    pub(crate) times: Vec<TimeEntry>,
    /// The newest time entry, in the file or not.
    pub(crate) last_time: Option<TimeEntry>,
    /// Bytes appended since the newest offset entry.
    pub(crate) bytes_since_entry: u64,
}

impl SegmentIndex {
    /// Entries of `.index`, written or not.
    pub(crate) fn offset_entries(&self) -> u64 {
        self.written_offsets + self.offsets.len() as u64
    }

    /// Entries of `.timeindex`, written or not.
    pub(crate) fn time_entries(&self) -> u64 {
        self.written_times + self.times.len() as u64
    }

    /// Whether an index of at most `max_bytes` takes no more entries; the time index keeps one
    /// place free for the end of the segment, as Kafka does.
    pub(crate) fn is_full(&self, max_bytes: u64) -> bool {
        self.offset_entries() >= max_bytes / OFFSET_ENTRY_BYTES
            || self.time_entries() + 1 >= max_bytes / TIME_ENTRY_BYTES
    }

    /// Notes the largest timestamp so far unless the newest entry says so already.
    pub(crate) fn add_time(&mut self, entry: TimeEntry) {
        let newest = self
            .last_time
            .map_or(Timestamp::NONE, |last| last.timestamp);
        if entry.timestamp > newest {
            self.times.push(entry);
            self.last_time = Some(entry);
        }
    }

    /// The last waiting entry at or below a relative offset.
    pub(crate) fn waiting_floor(&self, offset: u32) -> Option<OffsetEntry> {
        let after = self.offsets.partition_point(|entry| entry.offset <= offset);
        Some(self.offsets[after.checked_sub(1)?])
    }

    /// The last waiting time entry at or below a timestamp.
    pub(crate) fn waiting_time_floor(&self, timestamp: Timestamp) -> Option<TimeEntry> {
        let after = self
            .times
            .partition_point(|entry| entry.timestamp <= timestamp);
        Some(self.times[after.checked_sub(1)?])
    }
}

pub(crate) fn encode_offsets(entries: &[OffsetEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * 8);
    for entry in entries {
        bytes.put_u32(entry.offset);
        bytes.put_u32(entry.position);
    }
    bytes.freeze()
}

pub(crate) fn encode_times(entries: &[TimeEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * 12);
    for entry in entries {
        bytes.put_i64(entry.timestamp.get());
        bytes.put_u32(entry.offset);
    }
    bytes.freeze()
}

/// Reads one entry of `.index`.
pub(crate) fn offset_entry(file: &dyn DiskFile, place: u64) -> io::Result<OffsetEntry> {
    let mut bytes = [0; 8];
    read_exactly(file, &mut bytes, place * OFFSET_ENTRY_BYTES)?;
    let number = u64::from_be_bytes(bytes);
    Ok(OffsetEntry {
        offset: (number >> 32) as u32,
        position: number as u32,
    })
}

/// Reads one entry of `.timeindex`.
pub(crate) fn time_entry(file: &dyn DiskFile, place: u64) -> io::Result<TimeEntry> {
    let mut bytes = [0; 12];
    read_exactly(file, &mut bytes, place * TIME_ENTRY_BYTES)?;
    let number = u128::from_be_bytes({
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&bytes);
        wide
    });
    Ok(TimeEntry {
        timestamp: Timestamp((number >> 32) as i64),
        offset: number as u32,
    })
}

fn read_exactly(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buf, offset)? == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The last of the first `entries` entries for which `before` holds, by binary search.
fn floor<E: Copy>(
    entries: u64,
    read: impl Fn(u64) -> io::Result<E>,
    before: impl Fn(E) -> bool,
) -> io::Result<Option<(u64, E)>> {
    let (mut low, mut high) = (0, entries);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = read(middle)?;
        if before(entry) {
            found = Some((middle, entry));
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// The last entry of `.index` at or below a relative offset, and its place.
pub(crate) fn offset_floor(
    file: &dyn DiskFile,
    entries: u64,
    offset: u32,
) -> io::Result<Option<(u64, OffsetEntry)>> {
    floor(
        entries,
        |place| offset_entry(file, place),
        |entry| entry.offset <= offset,
    )
}

/// The last entry of `.index` below a position, and its place.
pub(crate) fn position_floor(
    file: &dyn DiskFile,
    entries: u64,
    position: u64,
) -> io::Result<Option<(u64, OffsetEntry)>> {
    floor(
        entries,
        |place| offset_entry(file, place),
        |entry| u64::from(entry.position) < position,
    )
}

/// The last entry of `.timeindex` at or below a timestamp, and its place.
pub(crate) fn time_floor(
    file: &dyn DiskFile,
    entries: u64,
    timestamp: Timestamp,
) -> io::Result<Option<(u64, TimeEntry)>> {
    floor(
        entries,
        |place| time_entry(file, place),
        |entry| entry.timestamp <= timestamp,
    )
}

/// The last entry of `.timeindex` below a relative offset, and its place.
pub(crate) fn time_floor_by_offset(
    file: &dyn DiskFile,
    entries: u64,
    offset: u32,
) -> io::Result<Option<(u64, TimeEntry)>> {
    floor(
        entries,
        |place| time_entry(file, place),
        |entry| entry.offset < offset,
    )
}

/// The relative form of an offset; `None` if it does not fit into an index.
pub(crate) fn relative(base: Offset, offset: Offset) -> Option<u32> {
    let relative = offset.get().checked_sub(base.get())?;
    i32::try_from(relative)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_host::disk::{Disk, OpenMode, RealDisk};

    #[test]
    fn files_are_searched_like_memory() {
        let dir = tempfile::tempdir().unwrap();
        let offsets: Vec<OffsetEntry> = (1..50)
            .map(|n| OffsetEntry {
                offset: n * 10 + 9,
                position: n * 1000,
            })
            .collect();
        let file = RealDisk
            .open(&dir.path().join("i"), OpenMode::Create)
            .unwrap();
        file.write_at(&[encode_offsets(&offsets)], 0).unwrap();
        let waiting = SegmentIndex {
            offsets: offsets.clone(),
            ..SegmentIndex::default()
        };
        for offset in 0..600 {
            let found = offset_floor(file.as_ref(), 49, offset).unwrap();
            assert_eq!(
                found.map(|(_, entry)| entry),
                waiting.waiting_floor(offset),
                "{offset}"
            );
        }
        let (place, entry) = position_floor(file.as_ref(), 49, 2001).unwrap().unwrap();
        assert_eq!((place, entry.position), (1, 2000));

        let times: Vec<TimeEntry> = (1..50)
            .map(|n| TimeEntry {
                timestamp: Timestamp(n << 35),
                offset: n as u32,
            })
            .collect();
        let file = RealDisk
            .open(&dir.path().join("t"), OpenMode::Create)
            .unwrap();
        file.write_at(&[encode_times(&times)], 0).unwrap();
        let waiting = SegmentIndex {
            times: times.clone(),
            ..SegmentIndex::default()
        };
        for n in 0..60 {
            let time = Timestamp((n << 35) + 1);
            let found = time_floor(file.as_ref(), 49, time).unwrap();
            assert_eq!(
                found.map(|(_, entry)| entry),
                waiting.waiting_time_floor(time)
            );
        }
        let (_, entry) = time_floor_by_offset(file.as_ref(), 49, 7).unwrap().unwrap();
        assert_eq!(entry.offset, 6);
    }
}
