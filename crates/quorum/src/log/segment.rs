//! A segment of the metadata log: frames one after the other in a file named after its first index.
//!
//! A frame is `magic u32, length u32, index u64, durable u64, crc32c u32, entry`, big-endian; the
//! checksum covers everything else. `durable` is how much of the file was known to survive a power
//! cut when the frame was written. It tells a torn tail from damage: a frame that cannot be read,
//! with a later one that says it had been durable, was lost after it was promised.
//!
//! Behind the last frame stands a mark that says the same of that one. It is written after the
//! frame's sync and not synced itself, and the next frame takes its place: so a process that was
//! killed finds damage even in its last entry, and a power cut that loses the mark leaves what it
//! would without.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_host::disk::{self, OpenMode};
use millrace_host::{Disk, DiskFile};

/// Bytes of a frame before its entry.
pub(super) const HEADER_BYTES: usize = 28;

const MAGIC: u32 = 0x4d52_4d4c;
/// Stands for the index in a mark, which is a frame without an entry.
const MARK: u64 = u64::MAX;

const SUFFIX: &str = ".entries";

/// Largest entry; a batch for ten thousand partitions has a few megabytes.
const MAX_ENTRY_BYTES: usize = 64 * 1024 * 1024;

/// Largest segment file that is read; far above what is written before a new one begins.
const MAX_SEGMENT_BYTES: u64 = 512 * 1024 * 1024;

/// A frame found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) index: u64,
    /// Where the frame begins.
    pub(super) position: u64,
    pub(super) entry: Bytes,
}

/// What a segment file holds.
pub(super) struct Scanned {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) frames: Vec<Frame>,
    /// Where the last whole frame ends; the file may be longer.
    pub(super) end: u64,
    pub(super) torn: bool,
}

pub(super) fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{SUFFIX}"))
}

/// The first index that a file of this name holds.
pub(super) fn first_index(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

pub(super) fn encode(index: u64, durable: u64, entry: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES);
    let length = u32::try_from(entry.len()).expect("a proposal is bounded far below 4 GiB");
    frame.put_u32(MAGIC);
    frame.put_u32(length);
    frame.put_u64(index);
    frame.put_u64(durable);
    frame.put_u32(checksum(&frame, entry));
    frame.freeze()
}

/// What is written behind the last frame once everything before `durable` survives a power cut.
pub(super) fn mark(durable: u64) -> Bytes {
    encode(MARK, durable, &Bytes::new())
}

fn checksum(before: &[u8], entry: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(before), entry)
}

struct Header {
    length: usize,
    index: u64,
    durable: u64,
    checksum: u32,
}

fn decode_header(mut bytes: &[u8]) -> Option<Header> {
    if bytes.len() < HEADER_BYTES || bytes.get_u32() != MAGIC {
        return None;
    }
    let header = Header {
        length: bytes.get_u32() as usize,
        index: bytes.get_u64(),
        durable: bytes.get_u64(),
        checksum: bytes.get_u32(),
    };
    (header.length <= MAX_ENTRY_BYTES).then_some(header)
}

/// The frame at the start of `bytes`, if there is a whole one.
fn decode(bytes: &[u8]) -> Option<Header> {
    let header = decode_header(bytes)?;
    let entry = bytes.get(HEADER_BYTES..HEADER_BYTES + header.length)?;
    (checksum(&bytes[..HEADER_BYTES - 4], entry) == header.checksum).then_some(header)
}

/// Reads one entry whose place is known.
pub(super) fn read(file: &dyn DiskFile, position: u64, length: usize) -> io::Result<Bytes> {
    let mut frame = vec![0; HEADER_BYTES + length];
    let read = file.read_at(&mut frame, position)?;
    let whole = read == frame.len() && decode(&frame).is_some_and(|h| h.length == length);
    if !whole {
        let what = format!("an entry of the metadata log at byte {position} is damaged");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(Bytes::from(frame).slice(HEADER_BYTES..))
}

/// Reads a whole segment. Only the last one of a log may have a torn tail; anything else that is
/// not a frame is damage, and an error.
pub(super) fn scan(disk: &dyn Disk, path: &Path, is_last: bool) -> io::Result<Scanned> {
    let content = Bytes::from(disk::read_file(disk, path, MAX_SEGMENT_BYTES)?);
    let mut frames = Vec::new();
    let mut position = 0;
    let mut mark_bytes = 0;
    while let Some(header) = decode(&content[position..]) {
        if header.index == MARK {
            mark_bytes = HEADER_BYTES;
            break;
        }
        let start = position + HEADER_BYTES;
        frames.push(Frame {
            index: header.index,
            position: position as u64,
            entry: content.slice(start..start + header.length),
        });
        position = start + header.length;
    }
    let torn = position + mark_bytes < content.len();
    if torn && (!is_last || was_durable(&content, position)) {
        let what = format!("{} is damaged at byte {position}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let file = disk.open(path, OpenMode::ReadWrite)?;
    let end = position as u64;
    Ok(Scanned {
        file,
        frames,
        end,
        torn,
    })
}

/// Whether a frame after `position` says that what stood there had been durable.
fn was_durable(content: &[u8], position: usize) -> bool {
    let magic = MAGIC.to_be_bytes();
    (position + 1..content.len())
        .filter(|at| content[*at..].starts_with(&magic))
        .filter_map(|at| decode(&content[at..]))
        .any(|header| header.durable > position as u64)
}
