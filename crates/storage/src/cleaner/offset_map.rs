//! The newest offset of each key, in bounded memory (Kafka class `SkimpyOffsetMap`).
//!
//! A key stands as a 128-bit hash under a secret drawn for this run, so that no one can choose keys
//! that collide; 24 bytes a key, whatever its size.

use std::hash::Hasher;

use millrace_model::Offset;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Bytes of an entry.
const ENTRY_BYTES: u64 = 24;

/// The least that a map has room for: a few batches.
const MIN_SLOTS: u64 = 12;

/// Hash and offset, the latter plus one; zero marks a free place.
#[derive(Clone, Copy, Default)]
struct Entry {
    high: u64,
    low: u64,
    offset: u64,
}

/// Offsets by key.
pub(crate) struct OffsetMap {
    secret: (u64, u64),
    entries: Vec<Entry>,
    len: usize,
    limit: usize,
    /// Everything up to here is in the map.
    latest: Offset,
}

impl OffsetMap {
    /// A map that takes `bytes` of memory at most, filled up to `load`, and no more than `keys`
    /// keys need.
    pub(crate) fn new(bytes: u64, load: f64, keys: u64, secret: (u64, u64)) -> OffsetMap {
        let most = (bytes / ENTRY_BYTES).max(MIN_SLOTS);
        // Where memory allows, all keys fit below any load, and probing is short.
        let wanted = keys.saturating_mul(2).max(MIN_SLOTS);
        let slots = usize::try_from(most.min(wanted)).unwrap_or(usize::MAX);
        let load = load.clamp(0.5, 0.99);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of slots need not be exact"
        )]
        let limit = (slots as f64 * load) as usize;
        OffsetMap {
            secret,
            entries: vec![Entry::default(); slots],
            len: 0,
            limit: limit.clamp(1, slots - 1),
            latest: Offset(-1),
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// The place of a hash, or the free one where it would be.
    fn place(&self, (high, low): (u64, u64)) -> usize {
        let slots = self.entries.len();
        let mut place = usize::try_from(high % slots as u64).unwrap_or(0);
        loop {
            let entry = &self.entries[place];
            if entry.offset == 0 || (entry.high, entry.low) == (high, low) {
                return place;
            }
            place = (place + 1) % slots;
        }
    }

    /// Notes the offset of a key. False if the map is full; nothing is noted then.
    #[must_use]
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (high, low) = self.hash(key);
        if self.len >= self.limit {
            return false;
        }
        let place = self.place((high, low));
        self.len += usize::from(self.entries[place].offset == 0);
        let offset = offset.get().cast_unsigned() + 1;
        self.entries[place] = Entry { high, low, offset };
        true
    }

    /// The offset noted last for a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let entry = self.entries[self.place(self.hash(key))];
        let offset = entry.offset.checked_sub(1)?;
        Some(Offset(offset.cast_signed()))
    }

    /// Everything up to here is in the map; -1 if nothing is.
    pub(crate) fn latest(&self) -> Offset {
        self.latest
    }

    /// Notes that everything up to `offset` is in the map.
    pub(crate) fn set_latest(&mut self, offset: Offset) {
        self.latest = offset;
    }

    /// How many keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_takes_nothing_more_and_forgets_nothing() {
        let mut map = OffsetMap::new(24 * 100, 0.9, 1_000_000, (1, 2));
        let key = |n: i64| n.to_be_bytes();
        let put = (0..1_000).take_while(|n| map.put(&key(*n), Offset(*n)));
        assert_eq!(put.count(), 90);
        assert_eq!(map.len(), 90);
        for n in 0..90 {
            assert_eq!(map.get(&key(n)), Some(Offset(n)));
        }
        assert_eq!(map.get(&key(90)), None);
        let mut map = OffsetMap::new(u64::MAX, 0.9, 3, (1, 2));
        for n in 0..20 {
            assert!(map.put(b"same", Offset(n)));
        }
        assert!(map.put(b"", Offset(0)));
        assert!(map.put(&[7; 100_000], Offset(21)));
        assert_eq!(map.get(b"same"), Some(Offset(19)));
        assert_eq!(map.get(b""), Some(Offset(0)));
        assert_eq!(map.get(&[7; 100_000]), Some(Offset(21)));
        assert!(map.entries.len() < 20);
    }
}
