//! The compaction of one log, step by step (Kafka class `Cleaner`): which offset is the newest of
//! each key in the dirty part, as far as memory reaches; then all segments up to there anew, without
//! what is not the newest of its key.
//!
//! Each step reads little, so that whoever runs it may pause, and stop. What changes the log in
//! between, a cut or a deletion, ends the work; nothing has happened then.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::{Offset, ProducerId, Timestamp};

use super::filter::{self, Kept, Rules};
use super::offset_map::OffsetMap;
use super::output::{Output, remove_cleaned};
use super::range::Range;
use super::transactions::{Decisions, Gathering, Transactions};
use crate::batch::{self, Header};
use crate::error::StorageError;
use crate::index;
use crate::log::{Log, Mode};
use crate::names::{self, FileKind};
use crate::scan::{Scanner, Step as Scanned, Window};
use crate::segment::Segment;

/// Bytes read between two offers to let others have the processor: a tenth of a millisecond of work.
const GIVE_WAY_BYTES: u64 = 64 << 10;

/// Pages leave the cache by this much, which is as large as the kernel ever makes one.
const RELEASE_BYTES: u64 = 2 << 20;

/// What a step did.
pub(crate) enum Step {
    /// So many bytes were read and written; there is more to do.
    Moved(u64),
    /// The segment is to take the place of these.
    Replace(Box<Segment>, Vec<Offset>),
    /// All is done, up to this offset.
    Done(Offset),
}

/// Why the work ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The log changed, was closed or deleted: another time.
    Changed,
    /// Something is wrong with the log or its disk.
    Failed(StorageError),
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Stopped {
        match error {
            error if error.is_missing_file() => Stopped::Changed,
            StorageError::Deleted | StorageError::Offline(_) => Stopped::Changed,
            error => Stopped::Failed(error),
        }
    }
}

/// A segment to be read.
#[derive(Clone, Copy, Debug)]
struct Source {
    base: Offset,
    size: u64,
    /// The base of the segment behind it.
    next: Offset,
    /// Bytes of its two indexes.
    index_bytes: (u64, u64),
}

enum Stage {
    Mapping { left: VecDeque<Source>, at: u64 },
    Rewriting(Box<Rewriting>),
    Finished,
}

struct Rewriting {
    groups: VecDeque<VecDeque<Source>>,
    /// The bases of the group at work.
    replaced: Vec<Offset>,
    output: Option<Output>,
    at: u64,
    rules: Rules,
}

/// What was read and what is left, for the log line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) read_bytes: u64,
    pub(crate) left_bytes: u64,
    pub(crate) keys: usize,
}

/// One compaction.
pub(crate) struct Cleaning {
    log: Arc<Log>,
    range: Range,
    generation: u64,
    now: Timestamp,
    /// What was read of the segment with this base, and perhaps not used up.
    window: (Offset, Window),
    map: OffsetMap,
    decisions: Option<Decisions>,
    transactions: Transactions,
    stage: Stage,
    /// For how long others ran in its steps.
    stood_back: Duration,
    pub(crate) stats: Stats,
}

impl Cleaning {
    /// Begins.
    pub(crate) fn begin(log: Arc<Log>, range: Range, map: OffsetMap, now: Timestamp) -> Cleaning {
        let generation = log.state().generation;
        let mut cleaning = Cleaning {
            log,
            range,
            generation,
            now,
            window: (range.first_dirty, Window::default()),
            map,
            decisions: None,
            transactions: Transactions::default(),
            stage: Stage::Finished,
            stood_back: Duration::ZERO,
            stats: Stats::default(),
        };
        let left = cleaning.sources(range.first_dirty, range.upper);
        cleaning.stage = Stage::Mapping {
            left: left.into(),
            at: 0,
        };
        cleaning
    }

    /// The closed segments that reach into a range.
    fn sources(&self, from: Offset, to: Offset) -> Vec<Source> {
        let state = self.log.state();
        let pairs = state.segments.windows(2);
        let sources = pairs.filter(|pair| pair[1].base > from && pair[0].base < to);
        let source = |pair: &[Segment]| Source {
            base: pair[0].base,
            size: pair[0].written,
            next: pair[1].base,
            index_bytes: (0, 0),
        };
        sources.map(source).collect()
    }

    fn check(&self) -> Result<(), Stopped> {
        let state = self.log.state();
        let same = state.mode == Mode::Open && state.generation == self.generation;
        match same && !self.log.is_offline() {
            true => Ok(()),
            false => Err(Stopped::Changed),
        }
    }

    /// Does a little of the work: as much as `bite` bytes read. May wait for the disk.
    pub(crate) fn step(&mut self, bite: u64) -> Result<Step, Stopped> {
        self.check()?;
        let stage = std::mem::replace(&mut self.stage, Stage::Finished);
        match stage {
            Stage::Mapping { left, at } => self.map_some(left, at, bite),
            Stage::Rewriting(rewriting) => self.rewrite_some(rewriting, bite),
            Stage::Finished => Ok(Step::Done(self.map.latest().next())),
        }
    }

    /// The log's generation, as far as this work knows.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// For how long others ran while it was at work, since this was asked for last.
    pub(crate) fn take_stood_back(&mut self) -> Duration {
        std::mem::take(&mut self.stood_back)
    }

    /// The writer has put a segment in its place.
    pub(crate) fn replaced(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Removes what the work has left so far.
    pub(crate) fn abandon(&mut self) {
        if let Stage::Rewriting(rewriting) = &self.stage
            && let Some(output) = &rewriting.output
        {
            let disk = self.log.shared.host.disk.as_ref();
            // What cannot be removed now goes with the next start.
            let _ = remove_cleaned(disk, &self.log.path(), output.segment.base);
        }
    }

    fn scanner_error(&self, base: Offset, error: io::Error) -> Stopped {
        let path = self.log.path().join(names::file(base, FileKind::Log));
        StorageError::io("reading", &path, error).into()
    }

    /// Reads a bite of a segment from `at` on and shows each batch. Returns where to go on; nothing
    /// at the end, or when told to stop.
    fn walk(
        &mut self,
        source: Source,
        (at, bite): (u64, u64),
        mut visit: impl FnMut(&mut Cleaning, &[u8], &Header) -> Result<bool, Stopped>,
    ) -> Result<Option<u64>, Stopped> {
        let log = self.log.clone();
        let file = log.open(source.base, FileKind::Log);
        let file = file.map_err(|error| self.scanner_error(source.base, error))?;
        let (read_of, window) = std::mem::take(&mut self.window);
        let window = match read_of == source.base {
            true => window,
            false => Window::default(),
        };
        let mut scanner = Scanner::resume(file.as_ref(), at, source.size, window);
        let mut given_way = at;
        while scanner.position() < at + bite {
            if scanner.position() - given_way >= GIVE_WAY_BYTES {
                given_way = scanner.position();
                let began = log.shared.host.clock.now();
                log.shared.host.tasks.give_way();
                self.stood_back += log.shared.host.clock.now() - began;
            }
            let step = scanner.next_verified();
            let (position, header) =
                match step.map_err(|error| self.scanner_error(source.base, error))? {
                    Scanned::End => return Ok(None),
                    Scanned::Batch(position, header) => (position, header),
                    Scanned::Torn(why) => {
                        self.check()?;
                        let path = self
                            .log
                            .path()
                            .join(names::file(source.base, FileKind::Log));
                        let at = scanner.position();
                        let why = format!("{why} at position {at}");
                        log.examine(source.base)?;
                        return Err(Stopped::Failed(StorageError::corrupt(&path, why)));
                    }
                };
            let bytes = scanner.batch(position, &header);
            let bytes = bytes.map_err(|error| self.scanner_error(source.base, error))?;
            if !visit(self, bytes, &header)? {
                return Ok(None);
            }
        }
        let position = scanner.position();
        self.window = (source.base, scanner.into_window());
        Ok(Some(position))
    }

    fn map_some(
        &mut self,
        mut left: VecDeque<Source>,
        at: u64,
        bite: u64,
    ) -> Result<Step, Stopped> {
        let Some(source) = left.front().copied() else {
            return self.begin_rewriting();
        };
        let start = match at {
            0 if source.base < self.range.first_dirty => {
                let floor =
                    self.log
                        .index_floor(source.base, index::ALL_IN_FILE, self.range.first_dirty);
                floor.map_err(|error| self.scanner_error(source.base, error))?
            }
            at => at,
        };
        let mut full = false;
        let walked = self.walk(source, (start, bite), |cleaning, bytes, header| {
            let more = cleaning.map_batch(bytes, header)?;
            full |= !more;
            Ok(more)
        })?;
        let end = walked.unwrap_or(source.size).min(source.size);
        let moved = end.saturating_sub(start);
        self.stats.read_bytes += moved;
        if full {
            return self.begin_rewriting();
        }
        let at = match walked {
            Some(at) => at,
            None => {
                // Compaction may have left a gap before the next segment.
                self.map
                    .set_latest(source.next.plus(-1).min(self.range.upper.plus(-1)));
                left.pop_front();
                0
            }
        };
        self.stage = Stage::Mapping { left, at };
        Ok(Step::Moved(moved))
    }

    /// Notes the keys of a batch. False when the map is full, or where cleaning must end.
    fn map_batch(&mut self, bytes: &[u8], header: &Header) -> Result<bool, Stopped> {
        if header.is_transactional() && self.decisions.is_none() {
            self.gather_decisions(header.base_offset)?;
        }
        if header.base_offset >= self.range.upper {
            self.map.set_latest(self.range.upper.plus(-1));
            return Ok(false);
        }
        if header.is_control() {
            let marker = filter::marker_of(bytes).map_err(|why| self.damaged(header, &why))?;
            self.transactions.pass_control(header, marker);
        } else if !self.transactions.pass_batch(header) {
            let records = batch::records(bytes).map_err(|why| self.damaged(header, &why))?;
            for record in records.iter() {
                let record = record.map_err(|error| self.damaged(header, &error.to_string()))?;
                if let Some(key) = record.key
                    && record.offset >= self.range.first_dirty
                    && !self.map.put(key, record.offset)
                {
                    return Ok(false);
                }
            }
        }
        if header.last_offset() >= self.range.first_dirty {
            self.map.set_latest(header.last_offset());
        }
        Ok(true)
    }

    fn damaged(&self, header: &Header, why: &str) -> Stopped {
        let why = format!("the batch at {}: {why}", header.base_offset);
        Stopped::Failed(StorageError::corrupt(&self.log.path(), why))
    }

    /// Looks ahead, by heads, what became of the transactions from the first batch of one on. What
    /// is not committed decides nothing.
    fn gather_decisions(&mut self, from: Offset) -> Result<(), Stopped> {
        let (sources, committed) = {
            let state = self.log.state();
            let first = state.floor(from);
            let sources = state.segments[first..].iter();
            let sources: Vec<_> = sources.map(|s| (s.base, s.written)).collect();
            (sources, state.high_watermark)
        };
        let mut gathering = Gathering::default();
        'segments: for (base, size) in sources {
            let failed = |error| self.scanner_error(base, error);
            let file = self.log.open(base, FileKind::Log).map_err(failed)?;
            let mut scanner = Scanner::heads(file.as_ref(), 0, size);
            while let Scanned::Batch(at, header) = scanner.next_head().map_err(failed)? {
                if header.next_offset() > committed {
                    break 'segments;
                }
                if !header.is_transactional() {
                    continue;
                }
                let mut marker = None;
                if header.is_control() {
                    let bytes = scanner.batch(at, &header).map_err(failed)?;
                    marker = filter::marker_of(bytes).map_err(|why| self.damaged(&header, &why))?;
                }
                gathering.take_in(&header, marker);
            }
        }
        let decisions = gathering.into_decisions();
        if let Some(undecided) = decisions.undecided
            && undecided < self.range.upper
        {
            let state = self.log.state();
            self.range.upper = state.segments[state.floor(undecided)].base;
        }
        self.transactions = Transactions::new(&decisions);
        self.decisions = Some(decisions);
        Ok(())
    }

    fn begin_rewriting(&mut self) -> Result<Step, Stopped> {
        self.stats.keys = self.map.len();
        let end = self.map.latest().next();
        if end <= self.range.first_dirty {
            return Ok(Step::Done(self.range.first_dirty));
        }
        let mut sources = self.sources(Offset::ZERO, end);
        for source in &mut sources {
            source.index_bytes = (
                self.index_bytes(source.base, FileKind::Index)?,
                self.index_bytes(source.base, FileKind::TimeIndex)?,
            );
        }
        let settings = self.log.settings();
        let largest = settings.segment_bytes.min(i32::MAX as u64 / 2);
        let groups = group(&sources, largest, settings.segment_index_bytes);
        self.transactions = match &self.decisions {
            Some(decisions) => Transactions::new(decisions),
            None => Transactions::default(),
        };
        let last_records = {
            let state = self.log.state();
            let last = |(id, producer): (&ProducerId, &crate::producers::Producer)| {
                let newest = producer.batches().last().map(|batch| batch.last_offset);
                (*id, (newest, producer.epoch))
            };
            state.producers.iter().map(last).collect()
        };
        let rules = Rules {
            now: self.now,
            delete_retention_ms: settings.delete_retention_ms,
            upper: self.range.upper,
            last_records,
        };
        self.stage = Stage::Rewriting(Box::new(Rewriting {
            groups,
            replaced: Vec::new(),
            output: None,
            at: 0,
            rules,
        }));
        Ok(Step::Moved(0))
    }

    fn index_bytes(&self, base: Offset, kind: FileKind) -> Result<u64, Stopped> {
        let len = self.log.open(base, kind).and_then(|file| file.len());
        match len {
            Ok(len) => Ok(len),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.scanner_error(base, error)),
        }
    }

    fn rewrite_some(&mut self, mut work: Box<Rewriting>, bite: u64) -> Result<Step, Stopped> {
        let Some(group) = work.groups.front_mut() else {
            return Ok(Step::Done(self.map.latest().next()));
        };
        let Some(source) = group.front().copied() else {
            return self.finish_group(work);
        };
        let mut output = match work.output.take() {
            Some(output) => output,
            None => Output::create(&self.log, source.base, self.now)?,
        };
        let rules = &work.rules;
        let mut written = 0;
        let walked = self.walk(source, (work.at, bite), |cleaning, bytes, header| {
            let kept = filter::filter(
                bytes,
                header,
                &cleaning.map,
                &mut cleaning.transactions,
                rules,
            );
            written += match kept.map_err(|why| cleaning.damaged(header, &why))? {
                Kept::Whole => output.add(bytes)?,
                Kept::Part(bytes) => output.add(&bytes)?,
                Kept::Nothing => {
                    output.pass(header);
                    0
                }
            };
            Ok(true)
        });
        work.output = Some(output);
        let walked = match walked {
            Ok(walked) => walked,
            Err(stopped) => {
                self.stage = Stage::Rewriting(work);
                return Err(stopped);
            }
        };
        let until = walked.unwrap_or(source.size);
        let read = until.saturating_sub(work.at);
        self.stats.read_bytes += read;
        self.release(source, work.at, walked);
        match walked {
            Some(at) => work.at = at,
            None => {
                work.at = 0;
                work.replaced.push(source.base);
                group.pop_front();
            }
        }
        self.stage = Stage::Rewriting(work);
        Ok(Step::Moved(read + written))
    }

    /// What was rewritten will not be read again: it leaves the page cache bit by bit. Removing the
    /// file would take it out at once, which for a hundred megabytes holds up a core for some ten
    /// milliseconds. What is not on the disk yet need not go there.
    fn release(&self, source: Source, from: u64, until: Option<u64>) {
        let from = from - from % RELEASE_BYTES;
        let until = until.map_or(source.size, |until| until - until % RELEASE_BYTES);
        if until > from
            && !self.log.state().unsynced_closed.contains(&source.base)
            && let Ok(file) = self.log.open(source.base, FileKind::Log)
        {
            // A hint: that it was not taken costs nothing but cache.
            let _ = file.release_cache(from, until - from);
        }
    }

    fn finish_group(&mut self, mut work: Box<Rewriting>) -> Result<Step, Stopped> {
        let bases = std::mem::take(&mut work.replaced);
        work.groups.pop_front();
        let output = work.output.take();
        self.stage = Stage::Rewriting(work);
        let Some(output) = output else {
            return Ok(Step::Moved(0));
        };
        let base = output.segment.base;
        let segment = match output.finish() {
            Ok(segment) => segment,
            Err(error) => {
                let disk = self.log.shared.host.disk.as_ref();
                let _ = remove_cleaned(disk, &self.log.path(), base);
                return Err(error.into());
            }
        };
        self.stats.left_bytes += segment.size;
        Ok(Step::Replace(Box::new(segment), bases))
    }
}

/// Segments that become one: as many as fit by size, by their indexes and by their offsets (Kafka
/// method `Cleaner.groupSegmentsBySize`).
fn group(sources: &[Source], largest: u64, largest_index: u64) -> VecDeque<VecDeque<Source>> {
    let mut groups: VecDeque<VecDeque<Source>> = VecDeque::new();
    let (mut size, mut index) = (0, (0, 0));
    for source in sources {
        let (offsets, times) = source.index_bytes;
        let fits = groups
            .back()
            .and_then(VecDeque::front)
            .is_some_and(|first| {
                size + source.size <= largest
                    && index.0 + offsets <= largest_index
                    && index.1 + times <= largest_index
                    && index::relative(first.base, source.next).is_some()
            });
        if fits && let Some(last) = groups.back_mut() {
            last.push_back(*source);
            size += source.size;
            index = (index.0 + offsets, index.1 + times);
        } else {
            groups.push_back(VecDeque::from([*source]));
            (size, index) = (source.size, (offsets, times));
        }
    }
    groups
}
