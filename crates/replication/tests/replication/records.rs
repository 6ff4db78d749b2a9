//! Batches of one record, and what is found of them in a log.

use millrace_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use millrace_protocol::batch::{BatchBuilder, BatchOptions, Origin, SoleBatch, batches};

/// A batch of one record, as a producer sends it.
pub fn batch(value: &[u8]) -> SoleBatch {
    build(value, BatchOptions::default())
}

/// The same of an idempotent producer.
pub fn idempotent(value: &[u8], sequence: i32) -> SoleBatch {
    let options = BatchOptions {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    };
    build(value, options)
}

fn build(value: &[u8], options: BatchOptions) -> SoleBatch {
    let mut builder = BatchBuilder::new(options);
    builder.push(Timestamp(1_000), None, Some(value), &[]);
    let origin = Origin::Client {
        produce_version: 13,
    };
    SoleBatch::of(builder.build().unwrap(), origin).unwrap()
}

/// The values in a log, each under its offset and leader epoch. Offsets must have no gap.
pub fn found(log: &[u8]) -> Vec<(Offset, LeaderEpoch, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = batches(log);
    for batch in rest.by_ref() {
        let batch = batch.unwrap();
        batch.check().unwrap();
        let epoch = batch.header().unwrap().leader_epoch;
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            let next = Offset(found.len() as i64);
            assert_eq!(record.offset, next, "a gap or a repetition");
            found.push((record.offset, epoch, record.value.unwrap().to_vec()));
        }
    }
    assert!(rest.rest().is_empty(), "a torn batch at the end");
    found
}

/// The values alone.
pub fn values(log: &[u8]) -> Vec<String> {
    let text = |value| String::from_utf8(value).unwrap();
    found(log).into_iter().map(|found| text(found.2)).collect()
}
