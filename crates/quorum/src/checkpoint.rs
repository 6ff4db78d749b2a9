//! Checkpoints: the image as of one entry of the log, each in a file of its own.
//!
//! A file is `magic u32, length u32, crc32c u32`, then `millrace.raft.CheckpointHeader` of that
//! length, which tells length and checksum of the image that follows. The newest two are kept: if
//! the newest cannot be read, the other one and the log make the same image.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use millrace_host::{Disk, disk};
use millrace_rpc::proto::raft;
use prost::Message;

use crate::types::SnapshotMeta;
use crate::wire;

const MAGIC: u32 = 0x4d52_4350;
const SUFFIX: &str = ".checkpoint";
const KEPT: usize = 2;

/// Largest checkpoint that is read.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// A checkpoint that was read and found whole.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) meta: SnapshotMeta,
    pub(crate) image: Bytes,
}

fn path(directory: &Path, meta: &SnapshotMeta) -> PathBuf {
    let (term, index) = meta
        .last_log_id
        .map_or((0, 0), |last| (last.leader_id.term, last.index));
    directory.join(format!("{index:020}-{term:010}{SUFFIX}"))
}

fn names(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<String>> {
    let entries = disk.list(directory)?.into_iter().map(|entry| entry.name);
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(SUFFIX)).collect();
    names.sort();
    Ok(names)
}

/// Writes a checkpoint and removes all but the newest two.
pub(crate) fn save(disk: &dyn Disk, directory: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let header = raft::CheckpointHeader {
        meta: Some(wire::encode_meta(&checkpoint.meta)),
        length: checkpoint.image.len() as u64,
        checksum: crc32c::crc32c(&checkpoint.image),
    }
    .encode_to_vec();
    let mut content = BytesMut::with_capacity(12 + header.len() + checkpoint.image.len());
    content.put_u32(MAGIC);
    content.put_u32(u32::try_from(header.len()).map_err(io::Error::other)?);
    content.put_u32(crc32c::crc32c(&header));
    content.put_slice(&header);
    content.put_slice(&checkpoint.image);
    disk::replace_file(disk, &path(directory, &checkpoint.meta), content.freeze())?;
    let names = names(disk, directory)?;
    for name in names.iter().rev().skip(KEPT) {
        disk.remove_file(&directory.join(name))?;
    }
    Ok(())
}

/// The newest checkpoint that can be read; damaged ones are reported and passed over. The caller
/// finds out whether the log reaches back to what this one holds.
pub(crate) fn newest(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Checkpoint>> {
    for name in names(disk, directory)?.iter().rev() {
        let path = directory.join(name);
        match read(disk, &path) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, path = %path.display(), "a metadata checkpoint is damaged");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Checkpoint> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let content = Bytes::from(disk::read_file(disk, path, MAX_BYTES)?);
    let number = |at: usize| {
        let bytes = content
            .get(at..at + 4)
            .ok_or_else(|| damaged("it is too short"))?;
        Ok::<u32, io::Error>(u32::from_be_bytes(
            bytes.try_into().map_err(io::Error::other)?,
        ))
    };
    if number(0)? != MAGIC {
        return Err(damaged("it does not begin as a checkpoint does"));
    }
    let end = 12usize.saturating_add(number(4)? as usize);
    let header = content
        .get(12..end)
        .ok_or_else(|| damaged("its header is cut off"))?;
    if crc32c::crc32c(header) != number(8)? {
        return Err(damaged("the checksum of its header does not match"));
    }
    let header = raft::CheckpointHeader::decode(header).map_err(|e| damaged(&e.to_string()))?;
    let image = content.slice(end..);
    if image.len() as u64 != header.length || crc32c::crc32c(&image) != header.checksum {
        return Err(damaged("the checksum of its image does not match"));
    }
    let meta = header
        .meta
        .as_ref()
        .ok_or_else(|| damaged("it names no entry"))?;
    let meta = wire::decode_meta(meta)?;
    Ok(Checkpoint { meta, image })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;
    use millrace_host::disk::{OpenMode, RealDisk};

    fn checkpoint(index: u64) -> Checkpoint {
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(1, index)),
            ..SnapshotMeta::default()
        };
        Checkpoint {
            meta,
            image: Bytes::from(format!("image {index}")),
        }
    }

    #[test]
    fn two_are_kept_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for index in [5, 10, 15] {
            save(&RealDisk, dir.path(), &checkpoint(index)).unwrap();
        }
        assert_eq!(names(&RealDisk, dir.path()).unwrap().len(), 2);
        let found = newest(&RealDisk, dir.path()).unwrap().unwrap();
        assert_eq!(found.meta, checkpoint(15).meta);
        let damaged = path(dir.path(), &checkpoint(15).meta);
        let file = RealDisk.open(&damaged, OpenMode::ReadWrite).unwrap();
        let end = file.len().unwrap();
        file.write_at(&[Bytes::from_static(b"x")], end - 1).unwrap();
        let found = newest(&RealDisk, dir.path()).unwrap().unwrap();
        assert_eq!(found.image, checkpoint(10).image);
        file.set_len(7).unwrap();
        assert_eq!(
            newest(&RealDisk, dir.path()).unwrap().unwrap().meta,
            checkpoint(10).meta
        );
    }
}
