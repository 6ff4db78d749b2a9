//! Logs move between directories while they are used, and whatever cuts a move off.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Host;
use millrace_host::disk::sim::{Fault, Operation, SimDisk};
use millrace_model::{BrokerEpoch, DirectoryId, LeaderEpoch, Offset, Timestamp, Uuid};
use millrace_storage::{
    AppendError, Log, LogDirectory, LogSettings, MoveRefusal, Store, StoreOptions,
};

use crate::support::*;

const A: &str = "/a";
const B: &str = "/b";

fn two(sim: &SimDisk) -> (StoreOptions, Host, Arc<Told>) {
    let (host, told) = (sim_host(sim, 1), Arc::new(Told::default()));
    let mut options = options(Path::new(A), host.clone(), told.clone());
    options.directories.push(LogDirectory {
        path: B.into(),
        id: DirectoryId(Uuid([8; 16])),
    });
    (options, host, told)
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 3_000,
        index_interval_bytes: 100,
        ..LogSettings::default()
    }
}

async fn made(store: &Store) -> Arc<Log> {
    let id = partition(1, 0);
    store.create(id, &topic("t"), settings()).await.unwrap()
}

fn batch(n: i64) -> Batch {
    Batch {
        seed: n as u8,
        ..Batch::default()
    }
}

/// What so many batches are in the log.
fn stored(count: i64) -> Vec<u8> {
    let all = (0..count).map(|n| batch(n).stored(n * 3, 0));
    all.collect::<Vec<_>>().concat()
}

async fn check(log: &Log, host: &Host, count: i64) {
    assert_eq!(log.bounds().log_end, Offset(count * 3));
    let read = read_all(log, host, log.bounds().log_start, Offset(count * 3), 500).await;
    let all = stored(count);
    assert!(all.ends_with(&read), "{count}");
}

async fn moved(store: &Store) {
    while !store.futures().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_moves_while_it_is_appended_to_and_read() {
    let sim = SimDisk::new(1);
    let (options, host, told) = two(&sim);
    let ids: Vec<_> = options
        .directories
        .iter()
        .map(|directory| directory.id)
        .collect();
    let (store, _) = Store::open(options.clone()).await.unwrap();
    let log = made(&store).await;
    let mut count = 0;
    for _ in 0..200 {
        append(&log, batch(count));
        count += 1;
    }
    log.make_durable().await.unwrap();
    for (path, id) in [(B, ids[1]), (A, ids[0]), (B, ids[1])] {
        store.move_log(log.id(), Path::new(path)).unwrap();
        assert_eq!(store.futures().len(), 1);
        while !store.futures().is_empty() {
            let bytes = batch(count).bytes();
            match append_as_leader(&log, bytes, LeaderEpoch(0), Timestamp(2_000)) {
                Ok(_) => count += 1,
                Err(AppendError::Busy) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
            check(&log, &host, count).await;
        }
        assert_eq!(log.directory_id(), id);
        check(&log, &host, count).await;
        append(&log, batch(count));
        count += 1;
        log.make_durable().await.unwrap();
    }
    assert_eq!(told.durable.lock().unwrap()[&log.id()], Offset(count * 3));
    log.advance_log_start(Offset(30));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What lies on the disks is one log in one place, in order.
    let store_after = |options: StoreOptions, sim: SimDisk| async move {
        let options = StoreOptions {
            host: sim_host(&sim, 1),
            ..options
        };
        let (store, report) = Store::open(options).await.unwrap();
        assert!(report.failed.is_empty() && report.logs == 1, "{report:?}");
        let log = store.log(partition(1, 0)).unwrap();
        assert_eq!(log.directory_id(), ids[1]);
        assert_eq!(log.bounds().log_start, Offset(30));
        check(&log, &host, count).await;
    };
    store_after(options.clone(), sim.worst_case()).await;
    store.close(BrokerEpoch(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_step_of_a_move_loses_nothing() {
    let (mut places, mut in_both) = ([0, 0], 0);
    for changes in 1..400 {
        let sim = SimDisk::new(changes);
        let (options, _, _) = two(&sim);
        let (store, _) = Store::open(options.clone()).await.unwrap();
        let log = made(&store).await;
        for n in 0..150 {
            append(&log, batch(n));
        }
        log.make_durable().await.unwrap();
        sim.crash_after(changes);
        store.move_log(log.id(), Path::new(B)).unwrap();
        tokio::time::timeout(Duration::from_secs(20), moved(&store))
            .await
            .unwrap();
        sim.crash();
        drop((log, store));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (options, host, _) = two(&sim);
        let (store, report) = Store::open(options).await.unwrap();
        assert!(report.failed.is_empty(), "{changes}: {report:?}");
        let log = store.log(partition(1, 0)).unwrap();
        check(&log, &host, 150).await;
        let aside = |path| {
            let entries = sim.mount().list(Path::new(path)).unwrap();
            entries.iter().any(|entry| entry.name.ends_with("-stray"))
        };
        in_both += usize::from(aside(A) || aside(B));
        places[usize::from(log.directory_id() == DirectoryId(Uuid([8; 16])))] += 1;
        append(&log, batch(150));
        log.make_durable().await.unwrap();
        check(&log, &host, 151).await;
    }
    assert!(places[0] > 10 && places[1] > 10, "{places:?}");
    assert!(in_both > 0, "between the two renames");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_fails_leaves_the_log_where_it_was() {
    for operation in [Operation::Write, Operation::Sync, Operation::Open] {
        let sim = SimDisk::new(1);
        sim.set_tells_errors(false);
        let (options, host, _) = two(&sim);
        let (store, _) = Store::open(options).await.unwrap();
        let log = made(&store).await;
        for n in 0..150 {
            append(&log, batch(n));
        }
        log.make_durable().await.unwrap();
        sim.inject(Fault {
            after: 2,
            ..Fault::broken(operation, "-future")
        });
        store.move_log(log.id(), Path::new(B)).unwrap();
        moved(&store).await;
        append(&log, batch(150));
        log.make_durable().await.unwrap();
        check(&log, &host, 151).await;
        let left = sim.mount().list(Path::new(B)).unwrap();
        assert!(
            left.iter().all(|entry| !entry.name.starts_with("t-0")),
            "{left:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn moves_are_refused_cancelled_and_throttled() {
    let sim = SimDisk::new(1);
    let (options, host, _) = two(&sim);
    let (store, _) = Store::open(options).await.unwrap();
    let log = made(&store).await;
    for n in 0..300 {
        append(&log, batch(n));
    }
    log.make_durable().await.unwrap();
    let begin = |path: &str| store.move_log(log.id(), Path::new(path));
    assert_eq!(begin("/c"), Err(MoveRefusal::NoDirectory));
    let nobody = store.move_log(partition(1, 7), Path::new(B));
    assert_eq!(nobody, Err(MoveRefusal::NoLog));
    assert_eq!(begin(A), Ok(()));
    assert_eq!(store.futures(), []);
    // It takes as long as the rate says, and tells how far it is.
    let size = log.size_bytes();
    store.set_move_rate(Some(size / 10));
    assert_eq!(begin(B), Ok(()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let future = store.futures().remove(0);
    assert!(
        future.size_bytes > 0 && future.missing_bytes > 0,
        "{future:?}"
    );
    assert_eq!(future.size_bytes + future.missing_bytes, size);
    // Asked back, it stays.
    assert_eq!(begin(A), Ok(()));
    assert_eq!(store.futures(), []);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(log.directory_id(), DirectoryId(Uuid([9; 16])));
    check(&log, &host, 300).await;
    let left = sim.mount().list(Path::new(B)).unwrap();
    assert!(
        left.iter().all(|entry| !entry.name.starts_with("t-0")),
        "{left:?}"
    );
    // A log that is deleted on its way is gone from both.
    assert_eq!(begin(B), Ok(()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.delete(log.id()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(90)).await;
    for path in [A, B] {
        let left = sim.mount().list(Path::new(path)).unwrap();
        assert!(
            left.iter().all(|entry| !entry.name.starts_with("t-0")),
            "{left:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn moves_take_turns_and_share_one_rate() {
    let copied = |store: &Store| -> Vec<u64> {
        let futures = store.futures();
        futures.iter().map(|future| future.size_bytes).collect()
    };
    for (at_a_time, begun) in [(1, 1), (2, 2)] {
        let sim = SimDisk::new(1);
        let (mut options, _, _) = two(&sim);
        options.moves_at_a_time = Some(at_a_time);
        let (store, _) = Store::open(options).await.unwrap();
        let mut size = 0;
        for index in 0..3 {
            let id = partition(1, index);
            let log = store.create(id, &topic("t"), settings()).await.unwrap();
            for n in 0..300 {
                append(&log, batch(n));
            }
            log.make_durable().await.unwrap();
            let away = if log.directory_id() == DirectoryId(Uuid([8; 16])) {
                A
            } else {
                B
            };
            size = log.size_bytes();
            // All three together take half a minute.
            store.set_move_rate(Some(size / 10));
            store.move_log(id, Path::new(away)).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = copied(&store);
        assert_eq!(now.iter().filter(|bytes| **bytes > 0).count(), begun);
        let all: u64 = now.iter().sum();
        assert!((size / 4..size).contains(&all), "{now:?} of {size}");
        // A rate that changes holds at once.
        store.set_move_rate(None);
        tokio::time::timeout(Duration::from_secs(5), moved(&store))
            .await
            .unwrap();
    }
}
