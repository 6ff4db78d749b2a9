//! Snappy in the framing that xerial's Java library gave to Kafka.
//!
//! A header of 16 bytes (magic, version, lowest compatible version), then blocks: four bytes of
//! length and a raw snappy block of at most 32 KiB. Bytes without the header are one raw block,
//! as the Java library takes them.

use super::{Compression, CompressionError};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
const BLOCK_BYTES: usize = 32 * 1024;

/// A copy of 64 bytes takes three, so no honest block unpacks to more than this times its size.
const MAX_RATIO: usize = 32;

fn corrupt(why: impl std::fmt::Display) -> CompressionError {
    CompressionError::corrupt(Compression::Snappy, why)
}

pub fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut output = MAGIC.to_vec();
    output.extend(1u32.to_be_bytes());
    output.extend(1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(corrupt)?;
        let length = u32::try_from(packed.len()).expect("a block is small");
        output.extend(length.to_be_bytes());
        output.extend(packed);
    }
    Ok(output)
}

pub fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    if !input.starts_with(&MAGIC) {
        append_block(&mut output, input, limit)?;
        return Ok(output);
    }
    let mut rest = input
        .get(HEADER_BYTES..)
        .ok_or_else(|| corrupt("the header is cut off"))?;
    while !rest.is_empty() {
        // The Java library lets another header stand between blocks: streams may be concatenated.
        if rest.starts_with(&MAGIC) {
            rest = rest
                .get(HEADER_BYTES..)
                .ok_or_else(|| corrupt("a header is cut off"))?;
            continue;
        }
        let cut_off = || corrupt("a block is cut off");
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(cut_off)?;
        append_block(&mut output, block, limit)?;
        rest = behind;
    }
    Ok(output)
}

fn append_block(output: &mut Vec<u8>, block: &[u8], limit: usize) -> Result<(), CompressionError> {
    let length = snap::raw::decompress_len(block).map_err(corrupt)?;
    if length > block.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt("a block claims more than it can hold"));
    }
    let start = output.len();
    if start + length > limit {
        return Err(CompressionError::TooLarge(limit));
    }
    output.resize(start + length, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(corrupt)?;
    Ok(())
}
