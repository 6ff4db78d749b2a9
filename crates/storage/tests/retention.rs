//! Old segments go, by time and by size, and nothing goes early.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use millrace_host::Host;
use millrace_host::disk::sim::SimDisk;
use millrace_model::Offset;
use millrace_storage::{Log, LogSettings, Store};

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
