//! The hashes by which keys and groups find their partitions.

/// Kafka's murmur2 (class `Utils`), by which producers spread keys.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// The partition of a key among `partitions`, as the default partitioner of Java clients chooses it.
///
/// # Panics
/// If there are no partitions.
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions
}

/// Java's `String.hashCode`, which counts UTF-16 units.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    })
}

/// The partition of a coordinator's topic that a group id, a transactional id or a share
/// partition's key belongs to, among `partitions` (Kafka method `Utils.abs`: 0 for the smallest
/// integer).
///
/// # Panics
/// If there are no partitions.
pub fn partition_for_group(id: &str, partitions: i32) -> i32 {
    java_string_hash(id).checked_abs().unwrap_or(0) % partitions
}
