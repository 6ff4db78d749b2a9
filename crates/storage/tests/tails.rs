//! What of the newest batches stays in memory, and for how long; and what the first batches of many
//! new logs cost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::disk::OpenMode;
use millrace_host::disk::sim::SimDisk;
use millrace_model::{Durability, Offset};
use millrace_storage::{Flaw, Log, LogSettings, StorageError, Store};

use crate::support::*;

/// A store on a simulated machine.
async fn store(sim: &SimDisk) -> Store {
    let told = Arc::new(Told::default());
    let options = options(Path::new("/data"), sim_host(sim, 1), told);
    Store::open(options).await.unwrap().0
}

async fn log(store: &Store, index: i32, durability: Durability) -> Arc<Log> {
    let settings = LogSettings {
        durability,
        ..LogSettings::default()
    };
    let name = topic("t");
    store
        .create(partition(1, index), &name, settings)
        .await
        .unwrap()
}

async fn written(log: &Log) {
    while log.bounds().durable_end < log.bounds().log_end {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn batches_of_leaders_leave_memory_as_soon_as_they_are_written() {
    let sim = SimDisk::new(1);
    let store = store(&sim).await;
    let log = log(&store, 0, Durability::PageCache).await;
    let batch = Batch::default().stored(0, 0);
    log.append_as_follower(Offset(0), batch.clone()).unwrap();
    assert_eq!(store.tail_bytes(), batch.len());
    written(&log).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(store.tail_bytes(), 0);
    let host = sim_host(&sim, 1);
    assert_eq!(
        read_all(&log, &host, Offset(0), Offset(3), 1000).await,
        batch
    );
}

#[tokio::test(start_paused = true)]
async fn batches_of_clients_stay_for_those_who_keep_up_and_then_go() {
    let sim = SimDisk::new(1);
    let store = store(&sim).await;
    let log = log(&store, 0, Durability::PageCache).await;
    append(&log, Batch::default());
    written(&log).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.tail_bytes() > 0);
    assert!(
        !log.read(Offset(0), 1000, Offset(3), true)
            .unwrap()
            .is_cold()
    );
    // Nothing more is appended: it is time alone that has them go.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.tail_bytes(), 0);
}

/// Syncs for the first batches of fifty new logs, one after the other.
async fn syncs_of_first_batches(durability: Durability) -> u64 {
    let sim = SimDisk::new(1);
    let store = store(&sim).await;
    let mut logs = Vec::new();
    for index in 0..50 {
        logs.push(log(&store, index, durability).await);
    }
    let before = sim.syncs();
    for log in &logs {
        append(log, Batch::default());
        written(log).await;
    }
    sim.syncs() - before
}

#[tokio::test(start_paused = true)]
async fn one_sync_settles_all_new_logs() {
    // Beside it each batch has its own: of its file, and of the file's name.
    assert_eq!(syncs_of_first_batches(Durability::Fsync).await, 1 + 2 * 50);
}

#[tokio::test(start_paused = true)]
async fn the_page_cache_is_written_to_without_a_sync() {
    assert_eq!(syncs_of_first_batches(Durability::PageCache).await, 0);
}

/// What is the matter with a log whose identity is `found` after a power cut.
async fn flaw(identity: Option<&str>, committed: bool) -> Option<Flaw> {
    let sim = SimDisk::new(1);
    let first = store(&sim).await;
    let log_before = log(&first, 0, Durability::PageCache).await;
    append(&log_before, Batch::default());
    written(&log_before).await;
    log_before.note_high_watermark(Offset(if committed { 3 } else { 0 }));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (disk, path) = (sim.mount(), Path::new("/data/t-0"));
    drop((first, log_before));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let file = path.join("partition.metadata");
    disk.remove_file(&file).unwrap();
    if let Some(content) = identity {
        let file = disk.open(&file, OpenMode::Create).unwrap();
        let content = Bytes::copy_from_slice(content.as_bytes());
        file.write_at(&[content], 0).unwrap();
    }
    let second = store(&sim).await;
    let (name, flaw) = (topic("t"), second.unusable(&topic("t"), 0));
    assert!(disk.exists(path), "nothing is done without being asked for");
    // Others are not let in, until whoever knows better has it set aside.
    let id = partition(1, 0);
    let occupied = second.create(id, &name, LogSettings::default()).await;
    assert!(matches!(occupied, Err(StorageError::Occupied { .. })));
    second.set_unusable_aside(&name, 0).await.unwrap();
    assert_eq!(second.unusable(&name, 0), None);
    let entries = disk.list(Path::new("/data")).unwrap();
    let stray = entries
        .iter()
        .filter(|entry| entry.name.ends_with("-stray"));
    assert_eq!(stray.count(), 1);
    let log_after = log(&second, 0, Durability::PageCache).await;
    assert_eq!(log_after.bounds().log_end, Offset(0));
    flaw
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_topic_tells_what_was_promised_by_it() {
    assert_eq!(flaw(None, false).await, Some(Flaw::Unborn));
    assert_eq!(flaw(Some(""), false).await, Some(Flaw::Unborn));
    assert_eq!(flaw(Some("\0\0\0\0"), true).await, Some(Flaw::Nameless));
    // No power cut leaves this.
    let damaged = "version: 0\ntopic_id: Tt6qvHRxQMuVfnceAfvNn";
    assert_eq!(flaw(Some(damaged), false).await, Some(Flaw::Damaged));
}
