//! What an interrupted compaction left: a segment that ends in `.swap` had been decided on and
//! takes its place; one that ends in `.cleaned` had not, and goes (Kafka class `LogLoader`).

use std::collections::BTreeSet;
use std::path::Path;

use millrace_host::Disk;
use millrace_host::disk::OpenMode;
use millrace_model::Offset;

use crate::error::{StorageError, While};
use crate::names::{self, FileKind};
use crate::scan::{Scanner, Step};
use crate::writer::remove_file;

const SWAP: &str = ".swap";
const CLEANED: &str = ".cleaned";

/// Brings the files of a partition to one valid view; `names` are those in its directory.
pub(super) fn complete(
    disk: &dyn Disk,
    directory: &Path,
    names: &mut BTreeSet<String>,
) -> Result<(), StorageError> {
    let is_left = |name: &String| {
        let ends = [".deleted", CLEANED, ".tmp"];
        ends.iter().any(|suffix| name.ends_with(suffix))
    };
    // Swaps beside segments that are not finished are half of a split, which did not happen.
    let unfinished = names.iter().filter_map(|name| base_of(name, CLEANED)).min();
    let left: Vec<String> = names.iter().filter(|name| is_left(name)).cloned().collect();
    for name in left {
        remove(disk, directory, names, &name)?;
    }
    let swaps: BTreeSet<Offset> = names
        .iter()
        .filter_map(|name| base_of(name, SWAP))
        .collect();
    let mut completed = false;
    for base in swaps {
        let log = format!("{}{SWAP}", names::file(base, FileKind::Log));
        let void = unfinished.is_some_and(|unfinished| base >= unfinished);
        if names.contains(&log) && !void {
            take_place(disk, directory, names, base)?;
            completed = true;
        }
        // Without its log an index is of no use: it is made anew.
        for kind in FileKind::ALL {
            let name = format!("{}{SWAP}", names::file(base, kind));
            if names.contains(&name) {
                remove(disk, directory, names, &name)?;
            }
        }
    }
    if completed {
        let synced = disk.open_directory(directory).and_then(|d| d.sync());
        synced.doing("syncing", directory)?;
    }
    Ok(())
}

fn base_of(name: &str, suffix: &str) -> Option<Offset> {
    let (base, _) = names::parse_file(name.strip_suffix(suffix)?)?;
    Some(base)
}

fn remove(
    disk: &dyn Disk,
    directory: &Path,
    names: &mut BTreeSet<String>,
    name: &str,
) -> Result<(), StorageError> {
    names.remove(name);
    remove_file(disk, &directory.join(name))
}

/// Removes the segments that a swap was made of and gives it its name.
fn take_place(
    disk: &dyn Disk,
    directory: &Path,
    names: &mut BTreeSet<String>,
    base: Offset,
) -> Result<(), StorageError> {
    let end = end_of(disk, directory, base)?;
    let replaced: Vec<(Offset, FileKind)> = names
        .iter()
        .filter_map(|name| names::parse_file(name))
        .filter(|(old, kind)| {
            (base..end).contains(old) && (*old > base || *kind != FileKind::Snapshot)
        })
        .collect();
    tracing::info!(directory = %directory.display(), %base, %end, "completing a compaction");
    for (old, kind) in replaced {
        remove(disk, directory, names, &names::file(old, kind))?;
    }
    for kind in [
        FileKind::Log,
        FileKind::Index,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
    ] {
        let name = names::file(base, kind);
        let swap = format!("{name}{SWAP}");
        if names.remove(&swap) {
            let from = directory.join(&swap);
            disk.rename(&from, &directory.join(&name))
                .doing("renaming", &from)?;
            names.insert(name);
        }
    }
    Ok(())
}

/// The offset that follows the last batch of a swap.
fn end_of(disk: &dyn Disk, directory: &Path, base: Offset) -> Result<Offset, StorageError> {
    let path = directory.join(format!("{}{SWAP}", names::file(base, FileKind::Log)));
    let file = disk.open(&path, OpenMode::Read).doing("opening", &path)?;
    let len = file.len().doing("reading", &path)?;
    let mut scanner = Scanner::heads(file.as_ref(), 0, len);
    let mut end = base.next();
    loop {
        match scanner.next_head().doing("reading", &path)? {
            Step::Batch(_, header) => end = header.next_offset(),
            Step::End => return Ok(end),
            Step::Torn(why) => return Err(StorageError::corrupt(&path, why)),
        }
    }
}
