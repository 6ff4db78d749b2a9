//! Disks that fail or fill up at the worst moment, one scenario a test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Host;
use millrace_host::disk::sim::{Fault, Operation, SimDisk};
use millrace_model::{
    BrokerEpoch, DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionId, Timestamp, Uuid,
};
use millrace_protocol::batch::{BatchBuilder, BatchHeader, RecordSet};
use millrace_protocol::compression::Compression;
use millrace_storage::{
    AppendError, DirectoryState, Log, LogDirectory, LogSettings, Packing, StorageError, Store,
    StoreOptions,
};

use crate::support::*;

struct Broker {
    store: Store,
    host: Host,
    told: Arc<Told>,
}

impl Broker {
    async fn start(sim: &SimDisk) -> Broker {
        let (host, told) = (sim_host(sim, 1), Arc::new(Told::default()));
        let mut options = options(Path::new("/data"), host.clone(), told.clone());
        options.default_settings = settings();
        let (store, report) = Store::open(options).await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        Broker { store, host, told }
    }

    async fn log(&self, index: i32) -> Arc<Log> {
        let (id, name) = (partition(1, index), topic("t"));
        self.store.create(id, &name, settings()).await.unwrap()
    }

    fn durable(&self, index: i32) -> Option<Offset> {
        let durable = self.told.durable.lock().unwrap();
        durable.get(&partition(1, index)).copied()
    }
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 300,
        index_interval_bytes: 100,
        ..LogSettings::default()
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// A batch of three records that tells from which place it is.
fn batch(seed: u8) -> Batch {
    Batch {
        seed,
        ..Batch::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_sync_lost_is_never_believed_again() {
    for full in [false, true] {
        let sim = SimDisk::new(1);
        let broker = Broker::start(&sim).await;
        let log = broker.log(0).await;
        append(&log, batch(1));
        log.make_durable().await.unwrap();
        sim.inject(Fault {
            times: 1,
            ..Fault::broken(Operation::Sync, ".log")
        });
        append(&log, batch(2));
        pause().await;
        if full {
            sim.set_capacity(0);
        }
        assert_eq!(broker.durable(0), Some(Offset(3)));
        assert_eq!(broker.told.offline.lock().unwrap().len(), 1);
        // The next sync would succeed, and must not be tried.
        assert!(matches!(
            log.make_durable().await,
            Err(StorageError::Offline(_))
        ));
        let refused = append_as_leader(&log, batch(3).bytes(), log.last_epoch(), Timestamp(2_000));
        assert!(matches!(refused, Err(AppendError::Offline)));
        assert!(log.read(Offset(0), 100, Offset(3), true).is_err());
        let closed = broker.store.close(BrokerEpoch(1)).await;
        assert!(matches!(closed, Err(StorageError::Offline(_))));

        // The process goes, the cache stays and still shows the second batch.
        sim.kill();
        drop((broker, log));
        sim.set_capacity(u64::MAX);
        let broker = Broker::start(&sim).await;
        let log = broker.log(0).await;
        assert_eq!(log.bounds().log_end, Offset(3), "full: {full}");
        append(&log, batch(4));
        log.make_durable().await.unwrap();
        sim.crash();
        drop((broker, log));
        let broker = Broker::start(&sim).await;
        let log = broker.log(0).await;
        let read = read_all(&log, &broker.host, Offset(0), Offset(6), 1).await;
        let wanted = [batch(1).stored(0, 0), batch(4).stored(3, 0)].concat();
        assert_eq!(read, wanted, "full: {full}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_of_names_takes_the_directory_offline() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let log = broker.log(0).await;
    for seed in 0..2 {
        append(&log, batch(seed));
    }
    log.make_durable().await.unwrap();
    // The next batch needs a new segment; its file can be synced, its name cannot.
    sim.set_tells_errors(false);
    sim.inject(Fault {
        after: 1,
        ..Fault::broken(Operation::Sync, "t-0")
    });
    append(&log, batch(2));
    pause().await;
    assert_eq!(broker.durable(0), Some(Offset(6)));
    assert_eq!(broker.told.offline.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_emptied_does_not_come_back_shorter() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let log = broker.log(0).await;
    for seed in 0..2 {
        append(&log, batch(seed));
    }
    log.make_durable().await.unwrap();
    // The next segment cannot be written, and everything before it is deleted.
    sim.set_capacity(sim.used());
    append(&log, batch(2));
    pause().await;
    log.advance_log_start(Offset(6));
    pause().await;
    assert_eq!(broker.durable(0), Some(Offset(6)));
    let after_power_cut = sim.worst_case();
    let recovered = Broker::start(&after_power_cut).await;
    assert_eq!(recovered.log(0).await.bounds().log_end, Offset(6));

    // Deleting goes on when there is room.
    sim.set_capacity(u64::MAX);
    pause().await;
    assert_eq!(broker.durable(0), Some(Offset(9)));
    let files = sim.mount().list(Path::new("/data/t-0")).unwrap();
    assert!(
        files
            .iter()
            .all(|file| !file.name.starts_with("00000000000000000000."))
    );
    let recovered = Broker::start(&sim.worst_case()).await;
    let bounds = recovered.log(0).await.bounds();
    assert_eq!((bounds.log_start, bounds.log_end), (Offset(6), Offset(9)));
}

#[tokio::test(start_paused = true)]
async fn a_group_of_appends_shares_its_syncs() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let mut large = settings();
    large.segment_bytes = 1 << 30;
    let mut logs = Vec::new();
    for index in 0..12 {
        let log = broker.log(index).await;
        log.reconfigure(large.clone());
        append(&log, batch(0));
        logs.push(log);
    }
    pause().await;
    for (busy, most) in [(1, 1), (3, 3), (12, 1)] {
        let (syncs, commits) = (sim.syncs(), *broker.told.commits.lock().unwrap());
        for log in &logs[..busy] {
            for seed in 0..100 {
                append(log, batch(seed));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (index, log) in logs[..busy].iter().enumerate() {
            assert_eq!(broker.durable(index as i32), Some(log.bounds().log_end));
        }
        assert_eq!(*broker.told.commits.lock().unwrap() - commits, 1);
        assert_eq!(sim.syncs() - syncs, most, "{busy} logs");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_in_behind_a_clean_stop() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let log = broker.log(0).await;
    append(&log, batch(0));
    let (closed, cut) = tokio::join!(broker.store.close(BrokerEpoch(3)), async {
        tokio::time::sleep(Duration::from_micros(1_500)).await;
        let late = append_as_leader(&log, batch(1).bytes(), log.last_epoch(), Timestamp(2_000));
        assert!(matches!(late, Err(AppendError::Offline)), "{late:?}");
        log.truncate_to(Offset(0)).await
    });
    closed.unwrap();
    assert!(matches!(cut, Err(StorageError::Offline(_))), "{cut:?}");
    drop((broker, log));
    pause().await;
    let broker = Broker::start(&sim.worst_case()).await;
    assert_eq!(broker.log(0).await.bounds().log_end, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn many_logs_are_written_and_closed_with_few_files_open() {
    for tells_errors in [true, false] {
        let sim = SimDisk::new(1);
        sim.set_tells_errors(tells_errors);
        let (host, told) = (sim_host(&sim, 1), Arc::new(Told::default()));
        let mut options = options(Path::new("/data"), host, told.clone());
        options.max_open_files = 10;
        let (store, _) = Store::open(options.clone()).await.unwrap();
        let mut logs = Vec::new();
        for index in 0..1_500 {
            let log = store
                .create(partition(1, index), &topic("t"), settings())
                .await;
            logs.push(log.unwrap());
        }
        for log in &logs {
            append(log, batch(1));
        }
        pause().await;
        assert_eq!(told.durable.lock().unwrap().len(), logs.len());
        let after_writing = sim.syncs();
        store.close(BrokerEpoch(1)).await.unwrap();
        assert!(sim.most_open() < 1_100, "{}", sim.most_open());
        if tells_errors {
            assert!(sim.syncs() - after_writing < 20, "{}", sim.syncs());
        }
        drop((store, logs));
        pause().await;
        options.host = sim_host(&sim.worst_case(), 1);
        let (store, report) = Store::open(options).await.unwrap();
        assert_eq!(report.clean_shutdown, Some(BrokerEpoch(1)), "{report:?}");
        assert!(
            store
                .logs()
                .iter()
                .all(|log| log.bounds().log_end == Offset(3))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn idle_logs_hold_no_files_and_change_nothing() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let mut logs = Vec::new();
    for index in 0..200 {
        logs.push(broker.log(index).await);
    }
    assert_eq!(
        (broker.store.open_files(), broker.store.tail_bytes()),
        (0, 0)
    );
    // The first checkpoints name the new logs.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let changes = sim.changes();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(sim.changes(), changes);
    assert_eq!(broker.store.open_files(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_is_left_to_what_makes_room() {
    let sim = SimDisk::new(1);
    sim.set_capacity(20_000);
    let (host, told) = (sim_host(&sim, 1), Arc::new(Told::default()));
    let mut options = options(Path::new("/data"), host.clone(), told.clone());
    options.reserve_bytes = Some(5_000);
    let (store, _) = Store::open(options).await.unwrap();
    let name = topic("t");
    let log = store
        .create(partition(1, 0), &name, settings())
        .await
        .unwrap();
    let appended = async || {
        let before = log.bounds().log_end;
        for n in 0..200 {
            let batch = batch(n as u8).bytes();
            if append_as_leader(&log, batch, log.last_epoch(), Timestamp(2_000)).is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        log.bounds().log_end > before
    };
    assert!(appended().await);
    let directory = store.directories().remove(0);
    assert!(
        directory.full && directory.free_bytes > 4_000,
        "{directory:?}"
    );
    // What was taken in is durable, and stays readable.
    let end = log.bounds().log_end;
    assert_eq!(log.bounds().durable_end, end);
    read_all(&log, &host, Offset(0), end, 1_000).await;
    // Deleting needs room itself, and makes more.
    log.advance_log_start(Offset(end.0 / 2));
    pause().await;
    assert!(!store.directories()[0].full);
    assert!(appended().await);
    assert!(told.offline.lock().unwrap().is_empty());
}

/// Two directories, `/a` and `/b`.
fn two_directories(sim: &SimDisk) -> (StoreOptions, Host, Arc<Told>) {
    let (host, told) = (sim_host(sim, 1), Arc::new(Told::default()));
    let mut options = options(Path::new("/a"), host.clone(), told.clone());
    options.directories.push(LogDirectory {
        path: "/b".into(),
        id: DirectoryId(Uuid([8; 16])),
    });
    (options, host, told)
}

/// Makes twelve logs with a batch each, of which every directory gets half, and ends the process.
async fn filled_and_killed(sim: &SimDisk) -> Vec<PartitionId> {
    let (options, ..) = two_directories(sim);
    let first = options.directories[0].id;
    let (store, _) = Store::open(options).await.unwrap();
    let mut in_first = Vec::new();
    for index in 0..12 {
        let id = partition(1, index);
        let log = store.create(id, &topic("t"), settings()).await.unwrap();
        append(&log, batch(1));
        log.make_durable().await.unwrap();
        if log.directory_id() == first {
            in_first.push(id);
        }
    }
    assert_eq!(in_first.len(), 6, "new logs go where there are fewest");
    sim.kill();
    in_first
}

#[tokio::test(start_paused = true)]
async fn an_error_while_a_log_is_opened_takes_its_directory_offline() {
    let sim = SimDisk::new(1);
    let lost = filled_and_killed(&sim).await;
    for operation in [Operation::Open, Operation::Read] {
        sim.inject(Fault {
            after: 3,
            times: 1,
            ..Fault::broken(operation, "/a/t-")
        });
        let (options, ..) = two_directories(&sim);
        let first = options.directories[0].id;
        let (store, report) = Store::open(options).await.unwrap();
        assert_eq!(report.logs, 6, "{report:?}");
        assert_eq!(report.offline.len(), 1, "{report:?}");
        let states = store.directories();
        let failed: Vec<_> = states.iter().filter(|d| d.offline.is_some()).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(
            (failed[0].id, failed[0].path.as_path()),
            (first, Path::new("/a"))
        );
        assert!(lost.iter().all(|id| store.log(*id).is_none()));
        // What is in there is made nowhere else; what is new is made elsewhere.
        let make = async |id, place| {
            let name = topic("t");
            store.create_in(id, &name, settings(), place).await
        };
        let refused = make(lost[0], Some(first)).await;
        assert!(
            matches!(refused, Err(StorageError::Offline(_))),
            "{:?}",
            refused.err()
        );
        let made = make(partition(1, 77), None).await.unwrap();
        assert_ne!(made.directory_id(), first);
        store.delete(made.id()).await.unwrap();
        sim.heal();
        sim.kill();
    }
    // An error that has passed has lost nothing.
    let (options, host, _) = two_directories(&sim);
    let (store, report) = Store::open(options).await.unwrap();
    assert_eq!((report.logs, report.offline.len()), (12, 0), "{report:?}");
    for id in lost {
        let log = store.log(id).unwrap();
        let read = read_all(&log, &host, Offset(0), Offset(3), 100).await;
        assert_eq!(read, batch(1).stored(0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_where_every_directory_fails() {
    let sim = SimDisk::new(1);
    filled_and_killed(&sim).await;
    sim.inject(Fault::broken(Operation::Open, "/t-"));
    let opened = Store::open(two_directories(&sim).0).await;
    assert!(matches!(opened, Err(StorageError::NoDirectory(_))));
    // Somebody else may try its luck.
    sim.heal();
    assert!(Store::open(two_directories(&sim).0).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn logs_that_find_no_room_are_opened_once_there_is_some() {
    let sim = SimDisk::new(1);
    filled_and_killed(&sim).await;
    // Recovery writes indexes.
    sim.set_capacity(sim.used());
    let (options, host, told) = two_directories(&sim);
    let (store, report) = Store::open(options).await.unwrap();
    assert_eq!((report.logs, report.offline.len()), (0, 0), "{report:?}");
    assert_eq!(store.unopened().len(), 12);
    assert!(store.directories().iter().all(|directory| directory.full));
    let name = topic("t");
    let refused = store.create(partition(1, 0), &name, settings()).await;
    assert!(
        matches!(refused, Err(StorageError::NoSpace)),
        "{:?}",
        refused.err()
    );
    // What nobody wants any more goes without being opened, and makes room.
    store.delete(partition(1, 11)).await.unwrap();
    let left = sim.mount().list(Path::new("/b")).unwrap();
    assert!(
        left.iter().all(|entry| !entry.name.starts_with("t-11")),
        "{left:?}"
    );
    // Nothing is tried all the time.
    let changes = sim.changes();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(sim.changes() - changes < 100, "{}", sim.changes() - changes);
    sim.set_capacity(u64::MAX);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.unopened(), []);
    assert_eq!(store.logs().len(), 11);
    for log in store.logs() {
        let read = read_all(&log, &host, Offset(0), Offset(3), 100).await;
        assert_eq!(read, batch(1).stored(0, 0));
        append(&log, batch(2));
        log.make_durable().await.unwrap();
    }
    assert!(store.directories().iter().all(|directory| !directory.full));
    assert!(told.offline.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_disappears_goes_offline() {
    let sim = SimDisk::new(1);
    let (options, _, told) = two_directories(&sim);
    let (store, _) = Store::open(options).await.unwrap();
    pause().await;
    sim.mount().remove_directory(Path::new("/b")).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(told.offline.lock().unwrap().len(), 1);
    let failed = |directory: &DirectoryState| directory.offline.is_some();
    let states = store.directories();
    assert_eq!(states.iter().map(failed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn batches_are_packed_as_the_topic_asks_for() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let log = broker.log(0).await;
    let mut builder = BatchBuilder::compressed(Compression::Lz4);
    for n in 0..5 {
        builder.push(Timestamp(1_000 + n), Some(b"key"), Some(&[7; 200]), &[]);
    }
    let sent = builder.build().unwrap();
    let packed_by = |codec, level| LogSettings {
        segment_bytes: 1 << 20,
        compression: Some(Packing { codec, level }),
        ..settings()
    };
    for (codec, level) in [
        (Compression::None, None),
        (Compression::Gzip, Some(9)),
        (Compression::Zstd, Some(-5)),
        (Compression::Snappy, None),
        (Compression::Lz4, None),
    ] {
        log.reconfigure(packed_by(codec, level));
        let appended = append_as_leader(&log, sent.clone(), LeaderEpoch(0), Timestamp(2_000));
        let from = appended.unwrap().first;
        log.make_durable().await.unwrap();
        let stored = read_all(&log, &broker.host, from, log.bounds().log_end, 1).await;
        assert_eq!(
            BatchHeader::parse(&stored).unwrap().compression(),
            Ok(codec)
        );
        let set = RecordSet::of_batch(&stored, 1 << 20).unwrap();
        let times = set.iter().map(|record| record.unwrap().timestamp.0);
        assert_eq!(
            times.collect::<Vec<_>>(),
            [1_000, 1_001, 1_002, 1_003, 1_004]
        );
    }
    // What is too large once it is unpacked is refused.
    log.reconfigure(LogSettings {
        max_message_bytes: 500,
        ..packed_by(Compression::None, None)
    });
    let refused = append_as_leader(&log, sent, LeaderEpoch(0), Timestamp(2_000));
    let Err(AppendError::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, ErrorCode::MessageTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_takes_no_new_log_goes_offline() {
    let sim = SimDisk::new(1);
    let broker = Broker::start(&sim).await;
    let log = broker.log(0).await;
    sim.inject(Fault {
        times: 1,
        ..Fault::broken(Operation::Write, "partition.metadata")
    });
    let (id, name) = (partition(1, 1), topic("t"));
    let refused = broker.store.create(id, &name, settings()).await.err();
    assert!(
        matches!(refused, Some(StorageError::Io { .. })),
        "{refused:?}"
    );
    assert!(log.is_offline(), "as every other failure of a disk");
    assert!(
        !sim.mount().exists(Path::new("/data/t-1")),
        "nothing half made is left"
    );
}
