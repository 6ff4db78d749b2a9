//! Old segments go, by time and by size, and nothing goes early.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use millrace_host::Host;
use millrace_host::disk::sim::SimDisk;
use millrace_model::{Offset, Timestamp};
use millrace_storage::{Log, LogSettings, ReadError, Store};

use crate::support::*;

const HOUR_MS: i64 = 3_600_000;

struct Machine {
    sim: SimDisk,
    store: Store,
    host: Host,
    jumped: Arc<AtomicI64>,
    log: Arc<Log>,
}

impl Machine {
    async fn start(settings: LogSettings) -> Machine {
        let sim = SimDisk::new(1);
        let (host, jumped) = host_with_clock(&sim, 1);
        Machine::on(sim, host, jumped, settings).await
    }

    async fn on(
        sim: SimDisk,
        host: Host,
        jumped: Arc<AtomicI64>,
        settings: LogSettings,
    ) -> Machine {
        let mut options = options(Path::new("/data"), host.clone(), Arc::new(Told::default()));
        options.retention_check_interval = Duration::from_secs(10);
        options.initial_task_delay = Duration::ZERO;
        options.default_settings = settings.clone();
        let (store, report) = Store::open(options).await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
        let name = topic("t");
        let log = store
            .create(partition(1, 0), &name, settings)
            .await
            .unwrap();
        Machine {
            sim,
            store,
            host,
            jumped,
            log,
        }
    }

    /// Two segments, of one batch of three records each, at these times.
    async fn fill(&self, times: &[i64]) {
        for time in times {
            let batch = Batch {
                timestamp: *time,
                value_bytes: 60,
                ..Batch::default()
            };
            append(&self.log, batch);
        }
        self.log.make_durable().await.unwrap();
        self.log.note_high_watermark(self.log.bounds().log_end);
    }

    fn start_of_log(&self) -> i64 {
        self.log.bounds().log_start.0
    }

    fn files(&self, suffix: &str) -> Vec<String> {
        let entries = self.sim.mount().list(Path::new("/data/t-0")).unwrap();
        let names = entries.into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(suffix)).collect()
    }
}

/// A segment for each batch.
fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 300,
        retention_ms: HOUR_MS,
        timestamp_after_max_ms: i64::MAX,
        ..LogSettings::default()
    }
}

async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

const A_CHECK: Duration = Duration::from_secs(11);

#[tokio::test(start_paused = true)]
async fn segments_go_by_the_time_of_their_records_and_their_files_wait() {
    let machine = Machine::start(settings()).await;
    // The second is the newest of all: what comes after it stays until it goes.
    let times = [0, 20 * 60_000, 0, 0].map(|late| NOW.0 + late);
    machine.fill(&times).await;
    pass(Duration::from_secs(3_595)).await;
    assert_eq!(machine.start_of_log(), 0);
    pass(A_CHECK + A_CHECK).await;
    assert_eq!(machine.start_of_log(), 3);
    assert_eq!(machine.files("0000.log.deleted").len(), 1);
    pass(Duration::from_secs(70)).await;
    assert_eq!(machine.files(".deleted"), Vec::<String>::new());
    pass(Duration::from_secs(20 * 60)).await;
    // All are too old, also the active one: an empty one takes its place.
    assert_eq!(machine.start_of_log(), 12);
    assert_eq!(machine.log.bounds().log_end, Offset(12));
    assert_eq!(machine.log.durable_start(), Offset(12));
    assert_eq!(machine.files(".log"), ["00000000000000000012.log"]);
    machine.fill(&[NOW.0 + HOUR_MS * 2]).await;
    let read = read_all(&machine.log, &machine.host, Offset(12), Offset(15), 100).await;
    assert_eq!(next_offset(&read), Offset(15));

    let after = machine.sim.worst_case();
    let (host, jumped) = host_with_clock(&after, 1);
    let machine = Machine::on(after, host, jumped, settings()).await;
    let bounds = machine.log.bounds();
    assert_eq!((bounds.log_start, bounds.log_end), (Offset(12), Offset(15)));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_segments_beyond_the_size_go_and_what_is_not_committed_stays() {
    let machine = Machine::start(LogSettings {
        retention_bytes: 600,
        ..settings()
    })
    .await;
    machine.fill(&[NOW.0; 6]).await;
    let size = machine.log.size_bytes() / 6;
    machine.log.note_high_watermark(Offset(4));
    pass(A_CHECK).await;
    // Nothing moves back.
    machine.log.note_high_watermark(Offset(18));
    assert_eq!(machine.start_of_log(), 3);
    pass(A_CHECK).await;
    let left = machine.log.size_bytes() / size;
    assert!((600 / size..=600 / size + 1).contains(&left), "{left}");
    assert_eq!(machine.start_of_log(), 18 - 3 * left as i64);
    drop(machine.store);
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_nothing_goes() {
    let machine = Machine::start(LogSettings {
        retention_bytes: 0,
        delete: false,
        ..settings()
    })
    .await;
    machine.fill(&[NOW.0; 4]).await;
    pass(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(machine.start_of_log(), 0);
    // Another policy is in force at the next look.
    machine.log.reconfigure(settings());
    pass(A_CHECK).await;
    assert_eq!(machine.start_of_log(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_an_hour_deletes_nothing() {
    let machine = Machine::start(settings()).await;
    machine.fill(&[NOW.0; 4]).await;
    pass(A_CHECK).await;
    machine.jumped.store(2 * HOUR_MS, Ordering::Relaxed);
    pass(Duration::from_secs(3_500)).await;
    assert_eq!(machine.start_of_log(), 0);
    machine.jumped.store(0, Ordering::Relaxed);
    pass(Duration::from_secs(60)).await;
    assert_eq!(machine.start_of_log(), 0);
    pass(Duration::from_secs(60)).await;
    assert_eq!(machine.start_of_log(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_wait_with_what_was_deleted() {
    let machine = Machine::start(settings()).await;
    machine.fill(&[NOW.0; 4]).await;
    machine.sim.set_capacity(machine.sim.used() + 100);
    append(&machine.log, Batch::default());
    pass(Duration::from_secs(1)).await;
    assert!(machine.store.directories()[0].full);
    machine.log.advance_log_start(Offset(9));
    pass(Duration::from_secs(2)).await;
    assert!(!machine.store.directories()[0].full);
    assert_eq!(machine.log.bounds().durable_end, Offset(15));
}

#[tokio::test(start_paused = true)]
async fn a_silent_producer_is_forgotten_when_its_time_is_over() {
    let sim = SimDisk::new(1);
    let (host, _) = host_with_clock(&sim, 1);
    let mut options = options(Path::new("/data"), host, Arc::new(Told::default()));
    options.producer_expiration = Duration::from_secs(600);
    options.recovery_checkpoint_interval = Duration::from_secs(10);
    let (store, _) = Store::open(options.clone()).await.unwrap();
    let name = topic("t");
    let log = store.create(partition(1, 0), &name, settings());
    let log = log.await.unwrap();
    let from = |producer: i64, sequence: i32, late: i64| Batch {
        producer: (producer, 0, sequence),
        timestamp: NOW.0 + late,
        ..Batch::default()
    };
    let known = |log: &Log| -> Vec<i64> {
        let producers = log.producers().into_iter();
        producers.map(|producer| producer.id.0).collect()
    };
    append(&log, from(7, 0, 0));
    append(&log, from(8, 0, 300_000));
    assert!(append(&log, from(7, 0, 0)).duplicate);
    pass(Duration::from_secs(590)).await;
    assert_eq!(known(&log), [7, 8]);
    pass(Duration::from_secs(25)).await;
    assert_eq!(known(&log), [8]);
    // Whoever is not known may begin with any number; it is no duplicate.
    let again = append(&log, from(7, 0, 600_000));
    assert!(!again.duplicate && known(&log) == [7, 8]);
    // A shorter time holds from the next look on.
    store.set_producer_expiration(Duration::from_secs(60));
    pass(Duration::from_secs(25)).await;
    assert_eq!(known(&log), [7]);
    log.make_durable().await.unwrap();
    // Who was forgotten does not come back with a start that reads the batches again.
    sim.crash();
    drop((log, store));
    let (host, ahead) = host_with_clock(&sim, 1);
    ahead.store(640_000, Ordering::Relaxed);
    options.host = host;
    options.producer_expiration = Duration::from_secs(60);
    let (store, _) = Store::open(options).await.unwrap();
    pass(Duration::from_secs(11)).await;
    let log = store.log(partition(1, 0)).unwrap();
    assert!(!known(&log).contains(&8));
}

/// Offset by which readers stop: nothing is deleted beyond it.
const LAST: i64 = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_race_with_deletion_and_get_what_is_there_or_are_told_that_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let host = real_host();
    let told = Arc::new(Told::default());
    let options = options(folder.path(), host.clone(), told.clone());
    let (store, _) = Store::open(options).await.unwrap();
    let settings = LogSettings {
        file_delete_delay_ms: 0,
        index_interval_bytes: 1,
        ..settings()
    };
    let name = topic("t");
    let log = store.create(partition(1, 0), &name, settings);
    let log = log.await.unwrap();
    for n in 0..LAST / 3 {
        let batch = Batch {
            timestamp: NOW.0 + n * 10,
            seed: n as u8,
            ..Batch::default()
        };
        append(&log, batch);
    }
    log.make_durable().await.unwrap();
    log.note_high_watermark(Offset(LAST));
    let reader = |step: i64| {
        let (log, host) = (log.clone(), host.clone());
        tokio::spawn(async move {
            let (mut got, mut gone, mut n) = (0, 0, 0);
            while log.bounds().log_start < Offset(LAST - 3) {
                n = (n + step) % (LAST / 3);
                let start = log.bounds().log_start;
                let read = match log.read(Offset(n * 3), 1, Offset(LAST), true) {
                    Ok(plan) => plan.load(&host.tasks).await,
                    Err(error) => Err(error),
                };
                match read {
                    Ok(loaded) => {
                        assert_eq!(next_offset(&loaded.concat()), Offset(n * 3 + 3));
                        got += 1;
                    }
                    Err(ReadError::OutOfRange { from, .. }) => {
                        assert!(from < log.bounds().log_start, "{from}");
                        gone += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
                let time = Timestamp(NOW.0 + n * 10);
                let (at, _, _) = log.offset_for_timestamp(time).await.unwrap().unwrap();
                assert!(at >= start && at >= Offset(n * 3), "{at} {start}");
            }
            (got, gone)
        })
    };
    let readers = [reader(1), reader(7), reader(101)];
    for start in 1..=LAST / 3 - 1 {
        log.advance_log_start(Offset(start * 3));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for reader in readers {
        let (got, gone) = reader.await.unwrap();
        assert!(got > 0 && gone > 0, "{got} {gone}");
    }
    assert_eq!(*told.offline.lock().unwrap(), Vec::<String>::new());
}
