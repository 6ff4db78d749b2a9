//! What a disk has changed by itself: a batch of a log, and whether it is again as it was.
//!
//! Only what every replica is known to have is changed (`committed`), so that there is somebody to
//! mend it from; and only below the high watermark that the directory remembers durably: a start
//! cannot tell what rotted above that from what was never written.

use std::fmt;
use std::path::{Path, PathBuf};

use millrace_host::Disk;
use millrace_host::disk::read_file;
use millrace_host::disk::sim::SimDisk;
use millrace_protocol::batch;

/// More than a file of the simulation ever has.
const FILE_LIMIT: u64 = 1 << 30;

/// Where all brokers keep their logs.
const DATA: &str = "/data";

/// A batch as it lies in a file.
pub struct Batch {
    /// The file.
    pub path: PathBuf,
    /// Where it begins there.
    pub at: u64,
    /// Its first offset.
    base: i64,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A batch that was changed.
pub struct Rot {
    /// On the disk of this broker.
    pub broker: i32,
    was: Batch,
}

/// Where a batch that rotted lies at this moment: the segments of its log, with their lengths.
pub fn files(disk: &SimDisk, rot: &Rot) -> String {
    let disk = disk.mount();
    let folder = rot.was.path.parent().expect("a segment lies in a folder");
    let entries = disk.list(folder).unwrap_or_default().into_iter();
    let names = entries.map(|entry| entry.name);
    let lengths = names.filter(|name| name.ends_with(".log")).map(|name| {
        let bytes = read_file(&*disk, &folder.join(&name), FILE_LIMIT).unwrap_or_default();
        format!("{name} {}", bytes.len())
    });
    lengths.collect::<Vec<_>>().join(", ")
}

impl Rot {
    /// A batch that is about to be changed.
    pub fn of(broker: i32, was: Batch) -> Rot {
        Rot { broker, was }
    }

    /// Whether the log has the batch again as it was, wherever it lies now.
    pub fn is_mended(&self, disk: &SimDisk) -> bool {
        let folder = self.was.path.parent().expect("a segment lies in a folder");
        let batches = batches(&*disk.mount(), folder);
        batches
            .iter()
            .any(|batch| batch.base == self.was.base && batch.bytes == self.was.bytes)
    }
}

impl fmt::Display for Rot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, base) = (self.was.path.display(), self.was.base);
        write!(
            out,
            "the batch at offset {base} of {path} rotted on broker {}",
            self.broker
        )
    }
}

/// The batches of one partition of the workload that every start knows to have been committed.
pub fn committed(disk: &SimDisk, topic: &str, partition: i32) -> Vec<Batch> {
    let folder = Path::new(DATA).join(format!("{topic}-{partition}"));
    let remembered = disk.worst_case();
    let limit = high_watermark(&*remembered.mount(), topic, partition);
    let mut batches = batches(&*disk.mount(), &folder);
    batches.retain(|batch| {
        let header = batch::BatchHeader::parse(&batch.bytes);
        header.is_ok_and(|header| header.next_offset().get() <= limit)
    });
    batches
}

/// What the directory's checkpoint says.
fn high_watermark(disk: &dyn Disk, topic: &str, partition: i32) -> i64 {
    let path = Path::new(DATA).join("replication-offset-checkpoint");
    let bytes = read_file(disk, &path, FILE_LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mark = format!("{topic} {partition} ");
    let mut lines = text.lines();
    let offset = lines.find_map(|line| line.strip_prefix(&mark));
    offset
        .and_then(|offset| offset.trim().parse().ok())
        .unwrap_or(0)
}

/// All batches of a partition that can be told apart.
fn batches(disk: &dyn Disk, folder: &Path) -> Vec<Batch> {
    let entries = disk.list(folder).unwrap_or_default().into_iter();
    let mut names: Vec<String> = entries.map(|entry| entry.name).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        let path = folder.join(name);
        let bytes = read_file(disk, &path, FILE_LIMIT).unwrap_or_default();
        let mut at = 0;
        for raw in batch::batches(&bytes).map_while(Result::ok) {
            found.push(Batch {
                path: path.clone(),
                at,
                base: raw.base_offset().get(),
                bytes: raw.bytes.to_vec(),
            });
            at += raw.bytes.len() as u64;
        }
    }
    found
}

/// A file of the metadata log of which every byte below the limit was promised to be there.
pub struct Promised {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub limit: u64,
}

/// What the metadata log in this directory has promised to keep, as its files lie there now.
pub fn metadata(disk: &SimDisk) -> Vec<Promised> {
    let folder = Path::new(DATA).join("__millrace_metadata");
    let mounted = disk.mount();
    let entries = mounted.list(&folder).unwrap_or_default().into_iter();
    let mut names: Vec<String> = entries.map(|entry| entry.name).collect();
    names.sort_unstable();
    let promised = names.into_iter().map(|name| {
        let path = folder.join(&name);
        let bytes = read_file(&*mounted, &path, FILE_LIMIT).unwrap_or_default();
        let limit = match name.as_str() {
            "quorum-state" => bytes.len() as u64,
            name if name.ends_with(".entries") => promised_by(&bytes),
            _ => 0,
        };
        Promised { path, limit }
    });
    promised.filter(|promised| promised.limit > 0).collect()
}

/// How much of a segment its frames call durable: magic, length, index, durable, checksum, entry.
fn promised_by(mut frames: &[u8]) -> u64 {
    let mut promised = 0;
    while let Some(header) = frames.first_chunk::<28>() {
        let length = u32::from_be_bytes(header[4..8].try_into().expect("four bytes"));
        let durable = u64::from_be_bytes(header[16..24].try_into().expect("eight bytes"));
        let Some(rest) = frames.get(28 + length as usize..) else {
            break;
        };
        promised = durable.max(promised);
        frames = rest;
    }
    promised
}
