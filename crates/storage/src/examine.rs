//! Going through a segment's file with checksums, to find out which of its batches are damaged.
//!
//! A checksum covers what follows it in a batch. Of what comes before, the length is covered too (a
//! wrong one makes the checksum fail), but neither base offset nor leader epoch are; those must fit
//! the batches around it and what the log knows of its epochs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use millrace_host::DiskFile;
use millrace_host::disk::OpenMode;
use millrace_model::{LeaderEpoch, Offset};

use crate::batch::{self, Header};
use crate::damage::Run;
use crate::error::StorageError;
use crate::index;
use crate::log::{Log, Mode, State};
use crate::names::{self, FileKind};
use crate::scan::{Scanner, Step};
use crate::segment;

/// How much a look at a whole segment reads at once.
const BITE_BYTES: u64 = 4 << 20;

/// What a bite did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bite {
    /// So many bytes were read; there are more.
    More(u64),
    /// So many bytes were read, and that was all.
    Done(u64),
    /// The segment has other files now, or is gone.
    Changed,
}

/// A look at one segment, bite by bite.
pub(crate) struct Examination {
    log: Arc<Log>,
    segment: Offset,
    /// Where the segment behind it begins, or where what is written ends.
    next: Offset,
    size: u64,
    generation: u64,
    at: u64,
    expected: Offset,
    /// Where the offsets leave a gap before the batch seen last: should the one behind it not fit,
    /// it is that batch which lies about its offset.
    gap: Option<Place>,
    found: Vec<Run>,
    /// The last run found ends where the next batch begins that fits.
    open: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: Offset,
    position: u64,
}

impl Examination {
    /// A look at the segment with this base; nothing if there is none, or nothing is in it.
    pub(crate) fn of(log: &Arc<Log>, segment: Offset) -> Option<Examination> {
        let state = log.state();
        let place = state.segments.binary_search_by_key(&segment, |s| s.base);
        let place = place.ok()?;
        let next = state.segments.get(place + 1);
        let size = state.segments[place].written;
        let usable = size > 0 && matches!(state.mode, Mode::Open | Mode::Changing);
        usable.then(|| Examination {
            log: log.clone(),
            segment,
            next: next.map_or(state.written_end, |next| next.base),
            size,
            generation: state.generation,
            at: 0,
            expected: segment,
            gap: None,
            found: Vec::new(),
            open: false,
        })
    }

    fn is_current(&self, state: &State) -> bool {
        state.generation == self.generation
            && matches!(state.mode, Mode::Open | Mode::Changing)
            && state.segments.iter().any(|s| s.base == self.segment)
    }

    /// Reads on, about so many bytes; may wait for the disk. What it found is noted in the log when
    /// it is done.
    pub(crate) fn bite(&mut self, bytes: u64) -> Result<Bite, StorageError> {
        let from = self.at;
        let walked = self.open().and_then(|file| self.walk(&file, bytes));
        if !self.is_current(&self.log.state()) {
            return Ok(Bite::Changed);
        }
        match walked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bite::Changed),
            Err(error) => return Err(self.log.read_failed(error)),
        }
        let read = self.at.saturating_sub(from);
        if self.at < self.size {
            return Ok(Bite::More(read));
        }
        self.note();
        Ok(Bite::Done(read))
    }

    /// As [`Examination::bite`]; what was not in the page cache before is not there afterwards.
    pub(crate) fn bite_politely(&mut self, bytes: u64) -> Result<Bite, StorageError> {
        let from = self.at;
        let is_cold = |file: &Arc<dyn DiskFile>| file.read_at_nowait(&mut [0], from).is_err();
        let cold = self.open().ok().filter(is_cold);
        let bite = self.bite(bytes);
        if let Some(file) = cold {
            // It is a favour to others: that it cannot be done is no failure.
            let _ = file.release_cache(from, self.at.saturating_sub(from));
        }
        bite
    }

    fn open(&self) -> io::Result<Arc<dyn DiskFile>> {
        let path = self
            .log
            .path()
            .join(names::file(self.segment, FileKind::Log));
        // Not by the handles: those are for files that somebody reads.
        self.log.shared.host.disk.open(&path, OpenMode::Read)
    }

    fn walk(&mut self, file: &Arc<dyn DiskFile>, bytes: u64) -> io::Result<()> {
        let until = self.at.saturating_add(bytes.max(1));
        let mut scanner = Scanner::whole_from(file.as_ref(), self.at, self.size);
        while self.at < until.min(self.size) {
            match scanner.next_verified()? {
                Step::Batch(position, header) if self.fits(&header) => {
                    self.pass(position, &header);
                }
                Step::Batch(position, header) => {
                    self.misfit(position, &header);
                    self.at = position + header.size as u64;
                }
                Step::End => self.at = self.size,
                Step::Torn(why) => {
                    self.skip(file.as_ref(), &why)?;
                    scanner = Scanner::whole_from(file.as_ref(), self.at, self.size);
                }
            }
        }
        Ok(())
    }

    /// Whether a batch with a right checksum has the place and the epoch that it should have.
    fn fits(&self, header: &Header) -> bool {
        let in_order = header.base_offset >= self.expected && header.next_offset() <= self.next;
        in_order && knows_epoch(&self.log.state(), header)
    }

    fn pass(&mut self, position: u64, header: &Header) {
        let (offset, begins) = (self.expected, header.base_offset);
        self.gap = (begins > offset).then_some(Place { offset, position });
        self.close(begins, position);
        self.expected = header.next_offset();
        self.at = position + header.size as u64;
    }

    /// A batch claims another place than it can have, or the one before it did.
    fn misfit(&mut self, position: u64, header: &Header) {
        let in_order = |from: Offset| header.base_offset >= from && header.base_offset < self.next;
        if let Some(gap) = self.gap.take()
            && header.base_offset < self.expected
            && in_order(gap.offset)
        {
            self.add(gap, header.base_offset, position);
            self.expected = header.next_offset();
            return;
        }
        let offset = self.expected;
        let resume = position + header.size as u64;
        self.add(Place { offset, position }, offset.next(), resume);
        self.open = true;
    }

    /// The run found last ends before `offset`, if it is not known yet where it does.
    fn close(&mut self, offset: Offset, position: u64) {
        if std::mem::take(&mut self.open)
            && let Some(last) = self.found.last_mut()
        {
            self.gap = None;
            last.to = last.to.max(offset);
            last.resume = position;
        }
    }

    /// Goes to the next sound batch behind bytes that are none.
    fn skip(&mut self, file: &dyn DiskFile, why: &str) -> io::Result<()> {
        let (offset, position) = (self.expected, self.at);
        self.gap = None;
        let behind = self.behind(file, position)?;
        let indexed = match behind {
            Some(_) => None,
            None => self.by_index(file, position)?,
        };
        let (at, to) = behind.or(indexed).unwrap_or((self.size, self.next));
        tracing::warn!(
            directory = %self.log.path().display(), segment = %self.segment, position, %offset, why,
            "a batch is damaged"
        );
        self.add(Place { offset, position }, to, at);
        self.open = false;
        (self.at, self.expected) = (at, to.max(offset));
        Ok(())
    }

    /// Where the batch at `position` ends if its length can be believed, and the offset there.
    fn behind(&self, file: &dyn DiskFile, position: u64) -> io::Result<Option<(u64, Offset)>> {
        let mut scanner = Scanner::heads(file, position, self.size);
        let Step::Batch(_, header) = scanner.next_head()? else {
            return Ok(None);
        };
        let at = position + header.size as u64;
        match at < self.size {
            true => self.sound_at(file, at),
            false => Ok(None),
        }
    }

    /// Where the next batch begins that an entry of the index points at.
    fn by_index(&self, file: &dyn DiskFile, position: u64) -> io::Result<Option<(u64, Offset)>> {
        let waiting = {
            let mut state = self.log.state();
            let segment = state.segment_mut(self.segment);
            segment.map_or_else(Vec::new, |segment| segment.index.offsets.clone())
        };
        let (disk, path) = (&self.log.shared.host.disk, self.log.path());
        let index = segment::open_if_any(disk.as_ref(), &path, self.segment, FileKind::Index);
        if let Ok(Some(index)) = index {
            let entries = index.len()? / index::OFFSET_ENTRY_BYTES;
            let floor = index::position_floor(index.as_ref(), entries, position + 1)?;
            for place in floor.map_or(0, |(place, _)| place + 1)..entries {
                let at = u64::from(index::offset_entry(index.as_ref(), place)?.position);
                if let Some(found) = self.candidate(file, position, at)? {
                    return Ok(Some(found));
                }
            }
        }
        for entry in waiting {
            if let Some(found) = self.candidate(file, position, entry.position.into())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn candidate(
        &self,
        file: &dyn DiskFile,
        damaged: u64,
        at: u64,
    ) -> io::Result<Option<(u64, Offset)>> {
        match at > damaged && at < self.size {
            true => self.sound_at(file, at),
            false => Ok(None),
        }
    }

    /// The position and the offset of a sound batch there.
    fn sound_at(&self, file: &dyn DiskFile, at: u64) -> io::Result<Option<(u64, Offset)>> {
        match Scanner::whole_from(file, at, self.size).next_verified()? {
            Step::Batch(_, header) if self.fits(&header) => Ok(Some((at, header.base_offset))),
            _ => Ok(None),
        }
    }

    fn add(&mut self, from: Place, to: Offset, resume: u64) {
        if from.offset >= self.next {
            return;
        }
        if let Some(last) = self.found.last_mut()
            && last.to >= from.offset
        {
            last.to = last.to.max(to);
            last.resume = resume;
            return;
        }
        self.found.push(Run {
            from: from.offset,
            to: to.max(from.offset.next()),
            segment: self.segment,
            position: from.position,
            resume,
        });
    }

    fn note(&mut self) {
        self.close(self.next, self.size);
        let found = std::mem::take(&mut self.found);
        let (is_news, first) = {
            let mut state = self.log.state();
            let log_start = state.log_start;
            let is_news = state.damages.set(self.segment, found);
            state.damages.forget_before(log_start);
            (is_news, state.damages.first())
        };
        if let (true, Some(first)) = (is_news, first) {
            let log = &self.log;
            tracing::error!(
                partition = %log.id(), topic = %log.topic(), segment = %self.segment, %first,
                "a log is damaged on its disk"
            );
            log.shared.scrubbed.damages.fetch_add(1, Ordering::Relaxed);
            log.shared.events.damaged(log.id());
        }
    }
}

/// Whether the log knows that this batch was written in this epoch. Of what lies before the log
/// start it knows nothing any more.
fn knows_epoch(state: &State, header: &Header) -> bool {
    let known = state.epochs.epoch_at(header.base_offset);
    header.base_offset < state.log_start
        || [known, header.leader_epoch].contains(&LeaderEpoch::NONE)
        || known == header.leader_epoch
}

impl Log {
    /// The first offset that is known to be damaged on the disk. What other replicas have must be
    /// fetched anew from there.
    pub fn damaged_from(&self) -> Option<Offset> {
        self.state().damages.first()
    }

    /// Goes through a whole segment and notes what is damaged; may wait for the disk for long.
    pub(crate) fn examine(self: &Arc<Log>, segment: Offset) -> Result<(), StorageError> {
        let Some(mut examination) = Examination::of(self, segment) else {
            return Ok(());
        };
        while let Bite::More(_) = examination.bite(BITE_BYTES)? {}
        Ok(())
    }

    /// Whether batches that were read for somebody from `from` on are what was written: whole, with
    /// right checksums, in order, of the epochs the log knows; and without gaps if it is `dense`.
    pub(crate) fn is_sound(&self, from: Offset, batches: &Bytes, dense: bool) -> bool {
        let (mut at, mut next) = (0, from);
        for (position, header) in batch::whole_batches(batches) {
            let in_order = match position {
                0 => header.last_offset() >= from && (header.base_offset <= from || !dense),
                _ => header.base_offset == next || (header.base_offset > next && !dense),
            };
            let sound = in_order
                && batch::crc_matches(&batches[position..])
                && knows_epoch(&self.state(), &header);
            if !sound {
                return false;
            }
            (at, next) = (position + header.size, header.next_offset());
        }
        at == batches.len()
    }
}
