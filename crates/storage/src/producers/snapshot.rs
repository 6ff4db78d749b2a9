//! `.snapshot` files: the producers of a log as of the offset in the file's name (Kafka class
//! `ProducerStateManager`, schema version 1).
//!
//! Version (i16), CRC32C of all that follows (u32), number of producers (i32), then for each: id
//! (i64), epoch (i16), last sequence (i32), last offset (i64), offset delta (i32), timestamp (i64),
//! coordinator epoch (i32), first offset of the open transaction (i64, -1 for none).
//!
//! That has only the newest of the batches that are remembered of a producer, which is not enough: a
//! producer whose requests were never answered sends the oldest of them first, and a broker that
//! started from a snapshot would call it out of order, which ends an idempotent producer for good.
//! So the older ones follow behind what Kafka knows, which it neither misses nor reads: for each
//! producer in the same order their number (u8) and, oldest first, last sequence, last offset, offset
//! delta and timestamp as above. Where no producer has older ones, and in Kafka's own files, nothing
//! follows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_model::limits::REMEMBERED_BATCHES;
use millrace_model::{Offset, Planted, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{NO_BATCH, Producer, Producers, Remembered};

const VERSION: i16 = 1;
const HEAD_BYTES: usize = 2 + 4;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
const BATCH_BYTES: usize = 4 + 8 + 4 + 8;
/// Largest snapshot that is read: 1,800,000 producers at least.
pub(crate) const MAX_SNAPSHOT_BYTES: u64 = 256 << 20;

/// The content of a snapshot file.
pub(crate) fn encode(producers: &Producers) -> Bytes {
    let counts = producers.iter().map(|(_, producer)| older(producer).len());
    let more: usize = counts.sum();
    let bytes = HEAD_BYTES + 4 + producers.len() * (ENTRY_BYTES + 1) + more * BATCH_BYTES;
    let mut out = BytesMut::with_capacity(bytes);
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
    if more > 0 && !Planted::SnapshotOfTheNewest.is_here() {
        for (_, producer) in producers.iter() {
            encode_older(producer, &mut out);
        }
    }
    let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
    out[2..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

/// The remembered batches that Kafka's part of a snapshot has no place for.
fn older(producer: &Producer) -> &[Remembered] {
    let batches = producer.batches();
    &batches[..batches.len().saturating_sub(1)]
}

fn encode_older(producer: &Producer, out: &mut BytesMut) {
    let older = older(producer);
    out.put_u8(u8::try_from(older.len()).expect("a handful is remembered"));
    for batch in older {
        out.put_i32(batch.last_sequence.get());
        out.put_i64(batch.last_offset.get());
        out.put_i32(batch.offset_delta);
        out.put_i64(batch.timestamp.get());
    }
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
    let kafkas = count.saturating_mul(ENTRY_BYTES);
    let Some((mut input, mut behind)) = input.split_at_checked(kafkas) else {
        let bytes = input.len();
        return Err(format!("{bytes} bytes do not hold {count} producers"));
    };
    let has_older = !behind.is_empty();
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = ProducerId(input.get_i64());
        let mut producer = Producer::new(ProducerEpoch(input.get_i16()));
        let newest = decode_batch(&mut input);
        producer.coordinator_epoch = input.get_i32();
        let start = input.get_i64();
        producer.transaction_start = (start >= 0).then_some(Offset(start));
        producer.last_timestamp = newest.timestamp;
        if has_older {
            decode_older(&mut behind, &mut producer)?;
        }
        if newest.last_offset >= Offset::ZERO {
            producer.remember(newest);
        }
        producers.insert(id, producer);
    }
    match behind.len() {
        0 => Ok(producers),
        rest => Err(format!("{rest} bytes follow the last producer")),
    }
}

/// Enough bytes must be there.
fn decode_batch(input: &mut &[u8]) -> Remembered {
    Remembered {
        last_sequence: Sequence(input.get_i32()),
        last_offset: Offset(input.get_i64()),
        offset_delta: input.get_i32().max(0),
        timestamp: Timestamp(input.get_i64()),
    }
}

fn decode_older(input: &mut &[u8], producer: &mut Producer) -> Result<(), String> {
    let count = usize::from(input.try_get_u8().map_err(|_| "it ends too early")?);
    if count >= REMEMBERED_BATCHES || input.len() < count * BATCH_BYTES {
        let bytes = input.len();
        return Err(format!("{bytes} bytes do not hold {count} older batches"));
    }
    for _ in 0..count {
        producer.remember(decode_batch(input));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(batches: i32) -> Producer {
        let mut producer = Producer::new(ProducerEpoch(3));
        for batch in 0..batches {
            producer.remember(Remembered {
                last_sequence: Sequence(10 * batch + 9),
                last_offset: Offset(100 * i64::from(batch) + 9),
                offset_delta: 9,
                timestamp: Timestamp(1_000 + i64::from(batch)),
            });
        }
        producer.last_timestamp = producer.batches().last().unwrap_or(&NO_BATCH).timestamp;
        producer
    }

    fn known(batches: &[i32]) -> Producers {
        let mut producers = Producers::default();
        for (id, batches) in (0..).zip(batches) {
            producers.insert(ProducerId(id), producer(*batches));
        }
        producers
    }

    #[test]
    fn all_that_is_remembered_comes_back() {
        for batches in [&[][..], &[0], &[1], &[1, 1, 0], &[2], &[7, 1, 0, 5, 3]] {
            let producers = known(batches);
            let content = encode(&producers);
            assert_eq!(decode(&content).unwrap(), producers, "{batches:?}");
        }
    }

    #[test]
    fn where_nothing_is_older_it_is_what_kafka_writes() {
        let content = encode(&known(&[1, 0, 1]));
        assert_eq!(content.len(), HEAD_BYTES + 4 + 3 * ENTRY_BYTES);
    }

    /// With the checksum made right again.
    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        let crc = crc32c::crc32c(&content[HEAD_BYTES..]);
        content[2..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        content
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        let content = encode(&known(&[5, 2]));
        let kafkas = HEAD_BYTES + 4 + 2 * ENTRY_BYTES;
        for end in (HEAD_BYTES + 4)..content.len() {
            let is_kafkas = end == kafkas;
            let read = decode(&sealed(&content[..end]));
            assert_eq!(read.is_ok(), is_kafkas, "cut to {end} bytes: {read:?}");
        }
        let longer = [&content[..], &[0]].concat();
        assert!(decode(&sealed(&longer)).is_err());
        let mut many = content.to_vec();
        many[kafkas] = u8::MAX;
        assert!(decode(&sealed(&many)).is_err());
        assert!(
            decode(&content[..content.len() - 1]).is_err(),
            "the checksum"
        );
    }
}
