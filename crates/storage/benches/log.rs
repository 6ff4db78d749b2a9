//! What a log costs: appending a batch as leader, and finding an offset in a segment that is not in
//! memory. `cargo bench -p millrace-storage`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench may end where it fails, and criterion makes undocumented items"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millrace_host::{Host, Tasks};
use millrace_model::{
    BrokerEpoch, DirectoryId, Durability, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId,
    TopicName, Uuid,
};
use millrace_protocol::batch::{BatchBuilder, Origin, SoleBatch};
use millrace_protocol::compression::Compression;
use millrace_storage::{Log, LogDirectory, LogSettings, Store, StoreEvents, StoreOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const RECORD_BYTES: usize = 1000;
const RECORDS: i64 = 16;
/// How much of a log an offset is looked for in.
const SEARCHED_BATCHES: i64 = 2000;

struct Nobody;

impl StoreEvents for Nobody {
    fn durable(&self, _: &[(PartitionId, Offset)]) {}
    fn offline(&self, _: DirectoryId, why: &str) {
        panic!("{why}");
    }
}

/// One log in a directory of its own.
struct Bench {
    runtime: Runtime,
    tasks: Tasks,
    log: Arc<Log>,
    store: Store,
    // Removed when the bench is.
    _directory: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let runtime = Runtime::new().unwrap();
        let directory = TempDir::new().unwrap();
        let tasks = Tasks::on(runtime.handle().clone());
        let directories = vec![LogDirectory {
            path: directory.path().to_owned(),
            id: DirectoryId(Uuid([9; 16])),
        }];
        let host = Host::real(tasks.clone(), tasks.clone());
        let mut options = StoreOptions::new(directories, host, Arc::new(Nobody));
        // What is written leaves memory, so that reads are cold.
        options.tail_budget_bytes = 1 << 20;
        let settings = LogSettings {
            durability: Durability::PageCache,
            ..LogSettings::default()
        };
        let id = PartitionId {
            topic: TopicId(Uuid([1; 16])),
            index: 0,
        };
        let topic = TopicName::new("bench").unwrap();
        let (store, _) = runtime.block_on(Store::open(options)).unwrap();
        let log = runtime
            .block_on(store.create(id, &topic, settings))
            .unwrap();
        Bench {
            runtime,
            tasks,
            log,
            store,
            _directory: directory,
        }
    }

    fn append(&self, batch: BytesMut) {
        let origin = Origin::Client {
            produce_version: 13,
        };
        let batch = SoleBatch::of(batch, origin).unwrap();
        let batch = self.log.validate(batch, NOW).unwrap();
        let appended = self.log.append_as_leader(batch, LeaderEpoch(0), NOW);
        black_box(appended.unwrap());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The writer must have ended before its directory goes.
        let closed = self.runtime.block_on(self.store.close(BrokerEpoch(0)));
        closed.unwrap();
    }
}

fn batch() -> BytesMut {
    let mut builder = BatchBuilder::compressed(Compression::None);
    for _ in 0..RECORDS {
        builder.push(NOW, None, Some(&[7; RECORD_BYTES]), &[]);
    }
    builder.build().unwrap()
}

fn append(c: &mut Criterion) {
    let bench = Bench::new();
    let batch = batch();
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    group.bench_function("a batch of 16 KB", |b| {
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let fresh = batch.clone();
                // The writer is not what is measured: it gets the time it needs.
                bench.runtime.block_on(bench.log.wait_for_room());
                let began = Instant::now();
                bench.append(fresh);
                spent += began.elapsed();
            }
            spent
        });
    });
    group.finish();
}

fn find(c: &mut Criterion) {
    let bench = Bench::new();
    for _ in 0..SEARCHED_BATCHES {
        bench.runtime.block_on(bench.log.wait_for_room());
        bench.append(batch());
    }
    bench.runtime.block_on(bench.log.make_durable()).unwrap();
    let mut place = 0;
    c.bench_function("find an offset by the index and read a batch", |b| {
        b.iter(|| {
            // Anywhere in the first half, which is not in memory any more.
            place = (place * 31 + 17) % (SEARCHED_BATCHES / 2);
            let from = Offset(place * RECORDS);
            let upper = bench.log.bounds().log_end;
            let plan = bench.log.read(from, 1, upper, true).unwrap();
            assert!(plan.is_cold());
            let read = bench.runtime.block_on(plan.load(&bench.tasks)).unwrap();
            black_box(read)
        });
    });
}

fn quick() -> Criterion {
    // Few: what is appended stays on the disk until the end.
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
}

criterion_group! {
    name = log;
    config = quick();
    targets = append, find
}
criterion_main!(log);
