//! Compaction of a log that is larger than the memory it is granted, in a process of its own, whose
//! memory the kernel counts.

#![allow(clippy::unwrap_used)] // Helpers outside of test functions unwrap as tests do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_host::{Host, Tasks};
use millrace_model::{
    DirectoryId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName, Uuid,
};
use millrace_protocol::batch::{BatchBuilder, Origin, SoleBatch};
use millrace_protocol::compression::Compression;
use millrace_storage::{Log, LogDirectory, LogSettings, Store, StoreEvents, StoreOptions};

/// 400,000 records of some 80 bytes.
const BATCHES: u32 = 1_000;
const RECORDS: u32 = 400;
const VALUE_BYTES: usize = 64;
const SEGMENT_BYTES: u64 = 2 << 20;
const KEYS: u32 = 60_000;
/// Room for some 39,000 keys. Without a limit, there would be 19 MB for so many records.
const GRANTED_BYTES: u64 = 1 << 20;
/// What the rounds may take beyond what the process held before: that, buffers, and what an
/// allocator keeps.
const MOST_BYTES: u64 = 12 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
const NOW: Timestamp = Timestamp(1_000_000);

struct Silent;

impl StoreEvents for Silent {
    fn durable(&self, _: &[(PartitionId, Offset)]) {}
    fn offline(&self, _: DirectoryId, _: &str) {}
}

/// The most memory this process ever held.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() << 10
}

fn key(record: u32) -> u32 {
    record.wrapping_mul(2_654_435_761) % KEYS
}

async fn fill(log: &Log) {
    let value = vec![7; VALUE_BYTES];
    for batch in 0..BATCHES {
        let mut builder = BatchBuilder::compressed(Compression::None);
        for n in 0..RECORDS {
            let key = key(batch * RECORDS + n).to_be_bytes();
            builder.push(NOW, Some(&key), Some(&value), &[]);
        }
        let origin = Origin::Client {
            produce_version: 13,
        };
        let sent = SoleBatch::of(builder.build().unwrap(), origin).unwrap();
        let sent = log.validate(sent, NOW).unwrap();
        log.append_as_leader(sent, LeaderEpoch(0), NOW).unwrap();
        // Few are on their way at once.
        if batch % 16 == 0 {
            log.make_durable().await.unwrap();
        }
    }
    log.make_durable().await.unwrap();
    log.note_high_watermark(log.bounds().log_end);
}

fn log_bytes(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let logs = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "log"));
    logs.map(|file| file.metadata().map_or(0, |found| found.len()))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_compacted_in_the_memory_that_is_granted() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = Tasks::on(tokio::runtime::Handle::current());
    let host = Host::real(tasks.clone(), tasks);
    let place = LogDirectory {
        path: directory.path().to_owned(),
        id: DirectoryId(Uuid([9; 16])),
    };
    let mut options = StoreOptions::new(vec![place], host, Arc::new(Silent));
    options.tail_budget_bytes = 0;
    options.cleaner.dedupe_buffer_bytes = GRANTED_BYTES;
    options.cleaner.backoff = Duration::from_millis(10);
    let (store, _) = Store::open(options).await.unwrap();
    let settings = LogSettings {
        segment_bytes: SEGMENT_BYTES,
        retention_ms: -1,
        timestamp_after_max_ms: i64::MAX,
        min_cleanable_ppm: 0,
        file_delete_delay_ms: 0,
        durability: millrace_model::Durability::PageCache,
        ..LogSettings::default()
    };
    let partition = PartitionId {
        topic: TopicId(Uuid([1; 16])),
        index: 0,
    };
    let name = TopicName::new("t").unwrap();
    let log = store.create(partition, &name, settings.clone()).await;
    let log = log.unwrap();
    fill(&log).await;
    let path = directory.path().join("t-0");
    let (before, whole) = (peak(), log_bytes(&path));
    log.reconfigure(LogSettings {
        compact: true,
        delete: false,
        ..settings
    });
    // Of seven records one is the newest of its key; the active segment stays as it is.
    let began = Instant::now();
    while log_bytes(&path) > whole / 3 {
        assert!(began.elapsed() < PATIENCE, "{} left", log_bytes(&path));
        assert!(!log.is_offline());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let more = peak() - before;
    assert!(more < MOST_BYTES, "{more} bytes more for {whole}");
    store.close(millrace_model::BrokerEpoch(1)).await.unwrap();
}
