//! Disks that change what they hold: damage is found wherever it is, given to nobody, and gone when
//! the log is cut there and fetched anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::Host;
use millrace_host::disk::read_file;
use millrace_host::disk::sim::SimDisk;
use millrace_model::{BrokerEpoch, LeaderEpoch, Offset, Timestamp};
use millrace_storage::{
    Flaw, Log, LogSettings, ReadError, RecoveryReport, StorageError, Store, StoreOptions,
};
use tokio::time::Instant;

use crate::support::*;

/// Records of each batch, and batches of each segment.
const RECORDS: i64 = 3;
const IN_SEGMENT: i64 = 3;
const BATCHES: i64 = 10;
const END: i64 = BATCHES * RECORDS;

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 3 * batch(0).stored(0, 0).len() as u64,
        index_interval_bytes: 1,
        ..LogSettings::default()
    }
}

fn batch(n: i64) -> Batch {
    Batch {
        seed: 10 * n as u8,
        ..Batch::default()
    }
}

/// The epoch of a batch: two leaderships, the second one begins in the middle of a segment.
fn epoch_of(n: i64) -> i32 {
    if n < 4 { 1 } else { 3 }
}

fn stored(n: i64) -> Bytes {
    batch(n).stored(n * RECORDS, epoch_of(n))
}

fn segment_file(place: i64) -> PathBuf {
    let base = place * IN_SEGMENT * RECORDS;
    Path::new("/data/t-0").join(format!("{base:020}.log"))
}

struct Machine {
    sim: SimDisk,
    host: Host,
    told: Arc<Told>,
    store: Store,
    report: RecoveryReport,
    log: Option<Arc<Log>>,
}

impl Machine {
    async fn start(sim: SimDisk, change: impl FnOnce(&mut StoreOptions)) -> Machine {
        let (host, _) = host_with_clock(&sim, 1);
        Machine::start_on(host, sim, change).await
    }

    async fn start_on(host: Host, sim: SimDisk, change: impl FnOnce(&mut StoreOptions)) -> Machine {
        let told = Arc::new(Told::default());
        let mut options = options(Path::new("/data"), host.clone(), told.clone());
        options.default_settings = settings();
        change(&mut options);
        let (store, report) = Store::open(options).await.unwrap();
        let log = store.log(partition(1, 0));
        Machine {
            sim,
            host,
            told,
            store,
            report,
            log,
        }
    }

    /// A log of ten batches, all of them durable.
    async fn make_log(&self) -> Arc<Log> {
        let (id, name) = (partition(1, 0), topic("t"));
        let log = self.store.create(id, &name, settings()).await.unwrap();
        for n in 0..BATCHES {
            let epoch = LeaderEpoch(epoch_of(n));
            append_as_leader(&log, batch(n).bytes(), epoch, Timestamp(2_000)).unwrap();
        }
        log.make_durable().await.unwrap();
        log
    }

    /// Such a log on a new disk, closed in order; the disk.
    async fn disk() -> SimDisk {
        let sim = SimDisk::new(1);
        let machine = Machine::start(sim.clone(), |_| {}).await;
        machine.make_log().await;
        machine.store.close(BrokerEpoch(1)).await.unwrap();
        sim.kill();
        sim
    }

    /// The same, on which a bit is flipped then.
    async fn rotten(place: i64, position: u64) -> SimDisk {
        let sim = Machine::disk().await;
        sim.rot(&segment_file(place), position).unwrap();
        sim
    }

    fn log(&self) -> &Arc<Log> {
        self.log.as_ref().expect("it was opened")
    }

    async fn load(&self, from: i64, sound: bool) -> Result<Vec<Bytes>, ReadError> {
        let plan = self.log().read(Offset(from), 1 << 20, Offset(END), true)?;
        match sound {
            true => plan.load_sound(&self.host.tasks).await,
            false => plan.load(&self.host.tasks).await,
        }
    }

    /// Everything from batch to batch, as somebody reads it who keeps it.
    async fn read(&self, from: i64, to: i64) -> Vec<u8> {
        let (mut all, mut at) = (Vec::new(), from * RECORDS);
        while at < to * RECORDS {
            let loaded = self.load(at, true).await.unwrap();
            assert!(!loaded.is_empty(), "nothing at {at}");
            for bytes in loaded {
                at = next_offset(&bytes).0;
                all.extend_from_slice(&bytes);
            }
        }
        all
    }

    async fn stop(self) -> SimDisk {
        let sim = self.sim.clone();
        self.sim.kill();
        drop(self);
        tokio::time::sleep(Duration::from_secs(5)).await;
        sim
    }
}

fn expected(from: i64, to: i64) -> Vec<u8> {
    (from..to).flat_map(|n| stored(n).to_vec()).collect()
}

async fn pass() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Whoever reads up to the damaged batch gets the batches before it and behind it, and nothing else;
/// then the log is cut and filled anew.
async fn check_mended(machine: &Machine, damaged: i64) {
    let context = format!("batch {damaged}");
    let log = machine.log();
    let from = Offset(damaged * RECORDS);
    assert_eq!(log.damaged_from(), Some(from), "{context}");
    assert!(
        machine.read(0, damaged).await == expected(0, damaged),
        "{context}"
    );
    for sound in [true, false] {
        for at in [from.0, from.0 + RECORDS - 1] {
            let read = machine.load(at, sound).await;
            assert!(
                matches!(read, Err(ReadError::Damaged { .. })),
                "{context}, {at}"
            );
        }
    }
    let rest = machine.read(damaged + 1, BATCHES).await;
    assert!(rest == expected(damaged + 1, BATCHES), "{context}");

    log.truncate_to(from).await.unwrap();
    assert_eq!(
        (log.bounds().log_end, log.damaged_from()),
        (from, None),
        "{context}"
    );
    for n in damaged..BATCHES {
        let base = Offset(n * RECORDS);
        log.append_as_follower(base, stored(n)).unwrap();
    }
    log.make_durable().await.unwrap();
    pass().await;
    assert!(
        machine.read(0, BATCHES).await == expected(0, BATCHES),
        "{context}"
    );
    assert!(machine.told.offline.lock().unwrap().is_empty(), "{context}");
}

#[test]
fn the_scrub_finds_every_flipped_bit_of_closed_segments() {
    let size = stored(0).len() as u64;
    // Every byte of the head, which is where anything may go wrong, and some behind it; what no
    // checksum covers in every place.
    for position in (0..61).chain([70, size - 1]) {
        let all = position < 16 && position % 3 == 0;
        for damaged in (0..2 * IN_SEGMENT).filter(|n| all || *n == position as i64 % 6) {
            simulate(async move {
                let place = (damaged % IN_SEGMENT) as u64;
                let sim = Machine::rotten(damaged / IN_SEGMENT, place * size + position).await;
                let machine = Machine::start(sim, |_| {}).await;
                assert_eq!(machine.report.clean_shutdown, Some(BrokerEpoch(1)));
                pass().await;
                let context = format!("byte {position} of batch {damaged}");
                assert_eq!(
                    machine.log().damaged_from(),
                    Some(Offset(damaged * RECORDS)),
                    "{context}"
                );
                let told = machine.told.damaged.lock().unwrap().clone();
                assert_eq!(told, [partition(1, 0)], "{context}");
                let scrubbed = machine.store.scrubbed();
                assert_eq!(
                    (scrubbed.damages, scrubbed.damaged_logs),
                    (1, 1),
                    "{context}"
                );
                check_mended(&machine, damaged).await;
                assert_eq!(machine.store.scrubbed().damaged_logs, 0, "{context}");
            });
        }
    }
}

#[test]
fn the_scrub_goes_on_when_the_clock_is_set_back() {
    const DAY_MS: i64 = 86_400_000;
    simulate(async {
        let sim = Machine::disk().await;
        let (host, ahead) = host_with_clock(&sim, 1);
        let often = |options: &mut StoreOptions| options.scrub_interval = Duration::from_secs(10);
        ahead.store(DAY_MS, Ordering::Relaxed);
        let machine = Machine::start_on(host, sim.clone(), often).await;
        pass().await;
        assert_ne!(machine.store.scrubbed().passes, 0);
        ahead.store(0, Ordering::Relaxed);
        sim.rot(&segment_file(0), 70).unwrap();
        pass().await;
        assert_eq!(machine.log().damaged_from(), Some(Offset(0)));
    });
}

#[test]
fn nothing_damaged_is_read_for_a_follower() {
    let size = stored(0).len() as u64;
    for (damaged, position) in [(0, 3), (1, 13), (2, 9), (4, 65), (5, 20), (9, 70)] {
        simulate(async move {
            let place = (damaged % IN_SEGMENT) as u64;
            let sim = Machine::rotten(damaged / IN_SEGMENT, place * size + position).await;
            // Nobody has looked before.
            let machine = Machine::start(sim, |options| options.scrub_bytes_per_second = 0).await;
            let mut at = 0;
            let ended = loop {
                match machine.load(at, true).await {
                    Ok(loaded) => {
                        let context = format!("batch {damaged}, byte {position}, at {at}");
                        assert!(!loaded.is_empty(), "{context}");
                        for bytes in loaded {
                            let n = at / RECORDS;
                            let next = next_offset(&bytes).0;
                            assert!(bytes == expected(n, next / RECORDS), "batch {damaged}");
                            at = next;
                        }
                    }
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(ended, ReadError::Damaged { .. }),
                "{damaged}: {ended}"
            );
            assert_eq!(at, damaged * RECORDS);
            assert_eq!(*machine.told.damaged.lock().unwrap(), [partition(1, 0)]);
            check_mended(&machine, damaged).await;
        });
    }
}

#[test]
fn the_gaps_that_compaction_leaves_are_no_damage() {
    simulate(async {
        let sim = SimDisk::new(1);
        let machine = Machine::start(sim, |_| {}).await;
        let id = partition(1, 0);
        let log = machine.store.create(id, &topic("t"), settings()).await;
        let log = log.unwrap();
        // As a follower gets them from a leader that compacts.
        for base in [4, 10, 30, 31_000, 31_009, 31_100, 31_200] {
            let batch = batch(1).stored(base, 1);
            let end = log.bounds().log_end;
            log.append_as_follower(end, batch).unwrap();
        }
        log.make_durable().await.unwrap();
        pass().await;
        let mut at = Offset(0);
        while at < Offset(31_203) {
            let plan = log.read(at, 1, Offset(40_000), true).unwrap();
            for bytes in plan.load_sound(&machine.host.tasks).await.unwrap() {
                at = next_offset(&bytes);
            }
        }
        assert_eq!(machine.store.scrubbed().damages, 0);
        assert_eq!(log.damaged_from(), None);
    });
}

#[test]
fn the_scrub_keeps_its_rate_and_goes_on_where_it_stood() {
    const RATE: u64 = 64 << 10;
    simulate(async {
        let sim = SimDisk::new(1);
        let large = LogSettings {
            segment_bytes: 100_000,
            ..LogSettings::default()
        };
        let start = |sim: SimDisk| {
            Machine::start(sim, |options| {
                options.scrub_bytes_per_second = RATE;
                options.scrub_interval = Duration::from_secs(3600);
            })
        };
        let machine = start(sim).await;
        for index in 0..3 {
            let id = partition(1, index);
            let log = machine.store.create(id, &topic("t"), large.clone()).await;
            let log = log.unwrap();
            for n in 0..50 {
                let batch = Batch {
                    value_bytes: 30_000,
                    ..batch(n % 20)
                };
                append(&log, batch);
            }
            log.make_durable().await.unwrap();
        }
        let closed: u64 = (0..3).map(|_| 49 * 90_000).sum();
        let began = Instant::now();
        while machine.store.scrubbed().bytes < closed / 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // It does not begin at once, and takes as long as its rate asks.
        let least = closed / 2 / RATE;
        let took = began.elapsed().as_secs();
        assert!((least..least + 40).contains(&took), "{took} s, not {least}");
        let sim = machine.stop().await;

        let machine = start(sim).await;
        while machine.store.scrubbed().passes == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let rest = machine.store.scrubbed().bytes;
        let most = closed / 2 + 70 * RATE;
        assert!(rest > closed / 4 && rest < most, "{rest} of {closed}");
        // The next pass is due an hour after this one began.
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert_eq!(machine.store.scrubbed().bytes, rest);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(machine.store.scrubbed().bytes >= rest + closed);
        // Another rate holds at once.
        machine.store.set_scrub_rate(0);
        let stopped = machine.store.scrubbed().bytes;
        tokio::time::sleep(Duration::from_secs(7200)).await;
        assert!(machine.store.scrubbed().bytes <= stopped + RATE);
    });
}

/// What a start after a crash finds where it scans what was durable.
#[test]
fn a_batch_that_was_durable_and_is_damaged_costs_no_other() {
    let size = stored(0).len() as u64;
    simulate(async move {
        // The checkpoint says that all is durable, so only the last segment is scanned.
        let sim = Machine::rotten(3, 70).await;
        let marker = Path::new("/data/.kafka_cleanshutdown");
        sim.mount().remove_file(marker).unwrap();
        let machine = Machine::start(sim, |options| options.scrub_bytes_per_second = 0).await;
        assert_eq!(machine.report.scanned_segments, 1, "{:?}", machine.report);
        assert_eq!(machine.log().bounds().log_end, Offset(END));
        check_mended(&machine, 9).await;
    });
    simulate(async move {
        // Where not even the length can be believed, nobody knows what is left.
        let sim = Machine::rotten(3, 8).await;
        let marker = Path::new("/data/.kafka_cleanshutdown");
        sim.mount().remove_file(marker).unwrap();
        let before = read_file(sim.mount().as_ref(), &segment_file(3), u64::MAX).unwrap();
        assert_eq!(before.len() as u64, size);
        let machine = Machine::start(sim, |_| {}).await;
        assert!(machine.log.is_none());
        let (id, name) = (partition(1, 0), topic("t"));
        assert_eq!(machine.store.unusable(&name, 0), Some(Flaw::Damaged));
        assert_eq!(machine.store.all_unusable(), [(name.clone(), 0)]);
        let again = machine.store.create(id, &name, settings());
        assert!(matches!(again.await, Err(StorageError::Occupied { .. })));
        // Nothing was touched, and nothing is when it makes room for a log that is fetched anew.
        machine.store.set_unusable_aside(&name, 0).await.unwrap();
        let disk = machine.sim.mount();
        let entries = disk.list(Path::new("/data")).unwrap();
        let aside = entries.iter().find(|entry| entry.name.ends_with("-stray"));
        let aside = Path::new("/data").join(&aside.unwrap().name);
        let file = aside.join(segment_file(3).file_name().unwrap());
        assert_eq!(read_file(disk.as_ref(), &file, u64::MAX).unwrap(), before);
        let log = machine.store.create(id, &name, settings());
        assert_eq!(log.await.unwrap().bounds().log_end, Offset(0));
    });
}

#[test]
fn compaction_does_not_touch_a_damaged_log() {
    simulate(async {
        let sim = Machine::rotten(1, 80).await;
        let machine = Machine::start(sim, |options| {
            options.scrub_bytes_per_second = 0;
            options.cleaner.backoff = Duration::from_secs(1);
            options.default_settings.compact = true;
            options.default_settings.min_cleanable_ppm = 0;
        })
        .await;
        machine.log().note_high_watermark(Offset(END));
        pass().await;
        // Compaction reads everything, so it finds the damage, and leaves it to who can mend it.
        let damaged = IN_SEGMENT * RECORDS;
        assert_eq!(machine.log().damaged_from(), Some(Offset(damaged)));
        assert_eq!(machine.log().bounds().log_end, Offset(END));
        assert_eq!(*machine.told.damaged.lock().unwrap(), [partition(1, 0)]);
        assert!(machine.told.offline.lock().unwrap().is_empty());
    });
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_what_was_committed_remembers_that_until_it_is_settled() {
    let sim = SimDisk::new(1);
    let change = |options: &mut StoreOptions| {
        options.recovery_checkpoint_interval = Duration::from_secs(1_000_000);
    };
    let machine = Machine::start(sim.clone(), change).await;
    let log = machine.make_log().await;
    let committed = Offset(END - RECORDS);
    log.note_high_watermark(committed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    sim.crash();
    drop((log, machine));
    // The whole log is found to end where it should, and after rot in the middle too early.
    let sound = Machine::start(sim.worst_case(), change).await;
    assert_eq!(sound.log().bounds().log_end, Offset(END));
    assert_eq!(sound.log().committed_beyond(), None);
    sim.rot(&segment_file(1), 100).unwrap();
    for _ in 0..2 {
        let machine = Machine::start(sim.clone(), change).await;
        let end = machine.log().bounds().log_end;
        assert_eq!(end, Offset(IN_SEGMENT * RECORDS));
        assert_eq!(machine.log().committed_beyond(), Some(committed));
        assert_eq!(machine.log().high_watermark_checkpoint(), end);
        // Not even the next checkpoint forgets it.
        tokio::time::sleep(Duration::from_secs(10)).await;
        sim.crash();
    }
    let machine = Machine::start(sim.clone(), change).await;
    machine.log().accept_end();
    tokio::time::sleep(Duration::from_secs(10)).await;
    sim.crash();
    let machine = Machine::start(sim.clone(), change).await;
    assert_eq!(machine.log().committed_beyond(), None);
}

/// Checksums do not cover base offsets. Whichever batch says that it is elsewhere, the log ends before
/// it, and remembers that more was committed; nothing is kept under an offset that is another's.
#[tokio::test(start_paused = true)]
async fn a_batch_that_lies_about_its_offset_ends_the_log() {
    let change = |options: &mut StoreOptions| {
        options.recovery_checkpoint_interval = Duration::from_secs(1_000_000);
        options.scrub_bytes_per_second = 0;
    };
    let sim = SimDisk::new(1);
    let machine = Machine::start(sim.clone(), change).await;
    let log = machine.make_log().await;
    log.note_high_watermark(Offset(END));
    tokio::time::sleep(Duration::from_secs(10)).await;
    sim.crash();
    drop((log, machine));
    let size = stored(0).len() as u64;
    for n in 0..BATCHES {
        for byte in 0..8 {
            let rotten = sim.worst_case();
            let position = (n % IN_SEGMENT) as u64 * size + byte;
            rotten.rot(&segment_file(n / IN_SEGMENT), position).unwrap();
            let machine = Machine::start(rotten, change).await;
            let bounds = machine.log().bounds();
            let what = format!("batch {n}, byte {byte}: {:?}", machine.report);
            assert_eq!(bounds.log_end, Offset(n * RECORDS), "{what}");
            let beyond = machine.log().committed_beyond();
            assert_eq!(beyond, Some(Offset(END)), "{what}");
            machine.stop().await;
        }
    }
}
