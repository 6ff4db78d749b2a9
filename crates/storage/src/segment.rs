//! One segment of a log: what is kept of it in memory, and how it is found again on disk.

use std::path::Path;

use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::{Offset, Timestamp};

use crate::batch::Header;
use crate::damage::Run;
use crate::error::{StorageError, While};
use crate::index::{self, OffsetEntry, SegmentIndex, TimeEntry};
use crate::names::{self, FileKind};
use crate::scan::{Checked, Scanner, Step};
use crate::settings::LogSettings;

/// Positions in an index are 32 bits with sign, so no segment grows beyond this.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

/// A segment; the last one of a log is the active one, the others are closed.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Bytes, including those that wait to be written.
    pub(crate) size: u64,
    /// Bytes in the file.
    pub(crate) written: u64,
    pub(crate) index: SegmentIndex,
    /// Timestamp of the first batch; `None` while empty. Only kept for the active segment.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// The largest timestamp and the last offset of the batch that has it; `None` as long as
    /// nobody asked for that of a closed segment.
    pub(crate) max_timestamp: Option<(Timestamp, Offset)>,
    /// When it became active in this run.
    pub(crate) created: Timestamp,
    /// What is taken off `segment.ms`.
    pub(crate) jitter_ms: i64,
    /// It is known that records are missing in it and nothing is wrong with that, as after compaction.
    pub(crate) sparse: bool,
}

impl Segment {
    /// An empty segment.
    pub(crate) fn new(base: Offset, now: Timestamp, jitter_ms: i64) -> Segment {
        Segment {
            base,
            size: 0,
            written: 0,
            index: SegmentIndex::default(),
            first_timestamp: None,
            max_timestamp: Some((Timestamp::NONE, base)),
            created: now,
            jitter_ms,
            sparse: false,
        }
    }

    /// Whether a batch must go into a new segment (Kafka method `LogSegment.shouldRoll`).
    pub(crate) fn should_roll(
        &self,
        batch: &Header,
        settings: &LogSettings,
        now: Timestamp,
    ) -> bool {
        if self.size == 0 {
            return index::relative(self.base, batch.last_offset()).is_none();
        }
        let waited = match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => {
                batch.max_timestamp.get().saturating_sub(first.get())
            }
            _ => now.get().saturating_sub(self.created.get()),
        };
        let limit = settings.segment_bytes.min(MAX_SEGMENT_BYTES);
        self.size + batch.size as u64 > limit
            || waited > settings.max_segment_ms() - self.jitter_ms
            || self.index.is_full(settings.segment_index_bytes)
            || index::relative(self.base, batch.last_offset()).is_none()
    }

    /// Takes a batch in and returns its position (Kafka method `LogSegment.append`).
    pub(crate) fn add(&mut self, batch: &Header, interval_bytes: u64) -> u64 {
        let position = self.size;
        let newest = self
            .max_timestamp
            .map_or(Timestamp::NONE, |(timestamp, _)| timestamp);
        // What compaction emptied has no record of that time any more.
        if batch.record_count > 0 && batch.max_timestamp > newest {
            self.max_timestamp = Some((batch.max_timestamp, batch.last_offset()));
        }
        if self.size == 0 {
            self.first_timestamp = Some(batch.max_timestamp);
        }
        if self.index.bytes_since_entry > interval_bytes
            && let Some(offset) = index::relative(self.base, batch.last_offset())
            && let Ok(place) = u32::try_from(position)
        {
            self.index.offsets.push(OffsetEntry {
                offset,
                position: place,
            });
            self.add_time();
            self.index.bytes_since_entry = 0;
        }
        self.index.bytes_since_entry += batch.size as u64;
        self.size += batch.size as u64;
        position
    }

    /// Puts the largest timestamp so far into the time index, unless it is there.
    pub(crate) fn add_time(&mut self) {
        if let Some((timestamp, last)) = self.max_timestamp
            && let Some(offset) = index::relative(self.base, last)
        {
            self.index.add_time(TimeEntry { timestamp, offset });
        }
    }
}

/// Opens a file of a segment.
pub(crate) fn open(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
    kind: FileKind,
    mode: OpenMode,
) -> Result<std::sync::Arc<dyn DiskFile>, StorageError> {
    let path = directory.join(names::file(base, kind));
    disk.open(&path, mode).doing("opening", &path)
}

/// Opens a file of a segment unless there is none.
pub(crate) fn open_if_any(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
    kind: FileKind,
) -> Result<Option<std::sync::Arc<dyn DiskFile>>, StorageError> {
    match open(disk, directory, base, kind, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.is_missing_file() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest entry of a segment's time index.
pub(crate) fn last_time(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
) -> Result<Option<TimeEntry>, StorageError> {
    let path = directory.join(names::file(base, FileKind::TimeIndex));
    let Some(file) = open_if_any(disk, directory, base, FileKind::TimeIndex)? else {
        return Ok(None);
    };
    let len = file.len().doing("reading", &path)?;
    if len % index::TIME_ENTRY_BYTES != 0 {
        // Its end is lost, and with it what is asked for.
        return Ok(None);
    }
    match (len / index::TIME_ENTRY_BYTES).checked_sub(1) {
        None => Ok(None),
        Some(last) => index::time_entry(file.as_ref(), last)
            .doing("reading", &path)
            .map(Some),
    }
}

/// A segment found on disk, ready to be appended to.
pub(crate) struct Loaded {
    pub(crate) segment: Segment,
    /// The offset that follows its last batch.
    pub(crate) end: Offset,
    /// Why the bytes behind the last batch are none, if there are any.
    pub(crate) torn: Option<String>,
}

/// Loads a segment of `size` bytes whose indexes are in order: only what follows the last entry of
/// the index is looked at.
pub(crate) fn load_active(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
    size: u64,
    now: Timestamp,
    jitter_ms: i64,
) -> Result<Loaded, StorageError> {
    let mut segment = Segment::new(base, now, jitter_ms);
    (segment.size, segment.written) = (size, size);
    segment.index.last_time = last_time(disk, directory, base)?;
    if let Some(last) = segment.index.last_time {
        let offset = base.plus(i64::from(last.offset));
        segment.max_timestamp = Some((last.timestamp, offset));
    }
    segment.index.written_times = entries(
        disk,
        directory,
        base,
        FileKind::TimeIndex,
        index::TIME_ENTRY_BYTES,
    )?;
    segment.index.written_offsets = entries(
        disk,
        directory,
        base,
        FileKind::Index,
        index::OFFSET_ENTRY_BYTES,
    )?;
    let mut start = 0;
    if let Some(last) = segment.index.written_offsets.checked_sub(1) {
        let path = directory.join(names::file(base, FileKind::Index));
        let file = open(disk, directory, base, FileKind::Index, OpenMode::Read)?;
        let entry = index::offset_entry(file.as_ref(), last).doing("reading", &path)?;
        start = u64::from(entry.position);
    }
    segment.index.bytes_since_entry = size.saturating_sub(start);
    let path = directory.join(names::file(base, FileKind::Log));
    let file = open(disk, directory, base, FileKind::Log, OpenMode::Read)?;
    let first = Scanner::heads(file.as_ref(), 0, size)
        .next_head()
        .doing("reading", &path)?;
    if let Step::Batch(_, first) = first {
        segment.first_timestamp = Some(first.max_timestamp);
    }
    if let Some(last) = segment.index.last_time
        && !confirms(disk, directory, &segment, last)?
    {
        let torn = Some("its time index contradicts it".to_owned());
        let end = base;
        return Ok(Loaded { segment, end, torn });
    }
    let (end, torn) = load_rest(&mut segment, file.as_ref(), start).doing("reading", &path)?;
    Ok(Loaded { segment, end, torn })
}

/// Whether the batches of a segment that is being loaded say what an entry of its time index says.
fn confirms(
    disk: &dyn Disk,
    directory: &Path,
    segment: &Segment,
    entry: TimeEntry,
) -> Result<bool, StorageError> {
    let base = segment.base;
    let path = directory.join(names::file(base, FileKind::Log));
    let file = open(disk, directory, base, FileKind::Log, OpenMode::Read)?;
    let entries = segment.index.written_offsets;
    let mut start = 0;
    if entries > 0 {
        let index = open(disk, directory, base, FileKind::Index, OpenMode::Read)?;
        let floor = index::offset_floor(index.as_ref(), entries, entry.offset);
        let floor = floor.doing("searching", &path)?;
        start = floor.map_or(0, |(_, found)| u64::from(found.position));
    }
    let target = base.plus(i64::from(entry.offset));
    match seek_from_index(file.as_ref(), start, segment.size, target) {
        Ok(found) => Ok(found.is_some_and(|(_, header)| {
            header.base_offset <= target && header.max_timestamp == entry.timestamp
        })),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(StorageError::io("searching", &path, error)),
    }
}

fn entries(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
    kind: FileKind,
    entry_bytes: u64,
) -> Result<u64, StorageError> {
    let path = directory.join(names::file(base, kind));
    match open_if_any(disk, directory, base, kind)? {
        None => Ok(0),
        Some(file) => Ok(file.len().doing("reading", &path)? / entry_bytes),
    }
}

/// Looks at the batches from `start` on: where they end, and the largest timestamp among them.
fn load_rest(
    segment: &mut Segment,
    file: &dyn DiskFile,
    start: u64,
) -> std::io::Result<(Offset, Option<String>)> {
    let mut end = segment.base;
    if start >= segment.size {
        let torn = (segment.size > 0).then(|| "its index points behind its end".to_owned());
        return Ok((end, torn));
    }
    let mut scanner = Scanner::heads(file, start, segment.size);
    loop {
        match scanner.next_head()? {
            Step::End => return Ok((end, None)),
            Step::Torn(why) => return Ok((end, Some(why))),
            Step::Batch(_, header) => {
                end = header.next_offset();
                let newest = segment
                    .max_timestamp
                    .map_or(Timestamp::NONE, |(time, _)| time);
                if header.record_count > 0 && header.max_timestamp > newest {
                    segment.max_timestamp = Some((header.max_timestamp, header.last_offset()));
                }
            }
        }
    }
}

/// What going through a whole segment found.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    /// The segment, with all its index entries waiting in memory.
    pub(crate) segment: Segment,
    /// The offset that follows its last batch.
    pub(crate) end: Offset,
    /// Bytes behind its last batch, and why they are none.
    pub(crate) torn: Option<(u64, String)>,
    /// Whether records are missing between or within its batches, as compaction leaves it.
    pub(crate) sparse: bool,
    /// Batches that were durable and have wrong checksums.
    pub(crate) damaged: Vec<Run>,
}

/// How a segment is gone through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebuilding {
    pub(crate) base: Offset,
    /// Bytes of its file.
    pub(crate) size: u64,
    /// `index.interval.bytes`.
    pub(crate) interval_bytes: u64,
    pub(crate) now: Timestamp,
    /// What lies before was durable: a wrong checksum is no torn end there.
    pub(crate) durable: Offset,
    /// Where the next segment begins, if there is one.
    pub(crate) below: Option<Offset>,
    /// What lies before was committed once, so a batch began there and nothing less was its start.
    pub(crate) committed: Offset,
}

/// A batch of which the next one must tell whether its offsets are right.
struct Leap {
    position: u64,
    header: Header,
    sound: bool,
}

impl Rebuilding {
    /// Whether a batch cannot be where it is, behind one that ends at `end`. Checksums do not cover
    /// base offsets. Compaction leaves gaps, also to those who replicate what it left.
    fn is_misplaced(&self, header: &Header, end: Offset) -> bool {
        header.base_offset < end
            || index::relative(self.base, header.last_offset()).is_none()
            || self.below.is_some_and(|below| header.next_offset() > below)
            // High watermarks are ends of batches that were there: the one that this belongs to is not.
            || (end < self.committed && self.committed <= header.base_offset)
    }
}

/// A segment of which the beginning has been gone through.
struct Going<'a> {
    how: &'a Rebuilding,
    segment: Segment,
    end: Offset,
    sparse: bool,
    damaged: Vec<Run>,
}

impl Going<'_> {
    /// Takes a batch for the next one.
    fn take(
        &mut self,
        position: u64,
        mut header: Header,
        sound: bool,
        visit: &mut impl FnMut(&Header),
    ) {
        if !sound {
            self.damaged.push(Run {
                from: self.end,
                to: header.next_offset(),
                segment: self.how.base,
                position,
                resume: position + header.size as u64,
            });
            // What it says of its time is not to be believed.
            header.record_count = 0;
        }
        self.sparse |=
            header.base_offset > self.end || header.record_count != header.last_offset_delta + 1;
        self.end = header.next_offset();
        self.segment.add(&header, self.how.interval_bytes);
        if sound {
            visit(&header);
        }
    }
}

/// Goes through a segment with checksums, makes its indexes anew in memory and shows each batch to
/// `visit` (Kafka method `LogSegment.recover`).
pub(crate) fn rebuild(
    file: &dyn DiskFile,
    how: &Rebuilding,
    mut visit: impl FnMut(&Header),
) -> std::io::Result<Rebuilt> {
    let Rebuilding { base, size, .. } = *how;
    let mut scanner = Scanner::whole(file, size);
    let mut going = Going {
        how,
        segment: Segment::new(base, how.now, 0),
        end: base,
        sparse: false,
        damaged: Vec::new(),
    };
    let mut leap: Option<Leap> = None;
    let torn = loop {
        let next = scanner.next_checked()?;
        if let Some(Leap {
            position,
            header,
            sound,
        }) = leap.take()
        {
            let lies = matches!(&next, Checked::Batch(_, next, _) if next.base_offset < header.next_offset());
            if lies {
                break Some(format!("offset {} comes out of order", header.base_offset));
            }
            going.take(position, header, sound, &mut visit);
        }
        match next {
            Checked::End => break None,
            Checked::Torn(why) => break Some(why),
            Checked::Batch(_, header, _) if how.is_misplaced(&header, going.end) => {
                break Some(format!("offset {} comes out of order", header.base_offset));
            }
            Checked::Batch(_, header, false) if header.next_offset() > how.durable => {
                break Some("a checksum does not match".to_owned());
            }
            Checked::Batch(position, header, sound) if header.base_offset > going.end => {
                leap = Some(Leap {
                    position,
                    header,
                    sound,
                });
            }
            Checked::Batch(position, header, sound) => {
                going.take(position, header, sound, &mut visit);
            }
        }
    };
    let Going {
        mut segment,
        end,
        sparse,
        damaged,
        ..
    } = going;
    segment.written = segment.size;
    segment.add_time();
    let torn = torn.map(|why| (size - segment.size, why));
    Ok(Rebuilt {
        segment,
        end,
        torn,
        sparse,
        damaged,
    })
}

/// As [`seek`], from a position that an index gave; a position that contradicts the batches there is
/// not believed, and the search begins at the beginning.
pub(crate) fn seek_from_index(
    file: &dyn DiskFile,
    position: u64,
    end: u64,
    target: Offset,
) -> std::io::Result<Option<(u64, Header)>> {
    let found = match position < end {
        true => seek(file, position, end, target),
        false => Err(std::io::ErrorKind::InvalidData.into()),
    };
    let lied = match &found {
        Ok(Some((at, header))) => *at == position && header.base_offset > target,
        Ok(None) => false,
        Err(error) => error.kind() == std::io::ErrorKind::InvalidData,
    };
    if position == 0 || !lied {
        return found;
    }
    seek(file, 0, end, target)
}

/// The largest timestamp of a segment's records and the last offset of the batch that has it, by
/// heads.
pub(crate) fn largest_time(
    file: &dyn DiskFile,
    end: u64,
) -> std::io::Result<Option<(Timestamp, Offset)>> {
    let mut largest: Option<(Timestamp, Offset)> = None;
    let mut scanner = Scanner::heads(file, 0, end);
    while let Step::Batch(_, header) = scanner.next_head()? {
        let newer = largest.is_none_or(|(time, _)| header.max_timestamp > time);
        if header.record_count > 0 && newer {
            largest = Some((header.max_timestamp, header.last_offset()));
        }
    }
    Ok(largest)
}

/// The first batch of a segment that ends after `target`, where the search by heads begins at
/// `position`; `None` if there is none before `end`.
pub(crate) fn seek(
    file: &dyn DiskFile,
    position: u64,
    end: u64,
    target: Offset,
) -> std::io::Result<Option<(u64, Header)>> {
    let mut scanner = Scanner::heads(file, position, end);
    loop {
        match scanner.next_head()? {
            Step::Batch(at, header) if header.last_offset() >= target => {
                return Ok(Some((at, header)));
            }
            Step::Batch(..) => {}
            Step::End => return Ok(None),
            Step::Torn(why) => {
                let what = format!("at position {}: {why}", scanner.position());
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
            }
        }
    }
}
