//! The segment that takes the place of those that are compacted, while it is written: its files end
//! in `.cleaned` and mean nothing to anybody until they are given their names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millrace_host::disk::OpenMode;
use millrace_host::{Disk, DiskFile};
use millrace_model::{Offset, Timestamp};

use crate::batch::{self, Header};
use crate::error::{StorageError, While};
use crate::index;
use crate::log::Log;
use crate::names::{self, FileKind};
use crate::segment::Segment;
use crate::writer::remove_file;

/// Bytes gathered before they are written: few, for nobody else gets at the processor meanwhile.
const WRITE_BYTES: usize = 128 << 10;

/// Bytes written before they are synced, so that no sync at the end holds up the disk.
const SYNC_BYTES: u64 = 16 << 20;

/// The kinds of files a compacted segment has.
pub(crate) const CLEANED_KINDS: [FileKind; 3] =
    [FileKind::Index, FileKind::TimeIndex, FileKind::Log];

/// A segment being written.
pub(crate) struct Output {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    file: Arc<dyn DiskFile>,
    interval_bytes: u64,
    pub(crate) segment: Segment,
    buffer: BytesMut,
    unsynced: u64,
    /// The offset that follows what is in it.
    end: Offset,
    /// The last batch of which nothing was kept.
    dropped: Option<Header>,
}

/// Where a file of a compacted segment is before it has its name.
pub(crate) fn cleaned_path(directory: &Path, base: Offset, kind: FileKind) -> PathBuf {
    directory.join(format!("{}.cleaned", names::file(base, kind)))
}

/// Removes what an attempt left.
pub(crate) fn remove_cleaned(
    disk: &dyn Disk,
    directory: &Path,
    base: Offset,
) -> Result<(), StorageError> {
    for kind in CLEANED_KINDS {
        remove_file(disk, &cleaned_path(directory, base, kind))?;
    }
    Ok(())
}

impl Output {
    /// An empty segment.
    pub(crate) fn create(log: &Log, base: Offset, now: Timestamp) -> Result<Output, StorageError> {
        let (disk, directory) = (log.shared.host.disk.clone(), log.path());
        let path = cleaned_path(&directory, base, FileKind::Log);
        let file = disk.open(&path, OpenMode::Create).doing("making", &path)?;
        file.set_len(0).doing("emptying", &path)?;
        Ok(Output {
            disk,
            directory,
            file,
            interval_bytes: log.settings().index_interval_bytes,
            segment: Segment::new(base, now, 0),
            buffer: BytesMut::new(),
            unsynced: 0,
            end: base,
            dropped: None,
        })
    }

    /// Adds a whole batch; returns how many bytes were written by that.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<u64, StorageError> {
        let header = batch::parse(bytes).map_err(|why| {
            StorageError::corrupt(&self.directory, format!("a compacted batch: {why}"))
        })?;
        let position = self.segment.size;
        if position + bytes.len() as u64 > i32::MAX as u64 {
            let why = "a compacted segment grows beyond two gigabytes";
            return Err(StorageError::corrupt(&self.directory, why));
        }
        self.segment.add(&header, self.interval_bytes);
        self.buffer.extend_from_slice(bytes);
        self.end = header.next_offset();
        self.dropped = None;
        match self.buffer.len() >= WRITE_BYTES {
            true => self.write(),
            false => Ok(0),
        }
    }

    /// Notes a batch of which nothing is kept.
    pub(crate) fn pass(&mut self, header: &Header) {
        self.dropped = Some(*header);
    }

    fn write(&mut self) -> Result<u64, StorageError> {
        let path = cleaned_path(&self.directory, self.segment.base, FileKind::Log);
        let bytes = self.buffer.split().freeze();
        let written = bytes.len() as u64;
        let at = self.segment.size - written;
        self.file.write_at(&[bytes], at).doing("writing", &path)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data().doing("syncing", &path)?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    /// Completes the files and makes them durable. The last batch stays, if only empty: the segment
    /// tells by itself where it ends, so that a gap behind it can only be a loss.
    pub(crate) fn finish(mut self) -> Result<Segment, StorageError> {
        if let Some(header) = self.dropped.take() {
            self.add(&millrace_protocol::batch::emptied(&header))?;
        }
        self.write()?;
        self.segment.add_time();
        self.segment.written = self.segment.size;
        let (base, index) = (self.segment.base, &self.segment.index);
        let offsets = index::encode_offsets(&index.offsets);
        let times = index::encode_times(&index.times);
        for (kind, content) in [(FileKind::Index, offsets), (FileKind::TimeIndex, times)] {
            self.write_index(base, kind, content)?;
        }
        let path = cleaned_path(&self.directory, base, FileKind::Log);
        self.file.sync_data().doing("syncing", &path)?;
        let mut segment = self.segment;
        let (offsets, times) = (segment.index.offsets.len(), segment.index.times.len());
        segment.index.take_written(offsets, times);
        Ok(segment)
    }

    fn write_index(
        &self,
        base: Offset,
        kind: FileKind,
        content: Bytes,
    ) -> Result<(), StorageError> {
        let path = cleaned_path(&self.directory, base, kind);
        let open = || {
            let file = self.disk.open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            if !content.is_empty() {
                file.write_at(&[content], 0)?;
            }
            file.sync_data()
        };
        open().doing("writing", &path)
    }
}
