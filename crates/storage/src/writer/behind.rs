//! Keeps what was written for leaders elsewhere from filling the page cache.
//!
//! Consumers read from leaders, so of the replicas of a partition only one is worth caching; but the
//! page cache holds whatever was written last. Behind the newest stretch of what came from leaders,
//! older pages are handed back as soon as the disk has them. What is read of them nevertheless, after
//! this broker has become the leader for instance, comes from the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use millrace_host::DiskFile;
use millrace_model::Offset;

/// Less than this of a file is not worth a call.
const STRETCH_BYTES: u64 = 1 << 20;
/// Files with less than a stretch that are remembered; beyond that their pages stay cached.
const MAX_BEGUN: usize = 16_384;
/// Only whole pages leave the cache.
const PAGE_BYTES: u64 = 4096;

/// A segment of a log.
type Key = (u64, Offset);

/// What was written for leaders elsewhere and is still cached.
pub(super) struct Behind {
    keep_bytes: u64,
    /// Of files with less than a stretch: where it begins and ends.
    begun: BTreeMap<Key, (u64, u64)>,
    /// Oldest first.
    stretches: VecDeque<Stretch>,
    bytes: u64,
}

/// Part of a file; the file may be closed meanwhile, and then its pages stay.
struct Stretch {
    file: Weak<dyn DiskFile>,
    from: u64,
    len: u64,
}

impl Stretch {
    /// A hint, so a failure costs nothing but cache; one to write is told by the next sync.
    fn release(&self) {
        if let Some(file) = self.file.upgrade() {
            let _ = file.release_cache(self.from, self.len);
        }
    }
}

impl Behind {
    /// Keeps the newest `keep_bytes` cached.
    pub(super) fn new(keep_bytes: u64) -> Behind {
        Behind {
            keep_bytes,
            begun: BTreeMap::new(),
            stretches: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Bytes from `from` to `to` of a file have been written for a leader elsewhere.
    pub(super) fn written(&mut self, key: Key, file: &Arc<dyn DiskFile>, from: u64, to: u64) {
        let begun = self.begun.remove(&key);
        let from = match begun {
            Some((start, end)) if end == from => start,
            Some(_) | None => from,
        };
        if to - from < STRETCH_BYTES {
            if self.begun.len() < MAX_BEGUN {
                self.begun.insert(key, (from, to));
            }
            return;
        }
        let end = to - to % PAGE_BYTES;
        self.begun.insert(key, (end, to));
        let stretch = Stretch {
            file: Arc::downgrade(file),
            from,
            len: end - from,
        };
        // Not synced yet, it begins to be written, and can leave the cache later.
        stretch.release();
        self.bytes += stretch.len;
        self.stretches.push_back(stretch);
    }

    /// Lets the oldest leave the cache until the rest is no more than what is to be kept.
    pub(super) fn release(&mut self) {
        while self.bytes > self.keep_bytes
            && let Some(oldest) = self.stretches.pop_front()
        {
            self.bytes -= oldest.len;
            oldest.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    use bytes::Bytes;

    #[derive(Default)]
    struct Noting(Mutex<Vec<(u64, u64)>>);

    impl DiskFile for Noting {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn read_at_nowait(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, _: &[Bytes], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn release_cache(&self, offset: u64, len: u64) -> io::Result<()> {
            self.0.lock().unwrap().push((offset, len));
            Ok(())
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn all_but_the_newest_stretches_leave_in_whole_pages() {
        let noting = Arc::new(Noting::default());
        let file: Arc<dyn DiskFile> = noting.clone();
        let mut behind = Behind::new(3 * STRETCH_BYTES);
        let step = STRETCH_BYTES / 2 + 100;
        for at in 0..20 {
            behind.written((1, Offset(0)), &file, at * step, (at + 1) * step);
            behind.release();
        }
        let calls = noting.0.lock().unwrap().clone();
        let (mut begun, mut left) = (Vec::new(), Vec::new());
        for call in calls {
            match begun.contains(&call) {
                true => left.push(call),
                false => begun.push(call),
            }
        }
        let mut next = 0;
        for (offset, len) in &left {
            assert_eq!(*offset, next, "nothing is left out");
            assert_eq!(len % PAGE_BYTES, 0);
            next += len;
        }
        let newest = begun.iter().map(|(offset, len)| offset + len).max();
        assert!(newest.unwrap() - next <= 3 * STRETCH_BYTES);
        assert!(next > 5 * STRETCH_BYTES);
    }

    #[test]
    fn a_gap_begins_a_new_stretch() {
        let noting = Arc::new(Noting::default());
        let file: Arc<dyn DiskFile> = noting.clone();
        let mut behind = Behind::new(0);
        behind.written((1, Offset(0)), &file, 0, 100);
        let far = 10 * STRETCH_BYTES;
        behind.written((1, Offset(0)), &file, far, far + STRETCH_BYTES);
        assert_eq!(noting.0.lock().unwrap()[0], (far, STRETCH_BYTES));
    }
}
