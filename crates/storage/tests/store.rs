//! The store on a real disk: append, roll, read, cut, close and open again.

use std::sync::Arc;

use crate::support::*;
use millrace_model::{BrokerEpoch, Durability, LeaderEpoch, Offset, Timestamp};
use millrace_protocol::batch::BatchBuilder;
use millrace_protocol::compression::Compression;
use millrace_storage::{Log, LogSettings, Store};

fn small() -> LogSettings {
    LogSettings {
        segment_bytes: 600,
        index_interval_bytes: 100,
        ..LogSettings::default()
    }
}

/// Finds records by time in a log of 50 batches that begin ten milliseconds apart.
async fn check_times(log: &Log) {
    for (time, offset) in [(0, 0), (1_000, 0), (1_001, 1), (1_255, 78), (1_492, 149)] {
        let found = log
            .offset_for_timestamp(Timestamp(time))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.0, Offset(offset), "{time}");
    }
    assert_eq!(
        log.offset_for_timestamp(Timestamp(1_493)).await.unwrap(),
        None
    );
    let max = log.max_timestamp().await.unwrap().unwrap();
    assert_eq!((max.0, max.1), (Offset(149), Timestamp(1_492)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_is_read_from_memory_and_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let (told, host) = (Arc::new(Told::default()), real_host());
    let mut options = options(dir.path(), host.clone(), told.clone());
    options.tail_budget_bytes = 500;
    let (store, report) = Store::open(options.clone()).await.unwrap();
    assert_eq!(report.logs, 0);
    let id = partition(1, 0);
    let log = store.create(id, &topic("t"), small()).await.unwrap();
    let mut expected = Vec::new();
    for n in 0..50u8 {
        let batch = Batch {
            seed: n,
            timestamp: 1_000 + i64::from(n) * 10,
            ..Batch::default()
        };
        let appended = append(&log, batch);
        assert_eq!(appended.first, Offset(i64::from(n) * 3));
        expected.extend_from_slice(&batch.stored(i64::from(n) * 3, 0));
    }
    log.make_durable().await.unwrap();
    assert_eq!(log.bounds().durable_end, Offset(150));
    // Batches leave memory right after it is told that they are durable.
    while store.tail_bytes() > 500 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.size_bytes(), expected.len() as u64);
    for bite in [0, 100, 300, 5_000] {
        assert_eq!(
            read_all(&log, &host, Offset(0), Offset(150), bite).await,
            expected,
            "{bite}"
        );
    }
    check_times(&log).await;

    log.truncate_to(Offset(100)).await.unwrap();
    assert_eq!(log.bounds().log_end, Offset(99));
    expected.truncate(expected.len() / 50 * 33);
    assert_eq!(
        read_all(&log, &host, Offset(0), Offset(99), 300).await,
        expected
    );
    append(&log, Batch::default());
    expected.extend_from_slice(&Batch::default().stored(99, 0));
    log.note_high_watermark(Offset(60));
    store.close(BrokerEpoch(7)).await.unwrap();
    drop((store, log));

    let (store, report) = reopen(&options).await;
    assert_eq!((report.logs, report.scanned_segments), (1, 0), "{report:?}");
    assert_eq!(report.clean_shutdown, Some(BrokerEpoch(7)));
    let log = store.log(id).unwrap();
    assert_eq!(log.bounds().log_end, Offset(102));
    assert_eq!(log.high_watermark_checkpoint(), Offset(60));
    assert_eq!(log.last_epoch(), LeaderEpoch(0));
    assert_eq!(
        read_all(&log, &host, Offset(0), Offset(102), 300).await,
        expected
    );
    store.delete(id).await.unwrap();
    assert!(!dir.path().join("t-0").exists());
    assert!(told.offline.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_not_closed_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let (told, host) = (Arc::new(Told::default()), real_host());
    let options = options(dir.path(), host.clone(), told.clone());
    let (store, _) = Store::open(options.clone()).await.unwrap();
    let log = store
        .create(partition(1, 0), &topic("t"), small())
        .await
        .unwrap();
    let mut expected = Vec::new();
    for n in 0..20u8 {
        let batch = Batch {
            seed: n,
            producer: (7, 0, i32::from(n) * 3),
            ..Batch::default()
        };
        append(&log, batch);
        expected.extend_from_slice(&batch.stored(i64::from(n) * 3, 0));
    }
    log.make_durable().await.unwrap();
    let mut relaxed = small();
    relaxed.durability = Durability::PageCache;
    log.reconfigure(relaxed);
    drop((store, log));

    let (store, report) = reopen(&options).await;
    assert!(report.scanned_segments > 1, "{report:?}");
    assert_eq!(report.clean_shutdown, None);
    let log = store.log(partition(1, 0)).unwrap();
    assert_eq!(
        read_all(&log, &host, Offset(0), Offset(60), 1).await,
        expected
    );
    let producers = log.producers();
    assert_eq!((producers.len(), producers[0].last_sequence.0), (1, 59));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_compressed_batches_are_found_by_their_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let (told, host) = (Arc::new(Told::default()), real_host());
    let (store, _) = Store::open(options(dir.path(), host, told)).await.unwrap();
    let id = partition(1, 0);
    let log = store.create(id, &topic("t"), small()).await.unwrap();
    for codec in [Compression::Gzip, Compression::Zstd] {
        let mut batch = BatchBuilder::compressed(codec);
        let start = 1_000 * log.bounds().log_end.get();
        for time in [10, 40, 20, 30] {
            batch.push(Timestamp(start + time), None, Some(b"v"), &[]);
        }
        let built = batch.build().unwrap();
        append_as_leader(&log, built, LeaderEpoch(0), Timestamp(1)).unwrap();
    }
    for (time, offset) in [(0, 0), (11, 1), (40, 1), (41, 4), (4_021, 5)] {
        let found = log.offset_for_timestamp(Timestamp(time)).await.unwrap();
        assert_eq!(found.unwrap().0, Offset(offset), "{time}");
    }
    let max = log.max_timestamp().await.unwrap().unwrap();
    assert_eq!((max.0, max.1), (Offset(5), Timestamp(4_040)));
}
