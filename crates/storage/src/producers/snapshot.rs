//! `.snapshot` files: the producers of a log as of the offset in the file's name (Kafka class
//! `ProducerStateManager`, schema version 1).
//!
//! Version (i16), CRC32C of all that follows (u32), number of producers (i32), then for each: id
//! (i64), epoch (i16), last sequence (i32), last offset (i64), offset delta (i32), timestamp (i64),
//! coordinator epoch (i32), first offset of the open transaction (i64, -1 for none). Of the
//! remembered batches only the newest is kept.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_model::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{NO_BATCH, Producer, Producers, Remembered};

const VERSION: i16 = 1;
const HEAD_BYTES: usize = 2 + 4;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
/// Largest snapshot that is read: some 5,800,000 producers.
pub(crate) const MAX_SNAPSHOT_BYTES: u64 = 256 << 20;

/// The content of a snapshot file.
pub(crate) fn encode(producers: &Producers) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 4 + producers.len() * ENTRY_BYTES);
    out.put_i16(VERSION);
    out.put_u32(0);
    out.put_i32(i32::try_from(producers.len()).unwrap_or(i32::MAX));
    for (id, producer) in producers.iter() {
        let newest = producer.batches().last().unwrap_or(&NO_BATCH);
        out.put_i64(id.get());
        out.put_i16(producer.epoch.get());
        out.put_i32(newest.last_sequence.get());
        out.put_i64(newest.last_offset.get());
        out.put_i32(newest.offset_delta);
        out.put_i64(producer.last_timestamp.get());
        out.put_i32(producer.coordinator_epoch);
        out.put_i64(producer.transaction_start.map_or(-1, Offset::get));
    }
    let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
    out[2..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

/// Understands a snapshot file.
pub(crate) fn decode(content: &[u8]) -> Result<Producers, String> {
    if content.len() < HEAD_BYTES + 4 {
        return Err(format!(
            "{} bytes are too few for a snapshot",
            content.len()
        ));
    }
    let mut input = content;
    let version = input.get_i16();
    if version != VERSION {
        return Err(format!("version {version} is unknown"));
    }
    let crc = input.get_u32();
    if crc != crc32c::crc32c(input) {
        return Err("the checksum does not match".to_owned());
    }
    let count = usize::try_from(input.get_i32()).map_err(|_| "a negative count")?;
    if input.len() != count.saturating_mul(ENTRY_BYTES) {
        return Err(format!(
            "{} bytes do not hold {count} producers",
            input.len()
        ));
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = ProducerId(input.get_i64());
        let mut producer = Producer::new(ProducerEpoch(input.get_i16()));
        let mut newest = Remembered {
            last_sequence: Sequence(input.get_i32()),
            last_offset: Offset(input.get_i64()),
            offset_delta: input.get_i32(),
            timestamp: Timestamp(input.get_i64()),
        };
        producer.coordinator_epoch = input.get_i32();
        let start = input.get_i64();
        producer.transaction_start = (start >= 0).then_some(Offset(start));
        producer.last_timestamp = newest.timestamp;
        newest.offset_delta = newest.offset_delta.max(0);
        if newest.last_offset >= Offset::ZERO {
            producer.remember(newest);
        }
        producers.insert(id, producer);
    }
    Ok(producers)
}
