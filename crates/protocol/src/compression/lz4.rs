//! LZ4 frames, and the mistake in those of Kafka's oldest message format.

use std::borrow::Cow;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Compression, CompressionError, drain};

pub fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    // Kafka's reader takes independent blocks only.
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    let packed = encoder
        .write_all(input)
        .map_err(lz4_flex::frame::Error::from);
    let packed = packed.and_then(|()| encoder.finish());
    packed.map_err(|error| CompressionError::corrupt(Compression::Lz4, error))
}

pub fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    drain(Compression::Lz4, FrameDecoder::new(input), limit)
}

/// The same frame with the header checksum that the LZ4 format asks for.
///
/// Messages of magic 0 carry one that covers the frame's magic number too (KIP-57); Kafka does not
/// look at it there.
pub(crate) fn repaired(frame: &[u8]) -> Cow<'_, [u8]> {
    const FLAGS_AT: usize = 4;
    const HAS_CONTENT_SIZE: u8 = 0x08;
    let Some(flags) = frame.get(FLAGS_AT) else {
        return Cow::Borrowed(frame);
    };
    let checksum_at = if flags & HAS_CONTENT_SIZE == 0 { 6 } else { 14 };
    if frame.len() <= checksum_at {
        return Cow::Borrowed(frame);
    }
    let mut repaired = frame.to_vec();
    repaired[checksum_at] = (xxh32_of_few(&frame[FLAGS_AT..checksum_at]) >> 8) as u8;
    Cow::Owned(repaired)
}

/// XXH32 with seed 0 of fewer than 16 bytes.
fn xxh32_of_few(input: &[u8]) -> u32 {
    const PRIME_1: u32 = 0x9e37_79b1;
    const PRIME_2: u32 = 0x85eb_ca77;
    const PRIME_3: u32 = 0xc2b2_ae3d;
    const PRIME_4: u32 = 0x27d4_eb2f;
    const PRIME_5: u32 = 0x1656_67b1;
    debug_assert!(input.len() < 16);
    let mut hash = PRIME_5.wrapping_add(input.len() as u32);
    let (words, bytes) = input.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
    }
    for byte in bytes {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}
