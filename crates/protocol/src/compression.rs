//! Compression of record batches, with output that is bounded whatever the input claims.

mod lz4;
mod snappy;

use std::io::{Read, Write};

use millrace_model::limits::{
    MAX_DECOMPRESSED_BATCH_BYTES, MAX_DECOMPRESSION_RATIO, MIN_DECOMPRESSION_BYTES,
};

pub(crate) use lz4::repaired as repaired_lz4;

/// The largest window a zstd frame may ask for: what zstd itself allows by default, and so Kafka.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How the records of a batch are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of xerial's Java library.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

/// Why bytes could not be unpacked or packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// A number in a batch's attributes that names no codec.
    #[error("unknown compression type id: {0}")]
    Unknown(u8),
    /// The bytes are not what the codec writes.
    #[error("the {codec} data is corrupt: {why}")]
    Corrupt {
        /// The codec's name.
        codec: &'static str,
        /// What the codec's library said.
        why: String,
    },
    /// More output than was allowed.
    #[error("the data unpacks to more than {0} bytes")]
    TooLarge(usize),
}

impl Compression {
    /// The codec of the number that batch attributes hold.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_id(id: u8) -> Result<Compression, CompressionError> {
        Ok(match id {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return Err(CompressionError::Unknown(id)),
        })
    }

    /// The codec of this name, as `compression.type` writes it.
    pub fn from_name(name: &str) -> Option<Compression> {
        let all = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        all.into_iter().find(|codec| codec.name() == name)
    }

    /// The number in batch attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name, as `compression.type` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl CompressionError {
    fn corrupt(codec: Compression, why: impl std::fmt::Display) -> CompressionError {
        CompressionError::Corrupt {
            codec: codec.name(),
            why: why.to_string(),
        }
    }
}

/// How many bytes `input_bytes` may unpack to, by the limits in `model`.
pub fn output_limit(input_bytes: usize) -> usize {
    input_bytes
        .saturating_mul(MAX_DECOMPRESSION_RATIO)
        .clamp(MIN_DECOMPRESSION_BYTES, MAX_DECOMPRESSED_BATCH_BYTES)
}

/// Packs `input` with the codec's default effort.
///
/// # Errors
/// If the codec's library fails, which it does only for want of memory.
pub fn compress(codec: Compression, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    compress_at(codec, None, input)
}

/// Packs `input` with so much effort, where the codec knows levels: gzip from 1 to 9, zstd from
/// -131072 to 22.
///
/// # Errors
/// If the codec's library fails, which it does only for want of memory.
pub fn compress_at(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
) -> Result<Vec<u8>, CompressionError> {
    let packed = match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(Default::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(input).and_then(|()| encoder.finish())
        }
        Compression::Snappy => return snappy::compress(input),
        Compression::Lz4 => return lz4::compress(input),
        Compression::Zstd => {
            let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            zstd::stream::encode_all(input, level)
        }
    };
    packed.map_err(|error| CompressionError::corrupt(codec, error))
}

/// Unpacks `input` into at most `limit` bytes. Memory grows with what really comes out, so a lying
/// header costs nothing.
///
/// # Errors
/// If the data is corrupt or there would be more than `limit` bytes.
pub fn decompress_bounded(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if input.len() > limit => Err(CompressionError::TooLarge(limit)),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => drain(codec, flate2::read::MultiGzDecoder::new(input), limit),
        Compression::Snappy => snappy::decompress(input, limit),
        Compression::Lz4 => lz4::decompress(input, limit),
        Compression::Zstd => {
            let corrupt = |error| CompressionError::corrupt(codec, error);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(corrupt)?;
            drain(codec, decoder, limit)
        }
    }
}

/// Reads all that `source` gives, up to `limit` bytes.
fn drain(codec: Compression, source: impl Read, limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    let allowed = limit as u64 + 1;
    source
        .take(allowed)
        .read_to_end(&mut output)
        .map_err(|error| CompressionError::corrupt(codec, error))?;
    if output.len() > limit {
        return Err(CompressionError::TooLarge(limit));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn what_is_packed_unpacks() {
        let noise: Vec<u8> = (0u32..200_000)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for codec in ALL {
            assert_eq!(Compression::from_id(codec.id()), Ok(codec));
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
            for input in [&[][..], b"a", &[0; 100_000], &noise] {
                let packed = compress(codec, input).expect("memory is there");
                let unpacked = decompress_bounded(codec, &packed, input.len());
                assert_eq!(unpacked.as_deref(), Ok(input), "{codec:?}");
            }
        }
    }

    #[test]
    fn output_stops_at_the_limit() {
        let zeros = vec![0; 10_000_000];
        for codec in ALL {
            let packed = compress(codec, &zeros).expect("memory is there");
            let refused = decompress_bounded(codec, &packed, zeros.len() - 1);
            assert_eq!(
                refused,
                Err(CompressionError::TooLarge(zeros.len() - 1)),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn limits_follow_the_input() {
        assert_eq!(output_limit(0), MIN_DECOMPRESSION_BYTES);
        assert_eq!(output_limit(usize::MAX), MAX_DECOMPRESSED_BATCH_BYTES);
    }
}
