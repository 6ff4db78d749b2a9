//! Index entries on their way from memory into the files.

use std::path::Path;

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_model::Offset;

use super::Writer;
use crate::error::{StorageError, While};
use crate::index::{self, ALL_IN_FILE, OFFSET_ENTRY_BYTES, SegmentIndex, TIME_ENTRY_BYTES};
use crate::log::Log;
use crate::names::{self, FileKind};
use crate::segment;

impl Writer {
    /// Writes a segment's waiting index entries; the files exist afterwards even if empty.
    pub(super) fn write_index(&self, log: &Log, base: Offset) -> Result<(), StorageError> {
        let index = {
            let mut state = log.state();
            match state.segment_mut(base) {
                // The log start moved beyond it, or a truncation removed it.
                None => return Ok(()),
                Some(segment) if segment.index.written_offsets == ALL_IN_FILE => return Ok(()),
                Some(segment) => segment.index.clone(),
            }
        };
        write_files(self.shared.host.disk.as_ref(), &log.path(), base, &index)?;
        let mut state = log.state();
        if let Some(segment) = state.segment_mut(base) {
            segment
                .index
                .take_written(index.offsets.len(), index.times.len());
        }
        Ok(())
    }
}

impl SegmentIndex {
    /// Notes that the oldest waiting entries are in the files now.
    pub(crate) fn take_written(&mut self, offsets: usize, times: usize) {
        self.offsets.drain(..offsets);
        self.times.drain(..times);
        self.offsets.shrink_to_fit();
        self.times.shrink_to_fit();
        self.written_offsets += offsets as u64;
        self.written_times += times as u64;
    }
}

/// Puts waiting entries behind the ones in the files, and cuts off what else the files hold.
pub(crate) fn write_files(
    disk: &dyn millrace_host::Disk,
    directory: &Path,
    base: Offset,
    index: &SegmentIndex,
) -> Result<(), StorageError> {
    let write = |kind: FileKind, at: u64, entries: Bytes| -> Result<(), StorageError> {
        let path = directory.join(names::file(base, kind));
        let file = segment::open(disk, directory, base, kind, OpenMode::Create)?;
        if at == 0 {
            file.set_len(0).doing("emptying", &path)?;
        }
        if !entries.is_empty() {
            file.write_at(&[entries], at).doing("writing", &path)?;
        }
        Ok(())
    };
    let at = index.written_offsets * OFFSET_ENTRY_BYTES;
    write(FileKind::Index, at, index::encode_offsets(&index.offsets))?;
    let at = index.written_times * TIME_ENTRY_BYTES;
    write(FileKind::TimeIndex, at, index::encode_times(&index.times))
}
