//! Reading what is not in memory: find the batch by index and heads, then read a run of batches.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millrace_host::DiskFile;
use millrace_host::disk::OpenMode;
use millrace_model::Offset;

use super::{Hint, Log, State};
use crate::batch;
use crate::error::{ReadError, StorageError};
use crate::handles::HandleKey;
use crate::index;
use crate::names::{self, FileKind};
use crate::plan::Part;
use crate::scan::{Scanner, Step};
use crate::segment;
use crate::tail;

/// A read that needs the disk.
pub(crate) struct Cold {
    pub(crate) log: Arc<Log>,
    pub(crate) from: Offset,
    pub(crate) max_bytes: usize,
    pub(crate) upper: Offset,
    pub(crate) at_least_one: bool,
    /// The log's when the read was planned.
    pub(crate) generation: u64,
    pub(crate) hint: Option<Hint>,
}

/// Where a batch is.
struct Found {
    file: Arc<dyn DiskFile>,
    segment: Offset,
    position: u64,
    /// Bytes of the batch.
    size: usize,
    /// Bytes in the file that are batches.
    limit: u64,
}

/// A segment as a search needs it.
struct Searched {
    base: Offset,
    written: u64,
    written_offsets: u64,
    /// Where a batch begins that ends at or before the target's.
    known: Option<u64>,
    /// Behind what is damaged before the target.
    least: u64,
}

impl Cold {
    /// Reads without waiting for the disk, if an earlier read ended here and the bytes are in the
    /// page cache.
    pub(crate) fn load_inline(&self) -> Option<Bytes> {
        let hint = self.hint?;
        let key = self.log.key(hint.segment, FileKind::Log);
        let file = self.log.shared.handles.get(key)?;
        let limit = {
            let mut state = self.log.state();
            let written = state.segment_mut(hint.segment)?.written;
            (state.generation == self.generation).then_some(written)?
        };
        let rest = usize::try_from(limit.checked_sub(hint.position)?).ok()?;
        let mut buffer = vec![0; self.max_bytes.min(rest)];
        let read = file.read_at_nowait(&mut buffer, hint.position).ok()?;
        buffer.truncate(read);
        let bytes = self.keep(buffer, hint.segment, hint.position);
        (!bytes.is_empty() && self.is_current()).then_some(bytes)
    }

    /// Reads; may wait for the disk. Nothing if no whole batch is within the bounds.
    pub(crate) fn load(&self) -> Result<Option<Bytes>, ReadError> {
        match self.read() {
            Ok(read) => Ok(read.map(|(_, bytes)| bytes)),
            Err(error @ ReadError::Storage(StorageError::Corrupt { .. })) => {
                self.examine(self.segment())?;
                let known = self.known_damage(self.from.next());
                Err(known.map_or(error, |(damage, _)| damage))
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Cold::load`], and looks at the checksums of what was read, as `cached` if that is known
    /// already. What does not fit is not given away, but noted as damaged.
    pub(crate) fn load_sound(&self, cached: Option<Bytes>) -> Result<Option<Bytes>, ReadError> {
        let (segment, bytes) = match cached {
            Some(bytes) => (self.segment(), bytes),
            None => match self.read() {
                Ok(Some(read)) => read,
                Ok(None) => {
                    // There is more than nothing, unless a batch lies about its offset.
                    self.examine(self.segment())?;
                    let known = self.known_damage(self.from.next());
                    return known.map_or(Ok(None), |(damage, _)| Err(damage));
                }
                Err(_) => return self.load(),
            },
        };
        if self.is_sound(&bytes) {
            return Ok(Some(bytes));
        }
        self.examine(segment)?;
        let end = batch::whole_batches(&bytes).last();
        let end = end.map_or(self.upper, |(_, header)| header.next_offset());
        if let Some((damage, from)) = self.known_damage(end.max(self.from.next())) {
            let before = tail::cut(&bytes, self.from, from, usize::MAX, false).range;
            let before = bytes.slice(before);
            let is_sound = !before.is_empty() && self.log.is_sound(self.from, &before, false);
            return if is_sound {
                Ok(Some(before))
            } else {
                Err(damage)
            };
        }
        // Compaction leaves gaps, and keeps them when a topic is no longer compacted.
        match self.log.is_sound(self.from, &bytes, false) {
            true => {
                if let Some(segment) = self.log.state().segment_mut(segment) {
                    segment.sparse = true;
                }
                Ok(Some(bytes))
            }
            false => {
                let why = format!("what was read from offset {} does not fit", self.from);
                Err(ReadError::Storage(StorageError::corrupt(
                    &self.log.path(),
                    why,
                )))
            }
        }
    }

    /// Whether these batches may be given away.
    pub(crate) fn is_sound(&self, bytes: &Bytes) -> bool {
        let is_sparse = {
            let state = self.log.state();
            state.settings.compact || state.segments[state.floor(self.from)].sparse
        };
        self.log.is_sound(self.from, bytes, !is_sparse)
    }

    fn segment(&self) -> Offset {
        let state = self.log.state();
        state.segments[state.floor(self.from)].base
    }

    fn examine(&self, segment: Offset) -> Result<(), ReadError> {
        self.log.examine(segment).map_err(ReadError::Storage)?;
        match self.is_current() {
            true => Ok(()),
            false => Err(ReadError::Changed),
        }
    }

    /// What is known to be damaged from where the read begins and before `end`, and from where on.
    fn known_damage(&self, end: Offset) -> Option<(ReadError, Offset)> {
        let state = self.log.state();
        let run = state.damages.from(self.from).filter(|run| run.from < end)?;
        let (from, to) = (run.from, run.to);
        Some((ReadError::Damaged { from, to }, from))
    }

    /// Reads, and tells from which segment.
    fn read(&self) -> Result<Option<(Offset, Bytes)>, ReadError> {
        let Some(found) = self.find()? else {
            return Ok(None);
        };
        let rest = usize::try_from(found.limit - found.position).unwrap_or(usize::MAX);
        let least = if self.at_least_one { found.size } else { 0 };
        let mut buffer = vec![0; self.max_bytes.max(least).min(rest)];
        let read = self.tried(found.file.read_at(&mut buffer, found.position))?;
        buffer.truncate(read);
        let bytes = self.keep(buffer, found.segment, found.position);
        if !self.is_current() {
            return Err(ReadError::Changed);
        }
        Ok((!bytes.is_empty()).then_some((found.segment, bytes)))
    }

    /// Finds the run of batches without reading it; may wait for the disk.
    pub(crate) fn locate(&self) -> Result<Option<Part>, ReadError> {
        let Some(found) = self.find()? else {
            return Ok(None);
        };
        let mut scanner = Scanner::heads(found.file.as_ref(), found.position, found.limit);
        let mut len = 0;
        while let Step::Batch(_, header) = self.tried(scanner.next_head())? {
            let forced = self.at_least_one && len == 0;
            if header.next_offset() > self.upper || (len + header.size > self.max_bytes && !forced)
            {
                break;
            }
            len += header.size;
        }
        if !self.is_current() {
            return Err(ReadError::Changed);
        }
        let (file, position) = (found.file, found.position);
        Ok((len > 0).then_some(Part::File {
            file,
            position,
            len,
        }))
    }

    fn keep(&self, buffer: Vec<u8>, segment: Offset, position: u64) -> Bytes {
        let cut = tail::cut(
            &buffer,
            self.from,
            self.upper,
            self.max_bytes,
            self.at_least_one,
        );
        if !cut.range.is_empty() {
            let position = position + cut.range.end as u64;
            let hint = Hint {
                offset: cut.end,
                segment,
                position,
            };
            let mut state = self.log.state();
            if state.generation == self.generation {
                state.remember(hint);
            }
        }
        Bytes::from(buffer).slice(cut.range)
    }

    fn is_current(&self) -> bool {
        self.log.state().generation == self.generation
    }

    fn find(&self) -> Result<Option<Found>, ReadError> {
        let mut skipped = 0;
        loop {
            let searched = {
                let state = self.log.state();
                if state.generation != self.generation {
                    return Err(ReadError::Changed);
                }
                let place = state.floor(self.from) + skipped;
                match state.segments.get(place) {
                    Some(_) => search_in(&state, place, self.from, self.hint),
                    None => return Ok(None),
                }
            };
            if let Some(found) = self.find_in(&searched)? {
                return Ok(Some(found));
            }
            // Compaction may leave the end of a segment empty.
            skipped += 1;
        }
    }

    fn find_in(&self, searched: &Searched) -> Result<Option<Found>, ReadError> {
        if searched.written == 0 {
            return Ok(None);
        }
        let file = self.open(searched.base, FileKind::Log)?;
        let start = match searched.known {
            Some(position) => position,
            None => self.tried(self.log.index_floor(
                searched.base,
                searched.written_offsets,
                self.from,
            ))?,
        };
        let start = start.max(searched.least);
        let found = segment::seek_from_index(file.as_ref(), start, searched.written, self.from);
        let limit = searched.written;
        Ok(self.tried(found)?.map(|(position, header)| Found {
            file,
            segment: searched.base,
            position,
            size: header.size,
            limit,
        }))
    }

    fn open(&self, base: Offset, kind: FileKind) -> Result<Arc<dyn DiskFile>, ReadError> {
        self.tried(self.log.open(base, kind))
    }

    /// Judges an error of the disk: a file that is gone because the log start moved is none.
    fn tried<T>(&self, result: io::Result<T>) -> Result<T, ReadError> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        {
            let state = self.log.state();
            if state.generation != self.generation {
                return Err(ReadError::Changed);
            }
            let (from, log_start, log_end) = (self.from, state.log_start, state.log_end);
            if from < log_start {
                return Err(ReadError::OutOfRange {
                    from,
                    log_start,
                    log_end,
                });
            }
        }
        Err(ReadError::Storage(self.log.read_failed(error)))
    }
}

fn search_in(state: &State, place: usize, from: Offset, hint: Option<Hint>) -> Searched {
    let segment = &state.segments[place];
    let waiting = index::relative(segment.base, from)
        .and_then(|offset| segment.index.waiting_floor(offset))
        .map(|entry| u64::from(entry.position));
    let hinted = hint
        .filter(|hint| hint.segment == segment.base)
        .map(|hint| hint.position);
    Searched {
        base: segment.base,
        written: segment.written,
        written_offsets: segment.index.written_offsets,
        known: hinted
            .or(waiting)
            .or_else(|| (segment.index.written_offsets == 0).then_some(0)),
        least: state.damages.search_from(segment.base, from),
    }
}

impl Log {
    pub(crate) fn key(&self, base: Offset, kind: FileKind) -> HandleKey {
        HandleKey {
            log: self.place().files,
            base,
            kind,
        }
    }

    /// A file of a segment, for reading; may wait for the disk.
    pub(crate) fn open(&self, base: Offset, kind: FileKind) -> io::Result<Arc<dyn DiskFile>> {
        // One look: after a move both are others.
        let place = self.place();
        let folder = names::partition(self.topic(), self.id().index);
        let path = place.directory.path.join(folder);
        let path = path.join(names::file(base, kind));
        let key = HandleKey {
            log: place.files,
            base,
            kind,
        };
        let disk = self.shared.host.disk.as_ref();
        self.shared
            .handles
            .open(disk, key, &path, OpenMode::ReadWrite)
    }

    /// The position to search from for the batch that holds `from`, by the index file.
    pub(crate) fn index_floor(&self, base: Offset, entries: u64, from: Offset) -> io::Result<u64> {
        let Some(offset) = index::relative(base, from) else {
            return Ok(0);
        };
        let file = match self.open(base, FileKind::Index) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let entries = entries.min(file.len()? / index::OFFSET_ENTRY_BYTES);
        let found = index::offset_floor(file.as_ref(), entries, offset)?;
        Ok(found.map_or(0, |(_, entry)| u64::from(entry.position)))
    }

    /// Names a failed read, and takes the directory offline if the disk itself failed.
    pub(crate) fn read_failed(&self, error: io::Error) -> StorageError {
        let path = self.path();
        let own_fault = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        );
        if own_fault {
            return StorageError::corrupt(&path, error.to_string());
        }
        let error = describe(&path, error);
        self.directory().fail(&self.shared, error.to_string());
        error
    }
}

fn describe(path: &Path, error: io::Error) -> StorageError {
    StorageError::io("reading", path, error)
}
