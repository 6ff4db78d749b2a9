//! Opening the directory of one partition, after a clean stop or a crash (Kafka class `LogLoader`).
//!
//! After a clean stop the files are taken as they are. Otherwise every segment from the one that
//! holds the recovery point on is gone through with checksums; the log ends where they stop to fit,
//! and what lies behind is cut off. Damage before the recovery point is another matter: that was
//! durable. A batch with a wrong checksum is noted as damaged, so that nobody is given it and other
//! replicas can mend it; where more is missing, the log is not opened, and nothing of it is touched.

mod swaps;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millrace_host::disk::{self, OpenMode};
use millrace_host::{Disk, Random};
use millrace_model::{Offset, Timestamp};

use crate::batch;
use crate::checkpoint;
use crate::damage::Damages;
use crate::epochs::Epochs;
use crate::error::{StorageError, While};
use crate::index::{self, ALL_IN_FILE};
use crate::log::{State, jitter};
use crate::names::{self, FileKind, LEADER_EPOCHS};
use crate::producers::{self, Producers};
use crate::scan::{Scanner, Step};
use crate::segment::{self, Rebuilt, Segment};
use crate::settings::LogSettings;
use crate::store::progress::Progress;
use crate::writer::{remove_file, write_index_files};

/// Largest file of leader epochs that is read: some 3,000,000 leaderships.
const MAX_EPOCHS_BYTES: u64 = 64 << 20;

/// Progress is told of each time so many bytes were gone through.
const PROGRESS_BYTES: u64 = 4 << 20;

/// What is known of a log before its directory is opened.
pub(crate) struct Known {
    /// The store was closed in order.
    pub(crate) clean: bool,
    /// What files show may be in the cache alone.
    pub(crate) suspect: bool,
    pub(crate) recovery_point: Offset,
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) settings: Arc<LogSettings>,
    pub(crate) now: Timestamp,
    pub(crate) random: Random,
    /// Told of what was gone through.
    pub(crate) progress: Arc<Progress>,
}

/// A log that was opened.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// Segments that were gone through.
    pub(crate) scanned: usize,
    /// Bytes that were cut off.
    pub(crate) cut_bytes: u64,
}

/// One opening.
struct Recovery<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    known: &'a Known,
    names: BTreeSet<String>,
    segments: Vec<Segment>,
    end: Offset,
    epochs: Epochs,
    scanned: Vec<Offset>,
    sparse: bool,
    cut_bytes: u64,
    damages: Damages,
}

/// Opens a partition's directory.
pub(crate) fn open(
    disk: &dyn Disk,
    directory: &Path,
    known: &Known,
) -> Result<Recovered, StorageError> {
    let mut recovery = Recovery {
        disk,
        directory,
        known,
        names: BTreeSet::new(),
        segments: Vec::new(),
        end: known.log_start,
        epochs: Epochs::default(),
        scanned: Vec::new(),
        sparse: false,
        cut_bytes: 0,
        damages: Damages::default(),
    };
    recovery.list()?;
    let bases = recovery.bases();
    recovery.read_epochs(!bases.is_empty())?;
    recovery.open_segments(&bases)?;
    recovery.finish()
}

impl Recovery<'_> {
    /// Reads the directory and removes what a crash or compaction left over.
    fn list(&mut self) -> Result<(), StorageError> {
        for entry in self
            .disk
            .list(self.directory)
            .doing("listing", self.directory)?
        {
            let name = entry.name;
            self.names.insert(name);
        }
        swaps::complete(self.disk, self.directory, &mut self.names)?;
        let files: Vec<(Offset, FileKind)> = self
            .names
            .iter()
            .filter_map(|name| names::parse_file(name))
            .collect();
        for (base, kind) in files {
            let of_segment = !matches!(kind, FileKind::Log | FileKind::Snapshot);
            if of_segment && !self.has(base, FileKind::Log) {
                self.remove(base, kind)?;
            }
        }
        Ok(())
    }

    fn has(&self, base: Offset, kind: FileKind) -> bool {
        self.names.contains(&names::file(base, kind))
    }

    fn remove(&mut self, base: Offset, kind: FileKind) -> Result<(), StorageError> {
        let name = names::file(base, kind);
        if self.names.remove(&name) {
            remove_file(self.disk, &self.directory.join(name))?;
        }
        Ok(())
    }

    fn bases(&self) -> Vec<Offset> {
        let files = self.names.iter().filter_map(|name| names::parse_file(name));
        files
            .filter(|(_, kind)| *kind == FileKind::Log)
            .map(|(base, _)| base)
            .collect()
    }

    fn next_base(&self, base: Offset) -> Option<Offset> {
        // Names are in the order of their offsets.
        let behind = self.names.range(names::file(base, FileKind::Log)..).skip(1);
        let mut files = behind.filter_map(|name| names::parse_file(name));
        files
            .find(|(_, kind)| *kind == FileKind::Log)
            .map(|(next, _)| next)
    }

    fn read_epochs(&mut self, any_segment: bool) -> Result<(), StorageError> {
        let path = self.directory.join(LEADER_EPOCHS);
        let text = match checkpoint::read_text(self.disk, &path, MAX_EPOCHS_BYTES) {
            // No text at all: that is what decoding would say.
            Err(StorageError::Corrupt { .. }) => Some(String::new()),
            text => text?,
        };
        match text.as_deref().map(checkpoint::decode_epochs) {
            Some(Ok(entries)) => self.epochs = Epochs::from_file(entries),
            None if !any_segment => {}
            other => {
                // It can be told from the batches; only those of whole segments are looked at.
                if let Some(Err(why)) = other {
                    tracing::warn!(path = %path.display(), why, "rebuilding leader epochs");
                }
                for base in self.bases() {
                    self.note_epochs(base)?;
                }
                self.epochs.changed = true;
            }
        }
        Ok(())
    }

    fn note_epochs(&mut self, base: Offset) -> Result<(), StorageError> {
        let path = self.directory.join(names::file(base, FileKind::Log));
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .doing("opening", &path)?;
        let end = file.len().doing("reading", &path)?;
        let mut scanner = Scanner::heads(file.as_ref(), 0, end);
        while let Step::Batch(_, header) = scanner.next_head().doing("reading", &path)? {
            self.epochs.assign(header.leader_epoch, header.base_offset);
        }
        Ok(())
    }

    fn open_segments(&mut self, bases: &[Offset]) -> Result<(), StorageError> {
        let point = self.known.recovery_point;
        let first_scanned = match self.known.clean {
            true => bases.len(),
            false => bases
                .partition_point(|base| *base <= point)
                .saturating_sub(1),
        };
        self.end = bases.first().copied().unwrap_or(self.known.log_start);
        for (place, base) in bases.iter().enumerate() {
            let is_last = place + 1 == bases.len();
            let whole = if place < first_scanned {
                self.trust(*base, is_last)?;
                true
            } else {
                self.scan(*base, place > first_scanned)?
            };
            if !whole {
                self.drop_from(&bases[place + 1..])?;
                break;
            }
        }
        if self.end < point {
            let why = format!("it ends at {}, but was durable up to {point}", self.end);
            return Err(StorageError::corrupt(self.directory, why));
        }
        Ok(())
    }

    fn size(&self, base: Offset) -> Result<u64, StorageError> {
        let path = self.directory.join(names::file(base, FileKind::Log));
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .doing("opening", &path)?;
        if self.known.suspect {
            file.sync_data()
                .and_then(|()| file.forget_cache())
                .doing("syncing", &path)?;
        }
        file.len().doing("reading", &path)
    }

    /// Takes a segment as it is, unless an index is missing or contradicts it.
    fn trust(&mut self, base: Offset, is_last: bool) -> Result<(), StorageError> {
        let size = self.size(base)?;
        let complete = self.has(base, FileKind::Index) && self.has(base, FileKind::TimeIndex);
        if size > 0 && !complete {
            return self.rebuild_trusted(base, size);
        }
        let mut segment = Segment::new(base, self.known.now, 0);
        if is_last {
            let jitter_ms = jitter(&self.known.random, &self.known.settings);
            let (disk, now) = (self.disk, self.known.now);
            let loaded = segment::load_active(disk, self.directory, base, size, now, jitter_ms)?;
            if loaded.torn.is_some() {
                return self.rebuild_trusted(base, size);
            }
            segment = loaded.segment;
            self.end = self.end.max(loaded.end);
        } else {
            (segment.size, segment.written) = (size, size);
            segment.index.written_offsets = ALL_IN_FILE;
            segment.index.written_times = ALL_IN_FILE;
            segment.max_timestamp = None;
        }
        self.segments.push(segment);
        Ok(())
    }

    fn rebuild_trusted(&mut self, base: Offset, size: u64) -> Result<(), StorageError> {
        tracing::warn!(directory = %self.directory.display(), %base, "rebuilding an index");
        let rebuilt = self.rebuild(base, size, Offset(i64::MAX))?;
        if let Some((bytes, why)) = rebuilt.torn {
            let why = format!("{why}, {bytes} bytes before the end of segment {base}");
            return Err(StorageError::corrupt(self.directory, why));
        }
        self.keep(rebuilt)
    }

    /// Goes through a segment. What lies before `durable` was synced once: a batch there whose
    /// checksum is wrong is damaged, and what follows it is not lost with it.
    fn rebuild(
        &mut self,
        base: Offset,
        size: u64,
        durable: Offset,
    ) -> Result<Rebuilt, StorageError> {
        let path = self.directory.join(names::file(base, FileKind::Log));
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .doing("opening", &path)?;
        let below = self.next_base(base);
        let (epochs, known) = (&mut self.epochs, self.known);
        let how = segment::Rebuilding {
            base,
            size,
            interval_bytes: known.settings.index_interval_bytes,
            now: known.now,
            durable,
            below,
            committed: known.high_watermark,
        };
        let mut unsaid = 0;
        let rebuilt = segment::rebuild(file.as_ref(), &how, |header| {
            epochs.assign(header.leader_epoch, header.base_offset);
            unsaid += header.size as u64;
            if unsaid >= PROGRESS_BYTES {
                known.progress.read(std::mem::take(&mut unsaid));
            }
        });
        known.progress.read(unsaid);
        rebuilt.doing("reading", &path)
    }

    fn keep(&mut self, rebuilt: Rebuilt) -> Result<(), StorageError> {
        let mut segment = rebuilt.segment;
        let path = self.directory.display();
        for run in &rebuilt.damaged {
            tracing::error!(directory = %path, from = %run.from, to = %run.to, "a batch is damaged");
        }
        self.damages.set(segment.base, rebuilt.damaged);
        write_index_files(self.disk, self.directory, segment.base, &segment.index)?;
        let (offsets, times) = (segment.index.offsets.len(), segment.index.times.len());
        segment.index.take_written(offsets, times);
        segment.jitter_ms = jitter(&self.known.random, &self.known.settings);
        self.scanned.push(segment.base);
        self.end = self.end.max(rebuilt.end);
        self.segments.push(segment);
        Ok(())
    }

    /// Goes through a segment that may not be whole. False if the log ends with it or before it.
    fn scan(&mut self, base: Offset, follows_scanned: bool) -> Result<bool, StorageError> {
        if follows_scanned && base != self.end && !self.sparse {
            let why = "the end of the segment before it is lost";
            tracing::warn!(directory = %self.directory.display(), %base, why, "cutting the log");
            self.drop_from(&[base])?;
            return Ok(false);
        }
        let size = self.size(base)?;
        let rebuilt = self.rebuild(base, size, self.known.recovery_point)?;
        self.sparse |= rebuilt.sparse;
        let Some((bytes, why)) = rebuilt.torn.clone() else {
            self.keep(rebuilt)?;
            return Ok(true);
        };
        if rebuilt.end < self.known.recovery_point {
            let why = format!(
                "{why} at offset {}, but everything up to {} was durable",
                rebuilt.end, self.known.recovery_point
            );
            return Err(StorageError::corrupt(self.directory, why));
        }
        let path = self.directory.join(names::file(base, FileKind::Log));
        tracing::warn!(path = %path.display(), bytes, why, "cutting a torn end");
        let file = self
            .disk
            .open(&path, OpenMode::ReadWrite)
            .doing("opening", &path)?;
        file.set_len(rebuilt.segment.size).doing("cutting", &path)?;
        self.cut_bytes += bytes;
        self.keep(rebuilt)?;
        Ok(false)
    }

    /// Removes segments that come after the end, the newest first.
    fn drop_from(&mut self, bases: &[Offset]) -> Result<(), StorageError> {
        for base in bases.iter().rev() {
            self.cut_bytes += self.size(*base)?;
            for kind in FileKind::ALL {
                self.remove(*base, kind)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Recovered, StorageError> {
        let known = self.known;
        let jitter_ms = jitter(&known.random, &known.settings);
        if self.end < known.log_start || self.segments.is_empty() {
            // Everything that is left lies before the log start, or there is nothing.
            let bases: Vec<Offset> = self.segments.iter().map(|segment| segment.base).collect();
            self.drop_from(&bases)?;
            self.segments = vec![Segment::new(known.log_start, known.now, jitter_ms)];
            self.end = known.log_start;
            self.epochs.clear();
        }
        let snapshots: Vec<Offset> = self
            .names
            .iter()
            .filter_map(|name| names::parse_file(name))
            .filter(|(offset, kind)| *kind == FileKind::Snapshot && *offset > self.end)
            .map(|(offset, _)| offset)
            .collect();
        for offset in snapshots {
            self.remove(offset, FileKind::Snapshot)?;
        }
        let log_start = self.segments[0].base.max(known.log_start);
        self.epochs.truncate_from_end(self.end);
        self.epochs.truncate_from_start(log_start);
        let sizes: Vec<(Offset, u64)> = self
            .segments
            .iter()
            .map(|segment| (segment.base, segment.size))
            .collect();
        let (producers, snapshot_end) =
            load_producers(self.disk, self.directory, &sizes, log_start, self.end)?;
        let active = self.segments.last().map_or(self.end, |active| active.base);
        let (settings, random) = (known.settings.clone(), known.random.clone());
        let mut state = State::new(settings, self.segments, log_start, self.end, random);
        state.high_watermark = known.high_watermark.max(log_start).min(self.end);
        state.committed_beyond = (known.high_watermark > self.end).then_some(known.high_watermark);
        state.epochs = self.epochs;
        state.producers = producers;
        state.snapshot_end = snapshot_end;
        state.damages = self.damages;
        state.damages.forget_before(log_start);
        let scanned = self.scanned.len();
        state.unsynced_closed = self.scanned;
        state.unsynced_closed.retain(|base| *base != active);
        Ok(Recovered {
            state,
            scanned,
            cut_bytes: self.cut_bytes,
        })
    }
}

/// Bytes of a partition's segments that must be gone through after a crash: those from the one on
/// that holds the recovery point.
pub(crate) fn unflushed_bytes(
    disk: &dyn Disk,
    directory: &Path,
    point: Offset,
) -> Result<u64, StorageError> {
    let entries = disk.list(directory).doing("listing", directory)?;
    let files = entries.iter().filter_map(|e| names::parse_file(&e.name));
    let logs = files.filter(|(_, kind)| *kind == FileKind::Log);
    let bases: Vec<Offset> = logs.map(|(base, _)| base).collect();
    let first = bases.partition_point(|base| *base <= point);
    let mut bytes = 0;
    for base in &bases[first.saturating_sub(1)..] {
        let file = segment::open(disk, directory, *base, FileKind::Log, OpenMode::Read)?;
        bytes += file.len().doing("reading", directory)?;
    }
    Ok(bytes)
}

/// The producers of a log as of `end`: those of the newest usable snapshot, brought up to date by
/// the batches that follow it. Also gives the snapshot's offset, -1 if there was none. `segments`
/// are bases and sizes.
pub(crate) fn load_producers(
    disk: &dyn Disk,
    directory: &Path,
    segments: &[(Offset, u64)],
    log_start: Offset,
    end: Offset,
) -> Result<(Producers, Offset), StorageError> {
    let first = segments.first().map_or(log_start, |(first, _)| *first);
    let (mut producers, snapshot) = newest_snapshot(disk, directory, first, end)?;
    let from = snapshot.unwrap_or(log_start);
    for (place, (base, size)) in segments.iter().enumerate() {
        let next = segments.get(place + 1).map_or(end, |(next, _)| *next);
        if next > from && *size > 0 {
            note_producers(disk, directory, *base, *size, from, &mut producers)?;
        }
    }
    Ok((producers, snapshot.unwrap_or(Offset(-1))))
}

/// The newest snapshot from `first` to `end` that can be read; those that cannot are removed. One
/// before `first` is of no use: what came between is gone.
fn newest_snapshot(
    disk: &dyn Disk,
    directory: &Path,
    first: Offset,
    end: Offset,
) -> Result<(Producers, Option<Offset>), StorageError> {
    let entries = disk.list(directory).doing("listing", directory)?;
    let snapshots = entries
        .iter()
        .rev()
        .filter_map(|entry| names::parse_file(&entry.name));
    for (offset, kind) in snapshots {
        if kind != FileKind::Snapshot || offset > end {
            continue;
        }
        let path = directory.join(names::file(offset, kind));
        if offset < first {
            remove_file(disk, &path)?;
            continue;
        }
        let content = disk::read_file(disk, &path, producers::MAX_SNAPSHOT_BYTES);
        match producers::decode(&content.doing("reading", &path)?) {
            Ok(producers) => return Ok((producers, Some(offset))),
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "removing a damaged snapshot");
                remove_file(disk, &path)?;
            }
        }
    }
    Ok((Producers::default(), None))
}

/// Notes the producers of a segment's batches from the one that holds `from` on. A log may begin
/// within a batch, and whoever wrote that is still known.
fn note_producers(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
    size: u64,
    from: Offset,
    producers: &mut Producers,
) -> Result<(), StorageError> {
    let path = directory.join(names::file(base, FileKind::Log));
    let file = disk.open(&path, OpenMode::Read).doing("opening", &path)?;
    let mut start = 0;
    if let Some(offset) = index::relative(base, from)
        && let Some(file) = segment::open_if_any(disk, directory, base, FileKind::Index)?
    {
        let found = file.len().and_then(|len| {
            index::offset_floor(file.as_ref(), len / index::OFFSET_ENTRY_BYTES, offset)
        });
        start = found
            .doing("searching", &path)?
            .map_or(0, |(_, entry)| entry.position.into());
    }
    // An index that is damaged must not hide a batch.
    let found = segment::seek_from_index(file.as_ref(), start, size, from);
    let Some((start, _)) = found.doing("searching", &path)? else {
        return Ok(());
    };
    let mut scanner = Scanner::heads(file.as_ref(), start, size);
    while let Step::Batch(position, header) = scanner.next_head().doing("reading", &path)? {
        if header.next_offset() <= from || !header.has_producer_id() {
            continue;
        }
        let mut marker = None;
        if header.is_control() {
            let bytes = scanner.batch(position, &header).doing("reading", &path)?;
            marker = batch::control_marker(bytes);
        }
        producers.note(&header, marker);
    }
    Ok(())
}
