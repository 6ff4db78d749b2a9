//! Room on the file system of a log directory, and the reserve that appends leave alone.
//!
//! What deletes records, compacts them and keeps the metadata needs room itself. So appends stop
//! while there is still some, and go on by themselves when there is enough again.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use millrace_host::disk::Space;

use crate::directory::{Directory, Shared};

/// Without a setting, one part of so many of the file system is kept free.
const AUTOMATIC_SHARE: u64 = 50;

/// Without a setting, no more than this is kept free.
const AUTOMATIC_MOST: u64 = 1 << 30;

/// What must be free for appends.
fn reserve(setting: Option<u64>, total_bytes: u64) -> u64 {
    setting.unwrap_or_else(|| (total_bytes / AUTOMATIC_SHARE).min(AUTOMATIC_MOST))
}

/// Looks how much room there is, and lets appends stop or go on; may wait for the disk.
pub(crate) fn look(shared: &Shared, directory: &Directory) {
    let space = match shared.host.disk.space(&directory.path) {
        Ok(space) => space,
        Err(error) if error.kind() == ErrorKind::Interrupted => return,
        Err(error) => {
            let why = format!("looking for room in {}: {error}", directory.path.display());
            return directory.fail(shared, why);
        }
    };
    let reserve = reserve(shared.reserve_bytes, space.total_bytes);
    let queued = directory.queued_bytes.load(Ordering::Relaxed) as u64;
    let was_low = directory.low.load(Ordering::Relaxed);
    let is_low = judge(&space, reserve, queued, was_low);
    directory
        .free_bytes
        .store(space.free_bytes, Ordering::Relaxed);
    if is_low == was_low {
        return;
    }
    directory.low.store(is_low, Ordering::Relaxed);
    let (path, free_bytes) = (directory.path.display(), space.free_bytes);
    if is_low {
        tracing::warn!(directory = %path, free_bytes, reserve, "little space is left: appends are refused until there is more");
        shared.attention.notify_one();
    } else {
        tracing::info!(directory = %path, free_bytes, "there is space again");
    }
    directory.tell_room(shared);
}

/// Whether too little is free. What waits to be written counts as taken; once it is too little, a
/// quarter more must be free, so that this does not change with every batch.
fn judge(space: &Space, reserve: u64, queued: u64, was_low: bool) -> bool {
    let wanted = match was_low {
        true => reserve.saturating_add(reserve / 4),
        false => reserve,
    };
    space.free_bytes < wanted.saturating_add(queued)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_alone_until_there_is_a_quarter_more() {
        assert_eq!(reserve(None, 1_000), 20);
        assert_eq!(reserve(None, u64::MAX), 1 << 30);
        assert_eq!(reserve(Some(7), 1_000), 7);
        let low = |free_bytes, queued, was_low| {
            let total_bytes = 1_000;
            let space = Space {
                free_bytes,
                total_bytes,
            };
            judge(&space, 100, queued, was_low)
        };
        assert!(!low(100, 0, false) && low(99, 0, false) && low(110, 11, false));
        assert!(low(124, 0, true) && !low(125, 0, true));
    }
}
