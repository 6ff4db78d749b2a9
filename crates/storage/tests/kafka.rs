//! Directories that Kafka wrote: opened as they are, recovered as after a crash, and written again
//! byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{BrokerEpoch, Offset, PartitionId, Timestamp};
use millrace_storage::{Log, LogSettings, RecoveryReport, Store, StoreOptions};

use crate::support::*;

/// What the topics of the fixture were made with.
fn settings() -> LogSettings {
    LogSettings {
        segment_ms: 2_000,
        index_interval_bytes: 100,
        ..LogSettings::default()
    }
}

/// The files that Kafka left behind, by name.
fn fixture() -> BTreeMap<String, Vec<u8>> {
    let lines = include_str!("data/kafka-log-dir.tsv").lines();
    let parse = |line: &str| {
        let (name, hex) = line.split_once('\t').unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let content = (0..hex.len()).step_by(2).map(byte).collect();
        (name.to_owned(), content)
    };
    lines.skip(1).map(parse).collect()
}

fn unpack(to: &Path) {
    for (name, content) in fixture() {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The bytes of all segments of a partition.
fn batches(partition: &str) -> Vec<u8> {
    let files = fixture().into_iter();
    let own = files.filter(|(name, _)| name.starts_with(partition) && name.ends_with(".log"));
    own.flat_map(|(_, content)| content).collect()
}

/// Offsets at which the fixture's partitions begin and end, and how many producers they know.
const LOGS: [(&str, i64, i64, usize); 5] = [
    ("__consumer_offsets-14", 0, 12, 1),
    ("compacted-0", 0, 15, 3),
    ("plain-0", 0, 60, 15),
    ("txn-0", 0, 19, 2),
    ("txn-1", 0, 12, 1),
];

/// Content to compare: that of a producer snapshot, which has no order in Kafka, by producer and
/// without the checksum.
fn sorted(file: &str, content: &[u8]) -> Vec<Vec<u8>> {
    if !file.ends_with(".snapshot") {
        return vec![content.to_vec()];
    }
    let mut producers: Vec<_> = content[10..].chunks(46).map(<[u8]>::to_vec).collect();
    producers.sort();
    producers.push([&content[..2], &content[6..10]].concat());
    producers
}

async fn open(path: &Path) -> (StoreOptions, Store, RecoveryReport) {
    let mut options = options(path, real_host(), Arc::new(Told::default()));
    options.default_settings = settings();
    let (store, report) = Store::open(options.clone()).await.unwrap();
    (options, store, report)
}

fn find(store: &Store, name: &str) -> Arc<Log> {
    let named = |log: &Arc<Log>| format!("{}-{}", log.topic(), log.id().index) == name;
    store.logs().into_iter().find(named).unwrap()
}

async fn check(options: &StoreOptions, store: &Store) {
    for (name, start, end, producers) in LOGS {
        let log = find(store, name);
        let bounds = log.bounds();
        assert_eq!(
            (bounds.log_start.0, bounds.log_end.0),
            (start, end),
            "{name}"
        );
        assert_eq!(bounds.durable_end, bounds.log_end, "{name}");
        assert_eq!(log.producers().len(), producers, "{name}");
        assert_eq!(log.high_watermark_checkpoint(), bounds.log_end, "{name}");
        assert_eq!(log.last_epoch().0, 0, "{name}");
        let read = read_all(&log, &options.host, Offset(start), Offset(end), 200).await;
        assert!(read == batches(name), "{name}");
    }
    let max = find(store, "plain-0").max_timestamp().await.unwrap();
    assert_eq!(max.unwrap().1, Timestamp(1_795_252_796_819));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_kafka_closed_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let (options, store, report) = open(dir.path()).await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(report.clean_shutdown, Some(BrokerEpoch(14)));
    assert_eq!((report.logs, report.scanned_segments), (LOGS.len(), 0));
    check(&options, &store).await;

    let log = find(&store, "plain-0");
    assert_eq!(append(&log, Batch::default()).first, Offset(60));
    log.truncate_to(Offset(30)).await.unwrap();
    assert_eq!(log.bounds().log_end, Offset(28));
    append(&log, Batch::default());
    store.close(BrokerEpoch(15)).await.unwrap();
    drop((store, log));
    let (store, report) = reopen(&options).await;
    assert_eq!(report.clean_shutdown, Some(BrokerEpoch(15)), "{report:?}");
    assert_eq!(find(&store, "plain-0").bounds().log_end, Offset(31));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_a_killed_kafka_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();
    fs::remove_file(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    // Of a running Kafka indexes are longer than their content.
    let index = dir.path().join("plain-0/00000000000000000040.index");
    fs::write(index, vec![0; 10_000]).unwrap();
    let torn = dir.path().join("txn-0/00000000000000000018.log");
    let mut content = fs::read(&torn).unwrap();
    content.extend_from_slice(&content.clone()[..50]);
    fs::write(torn, content).unwrap();

    let (options, store, report) = open(dir.path()).await;
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!((report.clean_shutdown, report.cut_bytes), (None, 50));
    check(&options, &store).await;
    for (name, content) in fixture() {
        if name.ends_with("index") && name.contains("-0/") {
            let made = fs::read(dir.path().join(&name)).unwrap();
            assert_eq!(made, content, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_batches_make_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store, _) = open(dir.path()).await;
    let files = fixture();
    let partitions = [("plain", 0), ("txn", 0), ("txn", 1)];
    for (name, index) in partitions {
        let partition = format!("{name}-{index}");
        let identity = &files[&format!("{partition}/partition.metadata")];
        let identity = std::str::from_utf8(identity).unwrap();
        let id = identity.split("topic_id: ").nth(1).unwrap().trim();
        let topic_id = id.parse().unwrap();
        let id = PartitionId {
            topic: topic_id,
            index,
        };
        let log = store.create(id, &topic(name), settings()).await.unwrap();
        let mut rest = Bytes::from(batches(&partition));
        while !rest.is_empty() {
            let size = i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize + 12;
            let batch = rest.split_to(size);
            let end = log.bounds().log_end;
            log.append_as_follower(end, batch).unwrap();
        }
    }
    store.close(BrokerEpoch(14)).await.unwrap();
    for (name, index) in partitions {
        let partition = format!("{name}-{index}/");
        let mut wanted: Vec<&String> = files.keys().collect();
        // Transactions come later, and with them their index.
        wanted.retain(|file| file.starts_with(&partition) && !file.ends_with(".txnindex"));
        for file in &wanted {
            let made = fs::read(dir.path().join(file)).unwrap_or_default();
            let (made, kafka) = (sorted(file, &made), sorted(file, &files[*file]));
            assert_eq!(made, kafka, "{file}");
        }
        let made = fs::read_dir(dir.path().join(&partition)).unwrap().count();
        assert_eq!(made, wanted.len(), "{partition}");
    }
    let marker = fs::read(dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(marker, files[".kafka_cleanshutdown"]);
}

/// Whether stock Kafka and we leave the same records of the same log: producers with all codecs,
/// tombstones, headers, and transactions of which some were aborted, one over a segment's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_leaves_the_records_that_kafka_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafkas = Vec::new();
    for line in include_str!("data/kafka-compacted.tsv").lines().skip(1) {
        let (name, hex) = line.split_once('\t').unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let content: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        match name.strip_prefix("before/") {
            None => kafkas.extend(content),
            Some(name) => {
                fs::create_dir_all(dir.path().join("c-0")).unwrap();
                fs::write(dir.path().join("c-0").join(name), content).unwrap();
            }
        }
    }
    let mut options = options(dir.path(), real_host(), Arc::new(Told::default()));
    options.cleaner.backoff = std::time::Duration::from_millis(10);
    options.default_settings = LogSettings {
        segment_bytes: 2_500,
        index_interval_bytes: 300,
        ..LogSettings::default()
    };
    let (store, report) = Store::open(options.clone()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let log = find(&store, "c-0");
    let end = log.bounds().log_end;
    log.note_high_watermark(end);
    log.reconfigure(LogSettings {
        compact: true,
        delete: false,
        min_cleanable_ppm: 10_000,
        ..options.default_settings.clone()
    });
    let checkpoint = dir.path().join("cleaner-offset-checkpoint");
    while !fs::read_to_string(&checkpoint).is_ok_and(|text| text.ends_with("c 0 296\n")) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let ours = read_all(&log, &options.host, Offset(0), end, 1_000).await;
    let (ours, kafkas) = (records(&ours), records(&kafkas));
    let offsets = |records: &[String]| {
        let offsets = records
            .iter()
            .map(|r| r.split(' ').next().unwrap().to_owned());
        offsets.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(offsets(&ours), offsets(&kafkas));
    assert_eq!(ours, kafkas);
    // It was worth it.
    assert!(ours.len() < 120, "{}", ours.len());
}

/// Every record with all that is known of it and of its batch.
fn records(mut batches: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !batches.is_empty() {
        let header = millrace_protocol::batch::BatchHeader::parse(batches).unwrap();
        let set = millrace_protocol::batch::RecordSet::of_batch(batches, 1 << 20).unwrap();
        for record in set.iter() {
            let record = record.unwrap();
            let headers: Vec<_> = record.headers().map(|h| (h.key, h.value)).collect();
            found.push(format!(
                "{} at {} in {}..={} of {}/{}/{} {:?} {:?}={:?} {headers:?} horizon {}",
                record.offset,
                record.timestamp,
                header.base_offset,
                header.last_offset(),
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.compression(),
                record.key,
                record.value,
                header.delete_horizon().is_some(),
            ));
        }
        batches = &batches[header.size..];
    }
    found
}
