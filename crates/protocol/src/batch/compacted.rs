//! What compaction leaves of a batch (Kafka method `MemoryRecords.filterTo`).
//!
//! Base offset, last offset, leader epoch, producer and sequence stay as they were, so that nobody
//! who counts by them notices.

use bytes::{BufMut, BytesMut};
use millrace_model::Timestamp;

use super::builder::{length_of, put_record};
use super::header::write_crc;
use super::{BatchHeader, HEADER_BYTES, Record, TimestampType};
use crate::Writer;
use crate::compression::{Compression, CompressionError, compress};

/// The batch of `header` with nothing but `records`, which are some of its own, in order, at least
/// one. With a `horizon` that is when its tombstones and markers may go; it stands in place of the
/// base timestamp.
///
/// # Errors
/// If the codec fails, for want of memory.
pub fn retained(
    header: &BatchHeader,
    records: &[Record<'_>],
    horizon: Option<Timestamp>,
) -> Result<BytesMut, CompressionError> {
    let first = records.first().map_or(Timestamp::NONE, |r| r.timestamp);
    let base_timestamp = horizon.unwrap_or(first);
    let mut body = Writer::new();
    let mut headers = Vec::new();
    for record in records {
        let offset_delta = record.offset.get() - header.base_offset.get();
        let deltas = (
            record.timestamp.get().wrapping_sub(base_timestamp.get()),
            i32::try_from(offset_delta).expect("a record lies within its batch"),
        );
        headers.clear();
        headers.extend(record.headers());
        put_record(&mut body, deltas, record.key, record.value, &headers);
    }
    let codec = header.compression()?;
    let body = body.into_bytes();
    let body = match codec {
        Compression::None => body,
        codec => compress(codec, &body)?.into(),
    };
    let largest = records.iter().map(|record| record.timestamp).max();
    let max_timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => largest.unwrap_or(Timestamp::NONE),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let header = BatchHeader {
        size: HEADER_BYTES + body.len(),
        attributes: header.attributes_with_horizon(horizon.is_some()),
        base_timestamp,
        max_timestamp,
        record_count: length_of(records.len()),
        ..*header
    };
    let mut batch = BytesMut::with_capacity(header.size);
    batch.put_slice(&header.to_bytes());
    batch.put_slice(&body);
    write_crc(&mut batch);
    Ok(batch)
}

/// The batch of `header` without any record: what is left to remember the producer's sequence and
/// the offsets (Kafka method `DefaultRecordBatch.writeEmptyHeader`).
pub fn emptied(header: &BatchHeader) -> BytesMut {
    let header = BatchHeader {
        size: HEADER_BYTES,
        attributes: BatchHeader::attributes_of(
            Compression::None,
            header.timestamp_type(),
            header.is_transactional(),
            header.is_control(),
        ),
        base_timestamp: Timestamp::NONE,
        record_count: 0,
        ..*header
    };
    let mut batch = BytesMut::from(&header.to_bytes()[..]);
    write_crc(&mut batch);
    batch
}

#[cfg(test)]
mod tests {
    use millrace_model::{Offset, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::batch::{BatchBuilder, BatchOptions, RecordHeader, RecordSet, check_crc};

    fn original(compression: Compression) -> BytesMut {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            base_offset: Offset(100),
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(1),
            base_sequence: Sequence(40),
            ..BatchOptions::default()
        });
        let header = RecordHeader {
            key: b"h",
            value: None,
        };
        for n in 0..4u8 {
            let value = (n != 2).then_some(&b"value"[..]);
            let time = Timestamp(1_000 + i64::from(n) * 10);
            builder.push(time, Some(&[n]), value, &[header]);
        }
        builder.build().expect("it packs")
    }

    #[test]
    fn records_stay_what_they_were() {
        for compression in [Compression::None, Compression::Zstd] {
            for horizon in [None, Some(Timestamp(99_999))] {
                let before = original(compression);
                let header = BatchHeader::parse(&before).expect("it is whole");
                let all = RecordSet::of_batch(&before, 1 << 20).expect("it unpacks");
                let all: Vec<_> = all.iter().map(|r| r.expect("it is whole")).collect();
                let after = retained(&header, &all[1..3], horizon).expect("it packs");
                let checked = check_crc(&after).expect("the checksum is right");
                assert_eq!(checked.delete_horizon(), horizon);
                assert_eq!(checked.last_offset(), Offset(103));
                assert_eq!(checked.last_sequence(), Sequence(43));
                assert_eq!(checked.max_timestamp, Timestamp(1_020));
                let left = RecordSet::of_batch(&after, 1 << 20).expect("it unpacks");
                for (left, was) in left.iter().zip(&all[1..3]) {
                    let left = left.expect("it is whole");
                    assert_eq!((left.offset, left.timestamp), (was.offset, was.timestamp));
                    assert_eq!((left.key, left.value), (was.key, was.value));
                    assert_eq!(left.headers().count(), 1);
                }
                let empty = emptied(&checked);
                let empty = check_crc(&empty).expect("the checksum is right");
                assert_eq!((empty.record_count, empty.last_offset()), (0, Offset(103)));
                assert_eq!(empty.delete_horizon(), None);
            }
        }
    }
}
